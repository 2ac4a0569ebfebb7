//! `tollgate check`: the files that operators edit, read as the filters and Envoy will read them.
//!
//! They are read ([`crate::files`]), and then held against each other ([`across`]), and against an Envoy ([`mod@ask`]).

mod across;
mod ask;
mod complaint;
mod envoy;
mod stand_in;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::files::document::{Document, groups};
use crate::files::envoy_files::EnvoyFiles;
use crate::files::finding::{Report, Severity};
use crate::files::source;
use envoy::Envoy;

use crate::out::{self, errln, outln, pluralized};

/// Read the files that operators edit, and say each mistake with its file, line and column.
#[derive(Args)]
pub(crate) struct Check {
    /// Files, or folders of them: bootstraps, listeners, clusters, filters, a directory document, or what stands in a
    /// filter's configuration.
    #[arg(default_value = "envoy", value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Fail on warnings as well.
    #[arg(long)]
    strict: bool,
    /// The Envoy that is asked about bootstraps; else ENVOY_BIN, target/tools/envoy, or that of PATH.
    #[arg(long, value_name = "BINARY", conflicts_with = "no_envoy")]
    envoy: Option<PathBuf>,
    /// Ask no Envoy.
    #[arg(long)]
    no_envoy: bool,
}

impl Check {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let mut report = Report::default();
        let sources = source::read(&self.paths, &mut report);
        let documents: Vec<Document<'_>> = sources
            .iter()
            .filter_map(|source| Document::read(source, &mut report))
            .collect();
        let envoy = if self.no_envoy {
            None
        } else {
            Envoy::find(self.envoy.as_deref())
        };
        let mut asked = 0;
        for group in groups(&documents) {
            check_group(&group, envoy.as_ref(), &mut report);
            asked += group.iter().filter(|document| document.is_bootstrap()).count();
        }
        out::write(format_args!("{}", out::sanitized_lines(&report.to_string())))?;
        if envoy.is_none() && !self.no_envoy && asked > 0 {
            errln!(
                "No Envoy was found to ask about bootstraps: name one with --envoy, or leave it out with --no-envoy."
            );
        }
        self.outcome(&report)
    }

    fn outcome(&self, report: &Report) -> Result<ExitCode> {
        let (errors, warnings) = (report.count(Severity::Error), report.count(Severity::Warning));
        let files = pluralized(report.files(), "file");
        if errors + warnings == 0 {
            outln!("{files}: nothing is wrong")?;
            return Ok(ExitCode::SUCCESS);
        }
        errln!(
            "{files}: {}, {}",
            pluralized(errors, "error"),
            pluralized(warnings, "warning")
        );
        Ok(if errors > 0 || self.strict {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    }
}

/// Checks the files of one Envoy.
fn check_group(group: &[&Document<'_>], envoy: Option<&Envoy>, report: &mut Report) {
    let files = EnvoyFiles::of(group, report);
    across::check(&files, report);
    if let Some(envoy) = envoy {
        ask::ask(envoy, group, &files, report);
    }
}

//! `tollgate explain`: what the gateway decides about a request, step by step, each with the rule and its place.
//!
//! The decisions are the filters' own: the request ([`request`]) goes through core's pipeline over a host in memory
//! ([`host`], [`simulator`]), by the configurations and the directory that the files name ([`gateway`], [`directory`]). What
//! core noted is told ([`explainer`]) in lines ([`lines`]). A past request is told from its records ([`past`]).

mod directory;
mod explainer;
mod gateway;
mod host;
mod lines;
mod past;
mod request;
mod simulator;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::{Value, json};

use crate::client::GlobalOptions;
use crate::files::finding::{Report, Severity};
use crate::out::{self, errln, outln};
use directory::Directory;
use gateway::Gateway;
use lines::Explanation;
use past::PastRequest;
use request::{Request, RequestOptions};

/// What the gateway decides about a request, and why: each step with its rule, file and line.
#[derive(Args)]
pub(crate) struct Explain {
    /// The files of one Envoy, as `tollgate check` takes them. Where they have the directory fetched, it is a document among
    /// them, or the control plane's.
    #[arg(default_value = "envoy", value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    options: RequestOptions,
    /// A request of the past, by its `x-request-id`: what its records say, and what the files say of such a request now.
    #[arg(long, value_name = "ID", requires = "records")]
    request_id: Option<String>,
    /// Files of usage records, and of access logs, where the past request is looked for.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    records: Vec<PathBuf>,
    /// Explain each line of a file: JSON with the names of the options, `body` the body itself. Answers JSON, a line each.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["request_id", "key", "model"])]
    requests: Option<PathBuf>,
}

impl Explain {
    pub(crate) fn run(self, global: GlobalOptions) -> Result<ExitCode> {
        let past = match &self.request_id {
            Some(id) => Some(PastRequest::find(id, &self.records)?),
            None => None,
        };
        let json = global.json || self.requests.is_some();
        if let Some(past) = past.as_ref().filter(|_| !json) {
            out::write(format_args!("{past}"))?;
        }
        let requests = match (&self.requests, &past) {
            (Some(file), _) => batch(file)?,
            (None, Some(past)) => past.to_request(&self.options)?.into_iter().collect(),
            (None, None) => vec![self.options.request()?],
        };
        let mut report = Report::default();
        let told = match requests.is_empty() {
            true => Vec::new(),
            false => explain(&self.paths, global, &requests, &mut report)?,
        };
        match (self.requests.is_some(), &past) {
            (true, _) => told.iter().try_for_each(|told| outln!("{}", told.json()))?,
            (false, Some(past)) if json => {
                let now = told.first().map_or(Value::Null, Explanation::json);
                outln!(
                    "{:#}",
                    json!({"record": past.record(), "access": past.access(), "now": now})
                )?;
            }
            (false, _) if json => told.iter().try_for_each(|told| outln!("{:#}", told.json()))?,
            (false, past) => {
                if past.is_some() && !told.is_empty() {
                    outln!("\nSuch a request now:")?;
                }
                told.iter()
                    .try_for_each(|told| out::write(format_args!("{told}")))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A request for each line of a file.
fn batch(file: &PathBuf) -> Result<Vec<Request>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(at, line)| {
            serde_json::from_str(line)
                .with_context(|| format!("{}:{}: is no request", file.display(), at + 1))
        })
        .collect()
}

fn explain(
    paths: &[PathBuf],
    global: GlobalOptions,
    requests: &[Request],
    report: &mut Report,
) -> Result<Vec<Explanation>> {
    let gateway = Gateway::read(paths, report)?;
    // Of a file with a mistake Envoy goes on with the last good one, which nobody knows here.
    if report.count(Severity::Error) > 0 {
        errln!("{report}");
        bail!("what a gateway with these files goes by can't be told until they are without mistakes");
    }
    let gateway = gateway.context(
        "there is no whole gateway in these files: key-auth, tenant-router and rate-limit, or the three as one",
    )?;
    let keys: BTreeSet<&str> = requests.iter().map(|request| request.key.as_str()).collect();
    let directory = Directory::load(&gateway, global, &keys)?;
    let simulator = simulator::Simulator::new(&gateway, &directory)?;
    requests
        .iter()
        .map(|request| {
            let simulation = simulator.run(request)?;
            Ok(explainer::explain(
                request,
                &simulation,
                (&gateway, &directory, report),
            ))
        })
        .collect()
}

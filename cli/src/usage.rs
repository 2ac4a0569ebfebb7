//! `tollgate usage`: records that a killed gateway left.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Subcommand};

use crate::out::{outln, pluralized};

/// What to do with records.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Bring to the usage log what gateways left that were killed; the next one does it by itself when it starts.
    Recover(Recover),
}

/// Where they are: as in the configuration of the logger `usage`.
#[derive(Args)]
pub(crate) struct Recover {
    /// The folder of journals. Those of gateways that run are left alone.
    #[arg(long, value_name = "FOLDER")]
    journal: PathBuf,
    /// The usage log; begun where there is none.
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
}

impl Command {
    pub(crate) fn run(self) -> Result<()> {
        let Self::Recover(Recover { journal, file }) = self;
        ensure!(
            journal.is_dir(),
            "{} is not a directory; it is `journal` in the logger's configuration",
            journal.display()
        );
        let recovered = tollgate_journal::recover(&journal, &file).context("what was left is there still")?;
        outln!(
            "{} written to {}, {} of them of requests that were under way; {} of killed gateways, {} of gateways that run",
            pluralized(recovered.finished + recovered.crashed, "record"),
            file.display(),
            recovered.crashed,
            pluralized(recovered.journals, "journal"),
            recovered.alive
        )?;
        if recovered.unsure > 0 {
            outln!(
                "{} may be in a log already that was moved away since: look for their ids there",
                pluralized(recovered.unsure, "record")
            )?;
        }
        if recovered.unreadable > 0 {
            outln!(
                "{} could not be read; the journal is kept as *.journal.bad",
                pluralized(recovered.unreadable, "record")
            )?;
        }
        Ok(())
    }
}

//! `tollgate`: the operators' tool, on the same core as the filters, and the control plane.

#![deny(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "they panic where nothing can be written: see `out`"
)]

mod audit;
mod budget;
mod change;
mod check;
mod client;
mod directory;
mod explain;
mod files;
mod freeze;
mod gateway;
mod import;
mod key;
mod limit;
mod money;
mod org;
mod out;
mod private;
mod project;
mod report;
mod scan;
mod schema;
mod serve;
mod show;
mod token;
mod usage;

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{CommandFactory as _, Parser, Subcommand};

use client::{Client, GlobalOptions};
use out::{StdoutError, errln};

/// Tools for operators of a Tollgate gateway.
#[derive(Parser)]
#[command(name = "tollgate", version, propagate_version = true)]
struct Arguments {
    #[command(flatten)]
    options: GlobalOptions,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the control plane: the API, and the directory for gateways.
    Serve(serve::Serve),
    /// Make the database and print the first token, without serving.
    Init,
    /// Put a backup in the place of the database, while the server is stopped.
    Restore(serve::Restore),
    #[command(flatten)]
    Managed(Box<Managed>),
    /// Find our keys in files, by their form and checksum.
    Scan(scan::Scan),
    /// The files that operators edit: all that is wrong with them, with line and column.
    Check(check::Check),
    /// What the gateway decides about a request, and by which rule of which file.
    Explain(Box<explain::Explain>),
    /// The directory document: check it, export the control plane's, or turn a file into what an HTTP server serves.
    #[command(subcommand)]
    Directory(directory::Command),
    /// JSON Schemas of what operators write, for editors.
    Schema(schema::Schema),
    /// Usage records: those that a killed gateway left.
    #[command(subcommand)]
    Usage(usage::Command),
    /// Print the description of the API, OpenAPI 3.1.
    Openapi,
    /// Print completions for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Write the manual's pages into a folder.
    Man {
        /// The folder.
        folder: std::path::PathBuf,
    },
}

/// What a server does, or this process with the database that one would have.
#[derive(Subcommand)]
enum Managed {
    /// Organizations.
    #[command(subcommand)]
    Org(org::Command),
    /// Projects, as `ORG/PROJECT`.
    #[command(subcommand)]
    Project(project::Command),
    /// API keys.
    #[command(subcommand)]
    Key(key::Command),
    /// Budgets: how much may be spent, and what was.
    #[command(subcommand)]
    Budget(budget::Command),
    /// Block a key, project or organization immediately.
    Freeze(freeze::Freeze),
    /// End a freeze.
    Unfreeze(freeze::Unfreeze),
    /// Limit the requests of a key or organization at once.
    Cap(freeze::Cap),
    /// End a cap.
    Uncap(freeze::Uncap),
    /// Send no new request to a target.
    Drain(freeze::Drain),
    /// Send requests to a target again.
    Undrain(freeze::Undrain),
    /// Keep a tier off models.
    Shed(freeze::Shed),
    /// Let a tier use models again.
    Unshed(freeze::Unshed),
    /// What is frozen, capped, drained or shed, and until when.
    Status,
    /// Tokens for the API.
    #[command(subcommand)]
    Token(token::Command),
    /// Gateways that follow a server.
    #[command(subcommand)]
    Gateway(gateway::Command),
    /// The trail: who changed what, when and why.
    #[command(subcommand)]
    Audit(audit::Command),
    /// Take over a directory document: its organizations, projects and keys.
    Import(import::Import),
}

fn main() -> ExitCode {
    // Both ends of TLS use it; the second time there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let Arguments { options, command } = Arguments::parse();
    match run(options, command) {
        Ok(code) => code,
        Err(error) => {
            let unwritten = error.downcast_ref::<StdoutError>();
            if !unwritten.is_some_and(StdoutError::is_broken_pipe) {
                // A key or token may have been given in the place of a file or a name.
                let told = tollgate_control::secret::masked(&format!("{error:#}"));
                errln!("tollgate: {}", out::sanitized_lines(&told));
            }
            // 1 is what `scan`, `check` and `audit verify` found.
            ExitCode::from(2)
        }
    }
}

fn run(options: GlobalOptions, command: Command) -> Result<ExitCode> {
    match command {
        Command::Serve(serve) => block_on(serve.run(&options))?,
        Command::Init => block_on(serve::init(&options))?,
        Command::Restore(restore) => block_on(restore.run(&options))?,
        Command::Managed(command) => match *command {
            // These two need no control plane.
            Managed::Key(key::Command::Mint(row)) => key::mint(&row)?,
            Managed::Key(key::Command::Row { id, row }) => key::print_row(&id, &row)?,
            command => return block_on(manage(options, command)),
        },
        Command::Scan(scan) => return scan.run(),
        Command::Check(command) => return command.run(),
        Command::Explain(command) => return command.run(options),
        Command::Schema(command) => command.run()?,
        Command::Directory(command) => command.run(options)?,
        Command::Usage(command) => command.run()?,
        Command::Openapi => out::write(format_args!("{}", tollgate_control::api::openapi()))?,
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "tollgate", &mut text);
            out::write(format_args!("{}", String::from_utf8_lossy(&text)))?;
        }
        Command::Man { folder } => {
            std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
            clap_mangen::generate_to(Arguments::command(), &folder).context("cannot write the pages")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Runtime::new()?.block_on(work)
}

async fn manage(options: GlobalOptions, command: Managed) -> Result<ExitCode> {
    let client = Client::open(options).await?;
    match command {
        Managed::Org(command) => command.run(&client).await?,
        Managed::Project(command) => command.run(&client).await?,
        Managed::Key(command) => command.run(&client).await?,
        Managed::Budget(command) => command.run(&client).await?,
        Managed::Freeze(freeze) => freeze.run(&client).await?,
        Managed::Unfreeze(unfreeze) => unfreeze.run(&client).await?,
        Managed::Cap(cap) => cap.run(&client).await?,
        Managed::Uncap(uncap) => uncap.run(&client).await?,
        Managed::Drain(drain) => drain.run(&client).await?,
        Managed::Undrain(undrain) => undrain.run(&client).await?,
        Managed::Shed(shed) => shed.run(&client).await?,
        Managed::Unshed(unshed) => unshed.run(&client).await?,
        Managed::Status => freeze::status(&client).await?,
        Managed::Token(command) => command.run(&client).await?,
        Managed::Gateway(command) => command.run(&client).await?,
        Managed::Import(import) => import.run(&client).await?,
        Managed::Audit(command) => return command.run(&client).await,
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_one_that_clap_takes() {
        Arguments::command().debug_assert();
    }
}

//! `tollgate`: the operators' tool, on the same core as the filters, and the control plane.

mod audit;
mod change;
mod check;
mod client;
mod directory;
mod explain;
mod files;
mod freeze;
mod import;
mod key;
mod limit;
mod org;
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

use client::{Client, Place};

/// Tools for operators of a Tollgate gateway.
#[derive(Parser)]
#[command(name = "tollgate", version, propagate_version = true)]
struct Arguments {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the control plane: the API, and the directory for gateways.
    Serve(serve::Serve),
    /// Make the database and print the first token, without serving.
    Init,
    /// Organizations.
    #[command(subcommand)]
    Org(org::Command),
    /// Projects, as `ORG/PROJECT`.
    #[command(subcommand)]
    Project(project::Command),
    /// API keys.
    #[command(subcommand)]
    Key(key::Command),
    /// Block a key, project or organization immediately.
    Freeze(freeze::Freeze),
    /// End a freeze.
    Unfreeze(freeze::Unfreeze),
    /// Limit the requests of a key or organization at once.
    Cap(freeze::Cap),
    /// End a cap.
    Uncap(freeze::Uncap),
    /// What is frozen or capped, and until when.
    Status,
    /// Tokens for the API.
    #[command(subcommand)]
    Token(token::Command),
    /// The trail: who changed what, when and why.
    #[command(subcommand)]
    Audit(audit::Command),
    /// Take over a directory document: its organizations, projects and keys.
    Import(import::Import),
    /// Find our keys in files, by their form and checksum.
    Scan(scan::Scan),
    /// The files that operators edit: all that is wrong with them, with line and column.
    Check(check::Check),
    /// What the gateway decides about a request, and by which rule of which file.
    Explain(Box<explain::Explain>),
    /// The directory document: check it, or turn it into what an HTTP server serves.
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

fn main() -> ExitCode {
    // Both ends of TLS use it; the second time there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let Arguments { place, command } = Arguments::parse();
    match run(place, command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tollgate: {error:#}");
            // 1 is what `scan`, `check` and `audit verify` found.
            ExitCode::from(2)
        }
    }
}

fn run(place: Place, command: Command) -> Result<ExitCode> {
    match command {
        Command::Scan(scan) => return scan.run(),
        Command::Check(command) => return Ok(command.run()),
        Command::Explain(command) => return command.run(place),
        Command::Schema(command) => command.run()?,
        Command::Directory(command) => command.run()?,
        Command::Usage(command) => command.run()?,
        Command::Openapi => print!("{}", tollgate_control::api::openapi()),
        Command::Completions { shell } => {
            clap_complete::generate(
                shell,
                &mut Arguments::command(),
                "tollgate",
                &mut std::io::stdout(),
            );
        }
        Command::Man { folder } => {
            std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
            clap_mangen::generate_to(Arguments::command(), &folder).context("cannot write the pages")?;
        }
        Command::Key(key::Command::Mint(row)) => key::mint(&row)?,
        Command::Key(key::Command::Row { id, row }) => key::hashed(&id, &row)?,
        command => return tokio::runtime::Runtime::new()?.block_on(work(place, command)),
    }
    Ok(ExitCode::SUCCESS)
}

/// What needs a server, or the database that one would have.
async fn work(place: Place, command: Command) -> Result<ExitCode> {
    match command {
        Command::Serve(serve) => {
            serve.run(&place).await?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Init => {
            serve::init(&place).await?;
            return Ok(ExitCode::SUCCESS);
        }
        _ => {}
    }
    let client = Client::open(place).await?;
    match command {
        Command::Org(command) => command.run(&client).await?,
        Command::Project(command) => command.run(&client).await?,
        Command::Key(command) => command.run(&client).await?,
        Command::Freeze(freeze) => freeze.run(&client).await?,
        Command::Unfreeze(unfreeze) => unfreeze.run(&client).await?,
        Command::Cap(cap) => cap.run(&client).await?,
        Command::Uncap(uncap) => uncap.run(&client).await?,
        Command::Status => freeze::status(&client).await?,
        Command::Token(command) => command.run(&client).await?,
        Command::Import(import) => import.run(&client).await?,
        Command::Audit(command) => return command.run(&client).await,
        _ => {}
    }
    Ok(ExitCode::SUCCESS)
}

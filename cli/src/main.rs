//! `tollgate`: the operators' tool, on the same core as the filters.

mod check;
mod directory;
mod key;
mod schema;
mod usage;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Tools for operators of a Tollgate gateway.
#[derive(Parser)]
#[command(version, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// API keys: make new ones, take over existing ones.
    #[command(subcommand)]
    Key(key::Command),
    /// The files that operators edit: all that is wrong with them, with line and column.
    Check(check::Check),
    /// The directory document: check it, or turn it into what an HTTP server serves.
    #[command(subcommand)]
    Directory(directory::Command),
    /// JSON Schemas of what operators write, for editors.
    Schema(schema::Schema),
    /// Usage records: those that a killed gateway left.
    #[command(subcommand)]
    Usage(usage::Command),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Key(command) => command.run(),
        Command::Check(command) => return command.run(),
        Command::Directory(command) => command.run(),
        Command::Schema(command) => command.run(),
        Command::Usage(command) => command.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tollgate: {error:#}");
            ExitCode::FAILURE
        }
    }
}

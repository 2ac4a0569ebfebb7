//! `stack run`, `stack demo` and `stack demo-fleet`: gateways with model servers behind them, for people. See `make run`,
//! `make demo`, `make demo-fleet`.

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use tokio::signal::unix::{SignalKind, signal};
use tollgate_stack::{self as stack, Ports};

const USAGE: &str = "\
usage: stack run  [--gateway-port PORT] [--admin-port PORT] [--control-port PORT]
       stack demo
       stack demo-fleet [--short]

run   model servers, control plane and Envoy in the foreground, with a fresh key and a curl line to paste
demo  a scripted tour through them; exits non-zero if an exchange was not as promised
demo-fleet
      one limit for two Envoys, of which one is killed; exits non-zero if the limit was passed. Some minute long, --short
      half of that

The ports can be set by GATEWAY_PORT, ADMIN_PORT and CONTROL_PORT as well; `run` takes 10000, 9901 and 7700 without, 0 is
a free one.
";

/// What the command line says.
#[derive(Debug, PartialEq, Eq)]
enum Command {
    Run(Ports),
    Demo,
    DemoFleet { short: bool },
    Help,
}

#[tokio::main]
async fn main() -> ExitCode {
    let variable = |name: &str| std::env::var(name).ok();
    let command = match parse(std::env::args().skip(1), variable) {
        Ok(command) => command,
        Err(error) => {
            eprintln!("error: {error:#}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    // Stopping is how `run` ends; a tour that was stopped has shown nothing.
    let stopped_is_done = matches!(command, Command::Run(_));
    let work = async {
        match command {
            Command::Run(ports) => stack::run(ports).await,
            Command::Demo => stack::demo(Ports::default()).await,
            Command::DemoFleet { short } => stack::demo_fleet(short).await,
            Command::Help => {
                print!("{USAGE}");
                Ok(())
            }
        }
    };
    // Told to stop, `work` is dropped with all that it started.
    tokio::select! {
        done = work => match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error:#}");
                ExitCode::FAILURE
            }
        },
        stopped = told_to_stop() => match stopped {
            Ok(number) => {
                println!("\nStopped.");
                // 128 and the signal's number: as a shell says it of a program that died of the signal.
                if stopped_is_done { ExitCode::SUCCESS } else { ExitCode::from(128 + number) }
            }
            Err(error) => {
                eprintln!("error: signals can't be listened for: {error}");
                ExitCode::FAILURE
            }
        },
    }
}

/// The signal by which a person, a supervisor or a closed terminal asks us to stop.
async fn told_to_stop() -> std::io::Result<u8> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::select! {
        _ = interrupt.recv() => Ok(2),
        _ = terminate.recv() => Ok(15),
        _ = hangup.recv() => Ok(1),
    }
}

fn parse(
    mut arguments: impl Iterator<Item = String>,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Command> {
    let port = |name: &str, otherwise: u16| match variable(name).filter(|text| !text.is_empty()) {
        Some(text) => number(name, &text),
        None => Ok(otherwise),
    };
    let name = arguments.next();
    let is_fleet = name.as_deref() == Some("demo-fleet");
    let mut short = false;
    let mut ports = Ports {
        gateway: port("GATEWAY_PORT", 10000)?,
        admin: port("ADMIN_PORT", 9901)?,
        control: port("CONTROL_PORT", 7700)?,
    };
    while let Some(flag) = arguments.next() {
        let place = match flag.as_str() {
            "--gateway-port" => &mut ports.gateway,
            "--admin-port" => &mut ports.admin,
            "--control-port" => &mut ports.control,
            "--short" if is_fleet => {
                short = true;
                continue;
            }
            "--help" | "-h" => return Ok(Command::Help),
            other => bail!("`{other}` is no option of this command"),
        };
        *place = number(
            &flag,
            &arguments.next().with_context(|| format!("{flag} needs a port"))?,
        )?;
    }
    match name.as_deref() {
        Some("run") => Ok(Command::Run(ports)),
        Some("demo") => Ok(Command::Demo),
        Some("demo-fleet") => Ok(Command::DemoFleet { short }),
        Some("help" | "--help" | "-h") => Ok(Command::Help),
        Some(other) => bail!("there is no command `{other}`"),
        None => bail!("what is to be done: run, demo, or demo-fleet?"),
    }
}

fn number(what: &str, text: &str) -> Result<u16> {
    text.parse()
        .with_context(|| format!("{what} is to be a port from 0 to 65535, not `{text}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str, variables: &[(&str, &str)]) -> Result<Command, String> {
        let variable = |name: &str| {
            variables
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        };
        parse(line.split_whitespace().map(str::to_owned), variable).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn ports_come_from_flags_then_variables_then_the_files() {
        let run = |gateway, admin, control| {
            let ports = Ports {
                gateway,
                admin,
                control,
            };
            Ok(Command::Run(ports))
        };
        let variables = [("GATEWAY_PORT", "1"), ("ADMIN_PORT", "2"), ("CONTROL_PORT", "4")];
        assert_eq!(parsed("run", &[]), run(10000, 9901, 7700));
        assert_eq!(parsed("run", &variables), run(1, 2, 4));
        assert_eq!(parsed("run --admin-port 3", &variables), run(1, 3, 4));
        assert_eq!(parsed("run --control-port 0", &variables), run(1, 2, 0));
        assert_eq!(parsed("run", &[("GATEWAY_PORT", "")]), run(10000, 9901, 7700));
        assert_eq!(parsed("demo", &variables), Ok(Command::Demo));
        let fleet = |short| Ok(Command::DemoFleet { short });
        assert_eq!(parsed("demo-fleet", &[]), fleet(false));
        assert_eq!(parsed("demo-fleet --short", &[]), fleet(true));
        assert_eq!(parsed("run --help", &[]), Ok(Command::Help));
    }

    #[test]
    fn mistakes_are_said() {
        let said = |line, variables| parsed(line, variables).unwrap_err();
        assert_eq!(said("", &[]), "what is to be done: run, demo, or demo-fleet?");
        assert_eq!(said("walk", &[]), "there is no command `walk`");
        assert_eq!(said("run --port 1", &[]), "`--port` is no option of this command");
        assert_eq!(
            said("demo --short", &[]),
            "`--short` is no option of this command"
        );
        assert_eq!(said("run --admin-port", &[]), "--admin-port needs a port");
        let wrong = said("run", &[("ADMIN_PORT", "99999")]);
        assert!(
            wrong.starts_with("ADMIN_PORT is to be a port from 0 to 65535, not `99999`"),
            "{wrong}"
        );
    }
}

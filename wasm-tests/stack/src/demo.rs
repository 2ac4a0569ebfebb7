//! `make demo`: the stack on free ports, and a scripted tour through it; then the acts that need more than it.
//! `make demo-fleet`: an act on several Envoys, by itself.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use tokio::process::Command;
use tollgate_harness::Cast;
use tollgate_harness::config::repository;
use tollgate_harness::tools::python;

use super::{Ports, Stack, acts};

/// Runs the tour; `Ok` where every exchange was as promised.
///
/// # Errors
/// The stack can't start, or an exchange was not as promised; in a sentence for people.
pub async fn demo(ports: Ports) -> Result<()> {
    let python = python()?;
    println!("Starting model servers and Envoy with the repository's own envoy/ ...");
    let cast = Cast::all();
    let stack = Stack::start(ports, &cast).await?;
    let status = tour(&python, &stack, &cast)
        .status()
        .await
        .context("the tour can't be started")?;
    drop(stack);
    if !status.success() {
        bail!("the tour ended with {status}: an exchange was not as promised, see above");
    }
    acts::play().await?;
    println!(
        "Stopped all that was started. `make run` keeps it running, with a key and a curl line to paste."
    );
    Ok(())
}

/// Shows one limit of two Envoys; `Ok` where it was not passed, and all else was as promised. `short` takes half the time.
///
/// # Errors
/// Something can't be started, or was not as promised; in a sentence for people.
pub async fn demo_fleet(short: bool) -> Result<()> {
    let window = Duration::from_secs(if short { 3 } else { 6 });
    acts::play_fleet(window).await?;
    println!("Stopped all that was started. docs/fleet.md says more.");
    Ok(())
}

fn tour(python: &PathBuf, stack: &Stack, cast: &Cast) -> Command {
    let key_auth = stack.gateway.directory().join("envoy/filters/key-auth.yaml");
    let facts = json!({
        "gateway": stack.gateway.url(),
        "models": stack.llama.url(),
        "key_auth": key_auth,
        "keys": cast.json(),
    });
    let mut command = Command::new(python);
    // In the environment, where only this user's processes can look; on a command line everybody's could.
    command
        .arg(repository().join("examples/quickstart/tour.py"))
        .env("TOLLGATE_TOUR", facts.to_string());
    command.env("PYTHONDONTWRITEBYTECODE", "1").kill_on_drop(true);
    command
}

//! Before a row is measured: that it does what its title says. One that lets everything pass would look fast.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::ask::chat;
use crate::envoy::Envoy;
use crate::load::ask;
use crate::model::{EVENTS, LARGE, Pace, SMALL};
use crate::rows::{Routing, Row};

/// How long a directory may be on its way.
const PATIENCE: Duration = Duration::from_secs(180);

/// Waits until the row answers, then checks it. Returns how long it took to answer.
///
/// # Errors
/// What it does not do.
pub(crate) fn row(row: &Row, envoy: &Envoy, key: &str) -> Result<Duration> {
    let took = until_answered(envoy, key)?;
    if row.routing != Routing::One {
        served_by(envoy, key, LARGE)?;
        served_by(envoy, key, SMALL)?;
    }
    if row.authenticates {
        let (status, answer) = ask(envoy.listener(), None, None, &chat(LARGE, 700, false))?;
        ensure!(status == 401, "a request without a key was not refused: {answer}");
    }
    let (_, answer) = ask(
        envoy.listener(),
        Some(key),
        Some(Pace::Coalesced),
        &chat(LARGE, 700, true),
    )?;
    let events = answer.matches("data: ").count();
    ensure!(events == EVENTS, "of {EVENTS} events {events} came through");
    for counter in row.counters {
        let count = envoy.counter(counter)?;
        ensure!(count > 0, "the counter {counter} has counted nothing");
    }
    Ok(took)
}

/// Asks until an answer is 200.
fn until_answered(envoy: &Envoy, key: &str) -> Result<Duration> {
    let began = Instant::now();
    loop {
        let (status, answer) = ask(envoy.listener(), Some(key), None, &chat(LARGE, 700, false))?;
        if status == 200 {
            return Ok(began.elapsed());
        }
        ensure!(began.elapsed() < PATIENCE, "no answer was 200: {answer}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn served_by(envoy: &Envoy, key: &str, model: &str) -> Result<()> {
    let (status, answer) = ask(envoy.listener(), Some(key), None, &chat(model, 700, false))
        .with_context(|| format!("asking for {model}"))?;
    ensure!(
        status == 200 && answer.contains(&format!("\"model\":\"{model}\"")),
        "what asked for {model} was answered by another: {answer}"
    );
    Ok(())
}

//! `tollgate audit`: the trail.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use axum::http::Method;
use clap::Subcommand;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::client::{Client, encoded};
use crate::out::outln;
use crate::report::span;
use crate::show;

/// What to do with the trail.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Show it, the newest entries last.
    Show {
        /// Of this organization only.
        #[arg(long)]
        org: Option<String>,
        /// Entries after this number.
        #[arg(long, default_value_t = 0)]
        after: u32,
        /// Entries of this last time only, such as `12h`.
        #[arg(long, value_parser = span)]
        since: Option<SignedDuration>,
        /// The newest ones only, so many.
        #[arg(long)]
        limit: Option<usize>,
    },
    /// Verify all of it; exits with 1 if anything was changed, dropped, moved or cut.
    Verify {
        /// Files with checkpoints that were kept elsewhere.
        checkpoints: Vec<PathBuf>,
        /// Who signed them: an Ed25519 key in base64, kept elsewhere too.
        #[arg(long)]
        public_key: Option<String>,
    },
    /// Sign the current end of the trail; store the output elsewhere.
    Checkpoint,
    /// Print all of it, a line of JSON for each entry, with its hash.
    Export,
}

impl Command {
    pub(crate) async fn run(self, client: &Client) -> Result<ExitCode> {
        match self {
            Self::Show {
                org,
                after,
                since,
                limit,
            } => {
                let org = org
                    .map(|org| format!("&org={}", encoded(&org)))
                    .unwrap_or_default();
                let since = since.map(|since| Timestamp::now().as_millisecond() - since.as_millis() as i64);
                let print = |entry: &Value| {
                    if client.wants_json() {
                        Ok(outln!("{}", show::json_line(entry))?)
                    } else {
                        print_entry(entry)
                    }
                };
                // The trail is read from its beginning: its end comes last.
                let mut newest = VecDeque::new();
                entries(client, &org, after, |entry| {
                    let time = entry.get("time").and_then(Value::as_i64).unwrap_or_default();
                    if since.is_some_and(|since| time < since) {
                        return Ok(());
                    }
                    let Some(limit) = limit else {
                        return print(entry);
                    };
                    newest.push_back(entry.clone());
                    if newest.len() > limit {
                        newest.pop_front();
                    }
                    Ok(())
                })
                .await?;
                newest.iter().try_for_each(print)?;
            }
            Self::Export => {
                entries(client, "", 0, |entry| Ok(outln!("{}", show::json_line(entry))?)).await?;
            }
            Self::Checkpoint => {
                let answer = client.send(Method::POST, "/v1/audit/checkpoint", None).await?;
                outln!("{}", show::json_line(&answer.body))?;
            }
            Self::Verify {
                checkpoints,
                public_key,
            } => return verify(client, &checkpoints, public_key).await,
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn entries(
    client: &Client,
    org: &str,
    after: u32,
    mut each: impl FnMut(&Value) -> Result<()>,
) -> Result<()> {
    let mut after = i64::from(after);
    loop {
        let page = client
            .get(&format!("/v1/audit?limit=1000&after={after}{org}"))
            .await?;
        let items = page
            .get("items")
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default();
        items.iter().try_for_each(&mut each)?;
        match items.last().and_then(|last| last.get("seq")?.as_i64()) {
            Some(last) => {
                ensure!(
                    last > after,
                    "the server's trail has no end: entry {last} comes after {after}"
                );
                after = last;
            }
            None => return Ok(()),
        }
    }
}

/// Prints an entry for people.
fn print_entry(entry: &Value) -> Result<()> {
    let word = |name: &str| show::member(entry, name);
    let reason = entry
        .get("reason")
        .map(|reason| format!(": {}", show::text(reason)))
        .unwrap_or_default();
    let at = entry.get("time").and_then(Value::as_i64).unwrap_or_default();
    let at = jiff::Timestamp::from_millisecond(at)
        .map(|at| at.to_string())
        .unwrap_or_default();
    let from = match word("address") {
        address if address.is_empty() => String::new(),
        address => format!(" from {address}"),
    };
    outln!(
        "{} {at} {}{from} {}{reason}",
        word("seq"),
        word("actor"),
        word("action")
    )?;
    let changes = entry
        .get("changes")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    for change in changes.iter().take(5) {
        outln!(
            "  {} {}",
            show::member(change, "kind"),
            show::member(change, "id")
        )?;
        if change.get("before").is_some_and(|before| !before.is_null()) {
            show::differences(change.get("before"), change.get("after"))?;
        }
    }
    if changes.len() > 5 {
        outln!("  and {} more", changes.len() - 5)?;
    }
    Ok(())
}

async fn verify(client: &Client, checkpoints: &[PathBuf], public_key: Option<String>) -> Result<ExitCode> {
    let read = |file: &PathBuf| -> Result<Value> {
        let text =
            std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        serde_json::from_str(&text).with_context(|| {
            format!(
                "{} is not a checkpoint: expected the output of `tollgate audit checkpoint`",
                file.display()
            )
        })
    };
    let kept: Vec<Value> = checkpoints.iter().map(read).collect::<Result<_>>()?;
    let body = json!({"checkpoints": kept, "public_key": public_key});
    let verdict = client
        .send(Method::POST, "/v1/audit/verify", Some(body))
        .await?
        .body;
    let faults = verdict
        .get("faults")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    if client.wants_json() {
        outln!("{}", show::json(&verdict))?;
    } else if faults.is_empty() {
        outln!("{} entries verified.", show::member(&verdict, "entries"))?;
    } else {
        for fault in faults {
            outln!(
                "entry {}: {}",
                show::member(fault, "seq"),
                show::member(fault, "problem")
            )?;
        }
    }
    Ok(if faults.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

//! The act on keys: `tollgate`, as an operator types it, against a control plane that a gateway follows.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::bill::Bill;
use crate::control::Control;
use tollgate_harness::envoy::Gateway;
use tollgate_harness::{Options, net};
use tollgate_models::ModelServer;

/// What takes longer is a broken promise.
const PATIENCE: Duration = Duration::from_secs(10);
const WHY: &str = "seen in a public repository";

/// Shows it on `bill`.
///
/// # Errors
/// The gateway or the control plane can't start, or a command fails.
pub(super) async fn act(bill: &mut Bill) -> Result<()> {
    println!("\nStarting a control plane on SQLite, and Envoy with the keys that it has ...");
    let stage = Stage::start().await?;
    bill.heading("Keys: made, rotated, frozen and revoked by one command each, and who did what");
    let (id, old) = stage.made(bill).await?;
    let new = stage.rotated(bill, &id, &old).await?;
    stage.frozen(bill, &id, &old, &new).await?;
    stage.revoked(bill, &id, &old, &new).await?;
    stage.trail(bill).await
}

struct Stage {
    control: Control,
    gateway: Gateway,
    _model: ModelServer,
}

impl Stage {
    async fn start() -> Result<Self> {
        let control = Control::start(0)?;
        control.tenants().await?;
        let model = ModelServer::builder().name("llama").start().await?;
        let options = control.followed_by(Options::new().llama(model.addr())).await?;
        Ok(Self {
            gateway: Gateway::try_start(options).await?,
            control,
            _model: model,
        })
    }

    async fn made(&self, bill: &mut Bill) -> Result<(String, String)> {
        let create = [
            "key",
            "create",
            "--org",
            "acme",
            "--project",
            "search",
            "--name",
            "demo",
        ];
        let key = self.control.tollgate(&create).await?;
        let (came, took) = self.until(&key, "200").await;
        let details = [said(&create), after(took)];
        bill.show("A key, made and used", "200", &came, &details);
        let id = key.split('-').nth(2).context("a key has an id in it")?.to_owned();
        Ok((id, key))
    }

    async fn rotated(&self, bill: &mut Bill, id: &str, old: &str) -> Result<String> {
        let rotate = ["key", "rotate", id, "--overlap", "24h"];
        let new = self.control.tollgate(&rotate).await?;
        let (with_new, took) = self.until(&new, "200").await;
        let with_old = self.ask(old).await;
        let came = format!("{with_old} with the old, {with_new} with the new");
        let details = [said(&rotate), after(took)];
        bill.show(
            "The same, rotated: both are good for a day",
            "200 with the old, 200 with the new",
            &came,
            &details,
        );
        Ok(new)
    }

    async fn frozen(&self, bill: &mut Bill, id: &str, old: &str, new: &str) -> Result<()> {
        let freeze = ["freeze", "key", id, "--for", "2s", "--reason", WHY];
        self.control.tollgate(&freeze).await?;
        let (refused, took) = self.until(old, "403 key_suspended").await;
        let other = self.ask(new).await;
        let (then, whole) = self.until(old, "200").await;
        let details = [
            said(&freeze),
            format!("{}, and good again {} ms later", after(took), whole.as_millis()),
        ];
        bill.show(
            "The old one is frozen for two seconds",
            "403 key_suspended, its successor 200, then 200",
            &format!("{refused}, its successor {other}, then {then}"),
            &details,
        );
        Ok(())
    }

    async fn revoked(&self, bill: &mut Bill, id: &str, old: &str, new: &str) -> Result<()> {
        let revoke = ["key", "revoke", id, "--reason", WHY];
        self.control.tollgate(&revoke).await?;
        let (refused, took) = self.until(old, "401 invalid_api_key").await;
        let other = self.ask(new).await;
        bill.show(
            "The old one is revoked",
            "401 invalid_api_key, its successor 200",
            &format!("{refused}, its successor {other}"),
            &[said(&revoke), after(took)],
        );
        Ok(())
    }

    async fn trail(&self, bill: &mut Bill) -> Result<()> {
        let shown = self.control.tollgate(&["audit", "show"]).await?;
        let entries: Vec<_> = shown.lines().filter(|line| !line.starts_with(' ')).collect();
        let last = entries[entries.len().saturating_sub(5)..].iter();
        let details: Vec<_> = last.map(|line| (*line).to_owned()).collect();
        let why = entries.iter().filter(|line| line.ends_with(WHY)).count();
        bill.show(
            "tollgate audit show: who did what, and why",
            "2 entries with that reason",
            &format!("{why} entries with that reason"),
            &details,
        );

        let verified = self.control.tollgate(&["audit", "verify"]).await?;
        let promised = format!("{} entries verified.", entries.len());
        bill.show("tollgate audit verify", &promised, &verified, &[]);

        let sql = "UPDATE audit SET entry = replace(entry, 'public', 'closed')";
        let found = self.control.on_an_edited_copy(sql, &["audit", "verify"]).await;
        let (came, mut details) = match found {
            Ok(said) => (format!("nothing: {said}"), vec![]),
            Err(error) => (
                "found".to_owned(),
                format!("{error:#}").lines().map(str::to_owned).collect(),
            ),
        };
        details.insert(0, sql.to_owned());
        bill.show(
            "The same of a copy that somebody has edited",
            "found",
            &came,
            &details,
        );
        Ok(())
    }

    /// Asks with a key until this is answered, or patience ends; what was answered at last, and after how long.
    async fn until(&self, key: &str, wanted: &str) -> (String, Duration) {
        let began = Instant::now();
        let mut came = String::new();
        net::within(PATIENCE, async || {
            came = self.ask(key).await;
            (came == wanted).then_some(())
        })
        .await;
        (came, began.elapsed())
    }

    /// One chat: its status, and the code of an error.
    async fn ask(&self, key: &str) -> String {
        let body = json!({"model": "llama-70b", "messages": [{"role": "user", "content": "Say hello"}]});
        let request = self.gateway.client().post("/v1/chat/completions");
        match request.key(&key.to_owned()).json(body).try_send().await {
            Ok(reply) if reply.status == 200 => "200".to_owned(),
            Ok(reply) => {
                let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
                format!(
                    "{} {}",
                    reply.status,
                    body["error"]["code"].as_str().unwrap_or("without a code")
                )
            }
            Err(error) => format!("no answer: {error:#}"),
        }
    }
}

/// A command as it is typed.
fn said(arguments: &[&str]) -> String {
    let quoted = arguments.iter().map(|word| match word.contains(' ') {
        true => format!("'{word}'"),
        false => (*word).to_owned(),
    });
    format!("tollgate {}", quoted.collect::<Vec<_>>().join(" "))
}

fn after(took: Duration) -> String {
    format!("in force {} ms after the command", took.as_millis())
}

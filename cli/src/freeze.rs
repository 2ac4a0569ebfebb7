//! `tollgate freeze`, `unfreeze`, `cap`, `uncap` and `status`: for when something is on fire.

use anyhow::{Context as _, Result};
use axum::http::Method;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::client::{Client, encoded};
use crate::show;

/// What is frozen.
#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// A key, by its id.
    Key,
    /// A project, as `ORG/PROJECT`.
    Project,
    /// An organization.
    Org,
}

/// Take something out of use at once: its callers are refused, and told that it is suspended.
#[derive(Args)]
pub(crate) struct Freeze {
    /// What it is.
    kind: Kind,
    /// Which.
    id: String,
    /// For how long, such as `30m`; until `unfreeze` without it.
    #[arg(long = "for")]
    span: Option<String>,
}

/// End a freeze.
#[derive(Args)]
pub(crate) struct Unfreeze {
    /// The freeze's id, as `tollgate status` shows it.
    freeze: String,
}

/// What can be capped.
#[derive(Clone, Copy, ValueEnum)]
enum Capped {
    /// A key, by its id.
    Key,
    /// An organization.
    Org,
}

/// Limit the requests of a key or organization at once: what is beyond is refused with 429, whatever its limits allow.
#[derive(Args)]
pub(crate) struct Cap {
    /// What it is.
    kind: Capped,
    /// Which.
    id: String,
    /// How many requests it may make, such as `10/second`.
    #[arg(long)]
    rate: String,
    /// How many of them at once; what the rate says without it.
    #[arg(long)]
    burst: Option<u64>,
    /// For how long, such as `30m`; until `uncap` without it.
    #[arg(long = "for")]
    span: Option<String>,
}

/// End a cap.
#[derive(Args)]
pub(crate) struct Uncap {
    /// The cap's id, as `tollgate status` shows it.
    cap: String,
}

impl Freeze {
    pub(crate) async fn run(self, client: &Client) -> Result<()> {
        let reason = reason(client, "key leaked in a repository")?;
        let kind = match self.kind {
            Kind::Key => "key",
            Kind::Project => "project",
            Kind::Org => "org",
        };
        let body = json!({"target": {kind: self.id}, "reason": reason, "for": self.span});
        let answer = client.change(Method::POST, "/v1/freezes", Some(body)).await?;
        show::changed(client, &answer, |freeze| {
            let (until, id) = (until(freeze), show::member(freeze, "id"));
            format!(
                "Froze the {kind} {}{until}. To end it: tollgate unfreeze {id}",
                self.id
            )
        });
        Ok(())
    }
}

impl Unfreeze {
    pub(crate) async fn run(self, client: &Client) -> Result<()> {
        let path = format!("/v1/freezes/{}/end", encoded(&self.freeze));
        let answer = client.change(Method::POST, &path, None).await?;
        show::changed(client, &answer, |_| format!("Ended the freeze {}.", self.freeze));
        Ok(())
    }
}

impl Cap {
    pub(crate) async fn run(self, client: &Client) -> Result<()> {
        let reason = reason(client, "a loop at the customer")?;
        let kind = match self.kind {
            Capped::Key => "key",
            Capped::Org => "org",
        };
        let body = json!({
            "target": {kind: self.id}, "rate": self.rate, "burst": self.burst, "reason": reason, "for": self.span,
        });
        let answer = client.change(Method::POST, "/v1/caps", Some(body)).await?;
        show::changed(client, &answer, |cap| {
            let (until, id) = (until(cap), show::member(cap, "id"));
            format!(
                "Capped the {kind} {} at {}{until}. To end it: tollgate uncap {id}",
                self.id, self.rate
            )
        });
        Ok(())
    }
}

impl Uncap {
    pub(crate) async fn run(self, client: &Client) -> Result<()> {
        let path = format!("/v1/caps/{}/end", encoded(&self.cap));
        let answer = client.change(Method::POST, &path, None).await?;
        show::changed(client, &answer, |_| format!("Ended the cap {}.", self.cap));
        Ok(())
    }
}

/// Why, which has to be said here.
fn reason<'a>(client: &'a Client, such_as: &str) -> Result<&'a str> {
    let reason = client.reason();
    reason.with_context(|| format!("say why: --reason '{such_as}'"))
}

/// When it ends by itself, if it does.
fn until(one: &Value) -> String {
    match one.get("until").and_then(Value::as_str) {
        Some(until) => format!(" until {until}"),
        None => String::new(),
    }
}

/// What is frozen or capped now.
pub(crate) async fn status(client: &Client) -> Result<()> {
    let mut all = Vec::new();
    for path in ["/v1/freezes", "/v1/caps"] {
        let mut list = client.get(path).await?;
        if let Some(Value::Array(items)) = list.get_mut("items").map(Value::take) {
            all.extend(items);
        }
    }
    if all.is_empty() && !client.json() {
        println!("Nothing is frozen or capped.");
        return Ok(());
    }
    let members = [
        "id",
        "target",
        "rate",
        "until",
        "reason",
        "created_by",
        "created_at",
    ];
    show::list(client, &all, &members);
    Ok(())
}

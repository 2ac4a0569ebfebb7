//! `tollgate freeze`, `unfreeze` and `status`: for when something is on fire.

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

impl Freeze {
    pub(crate) async fn run(self, client: &Client) -> Result<()> {
        let reason = client
            .reason()
            .context("say why: --reason 'key leaked in a repository'")?;
        let kind = match self.kind {
            Kind::Key => "key",
            Kind::Project => "project",
            Kind::Org => "org",
        };
        let body = json!({"target": {kind: self.id}, "reason": reason, "for": self.span});
        let answer = client.change(Method::POST, "/v1/freezes", Some(body)).await?;
        show::changed(client, &answer, |freeze| {
            let until = match freeze.get("until").and_then(Value::as_str) {
                Some(until) => format!(" until {until}"),
                None => String::new(),
            };
            let id = show::member(freeze, "id");
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

/// What is frozen now.
pub(crate) async fn status(client: &Client) -> Result<()> {
    let freezes = client.get("/v1/freezes").await?;
    let freezes = freezes
        .get("items")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    if freezes.is_empty() && !client.json() {
        println!("Nothing is frozen.");
    } else {
        show::list(
            client,
            freezes,
            &["id", "target", "until", "reason", "created_by", "created_at"],
        );
    }
    Ok(())
}

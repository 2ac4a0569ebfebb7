//! `tollgate freeze`, `unfreeze`, `cap`, `uncap` and `status`: for when something is on fire.

use anyhow::{Context as _, Result};
use axum::http::Method;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::client::{Client, encoded, segment};
use crate::out::outln;
use crate::show;

/// What is frozen.
#[derive(Clone, Copy, ValueEnum)]
enum FreezeTarget {
    /// A key, by its id.
    Key,
    /// A project, as `ORG/PROJECT`.
    Project,
    /// An organization.
    Org,
}

/// Block something immediately: its callers get 403 and are told that it is suspended.
#[derive(Args)]
pub(crate) struct Freeze {
    /// What it is.
    kind: FreezeTarget,
    /// Which.
    id: String,
    /// For how long, such as `30m`; until `unfreeze` without it.
    #[arg(long = "for")]
    span: Option<String>,
}

/// End a freeze: of a key, project or organization (`unfreeze key ID`), or by its own id.
#[derive(Args)]
pub(crate) struct Unfreeze {
    /// `key`, `project` or `org` and which one; or the freeze's id, as `tollgate status` shows it.
    #[arg(num_args = 1..=2, required = true, value_name = "KIND ID")]
    what: Vec<String>,
}

/// What can be capped.
#[derive(Clone, Copy, ValueEnum)]
enum CapTarget {
    /// A key, by its id.
    Key,
    /// An organization.
    Org,
}

/// Limit the requests of a key or organization at once: what is beyond is refused with 429, whatever its limits allow.
#[derive(Args)]
pub(crate) struct Cap {
    /// What it is.
    kind: CapTarget,
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

/// End a cap: of a key or organization (`uncap org acme`), or by its own id.
#[derive(Args)]
pub(crate) struct Uncap {
    /// `key` or `org` and which one; or the cap's id, as `tollgate status` shows it.
    #[arg(num_args = 1..=2, required = true, value_name = "KIND ID")]
    what: Vec<String>,
}

impl Freeze {
    pub(crate) async fn run(self, client: &Client) -> Result<()> {
        let reason = reason(client, "key leaked in a repository")?;
        let kind = match self.kind {
            FreezeTarget::Key => "key",
            FreezeTarget::Project => "project",
            FreezeTarget::Org => "org",
        };
        let body = json!({"target": {kind: self.id}, "reason": reason, "for": self.span});
        let answer = client.write(Method::POST, "/v1/freezes", Some(body)).await?;
        show::changed(client, &answer, |freeze| {
            let (until, id) = (until(freeze), show::member(freeze, "id"));
            format!(
                "Froze {kind} {}{until}. To end it: tollgate unfreeze {id}",
                self.id
            )
        })?;
        Ok(())
    }
}

impl Unfreeze {
    pub(crate) async fn run(self, client: &Client) -> Result<()> {
        end(client, "freeze", &self.what).await
    }
}

impl Cap {
    pub(crate) async fn run(self, client: &Client) -> Result<()> {
        let reason = reason(client, "a loop at the customer")?;
        let kind = match self.kind {
            CapTarget::Key => "key",
            CapTarget::Org => "org",
        };
        let body = json!({
            "target": {kind: self.id}, "rate": self.rate, "burst": self.burst, "reason": reason, "for": self.span,
        });
        let answer = client.write(Method::POST, "/v1/caps", Some(body)).await?;
        show::changed(client, &answer, |cap| {
            let (until, id) = (until(cap), show::member(cap, "id"));
            format!(
                "Capped {kind} {} at {}{until}. To end it: tollgate uncap {id}",
                self.id, self.rate
            )
        })?;
        Ok(())
    }
}

impl Uncap {
    pub(crate) async fn run(self, client: &Client) -> Result<()> {
        end(client, "cap", &self.what).await
    }
}

/// Ends a freeze or a cap, by its id or by what it is on.
async fn end(client: &Client, noun: &str, what: &[String]) -> Result<()> {
    let path = format!("/v1/{noun}s");
    let id = match what {
        [kind, target] => {
            let org = match kind.as_str() {
                "org" => Some(target.as_str()),
                "project" => target.split_once('/').map(|(org, _)| org),
                _ => None,
            };
            let org = org.map_or_else(String::new, |org| format!("?org={}", encoded(org)));
            let all = client.get(&format!("{path}{org}")).await?;
            let items = all.get("items").and_then(Value::as_array).into_iter().flatten();
            let mut on_it = items.filter(|one| one.get("target") == Some(&json!({kind.as_str(): target})));
            let found = on_it.next().map(|one| show::member(one, "id"));
            found.with_context(|| {
                format!("there is no {noun} on the {kind} `{target}`; see tollgate status")
            })?
        }
        [id] => id.clone(),
        _ => String::new(),
    };
    let answer = client
        .write(Method::POST, &format!("{path}/{}/end", segment(&id)?), None)
        .await?;
    show::changed(client, &answer, |_| format!("Ended {noun} {id}."))?;
    Ok(())
}

/// Why, which has to be said here.
fn reason<'a>(client: &'a Client, such_as: &str) -> Result<&'a str> {
    let reason = client.reason();
    reason.with_context(|| format!("say why: --reason '{such_as}'"))
}

/// When it ends by itself, if it does.
fn until(one: &Value) -> String {
    match one.get("until").filter(|until| until.is_string()) {
        Some(until) => format!(" until {}", show::text(until)),
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
    if all.is_empty() && !client.wants_json() {
        outln!("Nothing is frozen or capped.")?;
        return Ok(());
    }
    for one in &mut all {
        if let Some(Value::Object(target)) = one.get("target").filter(|_| !client.wants_json()) {
            let named = target
                .iter()
                .map(|(kind, id)| format!("{kind} {}", show::text(id)));
            let named = named.collect::<String>();
            if let Some(members) = one.as_object_mut() {
                members.insert("target".to_owned(), json!(named));
            }
        }
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
    show::list(client, &all, &members)?;
    Ok(())
}

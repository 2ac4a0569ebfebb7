//! `tollgate freeze`, `cap`, `drain`, `shed`, what ends each, and `status`: for when something is on fire.

use anyhow::{Context as _, Result, bail};
use axum::http::Method;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::client::{Answer, Client, encoded, segment};
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

/// Send no new request to a target; those under way end there.
#[derive(Args)]
pub(crate) struct Drain {
    /// The target's cluster, as the catalogue names it.
    target: String,
    /// For how long, such as `30m`; until `undrain` without it.
    #[arg(long = "for")]
    span: Option<String>,
}

/// Send requests to a target again.
#[derive(Args)]
pub(crate) struct Undrain {
    /// The target's cluster.
    target: String,
}

/// Models, for the callers of a tier.
#[derive(Args)]
pub(crate) struct TierModels {
    /// The tier.
    #[arg(long)]
    tier: String,
    /// The model's own name, or a pattern such as `llama-*`.
    #[arg(long, default_value = "*")]
    model: String,
}

/// Keep a tier off models: its requests for them get 503, or a model that may stand in.
#[derive(Args)]
pub(crate) struct Shed {
    #[command(flatten)]
    models: TierModels,
    /// For how long, such as `30m`; until `unshed` without it.
    #[arg(long = "for")]
    span: Option<String>,
}

/// Let a tier use models again.
#[derive(Args)]
pub(crate) struct Unshed {
    #[command(flatten)]
    models: TierModels,
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
        tell_other(client, "freeze", &answer).await
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
        tell_other(client, "cap", &answer).await
    }
}

impl Uncap {
    pub(crate) async fn run(self, client: &Client) -> Result<()> {
        end(client, "cap", &self.what).await
    }
}

impl Drain {
    pub(crate) async fn run(self, client: &Client) -> Result<()> {
        let target = json!({"cluster": self.target});
        let restriction = restrict(client, (target, self.span), "the machine needs a new disk").await?;
        show::changed(client, &restriction, |restriction| {
            format!(
                "No new request goes to {0}{1}. To end it: tollgate undrain {0}",
                self.target,
                until(restriction)
            )
        })
    }
}

impl Undrain {
    pub(crate) async fn run(self, client: &Client) -> Result<()> {
        end_on(client, ("restriction", ""), &json!({"cluster": self.target})).await
    }
}

impl TierModels {
    fn target(&self) -> Value {
        json!({"models": {"tier": self.tier, "model": self.model}})
    }
}

impl Shed {
    pub(crate) async fn run(self, client: &Client) -> Result<()> {
        let TierModels { tier, model } = &self.models;
        let new = (self.models.target(), self.span);
        let restriction = restrict(client, new, "half of the machines are down").await?;
        show::changed(client, &restriction, |restriction| {
            let until = until(restriction);
            format!(
                "The tier {tier} is not served by {model}{until}. To end it: tollgate unshed --tier {tier} --model '{model}'"
            )
        })
    }
}

impl Unshed {
    pub(crate) async fn run(self, client: &Client) -> Result<()> {
        end_on(client, ("restriction", ""), &self.models.target()).await
    }
}

async fn restrict(client: &Client, (target, span): (Value, Option<String>), such_as: &str) -> Result<Answer> {
    let reason = reason(client, such_as)?;
    let body = json!({"target": target, "reason": reason, "for": span});
    client.write(Method::POST, "/v1/restrictions", Some(body)).await
}

/// Ends a freeze or a cap, by its id or by what it is on.
async fn end(client: &Client, noun: &str, what: &[String]) -> Result<()> {
    match what {
        [kind, target] => {
            let org = match kind.as_str() {
                "org" => target.clone(),
                "project" => target.split('/').next().unwrap_or_default().to_owned(),
                "key" => {
                    let key = client.get(&format!("/v1/keys/{}", segment(target)?)).await?;
                    show::member(&key, "org")
                }
                other => bail!("there is no kind `{other}`: expected `key`, `project` or `org`"),
            };
            let query = format!("?org={}", encoded(&org));
            end_on(client, (noun, &query), &json!({kind.as_str(): target})).await
        }
        [id] => end_by_id(client, noun, id).await,
        _ => Ok(()),
    }
}

/// Ends what is on a target, among those that `query` lists.
async fn end_on(client: &Client, (noun, query): (&str, &str), target: &Value) -> Result<()> {
    let all = client.list_all(&format!("/v1/{noun}s{query}")).await?;
    let on_it: Vec<&Value> = all
        .iter()
        .filter(|one| one.get("target") == Some(target))
        .collect();
    match on_it.as_slice() {
        [] => bail!("there is no {noun} on the {}; see tollgate status", named(target)),
        [one] => end_by_id(client, noun, &show::member(one, "id")).await,
        several => {
            let several: Vec<String> = several.iter().map(|one| with_owner(one)).collect();
            bail!(
                "there is more than one {noun} on the {}: {}; end one by its id",
                named(target),
                several.join(" and ")
            )
        }
    }
}

/// A freeze or cap by its id, and whose it is.
fn with_owner(one: &Value) -> String {
    let by_customer = one
        .get("by_confined")
        .and_then(Value::as_bool)
        .unwrap_or_default();
    let owner = if by_customer {
        "the customer"
    } else {
        "the platform"
    };
    format!("`{}` by {owner}", show::member(one, "id"))
}

/// Tells what else is in force on the same target, after a freeze or a cap was begun or ended: the platform and the
/// customer have one each.
async fn tell_other(client: &Client, noun: &str, answer: &Answer) -> Result<()> {
    let one = &answer.body;
    let Some(target) = one.get("target").filter(|_| !client.wants_json()) else {
        return Ok(());
    };
    let of_org = format!("?org={}", encoded(&show::member(one, "org")));
    let all = client.list_all(&format!("/v1/{noun}s{of_org}")).await?;
    let mut on_it = all
        .iter()
        .filter(|other| other.get("target") == Some(target) && other.get("id") != one.get("id"));
    if let Some(other) = on_it.next() {
        let (target, other, until) = (named(target), with_owner(other), until(other));
        outln!(
            "On the {target} there is another {noun} in force, which stays when this one ends: {other}{until}."
        )?;
    }
    Ok(())
}

async fn end_by_id(client: &Client, noun: &str, id: &str) -> Result<()> {
    let path = format!("/v1/{noun}s/{}/end", segment(id)?);
    let answer = client.write(Method::POST, &path, None).await?;
    show::changed(client, &answer, |_| format!("Ended {noun} {id}."))?;
    if noun == "restriction" {
        return Ok(());
    }
    tell_other(client, noun, &answer).await
}

/// A target, for people.
fn named(target: &Value) -> String {
    let mut members = target.as_object().into_iter().flatten();
    match members.next() {
        Some((kind, id)) if kind != "models" => format!("{kind} {}", show::text(id)),
        Some((_, models)) => format!(
            "tier {}, model {}",
            show::member(models, "tier"),
            show::member(models, "model")
        ),
        None => String::new(),
    }
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

/// What is in force now.
pub(crate) async fn status(client: &Client) -> Result<()> {
    let mut all = Vec::new();
    for (path, action) in [
        ("/v1/freezes", "frozen"),
        ("/v1/caps", "capped"),
        ("/v1/restrictions", ""),
    ] {
        for mut one in client.list_all(path).await? {
            if let Some(members) = one.as_object_mut().filter(|_| !client.wants_json()) {
                let target = members.get("target").cloned().unwrap_or_default();
                let action = match target.get("models") {
                    Some(_) => "shed",
                    None if action.is_empty() => "drained",
                    None => action,
                };
                members.insert("what".to_owned(), json!(action));
                members.insert("target".to_owned(), json!(named(&target)));
            }
            all.push(one);
        }
    }
    if all.is_empty() && !client.wants_json() {
        outln!("Nothing is frozen, capped, drained or shed.")?;
        return Ok(());
    }
    let members = [
        "id",
        "what",
        "target",
        "rate",
        "until",
        "reason",
        "created_by",
        "created_at",
    ];
    show::list(client, &all, &members)
}

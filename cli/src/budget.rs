//! `tollgate budget`.

use anyhow::{Context as _, Result, bail};
use axum::http::Method;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Map, Value, json};

use crate::change::{Clear, insert_some};
use crate::client::{Client, encoded, segment};
use crate::money;
use crate::out::outln;
use crate::show;

/// What to do with budgets.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// List budgets.
    List {
        /// Of this organization only.
        #[arg(long)]
        org: Option<String>,
    },
    /// Show a budget, and what was spent of it.
    Show {
        /// Its name.
        budget: String,
        /// In the window that this instant is in, as in `2026-12-31T23:59:59Z`; now without it.
        #[arg(long)]
        at: Option<String>,
    },
    /// Create a budget.
    Create {
        /// Its name, or `ORG:NAME` for one of an organization's own. It can't be changed.
        budget: String,
        #[command(flatten)]
        scope: Scope,
        #[command(flatten)]
        amount: Amount,
        /// When it is full again; `once` is never.
        #[arg(long, value_enum)]
        per: Window,
        /// By whose clocks, such as `Europe/Berlin`; UTC without it.
        #[arg(long)]
        time_zone: Option<String>,
        /// When one for `once` begins, as in `2026-12-31T23:59:59Z`; at once without it.
        #[arg(long)]
        begins_at: Option<String>,
        #[command(flatten)]
        spec: Spec,
    },
    /// Change a budget.
    Set {
        /// Its name.
        budget: String,
        /// How much may be spent in each window, in its unit; a cost as `2500.50`.
        #[arg(long)]
        amount: Option<String>,
        #[command(flatten)]
        spec: Spec,
        #[command(flatten)]
        clear: Clear,
    },
    /// Raise a budget for a while; it ends by itself.
    Raise {
        /// Its name.
        budget: String,
        /// How much more, in its unit; a cost as `2500.50`.
        #[arg(long, required_unless_present = "end")]
        by: Option<String>,
        /// For how long, such as `2h`.
        #[arg(long = "for", required_unless_present = "end")]
        span: Option<String>,
        /// End a raise before its time.
        #[arg(long, conflicts_with_all = ["by", "span"])]
        end: bool,
    },
    /// Strike out what an Envoy said, or all that spoke by a token: it counts no longer. Revoke a stolen token first.
    Strike {
        /// The budget's name.
        budget: String,
        /// The Envoy's name, as `show` has it.
        #[arg(required_unless_present = "token", allow_hyphen_values = true)]
        holder: Option<String>,
        /// All Envoys that spoke by this token, by its id.
        #[arg(long, conflicts_with = "holder")]
        token: Option<String>,
    },
    /// Remove a budget.
    Remove {
        /// Its name.
        budget: String,
    },
}

/// Whose spending counts.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Scope {
    /// An organization's.
    #[arg(long)]
    org: Option<String>,
    /// A project's, as `ORG/PROJECT`.
    #[arg(long)]
    project: Option<String>,
    /// A key's, by its id, and that of those that it is rotated to.
    #[arg(long)]
    key: Option<String>,
    /// That of all organizations that carry a label, as `--label cost_center=42`.
    #[arg(long)]
    label: Option<String>,
    /// That of several organizations together, as `--pool acme,globex`.
    #[arg(long, value_delimiter = ',')]
    pool: Option<Vec<String>>,
}

/// How much of what.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Amount {
    /// So many requests.
    #[arg(long)]
    requests: Option<u64>,
    /// So many tokens, read and written.
    #[arg(long)]
    tokens: Option<u64>,
    /// So much of the catalogue's currency, such as `2500.50`.
    #[arg(long)]
    cost: Option<String>,
}

/// When a budget is full again.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Window {
    Hour,
    Day,
    Week,
    Month,
    Once,
}

/// What is set; what is not named stays.
#[derive(Args)]
pub(crate) struct Spec {
    /// A name for people.
    #[arg(long)]
    name: Option<String>,
    /// Percent at which somebody is told, such as `50,80,100`.
    #[arg(long, value_delimiter = ',')]
    thresholds: Option<Vec<u8>>,
    /// From so many percent on, so many requests pass: `--slow 90=10/minute`.
    #[arg(long, value_name = "PERCENT=RATE", conflicts_with = "downgrade")]
    slow: Option<String>,
    /// From so many percent on, another model serves: `--downgrade 90=llama-8b`.
    #[arg(long, value_name = "PERCENT=MODEL")]
    downgrade: Option<String>,
    /// After how long without a word an Envoy's slice is given to others, such as `10m`.
    #[arg(long)]
    lost_after: Option<String>,
    /// When one for `once` ends, as in `2026-12-31T23:59:59Z`.
    #[arg(long)]
    ends_at: Option<String>,
}

impl Command {
    pub(crate) async fn run(self, client: &Client) -> Result<()> {
        match self {
            Self::List { org } => {
                let query = org.map_or_else(String::new, |org| format!("?org={}", encoded(&org)));
                let mut budgets = client.list_all(&format!("/v1/budgets{query}")).await?;
                if !client.wants_json() {
                    budgets.iter_mut().for_each(for_people);
                }
                let members = [
                    "id",
                    "scope",
                    "unit",
                    "amount",
                    "window",
                    "raise/until",
                    "reached/percent",
                ];
                show::list(client, &budgets, &members)?;
            }
            Self::Show { budget, at } => show_one(client, &budget, at.as_deref()).await?,
            Self::Create {
                budget,
                scope,
                amount,
                per,
                time_zone,
                begins_at,
                spec,
            } => {
                let mut body = spec.members()?;
                // Of something new there is nothing to remove.
                if let Some(policy) = body.get_mut("policy").and_then(Value::as_object_mut) {
                    policy.retain(|_, value| !value.is_null());
                }
                body.insert("id".to_owned(), json!(budget));
                body.insert("scope".to_owned(), scope.value()?);
                let (unit, amount) = amount.unit_and_amount()?;
                body.insert("unit".to_owned(), json!(unit));
                body.insert("amount".to_owned(), json!(amount));
                body.insert("window".to_owned(), json!(per.name()));
                insert_some(&mut body, "time_zone", time_zone);
                insert_some(&mut body, "begins_at", begins_at);
                let body = Some(Value::Object(body));
                let answer = client.write(Method::POST, "/v1/budgets", body).await?;
                show::changed(client, &answer, |_| format!("Created budget {budget}."))?;
            }
            Self::Set {
                budget,
                amount,
                spec,
                clear,
            } => {
                let mut members = spec.members()?;
                if let Some(amount) = amount {
                    let amount = in_unit_of(client, &budget, &amount).await?;
                    members.insert("amount".to_owned(), json!(amount));
                }
                let answer = client
                    .write(Method::PATCH, &path(&budget)?, Some(clear.patch(members)?))
                    .await?;
                show::changed(client, &answer, |_| format!("Changed budget {budget}."))?;
            }
            Self::Raise { budget, by, span, .. } => match by {
                Some(by) => raise(client, &budget, &by, span).await?,
                None => {
                    let path = format!("{}/raise/end", path(&budget)?);
                    let answer = client.write(Method::POST, &path, None).await?;
                    show::changed(client, &answer, |_| {
                        format!("Budget {budget} is not raised any more.")
                    })?;
                }
            },
            Self::Strike {
                budget,
                holder,
                token,
            } => {
                let mut body = Map::new();
                insert_some(&mut body, "holder", holder);
                insert_some(&mut body, "token", token);
                let path = format!("{}/strike", path(&budget)?);
                let body = Some(Value::Object(body));
                let answer = client.write(Method::POST, &path, body).await?;
                show::changed(client, &answer, |struck| {
                    let is_cost = is_cost(struck);
                    let of = |name: &str| {
                        let value = struck.pointer(&format!("/struck/{name}"));
                        value.map_or_else(String::new, |value| show::text(&shown(value, is_cost)))
                    };
                    let slices = struck
                        .pointer("/struck/slices")
                        .map_or_else(String::new, show::text);
                    format!(
                        "Struck {slices} slices out of budget {budget}: {} spent and {} held count no longer.",
                        of("spent"),
                        of("escrowed"),
                    )
                })?;
            }
            Self::Remove { budget } => {
                let answer = client.write(Method::DELETE, &path(&budget)?, None).await?;
                show::changed(client, &answer, |_| format!("Removed budget {budget}."))?;
            }
        }
        Ok(())
    }
}

fn path(budget: &str) -> Result<String> {
    Ok(format!("/v1/budgets/{}", segment(budget)?))
}

/// A budget, and what was spent of it.
async fn show_one(client: &Client, name: &str, at: Option<&str>) -> Result<()> {
    let mut budget = client.get(&path(name)?).await?;
    let at = at.map_or_else(String::new, |at| format!("?at={}", encoded(at)));
    let spending = client.get(&format!("{}/spending{at}", path(name)?)).await?;
    if client.wants_json() {
        if let Some(members) = budget.as_object_mut() {
            members.insert("spending".to_owned(), spending);
        }
        return show::object(client, &budget);
    }
    let is_cost = is_cost(&budget);
    for_people(&mut budget);
    let mut lines = budget.as_object().cloned().unwrap_or_default();
    if let Some(raise) = budget.get("raise") {
        let member = |name| show::member(raise, name);
        let told = format!(
            "by {} until {}: {}",
            member("by"),
            member("until"),
            member("reason")
        );
        lines.insert("raise".to_owned(), json!(told));
    }
    for (member, name) in [
        ("window", "window_began"),
        ("resets_at", "resets_at"),
        ("amount", "amount_now"),
        ("spent", "spent"),
        ("escrowed", "escrowed"),
        ("left", "left"),
    ] {
        if let Some(value) = spending.get(member) {
            lines.insert(name.to_owned(), shown(value, is_cost));
        }
    }
    if let Some(struck) = budget.get("struck") {
        let amount = |name: &str| {
            struck
                .get(name)
                .map_or_else(String::new, |value| show::text(&shown(value, is_cost)))
        };
        let told = format!(
            "{} at {}: {} spent, {} held",
            show::member(struck, "whose"),
            show::member(struck, "at"),
            amount("spent"),
            amount("escrowed")
        );
        lines.insert("struck".to_owned(), json!(told));
    }
    show::object(client, &Value::Object(lines))?;
    let slices = spending.get("slices").and_then(Value::as_array);
    let mut slices = slices.cloned().unwrap_or_default();
    if slices.is_empty() {
        return Ok(());
    }
    for slice in &mut slices {
        for pointer in ["/spent", "/escrowed"] {
            if let Some(amount) = slice.pointer_mut(pointer) {
                *amount = shown(amount, is_cost);
            }
        }
    }
    outln!("")?;
    show::list(
        client,
        &slices,
        &["holder", "token", "state", "spent", "escrowed", "heard_at"],
    )
}

async fn raise(client: &Client, budget: &str, by: &str, span: Option<String>) -> Result<()> {
    let reason = client.reason();
    let reason = reason.context("say why: --reason 'end of quarter'")?;
    let more = in_unit_of(client, budget, by).await?;
    let body = json!({"by": more, "for": span, "reason": reason});
    let answer = client
        .write(Method::POST, &format!("{}/raise", path(budget)?), Some(body))
        .await?;
    show::changed(client, &answer, |raised| {
        let until = raised
            .pointer("/raise/until")
            .map_or_else(String::new, show::text);
        format!(
            "Raised budget {budget} by {by} until {until}. To end it: tollgate budget raise {budget} --end"
        )
    })
}

/// An amount as the API has it, of a budget that is there.
async fn in_unit_of(client: &Client, budget: &str, text: &str) -> Result<u64> {
    let budget = client.get(&path(budget)?).await?;
    if is_cost(&budget) {
        return money::parse(text);
    }
    let number = text.parse();
    number.with_context(|| {
        format!(
            "`{text}` is no amount: expected a whole number of {}",
            show::member(&budget, "unit")
        )
    })
}

/// Whether its amounts are costs.
fn is_cost(budget: &Value) -> bool {
    show::member(budget, "unit") == "cost_micros"
}

/// An amount for people.
fn shown(amount: &Value, is_cost: bool) -> Value {
    match amount.as_u64().filter(|_| is_cost) {
        Some(micros) => json!(money::text(micros)),
        None => amount.clone(),
    }
}

/// Costs in the currency, and scopes in a word.
fn for_people(budget: &mut Value) {
    let is_cost = is_cost(budget);
    for pointer in ["/amount", "/raise/by"] {
        if let Some(amount) = budget.pointer_mut(pointer) {
            *amount = shown(amount, is_cost);
        }
    }
    let Some(members) = budget.as_object_mut() else {
        return;
    };
    if is_cost {
        members.insert("unit".to_owned(), json!("cost"));
    }
    let scope = members.get("scope").and_then(Value::as_object);
    if let Some((kind, of)) = scope.and_then(|scope| scope.iter().next()) {
        let of = match kind.as_str() {
            "label" => format!("{}={}", show::member(of, "name"), show::member(of, "value")),
            _ => show::text(of),
        };
        let told = format!("{kind} {of}");
        members.insert("scope".to_owned(), json!(told));
    }
}

impl Scope {
    fn value(&self) -> Result<Value> {
        Ok(match self {
            Self { org: Some(org), .. } => json!({"org": org}),
            Self {
                project: Some(project),
                ..
            } => json!({"project": project}),
            Self { key: Some(key), .. } => json!({"key": key}),
            Self {
                label: Some(label), ..
            } => {
                let Some((name, value)) = label.split_once('=') else {
                    bail!("`--label {label}`: expected NAME=VALUE");
                };
                json!({"label": {"name": name, "value": value}})
            }
            Self { pool, .. } => {
                let mut pool = pool.clone().unwrap_or_default();
                pool.sort_unstable();
                json!({"pool": pool})
            }
        })
    }
}

impl Amount {
    fn unit_and_amount(&self) -> Result<(&'static str, u64)> {
        Ok(match (self.requests, self.tokens, &self.cost) {
            (Some(requests), ..) => ("requests", requests),
            (_, Some(tokens), _) => ("tokens", tokens),
            (.., Some(cost)) => ("cost_micros", money::parse(cost)?),
            (None, None, None) => bail!("say how much: --requests, --tokens or --cost"),
        })
    }
}

impl Window {
    const fn name(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Once => "once",
        }
    }
}

impl Spec {
    fn members(&self) -> Result<Map<String, Value>> {
        let mut members = Map::new();
        insert_some(&mut members, "name", self.name.as_ref());
        insert_some(&mut members, "thresholds", self.thresholds.as_ref());
        insert_some(&mut members, "lost_after", self.lost_after.as_ref());
        insert_some(&mut members, "ends_at", self.ends_at.as_ref());
        // The other one is named too: a change leaves what it does not name.
        if let Some(slow) = &self.slow {
            let (percent, rate) = from_percent("slow", slow)?;
            let policy = json!({"slow": {"from_percent": percent, "rate": rate}, "downgrade": null});
            members.insert("policy".to_owned(), policy);
        }
        if let Some(downgrade) = &self.downgrade {
            let (percent, model) = from_percent("downgrade", downgrade)?;
            let policy = json!({"downgrade": {"from_percent": percent, "model": model}, "slow": null});
            members.insert("policy".to_owned(), policy);
        }
        Ok(members)
    }
}

fn from_percent<'a>(option: &str, text: &'a str) -> Result<(u8, &'a str)> {
    let parts = text.split_once('=');
    let parts = parts.and_then(|(percent, what)| Some((percent.parse().ok()?, what)));
    parts.with_context(|| format!("`--{option} {text}`: expected PERCENT=VALUE, such as `90=…`"))
}

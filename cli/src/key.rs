//! `tollgate key`: keys of a control plane; and, without one, keys and their rows for a directory that is a file.
//!
//! A key itself goes to its holder and is kept nowhere.

use std::io::{IsTerminal, Read as _};

use anyhow::{Context as _, Result, bail, ensure};
use axum::http::{Method, StatusCode};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tollgate_core::directory::Loader;
use tollgate_core::key::{ApiKey, Form, KeyHash, form};

use crate::change::{Clear, insert_some};
use crate::client::{Client, encoded, segment};
use crate::limit::Limits;
use crate::out::{errln, outln};
use crate::report::Report;
use crate::show;

/// What to do with keys.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// List keys.
    List {
        /// Of this organization only.
        #[arg(long)]
        org: Option<String>,
        /// Revoked ones too.
        #[arg(long)]
        revoked: bool,
    },
    /// Show a key.
    Show {
        /// Key id.
        key: String,
    },
    /// Whose a key is: reads it from standard input (never from the command line, which others can see), and prints its id,
    /// owner and state.
    Identify,
    /// Keys that somebody should look at: old ones, ones that end soon, ones that nobody uses.
    Report(Report),
    /// Create a key; prints it once.
    Create {
        #[command(flatten)]
        row: Row,
        #[command(flatten)]
        spec: Spec,
    },
    /// Change a key.
    Set {
        /// Key id.
        key: String,
        #[command(flatten)]
        grant: Grant,
        #[command(flatten)]
        spec: Spec,
        #[command(flatten)]
        clear: Clear,
    },
    /// Replace a key by a new one; the old one ends after an overlap.
    Rotate {
        /// Key id.
        key: String,
        /// How long the old one stays good, such as `24h`; `0s` ends it at once.
        #[arg(long, default_value = "24h")]
        overlap: String,
    },
    /// Undo a rotation: the old key goes on, the new one is revoked.
    UndoRotation {
        /// The old key's id.
        key: String,
    },
    /// Revoke a key, for good.
    Revoke {
        /// Key id.
        key: String,
    },
    /// Make a key for a directory that is a file; prints it once, and its row.
    Mint(Row),
    /// The row, for a directory that is a file, of a key that exists: read from standard input (never from the command
    /// line, which others can see).
    Row {
        /// Public id to know it by, in logs and usage records.
        #[arg(long)]
        id: String,
        #[command(flatten)]
        row: Row,
    },
}

/// What may be set of a key in a control plane alone; what is not named stays.
#[derive(Args)]
pub(crate) struct Spec {
    /// Whether it is in use.
    #[arg(long, value_parser = ["active", "suspended"])]
    status: Option<String>,
    /// When it begins to be good, as in `2026-12-31T23:59:59Z`.
    #[arg(long)]
    not_before: Option<String>,
    /// Networks it is good from: `--networks 10.0.0.0/8,2001:db8::/32`.
    #[arg(long, value_delimiter = ',')]
    networks: Option<Vec<String>>,
    /// Whom to tell.
    #[arg(long, value_delimiter = ',')]
    contacts: Option<Vec<String>>,
    #[command(flatten)]
    limits: Limits,
}

/// A key's row in a directory, but for its id and hash.
#[derive(Args)]
// The command `row` is a group named `Row` too, and clap wants names that differ.
#[group(id = "Tenant")]
pub(crate) struct Row {
    /// Organization, as under `orgs`.
    #[arg(long)]
    org: String,
    /// Project of that organization; without it the key is the organization's.
    #[arg(long)]
    project: Option<String>,
    #[command(flatten)]
    grant: Grant,
}

/// What a key is called and good for; what is not named stays.
#[derive(Args)]
pub(crate) struct Grant {
    /// A name for people, such as `ci`.
    #[arg(long)]
    name: Option<String>,
    /// Endpoints it is good for, as in `--scopes chat,models`; without it all.
    #[arg(long, value_delimiter = ',')]
    scopes: Vec<String>,
    /// Models, as names or patterns; without it what its project has.
    #[arg(long, value_delimiter = ',')]
    models: Vec<String>,
    /// When it ends, as in `2026-12-31T23:59:59Z`.
    #[arg(long)]
    expires_at: Option<String>,
}

impl Command {
    pub(crate) async fn run(self, client: &Client) -> Result<()> {
        match self {
            Self::List { org, revoked } => {
                let path = org.map_or_else(
                    || "/v1/keys".to_owned(),
                    |org| format!("/v1/keys?org={}", encoded(&org)),
                );
                let mut keys = client.list_all(&path).await?;
                keys.retain(|key| revoked || key.get("revoked_at").is_none());
                for key in &mut keys {
                    add_state(key, Timestamp::now());
                }
                let mut members = vec!["id", "org", "project", "name", "state", "expires_at"];
                members.extend(revoked.then_some("revoked_at"));
                show::list(client, &keys, &members)?;
            }
            Self::Show { key } => {
                let mut key = client.get(&path(&key)?).await?;
                add_state(&mut key, Timestamp::now());
                show::object(client, &key)?;
            }
            Self::Identify => identify(client).await?,
            Self::Report(report) => report.run(client).await?,
            Self::Create { row, spec } => {
                let mut body = row.members();
                body.extend(spec.members());
                let answer = client
                    .write(Method::POST, "/v1/keys", Some(Value::Object(body)))
                    .await?;
                show::created(client, &answer, "key", lost_key_advice)?;
            }
            Self::Set {
                key,
                grant,
                spec,
                clear,
            } => {
                let mut members = grant.members();
                members.extend(spec.members());
                let body = clear.patch(members)?;
                let answer = client.write(Method::PATCH, &path(&key)?, Some(body)).await?;
                show::changed(client, &answer, |_| format!("Changed key {key}."))?;
            }
            Self::Rotate { key, overlap } => {
                let body = json!({"overlap": overlap});
                let answer = client
                    .write(Method::POST, &format!("{}/rotate", path(&key)?), Some(body))
                    .await?;
                if answer.status == StatusCode::CREATED {
                    show::created(client, &answer, "key", lost_key_advice)?;
                } else {
                    ensure!(
                        answer.body.get("dry_run").is_some(),
                        "the key {key} is already being rotated, to {}; its secret was shown then. To start over: \
                         tollgate key undo-rotation {key}",
                        show::member(&answer.body, "id")
                    );
                    show::changed(client, &answer, |_| String::new())?;
                }
            }
            Self::UndoRotation { key } => {
                let answer = client
                    .write(Method::POST, &format!("{}/undo-rotation", path(&key)?), None)
                    .await?;
                show::changed(client, &answer, |_| {
                    format!("Key {key} goes on; the new one is revoked.")
                })?;
            }
            Self::Revoke { key } => {
                let answer = client
                    .write(Method::POST, &format!("{}/revoke", path(&key)?), None)
                    .await?;
                show::changed(client, &answer, |_| format!("Revoked key {key}."))?;
            }
            Self::Mint(row) => mint(&row)?,
            Self::Row { id, row } => print_row(&id, &row)?,
        }
        Ok(())
    }
}

/// Adds what a key's members come to, as `state`.
fn add_state(key: &mut Value, now: Timestamp) {
    let time = |name: &str| key.get(name)?.as_str()?.parse::<Timestamp>().ok();
    let state = if key.get("revoked_at").is_some() {
        "revoked"
    } else if time("expires_at").is_some_and(|end| end <= now) {
        "expired"
    } else if key.get("frozen_by").is_some() {
        "frozen"
    } else if key.get("status").is_some_and(|status| status == "suspended") {
        "suspended"
    } else if time("not_before").is_some_and(|begin| begin > now) {
        "not yet valid"
    } else if key.get("rotation").is_some() {
        "rotating"
    } else {
        "active"
    };
    if let Some(members) = key.as_object_mut() {
        members.insert("state".to_owned(), json!(state));
    }
}

fn path(key: &str) -> Result<String> {
    if form(key.as_bytes()) == Form::Ours {
        bail!(
            "this is the key itself, which is now in the shell's history; its id is {}",
            key.split('-').nth(2).unwrap_or_default()
        );
    }
    Ok(format!("/v1/keys/{}", segment(key)?))
}

/// What to do about a key that could not be printed.
fn lost_key_advice(id: &str) -> String {
    format!(
        "For another in its place: tollgate key rotate {id} --overlap 0s; to give it up: tollgate key revoke {id}"
    )
}

/// Makes a key for a directory that is a file.
pub(crate) fn mint(row: &Row) -> Result<()> {
    let mut random = [0; 40];
    getrandom::fill(&mut random).context("no randomness from the operating system")?;
    let key = ApiKey::mint(&random);
    let row = row.of(key.id(), &key.sha256_hex())?;
    errln!("# The key, for its owner. It is shown this once and stored nowhere.");
    let printed = outln!("{}", key.reveal());
    printed.context("the key is lost, and good for nothing: mint another")?;
    errln!("# Its row, for `keys` in the directory:");
    outln!("- {row}")?;
    Ok(())
}

/// A key from standard input.
fn read_key() -> Result<String> {
    if std::io::stdin().is_terminal() {
        errln!("Paste the key, then press Enter and Ctrl-D:");
    }
    let mut key = String::new();
    std::io::stdin()
        .read_to_string(&mut key)
        .context("cannot read the key from standard input")?;
    Ok(key.trim().to_owned())
}

/// Finds the key that is on standard input. The control plane is told its hash, and never the key.
async fn identify(client: &Client) -> Result<()> {
    let secret = read_key()?;
    ensure!(
        form(secret.as_bytes()) != Form::Broken,
        "this begins as our keys do, and its checksum does not hold: it is mistyped, or a part of one"
    );
    let sha256 = KeyHash::of(secret.as_bytes()).to_string();
    let mut page = client.get(&format!("/v1/keys?sha256={sha256}")).await?;
    let found = page.pointer_mut("/items/0").map(Value::take);
    let mut key = found.context("this control plane has no such key")?;
    add_state(&mut key, Timestamp::now());
    let told = ["id", "org", "project", "name", "state"];
    let told: Map<String, Value> = told
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), key.get(name)?.clone())))
        .collect();
    show::object(client, &Value::Object(told))
}

/// The row of a key that exists, read from standard input.
pub(crate) fn print_row(id: &str, row: &Row) -> Result<()> {
    let key = read_key()?;
    ensure!(
        key.len() >= 20,
        "a key of fewer than 20 characters can be guessed; make a new one instead"
    );
    outln!("- {}", row.of(id, &KeyHash::of(key.as_bytes()).to_string())?)?;
    Ok(())
}

impl Spec {
    fn members(&self) -> Map<String, Value> {
        let mut members = Map::new();
        insert_some(&mut members, "status", self.status.as_ref());
        insert_some(&mut members, "not_before", self.not_before.as_ref());
        insert_some(&mut members, "networks", self.networks.as_ref());
        insert_some(&mut members, "contacts", self.contacts.as_ref());
        insert_some(&mut members, "limits", self.limits.patch());
        members
    }
}

impl Grant {
    fn members(&self) -> Map<String, Value> {
        let mut members = Map::new();
        let list = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
        insert_some(&mut members, "name", self.name.as_ref());
        insert_some(&mut members, "scopes", list(&self.scopes));
        insert_some(&mut members, "models", list(&self.models));
        insert_some(&mut members, "expires_at", self.expires_at.as_ref());
        members
    }
}

impl Row {
    fn members(&self) -> Map<String, Value> {
        let mut members = Map::new();
        insert_some(&mut members, "org", Some(&self.org));
        insert_some(&mut members, "project", self.project.as_ref());
        members.extend(self.grant.members());
        members
    }

    /// The row as one line of YAML's flow style, which is JSON; checked in a directory that has its tenant.
    fn of(&self, id: &str, sha256: &str) -> Result<Value> {
        let mut row = Map::new();
        row.insert("id".to_owned(), json!(id));
        row.insert("sha256".to_owned(), json!(sha256));
        row.extend(self.members());
        let row = Value::Object(row);
        let projects: serde_json::Map<_, _> = self
            .project
            .iter()
            .map(|project| (project.clone(), json!({})))
            .collect();
        let orgs = json!({&self.org: {"projects": projects}});
        let document = json!({"version": 1, "orgs": orgs, "keys": [row]});
        match Loader::load(document.to_string().into_bytes()) {
            Ok(_) => Ok(row),
            Err(errors) => bail!(
                "{}",
                errors
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join("; ")
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_state() {
        let now: Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
        for (key, state) in [
            (json!({"status": "active"}), "active"),
            (json!({"status": "suspended"}), "suspended"),
            (json!({"status": "active", "frozen_by": "x"}), "frozen"),
            (
                json!({"status": "active", "expires_at": "2026-06-01T00:00:00Z"}),
                "expired",
            ),
            (
                json!({"status": "active", "expires_at": "2026-06-01T00:00:01Z", "rotation": {}}),
                "rotating",
            ),
            (
                json!({"status": "active", "not_before": "2026-06-01T00:00:01Z"}),
                "not yet valid",
            ),
            (
                json!({"status": "active", "frozen_by": "x", "revoked_at": "2026-01-01T00:00:00Z"}),
                "revoked",
            ),
        ] {
            let mut key = key;
            add_state(&mut key, now);
            assert_eq!(key["state"], state, "{key}");
        }
    }
}

//! `tollgate import`: from a directory that is a file to a control plane.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Result, bail};
use axum::http::Method;
use clap::Args;
use serde_json::{Map, Value, json};

use crate::client::{Client, segment};
use crate::directory::document;
use crate::out::{outln, pluralized};
use crate::show::member;

/// Import a directory document: its organizations, projects and keys. What exists already stays as it is.
#[derive(Args)]
pub(crate) struct Import {
    /// The document (YAML or JSON): `version`, `orgs` and `keys`.
    file: PathBuf,
}

/// Keys in one request.
const KEYS: usize = 5_000;

/// What came of it.
#[derive(Default)]
struct Imported {
    orgs: u64,
    projects: u64,
    keys: u64,
    existed: u64,
}

impl Import {
    pub(crate) async fn run(self, client: &Client) -> Result<()> {
        let mut document = document(&self.file)?;
        if let Some(place) = first_with_cap(&document) {
            bail!(
                "{place} has a cap, which ends nowhere in a file: take it out, and begin it with `tollgate cap`"
            );
        }
        let mut count = Imported::default();
        let known = ids(client, "/v1/orgs").await?;
        for (name, org) in members(document.get("orgs")) {
            let mut spec = org.clone();
            let projects = spec.as_object_mut().and_then(|spec| spec.remove("projects"));
            let is_known = known.contains(name);
            if is_known {
                count.existed += 1;
            } else {
                create(client, "/v1/orgs", name, spec).await?;
                count.orgs += 1;
            }
            let path = format!("/v1/orgs/{}/projects", segment(name)?);
            let known = if is_known {
                ids(client, &path).await?
            } else {
                BTreeSet::new()
            };
            for (name, project) in members(projects.as_ref()) {
                if known.contains(name) {
                    count.existed += 1;
                    continue;
                }
                // In a dry run its organization may not be there.
                if is_known || !client.is_dry_run() {
                    create(client, &path, name, project.clone()).await?;
                }
                count.projects += 1;
            }
        }
        let keys = match document.get_mut("keys").map(Value::take) {
            Some(Value::Array(keys)) => keys,
            _ => Vec::new(),
        };
        // What would be made first is not there for the server to look at.
        let is_new = count.orgs > 0 || count.projects > 0;
        for some in by_org(keys) {
            if client.is_dry_run() && is_new {
                count.keys += some.len() as u64;
                continue;
            }
            let answer = client
                .write(Method::POST, "/v1/import", Some(json!({"keys": some})))
                .await?;
            let of = |name: &str| answer.body.get(name).and_then(Value::as_u64);
            count.keys += of("imported").unwrap_or(some.len() as u64);
            count.existed += of("existed").unwrap_or(0);
        }
        count.print(client)
    }
}

impl Imported {
    fn print(&self, client: &Client) -> Result<()> {
        let Self {
            orgs,
            projects,
            keys,
            existed,
        } = self;
        if client.wants_json() {
            outln!(
                "{}",
                json!({"orgs": orgs, "projects": projects, "keys": keys, "existed": existed})
            )?;
            return Ok(());
        }
        let verb = if client.is_dry_run() {
            "Dry run, nothing changed. Would import"
        } else {
            "Imported"
        };
        outln!(
            "{verb} {}, {} and {}; {existed} existed already.",
            pluralized(*orgs, "organization"),
            pluralized(*projects, "project"),
            pluralized(*keys, "key")
        )?;
        Ok(())
    }
}

/// Requests' rows. Those of one organization are together, as an entry of the trail is seen by one organization or none;
/// but a thousand small organizations do not make a thousand requests.
fn by_org(mut keys: Vec<Value>) -> Vec<Vec<Value>> {
    const ORGS: usize = 1_000;
    let orgs: BTreeSet<String> = keys.iter().map(|key| member(key, "org")).collect();
    if orgs.len() > ORGS {
        return keys.chunks(KEYS).map(<[Value]>::to_vec).collect();
    }
    keys.sort_by_cached_key(|key| member(key, "org"));
    let each = keys.chunk_by(|one, other| one.get("org") == other.get("org"));
    each.flat_map(|some| some.chunks(KEYS))
        .map(<[Value]>::to_vec)
        .collect()
}

fn members(value: Option<&Value>) -> impl Iterator<Item = (&String, &Value)> {
    value.and_then(Value::as_object).into_iter().flatten()
}

async fn ids(client: &Client, path: &str) -> Result<BTreeSet<String>> {
    let all = client.list_all(path).await?;
    Ok(all.iter().map(|one| member(one, "id")).collect())
}

async fn create(client: &Client, path: &str, name: &str, spec: Value) -> Result<()> {
    let mut body = match spec {
        Value::Object(members) => members,
        _ => Map::new(),
    };
    body.insert("id".to_owned(), json!(name));
    client
        .write(Method::POST, path, Some(Value::Object(body)))
        .await?;
    Ok(())
}

/// The first organization or key that has a cap.
fn first_with_cap(document: &Value) -> Option<String> {
    let has = |row: &Value| row.get("cap").is_some_and(|cap| !cap.is_null());
    let org = members(document.get("orgs")).find(|(_, org)| has(org));
    let keys = document.get("keys").and_then(Value::as_array);
    let key = keys.into_iter().flatten().find(|key| has(key));
    org.map(|(name, _)| format!("the organization `{name}`"))
        .or_else(|| key.map(|key| format!("the key `{}`", member(key, "id"))))
}

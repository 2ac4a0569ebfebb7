//! `tollgate import`: from a directory that is a file to a control plane.

use std::path::PathBuf;

use anyhow::{Result, bail};
use axum::http::Method;
use clap::Args;
use serde_json::{Value, json};

use crate::client::Client;
use crate::directory::document;

/// Take over a directory document: its organizations, projects and keys. What exists already stays as it is.
#[derive(Args)]
pub(crate) struct Import {
    /// The document (YAML or JSON): `version`, `orgs` and `keys`.
    file: PathBuf,
}

/// Keys in one request.
const KEYS: usize = 5_000;

impl Import {
    pub(crate) async fn run(self, client: &Client) -> Result<()> {
        let mut document = document(&self.file)?;
        if let Some(place) = capped(&document) {
            bail!(
                "{place} has a cap, which ends nowhere in a file: take it out, and begin it with `tollgate cap`"
            );
        }
        let (mut orgs, mut projects) = (0, 0);
        for (name, org) in document
            .get("orgs")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            let mut spec = org.clone();
            let inner = spec.as_object_mut().and_then(|spec| spec.remove("projects"));
            orgs += i32::from(made(client, "/v1/orgs", name, spec).await?);
            let path = format!("/v1/orgs/{}/projects", crate::client::encoded(name));
            for (name, project) in inner.as_ref().and_then(Value::as_object).into_iter().flatten() {
                projects += i32::from(made(client, &path, name, project.clone()).await?);
            }
        }
        let keys = match document.get_mut("keys").map(Value::take) {
            Some(Value::Array(keys)) => keys,
            _ => Vec::new(),
        };
        for some in keys.chunks(KEYS) {
            client
                .change(Method::POST, "/v1/import", Some(json!({"keys": some})))
                .await?;
        }
        println!(
            "Took over {orgs} organizations, {projects} projects and {} keys.",
            keys.len()
        );
        Ok(())
    }
}

/// The first organization or key that has a cap.
fn capped(document: &Value) -> Option<String> {
    let has = |row: &Value| row.get("cap").is_some_and(|cap| !cap.is_null());
    let orgs = document.get("orgs").and_then(Value::as_object);
    let org = orgs.into_iter().flatten().find(|(_, org)| has(org));
    let keys = document.get("keys").and_then(Value::as_array);
    let key = keys.into_iter().flatten().find(|key| has(key));
    org.map(|(name, _)| format!("the organization `{name}`"))
        .or_else(|| key.map(|key| format!("the key `{}`", crate::show::member(key, "id"))))
}

/// Makes something unless it exists.
async fn made(client: &Client, path: &str, name: &str, spec: Value) -> Result<bool> {
    if client
        .get(&format!("{path}/{}", crate::client::encoded(name)))
        .await
        .is_ok()
    {
        return Ok(false);
    }
    let mut body = spec.as_object().cloned().unwrap_or_default();
    body.insert("id".to_owned(), json!(name));
    client
        .change(Method::POST, path, Some(Value::Object(body)))
        .await?;
    Ok(true)
}

//! Who there is: from the files, or from the control plane. Of all keys only those that are asked about are kept.
//!
//! A key is known by its hash alone, so that nobody but its holder can present it. Here a secret that was made for this takes
//! its place, in a copy that nothing else reads.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tollgate_core::budget::Budgets;
use tollgate_core::directory::Loader;
use tollgate_core::key::ApiKey;

use super::gateway::{Gateway, json, place};
use crate::client::{Client, GlobalOptions, encoded};
use crate::files::finding::Report;
use crate::files::scalar::Reader;
use crate::files::tree::Node;

/// The directory, as far as it is about some keys.
pub(super) struct Directory {
    /// The document with these keys alone.
    pub(super) document: Value,
    /// Of each key: its place in the whole document, its row, and its secret here.
    keys: BTreeMap<String, (usize, Value, ApiKey)>,
    /// The tree of the whole; `None` for the control plane's.
    root: Option<Rc<Node>>,
    /// What the control plane says beside it: of keys that are in no document, and of freezes.
    beside: Vec<Value>,
}

impl Directory {
    /// That of a gateway.
    pub(super) fn load(gateway: &Gateway, global: GlobalOptions, keys: &BTreeSet<&str>) -> Result<Self> {
        if let Some(inline) = gateway
            .key_auth
            .at(&["directory"])
            .and_then(|it| it.get("inline"))
        {
            return Self::restricted_to(json(inline, Reader::Envoy)?, Some(Rc::clone(inline)), keys);
        }
        if let Some(document) = gateway.documents.first() {
            return Self::restricted_to(json(document, Reader::Tool)?, Some(Rc::clone(document)), keys);
        }
        tokio::runtime::Runtime::new()?
            .block_on(Self::fetch(global, keys))
            .context("these files have the directory fetched: give it as a file beside them, or a control plane that has it (--server, --database)")
    }

    async fn fetch(global: GlobalOptions, keys: &BTreeSet<&str>) -> Result<Self> {
        let client = Client::open(global).await?;
        let whole = client.get("/v1/directory").await?;
        let mut directory = Self::restricted_to(whole, None, keys)?;
        directory.beside = client.list_all("/v1/freezes").await?;
        // One that is revoked is in no document.
        for key in keys.iter().filter(|key| !directory.keys.contains_key(**key)) {
            let found = client.get(&format!("/v1/keys/{}", encoded(key))).await;
            directory.beside.extend(found);
        }
        Ok(directory)
    }

    fn restricted_to(mut document: Value, root: Option<Rc<Node>>, wanted: &BTreeSet<&str>) -> Result<Self> {
        let all = document.get_mut("keys").map(Value::take);
        let Some(Value::Array(rows)) = all else {
            anyhow::bail!("the directory has no list of `keys`");
        };
        let mut keys = BTreeMap::new();
        for (at, mut row) in rows.into_iter().enumerate() {
            let id = row
                .get("id")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned();
            if wanted.contains(id.as_str()) {
                let secret = placeholder_key(keys.len() as u64 + 1);
                if let Some(hash) = row.get_mut("sha256") {
                    *hash = secret.sha256_hex().into();
                }
                keys.insert(id, (at, row, secret));
            }
        }
        let rows: Vec<&Value> = keys.values().map(|(_, row, _)| row).collect();
        let rows = json!(rows);
        if let Some(members) = document.as_object_mut() {
            members.insert("keys".to_owned(), rows);
        }
        Ok(Self {
            document,
            keys,
            root,
            beside: Vec::new(),
        })
    }

    /// The secret to present as a key; a stranger's for one that is not there.
    pub(super) fn secret(&self, key: &str) -> String {
        let known = self
            .keys
            .get(key)
            .map(|(_, _, secret)| secret.reveal().to_owned());
        known.unwrap_or_else(|| placeholder_key(0).reveal().to_owned())
    }

    /// A member of a key's row.
    pub(super) fn member(&self, key: &str, name: &str) -> Option<&Value> {
        self.keys.get(key).and_then(|(_, row, _)| row.get(name))
    }

    /// A value of the document, by the names that lead there.
    pub(super) fn value(&self, path: &[&str]) -> Option<&Value> {
        path.iter()
            .try_fold(&self.document, |value, name| value.get(name))
    }

    /// Its budgets; none where it can't be read, which is told elsewhere.
    pub(super) fn budgets(&self) -> Budgets {
        let document = Loader::load(self.document.to_string().into_bytes());
        document.map_or_else(|_| Budgets::default(), |document| document.budgets().clone())
    }

    /// The path of a member of a key's row.
    pub(super) fn key_path(&self, key: &str, member: &str) -> String {
        match self.keys.get(key) {
            Some((at, ..)) => format!("keys[{at}].{member}"),
            None => "keys".to_owned(),
        }
    }

    /// Where a path stands; in the control plane a key or an organization by its name there.
    pub(super) fn place(&self, path: &str, (key, org): (&str, &str), report: &Report) -> String {
        match &self.root {
            Some(root) => place(root, path, report),
            None if path.starts_with("traffic") => "control plane, tollgate status".to_owned(),
            None if path.starts_with("keys") => format!("control plane, key {key}"),
            None => format!("control plane, organization {org}"),
        }
    }

    /// By what a key, or its organization or project, is frozen, or that it was revoked; where the control plane knows.
    pub(super) fn frozen_or_revoked(&self, key: &str, org: &str, project: Option<&str>) -> Option<String> {
        let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        let about = |freeze: &&Value| {
            let target = freeze.get("target");
            let is = |kind: &str, name: &str| {
                target.and_then(|it| it.get(kind)).and_then(Value::as_str) == Some(name)
            };
            let project = project.map(|project| format!("{org}/{project}"));
            is("key", key) || is("org", org) || project.is_some_and(|project| is("project", &project))
        };
        if let Some(freeze) = self.beside.iter().find(about) {
            let id = text(freeze, "id").unwrap_or_default();
            let reason = text(freeze, "reason").unwrap_or_default();
            let until = text(freeze, "until").map_or(String::new(), |until| format!(", until {until}"));
            return Some(format!("frozen by {id}: {reason}{until}"));
        }
        let row = self
            .beside
            .iter()
            .find(|row| text(row, "id").as_deref() == Some(key))?;
        Some(match text(row, "revoked_at") {
            Some(at) => format!("revoked at {at}"),
            None => "the control plane has it, and gateways do not get it".to_owned(),
        })
    }
}

/// A secret that no key has: nobody draws these bytes.
fn placeholder_key(number: u64) -> ApiKey {
    let mut bytes = [0; 40];
    for (byte, from) in bytes.iter_mut().zip(number.to_be_bytes()) {
        *byte = from;
    }
    ApiKey::mint(&bytes)
}

//! Keys for a run: whose they are, what they may, and their rows in key-auth's file.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};
use tollgate_core::key::ApiKey;

use crate::directory::mint;
use crate::options::Options;

/// A key and its part in the play.
#[derive(Debug)]
pub struct Role {
    /// What the tour and the tests call it.
    pub name: &'static str,
    /// It.
    pub key: ApiKey,
    /// Its row's fields besides `id` and `sha256`; `None` for a key that is in no directory.
    fields: Option<Value>,
}

/// The keys of a run.
#[derive(Debug, Default)]
pub struct Cast(Vec<Role>);

impl Cast {
    /// A key of each kind that the contract names.
    pub fn all() -> Self {
        let mut cast = Self::default();
        let search = |more: Value| {
            let mut fields = json!({"org": "acme", "project": "search"});
            merge(&mut fields, more);
            fields
        };
        cast.add("good", search(json!({"name": "ci"})))
            .add("rotated", search(json!({"name": "ci, its successor"})))
            .add("leaver", search(json!({"name": "to be revoked"})))
            .add("expired", search(json!({"expires_at": "2020-01-01T00:00:00Z"})))
            .add("early", search(json!({"not_before": "2100-01-01T00:00:00Z"})))
            .add("revoked", search(json!({"status": "revoked"})))
            .add("frozen_key", search(json!({"status": "suspended"})))
            .add("frozen_project", json!({"org": "acme", "project": "archive"}))
            .add("frozen_org", json!({"org": "initech"}))
            .add("embeddings_only", search(json!({"scopes": ["embeddings"]})))
            .add("elsewhere", search(json!({"networks": ["192.0.2.0/24"]})))
            .add("home", search(json!({"networks": ["127.0.0.0/8"]})))
            .add("other_org", json!({"org": "globex"}));
        cast.0.push(Role {
            name: "unknown",
            key: mint(),
            fields: None,
        });
        cast
    }

    fn add(&mut self, name: &'static str, fields: Value) -> &mut Self {
        self.0.push(Role {
            name,
            key: mint(),
            fields: Some(fields),
        });
        self
    }

    /// The roles.
    pub fn roles(&self) -> &[Role] {
        &self.0
    }

    /// The key that plays `name`, in clear.
    ///
    /// # Panics
    /// Nobody does.
    pub fn key(&self, name: &str) -> &str {
        let role = self.0.iter().find(|role| role.name == name);
        role.unwrap_or_else(|| panic!("nobody plays {name}")).key.reveal()
    }

    /// The keys in clear, by their parts, for a program that plays them.
    pub fn json(&self) -> Value {
        self.0
            .iter()
            .map(|role| (role.name.to_owned(), json!(role.key.reveal())))
            .collect::<Map<_, _>>()
            .into()
    }

    /// Their rows in key-auth's file, a line each, and the frozen project that one of them belongs to.
    pub fn write(&self, options: Options) -> Options {
        let mut rows = String::from("keys:");
        for role in &self.0 {
            if let Some(fields) = &role.fields {
                let mut row = json!({"id": role.key.id(), "sha256": role.key.sha256_hex()});
                merge(&mut row, fields.clone());
                // JSON is YAML, too.
                write!(rows, "\n              - {row}").expect("a string can be written to");
            }
        }
        const PROJECTS: &str = "projects:\n                    search:";
        let archive =
            "projects:\n                    archive: {status: suspended}\n                    search:";
        let file = "filters/key-auth.yaml";
        options
            .edit(file, "keys: []", &rows)
            .edit(file, PROJECTS, archive)
    }
}

fn merge(fields: &mut Value, more: Value) {
    if let (Some(fields), Value::Object(more)) = (fields.as_object_mut(), more) {
        fields.extend(more);
    }
}

//! A directory document for a test, with keys minted for it.

use serde_json::{Map, Value, json};
use tollgate_core::key::ApiKey;

use crate::config;

/// A directory: organizations, projects, and the rows of the keys minted for them.
#[derive(Debug, Clone)]
pub struct Directory(Value);

impl Default for Directory {
    fn default() -> Self {
        Self::new()
    }
}

impl Directory {
    /// The organizations of the repository's own `envoy/filters/key-auth.yaml`: `acme` (pro, project `search`),
    /// `globex` (free), `initech` (suspended); no keys.
    pub fn new() -> Self {
        let filter = config::key_auth_configuration();
        let mut document = filter["directory"]["inline"].clone();
        document["keys"] = json!([]);
        Self(document)
    }

    /// No organization at all.
    pub fn empty() -> Self {
        Self(json!({"version": 1, "orgs": {}, "keys": []}))
    }

    /// One organization that may use every model, and a key of it.
    pub fn of_one(org: &str) -> (Self, ApiKey) {
        let mut directory = Self::empty();
        directory.org(org, json!({"tier": "pro", "models": ["*"]}));
        let key = directory.key(org);
        (directory, key)
    }

    /// Adds or replaces an organization.
    pub fn org(&mut self, name: &str, org: Value) -> &mut Self {
        self.0["orgs"][name] = org;
        self
    }

    /// Adds or replaces a project.
    pub fn project(&mut self, org: &str, name: &str, project: Value) -> &mut Self {
        self.0["orgs"][org]["projects"][name] = project;
        self
    }

    /// Mints a key for an organization.
    pub fn key(&mut self, org: &str) -> ApiKey {
        self.key_with(json!({"org": org}))
    }

    /// Mints a key for a project.
    pub fn project_key(&mut self, org: &str, project: &str) -> ApiKey {
        self.key_with(json!({"org": org, "project": project}))
    }

    /// Mints a key whose row has these fields: `json!({"org": "acme", "expires_at": "2020-01-01T00:00:00Z"})`.
    pub fn key_with(&mut self, fields: Value) -> ApiKey {
        let key = mint();
        self.row(&key, fields);
        key
    }

    /// Adds a row for a key that exists, or one that differs from it in `fields`' own `id` or `sha256`.
    pub fn row(&mut self, key: &ApiKey, fields: Value) -> &mut Self {
        let mut row = Map::from_iter([
            ("id".to_owned(), json!(key.id())),
            ("sha256".to_owned(), json!(key.sha256_hex())),
        ]);
        row.extend(fields.as_object().expect("a key's fields are a map").clone());
        self.keys().push(Value::Object(row));
        self
    }

    /// Changes the row of a key: `json!({"status": "frozen"})`.
    ///
    /// # Panics
    /// It has no row.
    pub fn change(&mut self, key: &ApiKey, fields: Value) -> &mut Self {
        let row = self
            .keys()
            .iter_mut()
            .find(|row| row["id"] == key.id())
            .expect("the key has a row");
        let row = row.as_object_mut().expect("a row is a map");
        row.extend(fields.as_object().expect("a key's fields are a map").clone());
        self
    }

    /// Removes the row of a key.
    pub fn revoke(&mut self, key: &ApiKey) -> &mut Self {
        self.keys().retain(|row| row["id"] != key.id());
        self
    }

    /// The document, as an HTTP source serves it and as `directory.inline` holds it.
    pub fn document(&self) -> Value {
        self.0.clone()
    }

    /// The document, to change it in ways this type has no word for.
    pub fn document_mut(&mut self) -> &mut Value {
        &mut self.0
    }

    /// As [`Self::inline`], with no limit that a test on failed authentications would meet: to the gateway all
    /// requests of a test come from one address, and the repository's own limit lets 30 of them fail.
    pub fn inline_without_limit(&self) -> Value {
        let mut filter = self.inline();
        filter["failed_auth"] = json!({"rate": "1000/second", "burst": 100_000});
        filter
    }

    /// The filter's whole configuration: the repository's own, with this directory inline.
    pub fn inline(&self) -> Value {
        let mut filter = config::key_auth_configuration();
        filter["directory"]["inline"] = self.document();
        filter
    }

    fn keys(&mut self) -> &mut Vec<Value> {
        self.0["keys"].as_array_mut().expect("keys are a list")
    }
}

/// Mints a key that no directory knows.
///
/// # Panics
/// The system has no randomness.
pub fn mint() -> ApiKey {
    let mut random = [0; 40];
    let filled = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
    assert_eq!(filled, Ok(random.len()), "randomness of the system");
    ApiKey::mint(&random)
}

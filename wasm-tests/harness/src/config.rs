//! The repository's own files: where they are, and what they say.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

/// Where the configuration of the filter lies within its file.
pub(crate) const CONFIGURATION: &str = "/resources/0/typed_config/config/configuration/value";

/// The root of the repository.
pub fn repository() -> PathBuf {
    // Two levels above this crate's manifest.
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .expect("the repository is where it was built")
}

/// The `configuration` of key-auth in the repository's `envoy/filters/key-auth.yaml`.
///
/// # Panics
/// The file is not what Envoy would take.
pub fn key_auth_configuration() -> Value {
    configuration("key-auth")
}

/// The `configuration` of tenant-router in the repository's `envoy/filters/tenant-router.yaml`.
///
/// # Panics
/// The file is not what Envoy would take.
pub fn router_configuration() -> Value {
    configuration("tenant-router")
}

fn configuration(filter: &str) -> Value {
    let path = repository().join(format!("envoy/filters/{filter}.yaml"));
    let resource = parse(&path).unwrap_or_else(|e| panic!("{e:#}"));
    resource
        .pointer(CONFIGURATION)
        .unwrap_or_else(|| panic!("{}: no {CONFIGURATION}", path.display()))
        .clone()
}

/// A file of YAML.
pub(crate) fn parse(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_saphyr::from_str(&text).with_context(|| path.display().to_string())
}

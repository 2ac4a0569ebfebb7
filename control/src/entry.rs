//! An entry of the trail, and how it hangs on the one before.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

use crate::documents::Kind;

/// One write.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Entry {
    /// Its place in the trail, from 1.
    pub seq: i64,
    /// When: milliseconds since 1970.
    pub time: i64,
    /// Which token, or `local` for a command on the server's machine, or `system`.
    pub actor: String,
    /// From where; empty where the caller is confined, and the platform did it.
    pub address: String,
    /// What was asked for, such as `key.create`.
    pub action: String,
    /// The organization whose part of the trail it is in; empty where only those who may verify the trail see it.
    pub org: String,
    /// Why, as the actor said it; absent where the caller is confined, and the platform did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What it changed.
    pub changes: Vec<Change>,
}

/// One object that was changed. No secret is in it: of keys and tokens there are hashes alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Change {
    /// What kind of object.
    pub kind: Kind,
    /// Which.
    pub id: String,
    /// As it was; `null` where it is new.
    pub before: Option<Value>,
    /// As it is; `null` where it was removed.
    pub after: Option<Value>,
}

/// The hash of an entry behind another's. The first one stands behind the database's name.
pub(crate) fn chained(previous: &str, entry: &str) -> String {
    let digest = Sha256::new()
        .chain_update(previous)
        .chain_update("\n")
        .chain_update(entry)
        .finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

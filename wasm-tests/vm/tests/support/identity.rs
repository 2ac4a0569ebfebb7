//! The filter state that key-auth leaves, made by key-auth itself.

use serde_json::{Value, json};
use tollgate_core::key::ApiKey;
use tollgate_vm::World;

use crate::support::{CHAT, worker};

/// The identity of a key with this id, of `org`: its name, and all that the directory says of it.
pub(crate) fn identity(id: &str, (name, org): (&str, Value)) -> Vec<u8> {
    let key = ApiKey::mint(&[7; 40]);
    let row = json!({"id": id, "sha256": key.sha256_hex(), "org": name});
    let directory = json!({"version": 1, "orgs": {name: org}, "keys": [row]});
    let filter = worker(
        &World::new(),
        "key-auth",
        json!({"directory": {"inline": directory}}),
    );
    let outcome = filter.post(CHAT).bearer(key.reveal()).send();
    outcome.filter_state("tollgate.identity").unwrap().to_vec()
}

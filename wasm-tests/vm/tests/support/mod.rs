//! What the stories of all filters share.

pub(crate) mod bad_config;
pub(crate) mod faults;

use serde_json::Value;
use tollgate_vm::{Plugin, World, module};

/// A path that every filter serves.
pub(crate) const CHAT: &str = "/v1/chat/completions";

/// A new worker's VM with the filter, which shares its data with the other workers'.
#[track_caller]
pub(crate) fn worker(world: &World, filter: &str, configuration: Value) -> Plugin {
    world
        .vm(&module(filter), &vm_id(filter))
        .configure(filter, configuration)
        .unwrap()
}

fn vm_id(filter: &str) -> String {
    format!("tollgate.{filter}")
}

/// Counters above zero whose names begin with `prefix`, by the rest of their names.
pub(crate) fn counted(world: &World, prefix: &str) -> Vec<(String, u64)> {
    let counters = world.counters().into_iter().filter(|(_, count)| *count > 0);
    counters
        .filter_map(|(name, count)| Some((name.strip_prefix(prefix)?.to_owned(), count)))
        .collect()
}

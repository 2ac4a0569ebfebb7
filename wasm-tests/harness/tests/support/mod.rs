//! What the tests on a running gateway share: connections of known workers, load on them, and its account.

#![allow(dead_code, reason = "each file of tests uses its own part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test support: a test that cannot go on fails by panicking"
)]

pub(crate) mod hostile;
pub(crate) mod lane;
pub(crate) mod load;

use serde_json::{Value, json};
use tollgate_harness::Gateway;

/// OpenAI's path in these tests.
pub(crate) const OPENAI: &str = "/v1/chat/completions";
/// Anthropic's.
pub(crate) const ANTHROPIC: &str = "/v1/messages";

/// A small request that either API takes.
pub(crate) fn chat() -> Value {
    json!({"model": "llama-70b", "max_tokens": 4, "messages": [{"role": "user", "content": "one two three"}]})
}

/// Asserts that no VM of the module was restarted.
pub(crate) async fn assert_no_vm_restarted(gateway: &Gateway) {
    let stats = gateway.stats().await;
    let restarted: Vec<_> = stats
        .iter()
        .filter(|(name, value)| name.contains("vm_reload") && *value > 0)
        .collect();
    assert!(restarted.is_empty(), "a VM was restarted: {restarted:?}");
}

/// As [`assert_no_vm_restarted`], and that Envoy's log tells of no failure in the module.
pub(crate) async fn assert_no_vm_broke(gateway: &Gateway) {
    assert_no_vm_restarted(gateway).await;
    let log = gateway.log();
    for sign in [
        "panicked",
        "unreachable",
        "Uncaught",
        "Function: proxy_on",
        "VM failed",
    ] {
        assert!(!log.contains(sign), "Envoy's log says `{sign}`:\n{log}");
    }
}

//! The limits that the SDKs meet: one of each kind, for each key, told apart by where a request is made.

use serde_json::{Value, json};

/// The filter's configuration.
pub(crate) fn of_each_kind() -> Value {
    let row = |name: &str, endpoint: &str, count: &str, rate: &str, burst: u32| {
        json!({
            "name": name, "per": ["key"], "when": {"endpoint": endpoint}, "count": count, "rate": rate,
            "burst": burst,
        })
    };
    json!({"limits": [
        row("chat-rpm", "chat", "requests", "20/minute", 1),
        row("completions-tpm", "completions", "tokens", "6000/minute", 200),
        row("embeddings-rpd", "embeddings", "requests", "1/day", 1),
        row("messages-rpm", "messages", "requests", "20/minute", 1),
        row("messages-tpm", "messages", "tokens", "100000/minute", 100_000),
    ]})
}

//! What the stories play on: one worker with everything on, as the bench has it.

use serde_json::{Value, json};
use tollgate_core::key::ApiKey;
use tollgate_vm::{Plugin, Request, Response, World, module};

pub(crate) const CHAT: &str = "/v1/chat/completions";

pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) filter: Plugin,
    key: ApiKey,
}

impl Stage {
    /// Eight limits in two groups, by key and by organization.
    pub(crate) fn new() -> Self {
        Self::with(|configuration| configuration)
    }

    /// With another configuration.
    pub(crate) fn with(change: impl FnOnce(Value) -> Value) -> Self {
        let key = ApiKey::mint(&[7; 40]);
        let world = World::new();
        let vm = world.vm(&module("gateway"), "tollgate");
        let filter = vm
            .configure("gateway", change(configuration(&key)))
            .unwrap()
            .allow_on_headers_stop_iteration();
        Self { world, filter, key }
    }

    /// A chat that is answered whole.
    pub(crate) fn chat(&self) -> Request {
        let body = json!({
            "model": "llama-70b",
            "messages": [{"role": "user", "content": "What changed in the deployment last night?\n".repeat(12)}],
            "max_tokens": 256, "stream": false,
        });
        self.known().json(&body).upstream(answer())
    }

    /// A chat of somebody whose key is known.
    pub(crate) fn known(&self) -> Request {
        self.filter.post(CHAT).bearer(self.key.reveal())
    }
}

fn answer() -> Response {
    Response::json(&json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1_790_000_000, "model": "llama-70b",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Nothing."}}],
        "usage": {"prompt_tokens": 130, "completion_tokens": 24, "total_tokens": 154},
    }))
}

fn configuration(key: &ApiKey) -> Value {
    let limits = |per: &str| {
        let row = |count: &str, what: &str, most: Value| json!({"name": format!("{per}-{count}").replace("_", "-"), "per": [per], "count": count, what: most});
        [
            row("requests", "rate", json!("4000000000/minute")),
            row("tokens", "rate", json!("4000000000/minute")),
            row("output_tokens", "rate", json!("4000000000/minute")),
            row("concurrent", "max", json!(1_000_000)),
        ]
    };
    let limits = [limits("key"), limits("org")].concat();
    json!({
        "key_auth": {"route_on_identity": false, "directory": {"inline": {
            "version": 1,
            "orgs": {"acme": {"tier": "pro", "models": ["llama-*"], "projects": {"search": {}}}},
            "keys": [{"id": key.id(), "sha256": key.sha256_hex(), "org": "acme", "project": "search"}],
        }}},
        "tenant_router": {"catalogue": {"models": {
            "llama-70b": {"endpoints": ["chat"], "targets": [{"cluster": "llama-70b"}]},
        }}},
        "rate_limit": {"limits": limits},
    })
}

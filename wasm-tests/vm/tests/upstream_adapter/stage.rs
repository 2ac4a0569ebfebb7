//! What the stories play on: two providers and one of our own, and requests as they reach the chain of a cluster.

use serde_json::{Value, json};
use tollgate_vm::{Chain, Module, Plugin, Request, World};

pub(crate) use crate::support::CHAT;
use crate::support::{counted, worker};

pub(crate) const VM_ID: &str = "tollgate.upstream-adapter";
/// Not a value that anything else has.
pub(crate) const SECRET_A: &str = "aaaa-secret-of-a";
pub(crate) const SECRET_B: &str = "bbbb-secret-of-b";
pub(crate) const CLIENTS: &str = "sk-tg-of-the-client";

pub(crate) fn configuration() -> Value {
    json!({"providers": {
        "local": {},
        "a": {
            "models": {"llama-*": "meta/*"}, "path_prefix": "/api", "authority": "a.example",
            "credential": {"secret": "A_KEY"}, "headers": {"x-title": "Tollgate"},
        },
        "b": {"models": {"llama-70b": "b70"}, "credential": {"secret": "B_KEY", "header": "x-api-key"}},
    }})
}

pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) filter: Plugin,
}

pub(crate) fn stage() -> Stage {
    let world = World::new();
    let filter = load(&world, configuration());
    Stage { world, filter }
}

pub(crate) fn load(world: &World, configuration: Value) -> Plugin {
    worker(world, "upstream-adapter", configuration).allow_on_headers_stop_iteration()
}

/// A chat as it comes from the router, with the secrets that Envoy adds, at an endpoint of `provider`.
pub(crate) fn asked(request: Request, provider: &str) -> Request {
    request
        .header("authorization", format!("Bearer {CLIENTS}"))
        .header("x-tollgate-org", "acme")
        .header("x-tollgate-model", "llama-70b")
        .header("x-tollgate-secret-a_key", SECRET_A)
        .header("x-tollgate-secret-b_key", SECRET_B)
        .property_tree(
            &["xds", "upstream_host_metadata", "filter_metadata", "tollgate"],
            json!({ "provider": provider }),
        )
}

pub(crate) fn body() -> Value {
    json!({"model": "alias", "messages": [{"role": "user", "content": "hello"}]})
}

impl Stage {
    pub(crate) fn chat(&self, provider: &str) -> Request {
        asked(self.filter.post(CHAT), provider).json(&body())
    }

    /// Attempts by provider and outcome, where there were any: `a.adapted`.
    pub(crate) fn attempts(&self) -> Vec<(String, u64)> {
        let attempts = counted(&self.world, "tollgate_adapter_attempts.provider.").into_iter();
        attempts
            .map(|(name, count)| (name.replace(".outcome.", "."), count))
            .collect()
    }
}

/// Two attempts of one request, one after the other, of which the first gives nothing back: the headers and the filter
/// state that it leaves are what the second finds, with the secrets put in anew, as Envoy does. Each has the provider
/// of its own configuration as `p`.
pub(crate) fn two_attempts(world: &World, first: &str, second: &str) -> Chain {
    let as_p = |name: &str| {
        load(
            world,
            json!({"providers": {"p": configuration()["providers"][name]}}),
        )
    };
    let secrets = world
        .vm(&Module::new("secrets", SECRETS), "secrets")
        .configure("secrets", json!({}))
        .unwrap();
    world.chain(&[&as_p(first), &secrets, &as_p(second)])
}

/// Sets both secrets' headers.
const SECRETS: &str = r#"(module
  (import "env" "proxy_replace_header_map_value" (func $set (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "x-tollgate-secret-a_keyx-tollgate-secret-b_keyaaaa-secret-of-abbbb-secret-of-b")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 1024))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (drop (call $set (i32.const 0) (i32.const 0) (i32.const 23) (i32.const 46) (i32.const 16)))
    (drop (call $set (i32.const 0) (i32.const 23) (i32.const 23) (i32.const 62) (i32.const 16)))
    (i32.const 0)))"#;

#[track_caller]
pub(crate) fn expect_no_secret_logged(world: &World) {
    for secret in [SECRET_A, SECRET_B, CLIENTS] {
        world.expect_never_logged(secret);
    }
}

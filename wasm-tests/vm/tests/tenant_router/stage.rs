//! What the stories play on: a catalogue, a caller, and workers that share what they see of the targets.

use std::time::Duration;

use serde_json::{Value, json};
use tollgate_core::route::Routed;
use tollgate_vm::{Outcome, Plugin, Request, World};

pub(crate) use crate::support::CHAT;
use crate::support::{counted, worker};

pub(crate) const VM_ID: &str = "tollgate.tenant-router";

/// A model with a spare target, one that is tried out, one that others stand in for, and one that takes forms.
pub(crate) fn configuration() -> Value {
    json!({
        "catalogue": {"models": {
            "llama-70b": {
                "aliases": ["llama-latest"], "endpoints": ["chat", "completions", "messages"],
                "context_window": 1_000, "max_output": 100, "owned_by": "meta",
                "targets": [{"cluster": "llama"}, {"cluster": "spare", "weight": 0}],
                "price": {"input": 0.6, "output": 2.4},
                "timeouts": {"first_byte": "10s", "whole": "2m"}, "retries": 2,
            },
            "gpt-oss-120b": {
                "endpoints": ["chat"], "targets": [{"cluster": "gpt-oss"}], "fallback": ["llama-70b"],
                "deprecated_at": "2026-01-01T00:00:00Z", "sunset_at": "2026-07-01T00:00:00Z",
            },
            "gpt-oss-same": {"endpoints": ["chat"], "targets": [{"cluster": "llama"}]},
            "llama-live": {
                "endpoints": ["chat"], "targets": [{"cluster": "llama"}],
                "timeouts": {"first_byte": "10s", "first_event": "5s", "idle": "20s"},
            },
            "llama-whisper": {"endpoints": ["transcriptions"], "targets": [{"cluster": "whisper"}]},
            "hidden": {"endpoints": ["chat"], "targets": [{"cluster": "hidden"}]},
        }},
        "breaker": {"failures": 2, "open": "5s", "longest": "1m"},
        "priorities": {"enterprise": "high"},
        "allow_fallback": {"tier": ["enterprise"]},
    })
}

/// Somebody of a tier, who may use all models but the hidden one.
pub(crate) fn caller(tier: &str) -> Vec<u8> {
    caller_of("acme", tier)
}

fn caller_of(name: &str, tier: &str) -> Vec<u8> {
    let org = json!({
        "tier": tier, "models": ["llama-*", "gpt-oss-*"],
        "projects": {"search": {"models": ["gpt-oss-*"]}},
    });
    crate::identity::identity("k1", (name, org))
}

pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) workers: [Plugin; 2],
    caller: Vec<u8>,
}

/// Two workers, and a caller of the tier `pro`.
pub(crate) fn stage() -> Stage {
    Stage::of("pro")
}

/// Loads the filter on a new worker.
pub(crate) fn load(world: &World, configuration: Value) -> Plugin {
    worker(world, "tenant-router", configuration).allow_on_headers_stop_iteration()
}

impl Stage {
    /// With a caller of another tier.
    pub(crate) fn of(tier: &str) -> Self {
        let world = World::new();
        let workers = [0, 1].map(|_| load(&world, configuration()));
        let caller = caller(tier);
        Self {
            world,
            workers,
            caller,
        }
    }

    /// The same workers, with a caller of another organization.
    pub(crate) fn other(&self, org: &str) -> Self {
        Self {
            world: self.world.clone(),
            workers: self.workers.clone(),
            caller: caller_of(org, "pro"),
        }
    }

    /// A request with an identity, on the first worker.
    pub(crate) fn post(&self, path: &str) -> Request {
        self.known(self.workers[0].post(path))
    }

    /// The same without a body.
    pub(crate) fn get(&self, path: &str) -> Request {
        self.known(self.workers[0].get(path))
    }

    /// `request` with the caller's identity.
    pub(crate) fn known(&self, request: Request) -> Request {
        request.property(&["tollgate.identity"], &self.caller)
    }

    /// A chat with `model` on the first worker.
    pub(crate) fn chat(&self, model: &str) -> Request {
        self.chat_on(0, model)
    }

    /// The same on any worker.
    pub(crate) fn chat_on(&self, worker: usize, model: &str) -> Request {
        self.known(self.workers[worker].post(CHAT)).json(&chat(model))
    }

    pub(crate) fn pass(&self, millis: u64) {
        self.world.advance(Duration::from_millis(millis));
    }

    /// Requests by decision and reason, where there were any: `allow.routed`.
    pub(crate) fn decisions(&self) -> Vec<(String, u64)> {
        let decisions = counted(&self.world, "tollgate_router_requests.decision.").into_iter();
        decisions
            .map(|(name, count)| (name.replace(".reason.", "."), count))
            .collect()
    }
}

pub(crate) fn chat(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "hello"}]})
}

/// What the filters behind learn.
#[track_caller]
pub(crate) fn routed(outcome: &Outcome) -> Routed<'_> {
    Routed::decode(outcome.filter_state("tollgate.request").unwrap()).unwrap()
}

/// The target a forwarded request goes to.
#[track_caller]
pub(crate) fn target(outcome: &Outcome) -> String {
    outcome
        .expect_forwarded()
        .headers()
        .text("x-tollgate-target")
        .unwrap()
}

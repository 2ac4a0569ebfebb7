//! What the stories play on: keys, a directory, one gateway with it, and a fleet that fetches it.

use std::time::Duration;

use serde_json::{Map, Value, json};
use tollgate_core::key::{ApiKey, KeyHash};
use tollgate_vm::{HttpCall, Outcome, Plugin, Request, World, module};

pub(crate) use crate::support::CHAT;
use crate::support::counted;

/// What the two roles of the module share their data by.
pub(crate) const VM_ID: &str = "tollgate.key-auth";

/// The `n`th key; the same each time.
pub(crate) fn key(n: u64) -> ApiKey {
    let mut random = [0; 40];
    random[..8].copy_from_slice(&n.to_be_bytes());
    // Every byte of the secret differs from key to key, as in a minted one.
    for (at, byte) in (0_u64..).zip(&mut random[8..]) {
        *byte = (n + 1)
            .wrapping_mul(at + 7)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .to_be_bytes()[0];
    }
    ApiKey::mint(&random)
}

/// The row of a key of `acme`, with more members or others.
pub(crate) fn row(key: &ApiKey, more: Value) -> Value {
    let row = json!({"id": key.id(), "sha256": key.sha256_hex(), "org": "acme"});
    merged(row, more)
}

/// The row of another system's key.
pub(crate) fn imported(id: &str, key: &str) -> Value {
    json!({"id": id, "sha256": KeyHash::of(key.as_bytes()).to_string(), "org": "acme"})
}

/// Three organizations, and these keys.
pub(crate) fn directory(keys: impl IntoIterator<Item = Value>) -> Value {
    let keys: Vec<Value> = keys.into_iter().collect();
    json!({
        "version": 1,
        "orgs": {
            "acme": {
                "tier": "pro", "models": ["llama-*", "gpt-oss-120b"],
                "labels": {"region": "eu", "cost_center": "1"},
                "projects": {
                    "search": {"models": ["llama-*"], "labels": {"cost_center": "42"}},
                    "frozen": {"status": "suspended"},
                },
            },
            "globex": {"models": ["llama-*"]},
            "initech": {"tier": "free", "status": "suspended", "projects": {"tps": {}}},
        },
        "keys": keys,
    })
}

/// `document` with `value` at `path`, whose parts are joined by dots.
pub(crate) fn with(mut document: Value, path: &str, value: Value) -> Value {
    let (parents, name) = path.rsplit_once('.').unwrap_or(("", path));
    let mut at = &mut document;
    for part in parents.split('.').filter(|part| !part.is_empty()) {
        at = &mut at[part];
    }
    at[name] = value;
    document
}

fn merged(mut row: Value, more: Value) -> Value {
    let more: Map<String, Value> = more.as_object().cloned().unwrap();
    row.as_object_mut().unwrap().extend(more);
    row
}

/// The filter's configuration with a directory of its own.
pub(crate) fn inline(document: &Value) -> Value {
    json!({"directory": {"inline": document}})
}

/// One worker with a directory of its own.
pub(crate) struct Gateway {
    pub(crate) world: World,
    pub(crate) filter: Plugin,
}

/// A gateway whose directory has these keys.
pub(crate) fn gateway(keys: impl IntoIterator<Item = Value>) -> Gateway {
    Gateway::of(inline(&directory(keys)))
}

impl Gateway {
    pub(crate) fn of(configuration: Value) -> Self {
        Self::at("2026-01-01T00:00:00Z", configuration)
    }

    pub(crate) fn at(time: &str, configuration: Value) -> Self {
        let world = World::new().at(time);
        let filter = worker(&world, configuration);
        Self { world, filter }
    }

    /// A chat request.
    pub(crate) fn chat(&self) -> Request {
        self.filter.post(CHAT)
    }
}

/// A new worker's VM with the filter.
pub(crate) fn worker(world: &World, configuration: Value) -> Plugin {
    crate::support::worker(world, "key-auth", configuration)
}

/// The fetcher on the main thread, and two workers that live on what it fetches.
pub(crate) struct Fleet {
    pub(crate) world: World,
    pub(crate) fetcher: Plugin,
    pub(crate) workers: [Plugin; 2],
}

/// A fleet that asks every five seconds and denies after ten minutes; nothing is fetched yet.
pub(crate) fn fleet() -> Fleet {
    Fleet::of(json!({"max_stale": "10m", "on_stale": "deny"}))
}

impl Fleet {
    pub(crate) fn of(http: Value) -> Self {
        Self::with(json!({"directory": {"http": http}}))
    }

    pub(crate) fn with(configuration: Value) -> Self {
        let world = World::new();
        let workers = [0, 1].map(|_| worker(&world, configuration.clone()));
        let fetcher = fetcher(&world);
        Self {
            world,
            fetcher,
            workers,
        }
    }

    /// A fleet that has taken over `document`.
    pub(crate) fn loaded(document: &Value) -> Self {
        let fleet = fleet();
        fleet.take_over(document, "\"1\"");
        fleet
    }

    /// Lets time pass until the fetcher asks for the document.
    #[track_caller]
    pub(crate) fn asked(&self) -> HttpCall {
        for _ in 0..800 {
            if let Some(call) = self.fetcher.calls().pop() {
                return call;
            }
            self.pass(50);
        }
        panic!("the fetcher does not ask: {:?}", self.world.log());
    }

    /// Answers the next question with `document`, and gives everyone a second to see it.
    #[track_caller]
    pub(crate) fn take_over(&self, document: &Value, etag: &str) {
        self.serve(document.to_string(), etag);
    }

    /// The same with any text.
    #[track_caller]
    pub(crate) fn serve(&self, document: impl AsRef<[u8]>, etag: &str) {
        self.asked().answer(200, &[("etag", etag)], document);
        self.pass(1_000);
    }

    pub(crate) fn pass(&self, millis: u64) {
        self.world.run_for(Duration::from_millis(millis));
    }

    /// Both workers admit `key`.
    #[track_caller]
    pub(crate) fn admits(&self, key: &ApiKey) {
        for outcome in self.chats(key) {
            outcome.expect_forwarded();
        }
    }

    /// Both workers answer `key` with this status and these details for operators.
    #[track_caller]
    pub(crate) fn refuses(&self, key: &ApiKey, status: u16, details: &str) {
        for outcome in self.chats(key) {
            outcome.expect_refused(status).details(details);
        }
    }

    fn chats(&self, key: &ApiKey) -> [Outcome; 2] {
        self.workers
            .each_ref()
            .map(|worker| worker.post(CHAT).bearer(key.reveal()).send())
    }

    /// How many lines of the log have `text`.
    pub(crate) fn said(&self, text: &str) -> usize {
        self.world
            .log()
            .iter()
            .filter(|line| line.text.contains(text))
            .count()
    }

    /// How often a fetch ended so: `ok`, `unchanged`, `failed` or `rejected`.
    pub(crate) fn fetches(&self, result: &str) -> u64 {
        self.world
            .counter(&format!("tollgate_directory_fetches.result.{result}"))
    }
}

/// A new VM with the fetcher.
pub(crate) fn fetcher(world: &World) -> Plugin {
    fetcher_with(world, json!({}))
}

/// The same with more in its configuration.
pub(crate) fn fetcher_with(world: &World, more: Value) -> Plugin {
    let mut configuration = json!({
        "cluster": "directory", "authority": "directory.test", "path": "/directory.json",
        "refresh": "5s", "timeout": "30s",
    });
    for (name, value) in more.as_object().unwrap() {
        configuration[name] = value.clone();
    }
    world
        .vm(&module("key-auth"), VM_ID)
        .configure("directory", configuration)
        .unwrap()
}

/// Requests counted by decision and reason, where there were any: `allow.api_key`, `deny.revoked`.
pub(crate) fn decisions(world: &World) -> Vec<(String, u64)> {
    let decisions = counted(world, "tollgate_key_auth_requests.decision.").into_iter();
    decisions
        .map(|(name, count)| (name.replace(".reason.", "."), count))
        .collect()
}

/// Nothing of the key but what is public was logged.
#[track_caller]
pub(crate) fn expect_secret(world: &World, key: &ApiKey) {
    world.expect_never_logged(secret(key));
}

/// The part of a key that is not public, without its checksum.
pub(crate) fn secret(key: &ApiKey) -> &str {
    let (_, secret) = key.reveal().rsplit_once('-').unwrap();
    &secret[..43]
}

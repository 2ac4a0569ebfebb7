//! What the stories play on: workers that share their limits, and requests as they come from the router.

use serde_json::{Value, json};
use tollgate_core::body::{ask_usage, read_json};
use tollgate_core::endpoint::Endpoint;
use tollgate_core::price::Price;
use tollgate_core::route::Routed;
use tollgate_vm::{Outcome, Plugin, Request, Response, World};

pub(crate) use crate::support::CHAT;
use crate::support::worker;

pub(crate) const VM_ID: &str = "tollgate.rate-limit";

/// What a model server's account of a request is: tokens of input and output.
pub(crate) type Tokens = (u64, u64);

pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) workers: [Plugin; 3],
    pub(crate) who: Vec<u8>,
}

/// The caller: key `k1` of the organization `acme`.
pub(crate) fn caller(org: &str) -> Vec<u8> {
    crate::identity::identity("k1", (org, json!({"tier": "pro", "models": ["*"]})))
}

/// Three workers with these limits.
pub(crate) fn stage(limits: Value) -> Stage {
    Stage::of(json!({"limits": limits}))
}

/// A limit of output tokens by key, all of them at once.
pub(crate) fn output(rate: &str) -> Value {
    json!({"name": "key-output", "per": ["key"], "count": "output_tokens", "rate": rate})
}

/// So many requests of a key at once.
pub(crate) fn places(most: u32) -> Value {
    json!({"name": "key-places", "per": ["key"], "count": "concurrent", "max": most})
}

/// Loads the filter on a new worker.
pub(crate) fn load(world: &World, configuration: Value) -> Plugin {
    worker(world, "rate-limit", configuration)
}

impl Stage {
    pub(crate) fn of(configuration: Value) -> Self {
        let world = World::new();
        let workers = [0, 1, 2].map(|_| load(&world, configuration.clone()));
        let who = caller("acme");
        Self { world, workers, who }
    }

    /// A chat on `worker` that may write so many tokens.
    pub(crate) fn chat(&self, worker: usize, max_output: u64) -> Request {
        self.chat_on(&self.workers[worker], max_output)
    }

    /// The same on any filter.
    pub(crate) fn chat_on(&self, filter: &Plugin, max_output: u64) -> Request {
        self.asked(filter.post(CHAT), &chat(), max_output)
    }

    /// A stream whose client does not ask for its usage.
    pub(crate) fn streamed(&self, worker: usize) -> Request {
        self.asked(self.workers[worker].post(CHAT), &stream_without_usage(), 50)
    }

    /// `body` at an endpoint as it comes from the router.
    pub(crate) fn asked(&self, request: Request, body: &Value, max_output: u64) -> Request {
        request
            .property(&["tollgate.identity"], &self.who)
            .property(&["tollgate.request"], routed(body, max_output))
            .json(body)
    }
}

pub(crate) fn chat() -> Value {
    json!({"model": "llama-70b", "messages": [{"role": "user", "content": "hello"}]})
}

pub(crate) fn stream_without_usage() -> Value {
    let mut body = chat();
    body["stream"] = json!(true);
    body
}

/// What the router says of a chat with this body.
pub(crate) fn routed(body: &Value, max_output: u64) -> Vec<u8> {
    let text = body.to_string();
    let read = read_json(Endpoint::Chat, text.as_bytes()).unwrap();
    let routed = Routed {
        endpoint: Endpoint::Chat,
        model: "llama-70b".into(),
        target: "llama".into(),
        stream: read.stream,
        input: read.input,
        max_output: Some(max_output),
        answers: 1,
        background: false,
        price: Some(Price {
            input: 1_000_000,
            cached_input: 1_000_000,
            output: 2_000_000,
            ..Price::default()
        }),
        ask_usage: ask_usage(Endpoint::Chat, text.as_bytes(), &read),
        whole_at: 0,
        repeats: true,
        context_window: None,
        plain: false,
    };
    routed.encode()
}

/// A whole answer of so many tokens.
pub(crate) fn answer((input, output): Tokens) -> Response {
    Response::json(&json!({
        "choices": [{"message": {"content": "hi"}}],
        "usage": {"prompt_tokens": input, "completion_tokens": output},
    }))
}

pub(crate) const DELTA: &str = r#"data: {"choices":[{"delta":{"content":"hi"}}]}"#;

/// The event that only says the usage.
pub(crate) fn usage_event((input, output): Tokens) -> String {
    let usage = json!({"prompt_tokens": input, "completion_tokens": output});
    format!("data: {}", json!({"choices": [], "usage": usage}))
}

/// The record that the request left; the access log puts the same ahead of it each time.
#[track_caller]
pub(crate) fn record(outcome: &Outcome) -> Value {
    let members = outcome.filter_state("tollgate.usage").unwrap_or_default();
    let line = format!("{{\"v\":1{}}}", String::from_utf8_lossy(members));
    serde_json::from_str(&line).unwrap()
}

/// How it ended, and what it used.
#[track_caller]
pub(crate) fn ended(outcome: &Outcome) -> (String, Tokens) {
    let record = record(outcome);
    let number = |name: &str| record[name].as_u64().unwrap();
    (
        record["outcome"].as_str().unwrap().to_owned(),
        (number("input_tokens"), number("output_tokens")),
    )
}

//! Whatever Envoy refuses, and whenever: nobody gets in who must not, no request goes on that is not what the filter made of
//! it, and nothing is left of a request behind its end.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails by panicking")]

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tollgate_core::key::ApiKey;
use tollgate_harness::{Directory, config};
use tollgate_native_host::{Config, Sent, Status, Stream, calls, fail, failing, logged};

/// Bodies come in two pieces.
const BODY: &str =
    r#"{"model": "llama-70b", "max_tokens": 5, "messages": [{"role": "user", "content": "Say hello"}]}"#;
const ANSWER: &str = r#"{"id": "1", "object": "chat.completion", "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}"#;

/// Headers and body.
type Forwarded = (Vec<(String, String)>, Vec<u8>);

/// What became of a request.
#[derive(Debug)]
struct Outcome {
    /// With what it went on.
    forwarded: Option<Forwarded>,
    sent: Option<Sent>,
    record: Option<String>,
}

fn gateway(directory: &Directory, limits: &Value) -> Config {
    let configuration = json!({
        "key_auth": directory.inline(),
        "tenant_router": config::router_configuration(),
        "rate_limit": limits,
    });
    Config::new("gateway", &configuration.to_string()).unwrap()
}

fn chat(config: &Config, key: &str) -> Outcome {
    let mut stream = Stream::new(config);
    let authorization = format!("Bearer {key}");
    let headers = [
        (":method", "POST"),
        (":path", "/v1/chat/completions"),
        (":authority", "x"),
        ("content-type", "application/json"),
        ("authorization", authorization.as_str()),
        ("x-request-id", "8f7c"),
        ("x-tollgate-org", "evil"),
    ];
    let mut status = stream.request_headers(&headers, false);
    let (first, second) = BODY.as_bytes().split_at(30);
    for (piece, end) in [(first, false), (second, true)] {
        if stream.filter().sent.is_none() && status != Status::Over {
            status = stream.request_body(piece, end);
        }
    }
    let mut forwarded = None;
    if stream.filter().sent.is_none() && status == Status::Continue {
        let body = stream.passed().unwrap().to_vec();
        forwarded = Some((stream.filter().request.clone(), body));
        let answer = [(":status", "200"), ("content-type", "application/json")];
        stream.response_headers(&answer, false);
        let (first, second) = ANSWER.as_bytes().split_at(50);
        stream.response_body(first, false);
        stream.response_body(second, true);
    }
    stream.complete();
    let filter = stream.filter();
    Outcome {
        forwarded,
        sent: filter.sent.clone(),
        record: filter
            .state
            .get("wasm.tollgate.usage")
            .map(|record| String::from_utf8(record.clone()).unwrap()),
    }
}

fn value<'h>(headers: &'h [(String, String)], name: &str) -> Vec<&'h str> {
    let named = headers.iter().filter(|(one, _)| one == name);
    named.map(|(_, value)| value.as_str()).collect()
}

/// What goes on is whose it is, goes where it was routed, and without what it came with.
fn assert_forwarded(what: &str, (headers, body): &Forwarded) {
    assert_eq!(value(headers, "x-tollgate-org"), ["acme"], "{what}");
    assert_eq!(value(headers, "x-tollgate-model"), ["llama-70b"], "{what}");
    assert_eq!(value(headers, "x-tollgate-target"), ["llama"], "{what}");
    assert_eq!(value(headers, "authorization"), [""; 0], "{what}");
    assert_eq!(body, BODY.as_bytes(), "{what}");
}

fn acme() -> (Directory, ApiKey) {
    let mut directory = Directory::new();
    let key = directory.project_key("acme", "search");
    (directory, key)
}

#[test]
fn a_request_goes_through() {
    let (directory, key) = acme();
    let config = gateway(&directory, &json!({"limits": []}));
    let outcome = chat(&config, key.reveal());
    assert_forwarded("", outcome.forwarded.as_ref().unwrap());
    let record = outcome.record.unwrap();
    assert!(
        record.contains(r#""input_tokens":3,"output_tokens":2"#),
        "{record}"
    );
    let refused = chat(&config, "sk-tg-nobody");
    assert_eq!(
        (refused.sent.unwrap().status, refused.forwarded.is_some()),
        (401, false)
    );
}

#[test]
fn each_call_may_fail_at_each_time() {
    let (directory, key) = acme();
    // One place: what is not given back keeps the next one out.
    let limits = json!({"limits": [
        {"name": "one", "per": ["key"], "count": "concurrent", "max": 1},
        {"name": "tokens", "per": ["key"], "count": "tokens", "rate": "100000/second"},
    ]});
    let config = gateway(&directory, &limits);
    assert!(chat(&config, key.reveal()).forwarded.is_some());
    fail(None);
    assert!(chat(&config, key.reveal()).forwarded.is_some());
    let all = calls();
    let mut failed = BTreeSet::new();
    for (at, name) in all.iter().enumerate() {
        let what = format!("call {at}, {name}");
        fail(Some(at));
        let outcome = chat(&config, key.reveal());
        failed.extend(failing());
        fail(None);
        if let Some(forwarded) = &outcome.forwarded {
            assert_forwarded(&what, forwarded);
        } else if let Some(sent) = &outcome.sent {
            assert!(sent.status >= 400, "{what}: {sent:?}");
        }
        fail(Some(at));
        let stranger = chat(&config, "sk-tg-nobody");
        assert!(stranger.forwarded.is_none(), "{what}: {stranger:?}");
        fail(None);
        // Nothing is left of it.
        let next = chat(&config, key.reveal());
        assert!(next.forwarded.is_some(), "behind {what}: {next:?}");
        assert!(next.record.is_some(), "behind {what}: {next:?}");
    }
    assert!(all.len() > 50 && failed.len() > 12, "{all:?}, {failed:?}");
    let log = logged();
    assert!(!log.iter().any(|line| line.contains("a panic at")), "{log:#?}");
    assert!(!log.iter().any(|line| line.contains(key.reveal())), "{log:#?}");
}

/// A mistake in a configuration is said, and the filter is not there.
#[test]
fn a_wrong_configuration_is_refused() {
    assert!(Config::new("gateway", r#"{"key_auth": 7}"#).is_none());
    assert!(Config::new("nothing", "{}").is_none());
    let log = logged().join("\n");
    assert!(log.contains("gateway: configuration refused: "), "{log}");
    assert!(
        log.contains("tollgate: no `nothing` here, expected one of `gateway`, "),
        "{log}"
    );
}

/// Two workers, each with requests of its own, share one limit exactly.
#[test]
fn workers_share_a_limit_exactly() {
    const BURST: usize = 300;
    let (directory, key) = acme();
    let limits = json!({"limits": [
        {"name": "few", "per": ["org"], "rate": "300/day", "burst": BURST},
    ]});
    let config = &gateway(&directory, &limits);
    let key = key.reveal();
    let worker = || {
        (0..BURST)
            .filter(|_| chat(config, key).forwarded.is_some())
            .count()
    };
    let passed = std::thread::scope(|scope| {
        let workers = [scope.spawn(worker), scope.spawn(worker), scope.spawn(worker)];
        workers.map(|worker| worker.join().unwrap()).iter().sum::<usize>()
    });
    assert_eq!(passed, BURST);
    config.ring();
}

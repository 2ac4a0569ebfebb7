//! Each attempt is the provider's own, whatever the one before was.

use serde_json::{Value, json};
use tollgate_harness::models::{Fault, ModelServer, Seen};

use crate::stage::{Stage, first_secret, prefixed, second_secret};

const CHAT: &str = "/v1/chat/completions";

fn chat() -> Value {
    json!({"messages": [{"role": "user", "content": "one two three"}], "model": "llama-70b"})
}

pub(crate) fn expect_first(seen: &Seen, path: &str) {
    assert_eq!(
        (seen.path.as_str(), seen.header("host")),
        (path, Some("one.example"))
    );
    assert_eq!(
        seen.header("authorization"),
        Some(format!("Bearer {}", first_secret()).as_str())
    );
    assert_eq!(
        (model(seen).as_str(), seen.header("x-one")),
        ("first/70b", Some("1"))
    );
    expect_only(seen, &first_secret(), &second_secret());
}

/// As the body has it: a stand-in reads only what comes to its own paths.
pub(crate) fn model(seen: &Seen) -> String {
    let body: Value = serde_json::from_slice(&seen.body).unwrap();
    body["model"].as_str().unwrap().to_owned()
}

pub(crate) fn expect_second(seen: &Seen) {
    assert_eq!((seen.path.as_str(), seen.header("x-one")), (CHAT, None));
    assert_eq!(seen.header("x-api-key"), Some(second_secret().as_str()));
    assert_eq!(
        (model(seen).as_str(), seen.header("authorization")),
        ("the second's name of llama-70b", None)
    );
    assert_ne!(seen.header("host"), Some("one.example"));
    expect_only(seen, &second_secret(), &first_secret());
}

/// Its own secret once, the other's not at all, and nothing of the client or of who it is.
fn expect_only(seen: &Seen, own: &str, other: &str) {
    let with = |text: &str| {
        seen.headers
            .iter()
            .filter(|(_, value)| value.contains(text))
            .count()
    };
    assert_eq!(
        (with(own), with(other), with("sk-tg-"), with("acme")),
        (1, 0, 0, 0),
        "{:?}",
        seen.headers
    );
    let ours = |name: &str| {
        name.starts_with("x-tollgate-") || name.starts_with("x-envoy-") || name == "x-forwarded-for"
    };
    assert!(
        !seen.headers.iter().any(|(name, _)| ours(name)),
        "{:?}",
        seen.headers
    );
    assert_eq!(
        seen.header("content-length"),
        Some(seen.body.len().to_string().as_str())
    );
    assert_eq!(seen.header("transfer-encoding"), None);
}

#[tokio::test]
async fn the_second_attempt_is_the_second_providers() {
    let stage = Stage::with(&prefixed("/one"), |options| options).await;
    stage.first.set_fault(Fault::status(503));
    for _ in 0..10 {
        let reply = stage.post(CHAT).json(chat()).send().await;
        reply.expect(200).has("openai-organization", "acme");
    }
    let (first, second) = (stage.first.seen(), stage.second.seen());
    first
        .iter()
        .for_each(|seen| expect_first(seen, "/one/v1/chat/completions"));
    second.iter().for_each(expect_second);
    assert_eq!((first.len(), second.len()), (10, 10));
    stage.expect_no_secret_shown().await;
}

/// Back and forth: the third attempt is the first provider's again, and just as the first was.
#[tokio::test]
async fn every_further_attempt_begins_anew() {
    let stage = Stage::with(&prefixed("/one"), |options| {
        options.edit("routes.yaml", "num_retries: 1\n", "num_retries: 4\n")
    })
    .await;
    stage.first.set_fault(Fault::status(503));
    stage.second.set_fault(Fault::status(503));
    stage.post(CHAT).json(chat()).send().await.expect(503);
    let (first, second) = (stage.first.seen(), stage.second.seen());
    assert_eq!((first.len(), second.len()), (3, 2));
    first
        .iter()
        .for_each(|seen| expect_first(seen, "/one/v1/chat/completions"));
    second.iter().for_each(expect_second);
}

#[tokio::test]
async fn a_provider_that_is_not_there_leaves_no_trace() {
    let mut gone = Stage::with(&prefixed("/one"), |options| options).await;
    // Its port refuses from here on.
    let placeholder = ModelServer::start().await.unwrap();
    drop(std::mem::replace(&mut gone.first, placeholder));
    for _ in 0..3 {
        gone.post(CHAT)
            .json(chat())
            .send()
            .await
            .expect(200)
            .has("openai-organization", "acme");
    }
    let seen = gone.second.seen();
    assert_eq!(seen.len(), 3);
    seen.iter().for_each(expect_second);
}

/// The answers that Envoy makes itself go by the client's path, not by a provider's.
#[tokio::test]
async fn a_failure_is_answered_in_the_shape_of_the_path_that_was_asked() {
    let stage = Stage::with(&prefixed("/one"), |options| {
        options.edit("routes.yaml", "num_retries: 1\n", "num_retries: 0\n")
    })
    .await;
    stage.first.set_fault(Fault::parse("close").unwrap());
    let messages =
        json!({"model": "llama-70b", "max_tokens": 4, "messages": [{"role": "user", "content": "a"}]});
    let reply = stage.post("/v1/messages").json(messages).send().await;
    let reply = reply.expect(502).anthropic("api_error");
    let record = stage.gateway.access_log().of(reply.request_id().unwrap()).await;
    assert_eq!(record.path.as_deref(), Some("/v1/messages"));
    assert_eq!(
        (record.org.as_deref(), record.project.as_deref()),
        (Some("acme"), Some("search"))
    );
}

#[tokio::test]
async fn a_good_first_attempt_is_all() {
    let stage = Stage::start().await;
    for _ in 0..20 {
        let reply = stage.post(CHAT).json(chat()).send().await;
        reply.expect(200).has("openai-organization", "acme");
    }
    stage
        .first
        .seen()
        .iter()
        .for_each(|seen| expect_first(seen, CHAT));
    assert_eq!((stage.first.seen().len(), stage.second.seen().len()), (20, 0));
    let stats = stage.gateway.stats().await;
    let adapted = "wasmcustom.tollgate_adapter_attempts.provider.local.outcome.adapted";
    assert_eq!(stats.counter(adapted), 20);
}

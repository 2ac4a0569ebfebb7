//! Clients that want more than their limits allow: what they say, leave out or break off is counted all the same.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails by panicking"
)]

use std::time::Duration;

use serde_json::{Value, json};
use tollgate_core::key::ApiKey;
use tollgate_harness::client::Request;
use tollgate_harness::models::{FAULT_HEADER, ModelServer};
use tollgate_harness::{Client, Directory, Gateway, Options, Reply};

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

struct Stage {
    gateway: Gateway,
    model: ModelServer,
    client: Client,
    key: ApiKey,
}

/// A gateway with one limit for each key: so much an hour, which is too slow to matter here.
async fn stage(count: &str, amount: u64) -> Stage {
    let limit = json!({"name": "key", "per": ["key"], "count": count, "rate": format!("{amount}/hour")});
    with(limit).await
}

async fn with(limit: Value) -> Stage {
    let model = ModelServer::start().await.unwrap();
    let mut directory = Directory::new();
    let key = directory.key("acme");
    let gateway = Options::new()
        .directory(&directory)
        .llama(model.addr())
        .unbroken()
        .limits(json!({"limits": [limit]}))
        .start()
        .await;
    Stage {
        client: gateway.client(),
        gateway,
        model,
        key,
    }
}

impl Stage {
    /// A small request with these members more.
    fn ask(&self, path: &str, more: Value) -> Request {
        let mut body = json!({"model": "llama-70b"});
        match path {
            CHAT => body["messages"] = json!([{"role": "user", "content": "x"}]),
            _ => body["prompt"] = json!("x"),
        }
        let members = body.as_object_mut().unwrap();
        members.extend(more.as_object().unwrap().clone());
        self.client.post(path).key(&self.key).json(body)
    }

    /// What was reserved for a request, by its record.
    async fn reserved(&self, reply: &Reply) -> u64 {
        let record = self.gateway.record_of(reply).await;
        record.reserved_tokens.unwrap()
    }
}

#[tokio::test]
async fn a_cap_counts_only_where_a_model_server_keeps_to_it() {
    let stage = stage("tokens", 1_000).await;
    // Another name for the cap of a chat; model servers differ in which of both they obey.
    let both = json!({"max_tokens": 1, "max_completion_tokens": 600});
    let reply = stage
        .ask(CHAT, both.clone())
        .header(FAULT_HEADER, "tokens=600")
        .send()
        .await
        .expect(200);
    assert!((600..700).contains(&stage.reserved(&reply).await));
    stage
        .ask(CHAT, both)
        .send()
        .await
        .expect(429)
        .code("rate_limit_exceeded");
    // A name that no chat has: as if no cap were given. What is expected then takes all of the limit, of which some is used.
    let reply = stage.ask(CHAT, json!({"max_output_tokens": 1})).send().await;
    let reply = reply.expect(429).code("rate_limit_exceeded");
    assert!(stage.reserved(&reply).await > 1_000);
    let reply = stage
        .ask(COMPLETIONS, json!({"max_completion_tokens": 1}))
        .send()
        .await;
    reply.expect(429).code("rate_limit_exceeded");
}

#[tokio::test]
async fn several_answers_count_as_several() {
    let stage = stage("tokens", 1_000).await;
    for (path, more) in [
        (CHAT, json!({"max_tokens": 200, "n": 5})),
        (COMPLETIONS, json!({"max_tokens": 200, "best_of": 5, "n": 1})),
        (COMPLETIONS, json!({"max_tokens": 200, "best_of": null, "n": 5})),
    ] {
        let reply = stage.ask(path, more).send().await.expect(429);
        reply
            .code("request_too_large_for_limit")
            .kind("tokens")
            .has("x-should-retry", "false")
            .lacks("retry-after");
    }
    let reply = stage
        .ask(CHAT, json!({"max_tokens": 200, "n": 4}))
        .send()
        .await
        .expect(200);
    assert!((800..900).contains(&stage.reserved(&reply).await));
}

#[tokio::test]
async fn no_number_is_too_large_to_be_counted() {
    let stage = stage("tokens", 1_000).await;
    for more in [
        json!({"max_tokens": u64::MAX}),
        json!({"max_tokens": u64::MAX, "n": u32::MAX}),
        json!({"max_tokens": 9_007_199_254_740_991_u64, "n": 3}),
        json!({"max_tokens": u64::MAX - 5, "max_completion_tokens": 1}),
    ] {
        let reply = stage.ask(CHAT, more).send().await.expect(429);
        reply.code("request_too_large_for_limit");
    }
    for more in [
        json!({"n": 4_294_967_296_u64, "max_tokens": 1}),
        json!({"max_tokens": -1}),
        json!({"max_tokens": "1"}),
        json!({"max_tokens": 1e30}),
    ] {
        stage
            .ask(CHAT, more)
            .send()
            .await
            .expect(400)
            .code("invalid_json");
    }
    let reply = stage.ask(CHAT, json!({"max_tokens": 900})).send().await;
    reply.expect(200);
    assert_eq!(stage.model.seen().len(), 1);
}

/// Where nobody says how long an answer may be it can be longer than was reserved. What it took over the limit is a
/// debt, and nobody is served before that is paid.
#[tokio::test]
async fn longer_answers_than_were_expected_are_paid_for() {
    let limit = json!({"name": "key", "per": ["key"], "count": "tokens", "rate": "3000/minute"});
    let stage = with(limit).await;
    let reply = stage
        .ask(CHAT, json!({}))
        .header(FAULT_HEADER, "tokens=5000")
        .send()
        .await;
    let reply = reply.expect(200);
    assert!((1_000..3_000).contains(&stage.reserved(&reply).await));
    let reply = stage.ask(CHAT, json!({"max_tokens": 1})).send().await.expect(429);
    // 2,000 over, at 50 a second.
    let told: u64 = reply.header("retry-after-ms").unwrap().parse().unwrap();
    assert!((30_000..41_000).contains(&told), "{told}");
    assert_eq!(reply.header("x-ratelimit-remaining-tokens"), Some("0"));
}

#[tokio::test]
async fn who_leaves_early_has_asked() {
    let stage = stage("requests", 5).await;
    for number in 1..=5 {
        let request = stage
            .ask(CHAT, json!({"stream": number > 2}))
            .header(FAULT_HEADER, "first-byte=60s");
        let waiting = tokio::spawn(request.send());
        let there = stage
            .model
            .wait_until(Duration::from_secs(10), |rows| rows.len() == number)
            .await;
        assert!(there.is_ok(), "request {number} did not reach the model server");
        waiting.abort();
    }
    let refused = stage
        .ask(CHAT, json!({}))
        .send()
        .await
        .expect(429)
        .kind("requests");
    let left = stage.gateway.usage_log().wait(|records| records.len() == 6).await;
    let outcomes = left
        .iter()
        .filter(|record| record.outcome.as_deref() == Some("no_answer"));
    assert_eq!(outcomes.count(), 5);
    refused.has("x-ratelimit-remaining-requests", "0");
}

#[tokio::test]
async fn no_other_door_leads_past_a_limit() {
    let limit = json!({"name": "key-and-model", "per": ["key", "model"], "rate": "2/hour"});
    let stage = with(limit).await;
    let form = "--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\nRIFF\r\n\
                --b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nwhisper-large\r\n--b--\r\n";
    let upload = |path| {
        stage
            .client
            .post(path)
            .key(&stage.key)
            .header("content-type", "multipart/form-data; boundary=b")
            .body(form)
            .send()
    };
    upload("/v1/audio/transcriptions").await.expect(200);
    upload("/v1/audio/translations").await.expect(200);
    upload("/v1/audio/transcriptions")
        .await
        .expect(429)
        .kind("requests")
        .code("rate_limit_exceeded");

    // One that the model server failed was asked for as well; an alias is the same model; and so it is at each endpoint.
    stage
        .ask(CHAT, json!({}))
        .header(FAULT_HEADER, "status=400")
        .send()
        .await
        .expect(400);
    stage.ask(COMPLETIONS, json!({})).send().await.expect(200);
    for (path, model) in [
        (CHAT, "llama-3.3-70b"),
        (COMPLETIONS, "llama-70b"),
        ("/v1/messages", "llama-3.3-70b"),
    ] {
        let request = json!({"model": model, "max_tokens": 1, "messages": [], "prompt": ""});
        stage
            .client
            .post(path)
            .key(&stage.key)
            .http2()
            .json(request)
            .send()
            .await
            .expect(429);
    }
    assert_eq!(stage.model.seen().len(), 4);
}

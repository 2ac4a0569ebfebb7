//! Limits as a customer meets them, and the usage record as an operator reads it.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails by panicking"
)]

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tollgate_core::key::ApiKey;
use tollgate_harness::models::{Ending, FAULT_HEADER, ModelServer};
use tollgate_harness::{Directory, Gateway, Options, Reload};

const CHAT: &str = "/v1/chat/completions";

struct Stage {
    gateway: Gateway,
    model: ModelServer,
    key: ApiKey,
}

async fn stage(limits: Value) -> Stage {
    let model = ModelServer::start().await.unwrap();
    let mut directory = Directory::new();
    let key = directory.key("acme");
    let gateway = Options::new()
        .directory(&directory)
        .llama(model.addr())
        .limits(limits)
        .start()
        .await;
    Stage { gateway, model, key }
}

fn chat(words: &str) -> Value {
    json!({"model": "llama-70b", "max_tokens": 50, "messages": [{"role": "user", "content": words}]})
}

fn streamed(words: &str) -> Value {
    let mut body = chat(words);
    body["stream"] = json!(true);
    body
}

/// A stream that goes on until its client leaves.
fn long(words: &str) -> Value {
    let mut body = streamed(words);
    body["max_tokens"] = json!(1_000);
    body
}

fn limit(name: &str, count: &str, rate: &str, burst: u32) -> Value {
    json!({"name": name, "per": ["key"], "count": count, "rate": rate, "burst": burst})
}

#[tokio::test]
async fn each_request_leaves_a_record_of_what_it_used() {
    let stage = stage(json!({"limits": [limit("key-tpm", "tokens", "100000/minute", 1000)]})).await;
    let reply = stage
        .gateway
        .post(CHAT)
        .key(&stage.key)
        .json(chat("one two three"))
        .send()
        .await
        .expect(200);
    let usage = reply.json()["usage"].clone();
    let record = stage.gateway.record_of(&reply).await;
    assert_eq!(record.outcome.as_deref(), Some("complete"));
    assert_eq!(record.source.as_deref(), Some("reported"));
    assert_eq!(record.input_tokens, usage["prompt_tokens"].as_u64());
    assert_eq!(record.output_tokens, usage["completion_tokens"].as_u64());
    assert_eq!(
        (
            record.org.as_deref(),
            record.model.as_deref(),
            record.endpoint.as_deref()
        ),
        (Some("acme"), Some("llama-70b"), Some("chat"))
    );
    assert_eq!(record.key.as_deref(), Some(stage.key.id()));
    assert_eq!(
        (record.status, record.cluster.as_str(), record.attempts),
        (200, "llama", 1)
    );

    // What was reserved and not used is free again: the next answer says what remains.
    let remaining = |reply: &tollgate_harness::Reply| {
        reply
            .header("x-ratelimit-remaining-tokens")
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    assert!(remaining(&reply) < 960, "{}", remaining(&reply));
    assert_eq!(reply.header("x-ratelimit-limit-tokens"), Some("100000"));

    let stranger = stage.gateway.post(CHAT).json(chat("x")).send().await.expect(401);
    let record = stage.gateway.record_of(&stranger).await;
    assert_eq!((record.status, record.org, record.outcome), (401, None, None));

    let list = stage
        .gateway
        .get("/v1/models")
        .key(&stage.key)
        .send()
        .await
        .expect(200);
    let record = stage.gateway.record_of(&list).await;
    assert_eq!(
        (record.outcome.as_deref(), record.source.as_deref()),
        (Some("complete"), Some("nothing"))
    );

    let unknown = stage
        .gateway
        .post(CHAT)
        .key(&stage.key)
        .json(json!({"model": "nope"}))
        .send()
        .await
        .expect(404);
    let record = stage.gateway.record_of(&unknown).await;
    assert_eq!(record.outcome.as_deref(), Some("refused"));
    assert_eq!((record.org.as_deref(), record.model), (Some("acme"), None));
}

#[tokio::test]
async fn a_stream_is_metered_whether_its_client_asks_or_not() {
    let stage = stage(json!({"limits": []})).await;
    for (options, shown) in [
        (Value::Null, false),
        (json!({"include_usage": false}), false),
        (json!({"include_usage": true}), true),
    ] {
        let mut body = streamed("one two three");
        if !options.is_null() {
            body["stream_options"] = options.clone();
        }
        let reply = stage
            .gateway
            .post(CHAT)
            .key(&stage.key)
            .json(body)
            .send()
            .await
            .expect(200);
        let text = reply.text();
        assert_eq!(text.contains("prompt_tokens"), shown, "{options}: {text}");
        assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
        let record = stage.gateway.record_of(&reply).await;
        let seen = stage
            .model
            .wait_until(Duration::from_secs(5), |rows| {
                rows.iter()
                    .any(|row| row.request_id.as_deref() == reply.request_id())
            })
            .await
            .unwrap();
        let seen = seen
            .iter()
            .find(|row| row.request_id.as_deref() == reply.request_id())
            .unwrap();
        let sent: Value = serde_json::from_slice(&seen.body).unwrap();
        assert_eq!(sent["stream_options"]["include_usage"], json!(true), "{sent}");
        assert_eq!(seen.ending, Ending::Completed);
        assert_eq!(record.source.as_deref(), Some("reported"), "{options}");
        assert_eq!(
            (record.input_tokens, record.output_tokens),
            (Some(seen.input_tokens), Some(seen.output_tokens))
        );
    }
}

#[tokio::test]
async fn who_waits_as_told_passes() {
    let stage = stage(json!({"limits": [limit("key-rps", "requests", "2/second", 2)]})).await;
    let ask = || stage.gateway.post(CHAT).key(&stage.key).json(chat("x"));
    for left in [1, 0] {
        let reply = ask().send().await.expect(200);
        let left: String = left.to_string();
        assert_eq!(
            reply.header("x-ratelimit-remaining-requests"),
            Some(left.as_str())
        );
    }
    let refused = ask()
        .send()
        .await
        .expect(429)
        .kind("requests")
        .code("rate_limit_exceeded");
    let record = stage.gateway.record_of(&refused).await;
    assert_eq!(
        (record.outcome.as_deref(), record.limit.as_deref()),
        (Some("limited"), Some("key-rps"))
    );
    assert_eq!((record.attempts, record.tokens()), (0, 0));
    let millis: u64 = refused.header("retry-after-ms").unwrap().parse().unwrap();
    assert!((1..=500).contains(&millis), "{millis}");
    assert_eq!(refused.header("retry-after"), Some("1"));
    let told = Instant::now();
    tokio::time::sleep(Duration::from_millis(millis)).await;
    ask().send().await.expect(200);
    assert!(
        told.elapsed() < Duration::from_secs(2),
        "the refused request consumed nothing"
    );
    assert_eq!(stage.model.seen().len(), 3);
}

#[tokio::test]
async fn a_burst_of_parallel_requests_never_passes_a_token_limit() {
    let stage = stage(json!({"limits": [limit("key-tph", "tokens", "10000/hour", 10_000)]})).await;
    let requests = (0..500).map(|_| {
        let request = stage
            .gateway
            .post(CHAT)
            .key(&stage.key)
            .header(FAULT_HEADER, "tokens=50, first-byte=50ms")
            .json(chat("one two three four five"));
        async move { request.send().await.status }
    });
    let statuses = futures_util::future::join_all(requests).await;
    let admitted = statuses.iter().filter(|status| **status == 200).count();
    assert!(
        statuses.iter().all(|status| [200, 429].contains(status)),
        "{statuses:?}"
    );
    let spent: u64 = stage
        .model
        .seen()
        .iter()
        .map(|row| row.input_tokens + row.output_tokens)
        .sum();
    assert!(
        spent <= 10_000 && admitted > 100,
        "{spent} tokens of {admitted} requests"
    );
    // Settled to what was reported: the rest of the limit, less what leaked back, is what remains.
    let records = stage
        .gateway
        .usage_log()
        .wait(|records| records.len() == 500)
        .await;
    let settled: u64 = records
        .iter()
        .map(tollgate_harness::usage_log::UsageRecord::tokens)
        .sum();
    assert_eq!(settled, spent);
    let reply = stage
        .gateway
        .post(CHAT)
        .key(&stage.key)
        .header(FAULT_HEADER, "tokens=1")
        .json(json!({"model": "llama-70b", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}))
        .send()
        .await
        .expect(200);
    let remaining: u64 = reply
        .header("x-ratelimit-remaining-tokens")
        .unwrap()
        .parse()
        .unwrap();
    // That request itself, and 2.8 tokens a second that came back.
    let expected = 10_000 - spent;
    assert!(
        remaining + 100 >= expected && remaining <= expected + 100,
        "{remaining} remain, {expected} expected"
    );
}

#[tokio::test]
async fn an_aborted_stream_is_charged_for_what_was_produced() {
    let stage = stage(json!({"limits": []})).await;
    let mut response = stage
        .gateway
        .post(CHAT)
        .key(&stage.key)
        .header(FAULT_HEADER, "tokens=1000, stall=40")
        .json(long("one two three"))
        .open()
        .await;
    let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    let mut got = Vec::new();
    while got.windows(2).filter(|pair| pair == b"\n\n").count() < 40 {
        got.extend_from_slice(&response.chunk().await.unwrap().unwrap());
    }
    drop(response);
    let record = stage.gateway.usage_log().of(&id).await;
    assert_eq!(record.outcome.as_deref(), Some("aborted"));
    assert_eq!(record.source.as_deref(), Some("estimated"));
    let output = record.output_tokens.unwrap();
    assert!((20..=80).contains(&output), "{output} of about 40");
    let input = record.input_tokens.unwrap();
    assert!((3..=60).contains(&input), "{input} of 3");
}

#[tokio::test]
async fn places_under_way_are_limited_and_come_back() {
    let row = json!({"name": "key-concurrent", "per": ["key"], "count": "concurrent", "max": 3});
    let stage = stage(json!({"limits": [row], "abandoned_hold": "1s"})).await;
    let open = || {
        stage
            .gateway
            .post(CHAT)
            .key(&stage.key)
            .header(FAULT_HEADER, "tokens=1000, pace=10ms")
            .json(long("x"))
            .open()
    };
    let mut under_way = Vec::new();
    for _ in 0..3 {
        let response = open().await;
        assert_eq!(response.status(), 200);
        under_way.push(response);
    }
    let ask = || stage.gateway.post(CHAT).key(&stage.key).json(chat("x")).send();
    ask().await.expect(429).kind("concurrent_requests");
    under_way.pop();
    let deadline = Instant::now() + Duration::from_secs(5);
    while ask().await.status != 200 {
        assert!(
            Instant::now() < deadline,
            "a place that was given up did not come back"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn limits_change_while_requests_run_and_mistakes_are_refused() {
    let stage = stage(json!({"limits": [limit("key-rph", "requests", "2/hour", 2)]})).await;
    let ask = || stage.gateway.post(CHAT).key(&stage.key).json(chat("x")).send();
    for _ in 0..2 {
        ask().await.expect(200);
    }
    ask().await.expect(429);
    // The same part of it stays used: all.
    let wider = json!({"limits": [limit("key-rph", "requests", "3600/hour", 10)]});
    assert!(matches!(stage.gateway.set_limits(&wider).await, Reload::Accepted));
    ask().await.expect(429);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    ask().await.expect(200);
    let wrong = json!({"limits": [limit("key-rph", "requests", "60/fortnight", 10)]});
    match stage.gateway.set_limits(&wrong).await {
        Reload::Rejected(why) => assert!(why.contains("limits[0].rate"), "{why}"),
        other => panic!("{other:?}"),
    }
}

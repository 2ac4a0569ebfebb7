//! Requests that are ended before their usage is known, by whomever: work of a model server is paid for, once.

use std::time::Duration;

use serde_json::{Value, json};
use tollgate_core::key::ApiKey;
use tollgate_harness::catalogue::in_order;
use tollgate_harness::client::Request;
use tollgate_harness::models::{FAULT_HEADER, ModelServer};
use tollgate_harness::net::Refusing;
use tollgate_harness::usage_log::UsageRecord;
use tollgate_harness::{Catalogue, Directory, Gateway, Options, Reply, net};

use crate::stage::{CHAT, MESSAGES};

/// A model server, another, and one that takes no connections.
pub(crate) struct Stage {
    pub(crate) gateway: Gateway,
    pub(crate) key: ApiKey,
    pub(crate) model: ModelServer,
    other: ModelServer,
    _nobody: Refusing,
}

/// All endpoints are served, and a model `hasty` gives each of its targets so long for the first byte.
const HASTY: &str = "300ms";

impl Stage {
    /// With so many tokens an hour for a key, which is too slow to matter here.
    pub(crate) async fn new(tokens: u64) -> Self {
        Self::with(json!({"limits": [
            {"name": "tokens", "per": ["key"], "count": "tokens", "rate": format!("{tokens}/hour")},
            {"name": "requests", "per": ["key"], "rate": "1000/hour"},
        ]}))
        .await
    }

    pub(crate) async fn with(limits: Value) -> Self {
        let (model, other) = (
            ModelServer::start().await.unwrap(),
            ModelServer::start().await.unwrap(),
        );
        let nobody = Refusing::new().unwrap();
        let (directory, key) = Directory::of_one("acme");
        let mut catalogue = Catalogue::empty();
        let endpoints = json!([
            "chat",
            "completions",
            "responses",
            "messages",
            "embeddings",
            "images_generations",
            "speech",
            "transcriptions"
        ]);
        let mut add = |name: &str, targets: &[&str], more: Value| {
            let model = json!({"endpoints": endpoints, "targets": in_order(targets)});
            catalogue.model(name, model);
            catalogue.change(name, more);
        };
        let hasty = json!({"timeouts": {"first_byte": HASTY}, "retries": 2});
        add("plain", &["llama"], json!({}));
        add(
            "priced",
            &["llama"],
            json!({"price": {
                "input": 3, "cached_input": 0.3, "cache_write_input": 3.75, "cache_write_1h_input": 6, "output": 15,
                "audio_seconds": 0.0001, "pictures": 0.04,
            }}),
        );
        add("hasty", &["llama"], hasty.clone());
        add("pair", &["llama", "gpt-oss"], hasty.clone());
        add("gone-pair", &["nobody", "gpt-oss"], hasty);
        add("gone", &["nobody"], json!({}));
        add("brief", &["llama"], json!({"timeouts": {"whole": "300ms"}}));
        let gateway = Options::new()
            .workers(1)
            .directory(&directory)
            .llama(model.addr())
            .gpt_oss(other.addr())
            .unchecked_cluster("nobody", nobody.addr())
            .catalogue(&catalogue)
            .limits(limits)
            .unbroken()
            .start()
            .await;
        Self {
            gateway,
            key,
            model,
            other,
            _nobody: nobody,
        }
    }

    pub(crate) fn ask(&self, path: &str, body: Value) -> Request {
        self.gateway.post(path).key(&self.key).json(body)
    }

    /// A chat of so many words that may write 100 tokens.
    fn chat(&self, model: &str, words: usize) -> Request {
        self.ask(CHAT, chat(model, words))
    }

    /// The same as a stream: only its first byte has a limit.
    fn stream(&self, model: &str, words: usize) -> Request {
        let mut body = chat(model, words);
        body["stream"] = json!(true);
        self.ask(CHAT, body)
    }

    pub(crate) async fn record(&self, reply: &Reply) -> UsageRecord {
        self.gateway.record_of(reply).await
    }

    /// The records so far, once there are so many.
    async fn records(&self, count: usize) -> Vec<UsageRecord> {
        self.gateway
            .usage_log()
            .wait(|records| records.len() >= count)
            .await
    }

    /// Leaves once the model server has begun on so many requests.
    async fn leave(&self, request: Request, begun: usize) {
        let asking = tokio::spawn(request.header(FAULT_HEADER, "first-byte=30s").try_send());
        let seen = self
            .model
            .wait_until(Duration::from_secs(10), |seen| seen.len() >= begun);
        seen.await.unwrap();
        asking.abort();
    }

    /// Tokens and requests that the key has left.
    async fn left(&self) -> [u64; 2] {
        let reply = self.chat("plain", 1).send().await.expect(200);
        let left = |what: &str| {
            let header = reply.header(&format!("x-ratelimit-remaining-{what}")).unwrap();
            header.parse::<u64>().unwrap()
        };
        [left("tokens"), left("requests")]
    }
}

fn chat(model: &str, words: usize) -> Value {
    let text = "word ".repeat(words);
    json!({"model": model, "max_tokens": 100, "messages": [{"role": "user", "content": text}]})
}

/// What an estimate of so many words may be; the model server counts one token for each.
#[track_caller]
fn about(record: &UsageRecord, words: u64) {
    let input = record.input_tokens.unwrap();
    assert!(
        (words..words * 3 / 2 + 60).contains(&input),
        "{words}: {record:?}"
    );
}

fn said(record: &UsageRecord) -> (&str, &str) {
    (
        record.outcome.as_deref().unwrap(),
        record.source.as_deref().unwrap(),
    )
}

#[tokio::test]
async fn whoever_leaves_before_the_answer_pays_what_was_read_and_holds_what_may_be_written() {
    let stage = Stage::new(10_000).await;
    let body = |path: &str| match path {
        MESSAGES => {
            json!({"model": "plain", "max_tokens": 6_000, "messages": chat("plain", 1_500)["messages"]})
        }
        _ => {
            json!({"model": "plain", "max_tokens": 6_000, "messages": chat("plain", 1_500)["messages"], "stream": true})
        }
    };
    stage.leave(stage.ask(CHAT, body(CHAT)), 1).await;
    let records = stage.records(1).await;
    assert_eq!(said(&records[0]), ("no_answer", "estimated"));
    about(&records[0], 1_500);
    // What the model server may still write is not there for another.
    for path in [CHAT, MESSAGES] {
        for _ in 0..7 {
            stage.ask(path, body(path)).send().await.expect(429);
        }
    }
    assert_eq!(stage.model.seen().len(), 1);
}

#[tokio::test]
async fn what_is_held_is_returned_in_time() {
    let stage = Stage::with(json!({
        "abandoned_hold": "2s",
        "limits": [{"name": "tokens", "per": ["key"], "count": "tokens", "rate": "100000/day"},
            {"name": "requests", "per": ["key"], "rate": "100000/hour"}],
    }))
    .await;
    let body = json!({"model": "plain", "max_tokens": 90_000, "messages": chat("plain", 10)["messages"]});
    stage.leave(stage.ask(CHAT, body), 1).await;
    stage.records(1).await;
    let left = stage.left().await[0];
    assert!(left < 10_000, "{left}");
    net::eventually("what was held is returned", async || {
        (stage.left().await[0] > 80_000).then_some(())
    })
    .await;
}

#[tokio::test]
async fn each_attempt_that_took_too_long_pays_what_it_read() {
    let stage = Stage::new(100_000).await;
    let reply = stage
        .stream("hasty", 500)
        .header(FAULT_HEADER, "first-byte=30s")
        .send()
        .await;
    let record = stage.record(&reply.expect(504)).await;
    assert_eq!((said(&record), record.attempts), (("failed", "estimated"), 3));
    about(&record, 1_500);
    assert_eq!(stage.model.seen().len(), 3);
    // One that is lost is asked for again, too, and one that is too long as a whole is not.
    let reply = stage
        .chat("hasty", 500)
        .header(FAULT_HEADER, "close")
        .send()
        .await;
    let record = stage.record(&reply.expect(502)).await;
    assert_eq!((said(&record), record.attempts), (("failed", "estimated"), 3));
    about(&record, 1_500);
    let reply = stage
        .chat("brief", 500)
        .header(FAULT_HEADER, "first-byte=30s")
        .send()
        .await;
    let record = stage.record(&reply.expect(504)).await;
    assert_eq!((said(&record), record.attempts), (("failed", "estimated"), 1));
    about(&record, 500);
    // Where the next target answers, both are paid.
    stage
        .model
        .set_fault(tollgate_harness::models::Fault::parse("first-byte=30s").unwrap());
    let record = stage
        .record(&stage.stream("pair", 500).send().await.expect(200))
        .await;
    let answered = &stage.other.seen()[0];
    assert_eq!((said(&record), record.attempts), (("complete", "estimated"), 2));
    assert_eq!(record.output_tokens, Some(answered.output_tokens));
    about(&record, 1_000);
    // Its client leaves while the second attempt is under way.
    let before = stage.model.seen().len();
    stage.leave(stage.stream("hasty", 500), before + 2).await;
    let records = stage.records(5).await;
    assert_eq!(said(&records[4]), ("no_answer", "estimated"));
    about(&records[4], 1_000);
}

#[tokio::test]
async fn what_no_model_server_received_is_returned_whole() {
    let stage = Stage::new(10_000).await;
    let body = json!({"model": "gone", "max_tokens": 9_000, "messages": chat("gone", 10)["messages"]});
    for _ in 0..5 {
        let record = stage
            .record(&stage.ask(CHAT, body.clone()).send().await.expect(502))
            .await;
        assert_eq!((said(&record), record.tokens()), (("failed", "nothing"), 0));
    }
    let [tokens, requests] = stage.left().await;
    assert_eq!(requests, 999);
    assert!(tokens > 9_500, "{tokens}");
    // Nor does an attempt cost anything that never was one.
    let reply = stage.chat("gone-pair", 100).send().await.expect(200);
    let record = stage.record(&reply).await;
    assert_eq!((said(&record), record.attempts), (("complete", "reported"), 2));
    assert_eq!(record.input_tokens, Some(stage.other.seen()[0].input_tokens));
    // A model server that refuses has written nothing; the request was one.
    let reply = stage
        .chat("plain", 100)
        .header(FAULT_HEADER, "status=500")
        .send()
        .await;
    let record = stage.record(&reply.expect(500)).await;
    assert_eq!((said(&record), record.tokens()), (("failed", "nothing"), 0));
}

#[tokio::test]
async fn whoever_leaves_a_stream_pays_all_of_its_input_each_time() {
    let stage = Stage::new(1_000_000).await;
    for _ in 0..8 {
        let mut body = chat("plain", 10_000);
        body["stream"] = json!(true);
        let request = stage.ask(CHAT, body).header(FAULT_HEADER, "tokens=50, stall=3");
        let mut response = request.open().await;
        response.chunk().await.unwrap().unwrap();
    }
    for record in stage.records(8).await {
        assert_eq!(said(&record), ("aborted", "estimated"));
        about(&record, 10_000);
        let output = record.output_tokens.unwrap();
        assert!((2..=12).contains(&output), "{record:?}");
    }
}

/// There are servers that pass over `max_completion_tokens`, and events that hold a whole call.
#[tokio::test]
async fn what_went_by_is_paid_whatever_the_cap_says() {
    let stage = Stage::new(1_000_000).await;
    let word = json!({"choices": [{"index": 0, "delta": {"content": "word "}}]});
    let call = json!({"choices": [{"index": 0, "delta": {"tool_calls": [
        {"index": 0, "function": {"arguments": "word ".repeat(2_400)}}
    ]}}]});
    // Without a cap it is what its text says.
    for (event, times, cap, output) in [
        (&word, 300, json!({"max_completion_tokens": 1}), 300..=300),
        (&call, 10, json!({}), 20_000..=50_000),
    ] {
        stage.model.set_fault(tollgate_harness::models::Fault {
            raw: Some(format!("data: {event}\n\n").repeat(times).into()),
            ..Default::default()
        });
        let mut body = json!({"model": "plain", "stream": true, "messages": []});
        body.as_object_mut()
            .unwrap()
            .extend(cap.as_object().unwrap().clone());
        let record = stage
            .record(&stage.ask(CHAT, body).send().await.expect(200))
            .await;
        let found = record.output_tokens.unwrap();
        assert!(output.contains(&found), "{record:?}");
    }
}

#[tokio::test]
async fn no_stream_costs_more_than_its_cap() {
    let stage = Stage::new(1_000_000).await;
    let logprobs =
        json!({"content": vec![json!({"token": "x", "top_logprobs": vec!["y".repeat(50); 20]}); 4]});
    let event = json!({"choices": [{"index": 0, "delta": {"content": "x"}, "logprobs": logprobs}]});
    let events = format!("data: {event}\n\n").repeat(60);
    stage.model.set_fault(tollgate_harness::models::Fault {
        raw: Some(events.into()),
        ..Default::default()
    });
    let mut body = chat("plain", 10);
    body["stream"] = json!(true);
    let record = stage
        .record(&stage.ask(CHAT, body).send().await.expect(200))
        .await;
    assert_eq!(said(&record), ("complete", "estimated"));
    assert_eq!(record.output_tokens, Some(100), "{record:?}");
}

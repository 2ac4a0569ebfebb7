//! 2,000 streams open at once on a real Envoy of two workers: what each costs in memory, beside the same streams
//! through the same Envoy without the filters, and that nothing is left of them.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails by panicking"
)]

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use tollgate_core::key::ApiKey;
use tollgate_harness::client::Request;
use tollgate_harness::models::{Ending, FAULT_HEADER, ModelServer};
use tollgate_harness::{Client, Directory, Gateway, Options, config, net};

const CHAT: &str = "/v1/chat/completions";
const STREAMS: usize = 2_000;
/// Streams that are being opened at once. Envoy holds up to 1,024 requests whose connection to the model server is not
/// there yet (`max_pending_requests`).
const LANES: usize = 50;
const KEYS: usize = 10;
/// Of each request; the answer repeats them.
const WORDS: usize = 20;
/// Events that a client has while all are open.
const HELD: usize = 10;
const PATIENCE: Duration = Duration::from_secs(60);
/// Of Envoy's memory, for each open stream; and of that, what the filters may add.
const MOST_BYTES: u64 = 110_000;
const MOST_ADDED: u64 = 40_000;
/// Of it, what may be more when as many streams are open a second time.
const MOST_GROWTH: u64 = 10_000;

struct Stage {
    gateway: Gateway,
    client: Client,
    model: ModelServer,
    keys: Vec<ApiKey>,
}

/// A stream under way, and what was read of it.
struct Stream {
    id: String,
    response: reqwest::Response,
    text: Vec<u8>,
}

impl Stage {
    async fn start(options: Options) -> Self {
        let model = ModelServer::start().await.unwrap();
        let mut directory = Directory::new();
        let keys = (0..KEYS).map(|_| directory.key("acme")).collect();
        let gateway = options
            .llama(model.addr())
            .directory(&directory)
            .limits(limits())
            .start()
            .await;
        Self {
            client: gateway.client(),
            gateway,
            model,
            keys,
        }
    }

    fn ask(&self, number: usize) -> Request {
        let message = json!({"role": "user", "content": words(number)});
        self.client
            .post(CHAT)
            .key(&self.keys[number % KEYS])
            .json(json!({"model": "llama-70b", "max_tokens": 64, "stream": true, "messages": [message]}))
    }

    /// Opens a stream and reads it up to where the model server holds it.
    async fn open(&self, number: usize) -> Stream {
        let request = self.ask(number).header(FAULT_HEADER, &format!("hold={HELD}"));
        let mut response = request.open().await;
        assert_eq!(response.status(), 200, "{number}: {:?}", response.text().await);
        let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
        let mut text = Vec::new();
        while events(&text) < HELD {
            text.extend_from_slice(&response.chunk().await.unwrap().unwrap());
        }
        Stream { id, response, text }
    }

    /// Opens all streams; none ends before the model server is told to go on.
    async fn open_all(&self) -> Vec<Stream> {
        let lane = async |lane: usize| {
            let mut streams = Vec::new();
            for number in (lane..STREAMS).step_by(LANES) {
                streams.push((number, self.open(number).await));
            }
            streams
        };
        let lanes = tokio::time::timeout(PATIENCE, join_all((0..LANES).map(lane))).await;
        let mut streams: Vec<_> = lanes.unwrap().into_iter().flatten().collect();
        streams.sort_by_key(|(number, _)| *number);
        let running = self.model.ledger().with(|rows| {
            let running = rows.iter().filter(|row| row.ending == Ending::Running);
            running.count()
        });
        assert_eq!(running, STREAMS);
        let stats = self.gateway.stats().await;
        assert_eq!(stats.counter("cluster.llama.upstream_rq_active"), STREAMS as u64);
        streams.into_iter().map(|(_, stream)| stream).collect()
    }

    /// Lets all go on, and sees that each client gets its own answer whole.
    async fn finish(&self, streams: Vec<Stream>) -> Vec<String> {
        self.model.release();
        let finished = join_all(streams.into_iter().map(Stream::finish));
        let finished = tokio::time::timeout(PATIENCE, finished).await.unwrap();
        let mut ids = Vec::new();
        for (number, (id, text)) in finished.into_iter().enumerate() {
            assert_whole(number, &text);
            ids.push(id);
        }
        ids
    }

    async fn assert_under_way(&self, wanted: usize) {
        let mut found = None;
        let as_wanted = net::within(PATIENCE, async || {
            let prometheus = self.gateway.prometheus().await;
            found = prometheus.value("tollgate_requests_in_flight", &[]);
            (found == Some(wanted as f64)).then_some(())
        });
        assert!(as_wanted.await.is_some(), "{found:?} requests under way");
    }

    /// Asserts that each request has its record, with the tokens that the model server reported.
    async fn assert_recorded(&self, ids: &[String]) {
        let records = self.gateway.usage_records().await;
        let seen = self.model.wait_for(ids.len(), PATIENCE).await.unwrap();
        let seen: HashMap<_, _> = seen
            .iter()
            .map(|row| (row.request_id.as_deref().unwrap(), row))
            .collect();
        for id in ids {
            let (record, seen) = (&records[id], seen[id.as_str()]);
            assert_eq!(
                (seen.ending, seen.output_tokens),
                (Ending::Completed, WORDS as u64 + 2)
            );
            assert_eq!(record.outcome.as_deref(), Some("complete"), "{record:?}");
            assert_eq!(record.source.as_deref(), Some("reported"), "{record:?}");
            let reported = (Some(seen.input_tokens), Some(seen.output_tokens));
            assert_eq!(
                (record.input_tokens, record.output_tokens),
                reported,
                "{record:?}"
            );
        }
    }
}

impl Stream {
    async fn finish(mut self) -> (String, String) {
        while let Some(chunk) = self.response.chunk().await.unwrap() {
            self.text.extend_from_slice(&chunk);
        }
        (self.id, String::from_utf8(self.text).unwrap())
    }
}

/// Memory of Envoy in bytes, before streams and with them.
#[derive(Clone, Copy)]
struct Memory {
    before: u64,
    with_streams: u64,
}

impl Memory {
    fn each(self) -> u64 {
        self.with_streams.saturating_sub(self.before) / STREAMS as u64
    }
}

fn bytes(gateway: &Gateway) -> u64 {
    gateway.rss_kb() * 1024
}

fn limits() -> Value {
    json!({"limits": [
        {"name": "key-rpm", "per": ["key"], "rate": "100000/minute"},
        {"name": "key-tpm", "per": ["key"], "count": "tokens", "rate": "10000000/minute"},
        {"name": "org-tpm", "per": ["org"], "count": "tokens", "rate": "100000000/minute"},
        {"name": "org-concurrent", "per": ["org"], "count": "concurrent", "max": STREAMS},
    ]})
}

/// No two streams have a word in common, and no word comes twice.
fn words(number: usize) -> String {
    let words: Vec<String> = (0..WORDS).map(|word| format!("{number}-{word}")).collect();
    words.join(" ")
}

fn events(text: &[u8]) -> usize {
    text.windows(2).filter(|two| two == b"\n\n").count()
}

/// Asserts that this is the whole answer to a request: the role, each word, the end, and nothing not asked for.
fn assert_whole(number: usize, text: &str) {
    let events: Vec<&str> = text.split_terminator("\n\n").collect();
    assert_eq!(events.len(), 1 + 2 + WORDS + 2, "{number}: {text}");
    let (last, chunks) = events.split_last().unwrap();
    assert_eq!(*last, "data: [DONE]", "{number}");
    let chunks: Vec<Value> = chunks
        .iter()
        .map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap())
        .collect();
    let said: String = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(said, format!("llama-70b heard: {}", words(number)));
    assert_eq!(
        chunks.last().unwrap()["choices"][0]["finish_reason"],
        "stop",
        "{number}"
    );
}

/// Each stream takes two files of Envoy, and two of this process, whose limit Envoy inherits.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = 2 * STREAMS as u64 + 500;
    assert!(
        limit.maximum.is_none_or(|maximum| maximum >= wanted),
        "`ulimit -Hn` is below {wanted}"
    );
    if limit.current.is_some_and(|current| current < wanted) {
        let raised = Rlimit {
            current: Some(wanted),
            ..limit
        };
        setrlimit(Resource::Nofile, raised).unwrap();
    }
}

/// The chain without our filters: every request goes to `llama`.
fn bare() -> Options {
    let listener = std::fs::read_to_string(config::repository().join("envoy/listener.yaml")).unwrap();
    let from = listener.find("        - name: tollgate.key-auth\n").unwrap();
    let len = listener[from..]
        .find("        - name: envoy.filters.http")
        .unwrap();
    Options::new()
        .chain()
        .edit("listener.yaml", &listener[from..from + len], "")
        .edit(
            "routes.yaml",
            "cluster: none, cluster_not_found_response_code: INTERNAL_SERVER_ERROR",
            "cluster: llama, timeout: 0s",
        )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_streams_at_once() {
    raise_file_limit();
    let began = Instant::now();

    let stage = Stage::start(bare()).await;
    let (bare, streams) = measured(&stage).await;
    stage.finish(streams).await;
    drop(stage);

    let stage = Stage::start(Options::new()).await;
    let (memory, streams) = measured(&stage).await;
    stage.assert_under_way(STREAMS).await;
    println!(
        "{STREAMS} streams: {} bytes each, {} through Envoy without filters",
        memory.each(),
        bare.each()
    );
    assert!(memory.each() <= MOST_BYTES, "{} bytes a stream", memory.each());
    let added = memory.each().saturating_sub(bare.each());
    assert!(added <= MOST_ADDED, "{added} bytes a stream by the filters");
    stage.ask(0).send().await.expect(429).kind("concurrent_requests");
    let mut ids = stage.finish(streams).await;
    stage.assert_under_way(0).await;

    // Every place is free again, and there is none beyond them; nor do as many streams again take more memory.
    let streams = stage.open_all().await;
    let again = bytes(&stage.gateway);
    let growth = again.saturating_sub(memory.with_streams) / STREAMS as u64;
    assert!(growth <= MOST_GROWTH, "{growth} bytes a stream more");
    stage.ask(0).send().await.expect(429).kind("concurrent_requests");
    ids.extend(stage.finish(streams).await);
    stage.assert_under_way(0).await;
    stage.assert_recorded(&ids).await;
    println!(
        "RSS {} before, {} with streams, {again} with as many again; {:?}",
        memory.before,
        memory.with_streams,
        began.elapsed()
    );
}

async fn measured(stage: &Stage) -> (Memory, Vec<Stream>) {
    let before = bytes(&stage.gateway);
    let streams = stage.open_all().await;
    let with_streams = bytes(&stage.gateway);
    let memory = Memory { before, with_streams };
    (memory, streams)
}

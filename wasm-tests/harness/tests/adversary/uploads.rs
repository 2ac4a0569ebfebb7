//! Bodies that come slowly, together, or never to an end: what is in upload is bounded, and nobody else suffers.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tollgate_core::key::ApiKey;
use tollgate_harness::models::{FAULT_HEADER, Fault, ModelServer};
use tollgate_harness::raw::Answer;
use tollgate_harness::{Catalogue, Directory, Gateway, Options, Reply, net};

pub(crate) const CHAT: &str = "/v1/chat/completions";
const MIB: usize = 1024 * 1024;

pub(crate) struct Stage {
    pub(crate) gateway: Gateway,
    pub(crate) models: ModelServer,
    /// Two keys of one organization, and one of another.
    pub(crate) keys: [ApiKey; 3],
}

impl Stage {
    pub(crate) async fn new(uploads: Value) -> Self {
        let models = ModelServer::builder().keep(8).start().await.unwrap();
        let mut directory = Directory::new();
        directory.org("umbrella", json!({"models": ["llama-*"]}));
        let keys = [
            directory.key("acme"),
            directory.key("acme"),
            directory.key("umbrella"),
        ];
        let mut catalogue = Catalogue::new();
        // Without a context window: what is large here is so as no text for a model would be.
        catalogue.chat("llama-70b", &["llama"]).set("uploads", uploads);
        let options = Options::new().llama(models.addr()).directory(&directory);
        Self {
            gateway: options.catalogue(&catalogue).unbroken().start().await,
            models,
            keys,
        }
    }

    /// Begins an upload of a chat of `len` bytes, and sends so many of them.
    async fn begin(&self, key: &ApiKey, len: usize, sent: usize) -> Upload {
        self.begin_at(CHAT, key, "", len, sent).await
    }

    async fn begin_at(&self, path: &str, key: &ApiKey, headers: &str, len: usize, sent: usize) -> Upload {
        self.begin_with(path, key, headers, chat(len), sent).await
    }

    async fn begin_with(&self, path: &str, key: &ApiKey, headers: &str, body: Bytes, sent: usize) -> Upload {
        let mut stream = TcpStream::connect(self.gateway.addr()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let len = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n{headers}content-length: {len}\r\n\r\n",
            key.reveal()
        );
        // As much as fits into one piece comes with the head; it may be refused before all of it is taken.
        let first = sent.min(1_000);
        let _ = stream
            .write_all(&[head.as_bytes(), &body[..first]].concat())
            .await;
        let _ = stream.write_all(&body[first..sent]).await;
        Upload {
            stream,
            rest: body.slice(sent..),
        }
    }

    /// Waits until so many requests are under way, and the filter has seen what came of them.
    async fn under_way(&self, count: u64) {
        net::eventually("the uploads are under way", async || {
            let stats = self.gateway.stats().await;
            (stats.counter("http.gateway.downstream_rq_active") == count).then_some(())
        })
        .await;
    }

    /// A small request, whole at once.
    async fn small(&self, key: &ApiKey) -> Reply {
        self.gateway.post(CHAT).key(key).body(chat(200)).send().await
    }

    /// An upload of `len` bytes in two pieces is answered, at the latest when what was counted before is returned.
    async fn upload_passes(&self, key: &ApiKey, len: usize) {
        net::eventually("an upload passes", async || {
            let upload = self.begin(key, len, len - 10).await;
            (upload.finish().await.status == 200).then_some(())
        })
        .await;
    }
}

/// A request of which only a part was sent.
struct Upload {
    stream: TcpStream,
    rest: Bytes,
}

impl Upload {
    /// Sends the rest, and reads the answer.
    async fn finish(mut self) -> Reply {
        let rest = std::mem::take(&mut self.rest);
        let _ = self.stream.write_all(&rest).await;
        self.answer().await
    }

    /// Reads the answer, which does not wait for the rest.
    async fn answer(&mut self) -> Reply {
        let mut answer = Answer {
            bytes: Vec::new(),
            closed: false,
        };
        let mut buffer = vec![0; 16 * 1024];
        loop {
            if let Some(reply) = answer.reply() {
                return reply;
            }
            let read = tokio::time::timeout(Duration::from_secs(30), self.stream.read(&mut buffer));
            match read.await.expect("an answer within 30 seconds") {
                Ok(len @ 1..) => answer.bytes.extend(&buffer[..len]),
                _ => panic!("no whole answer: {:?}", String::from_utf8_lossy(&answer.bytes)),
            }
        }
    }

    async fn expect_refused(mut self, says: &str) {
        let reply = self.answer().await;
        reply
            .expect(429)
            .kind("requests")
            .code("rate_limit_exceeded")
            .says(says)
            .has("retry-after", "1");
    }
}

/// A chat request of exactly so many bytes.
pub(crate) fn chat(size: usize) -> Bytes {
    let (before, after) = (
        r#"{"messages":[{"role":"user","content":""#,
        r#""}],"model":"llama-70b"}"#,
    );
    let mut body = vec![b'x'; size];
    body[..before.len()].copy_from_slice(before.as_bytes());
    body[size - after.len()..].copy_from_slice(after.as_bytes());
    body.into()
}

#[tokio::test]
async fn requests_in_upload_are_bounded_by_key_organization_and_envoy() {
    let stage = Stage::new(json!({"requests": {"key": 4, "organization": 6, "total": 8}})).await;
    let [first, second, other] = &stage.keys;
    let mut uploads = Vec::new();
    // Of one byte each: what counts is that they are not whole.
    for _ in 0..4 {
        uploads.push(stage.begin(first, 500, 1).await);
    }
    stage.under_way(4).await;
    stage
        .begin(first, 500, 1)
        .await
        .expect_refused("from this key: the limit is 4 requests")
        .await;
    for _ in 0..2 {
        uploads.push(stage.begin(second, 500, 1).await);
    }
    stage.under_way(6).await;
    let refused = stage.begin(second, 500, 1).await;
    refused
        .expect_refused("from this organization: the limit is 6 requests")
        .await;
    for _ in 0..2 {
        uploads.push(stage.begin(other, 500, 1).await);
    }
    stage.under_way(8).await;
    let mut anthropic = stage.begin_at("/v1/messages", other, "", 500, 1).await;
    anthropic
        .answer()
        .await
        .expect(429)
        .anthropic("rate_limit_error")
        .says("the limit is 8 requests");
    // What is there at once is no upload.
    stage.small(first).await.expect(200);
    stage.small(other).await.expect(200);
    // One that ends makes room for one.
    uploads.swap_remove(0).finish().await.expect(200);
    stage.upload_passes(first, 500).await;
    // And so do those whose clients go.
    drop(uploads);
    stage.under_way(0).await;
    let again = [stage.begin(first, 500, 1).await, stage.begin(first, 500, 1).await];
    for upload in again {
        upload.finish().await.expect(200);
    }
}

#[tokio::test]
async fn a_request_of_which_no_byte_comes_counts_too() {
    let stage = Stage::new(json!({"requests": {"key": 2}})).await;
    let key = &stage.keys[0];
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(stage.begin(key, 500, 0).await);
    }
    net::eventually("all have come", async || {
        let stats = stage.gateway.stats().await;
        (stats.counter("http.gateway.downstream_rq_total") >= 4).then_some(())
    })
    .await;
    // The filter looks at them once a second, and two are too many.
    stage.under_way(2).await;
    stage
        .begin(key, 500, 1)
        .await
        .expect_refused("from this key: the limit is 2 requests")
        .await;
    let mut statuses = Vec::new();
    for upload in silent {
        statuses.push(upload.finish().await.status);
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 429, 429]);
}

#[tokio::test]
async fn bytes_in_upload_are_bounded_by_key_organization_and_envoy() {
    let bytes = json!({"key": "2MiB", "organization": "3MiB", "total": "4MiB"});
    let stage = Stage::new(json!({"bytes": bytes, "grace": "5m"})).await;
    let [first, second, other] = &stage.keys;
    // An upload alone may take all of it.
    stage.upload_passes(first, 2 * MIB).await;
    let held = stage.begin(first, 2 * MIB, 3 * MIB / 2).await;
    stage.under_way(1).await;
    let refused = stage.begin(first, 2 * MIB, MIB).await;
    refused
        .expect_refused("from this key: the limit is 2097152 bytes")
        .await;
    let refused = stage.begin(second, 2 * MIB, 7 * MIB / 4).await;
    refused
        .expect_refused("from this organization: the limit is 3145728 bytes")
        .await;
    // What was refused may count for a moment yet, so that this one is refused too.
    let more = loop {
        let upload = stage.begin(other, 2 * MIB, 3 * MIB / 2).await;
        let mut byte = [0];
        let answered = upload.stream.peek(&mut byte);
        if tokio::time::timeout(Duration::from_secs(1), answered)
            .await
            .is_err()
        {
            break upload;
        }
    };
    stage.under_way(2).await;
    // Room enough in its organization, also for what is counted ahead.
    let refused = stage.begin(second, 2 * MIB, 9 * MIB / 8).await;
    refused
        .expect_refused("at this gateway, from all of its callers: the limit is 4194304 bytes")
        .await;
    held.finish().await.expect(200);
    more.finish().await.expect(200);
    stage.upload_passes(second, 2 * MIB).await;
}

/// Envoy keeps a body until its answer begins, to send it again where a model server fails.
#[tokio::test]
async fn bytes_that_wait_for_an_answer_count_too() {
    let stage = Stage::new(json!({"bytes": {"key": "2MiB"}})).await;
    let key = &stage.keys[0];
    let waits = format!("{FAULT_HEADER}: first-byte=60s\r\n");
    let waiting = stage.begin_at(CHAT, key, &waits, MIB, MIB).await;
    stage.under_way(1).await;
    let refused = stage.begin(key, 3 * MIB / 2, 5 * MIB / 4).await;
    refused
        .expect_refused("from this key: the limit is 2097152 bytes")
        .await;
    stage.small(key).await.expect(200);
    drop(waiting);
    stage.upload_passes(key, 3 * MIB / 2).await;
}

#[tokio::test]
async fn a_slow_upload_is_cut_and_a_fast_one_is_not() {
    let stage = Stage::new(json!({"least_rate": "16KiB/s", "grace": "1s"})).await;
    let key = &stage.keys[0];
    let mut fast = stage.begin(key, MIB, 1_000).await;
    let mut cut = vec![
        stage.begin(key, MIB, 0).await,
        stage.begin(key, MIB, 1).await,
        // One that came fast, and then falls silent.
        stage.begin(key, MIB, MIB - 1).await,
    ];
    let mut trickling = stage.begin(key, MIB, 1).await;
    let trickle = async {
        // Until it is answered.
        let mut byte = [0];
        loop {
            let _ = trickling.stream.write_all(b"x").await;
            let answered = trickling.stream.peek(&mut byte);
            if tokio::time::timeout(Duration::from_millis(50), answered)
                .await
                .is_ok()
            {
                return trickling.answer().await;
            }
        }
    };
    let flow = async {
        // Ten times as fast as it has to be, for longer than it takes to cut.
        for _ in 0..50 {
            let piece = fast.rest.split_to(8 * 1024);
            fast.stream.write_all(&piece).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        fast.finish().await
    };
    let silent = async {
        let mut replies = Vec::new();
        for upload in &mut cut {
            replies.push(upload.answer().await);
        }
        replies
    };
    let (trickled, flowed, silent) = tokio::join!(trickle, flow, silent);
    flowed.expect(200);
    for reply in silent.into_iter().chain([trickled]) {
        let reply = reply
            .expect(408)
            .code("request_timeout")
            .kind("invalid_request_error");
        reply.says("at least 16384 bytes a second");
    }
    let mut anthropic = stage.begin_at("/v1/messages", key, "", MIB, 1).await;
    anthropic
        .answer()
        .await
        .expect(408)
        .anthropic("invalid_request_error");
}

#[tokio::test]
async fn a_slow_upload_over_http2_is_cut_too() {
    let stage = Stage::new(json!({"requests": {"key": 1}, "grace": "1s"})).await;
    let key = &stage.keys[0];
    for _ in 0..2 {
        let body = futures_util::stream::unfold(0, async |piece: u32| match piece {
            0 => Some((Ok::<_, std::io::Error>(b"{".to_vec()), 1)),
            _ => std::future::pending().await,
        });
        let request = stage.gateway.post(CHAT).key(key).http2();
        let reply = request.body(reqwest::Body::wrap_stream(body)).send().await;
        reply.expect(408).code("request_timeout");
    }
    stage.upload_passes(key, MIB).await;
}

#[tokio::test]
async fn whatever_its_ending_an_upload_counts_no_more() {
    let uploads = json!({"requests": {"key": 1}, "bytes": {"key": "32MiB"}, "grace": "1s"});
    let stage = Stage::new(uploads).await;
    let key = &stage.keys[0];
    // Each would find the place of the one before it, had that not been given back.
    stage.begin(key, MIB, 1).await.finish().await.expect(200);
    let broken = format!("{FAULT_HEADER}: reset\r\n");
    stage
        .begin_at(CHAT, key, &broken, MIB, 1)
        .await
        .finish()
        .await
        .expect(502);
    let mut nonsense = stage.begin(key, MIB, 1).await;
    nonsense.rest = vec![b'?'; nonsense.rest.len()].into();
    nonsense.finish().await.expect(400);
    stage.begin(key, MIB, 1).await.answer().await.expect(408);
    stage
        .begin(key, 32 * MIB + 1, 32 * MIB)
        .await
        .finish()
        .await
        .expect(413);
    drop(stage.begin(key, MIB, 1).await);
    stage.upload_passes(key, 31 * MIB).await;
    // Over a change of the configuration, too.
    let upload = stage.begin(key, MIB, 1).await;
    stage.under_way(1).await;
    let mut catalogue = Catalogue::new();
    catalogue.set("uploads", json!({"requests": {"key": 1}}));
    stage.gateway.set_router(&catalogue.configuration()).await;
    stage
        .begin(key, MIB, 1)
        .await
        .expect_refused("the limit is 1 requests")
        .await;
    upload.finish().await.expect(200);
    stage.upload_passes(key, MIB).await;
}

/// As it was found: 124 uploads of one key, each of all but the last byte of what one request may have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unfinished_uploads_of_one_key_cost_what_its_bound_says() {
    const UPLOADS: usize = 124;
    /// Of memory, over what Envoy held before: the bound is 256 MiB.
    const MOST_KB: u64 = 512 * 1024;
    let stage = Stage::new(json!({})).await;
    let [key, _, other] = &stage.keys;
    stage.small(key).await.expect(200);
    let before = stage.gateway.rss_kb();
    let body = chat(32 * MIB);
    let begin = || stage.begin_with(CHAT, key, "", body.clone(), 32 * MIB - 1);
    let begun = (0..UPLOADS).map(|_| begin());
    let uploads = futures_util::future::join_all(begun).await;
    let held = stage.gateway.rss_kb() - before;
    println!("{UPLOADS} uploads of 32 MiB: {held} kB more");
    assert!(held < MOST_KB, "{held} kB more");
    // Others have all they need.
    stage.upload_passes(other, 30 * MIB).await;
    drop(uploads);
    stage.upload_passes(key, 30 * MIB).await;
}

/// A stream is asked for its usage, which makes its body longer than what the client may send.
#[tokio::test]
async fn a_body_of_exactly_the_limit_passes_though_we_add_to_it() {
    let stage = Stage::new(json!({})).await;
    let limit = 32 * MIB;
    let mut body = chat(limit).to_vec();
    let member = br#""stream":true,"max_tokens":2,"#;
    // In the place of as much of the text.
    let at = body.iter().position(|byte| *byte == b'x').unwrap();
    body.drain(at..at + member.len());
    body.splice(1..1, *member);
    assert_eq!(body.len(), limit);
    let body = Bytes::from(body);
    for http2 in [false, true] {
        let request = stage.gateway.post(CHAT).key(&stage.keys[0]);
        let request = if http2 { request.http2() } else { request };
        let reply = request.body(body.clone()).send().await.expect(200);
        assert!(reply.text().ends_with("data: [DONE]\n\n"), "{reply:#?}");
        let seen = stage.models.seen();
        let seen = seen.last().unwrap();
        assert!(seen.body.len() > limit, "{}", seen.body.len());
    }
    // And a retry is made, as for any other.
    stage.models.fault_once(Fault::status(503));
    let request = stage.gateway.post(CHAT).key(&stage.keys[0]).body(body);
    request.send().await.expect(200);
}

/// Envoy gives each piece of more than 512 bytes a page of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_pieces_count_as_the_memory_that_they_take() {
    const UPLOADS: usize = 4;
    const PIECE: usize = 600;
    /// Of memory: the bound is 32 MiB, for up to twice as much. By their size these would take 450 MB.
    const MOST_KB: u64 = 128 * 1024;
    let stage = Stage::new(json!({"bytes": {"key": "32MiB"}})).await;
    let key = &stage.keys[0];
    stage.small(key).await.expect(200);
    let before = stage.gateway.rss_kb();
    let client = stage.gateway.client();
    let body = chat(16 * MIB);
    let begun = (0..UPLOADS).map(|_| {
        let body = body.clone();
        let pieces = (0..body.len() - PIECE).step_by(PIECE);
        let pieces = pieces.map(move |at| Ok::<_, std::io::Error>(body.slice(at..at + PIECE)));
        let pieces = futures_util::stream::iter(pieces).chain(futures_util::stream::pending());
        let request = client.post(CHAT).key(key).http2();
        request.body(reqwest::Body::wrap_stream(pieces)).send()
    });
    for reply in futures_util::future::join_all(begun).await {
        reply.expect(429).says("the limit is 33554432 bytes");
    }
    let held = stage.gateway.rss_kb().saturating_sub(before);
    assert!(held < MOST_KB, "{held} kB more");
}

/// Bursts of ordinary requests, of one key on connections of its own and on shared ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_ordinary_requests_is_not_refused() {
    let stage = Stage::new(json!({})).await;
    let client = stage.gateway.client();
    let body = chat(100_000);
    for http2 in [false, true] {
        let asked = (0..90).map(|_| {
            let request = client.post(CHAT).key(&stage.keys[0]).body(body.clone());
            if http2 { request.http2() } else { request }.send()
        });
        for reply in futures_util::future::join_all(asked).await {
            reply.expect(200);
        }
    }
}

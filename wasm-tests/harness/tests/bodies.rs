//! Bodies of every size, however they are cut into pieces, over both versions of HTTP: what the model server gets is
//! what the customer sent. And what they cost in memory.

#![expect(
    clippy::unwrap_used,
    reason = "a test says what it expects by failing, in its helpers too"
)]

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tollgate_core::key::ApiKey;
use tollgate_harness::client::Request;
use tollgate_harness::models::{FAULT_HEADER, ModelServer};
use tollgate_harness::{Catalogue, Directory, Gateway, Options, net, raw};

const CHAT: &str = "/v1/chat/completions";
const AUDIO: &str = "/v1/audio/transcriptions";
const LIMIT: usize = 32 * 1024 * 1024;
const BOUNDARY: &str = "a-boundary";

struct Stack {
    gateway: Gateway,
    key: ApiKey,
    models: ModelServer,
}

impl Stack {
    async fn start() -> Self {
        Self::with(Options::new()).await
    }

    async fn with(options: Options) -> Self {
        let models = ModelServer::builder().keep(64).start().await.unwrap();
        let mut directory = Directory::new();
        let key = directory.project_key("acme", "search");
        // Without a context window: what is large here is so as no text for a model would be.
        let mut catalogue = Catalogue::new();
        catalogue
            .chat("llama-70b", &["llama"])
            .change("llama-70b", json!({"aliases": ["gpt"]}))
            .change("whisper-large", json!({"aliases": ["whisper-1"]}));
        let options = options
            .llama(models.addr())
            .directory(&directory)
            .catalogue(&catalogue);
        Self {
            gateway: options.unbroken().start().await,
            key,
            models,
        }
    }

    fn post(&self, path: &str) -> Request {
        self.gateway.post(path).key(&self.key)
    }

    /// Asserts that this body, and nothing else, has reached the model server since the last time.
    fn arrived(&self, body: &[u8], how: &str) {
        let seen = self.models.seen();
        assert_eq!(seen.len(), 1, "{how}");
        let seen = seen.first().unwrap();
        assert!(
            seen.body == body,
            "{how}: {} bytes of {} arrived",
            seen.body.len(),
            body.len()
        );
        let length = seen.header("content-length");
        assert!(
            length.is_none_or(|length| length == body.len().to_string()),
            "{how}: {length:?}"
        );
        self.models.ledger().clear();
    }
}

/// A chat request of exactly so many bytes, not all of them ASCII.
fn chat(size: usize) -> Bytes {
    let (before, after) = (
        r#"{"messages":[{"role":"user","content":""#,
        r#""}],"model":"llama-70b"}"#,
    );
    let room = size - before.len() - after.len();
    let text = "é".repeat(room / 2) + &"x".repeat(room % 2);
    Bytes::from(format!("{before}{text}{after}"))
}

/// A form with a sound of so many bytes, the model before or after it.
fn form(size: usize, model_first: bool) -> Bytes {
    let model =
        format!("--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nwhisper-large\r\n");
    let mut file = format!(
        "--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\
         content-type: audio/wav\r\n\r\n"
    )
    .into_bytes();
    // What looks like a boundary and is none.
    let noise = b"\r\n--a-boundar\r\n--\r\n\0\xff{\"model\":\"x\"}";
    file.extend(noise.iter().cycle().take(size));
    file.extend(b"\r\n");
    let parts = if model_first {
        [model.as_bytes(), &file].concat()
    } else {
        [&file, model.as_bytes()].concat()
    };
    Bytes::from([&parts[..], format!("--{BOUNDARY}--\r\n").as_bytes()].concat())
}

/// The body in pieces of so many bytes, without a length.
fn pieces(body: &Bytes, size: usize) -> reqwest::Body {
    let body = body.clone();
    let starts = (0..body.len()).step_by(size);
    let piece = move |at: usize| Ok::<_, Infallible>(body.slice(at..(at + size).min(body.len())));
    reqwest::Body::wrap_stream(futures_util::stream::iter(starts.map(piece)))
}

#[tokio::test]
async fn every_size_arrives_as_it_was_sent() {
    let stack = Stack::start().await;
    let kind = format!("multipart/form-data; boundary={BOUNDARY}");
    for size in [200, 1_000, 16_383, 65_536, 1_048_575, 1_048_577, 5_000_000, LIMIT] {
        for http2 in [false, true] {
            let over = |request: Request| if http2 { request.http2() } else { request };
            let body = chat(size);
            let how = format!("{size} bytes, HTTP/2: {http2}");
            over(stack.post(CHAT).body(body.clone())).send().await.expect(200);
            stack.arrived(&body, &how);
            let model_first = size % 2 == 0;
            let body = form(size.saturating_sub(1_000), model_first);
            let request = stack.post(AUDIO).header("content-type", &kind).body(body.clone());
            over(request).send().await.expect(200);
            stack.arrived(&body, &format!("a form of {how}"));
        }
    }
}

#[tokio::test]
async fn a_body_may_be_cut_anywhere() {
    let stack = Stack::start().await;
    let small = chat(301);
    for size in 1..=small.len() {
        let mut stream = tokio::net::TcpStream::connect(stack.gateway.addr())
            .await
            .unwrap();
        stream.set_nodelay(true).unwrap();
        let head = format!(
            "POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\nconnection: close\r\n\
             transfer-encoding: chunked\r\n\r\n",
            stack.key.reveal()
        );
        let mut request = head.into_bytes();
        for chunk in small.chunks(size) {
            request.extend(format!("{:x}\r\n", chunk.len()).bytes());
            request.extend(chunk);
            request.extend(b"\r\n");
        }
        request.extend(b"0\r\n\r\n");
        // And the connection's own pieces, at other places.
        for part in request.chunks(size + 7) {
            stream.write_all(part).await.unwrap();
        }
        let mut answer = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer)
            .await
            .unwrap();
        assert!(
            answer.starts_with(b"HTTP/1.1 200"),
            "{size}: {}",
            String::from_utf8_lossy(&answer)
        );
        stack.arrived(&small, &format!("chunks of {size}"));
    }
    // As small as pieces may be: 4,096 of any size, and more of 64 bytes.
    for (len, size) in [
        (301, 1),
        (301, 17),
        (28_000, 7),
        (1_000_000, 64),
        (5_000_000, 1_000),
        (LIMIT, 16_384),
        (LIMIT, 5_000_000),
    ] {
        for http2 in [false, true] {
            let body = chat(len);
            let request = stack.post(CHAT).body(pieces(&body, size));
            let request = if http2 { request.http2() } else { request };
            request.send().await.expect(200);
            stack.arrived(
                &body,
                &format!("{len} bytes in pieces of {size}, HTTP/2: {http2}"),
            );
        }
    }
}

/// A model server need not know how customers call its model.
#[tokio::test]
async fn an_alias_arrives_as_the_models_own_name() {
    let stack = Stack::start().await;
    let kind = format!("multipart/form-data; boundary={BOUNDARY}");
    let named = |body: &Bytes, name: &str, alias: &str| {
        let at = body
            .windows(name.len())
            .rposition(|part| part == name.as_bytes())
            .unwrap();
        Bytes::from([&body[..at], alias.as_bytes(), &body[at + name.len()..]].concat())
    };
    for size in [200, 65_536, 1_048_577, LIMIT - 100] {
        for http2 in [false, true] {
            let over = |request: Request| if http2 { request.http2() } else { request };
            let how = format!("{size} bytes, HTTP/2: {http2}");
            let body = chat(size);
            let request = stack.post(CHAT).body(named(&body, "llama-70b", "gpt"));
            over(request).send().await.expect(200);
            stack.arrived(&body, &how);
            let request = stack
                .post(CHAT)
                .body(pieces(&named(&body, "llama-70b", "gpt"), 1 + size / 7));
            over(request).send().await.expect(200);
            stack.arrived(&body, &format!("{how}, in pieces"));
            let body = form(size.saturating_sub(1_000), http2);
            let body_said = named(&body, "whisper-large", "whisper-1");
            let request = stack.post(AUDIO).header("content-type", &kind).body(body_said);
            over(request).send().await.expect(200);
            stack.arrived(&body, &format!("a form of {how}"));
        }
    }
}

#[tokio::test]
async fn an_alias_goes_with_the_other_change_of_a_body() {
    let stack = Stack::with(Options::new().limits(json!({"limits": []}))).await;
    // On either side of it.
    for said in [
        json!({"model": "gpt", "stream": true, "messages": []}).to_string(),
        r#"{"stream":true,"stream_options":{"include_usage":false},"model":"gpt","messages":[]}"#.into(),
        r#"{"model":"gpt","stream":true,"stream_options":{"include_usage":false},"messages":[]}"#.into(),
    ] {
        stack.post(CHAT).body(said.clone()).send().await.expect(200);
        let seen = stack.models.seen().pop().unwrap();
        let seen: Value = serde_json::from_slice(&seen.body).unwrap();
        assert_eq!(seen["model"], "llama-70b", "{said}");
        assert_eq!(seen["stream_options"]["include_usage"], true, "{said}");
        stack.models.ledger().clear();
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_whether_its_length_is_said_or_not() {
    let stack = Stack::start().await;
    let large = chat(LIMIT + 1);
    let key = stack.key.reveal();
    for (path, said) in [
        (CHAT, true),
        (CHAT, false),
        ("/v1/messages", true),
        ("/v1/messages", false),
    ] {
        let length = if said {
            format!("content-length: {}", large.len())
        } else {
            "transfer-encoding: chunked".to_owned()
        };
        let head =
            format!("POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n{length}\r\n\r\n");
        let mut request = head.into_bytes();
        if said {
            request.extend(&large);
        } else {
            for chunk in large.chunks(1_000_000) {
                request.extend(format!("{:x}\r\n", chunk.len()).bytes());
                request.extend(chunk);
                request.extend(b"\r\n");
            }
            request.extend(b"0\r\n\r\n");
        }
        let answer = raw::exchange(stack.gateway.addr(), &request, Duration::from_secs(30)).await;
        let reply = answer.expect(413);
        if path == CHAT {
            reply
                .code("request_too_large")
                .kind("invalid_request_error")
                .says("33554432 bytes");
        } else {
            reply.anthropic("request_too_large");
        }
    }
    let http2 = stack
        .post(CHAT)
        .body(pieces(&large, 100_000))
        .http2()
        .send()
        .await;
    http2.expect(413).code("request_too_large");
    assert_eq!(stack.models.seen().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_in_flight_cost_a_known_multiple_of_their_size() {
    const BODIES: usize = 12;
    const SIZE: usize = 16 * 1024 * 1024;
    let stack = Stack::start().await;
    stack.post(CHAT).body(chat(1_000)).send().await.expect(200);
    let before = stack.gateway.peak_rss_kb();
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..BODIES {
        // Every body is kept until the answer begins, since it may have to be sent again.
        let request = stack
            .post(CHAT)
            .header(FAULT_HEADER, "first-byte=4s")
            .body(chat(SIZE));
        requests.spawn(async move { request.send().await.status });
    }
    net::eventually("all are in flight", async || {
        let stats = stack.gateway.stats().await;
        (stats.counter("cluster.llama.upstream_rq_active") >= BODIES as u64).then_some(())
    })
    .await;
    assert!(requests.join_all().await.into_iter().all(|status| status == 200));
    let cost = stack.gateway.peak_rss_kb() - before;
    let bodies = (BODIES * SIZE / 1024) as u64;
    println!(
        "{BODIES} bodies of {SIZE} bytes: {cost} kB, {:.2} times their size",
        cost as f64 / bodies as f64
    );
    // One copy in Envoy to be sent again, one on its way; and in each worker's filter one of the largest body.
    assert!(cost <= bodies * 5 / 2, "{cost} kB for {bodies} kB");
}

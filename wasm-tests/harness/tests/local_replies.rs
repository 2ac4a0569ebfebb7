//! Every answer that Envoy makes by itself, in the shape that customers' SDKs read: OpenAI's, and Anthropic's on
//! `/v1/messages`. What our filters and the model servers answer passes unchanged.

#![expect(
    clippy::unwrap_used,
    reason = "a test says what it expects by failing, in its helpers too"
)]

use std::time::Duration;

use serde_json::{Value, json};
use tollgate_core::key::ApiKey;
use tollgate_harness::client::Request;
use tollgate_harness::models::{FAULT_HEADER, Fault, ModelServer};
use tollgate_harness::{Catalogue, Directory, Gateway, Options, Reload, net, raw};

const OPENAI: &str = "/v1/chat/completions";
const ANTHROPIC: &str = "/v1/messages";

/// A gateway, one good key, and a model server behind the cluster `llama`.
struct Stack {
    gateway: Gateway,
    key: ApiKey,
    models: ModelServer,
}

impl Stack {
    async fn start() -> Self {
        Self::with(|options| options).await
    }

    async fn with(change: impl FnOnce(Options) -> Options) -> Self {
        let models = ModelServer::start().await.unwrap();
        let mut directory = Directory::new();
        let key = directory.project_key("acme", "search");
        let options = Options::new().llama(models.addr()).directory(&directory);
        let gateway = change(options.unbroken()).start().await;
        Self { gateway, key, models }
    }

    /// A request that is fine.
    fn ask(&self, path: &str) -> Request {
        self.gateway.post(path).key(&self.key).json(chat())
    }

    async fn raw(&self, head: &str) -> raw::Answer {
        raw::exchange(self.gateway.addr(), head.as_bytes(), Duration::from_secs(10)).await
    }
}

fn chat() -> Value {
    json!({"model": "llama-70b", "max_tokens": 8, "messages": [{"role": "user", "content": "one two three"}]})
}

#[tokio::test]
async fn what_is_not_served_is_unknown() {
    let stack = Stack::start().await;
    for path in [
        "/v2/chat/completions",
        "/v1/chat",
        "/v1",
        "/",
        "/v1/chat/completions/",
        "/v1/models/",
    ] {
        for http2 in [false, true] {
            let mut ask = stack.ask(path);
            if http2 {
                ask = ask.http2();
            }
            let reply = ask
                .send()
                .await
                .expect(404)
                .code("unknown_url")
                .kind("invalid_request_error");
            reply
                .says(&format!("POST {path}."))
                .says("versions served: v1")
                .has("openai-organization", "acme");
        }
    }
    stack
        .ask("/v1/messages/batches")
        .send()
        .await
        .expect(404)
        .anthropic("not_found_error")
        .says("v1");
    assert_eq!(stack.models.seen().len(), 0);
}

#[tokio::test]
async fn a_stranger_learns_nothing_of_what_is_served() {
    let stack = Stack::start().await;
    for path in ["/v2/x", "/v1/models", OPENAI] {
        let reply = stack
            .gateway
            .get(path)
            .send()
            .await
            .expect(401)
            .code("missing_api_key");
        reply.lacks("openai-organization").lacks("allow");
    }
}

#[tokio::test]
async fn a_wrong_method_is_told_the_right_ones() {
    let stack = Stack::start().await;
    let as_method = |method, path| stack.gateway.request(method, path).key(&stack.key);
    for method in ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let reply = as_method(method, OPENAI)
            .send()
            .await
            .expect(405)
            .code("method_not_allowed");
        reply
            .kind("invalid_request_error")
            .has("allow", "POST")
            .says("POST only");
    }
    as_method("GET", ANTHROPIC)
        .http2()
        .send()
        .await
        .expect(405)
        .anthropic("invalid_request_error")
        .has("allow", "POST");
    as_method("GET", "/v1/images/edits")
        .send()
        .await
        .expect(405)
        .has("allow", "POST");
    as_method("DELETE", "/v1/models/llama-70b")
        .send()
        .await
        .expect(405)
        .has("allow", "GET, HEAD");
    assert_eq!(stack.models.seen().len(), 0);
}

/// A request that is fine, of so many bytes.
fn padded(size: usize) -> Vec<u8> {
    let mut body = chat().to_string().into_bytes();
    body.resize(size, b' ');
    body
}

#[tokio::test]
async fn a_body_passes_up_to_the_limit_and_not_above_it() {
    const LIMIT: usize = 32 * 1024 * 1024;
    let stack = Stack::start().await;
    for http2 in [false, true] {
        let send = async |path: &str, size: usize| {
            let request = stack.gateway.post(path).key(&stack.key).body(padded(size));
            if http2 { request.http2() } else { request }.send().await
        };
        let reply = send(OPENAI, LIMIT + 1)
            .await
            .expect(413)
            .code("request_too_large");
        reply.kind("invalid_request_error").says("33554432 bytes");
        send(ANTHROPIC, LIMIT + 1)
            .await
            .expect(413)
            .anthropic("request_too_large")
            .says("33554432 bytes");
        assert_eq!(stack.models.seen().len(), 0, "no part of it reaches a model");

        send(OPENAI, LIMIT).await.expect(200);
        let seen = stack.models.wait_for(1, Duration::from_secs(10)).await.unwrap();
        assert_eq!(seen[0].body.len(), LIMIT);
        stack.models.ledger().clear();
    }
}

#[tokio::test]
async fn headers_may_be_neither_too_large_nor_too_many() {
    let stack = Stack::start().await;
    let large = format!(
        "GET {OPENAI} HTTP/1.1\r\nhost: x\r\nx-large: {}\r\n\r\n",
        "a".repeat(61 * 1024)
    );
    let many = format!(
        "GET {OPENAI} HTTP/1.1\r\nhost: x\r\n{}\r\n",
        "a: b\r\n".repeat(101)
    );
    let long = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(61 * 1024));
    for head in [large, many, long] {
        let reply = stack.raw(&head).await.expect(431);
        reply
            .code("headers_too_large")
            .kind("invalid_request_error")
            .says("60 KiB");
    }
    // HTTP/2 has no answer for it but the end of the stream.
    let large = stack
        .ask(OPENAI)
        .header("x-large", &"a".repeat(61 * 1024))
        .http2();
    assert!(large.try_send().await.is_err());
    stack
        .ask(OPENAI)
        .header("x-large", &"a".repeat(50 * 1024))
        .http2()
        .send()
        .await
        .expect(200);
}

#[tokio::test]
async fn what_is_no_http_is_a_bad_request() {
    let stack = Stack::start().await;
    let rest = "host: x\r\ncontent-length: 0\r\n\r\n";
    for head in [
        "hello\r\n\r\n".to_owned(),
        format!("P@ST {OPENAI} HTTP/1.1\r\n{rest}"),
        format!("POST {OPENAI} HTTP/1.1\r\na name: x\r\n{rest}"),
        format!("POST {OPENAI} HTTP/1.1\r\na: b\0c\r\n{rest}"),
        format!("POST {OPENAI}%00 HTTP/1.1\r\n{rest}"),
        format!("POST {OPENAI} HTTP/1.1\r\ncontent-length: 0\r\n\r\n"),
        format!("POST {OPENAI} HTTP/1.1\r\nhost: a b\r\ncontent-length: 0\r\n\r\n"),
        format!("POST {OPENAI} HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab"),
        format!("POST {OPENAI} HTTP/1.1\r\ntransfer-encoding: chunked\r\n{rest}"),
        format!("POST {OPENAI} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"),
    ] {
        let reply = stack.raw(&head).await.expect(400);
        reply.code("bad_request").kind("invalid_request_error");
    }
    // A bad chunk comes after the headers, and so after the key.
    let key = stack.key.reveal();
    for (path, shape) in [(OPENAI, "bad_request"), (ANTHROPIC, "")] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"
        );
        let reply = stack.raw(&head).await.expect(400);
        match shape {
            "" => reply.anthropic("invalid_request_error"),
            code => reply.code(code),
        };
    }
    for version in ["1.0", "0.9", "9.9"] {
        let reply = stack
            .raw(&format!("GET {OPENAI} HTTP/{version}\r\nhost: x\r\n\r\n"))
            .await
            .expect(426);
        reply.code("http_version_not_supported");
    }
    assert_eq!(stack.models.seen().len(), 0);
}

#[tokio::test]
async fn connect_is_not_served() {
    let stack = Stack::start().await;
    let key = stack.key.reveal();
    let head = format!("CONNECT x:443 HTTP/1.1\r\nhost: x:443\r\nauthorization: Bearer {key}\r\n\r\n");
    stack.raw(&head).await.expect(400).code("bad_request");
}

#[tokio::test]
async fn whatever_a_path_holds_the_answer_is_json() {
    let stack = Stack::start().await;
    let key = stack.key.reveal();
    for path in [
        "/%22%5c%0a",
        "/\"}{\\",
        "/%F0%9F%98%80",
        "/%ff%fe",
        "/%25REQ(AUTHORIZATION)%25",
        "/%REQ(AUTHORIZATION)%",
    ] {
        let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n\r\n");
        let reply = stack.raw(&head).await.expect(404).code("unknown_url");
        assert!(!reply.text().contains(key), "{}", reply.text());
    }
    let long = format!("/{}?secret=1", "a".repeat(4000));
    let reply = stack.ask(&long).send().await.expect(404).code("unknown_url");
    assert!(
        reply.body.len() < 600 && !reply.text().contains("secret"),
        "{}",
        reply.text()
    );
}

#[tokio::test]
async fn without_a_healthy_model_server_the_model_is_unavailable() {
    let mut directory = Directory::new();
    let key = directory.key("acme");
    let gateway = Options::new().directory(&directory).start().await;
    for http2 in [false, true] {
        let ask = |path: &str| {
            let request = gateway.post(path).key(&key).json(chat());
            if http2 { request.http2() } else { request }
        };
        let reply = ask(OPENAI).send().await.expect(503).code("model_unavailable");
        let record = gateway.access_log().of(reply.request_id().unwrap()).await;
        assert_eq!(
            (record.flags.as_str(), record.org.as_deref()),
            ("UH", Some("acme"))
        );
        reply
            .kind("service_unavailable_error")
            .has("openai-organization", "acme");
        ask(ANTHROPIC)
            .send()
            .await
            .expect(503)
            .anthropic("overloaded_error");
    }
}

#[tokio::test]
async fn a_route_to_no_cluster_is_an_unavailable_model() {
    let mut catalogue = Catalogue::empty();
    catalogue.chat("llama-70b", &["nowhere"]);
    let stack = Stack::with(|options| options.catalogue(&catalogue)).await;
    stack
        .ask(OPENAI)
        .send()
        .await
        .expect(503)
        .code("model_unavailable");
    stack
        .ask(ANTHROPIC)
        .send()
        .await
        .expect(503)
        .anthropic("overloaded_error");
}

#[tokio::test]
async fn a_model_server_that_is_gone_is_an_upstream_error() {
    let Stack { gateway, key, models } = Stack::start().await;
    let ask = |path: &str| gateway.post(path).key(&key).json(chat());
    ask(OPENAI).send().await.expect(200);
    // Health checks take 15 s to notice; until then connections are tried and refused.
    drop(models);
    let reply = ask(OPENAI)
        .send()
        .await
        .expect(502)
        .code("upstream_error")
        .kind("server_error");
    let record = gateway.access_log().of(reply.request_id().unwrap()).await;
    assert!(record.flags.contains("UF"), "{record:?}");
    assert_eq!(record.attempts, 3, "retried, since nothing was sent");
    ask(ANTHROPIC)
        .http2()
        .send()
        .await
        .expect(502)
        .anthropic("api_error");
}

#[tokio::test]
async fn a_connection_lost_before_the_answer_is_an_upstream_error() {
    let stack = Stack::start().await;
    for fault in ["close", "reset"] {
        let ask = |path: &str| stack.ask(path).header(FAULT_HEADER, fault);
        ask(OPENAI)
            .send()
            .await
            .expect(502)
            .code("upstream_error")
            .kind("server_error");
        ask(ANTHROPIC)
            .http2()
            .send()
            .await
            .expect(502)
            .anthropic("api_error");
        let seen = stack.models.seen();
        assert_eq!(seen.len(), 2, "not sent again: the model may have begun");
        stack.models.ledger().clear();
    }
}

#[tokio::test]
async fn a_silent_model_is_a_timeout() {
    let stack = Stack::with(|options| {
        options.edit(
            "listener.yaml",
            "stream_idle_timeout: 300s",
            "stream_idle_timeout: 0.5s",
        )
    })
    .await;
    let ask = |path: &str| stack.ask(path).header(FAULT_HEADER, "first-byte=60s");
    ask(OPENAI)
        .send()
        .await
        .expect(504)
        .code("upstream_timeout")
        .kind("server_error");
    ask(OPENAI)
        .http2()
        .send()
        .await
        .expect(504)
        .code("upstream_timeout");
    ask(ANTHROPIC).send().await.expect(504).anthropic("api_error");
}

#[tokio::test]
async fn a_request_that_does_not_arrive_is_a_timeout_of_the_client() {
    let stack = Stack::with(|options| {
        options
            .edit(
                "listener.yaml",
                "request_headers_timeout: 10s",
                "request_headers_timeout: 0.5s",
            )
            .edit("listener.yaml", "request_timeout: 300s", "request_timeout: 1s")
    })
    .await;
    let unfinished = stack
        .raw("POST /v1/responses HTTP/1.1\r\nhost: x")
        .await
        .expect(408);
    unfinished.code("request_timeout").kind("invalid_request_error");
    let key = stack.key.reveal();
    let begin = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-length: 100\r\n\r\n{{"
        )
    };
    stack
        .raw(&begin(OPENAI))
        .await
        .expect(408)
        .code("request_timeout");
    stack
        .raw(&begin(ANTHROPIC))
        .await
        .expect(408)
        .anthropic("invalid_request_error");
    assert_eq!(stack.models.seen().len(), 0, "no model waits for a slow client");
}

#[tokio::test]
async fn a_full_circuit_breaker_is_an_overload() {
    let stack =
        Stack::with(|options| options.edit("clusters.yaml", "max_requests: 4096", "max_requests: 1")).await;
    let slow = stack.ask(OPENAI).header(FAULT_HEADER, "first-byte=60s").open();
    let crowded = async {
        stack
            .models
            .wait_until(Duration::from_secs(10), |seen| !seen.is_empty())
            .await
            .unwrap();
        let reply = stack
            .ask(OPENAI)
            .send()
            .await
            .expect(503)
            .code("server_is_overloaded");
        reply.kind("service_unavailable_error");
        stack
            .ask(ANTHROPIC)
            .http2()
            .send()
            .await
            .expect(503)
            .anthropic("overloaded_error");
    };
    tokio::select! {
        response = slow => panic!("it was to wait: {response:?}"),
        () = crowded => {}
    }
}

#[tokio::test]
async fn a_gateway_short_of_memory_says_that_it_is_overloaded() {
    let stack = Stack::with(|options| {
        options
            .edit(
                "envoy.yaml",
                "max_heap_size_bytes: 4294967296",
                "max_heap_size_bytes: 1048576",
            )
            // It would take no connection to say so on.
            .edit(
                "envoy.yaml",
                "overload_actions.stop_accepting_connections",
                "overload_actions.disable_http_keepalive",
            )
    })
    .await;
    let reply = net::eventually("requests are shed", async || {
        let reply = stack.ask(OPENAI).send().await;
        (reply.status == 503).then_some(reply)
    })
    .await;
    reply
        .code("server_is_overloaded")
        .kind("service_unavailable_error");
    stack
        .ask(ANTHROPIC)
        .http2()
        .send()
        .await
        .expect(503)
        .kind("overloaded_error");
}

#[tokio::test]
async fn without_a_filter_nobody_gets_in() {
    let models = ModelServer::start().await.unwrap();
    let gateway = Options::new()
        .llama(models.addr())
        .key_auth(json!({"directory": "none"}))
        .start()
        .await;
    let key = tollgate_harness::directory::mint();
    let ask = |path: &str| gateway.post(path).key(&key).json(chat());
    ask(OPENAI)
        .send()
        .await
        .expect(500)
        .code("gateway_misconfigured")
        .kind("server_error");
    ask(OPENAI)
        .http2()
        .send()
        .await
        .expect(500)
        .code("gateway_misconfigured");
    ask(ANTHROPIC).send().await.expect(500).anthropic("api_error");
    assert_eq!(models.seen().len(), 0);

    // Mended, it serves without a restart.
    let mut directory = Directory::new();
    let key = directory.key("acme");
    assert_eq!(gateway.set_key_auth(&directory.inline()).await, Reload::Accepted);
    net::eventually("the key is accepted", async || {
        (gateway.post(OPENAI).key(&key).json(chat()).send().await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn refusals_of_our_filters_pass_unchanged() {
    let stack = Stack::start().await;
    let wrong = tollgate_harness::directory::mint();
    let reply = stack
        .gateway
        .post(OPENAI)
        .key(&wrong)
        .json(chat())
        .send()
        .await
        .expect(401);
    let record = stack.gateway.access_log().of(reply.request_id().unwrap()).await;
    assert_eq!(record.details.as_deref(), Some("tollgate_unknown_key"));
    let reply = reply.code("invalid_api_key").kind("invalid_request_error");
    let shown = format!("{}***", &wrong.reveal()[..8]);
    reply.says(&shown);
    let reply = stack
        .gateway
        .post(ANTHROPIC)
        .key(&wrong)
        .json(chat())
        .http2()
        .send()
        .await
        .expect(401);
    reply.anthropic("authentication_error").says(&shown);
}

#[tokio::test]
async fn errors_of_model_servers_pass_unchanged() {
    let stack = Stack::start().await;
    for status in [400, 404, 413, 429, 500, 503, 504] {
        let body = format!("{{\"detail\": \"its own {status}\"}}");
        stack.models.set_fault(Fault {
            status: Some(status),
            body: Some(body.clone()),
            ..Fault::default()
        });
        for path in [OPENAI, ANTHROPIC] {
            let reply = stack.ask(path).send().await.expect(status);
            assert_eq!(reply.text(), body);
        }
    }
}

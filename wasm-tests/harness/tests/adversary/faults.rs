//! Faults of our side and of model servers: they cost no customer his answer where another target has one, and tell no
//! customer of ours; and what one tenant causes takes a target from nobody else.

use std::time::Duration;

use serde_json::{Value, json};
use tollgate_core::key::ApiKey;
use tollgate_harness::models::{Chunking, FAULT_HEADER, Fault, ModelServer};
use tollgate_harness::{Catalogue, Directory, Gateway, Options, Reply, net};

use crate::scripted::Scripted;
use crate::stage::{CHAT, MESSAGES};

/// Part of what a provider tells of our account.
const OURS: &str = "pr0viderSide";

struct Stage {
    gateway: Gateway,
    keys: [ApiKey; 3],
    provider: Scripted,
    spare: ModelServer,
}

impl Stage {
    /// `lone` and `other` are served by a provider, `twin` by it and then by a spare, `live` by it as a stream.
    async fn start() -> Self {
        Self::with(json!({"failures": 3, "open": "60s", "longest": "60s"})).await
    }

    async fn with(breaker: Value) -> Self {
        let provider = Scripted::start().await;
        let spare = ModelServer::start().await.unwrap();
        let mut directory = Directory::empty();
        let keys = ["acme", "globex", "initech"].map(|org| {
            directory.org(org, json!({"tier": "pro", "models": ["*"]}));
            directory.key(org)
        });
        let mut catalogue = Catalogue::empty();
        catalogue
            .chat("lone", &["provider"])
            .chat("other", &["provider"])
            .chat("live", &["provider"])
            .change(
                "live",
                json!({"timeouts": {"first_byte": "5s", "first_event": "1s", "idle": "2s"}}),
            )
            .chat("twin", &["provider", "spare"])
            .change(
                "twin",
                json!({"targets": [{"cluster": "provider"}, {"cluster": "spare", "weight": 0}]}),
            )
            .set("breaker", breaker);
        let gateway = Options::new()
            .cluster("provider", provider.addr())
            .cluster("spare", spare.addr())
            .directory(&directory)
            .catalogue(&catalogue)
            .start()
            .await;
        Self {
            gateway,
            keys,
            provider,
            spare,
        }
    }

    async fn ask(&self, path: &str, model: &str) -> Reply {
        self.ask_as(0, path, model).await
    }

    async fn ask_as(&self, who: usize, path: &str, model: &str) -> Reply {
        let body =
            json!({"model": model, "max_tokens": 8, "messages": [{"role": "user", "content": "hello"}]});
        self.gateway
            .post(path)
            .key(&self.keys[who])
            .json(body)
            .send()
            .await
    }
}

fn error(message: &str, kind: &str, code: &str) -> String {
    json!({"error": {"message": format!("{message} {OURS}"), "type": kind, "param": null, "code": code}})
        .to_string()
}

/// What providers say of our credential, our quota and our mistakes.
fn about_us() -> Vec<(&'static str, &'static str, String)> {
    const JSON: &str = "content-type: application/json";
    const HTML: &str = "content-type: text/html";
    vec![
        (
            "401 Unauthorized",
            JSON,
            error(
                "Incorrect API key provided: sk-1",
                "invalid_request_error",
                "invalid_api_key",
            ),
        ),
        (
            "403 Forbidden",
            JSON,
            error("You are not allowed", "permission_error", "permission_denied"),
        ),
        ("403 Forbidden", HTML, format!("<html>{OURS}</html>")),
        (
            "402 Payment Required",
            JSON,
            error("Insufficient Balance", "unknown_error", "invalid_request_error"),
        ),
        ("407 Proxy Authentication Required", HTML, OURS.into()),
        (
            "429 Too Many Requests",
            JSON,
            error("Quota", "insufficient_quota", "insufficient_quota"),
        ),
        (
            "400 Bad Request",
            JSON,
            error("Your credit balance is too low", "invalid_request_error", ""),
        ),
        (
            "400 Bad Request",
            JSON,
            error("API key not valid.", "INVALID_ARGUMENT", ""),
        ),
        (
            "404 Not Found",
            JSON,
            error(
                "The model `x` does not exist",
                "invalid_request_error",
                "model_not_found",
            ),
        ),
        (
            "529 Overloaded",
            JSON,
            error("Overloaded", "overloaded_error", ""),
        ),
    ]
}

#[tokio::test]
async fn what_a_provider_says_of_us_reaches_no_customer() {
    let stage = Stage::with(json!({"failures": 1000, "open": "1s", "longest": "1s"})).await;
    for (status, kind, body) in about_us() {
        let told = [
            kind,
            "www-authenticate: Bearer realm=\"pr0viderSide\"",
            "x-request-id: theirs",
        ];
        stage.provider.answer(status, &told, &body);
        for path in [CHAT, MESSAGES] {
            let reply = stage.ask(path, "lone").await.expect(503);
            let reply = reply
                .has("content-type", "application/json")
                .lacks("www-authenticate");
            assert!(!reply.text().contains(OURS), "{status}: {}", reply.text());
            let seen = reply.json();
            let shape = if path == CHAT {
                "/error/code"
            } else {
                "/request_id"
            };
            assert!(
                seen.pointer(shape).is_some_and(Value::is_string),
                "{status}: {seen}"
            );
            let id = reply.request_id().unwrap().to_owned();
            assert_ne!(id, "theirs");
            let record = stage.gateway.usage_log().of(&id).await;
            assert_eq!(record.status, 503, "{status}");
        }
    }
    net::eventually("an operator can see all of it", async || {
        let stats = stage.gateway.stats().await;
        let count = stats.sum("wasmcustom.tollgate_router_target_faults.");
        (count == 2 * about_us().len() as u64).then_some(())
    })
    .await;
}

#[tokio::test]
async fn another_target_answers_where_ours_is_refused() {
    for (status, kind, body) in about_us() {
        // Envoy asks another target by the status alone.
        if status.starts_with("400") || status.starts_with("404") {
            continue;
        }
        let stage = Stage::start().await;
        stage.provider.answer(status, &[kind], &body);
        for _ in 0..6 {
            stage.ask(CHAT, "twin").await.expect(200);
        }
        assert_eq!(stage.spare.seen().len(), 6, "{status}");
        assert_eq!(stage.provider.asked(), 3, "{status}: and is then left alone");
    }
}

#[tokio::test]
async fn what_a_model_says_of_the_request_passes_as_it_is() {
    let stage = Stage::start().await;
    for (status, code, body) in [
        (
            "400 Bad Request",
            400,
            error(
                "maximum context length",
                "invalid_request_error",
                "context_length_exceeded",
            ),
        ),
        (
            "422 Unprocessable Entity",
            422,
            json!({"detail": [{"msg": "field required"}]}).to_string(),
        ),
        (
            "404 Not Found",
            404,
            error("File not found", "not_found_error", ""),
        ),
        (
            "429 Too Many Requests",
            429,
            error("Slow down", "requests", "rate_limit_exceeded"),
        ),
        (
            "500 Internal Server Error",
            500,
            error("Oops", "server_error", ""),
        ),
        (
            "503 Service Unavailable",
            503,
            error("Loading", "server_error", ""),
        ),
    ] {
        stage
            .provider
            .answer(status, &["content-type: application/json"], &body);
        let reply = stage.ask(CHAT, "lone").await.expect(code);
        assert_eq!(reply.text(), body, "{status}");
    }
}

#[tokio::test]
async fn pages_and_redirects_become_our_json() {
    let stage = Stage::with(json!({"failures": 1000, "open": "1s", "longest": "1s"})).await;
    let html = [
        "content-type: text/html",
        "location: http://inner.example/",
        "set-cookie: a=b",
    ];
    for (status, body, told, code) in [
        ("502 Bad Gateway", "<html>nginx</html>", 502, "upstream_error"),
        (
            "500 Internal Server Error",
            "<html>nginx</html>",
            502,
            "upstream_error",
        ),
        (
            "503 Service Unavailable",
            "<html>nginx</html>",
            503,
            "model_unavailable",
        ),
        (
            "504 Gateway Timeout",
            "<html>nginx</html>",
            504,
            "upstream_timeout",
        ),
        ("413 Too Large", "<html>nginx</html>", 413, "upstream_error"),
        ("302 Found", "<html>nginx</html>", 502, "upstream_error"),
        ("302 Found", "", 502, "upstream_error"),
        ("503 Service Unavailable", "", 503, "model_unavailable"),
    ] {
        stage.provider.answer(status, &html, body);
        for path in [CHAT, MESSAGES] {
            let reply = stage.ask(path, "lone").await.expect(told);
            let reply = reply
                .has("content-type", "application/json")
                .lacks("location")
                .lacks("set-cookie")
                .lacks("x-tollgate-own-answer");
            assert!(!reply.text().contains("nginx"), "{status}");
            assert!(reply.request_id().is_some_and(|id| id.len() == 36), "{status}");
            if path == CHAT {
                reply.code(code);
            }
        }
    }
}

#[tokio::test]
async fn an_error_that_names_our_account_passes_without_it() {
    let stage = Stage::start().await;
    let body = error(
        "Rate limit reached in organization org-Ab12Cd34Ef for",
        "requests",
        "rate_limit_exceeded",
    );
    stage.provider.answer(
        "429 Too Many Requests",
        &["content-type: application/json"],
        &body,
    );
    let reply = stage
        .ask(CHAT, "lone")
        .await
        .expect(429)
        .code("rate_limit_exceeded");
    assert!(
        reply.text().contains("[redacted]") && !reply.text().contains("Ab12"),
        "{}",
        reply.text()
    );
}

#[tokio::test]
async fn a_model_that_fails_does_not_take_its_target_from_others() {
    let stage = Stage::start().await;
    let busy = ["content-type: application/json", "retry-after: 60"];
    stage.provider.answer(
        "429 Too Many Requests",
        &busy,
        &error("Slow down", "requests", "rate_limit_exceeded"),
    );
    stage.ask(CHAT, "lone").await.expect(429);
    stage
        .ask(CHAT, "lone")
        .await
        .expect(503)
        .code("model_unavailable");
    stage.provider.answer(
        "200 OK",
        &busy[..1],
        r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}"#,
    );
    stage.ask(CHAT, "other").await.expect(200);
    assert_eq!(stage.provider.asked(), 2);
}

#[tokio::test]
async fn time_outs_of_one_tenant_take_a_target_from_no_other() {
    let stage = Stage::start().await;
    stage.spare.set_fault(Fault::default());
    let slow = json!({"model": "live", "stream": true, "messages": [{"role": "user", "content": "hello"}]});
    // Nothing comes at all, so that only the first event's limit ends it.
    stage
        .provider
        .raw("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n");
    for _ in 0..3 {
        let request = stage.gateway.post(CHAT).key(&stage.keys[0]).json(slow.clone());
        request
            .send()
            .await
            .expect(504)
            .code("upstream_timeout")
            .lacks("x-tollgate-own-answer");
    }
    let refused = stage.gateway.post(CHAT).key(&stage.keys[0]).json(slow.clone());
    refused.send().await.expect(503).code("model_unavailable");
    let body = r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}"#;
    stage
        .provider
        .answer("200 OK", &["content-type: application/json"], body);
    for who in [1, 2] {
        stage.ask_as(who, CHAT, "live").await.expect(200);
    }
}

#[tokio::test]
async fn an_interim_answer_is_no_first_byte() {
    let stage = Stage::start().await;
    for (before, interim) in ["100 Continue", "102 Processing", "103 Early Hints"]
        .into_iter()
        .enumerate()
    {
        stage.provider.raw(&format!("HTTP/1.1 {interim}\r\n\r\n"));
        let body = json!({"model": "live", "stream": true, "max_tokens": 8, "messages": []});
        let request = stage.gateway.post(CHAT).key(&stage.keys[0]).json(body);
        request.send().await.expect(504).code("upstream_timeout");
        assert_eq!(stage.provider.asked(), before + 1, "{interim}");
        let log = stage.gateway.usage_log();
        let records = log.wait(|records| records.len() > before).await;
        let record = &records[before];
        assert_eq!(record.status, 504, "{interim}");
        assert!(
            record.input_tokens > Some(0),
            "what it was asked is paid: {record:?}"
        );
    }
}

#[tokio::test]
async fn a_stream_that_falls_silent_is_ended() {
    let stage = Stage::start().await;
    stage.provider.raw(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\nb\r\ndata: {}\n\n\n\r\n",
    );
    let body = json!({"model": "live", "stream": true, "messages": []});
    let request = stage.gateway.post(CHAT).key(&stage.keys[0]).json(body);
    let mut response = request.open().await;
    assert_eq!(response.status(), 200);
    let mut text = String::new();
    let ended = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => text += &String::from_utf8_lossy(&chunk),
            Ok(None) => break "whole",
            Err(_) => break "broken",
        }
    };
    assert_eq!((ended, text.contains("data: {}")), ("broken", true));
}

#[tokio::test]
async fn an_answer_that_is_not_streamed_may_take_longer_than_a_first_byte() {
    let stage = Stage::start().await;
    let mut catalogue = Catalogue::empty();
    catalogue
        .chat("lone", &["spare"])
        .change("lone", json!({"timeouts": {"first_byte": "100ms"}}));
    stage.gateway.set_router(&catalogue.configuration()).await;
    net::eventually("the catalogue is in force", async || {
        (stage.ask(CHAT, "other").await.status == 404).then_some(())
    })
    .await;
    let body = json!({"model": "lone", "messages": [{"role": "user", "content": "hello"}]});
    let request = stage.gateway.post(CHAT).key(&stage.keys[0]).json(body);
    request
        .header(FAULT_HEADER, "first-byte=500ms")
        .send()
        .await
        .expect(200);
}

#[tokio::test]
async fn a_limit_that_one_tenant_used_up_takes_a_target_from_no_other() {
    let stage = Stage::start().await;
    let busy = ["content-type: application/json", "retry-after: 60"];
    let slow_down = error("Slow down", "requests", "rate_limit_exceeded");
    let good = r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}"#;
    stage.provider.answer("429 Too Many Requests", &busy, &slow_down);
    stage.ask_as(0, CHAT, "lone").await.expect(429);
    // Behind a retry, which succeeds, it is the same.
    stage.ask_as(0, CHAT, "twin").await.expect(200);
    for model in ["lone", "twin"] {
        stage.provider.answer("200 OK", &busy[..1], good);
        let asked = stage.provider.asked();
        let own = stage.ask_as(0, CHAT, model).await;
        assert_eq!(own.status, if model == "lone" { 503 } else { 200 });
        assert_eq!(
            stage.provider.asked(),
            asked,
            "{model}: it is left alone by whom it told"
        );
        stage.ask_as(1, CHAT, model).await.expect(200);
        assert_eq!(stage.provider.asked(), asked + 1, "{model}: others go there");
    }
    // Two of them in a row, and it has had enough of everybody.
    stage.provider.answer("429 Too Many Requests", &busy, &slow_down);
    for who in [0, 1] {
        stage.ask_as(who, CHAT, "other").await.expect(429);
    }
    stage
        .ask_as(2, CHAT, "other")
        .await
        .expect(503)
        .code("model_unavailable");
}

#[tokio::test]
async fn a_quota_of_ours_that_is_spent_is_spent_for_everybody() {
    let stage = Stage::start().await;
    let busy = ["content-type: application/json", "retry-after: 60"];
    let spent = error("Quota", "insufficient_quota", "insufficient_quota");
    stage.provider.answer("429 Too Many Requests", &busy, &spent);
    stage.ask_as(0, CHAT, "lone").await.expect(503);
    stage.ask_as(1, CHAT, "lone").await.expect(503);
    assert_eq!(stage.provider.asked(), 1);
}

#[tokio::test]
async fn a_status_that_is_none_becomes_ours() {
    let stage = Stage::with(json!({"failures": 1000, "open": "1s", "longest": "1s"})).await;
    for status in ["101 Switching Protocols", "600 Odd", "700 Odd", "999 Odd"] {
        for (headers, body) in [
            ("content-length: 2\r\n", "{}"),
            ("content-length: 0\r\n", ""),
            ("upgrade: x\r\nconnection: upgrade\r\n", ""),
        ] {
            stage.provider.raw(&format!(
                "HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{headers}\r\n{body}"
            ));
            for path in [CHAT, MESSAGES] {
                let reply = stage.ask(path, "lone").await.expect(502);
                let reply = reply.has("content-type", "application/json");
                assert!(reply.text().contains("error"), "{status}: {}", reply.text());
                assert!(reply.request_id().is_some_and(|id| id.len() == 36), "{status}");
            }
        }
    }
    stage
        .provider
        .answer("200 OK", &["content-type: application/json"], r#"{"choices":[]}"#);
    stage.ask(CHAT, "lone").await.expect(200);
}

#[tokio::test]
async fn when_to_come_back_is_a_time_within_a_day() {
    let stage = Stage::with(json!({"failures": 1000, "open": "1ms", "longest": "1ms"})).await;
    let body = error("Slow down", "requests", "rate_limit_exceeded");
    let kind = "content-type: application/json";
    for (line, passes) in [
        ("retry-after: 7", true),
        ("retry-after: 86400", true),
        ("retry-after: Sun, 06 Nov 1994 08:49:37 GMT", true),
        ("retry-after: 86401", false),
        ("retry-after: 99999999999999999999", false),
        ("retry-after: -1", false),
        ("retry-after: Fri, 31 Dec 9999 23:59:59 GMT", false),
        ("retry-after: ask pr0viderSide", false),
        ("retry-after: 7\r\nretry-after: pr0viderSide", false),
        ("retry-after-ms: 700", true),
        ("retry-after-ms: pr0viderSide", false),
        ("x-should-retry: false", true),
        ("x-should-retry: pr0viderSide", false),
    ] {
        for status in ["429 Too Many Requests", "503 Service Unavailable", "200 OK"] {
            stage.provider.answer(status, &[kind, line], &body);
            let reply = net::eventually("its breaker is closed", async || {
                let reply = stage.ask(CHAT, "lone").await;
                (status.starts_with(&reply.status.to_string()) && reply.text() == body).then_some(reply)
            })
            .await;
            let (name, value) = line.split_once(": ").unwrap();
            let found = reply.header(name);
            assert_eq!(found, passes.then_some(value), "{status} {line}");
        }
    }
}

#[tokio::test]
async fn a_stream_of_comments_alone_is_ended() {
    let stage = Stage::start().await;
    let mut catalogue = Catalogue::empty();
    catalogue
        .chat("slow", &["spare"])
        .change("slow", json!({"timeouts": {"idle": "2s"}}));
    stage.gateway.set_router(&catalogue.configuration()).await;
    let body = json!({"model": "slow", "stream": true, "messages": []});
    net::eventually("the catalogue is in force", async || {
        let reply = stage.gateway.post(CHAT).key(&stage.keys[0]).json(body.clone());
        (reply.send().await.status == 200).then_some(())
    })
    .await;
    // Each takes half a minute, or the time of its events.
    for (still_there, whole) in [
        (": ping\n\n", false),
        (":", false),
        ("event: ping\ndata: {\"type\": \"ping\"}\n\n", false),
        ("data: {\"choices\":[]}\n\n", true),
    ] {
        let count = if whole { 40 } else { 300 };
        stage.spare.fault_once(Fault {
            raw: Some(format!("data: {{}}\n\n{}", still_there.repeat(count)).into()),
            content_type: Some("text/event-stream".into()),
            chunking: Chunking::Bytes(still_there.len()),
            pace: Some(Duration::from_millis(100)),
            ..Fault::default()
        });
        let request = stage.gateway.post(CHAT).key(&stage.keys[0]).json(body.clone());
        let mut response = request.open().await;
        assert_eq!(response.status(), 200);
        let ended_whole = loop {
            match response.chunk().await {
                Ok(Some(_)) => {}
                Ok(None) => break true,
                Err(_) => break false,
            }
        };
        assert_eq!(ended_whole, whole, "{still_there}");
    }
}

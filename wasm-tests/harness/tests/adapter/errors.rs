//! What a provider says of our credential reaches no customer: in no status, header, document or event.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tollgate_harness::models::{Chunking, Fault};
use tollgate_harness::net::eventually;
use tollgate_harness::{Catalogue, Reply};

use crate::stage::{Stage, providers, second_secret};

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";
const RESPONSES: &str = "/v1/responses";
const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";
/// Part of what a provider tells of our account.
const OURS: &str = "pr0viderSide";

/// A stage that asks the second provider first, and lets it say one header more; breakers stay closed.
async fn stage() -> Stage {
    let mut catalogue = Catalogue::empty();
    let closed = json!({"failures": 1000, "open": "1ms", "longest": "1ms"});
    let endpoints = json!({"endpoints": ["chat", "messages", "responses"]});
    catalogue
        .chat("llama-70b", &["models"])
        .change("llama-70b", endpoints)
        .set("breaker", closed);
    let mut providers = providers();
    providers["openrouter"]["allow_response_headers"] = json!(["x-served-model"]);
    Stage::with(&providers, |options| {
        let (order, other) = ("clusters: [local, openrouter]", "clusters: [openrouter, local]");
        options.edit("clusters.yaml", order, other).catalogue(&catalogue)
    })
    .await
}

fn asking(path: &str, stream: bool) -> Value {
    let mut body = json!({"model": "llama-70b", "stream": stream});
    if path == RESPONSES {
        body["input"] = json!("one");
    } else {
        body["messages"] = json!([{"role": "user", "content": "one"}]);
        body["max_tokens"] = json!(8);
    }
    body
}

impl Stage {
    async fn told(&self, path: &str, stream: bool, fault: Fault) -> Reply {
        self.second.fault_once(fault);
        self.post(path).json(asking(path, stream)).send().await
    }
}

fn says(status: Option<u16>, kind: &str, body: &str) -> Fault {
    Fault {
        status,
        raw: Some(body.to_owned().into()),
        content_type: Some(kind.to_owned()),
        ..Fault::default()
    }
}

/// What providers show of a key.
fn shown() -> [String; 4] {
    let secret = second_secret();
    let (begin, end) = (&secret[..4], &secret[secret.len() - 4..]);
    [
        secret.clone(),
        format!("{begin}...{end}"),
        format!("****************{end}"),
        format!("ending in {end}"),
    ]
}

#[track_caller]
fn expect_nothing_of_ours(reply: &Reply, what: &str) {
    let secret = second_secret();
    let said = format!("{:?} {}", reply.headers, reply.text());
    for piece in [&secret, &secret[..8], &secret[secret.len() - 4..], OURS] {
        assert!(!said.contains(piece), "{what}: {piece} in {said}");
    }
}

#[tokio::test]
async fn an_error_inside_a_success_is_answered_as_an_error() {
    let stage = stage().await;
    let mut faults = 0;
    for (error, status) in [
        (
            json!({"message": format!("Incorrect API key provided: {} {OURS}", second_secret()), "code": "invalid_api_key"}),
            503,
        ),
        (
            json!({"message": format!("User not found {OURS}"), "code": 401}),
            503,
        ),
        (
            json!({"message": format!("You exceeded your current quota {OURS}")}),
            503,
        ),
        (
            json!({"message": format!("No such model {OURS}"), "code": "model_not_found"}),
            503,
        ),
    ] {
        for kind in [JSON, "text/plain", ""] {
            let body = json!({ "error": error }).to_string();
            for (path, stream) in [(CHAT, false), (MESSAGES, false), (RESPONSES, true)] {
                let reply = stage
                    .told(path, stream, says(None, kind, &body))
                    .await
                    .expect(status);
                expect_nothing_of_ours(&reply, &body);
                let record = stage.gateway.record_of(&reply).await;
                assert_eq!(record.status, 503);
                faults += 1;
            }
        }
    }
    eventually("an operator sees all of it", async || {
        let stats = stage.gateway.stats().await;
        (stats.sum("wasmcustom.tollgate_router_target_faults.") == faults).then_some(())
    })
    .await;
    // One that names a status and says nothing of us has it; one that names none stays as it is.
    let body = r#"{"error":{"message":"slow down","code":429}}"#;
    let reply = stage.told(CHAT, false, says(None, JSON, body)).await.expect(429);
    assert_eq!(reply.text(), body);
    let body = r#"{"error":{"message":"it broke","type":"server_error"}}"#;
    let reply = stage.told(CHAT, false, says(None, JSON, body)).await.expect(200);
    assert_eq!(reply.text(), body);
}

#[tokio::test]
async fn no_error_shows_a_piece_of_our_secret() {
    let stage = stage().await;
    for piece in shown() {
        let message = format!("The prompt is too long (key {piece}).");
        let error = json!({"error": {"message": message, "type": "invalid_request_error"}}).to_string();
        for (status, kind, body) in [
            (Some(400), JSON, error.clone()),
            (Some(429), JSON, error.clone()),
            (Some(500), JSON, error.clone()),
            (Some(422), "text/plain", message.clone()),
            (None, JSON, error.clone()),
            (
                None,
                EVENTS,
                format!("data: {{}}\n\ndata: {error}\n\ndata: [DONE]\n\n"),
            ),
            (None, EVENTS, format!("event: error\ndata: {error}\n\n")),
            (None, EVENTS, format!("error: {error}\n\n")),
            (None, "application/x-ndjson", format!("{error}\n")),
        ] {
            let fault = Fault {
                chunking: Chunking::Bytes(11),
                ..says(status, kind, &body)
            };
            let reply = stage.told(CHAT, status.is_none(), fault).await;
            let reply = reply.expect(status.unwrap_or(200));
            assert!(reply.text().contains("too long"), "{}", reply.text());
            expect_nothing_of_ours(&reply, &body);
        }
    }
}

#[tokio::test]
async fn no_answer_has_our_secret_in_it() {
    let stage = stage().await;
    let secret = second_secret();
    let padding = "x".repeat(200_000);
    for (kind, body) in [
        (
            JSON,
            json!({"choices": [{"message": {"content": format!("it is {secret}.")}}]}).to_string(),
        ),
        (
            JSON,
            json!({"padding": padding, "error": {"message": secret}}).to_string(),
        ),
        (JSON, json!({"a": secret, "padding": padding}).to_string()),
        ("text/plain", format!("it is {secret}.")),
        ("text/html", format!("<p>{secret}</p>")),
        (
            EVENTS,
            format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{secret}\"}}}}]}}\n\n: {secret}\n\n"),
        ),
        (EVENTS, format!("data: {padding}{secret}\n\n")),
    ] {
        for chunking in [
            Chunking::Events,
            Chunking::Bytes(if body.len() < 1000 { 1 } else { 1000 }),
        ] {
            let fault = Fault {
                chunking,
                ..says(None, kind, &body)
            };
            stage.second.set_headers([("x-served-model", secret.as_str())]);
            let reply = stage.told(CHAT, kind == EVENTS, fault).await.expect(200);
            assert!(!reply.text().contains(&secret), "{kind}");
            assert_eq!(reply.text().len(), body.len(), "{kind}: as many asterisks");
            drop(reply.lacks("x-served-model"));
        }
    }
}

#[tokio::test]
async fn an_error_too_long_to_be_read_is_ours() {
    let stage = stage().await;
    let body = json!({"error": {"message": format!("{OURS} {}", "x".repeat(70_000))}}).to_string();
    for status in [400, 422, 429, 500] {
        for path in [CHAT, MESSAGES] {
            let reply = stage.told(path, false, says(Some(status), JSON, &body)).await;
            let reply = reply.expect(if status == 500 { 502 } else { status });
            expect_nothing_of_ours(&reply, "long");
            assert!(reply.has("content-type", JSON).text().contains("error"));
        }
    }
}

#[tokio::test]
async fn an_event_that_tells_of_our_account_becomes_ours() {
    let stage = stage().await;
    for error in [
        json!({"error": {"message": format!("Incorrect API key provided {OURS}"), "code": "invalid_api_key"}}),
        json!({"error": {"message": OURS, "code": 402}}),
        json!({"type": "error", "error": {"type": "authentication_error", "message": format!("invalid x-api-key {OURS}")}}),
        json!({"type": "response.failed", "response": {"error": {"code": "insufficient_quota", "message": OURS}}}),
    ] {
        for before in ["", "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n"] {
            for path in [CHAT, MESSAGES, RESPONSES] {
                let name = if path == CHAT { "" } else { "event: error\n" };
                let body = format!("{before}{name}data: {error}\n\n");
                let reply = stage
                    .told(path, true, says(None, EVENTS, &body))
                    .await
                    .expect(200);
                expect_nothing_of_ours(&reply, &body);
                let text = reply.text();
                assert!(text.starts_with(before), "{text}");
                let data = text
                    .lines()
                    .filter_map(|line| line.strip_prefix("data: "))
                    .next_back()
                    .unwrap();
                let data: Value = serde_json::from_str(data).unwrap();
                let told = match path {
                    CHAT => data["error"]["code"] == "model_unavailable",
                    MESSAGES => {
                        data["error"]["type"] == "overloaded_error" && text.contains("event: error\n")
                    }
                    _ => data["code"] == "model_unavailable" && data["type"] == "error",
                };
                assert!(told, "{path}: {text}");
                let record = stage.gateway.record_of(&reply).await;
                assert_eq!(record.outcome.as_deref(), Some("errored"), "{record:?}");
            }
        }
    }
}

#[tokio::test]
async fn an_error_that_is_compressed_unasked_is_read() {
    let stage = stage().await;
    let gzip = |text: &str| {
        let mut coder = GzEncoder::new(Vec::new(), Compression::default());
        coder.write_all(text.as_bytes()).unwrap();
        coder.finish().unwrap()
    };
    let secret = second_secret();
    let error = json!({"error": {"message": format!("Incorrect API key provided: {secret}")}}).to_string();
    let answer = json!({"choices": [{"text": secret}]}).to_string();
    for (body, status) in [(&error, 503), (&answer, 200)] {
        let fault = Fault {
            raw: Some(gzip(body).into()),
            content_encoding: Some("gzip".into()),
            ..says(None, JSON, "")
        };
        let reply = stage.told(CHAT, false, fault).await.expect(status);
        expect_nothing_of_ours(&reply.lacks("content-encoding"), body);
    }
    // What is as it should be is not touched.
    let good = gzip(r#"{"choices":[]}"#);
    let fault = Fault {
        raw: Some(good.clone().into()),
        content_encoding: Some("gzip".into()),
        ..says(None, JSON, "")
    };
    let reply = stage
        .told(CHAT, false, fault)
        .await
        .expect(200)
        .has("content-encoding", "gzip");
    assert_eq!(reply.body, good);
}

//! The stand-in model servers themselves: what they say, count, keep and do when told to fail.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails by panicking"
)]

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tollgate_harness::models::{Ending, Fault, ModelServer, Seen};

const SOON: Duration = Duration::from_secs(10);
const CHAT: &str = "/v1/chat/completions";

async fn started() -> ModelServer {
    ModelServer::start().await.unwrap()
}

async fn post(server: &ModelServer, path: &str, fault: &str, body: Value) -> reqwest::Response {
    let request = reqwest::Client::new()
        .post(server.url() + path)
        .header("x-model-fault", fault);
    request.json(&body).send().await.unwrap()
}

async fn post_json(server: &ModelServer, path: &str, fault: &str, body: Value) -> Value {
    post(server, path, fault, body).await.json().await.unwrap()
}

async fn post_text(server: &ModelServer, path: &str, fault: &str, body: Value) -> String {
    post(server, path, fault, body).await.text().await.unwrap()
}

fn chat(stream: bool) -> Value {
    let messages = json!([{"role": "user", "content": "one two three"}]);
    json!({"model": "llama-70b", "stream": stream, "messages": messages})
}

/// The JSON of each whole event, `[DONE]` left out.
fn events(stream: &str) -> Vec<Value> {
    let data = stream.lines().filter_map(|line| line.strip_prefix("data: "));
    data.filter(|data| *data != "[DONE]")
        .map(|data| serde_json::from_str(data).unwrap())
        .collect()
}

async fn one(server: &ModelServer) -> Seen {
    let rows = server.wait_for(1, SOON).await.unwrap();
    assert_eq!(rows.len(), 1, "{rows:?}");
    rows[0].clone()
}

/// Sends a chat request on a plain socket.
fn send(server: &ModelServer, fault: &str, stream: bool) -> TcpStream {
    let mut socket = TcpStream::connect(server.addr()).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    let body = chat(stream).to_string();
    let length = body.len();
    let head =
        format!("POST {CHAT} HTTP/1.1\r\nhost: m\r\nx-model-fault: {fault}\r\ncontent-length: {length}");
    write!(socket, "{head}\r\n\r\n{body}").unwrap();
    socket
}

/// The answer's bytes until the connection ends, and how it ended.
fn raw(server: &ModelServer, fault: &str, stream: bool) -> (String, Result<(), ErrorKind>) {
    let mut read = Vec::new();
    let end = send(server, fault, stream)
        .read_to_end(&mut read)
        .map(drop)
        .map_err(|e| e.kind());
    (String::from_utf8_lossy(&read).into_owned(), end)
}

#[tokio::test]
async fn chat_says_what_it_heard_and_counts_words() {
    let server = started().await;
    let answer = post_json(&server, CHAT, "", chat(false)).await;
    assert_eq!(
        answer["choices"][0]["message"]["content"],
        "llama-70b heard: one two three"
    );
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    let usage = &answer["usage"];
    assert_eq!(
        [
            &usage["prompt_tokens"],
            &usage["completion_tokens"],
            &usage["total_tokens"]
        ],
        [3, 5, 8]
    );
    let seen = one(&server).await;
    assert_eq!(
        (seen.input_tokens, seen.output_tokens, seen.ending),
        (3, 5, Ending::Completed)
    );
    assert_eq!((seen.model.as_str(), seen.status), ("llama-70b", 200));
    assert_eq!(answer["id"], seen.id);
    assert_eq!(seen.body, chat(false).to_string());
}

#[tokio::test]
async fn a_chat_stream_reports_usage_only_on_demand_and_in_a_chunk_of_its_own() {
    let server = started().await;
    let text = post_text(&server, CHAT, "", chat(true)).await;
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    assert!(!text.contains("usage"), "{text}");

    let mut body = chat(true);
    body["stream_options"] = json!({"include_usage": true});
    let text = post_text(&server, CHAT, "", body).await;
    let mut chunks = events(&text);
    let last = chunks.pop().unwrap();
    assert_eq!(
        (&last["choices"], &last["usage"]["completion_tokens"]),
        (&json!([]), &json!(5))
    );
    let content = |c: &Value| {
        c["choices"][0]["delta"]["content"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    assert_eq!(
        chunks.iter().map(content).collect::<String>(),
        "llama-70b heard: one two three"
    );
    assert!(
        chunks.iter().all(|c| c.get("usage") == Some(&Value::Null)),
        "{text}"
    );
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn completions_stream_their_usage_as_chat_does() {
    let server = started().await;
    let usage = json!({"include_usage": true});
    let body = json!({"model": "m", "prompt": "one", "stream": true, "stream_options": usage});
    let chunks = events(&post_text(&server, "/v1/completions", "", body).await);
    let text = |c: &Value| c["choices"][0]["text"].as_str().unwrap_or_default().to_owned();
    assert_eq!(chunks.iter().map(text).collect::<String>(), "m heard: one");
    assert_eq!(chunks.last().unwrap()["usage"]["total_tokens"], 4);
}

#[tokio::test]
async fn several_choices_are_all_counted() {
    let server = started().await;
    for stream in [false, true] {
        let mut body = chat(stream);
        body["n"] = json!(3);
        post_text(&server, CHAT, "", body).await;
    }
    let seen = server.wait_for(2, SOON).await.unwrap();
    assert_eq!([seen[0].output_tokens, seen[1].output_tokens], [15, 15]);
}

#[tokio::test]
async fn the_request_caps_the_answer() {
    let server = started().await;
    let body = |cap: &str| {
        let messages = json!([{"role": "user", "content": "a b c"}]);
        json!({"model": "m", "input": "a b c", "messages": messages, cap: 2})
    };
    let chat = post_json(&server, CHAT, "", body("max_completion_tokens")).await;
    assert_eq!(chat["choices"][0]["finish_reason"], "length");
    assert_eq!(chat["usage"]["completion_tokens"], 2);
    let responses = post_json(&server, "/v1/responses", "", body("max_output_tokens")).await;
    assert_eq!(responses["status"], "incomplete");
    assert_eq!(responses["incomplete_details"]["reason"], "max_output_tokens");
    let messages = post_json(&server, "/v1/messages", "", body("max_tokens")).await;
    assert_eq!(messages["stop_reason"], "max_tokens");
    assert_eq!(messages["usage"]["output_tokens"], 2);
}

#[tokio::test]
async fn a_responses_stream_is_numbered_and_ends_with_its_usage() {
    let server = started().await;
    let body = json!({"model": "m", "stream": true, "input": "one two"});
    let events = events(&post_text(&server, "/v1/responses", "", body).await);
    let numbers: Vec<u64> = events
        .iter()
        .map(|e| e["sequence_number"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, (0..events.len() as u64).collect::<Vec<_>>());
    let last = events.last().unwrap();
    assert_eq!(last["type"], "response.completed");
    assert_eq!(last["response"]["usage"]["output_tokens"], 4);
    assert_eq!(events[0]["response"]["usage"], Value::Null);
}

#[tokio::test]
async fn a_messages_stream_begins_with_input_and_ends_with_output() {
    let server = started().await;
    let messages = json!([{"role": "user", "content": "one two"}]);
    let body = json!({"model": "m", "stream": true, "max_tokens": 50, "messages": messages});
    let events = events(&post_text(&server, "/v1/messages", "cached=1", body).await);
    let kinds: Vec<&str> = events.iter().map(|e| e["type"].as_str().unwrap()).collect();
    assert_eq!(
        (kinds[0], kinds[kinds.len() - 2]),
        ("message_start", "message_delta")
    );
    let start = &events[0]["message"]["usage"];
    assert_eq!(
        [&start["input_tokens"], &start["cache_read_input_tokens"]],
        [1, 1]
    );
    assert_eq!(events[events.len() - 2]["usage"]["output_tokens"], 4);
}

#[tokio::test]
async fn usage_is_missing_or_wrong_on_request_but_never_in_the_ledger() {
    let server = started().await;
    let missing = post_json(&server, CHAT, "usage=missing", chat(false)).await;
    assert_eq!(missing.get("usage"), None);
    let wrong = post_json(&server, CHAT, "usage=700/1, cached=9, reasoning=1", chat(false)).await;
    assert_eq!(
        [&wrong["usage"]["prompt_tokens"], &wrong["usage"]["total_tokens"]],
        [700, 701]
    );
    assert_eq!(wrong["usage"]["prompt_tokens_details"]["cached_tokens"], 9);
    for row in server.wait_for(2, SOON).await.unwrap() {
        assert_eq!((row.input_tokens, row.output_tokens), (3, 5));
    }
}

#[tokio::test]
async fn a_status_comes_in_the_apis_own_shape() {
    let server = started().await;
    let openai = post(&server, CHAT, "status=429, retry-after=7", chat(true)).await;
    assert_eq!(openai.status().as_u16(), 429);
    assert_eq!(openai.headers()["retry-after"], "7");
    assert_eq!(openai.json::<Value>().await.unwrap()["error"]["type"], "requests");
    let anthropic = post(&server, "/v1/messages", "status=529", chat(false)).await;
    assert_eq!(anthropic.status().as_u16(), 529);
    assert_eq!(
        anthropic.json::<Value>().await.unwrap()["error"]["type"],
        "overloaded_error"
    );
    let body = post(&server, CHAT, "status=500, body=<h1>a, b</h1>", chat(false)).await;
    assert_eq!(body.status().as_u16(), 500);
    assert_eq!(body.text().await.unwrap(), "<h1>a, b</h1>");
    assert_eq!(
        post(&server, "/v1/nothing", "", chat(false))
            .await
            .status()
            .as_u16(),
        404
    );
    let misspelt = post_json(&server, CHAT, "statsu=500", chat(false)).await;
    assert_eq!(misspelt["error"]["message"], "fault `statsu=500` cannot be read");
}

#[tokio::test]
async fn faults_can_be_the_servers_own() {
    let server = started().await;
    server.set_fault(Fault::status(503));
    server.fault_once(Fault::status(500));
    let mut statuses = Vec::new();
    for own in [None, None, Some(""), None] {
        if statuses.len() == 3 {
            server.clear_faults();
        }
        let mut request = reqwest::Client::new()
            .post(server.url() + CHAT)
            .json(&chat(false));
        if let Some(fault) = own {
            request = request.header("x-model-fault", fault);
        }
        statuses.push(request.send().await.unwrap().status().as_u16());
    }
    assert_eq!(statuses, [500, 503, 200, 200]);
}

#[tokio::test]
async fn health_is_apart_from_faults_and_ledger() {
    let server = started().await;
    server.set_fault(Fault::status(500));
    let health = || async {
        reqwest::get(server.url() + "/health")
            .await
            .unwrap()
            .status()
            .as_u16()
    };
    assert_eq!(health().await, 200);
    server.set_healthy(false);
    assert_eq!(health().await, 503);
    assert_eq!(server.ledger().total(), 0);
}

#[tokio::test]
async fn the_ledger_can_be_read_from_outside() {
    let server = started().await;
    for id in ["a", "b"] {
        let request = reqwest::Client::new()
            .post(server.url() + CHAT)
            .header("x-request-id", id);
        request.json(&chat(false)).send().await.unwrap();
    }
    server.wait_for(2, SOON).await.unwrap();
    let url = server.url() + "/seen?request_id=b";
    let rows: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 1);
    assert_eq!(
        (&rows[0]["ending"], &rows[0]["output_tokens"]),
        (&json!("completed"), &json!(5))
    );
    assert!(
        rows[0]["headers"]
            .as_array()
            .unwrap()
            .contains(&json!(["x-request-id", "b"]))
    );
}

#[tokio::test]
async fn a_cut_is_a_reset_after_the_events_told() {
    let server = started().await;
    let (text, end) = raw(&server, "cut=3", true);
    assert_eq!(end, Err(ErrorKind::ConnectionReset), "{text}");
    assert_eq!(events(&text).len(), 3, "{text}");
    let seen = one(&server).await;
    // The first event carries the role alone.
    assert_eq!((seen.ending, seen.output_tokens), (Ending::Cut, 2));
}

#[tokio::test]
async fn a_tear_sends_half_an_event() {
    let server = started().await;
    let (text, end) = raw(&server, "tear=2", true);
    assert_eq!(end, Err(ErrorKind::ConnectionReset), "{text}");
    assert_eq!(
        (text.matches("data: ").count(), text.matches("}\n\n").count()),
        (3, 2),
        "{text}"
    );
    let (text, end) = raw(&server, "tear=0", false);
    assert_eq!(end, Err(ErrorKind::ConnectionReset), "{text}");
    assert!(
        text.contains("chat.completion") && !text.contains("usage"),
        "{text}"
    );
    let (text, end) = raw(&server, "cut=0", false);
    assert_eq!(end, Err(ErrorKind::ConnectionReset), "{text}");
    assert!(
        text.starts_with("HTTP/1.1 200 OK") && text.ends_with("\r\n\r\n"),
        "{text}"
    );
}

#[tokio::test]
async fn closes_and_resets_without_an_answer() {
    let server = started().await;
    assert_eq!(raw(&server, "close", false), (String::new(), Ok(())));
    assert_eq!(
        raw(&server, "reset", false),
        (String::new(), Err(ErrorKind::ConnectionReset))
    );
    let seen: Vec<_> = server.seen().iter().map(|s| (s.status, s.ending)).collect();
    assert_eq!(seen, [(0, Ending::Cut); 2]);
}

#[tokio::test]
async fn a_peer_that_goes_is_seen_going() {
    let server = started().await;
    // Mid-stream, in a stall, and before the first byte.
    for (fault, tokens) in [
        ("pace=20ms, tokens=100000", 3),
        ("stall=4", 3),
        ("first-byte=600s", 0),
    ] {
        server.ledger().clear();
        let socket = send(&server, fault, true);
        let begun = |rows: &VecDeque<Seen>| {
            rows.front()
                .is_some_and(|row| !row.body.is_empty() && row.output_tokens >= tokens)
        };
        server.wait_until(SOON, begun).await.unwrap();
        drop(socket);
        let seen = one(&server).await;
        assert_eq!(seen.ending, Ending::Aborted, "{fault}");
        assert!(seen.output_tokens < 100_000, "{fault}");
    }
}

#[tokio::test]
async fn a_delay_comes_before_the_head_and_a_pace_between_events() {
    let server = started().await;
    let begun = Instant::now();
    let fault = "first-byte=80ms, pace=20ms, tokens=3";
    let mut answer = post(&server, CHAT, fault, chat(true)).await;
    assert!(begun.elapsed() >= Duration::from_millis(80));
    let mut events = 0;
    while let Some(chunk) = answer.chunk().await.unwrap() {
        events += String::from_utf8_lossy(&chunk).matches("data: ").count();
    }
    // Role, three words, finish, [DONE]: five pauses between six events.
    assert_eq!(events, 6);
    assert!(begun.elapsed() >= Duration::from_millis(180));
}

#[tokio::test]
async fn any_chunking_carries_the_same_bytes() {
    let server = started().await;
    let mut body = chat(true);
    body["messages"][0]["content"] = json!("Grüß Gott 東京 🚀");
    let mut texts = Vec::new();
    for fault in [
        "",
        "batch=3",
        "batch=1000",
        "chunk=1",
        "chunk=7",
        "chunk=random:5",
    ] {
        let chunks = events(&post_text(&server, CHAT, fault, body.clone()).await);
        texts.push(
            chunks
                .iter()
                .map(|c| c["choices"].to_string())
                .collect::<String>(),
        );
    }
    assert!(texts[0].contains("東京"));
    assert!(texts.iter().all(|text| *text == texts[0]), "{texts:#?}");
    assert!(
        server
            .wait_for(6, SOON)
            .await
            .unwrap()
            .iter()
            .all(|s| s.output_tokens == 6)
    );
}

#[tokio::test]
async fn embeddings_moderations_images_speech_and_models_answer() {
    let server = started().await;
    let body = json!({"model": "m", "input": ["a b", "c"], "prompt": "a cat", "voice": "alloy"});
    let embeddings = post_json(&server, "/v1/embeddings", "", body.clone()).await;
    assert_eq!(embeddings["data"].as_array().unwrap().len(), 2);
    assert_eq!(embeddings["data"][1]["embedding"].as_array().unwrap().len(), 16);
    let moderations = post_json(&server, "/v1/moderations", "", json!({"input": "flag me"})).await;
    assert_eq!(moderations["results"][0]["flagged"], true);
    let images = post_json(&server, "/v1/images/generations", "", body.clone()).await;
    assert!(images["data"][0]["b64_json"].is_string());
    let speech = post(&server, "/v1/audio/speech", "", body).await;
    assert_eq!(speech.headers()["content-type"], "audio/mpeg");
    assert_eq!(speech.bytes().await.unwrap().len() % 128, 0);
    let models = reqwest::get(server.url() + "/v1/models").await.unwrap();
    assert_eq!(
        models.json::<Value>().await.unwrap()["data"][1]["id"],
        "llama-70b"
    );
}

#[tokio::test]
async fn a_dropped_server_frees_its_port() {
    let server = started().await;
    let port = server.addr().port();
    let mut idle = TcpStream::connect(server.addr()).unwrap();
    drop(server);
    assert_eq!(
        idle.read(&mut [0; 1]).unwrap_or(0),
        0,
        "open connections are closed"
    );
    let again = ModelServer::builder()
        .port(port)
        .name("again")
        .start()
        .await
        .unwrap();
    let answer = reqwest::get(again.url() + "/v1/models").await.unwrap();
    assert_eq!(answer.headers()["x-model-server"], "again");
    assert!(ModelServer::builder().port(port).start().await.is_err());
}

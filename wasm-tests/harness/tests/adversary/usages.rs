//! A model server that says what was used in its own way, wrongly, or that something went wrong.

use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tollgate_harness::Reply;
use tollgate_harness::models::{Chunking, Fault};
use tollgate_harness::usage_log::UsageRecord;

use crate::endings::Stage;
use crate::stage::{CHAT, MESSAGES};

const RESPONSES: &str = "/v1/responses";
const EVENTS: &str = "text/event-stream";

fn asking(path: &str, stream: bool) -> Value {
    let input = json!([{"role": "user", "content": "one two three four five"}]);
    match path {
        RESPONSES => json!({"model": "plain", "max_output_tokens": 100, "input": input, "stream": stream}),
        _ => json!({"model": "plain", "max_tokens": 100, "messages": input, "stream": stream}),
    }
}

impl Stage {
    /// Asks, and has the model server answer with this.
    async fn answered(
        &self,
        path: &str,
        stream: bool,
        kind: &str,
        body: impl Into<Bytes>,
    ) -> (Reply, UsageRecord) {
        self.told(
            path,
            stream,
            Fault {
                raw: Some(body.into()),
                content_type: Some(kind.to_owned()),
                chunking: Chunking::Bytes(50_000),
                ..Fault::default()
            },
        )
        .await
    }

    async fn told(&self, path: &str, stream: bool, fault: Fault) -> (Reply, UsageRecord) {
        self.model.fault_once(fault);
        let reply = self.ask(path, asking(path, stream)).send().await.expect(200);
        let record = self.record(&reply).await;
        (reply, record)
    }
}

#[track_caller]
fn expect(record: &UsageRecord, outcome: &str, tokens: (u64, u64)) {
    assert_eq!(record.outcome.as_deref(), Some(outcome), "{record:?}");
    assert_eq!(record.source.as_deref(), Some("reported"), "{record:?}");
    let found = (record.input_tokens.unwrap(), record.output_tokens.unwrap());
    assert_eq!(found, tokens, "{record:?}");
}

/// As [`expect`]: an estimate of the small request, and of no more than its cap.
#[track_caller]
fn expect_estimate(record: &UsageRecord, outcome: &str) {
    assert_eq!(record.outcome.as_deref(), Some(outcome), "{record:?}");
    assert_eq!(record.source.as_deref(), Some("estimated"), "{record:?}");
    let (input, output) = (record.input_tokens.unwrap(), record.output_tokens.unwrap());
    assert!(
        (5..200).contains(&input) && (1..=100).contains(&output),
        "{record:?}"
    );
}

fn event(name: &str, data: &Value) -> String {
    let name = if name.is_empty() {
        String::new()
    } else {
        format!("event: {name}\n")
    };
    format!("{name}data: {data}\n\n")
}

#[tokio::test]
async fn a_usage_is_read_whatever_stands_around_it() {
    let stage = Stage::new(10_000_000).await;
    let much = "instructions \"usage\": {} ".repeat(20_000);
    let usage = json!({"input_tokens": 321, "output_tokens": 45, "total_tokens": 366});
    let completed = |response: Value| {
        event(
            "response.completed",
            &json!({"type": "response.completed", "response": response}),
        )
    };
    for events in [
        completed(json!({"instructions": much, "output": [], "usage": usage})),
        completed(json!({"usage": usage, "zz": much})),
        completed(json!({"instructions": much, "usage": usage, "zz": much})),
    ] {
        let (reply, record) = stage.answered(RESPONSES, true, EVENTS, events.clone()).await;
        expect(&record, "complete", (321, 45));
        assert_eq!(reply.text(), events);
    }
    let start = json!({"type": "message_start", "message": {"content": much, "usage": {"input_tokens": 321, "output_tokens": 1}}});
    let events = event("message_start", &start)
        + &event(
            "message_delta",
            &json!({"type": "message_delta", "usage": {"output_tokens": 45}}),
        )
        + &event("message_stop", &json!({"type": "message_stop"}));
    let (_, record) = stage.answered(MESSAGES, true, EVENTS, events).await;
    expect(&record, "complete", (321, 45));
    let picture =
        json!({"type": "image_generation.completed", "b64_json": "QUJD".repeat(100_000), "usage": usage});
    stage.model.fault_once(Fault {
        raw: Some(event("image_generation.completed", &picture).into()),
        content_type: Some(EVENTS.to_owned()),
        ..Fault::default()
    });
    let body = json!({"model": "plain", "prompt": "a cat", "stream": true});
    let reply = stage.ask("/v1/images/generations", body).send().await.expect(200);
    expect(&stage.record(&reply).await, "complete", (321, 45));
}

#[tokio::test]
async fn an_error_inside_an_answer_is_no_success() {
    let stage = Stage::new(10_000_000).await;
    let token = event("", &json!({"choices": [{"index": 0, "delta": {"content": "x"}}]}));
    let error = json!({"error": {"message": "CUDA out of memory", "code": 500}});
    for (path, events) in [
        (CHAT, event("", &error)),
        (CHAT, token.repeat(3) + &event("", &error) + "data: [DONE]\n\n"),
        (CHAT, token.repeat(3) + "error: {\"code\":500}\n\n"),
        (
            MESSAGES,
            event(
                "error",
                &json!({"type": "error", "error": {"type": "overloaded_error", "message": "no"}}),
            ),
        ),
        (
            RESPONSES,
            event(
                "response.failed",
                &json!({"type": "response.failed", "response": {"status": "failed", "error": {"code": "x"}, "usage": null}}),
            ),
        ),
    ] {
        let (reply, record) = stage.answered(path, true, EVENTS, events.clone()).await;
        expect_estimate(&record, "errored");
        assert_eq!(reply.text(), events);
    }
    let (_, record) = stage
        .answered(CHAT, false, "application/json", error.to_string())
        .await;
    expect_estimate(&record, "errored");
    // One that stops early is whole.
    let usage = json!({"input_tokens": 8, "output_tokens": 9});
    let incomplete = json!({"type": "response.incomplete", "response": {"status": "incomplete", "error": null, "usage": usage}});
    let (_, record) = stage
        .answered(RESPONSES, true, EVENTS, event("response.incomplete", &incomplete))
        .await;
    expect(&record, "complete", (8, 9));
    let metrics = stage.gateway.prometheus();
    let labels = [("org", "acme"), ("model", "plain"), ("outcome", "errored")];
    assert!(
        metrics
            .await
            .value("tollgate_requests", &labels)
            .is_none_or(|count| count <= 6.0)
    );
}

#[tokio::test]
async fn what_no_model_can_have_used_locks_nobody_out() {
    let stage = Stage::new(100_000).await;
    for (input, output) in [
        ("1000000000000000", "5"),
        ("9007199254740992", "5"),
        ("5", "9007199254740993"),
        ("5", "1e15"),
        ("-5", "5"),
        ("NaN", "5"),
        ("\"5\"", "5"),
        ("5.5", "5"),
        ("0", "0"),
        ("5", "9999999"),
    ] {
        let usage = format!("{{\"prompt_tokens\":{input},\"completion_tokens\":{output}}}");
        let body = format!("{{\"choices\":[{{\"message\":{{\"content\":\"hello\"}}}}],\"usage\":{usage}}}");
        let (_, record) = stage.answered(CHAT, false, "application/json", body).await;
        expect_estimate(&record, "complete");
        assert_eq!(record.distrusted, Some(true), "{usage}");
        let events = format!(
            "data: {{\"choices\":[{{\"delta\":{{\"content\":\"x\"}}}}]}}\n\ndata: {{\"choices\":[],\"usage\":{usage}}}\n\ndata: [DONE]\n\n"
        );
        let (_, record) = stage.answered(CHAT, true, EVENTS, events).await;
        expect_estimate(&record, "complete");
    }
    // Many words, and none in the account.
    let words = event("", &json!({"choices": [{"delta": {"content": "word"}}]})).repeat(1_000);
    let events = words
        + "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":0}}\n\ndata: [DONE]\n\n";
    let (_, record) = stage.answered(CHAT, true, EVENTS, events).await;
    let said = (
        record.outcome.as_deref(),
        record.source.as_deref(),
        record.output_tokens,
    );
    assert_eq!(said, (Some("complete"), Some("estimated"), Some(1_000)));
    // Honest, though there is more than was sent.
    let body = json!({"choices": [], "usage": {"prompt_tokens": 20_000, "completion_tokens": 9, "prompt_tokens_details": {"cached_tokens": 19_000}}});
    let (_, record) = stage
        .answered(CHAT, false, "application/json", body.to_string())
        .await;
    expect(&record, "complete", (20_000, 9));
    assert_eq!(record.distrusted, None);
}

fn gzip(text: &str) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap().into()
}

#[tokio::test]
async fn what_is_compressed_or_labelled_wrongly_is_read() {
    let stage = Stage::new(10_000_000).await;
    let usage = json!({"prompt_tokens": 12, "completion_tokens": 34});
    let body = json!({"choices": [{"message": {"content": "word ".repeat(50)}}], "usage": usage}).to_string();
    let token = event(
        "",
        &json!({"choices": [{"index": 0, "delta": {"content": "word "}}]}),
    )
    .repeat(20);
    let extra = event("", &json!({"choices": [], "usage": usage}));
    let events = format!("{token}{extra}data: [DONE]\n\n");
    let without = format!("{token}data: [DONE]\n\n");
    for (stream, kind, text) in [(false, "application/json", &body), (true, EVENTS, &events)] {
        let coded = Fault {
            raw: Some(gzip(text)),
            content_type: Some(kind.to_owned()),
            content_encoding: Some("gzip".to_owned()),
            chunking: Chunking::Bytes(17),
            ..Fault::default()
        };
        let (reply, record) = stage.told(CHAT, stream, coded.clone()).await;
        expect(&record, "complete", (12, 34));
        // It passes as the model server sent it.
        assert_eq!(reply.header("content-encoding"), Some("gzip"));
        let unknown = Fault {
            content_encoding: Some("compress".to_owned()),
            ..coded
        };
        let (_, record) = stage.told(CHAT, stream, unknown).await;
        expect_estimate(&record, "complete");
    }
    for kind in [
        "text/plain",
        "application/octet-stream",
        "",
        "text/plain; charset=utf-8",
        "application/json",
    ] {
        let (reply, record) = stage.answered(CHAT, true, kind, events.clone()).await;
        expect(&record, "complete", (12, 34));
        assert_eq!(reply.text(), without, "{kind}");
        let (reply, record) = stage.answered(CHAT, false, kind, body.clone()).await;
        expect(&record, "complete", (12, 34));
        assert_eq!(reply.text(), body, "{kind}");
    }
}

#[tokio::test]
async fn what_was_asked_for_goes_and_what_is_the_servers_own_stays() {
    let stage = Stage::new(10_000_000).await;
    let usage = json!({"prompt_tokens": 12, "completion_tokens": 34});
    let token = event(
        "",
        &json!({"choices": [{"index": 0, "delta": {"content": "word "}}]}),
    );
    let of = |last: &Value| format!("{token}{}data: [DONE]\n\n", event("", last));
    let litellm = json!({"id": "c", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {}}], "usage": usage});
    let (reply, record) = stage.answered(CHAT, true, EVENTS, of(&litellm)).await;
    expect(&record, "complete", (12, 34));
    assert_eq!(reply.text(), format!("{token}data: [DONE]\n\n"));
    let llama_cpp = json!({"choices": [], "timings": {"predicted_n": 34}, "usage": usage});
    let (reply, record) = stage.answered(CHAT, true, EVENTS, of(&llama_cpp)).await;
    expect(&record, "complete", (12, 34));
    assert_eq!(
        reply.text(),
        of(&json!({"choices": [], "timings": {"predicted_n": 34}}))
    );
}

#[tokio::test]
async fn what_is_no_token_has_its_price() {
    let stage = Stage::new(10_000_000).await;
    let told = async |path: &str, body: Value, answer: Value| {
        stage.model.fault_once(Fault {
            raw: Some(answer.to_string().into()),
            content_type: Some("application/json".to_owned()),
            ..Fault::default()
        });
        let reply = stage.ask(path, body).send().await.expect(200);
        stage.record(&reply).await
    };
    let mut chat = asking(MESSAGES, false);
    chat["model"] = json!("priced");
    let creation = json!({"ephemeral_5m_input_tokens": 60, "ephemeral_1h_input_tokens": 40});
    let usage = json!({
        "input_tokens": 5, "cache_read_input_tokens": 1000, "cache_creation_input_tokens": 100, "output_tokens": 12,
        "cache_creation": creation,
    });
    let record = told(
        MESSAGES,
        chat,
        json!({"type": "message", "content": [], "usage": usage}),
    )
    .await;
    expect(&record, "complete", (1_105, 12));
    let written = (record.cache_write_tokens, record.cache_write_1h_tokens);
    assert_eq!(
        (written, record.cost_micros),
        ((Some(100), Some(40)), Some(15 + 300 + 225 + 240 + 180))
    );
    // Two pictures, of which the model server counts nothing.
    let body = json!({"model": "priced", "prompt": "a cat", "n": 2});
    let answer = json!({"created": 1, "data": [{"b64_json": "aGVsbG8="}, {"b64_json": "aGVsbG8="}]});
    let record = told("/v1/images/generations", body, answer).await;
    assert_eq!(record.pictures, Some(2), "{record:?}");
    assert!(record.cost_micros.unwrap() >= 80_000, "{record:?}");
    // Sound by the second.
    let sound = "sound".repeat(3_000);
    let form = format!(
        "--b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\npriced\r\n--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n{sound}\r\n--b--\r\n"
    );
    stage.model.fault_once(Fault {
        raw: Some(
            json!({"text": "hello", "usage": {"type": "duration", "seconds": 29.5}})
                .to_string()
                .into(),
        ),
        content_type: Some("application/json".to_owned()),
        ..Fault::default()
    });
    let request = stage.gateway.post("/v1/audio/transcriptions").key(&stage.key);
    let request = request
        .header("content-type", "multipart/form-data; boundary=b")
        .body(form);
    let record = stage.record(&request.send().await.expect(200)).await;
    assert_eq!(record.audio_seconds, Some(30), "{record:?}");
    assert!(record.cost_micros.unwrap() >= 3_000, "{record:?}");
}

/// What a transcription says is its customer's text, whatever it looks like.
#[tokio::test]
async fn a_text_that_looks_like_a_usage_is_none() {
    let stage = Stage::new(10_000_000).await;
    let forged = json!({"text": "a", "usage": {"input_tokens": 1, "output_tokens": 0}}).to_string();
    let events = format!("data: {forged}\n\n");
    for (format, kind, body, source) in [
        ("text", "text/plain", &forged, "estimated"),
        ("text", "application/json", &forged, "estimated"),
        ("srt", "application/x-subrip", &forged, "estimated"),
        ("vtt", "text/vtt", &forged, "estimated"),
        ("vtt", "text/plain", &events, "estimated"),
        ("json", "text/plain", &forged, "estimated"),
        ("json", "", &forged, "estimated"),
        ("json", "application/json", &forged, "reported"),
        ("json", "text/event-stream", &events, "reported"),
    ] {
        let part = |name: &str, value: &str| {
            format!("--b\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        let form = format!(
            "{}{}--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nsound\r\n--b--\r\n",
            part("model", "plain"),
            part("response_format", format),
        );
        stage.model.fault_once(Fault {
            raw: Some(body.clone().into()),
            content_type: Some(kind.to_owned()),
            ..Fault::default()
        });
        let request = stage.gateway.post("/v1/audio/transcriptions").key(&stage.key);
        let request = request
            .header("content-type", "multipart/form-data; boundary=b")
            .body(form);
        let reply = request.send().await.expect(200);
        assert_eq!(reply.text(), *body);
        let record = stage.record(&reply).await;
        assert_eq!(
            record.source.as_deref(),
            Some(source),
            "{format} {kind}: {record:?}"
        );
        assert!(record.is("complete"), "{record:?}");
    }
    // Neither do bytes of another kind.
    let usage = json!({"usage": {"prompt_tokens": 1, "total_tokens": 1}}).to_string();
    for (path, body) in [
        (
            "/v1/audio/speech",
            json!({"model": "plain", "input": "one two", "voice": "a"}),
        ),
        (
            "/v1/images/generations",
            json!({"model": "plain", "prompt": "a cat"}),
        ),
        ("/v1/embeddings", json!({"model": "plain", "input": "one two"})),
    ] {
        for kind in ["application/octet-stream", "audio/pcm", "image/png"] {
            stage.model.fault_once(Fault {
                raw: Some(usage.clone().into()),
                content_type: Some(kind.to_owned()),
                ..Fault::default()
            });
            let reply = stage.ask(path, body.clone()).send().await.expect(200);
            let record = stage.record(&reply).await;
            assert_eq!(
                record.source.as_deref(),
                Some("estimated"),
                "{path} {kind}: {record:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_byte_order_mark_and_a_document_a_line_are_read() {
    let stage = Stage::new(10_000_000).await;
    let usage = json!({"prompt_tokens": 32, "completion_tokens": 45, "total_tokens": 77});
    let whole = json!({"choices": [], "usage": usage}).to_string();
    let delta = json!({"choices": [{"delta": {"content": "a"}}]}).to_string();
    for (stream, kind, body) in [
        (false, "application/json", format!("\u{feff}{whole}")),
        (false, "", format!(" \u{feff}{whole}")),
        (true, EVENTS, format!("\u{feff}data: {whole}\n\n")),
        (
            true,
            "text/plain",
            format!("\u{feff}data: {delta}\n\ndata: {whole}\n\n"),
        ),
        (
            true,
            "application/x-ndjson",
            format!("{delta}\n{delta}\n{whole}\n"),
        ),
        (
            true,
            "application/jsonl",
            format!("\u{feff}{delta}\r\n{whole}\r\n"),
        ),
        (true, "application/json", format!("{delta}\n{whole}\n")),
        (true, "application/x-ndjson", format!("{whole}\n{delta}")),
    ] {
        for chunking in [Chunking::Bytes(1), Chunking::Bytes(100_000)] {
            let fault = Fault {
                raw: Some(body.clone().into()),
                content_type: Some(kind.to_owned()),
                chunking,
                ..Fault::default()
            };
            let (reply, record) = stage.told(CHAT, stream, fault).await;
            expect(&record, "complete", (32, 45));
            assert!(reply.text().contains("45") || kind == EVENTS || kind == "text/plain");
        }
    }
}

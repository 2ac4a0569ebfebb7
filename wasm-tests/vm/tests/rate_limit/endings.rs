//! However a request ends: its record is there, once, and what it held is settled.

use serde_json::{Value, json};
use tollgate_vm::{Hostcall, Outcome, Response};

use crate::stage::{DELTA, Stage, answer, ended, output, places, record, stage, usage_event};

/// One request at a time, and 1,000 tokens.
fn alone() -> Stage {
    stage(json!([output("1000/day"), places(1)]))
}

/// The story has ended so, with one record; of the 1,000 tokens so many are left, and the place is free.
#[track_caller]
fn expect(stage: &Stage, outcome: &Outcome, how: &str, left: u64) -> Value {
    assert_eq!(ended(outcome).0, how, "{outcome}");
    assert_eq!(outcome.hostcalls(Hostcall::SetProperty), 1);
    let probe = stage.chat(1, 0).upstream(answer((0, 0))).send();
    let remaining = probe
        .expect_response(200)
        .headers()
        .text("x-ratelimit-remaining-tokens");
    assert_eq!(remaining, Some(left.to_string()), "{outcome}");
    record(outcome)
}

#[test]
fn a_whole_answer() {
    let stage = alone();
    let outcome = stage.chat(0, 50).upstream(answer((12, 34))).send();
    let record = expect(&stage, &outcome, "complete", 966);
    assert_eq!(
        record,
        json!({
            "v": 1, "org": "acme", "key": "k1", "tier": "pro", "endpoint": "chat", "model": "llama-70b",
            "stream": false, "reserved_tokens": record["reserved_tokens"], "outcome": "complete",
            "input_tokens": 12, "output_tokens": 34, "cached_tokens": 0, "reasoning_tokens": 0,
            "cost_micros": 80, "source": "reported", "first_byte_ms": 0,
        })
    );
    assert!(record["reserved_tokens"].as_u64().unwrap() > 50);
}

#[test]
fn a_whole_answer_in_any_pieces_and_with_trailers() {
    for size in [1, 2, 3, 7, 1_000] {
        let stage = alone();
        let upstream = answer((12, 34)).in_chunks(size).trailer("x-sum", "1");
        let outcome = stage.chat(0, 50).upstream(upstream).send();
        outcome.expect_response(200).trailer("x-sum", "1");
        expect(&stage, &outcome, "complete", 966);
        assert_eq!(ended(&outcome).1, (12, 34));
    }
}

#[test]
fn a_whole_stream() {
    let stage = alone();
    let events = [DELTA, DELTA, &usage_event((12, 34)), "data: [DONE]"];
    let outcome = stage.streamed(0).upstream(Response::events(events)).send();
    let record = expect(&stage, &outcome, "complete", 966);
    assert_eq!(
        (&record["stream"], &record["source"]),
        (&json!(true), &json!("reported"))
    );
}

/// Charged is what went by, by an estimate.
#[test]
fn a_client_that_leaves_in_mid_stream() {
    let stage = alone();
    let stream = stage.streamed(0).start();
    stream.respond_headers(Response::new(200).header("content-type", "text/event-stream"));
    for _ in 0..10 {
        stream.respond_chunk(format!("{DELTA}\n\n"));
    }
    let outcome = stream.abort();
    let (_, (input, output)) = ended(&outcome);
    assert!(input > 0 && (5..=20).contains(&output), "{input} {output}");
    let record = expect(&stage, &outcome, "aborted", 1_000 - output);
    assert_eq!(record["source"], "estimated");
}

#[test]
fn an_upstream_that_breaks_in_mid_stream() {
    let stage = alone();
    let stream = stage.streamed(0).start();
    stream.respond_headers(Response::new(200).header("content-type", "text/event-stream"));
    stream.respond_chunk(format!("{DELTA}\n\n"));
    stream.upstream_reset();
    let outcome = stream.finish();
    let (_, (_, output)) = ended(&outcome);
    expect(&stage, &outcome, "aborted", 1_000 - output);
}

/// A stream that said `[DONE]` is whole, also where its client is quicker than its end.
#[test]
fn a_client_that_leaves_at_the_last_event() {
    let stage = alone();
    let stream = stage.streamed(0).start();
    stream.respond_headers(Response::new(200).header("content-type", "text/event-stream"));
    stream.respond_chunk(format!(
        "{DELTA}\n\n{}\n\ndata: [DONE]\n\n",
        usage_event((12, 34))
    ));
    expect(&stage, &stream.abort(), "complete", 966);
}

#[test]
fn a_client_that_leaves_before_the_answer() {
    let stage = alone();
    let outcome = stage.chat(0, 50).start().abort();
    let record = expect(&stage, &outcome, "no_answer", 1_000);
    // The model server has read what it was sent.
    assert!(record["input_tokens"].as_u64().unwrap() > 0);
}

#[test]
fn a_client_that_leaves_before_anything_was_sent() {
    let stage = alone();
    let request = stage.streamed(0).in_chunks(1).open();
    let unsent = stage
        .chat(0, 50)
        .property(&["upstream", "request_attempt_count"], 0_u64.to_le_bytes());
    drop(request);
    expect(&stage, &unsent.start().abort(), "refused", 1_000);
}

#[test]
fn an_error_of_the_model_server() {
    for status in [400, 404, 429, 500, 503] {
        let stage = alone();
        let upstream = Response::new(status)
            .header("content-type", "application/json")
            .body("{}");
        let outcome = stage.chat(0, 50).upstream(upstream).send();
        expect(&stage, &outcome, "failed", 1_000);
    }
}

#[test]
fn an_upstream_that_cannot_be_reached() {
    let stage = alone();
    let stream = stage.chat(0, 50).start();
    stream.upstream_reset();
    expect(&stage, &stream.finish(), "failed", 1_000);
}

/// Charged is what went by of it.
#[test]
fn an_answer_that_says_nothing_of_its_usage() {
    for kind in ["application/json", "text/plain", "audio/mpeg"] {
        let stage = alone();
        let upstream = Response::new(200)
            .header("content-type", kind)
            .body("a".repeat(100));
        let outcome = stage.chat(0, 50).upstream(upstream).send();
        let (how, (_, output)) = ended(&outcome);
        assert!(how == "complete" || how == "aborted", "{how}");
        assert!((1..=50).contains(&output), "{output} of {kind}");
        assert_eq!(record(&outcome)["source"], "estimated");
        expect(&stage, &outcome, &how, 1_000 - output);
    }
}

#[test]
fn a_refusal_here() {
    let stage = alone();
    let first = stage.chat(0, 50).start();
    let outcome = stage.chat(2, 50).send();
    outcome.expect_refused(429).kind("concurrent_requests");
    drop(first);
    let record = expect(&stage, &outcome, "limited", 1_000);
    assert_eq!(
        (&record["limit"], &record["source"]),
        (&json!("key-places"), &json!("nothing"))
    );
}

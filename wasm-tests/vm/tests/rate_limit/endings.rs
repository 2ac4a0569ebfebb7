//! However a request ends: its record is there, once, and what it held is settled.

use std::time::Duration;

use serde_json::{Value, json};
use tollgate_vm::{Hostcall, Outcome, Response};

use crate::stage::{DELTA, Stage, answer, ended, output, places, record, stage, usage_event};

/// Two requests at a time, and 1,000 tokens.
fn alone() -> Stage {
    stage(json!([output("1000/day"), places(2)]))
}

/// The story has ended so, with one record; of the 1,000 tokens so many are left, and its place is free.
#[track_caller]
fn expect(stage: &Stage, outcome: &Outcome, how: &str, left: u64) -> Value {
    assert_eq!(ended(outcome).0, how, "{outcome}");
    assert_eq!(outcome.hostcalls(Hostcall::SetProperty), 1);
    expect_left(stage, left);
    assert_eq!(free(stage), 2);
    record(outcome)
}

/// As [`expect`], where the model server may go on: the 50 tokens that were reserved and its place are held for a minute,
/// and then what it used is `used`.
#[track_caller]
fn expect_held(stage: &Stage, outcome: &Outcome, how: &str, used: u64) -> Value {
    expect_held_with(stage, outcome, how, used, 1)
}

/// As [`expect_held`], of which so many places are free meanwhile.
#[track_caller]
fn expect_held_with(stage: &Stage, outcome: &Outcome, how: &str, used: u64, places: usize) -> Value {
    assert_eq!(ended(outcome).0, how, "{outcome}");
    assert_eq!(outcome.hostcalls(Hostcall::SetProperty), 1);
    expect_left(stage, 950);
    assert_eq!(free(stage), places);
    let tick = |after: Duration| {
        stage.world.advance(after);
        stage.workers.iter().for_each(|worker| {
            worker.tick();
        });
    };
    tick(Duration::from_millis(59_900));
    // By now a token may have leaked of 1,000 a day.
    let left = left(stage);
    assert!((950..=951).contains(&left), "{left}");
    assert_eq!(free(stage), places);
    tick(Duration::from_millis(200));
    expect_left(stage, 1_000 - used);
    assert_eq!(free(stage), 2);
    record(outcome)
}

/// How many of the two places are free.
fn free(stage: &Stage) -> usize {
    let probes: Vec<_> = (0..3).map(|_| stage.chat(1, 0).start()).collect();
    let free = probes.iter().filter(|probe| probe.is_forwarded()).count();
    for probe in probes {
        if probe.is_forwarded() {
            probe.respond_with(answer((1, 0)));
        }
        drop(probe);
    }
    free
}

#[track_caller]
fn expect_left(stage: &Stage, wanted: u64) {
    assert_eq!(left(stage), wanted);
}

/// Tokens that are left.
#[track_caller]
fn left(stage: &Stage) -> u64 {
    let probe = stage.chat(1, 0).upstream(answer((1, 0))).send();
    let remaining = probe
        .expect_response(200)
        .headers()
        .text("x-ratelimit-remaining-tokens");
    remaining.unwrap().parse().unwrap()
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
    let record = expect_held(&stage, &outcome, "aborted", output);
    assert_eq!(record["source"], "estimated");
}

/// However long what went by looks, the answer has no more tokens than its cap.
#[test]
fn a_client_that_leaves_a_stream_of_large_events() {
    let stage = alone();
    let stream = stage.streamed(0).start();
    stream.respond_headers(Response::new(200).header("content-type", "text/event-stream"));
    let event = json!({"choices": [{"delta": {"content": "x"}, "logprobs": "y".repeat(20_000)}]});
    for _ in 0..10 {
        stream.respond_chunk(format!("data: {event}\n\n"));
    }
    let outcome = stream.abort();
    assert_eq!(ended(&outcome).1.1, 50);
    expect_held(&stage, &outcome, "aborted", 50);
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
    // It was the model server that ended it.
    expect_held_with(&stage, &outcome, "aborted", output, 2);
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
    let record = expect_held(&stage, &outcome, "no_answer", 0);
    // The model server has read what it was sent.
    assert!(record["input_tokens"].as_u64().unwrap() > 0);
}

/// What was learned of others makes no bytes cheaper that nobody counted.
#[test]
fn a_client_that_leaves_before_the_answer_of_a_model_that_reads_little() {
    let stage = alone();
    let input = || {
        let outcome = stage.chat(0, 50).start().abort();
        ended(&outcome).1.0
    };
    let before = input();
    for _ in 0..50 {
        stage
            .chat(0, 0)
            .upstream(answer((1, 0)))
            .send()
            .expect_response(200);
    }
    assert_eq!(input(), before);
}

/// One is connecting still, or waits for a connection.
#[test]
fn a_client_that_leaves_before_a_model_server_received_anything() {
    let stage = alone();
    let unsent = stage.chat(0, 50).property(LOCAL_ADDRESS, b"").start();
    expect(&stage, &unsent.abort(), "refused", 1_000);
}

const LOCAL_ADDRESS: &[&str] = &["upstream", "local_address"];

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
    let stage =
        stage(json!([{"name": "rpd", "per": ["key"], "rate": "10/day"}, output("1000/day"), places(2)]));
    let stream = stage.chat(0, 50).property(LOCAL_ADDRESS, b"").start();
    stream.upstream_reset();
    let outcome = stream.finish();
    let record = expect(&stage, &outcome, "failed", 1_000);
    assert_eq!(record["source"], "nothing");
    let probe = stage.chat(1, 0).upstream(answer((1, 0))).send();
    probe
        .expect_response(200)
        .header("x-ratelimit-remaining-requests", "6");
}

/// It read what it was sent, and nobody knows what it does now.
#[test]
fn an_upstream_that_is_lost_before_it_answers() {
    let stage = alone();
    let stream = stage.chat(0, 50).start();
    stream.upstream_reset();
    let outcome = stream.finish();
    let (_, (input, output)) = ended(&outcome);
    assert!(input > 0 && output == 0, "{input} {output}");
    let record = expect_held_with(&stage, &outcome, "failed", 0, 2);
    assert_eq!(record["source"], "estimated");
}

/// Each attempt that a model server began on has read the input.
#[test]
fn attempts_that_were_given_up() {
    let spent = |attempts: u8, last: bool| [attempts, u8::from(last)];
    let one = {
        let stage = alone();
        ended(&stage.chat(0, 50).start().abort()).1.0
    };
    for (noted, times) in [(spent(2, true), 2), (spent(2, false), 3), (spent(0, false), 1)] {
        let stage = alone();
        let stream = stage.chat(0, 50).property(&["tollgate.spent"], noted).start();
        stream.upstream_reset();
        let outcome = stream.finish();
        assert_eq!(ended(&outcome).1, (times * one, 0));
        expect_held_with(&stage, &outcome, "failed", 0, 2);
    }
    let stage = alone();
    let answered = stage.chat(0, 50).property(&["tollgate.spent"], spent(2, true));
    let outcome = answered.upstream(answer((12, 34))).send();
    assert_eq!(ended(&outcome).1, (12 + 2 * one, 34));
    // Its client has what it asked for, and its place is free.
    let record = expect_held_with(&stage, &outcome, "complete", 34, 2);
    assert_eq!(record["source"], "estimated");
    // Where a model server refused at last, those before it are charged all the same.
    let stage = alone();
    let refused = stage.chat(0, 50).property(&["tollgate.spent"], spent(1, false));
    let outcome = refused.upstream(Response::new(500)).send();
    assert_eq!(ended(&outcome).1, (one, 0));
    expect_held_with(&stage, &outcome, "failed", 0, 2);
}

/// Nobody has more at work at a model server than its limit allows, by leaving again and again.
#[test]
fn whoever_leaves_keeps_his_place() {
    let stage = alone();
    for _ in 0..2 {
        ended(&stage.chat(0, 50).start().abort());
    }
    for _ in 0..3 {
        let refused = stage.chat(0, 50).send();
        refused.expect_refused(429).kind("concurrent_requests");
    }
    stage.world.advance(Duration::from_secs(61));
    stage.workers[0].tick();
    assert_eq!(free(&stage), 2);
}

/// What no model has written costs what was read, and nothing that went by.
#[test]
fn an_answer_that_is_none() {
    let page = format!("<!doctype html>{}", "a".repeat(5_000));
    let html = |body: &str| Response::new(200).header("content-type", "text/html").body(body);
    for (upstream, read) in [
        (Response::new(204), true),
        (Response::new(205).body("x"), true),
        (Response::new(200), true),
        (
            Response::new(200)
                .header("content-type", "application/json")
                .body(" \n"),
            true,
        ),
        (html(&page), true),
        (html("please log in"), true),
        (html(&page).in_chunks(1), true),
        (
            Response::new(200)
                .header("content-type", "application/json")
                .body(&page),
            true,
        ),
        (
            Response::new(200)
                .header("content-type", "text/event-stream")
                .body(&page),
            true,
        ),
        (Response::events([": nothing"]), true),
        // One that is no success was written by nobody who read it.
        (Response::new(302).body(&page), false),
        (
            Response::new(303)
                .header("content-type", "application/json")
                .body(r#"{"usage":{"prompt_tokens":12,"completion_tokens":34}}"#),
            false,
        ),
        (Response::new(304), false),
        (Response::new(600), false),
    ] {
        let stage = alone();
        let outcome = stage.chat(0, 50).upstream(upstream).send();
        let record = expect(&stage, &outcome, "failed", 1_000);
        let input = record["input_tokens"].as_u64().unwrap();
        assert_eq!(input > 0, read, "{record}");
        assert_eq!(
            record["source"],
            if read { "estimated" } else { "nothing" },
            "{record}"
        );
    }
    // What comes to nothing after others adds up.
    let stage = alone();
    let spent = stage.chat(0, 50).property(&["tollgate.spent"], [1, 0]);
    let outcome = spent.upstream(html(&page)).send();
    let once = ended(&stage.chat(0, 50).upstream(html(&page)).send()).1.0;
    assert_eq!(ended(&outcome).1, (2 * once, 0));
    // JSON is an answer whatever it is called.
    let stage = alone();
    let outcome = stage.chat(0, 50).upstream(html("{\"choices\": []}")).send();
    assert_eq!(ended(&outcome).0, "complete");
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
    let two = [0, 1].map(|worker| stage.chat(worker, 50).start());
    let outcome = stage.chat(2, 50).send();
    outcome.expect_refused(429).kind("concurrent_requests");
    for one in two {
        one.respond_with(answer((1, 0)));
        drop(one);
    }
    let record = expect(&stage, &outcome, "limited", 1_000);
    assert_eq!(
        (&record["limit"], &record["source"]),
        (&json!("key-places"), &json!("nothing"))
    );
}

/// What the model server says went wrong is an ending of its own, is charged by what is known, and is told to the router.
#[test]
fn an_answer_that_says_that_it_went_wrong() {
    const WRONG: &str = r#"data: {"error":{"message":"no","code":500}}"#;
    for (events, output) in [
        (vec![WRONG], 1..=2),
        (vec![DELTA, DELTA, WRONG, "data: [DONE]"], 1..=6),
        (vec!["event: error\ndata: {}"], 1..=2),
        (
            vec!["data: {\"type\":\"response.failed\",\"response\":{\"error\":{}}}"],
            1..=2,
        ),
    ] {
        let stage = alone();
        let outcome = stage.streamed(0).upstream(Response::events(events)).send();
        assert_eq!(outcome.filter_state("tollgate.errored"), Some(&b"1"[..]));
        let (_, (input, wrote)) = ended_with(&outcome, 2);
        assert!(input > 0 && output.contains(&wrote), "{input} {wrote}");
        let remaining = left(&stage);
        assert_eq!(remaining, 1_000 - wrote, "nothing is held");
        let record = record(&outcome);
        assert_eq!(
            (&record["outcome"], &record["source"]),
            (&json!("errored"), &json!("estimated"))
        );
    }
    // Of one that says its usage before, that counts.
    let stage = alone();
    let events = [DELTA, &usage_event((12, 34)), WRONG];
    let outcome = stage.streamed(0).upstream(Response::events(events)).send();
    let (how, (input, output)) = ended_with(&outcome, 2);
    assert_eq!((how.as_str(), input), ("errored", 12));
    assert!((34..=36).contains(&output), "{output}");
    // Not only in streams.
    let stage = alone();
    let body = json!({"error": {"message": "no"}, "choices": []});
    let outcome = stage.chat(0, 50).upstream(Response::json(&body)).send();
    assert_eq!(ended_with(&outcome, 2).0, "errored");
}

/// As `ended`, of a record that was left together with so many properties in all.
#[track_caller]
fn ended_with(outcome: &Outcome, properties: u64) -> (String, crate::stage::Tokens) {
    assert_eq!(outcome.hostcalls(Hostcall::SetProperty), properties);
    ended(outcome)
}

/// What no model can have used is not charged, and is said.
#[test]
fn a_usage_that_can_not_be_so() {
    for (usage, distrusted) in [
        (
            json!({"prompt_tokens": 1_000_000_000_000_000_u64, "completion_tokens": 1}),
            true,
        ),
        (
            json!({"prompt_tokens": 5, "completion_tokens": 9_007_199_254_740_992_u64}),
            true,
        ),
        (json!({"prompt_tokens": -5, "completion_tokens": 1}), true),
        (json!({"prompt_tokens": 5.5, "completion_tokens": 1}), true),
        (json!({"prompt_tokens": "5", "completion_tokens": 1}), true),
        (json!({"prompt_tokens": 0, "completion_tokens": 0}), true),
        (json!({"prompt_tokens": 5}), false),
        (json!(null), false),
    ] {
        let stage = alone();
        let body = json!({"choices": [{"message": {"content": "hi"}}], "usage": usage});
        let outcome = stage.chat(0, 50).upstream(Response::json(&body)).send();
        let record = record(&outcome);
        assert_eq!(
            (&record["outcome"], &record["source"]),
            (&json!("complete"), &json!("estimated")),
            "{usage}"
        );
        assert_eq!(record.get("distrusted").is_some(), distrusted, "{usage}");
        let (input, output) = ended(&outcome).1;
        assert!(
            (10..100).contains(&input) && (1..=50).contains(&output),
            "{usage}: {input} {output}"
        );
        assert_eq!(
            stage.world.counter("tollgate_usage_distrusted"),
            u64::from(distrusted),
            "{usage}"
        );
    }
}

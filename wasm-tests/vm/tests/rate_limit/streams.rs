//! A stream whose client did not ask for its usage is asked for it all the same, and the client does not notice.

use serde_json::json;
use tollgate_vm::{Request, Response};

use crate::stage::{CHAT, DELTA, Stage, ended, output, stage, stream_without_usage, usage_event};

fn metered() -> Stage {
    stage(json!([output("1000000/minute")]))
}

/// It reaches the model server as it was, but for the wish to know.
#[track_caller]
fn expect_asked(request: Request, body: &serde_json::Value) {
    let outcome = request.send();
    let forwarded = outcome.expect_forwarded();
    let mut wanted = body.clone();
    wanted["stream_options"]["include_usage"] = json!(true);
    assert_eq!(forwarded.json(), wanted);
    if let Some(length) = forwarded.headers().text("content-length") {
        assert_eq!(length, forwarded.bytes().len().to_string());
    }
}

#[test]
fn the_usage_is_asked_for_in_a_body_of_any_pieces() {
    let stage = metered();
    let mut declined = stream_without_usage();
    declined["stream_options"] = json!({"include_usage": false, "other": 1});
    for body in [stream_without_usage(), declined] {
        let text = body.to_string();
        let ask = || stage.asked(stage.workers[0].post(CHAT), &body, 50);
        for size in 1..=text.len() {
            expect_asked(ask().in_chunks(size), &body);
        }
        for size in [1, 10, 1_000] {
            let pieces = text.as_bytes().chunks(size).chain([&b""[..]]);
            expect_asked(ask().chunks(pieces), &body);
            expect_asked(ask().in_chunks(size).trailer("x-sum", "1"), &body);
        }
    }
}

#[test]
fn the_length_is_said_as_it_will_be() {
    let stage = metered();
    let outcome = stage.streamed(0).send();
    let forwarded = outcome.expect_forwarded();
    let longer = forwarded.bytes().len();
    forwarded.header("content-length", longer.to_string());
    assert!(longer > stream_without_usage().to_string().len());
    // Where none was said none is made up.
    let text = stream_without_usage().to_string();
    let outcome = stage.streamed(0).chunks([text]).send();
    outcome.expect_forwarded().no_header("content-length");
}

/// A length that can't be the body's is none to go by.
#[test]
fn a_length_that_is_none_is_refused() {
    let stage = metered();
    for length in ["", "x", "-1", "1.5"] {
        let request = stage.streamed(0).without_header("content-length");
        let outcome = request.header("content-length", length).send();
        outcome.expect_refused(500).code("gateway_misconfigured");
    }
    assert!(
        stage.chat(0, 1_000_000).start().is_forwarded(),
        "they hold nothing"
    );
}

#[test]
fn what_needs_no_change_is_not_even_read() {
    let stage = metered();
    let outcome = stage.chat(0, 50).in_chunks(7).send();
    outcome.expect_forwarded().body(crate::stage::chat().to_string());
    assert_eq!(outcome.hostcalls(tollgate_vm::Hostcall::GetBufferBytes), 0);
}

const DONE: &str = "data: [DONE]";

fn text(events: &[&str]) -> String {
    events.iter().map(|event| format!("{event}\n\n")).collect()
}

#[test]
fn the_usage_that_only_we_asked_for_is_taken_out_of_any_pieces() {
    let usage = usage_event((12, 34));
    let (whole, wanted) = (text(&[DELTA, DELTA, &usage, DONE]), text(&[DELTA, DELTA, DONE]));
    let stage = metered();
    for size in 1..=whole.len() {
        let pieces = whole.as_bytes().chunks(size);
        let upstream = Response::new(200).header("content-type", "text/event-stream");
        let outcome = stage.streamed(0).upstream(upstream.chunks(pieces)).send();
        outcome.expect_response(200).body(&wanted);
        assert_eq!(ended(&outcome), ("complete".into(), (12, 34)), "{size}");
    }
}

#[test]
fn a_client_that_asked_for_the_usage_gets_it() {
    let stage = metered();
    let mut body = stream_without_usage();
    body["stream_options"] = json!({"include_usage": true});
    let usage = usage_event((12, 34));
    let events = [DELTA, &usage, DONE];
    let request = stage.asked(stage.workers[0].post(CHAT), &body, 50);
    let outcome = request.upstream(Response::events(events)).send();
    outcome.expect_forwarded().body(body.to_string());
    outcome.expect_response(200).body(text(&events));
    assert_eq!(ended(&outcome).1, (12, 34));
}

/// No event waits for the next.
#[test]
fn an_event_goes_on_as_soon_as_it_is_complete() {
    let stage = metered();
    let stream = stage.streamed(0).start();
    stream.respond_headers(Response::new(200).header("content-type", "text/event-stream"));
    let event = text(&[DELTA]);
    for n in 1..=5 {
        let (first, rest) = event.split_at(7 * n);
        stream.respond_chunk(first);
        assert_eq!(stream.received().len(), event.len() * (n - 1));
        stream.respond_chunk(rest);
        assert_eq!(stream.received(), event.repeat(n).as_bytes());
    }
    drop(stream);
}

/// What breaks off in the middle of an event reaches the client as far as it came.
#[test]
fn a_stream_without_its_last_line_is_not_cut_shorter() {
    let stage = metered();
    let cut = format!("{}data: {{\"choices\":[{{\"de", text(&[DELTA]));
    let upstream = Response::new(200).header("content-type", "text/event-stream");
    let outcome = stage
        .streamed(0)
        .upstream(upstream.chunks([&cut[..20], &cut[20..]]))
        .send();
    outcome.expect_response(200).body(&cut);
}

/// A length that was right before is not left standing where something was taken out.
#[test]
fn a_stream_with_a_length_is_not_shorter_than_it_says() {
    let stage = metered();
    let usage = usage_event((12, 34));
    let upstream = Response::new(200)
        .header("content-type", "text/event-stream")
        .body(text(&[DELTA, &usage, DONE]));
    let outcome = stage.streamed(0).upstream(upstream).send();
    let answer = outcome.expect_response(200);
    answer.body(text(&[DELTA, DONE])).no_header("content-length");
}

/// What can't be read passes as it is.
#[test]
fn a_stream_that_is_compressed_passes() {
    let stage = metered();
    let upstream = Response::events([DELTA, &usage_event((12, 34)), DONE]).header("content-encoding", "gzip");
    let outcome = stage.streamed(0).upstream(upstream.clone()).send();
    let wanted = text(&[DELTA, &usage_event((12, 34)), DONE]);
    outcome.expect_response(200).body(wanted);
}

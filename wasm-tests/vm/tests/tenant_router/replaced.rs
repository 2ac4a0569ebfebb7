//! Errors of targets: those about the request pass, those about our side are ours to answer, and silence ends.

use std::time::Duration;

use serde_json::{Value, json};
use tollgate_vm::{Outcome, Response, Stream};

use crate::stage::{Stage, chat, stage, target};
use crate::support::counted;

fn error(status: u16, body: &Value) -> Response {
    let response = Response::new(status).header("content-type", "application/json");
    response.body(body.to_string())
}

fn answered(stage: &Stage, response: Response) -> Outcome {
    stage.chat("gpt-oss-same").upstream(response).send()
}

#[test]
fn what_is_about_our_side_is_answered_by_us() {
    for (status, body, code, told) in [
        (
            401,
            json!({"error": {"message": "Incorrect API key provided: sk-pro**xyz."}}),
            "model_unavailable",
            503,
        ),
        (
            403,
            json!({"error": {"message": "Project proj_secret123 has no access."}}),
            "model_unavailable",
            503,
        ),
        (
            429,
            json!({"error": {"message": "You exceeded your current quota.", "code": "insufficient_quota"}}),
            "model_unavailable",
            503,
        ),
        (
            404,
            json!({"error": {"message": "The model `x` does not exist", "code": "model_not_found"}}),
            "model_unavailable",
            503,
        ),
        (
            529,
            json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
            "server_is_overloaded",
            503,
        ),
    ] {
        let stage = stage();
        let response = error(status, &body)
            .header("content-length", body.to_string().len().to_string())
            .header("www-authenticate", "Bearer realm=\"provider\"");
        for response in [response.clone(), response.in_chunks(7)] {
            let outcome = answered(&stage, response);
            let answer = outcome.expect_response(told);
            answer
                .code(code)
                .no_header("www-authenticate")
                .header("content-type", "application/json");
            let len = answer.bytes().len().to_string();
            answer.header("content-length", len);
            let text = String::from_utf8(answer.bytes()).unwrap();
            assert!(
                !text.contains("xyz") && !text.contains("secret") && !text.contains("quota"),
                "{text}"
            );
        }
    }
}

#[test]
fn what_is_about_the_request_passes_as_it_is() {
    for (status, body) in [
        (
            400,
            json!({"error": {"message": "Invalid 'messages'", "param": "messages", "code": "invalid_value"}}),
        ),
        (
            429,
            json!({"error": {"message": "Rate limit reached", "code": "rate_limit_exceeded"}}),
        ),
        (503, json!({"error": {"message": "Loading model"}})),
    ] {
        let stage = stage();
        for response in [error(status, &body), error(status, &body).in_chunks(7)] {
            let outcome = answered(&stage, response.header("x-theirs", "1"));
            outcome
                .expect_response(status)
                .header("x-theirs", "1")
                .body(body.to_string());
        }
    }
}

#[test]
fn pages_and_redirects_become_our_json() {
    let stage = stage();
    let page = |status| {
        Response::new(status)
            .header("content-type", "text/html")
            .body("<html>nginx</html>")
    };
    for (response, told, code) in [
        (page(502), 502, "upstream_error"),
        (page(500), 502, "upstream_error"),
        (page(413), 413, "upstream_error"),
        (page(504), 504, "upstream_timeout"),
        (
            Response::new(302).header("location", "http://inner/"),
            502,
            "upstream_error",
        ),
        (Response::new(500), 502, "upstream_error"),
        (Response::json(&json!("x")).body("not json"), 200, ""),
    ] {
        let outcome = answered(&stage, response);
        let answer = outcome.expect_response(told);
        if !code.is_empty() {
            answer.code(code).no_header("location");
            assert!(!String::from_utf8(answer.bytes()).unwrap().contains("nginx"));
        }
        stage.pass(60_000);
    }
    let counts = counted(&stage.world, "tollgate_router_target_faults.reason.");
    assert_eq!(counts, [("unreadable.target.llama".to_owned(), 6)]);
}

/// It is read up to a bound; beyond it the status has to tell.
#[test]
fn a_long_error_passes_unread() {
    let stage = stage();
    let long = json!({"error": {"message": "x".repeat(100_000)}});
    let outcome = answered(&stage, error(400, &long).in_chunks(16_384));
    outcome.expect_response(400).body(long.to_string());
}

fn stream(stage: &Stage) -> Stream {
    let mut body = chat("llama-live");
    body["stream"] = json!(true);
    let request = stage.known(stage.workers[0].post(crate::stage::CHAT)).json(&body);
    let stream = request.start();
    stream.respond_headers(Response::new(200).header("content-type", "text/event-stream"));
    stream
}

#[test]
fn a_stream_that_sends_headers_and_then_nothing_is_a_time_out() {
    let stage = stage();
    let live = stream(&stage);
    stage.world.run_for(Duration::from_secs(5));
    assert!(live.is_held() && !live.is_over());
    stage.world.run_for(Duration::from_secs(2));
    let outcome = live.finish();
    outcome.expect_response(504).code("upstream_timeout");
    let counts = counted(&stage.world, "tollgate_router_target_faults.reason.");
    assert_eq!(counts, [("silent.target.llama".to_owned(), 1)]);
}

#[test]
fn comments_are_no_event() {
    let stage = stage();
    let live = stream(&stage);
    for _ in 0..4 {
        live.respond_chunk(": ping\n\n");
        stage.world.run_for(Duration::from_secs(1));
    }
    assert!(!live.received().is_empty());
    stage.world.run_for(Duration::from_secs(3));
    live.finish().expect_broken();
}

#[test]
fn a_stream_that_falls_silent_is_broken_off() {
    let stage = stage();
    let live = stream(&stage);
    for _ in 0..3 {
        live.respond_chunk("data: {}\n\n");
        stage.world.run_for(Duration::from_secs(19));
    }
    assert!(!live.is_over());
    stage.world.run_for(Duration::from_secs(3));
    assert_eq!(target(&live.finish()), "llama");
    // Twice, and whose streams those were is served there no more; others are.
    let live = stream(&stage);
    live.respond_chunk("data: {}\n\n");
    stage.world.run_for(Duration::from_secs(23));
    live.finish().expect_broken();
    stage
        .chat("llama-live")
        .send()
        .expect_refused(503)
        .code("model_unavailable");
    assert_eq!(target(&stage.other("globex").chat("llama-live").send()), "llama");
}

#[test]
fn answers_that_are_not_streamed_may_take_their_time() {
    let stage = stage();
    let waiting = stage.chat("llama-live").start();
    stage.world.run_for(Duration::from_mins(5));
    waiting.respond_with(Response::json(&json!({})));
    let outcome = waiting.finish();
    outcome
        .expect_forwarded()
        .no_header("x-envoy-upstream-rq-per-try-timeout-ms");
    outcome.expect_response(200);
}

//! The document's server fails in all its ways; the last good directory stays.

use serde_json::{Value, json};
use tollgate_vm::{Hostcall, HttpCall, Status};

use crate::stage::{Fleet, directory, fleet, key, row};

fn good() -> Value {
    directory([row(&key(1), json!({}))])
}

#[test]
fn whatever_the_server_answers_the_last_good_directory_stays() {
    type Answer = fn(HttpCall);
    let answers: [(Answer, &str); 9] = [
        (HttpCall::unreachable, "status 503"),
        (HttpCall::time_out, "status 504"),
        (HttpCall::fail, "cannot be reached"),
        (|call| call.answer(500, &[], "oops"), "status 500"),
        (|call| call.answer(404, &[], ""), "status 404"),
        (|call| call.answer(403, &[], "AccessDenied"), "status 403"),
        (
            |call| call.answer(301, &[("location", "/elsewhere")], ""),
            "status 301",
        ),
        (|call| call.answer(204, &[], ""), "status 204"),
        (|call| call.answer(206, &[], "{"), "status 206"),
    ];
    let fleet = Fleet::loaded(&good());
    for (at, (answer, said)) in (1..).zip(answers) {
        let before = fleet.said(said);
        answer(fleet.asked());
        answer(fleet.asked());
        assert_eq!(fleet.fetches("failed"), 2 * at, "{said}");
        assert_eq!(fleet.said(said), before + 1, "said once: {said}");
        fleet.admits(&key(1));
    }
    fleet.take_over(&directory([row(&key(2), json!({}))]), "\"2\"");
    fleet.refuses(&key(1), 401, "tollgate_unknown_key");
}

/// An outage that ended and came back is said again.
#[test]
fn each_outage_is_said_once() {
    let fleet = Fleet::loaded(&good());
    for outage in 1..=3 {
        for _ in 0..4 {
            fleet.asked().unreachable();
        }
        assert_eq!(fleet.said("status 503"), outage);
        fleet.asked().answer(304, &[], "");
    }
    assert_eq!(fleet.fetches("failed"), 12);
}

#[test]
fn a_304_to_a_question_without_a_condition_is_a_failure() {
    let fleet = fleet();
    fleet.asked().answer(304, &[], "");
    assert_eq!(fleet.fetches("failed"), 1);
    fleet.refuses(&key(1), 503, "tollgate_directory_unavailable");
}

#[test]
fn a_cluster_that_envoy_does_not_know_is_named() {
    let fleet = fleet();
    let fault = fleet.world.fault(Hostcall::HttpCall, Status::BadArgument);
    fleet.pass(20_000);
    assert!(fleet.fetches("failed") >= 4);
    assert_eq!(fleet.said("cluster `directory` cannot be called"), 1);
    fleet.refuses(&key(1), 503, "tollgate_directory_unavailable");
    fault.clear();
    fleet.take_over(&good(), "\"1\"");
    fleet.admits(&key(1));
}

/// The first directory is what everyone waits for; its server may start later than Envoy.
#[test]
fn the_first_directory_is_asked_for_again_soon() {
    let fleet = fleet();
    fleet.asked().unreachable();
    fleet.pass(1_500);
    fleet.take_over(&good(), "\"1\"");
    fleet.admits(&key(1));
}

/// Envoy ends a call by its timeout. Should an answer never come, or come after it was given up, the fetcher
/// is neither stuck nor deceived.
#[test]
fn an_answer_that_comes_too_late_is_not_taken_over() {
    let fleet = Fleet::loaded(&good());
    let late = fleet.asked();
    fleet.pass(61_000);
    assert_eq!(fleet.said("no answer came"), 1);
    let second = loop {
        match fleet.fetcher.calls() {
            calls if calls.len() == 2 => break calls.into_iter().nth(1).unwrap(),
            _ => fleet.pass(250),
        }
    };
    // The newer document is here, and then the older answer arrives.
    second.answer(
        200,
        &[("etag", "\"3\"")],
        directory([row(&key(3), json!({}))]).to_string(),
    );
    late.answer(
        200,
        &[("etag", "\"2\"")],
        directory([row(&key(2), json!({}))]).to_string(),
    );
    fleet.pass(1_000);
    fleet.admits(&key(3));
    fleet.refuses(&key(2), 401, "tollgate_unknown_key");
    assert_eq!(
        fleet.asked().headers.text("if-none-match").as_deref(),
        Some("\"3\"")
    );
}

#[test]
fn the_older_answer_first_is_not_taken_over_either() {
    let fleet = Fleet::loaded(&good());
    let late = fleet.asked();
    fleet.pass(61_000);
    while fleet.fetcher.calls().len() < 2 {
        fleet.pass(250);
    }
    late.answer(
        200,
        &[("etag", "\"2\"")],
        directory([row(&key(2), json!({}))]).to_string(),
    );
    fleet.pass(500);
    fleet.refuses(&key(2), 401, "tollgate_unknown_key");
    fleet.serve(directory([row(&key(3), json!({}))]).to_string(), "\"3\"");
    fleet.admits(&key(3));
}

/// An answer that breaks off is, for Envoy's client, no answer; one that claims to be whole is checked.
#[test]
fn garbage_of_all_sizes_changes_nothing() {
    let fleet = Fleet::loaded(&good());
    for body in [
        vec![0; 100_000],
        vec![0xff; 3],
        b"{".repeat(100_000),
        b"[".repeat(100_000),
        b" ".repeat(1_000_000),
    ] {
        fleet.serve(body, "\"2\"");
        fleet.admits(&key(1));
    }
    let deep = format!("{{\"orgs\":{}{}}}", "{\"a\":".repeat(50_000), "}".repeat(50_000));
    fleet.serve(deep, "\"2\"");
    let wide = format!(
        "{{\"version\":1,\"keys\":[{}7],\"orgs\":{{}}}}",
        "[".repeat(50_000)
    );
    fleet.serve(wide, "\"2\"");
    fleet.admits(&key(1));
    assert_eq!(fleet.fetches("rejected"), 7);
}

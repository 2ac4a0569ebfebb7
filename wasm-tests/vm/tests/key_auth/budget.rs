//! What a request costs in crossings between Envoy and the module; each is 0.1 to 1 µs.

use serde_json::json;
use tollgate_vm::{Hostcall, Outcome};

use crate::stage::{CHAT, Fleet, directory, gateway, key, row};

/// The host calls that were made, for the message.
fn calls(outcome: &Outcome) -> Vec<(Hostcall, u64)> {
    let all = Hostcall::ALL.iter().map(|call| (*call, outcome.hostcalls(*call)));
    all.filter(|(_, count)| *count > 0).collect()
}

#[track_caller]
fn at_most(outcome: &Outcome, crossings: u64) {
    assert!(outcome.crossings() <= crossings, "{:?}", calls(outcome));
}

/// Headers read at once (1), the credential removed (1), org, project, key id and tier set (4), filter state
/// (1), the route chosen anew (1), counted (1).
#[test]
fn an_admitted_request_takes_nine_calls() {
    let key = key(1);
    let gateway = gateway([row(&key, json!({"project": "search", "scopes": ["chat"]}))]);
    let outcome = gateway.chat().bearer(key.reveal()).send();
    outcome.expect_forwarded();
    at_most(&outcome, 9);
    // A key of the whole organization has one header less.
    let whole = crate::stage::key(2);
    let gateway = crate::stage::gateway([row(&whole, json!({}))]);
    at_most(&gateway.chat().bearer(whole.reveal()).send(), 8);
}

/// The time and the address are asked for where the key depends on them: one call each.
#[test]
fn limits_in_time_and_place_take_a_call_each() {
    let key = key(1);
    let more = json!({"expires_at": "2030-01-01T00:00:00Z", "not_before": "2020-01-01T00:00:00Z", "networks": ["127.0.0.0/8"]});
    let gateway = gateway([row(&key, more)]);
    let outcome = gateway.chat().bearer(key.reveal()).send();
    outcome.expect_forwarded();
    at_most(&outcome, 10);
}

/// From shared data a key costs two reads (its bucket, its tenant) once; then it is at hand.
#[test]
fn a_fetched_directory_costs_no_more_once_a_key_is_at_hand() {
    let key = key(1);
    let fleet = Fleet::loaded(&directory([row(&key, json!({}))]));
    let chat = || fleet.workers[0].post(CHAT).bearer(key.reveal()).send();
    at_most(&chat(), 10);
    let outcome = chat();
    outcome.expect_forwarded();
    at_most(&outcome, 8);
    assert_eq!(outcome.hostcalls(Hostcall::GetSharedData), 0);
}

/// A flood of bad keys: headers (1), the key removed (1), address (1), time (1), the slot read and written (2),
/// counted (1), answered (1).
#[test]
fn a_refused_request_takes_eight_calls() {
    let gateway = gateway([]);
    let outcome = gateway.chat().bearer("sk-nobody").send();
    let _ = outcome.expect_refused(401);
    at_most(&outcome, 8);
}

/// Bodies and responses are none of its business: they do not enter the module at all.
#[test]
fn bodies_cost_nothing() {
    let key = key(1);
    let gateway = gateway([row(&key, json!({}))]);
    let bare = gateway.chat().bearer(key.reveal()).send().crossings();
    let upstream = tollgate_vm::Response::events((0..100).map(|n| format!("data: {n}")));
    let body = json!({"model": "llama-70b", "messages": "x".repeat(100_000)});
    let long = gateway
        .chat()
        .bearer(key.reveal())
        .json(&body)
        .in_chunks(1_000)
        .upstream(upstream);
    assert_eq!(long.send().crossings(), bare);
}

//! The host fails. Whatever fails, and however: the module does not trap, nothing goes on that was not routed, and
//! what goes on is routed as it should be.

use serde_json::json;
use tollgate_core::route::Routed;
use tollgate_vm::{Hostcall, Outcome, Request, Response, Status, World, module};

use crate::stage::{CHAT, Stage, VM_ID, chat, configuration, stage};
use crate::support::faults::{all_failures, failures};

const LIES: [(&str, &str); 4] = [
    ("x-envoy-max-retries", "1000"),
    ("x-envoy-upstream-rq-timeout-ms", "0"),
    ("x-tollgate-targets", "hidden"),
    ("x-tollgate-target", "hidden"),
];

/// A chat of somebody who also lies; the model has no timeouts of its own.
fn good(stage: &Stage) -> Request {
    LIES.iter().fold(
        stage.chat("gpt-oss-120b").in_chunks(20),
        |request, (name, value)| request.header(name, value),
    )
}

/// Whether it went on; then all is as it should be.
#[track_caller]
fn expect_right_or_not_routed(request: Request, what: &str) -> bool {
    let stream = request.start();
    let forwarded = stream.is_forwarded();
    let outcome = stream.finish();
    if !forwarded {
        expect_closed(&outcome, what);
        return false;
    }
    let headers = outcome.expect_forwarded().headers().clone();
    let said = |name: &str| headers.text(name).unwrap_or_default();
    assert_eq!(
        (said("x-tollgate-model"), said("x-tollgate-target")),
        ("gpt-oss-120b".into(), "gpt-oss".into()),
        "{what}"
    );
    for (name, value) in LIES {
        assert_ne!(said(name), value, "{what}: {name}");
    }
    let routed = outcome.filter_state("tollgate.request").and_then(Routed::decode);
    assert_eq!(
        routed.map(|routed| routed.target.into_owned()),
        Some("gpt-oss".into()),
        "{what}"
    );
    assert_eq!(outcome.route_cache_cleared(), 1, "{what}");
    // Once it was routed the answer comes, whatever fails beside it.
    outcome.expect_response(200).body("{}");
    true
}

/// Nothing went on; an answer, where there could be one, says that the gateway is to blame.
#[track_caller]
fn expect_closed(outcome: &Outcome, what: &str) {
    assert!(outcome.forwarded_body().is_empty(), "{what}");
    if !outcome.received().is_empty() {
        outcome.expect_refused(500).code("gateway_misconfigured");
    }
}

#[track_caller]
fn expect_never_routed(request: Request, what: &str) {
    assert!(!request.start().is_forwarded(), "{what}: went on");
}

#[test]
fn a_failing_host_call_sends_nothing_astray() {
    let stage = stage();
    let (mut went, mut refused) = (0, 0);
    for failure in all_failures("tenant-router", 8) {
        let what = failure.to_string();
        failure.befall(&stage.world);
        let request = good(&stage).upstream(Response::json(&json!({})));
        match expect_right_or_not_routed(request, &what) {
            true => went += 1,
            false => refused += 1,
        }
    }
    assert!(went > 100 && refused > 100, "{went} {refused}");
    stage.world.clear_faults();
    assert!(expect_right_or_not_routed(
        good(&stage).upstream(Response::json(&json!({}))),
        "nothing lasts"
    ));
}

#[test]
fn a_failing_host_call_lets_nothing_through_that_is_refused() {
    let stage = stage();
    let unknown = || stage.workers[0].post(CHAT).json(&chat("gpt-oss-120b"));
    for failure in all_failures("tenant-router", 3) {
        let what = failure.to_string();
        let refused = [
            unknown(),
            unknown().in_chunks(20),
            unknown().trailer("x-checksum", "1"),
            stage.chat("hidden"),
            stage.chat("hidden").in_chunks(20),
            stage.chat("hidden").in_chunks(20).trailer("x-checksum", "1"),
            stage
                .post("/v1/nothing")
                .json(&chat("gpt-oss-120b"))
                .in_chunks(20),
            stage
                .post("/v1/nothing")
                .json(&chat("gpt-oss-120b"))
                .trailer("x-checksum", "1"),
            stage.post(CHAT).body("{").trailer("x-checksum", "1"),
            stage.get("/v1/models").trailer("x-checksum", "1"),
            stage.get(CHAT),
        ];
        for request in refused {
            failure.befall(&stage.world);
            expect_never_routed(request, &what);
        }
    }
}

/// What is only told to operators, or remembered of a target, stops no customer.
#[test]
fn what_is_beside_the_way_refuses_nobody() {
    let stage = stage();
    let beside = [
        Hostcall::Log,
        Hostcall::IncrementMetric,
        Hostcall::GetSharedData,
        Hostcall::SetSharedData,
        Hostcall::GetCurrentTime,
    ];
    for failure in failures(&beside, 3) {
        failure.befall(&stage.world);
        let failing = stage.chat("gpt-oss-120b").upstream(Response::new(200));
        failing.send().expect_forwarded();
    }
}

/// An answer that cannot be added to is still the answer.
#[test]
fn the_answer_comes_whatever_fails() {
    let stage = stage();
    for failure in all_failures("tenant-router", 4) {
        let stream = stage.chat("gpt-oss-120b").start();
        failure.befall(&stage.world);
        stream.respond_with(Response::json(&json!({"id": 1})));
        let outcome = stream.finish();
        outcome.expect_response(200).body(r#"{"id":1}"#);
        stage.world.clear_faults();
    }
}

/// A configuration that can't be set up is refused, as a bad one is, or it works.
#[test]
fn a_failing_host_call_in_configure_refuses_the_configuration_or_nothing() {
    let world = World::new();
    let vm = world.vm(&module("tenant-router"), VM_ID);
    let stage = stage();
    for failure in all_failures("tenant-router", 15) {
        failure.befall(&world);
        let configured = vm.configure("tenant-router", configuration());
        world.clear_faults();
        let Ok(filter) = configured else { continue };
        let filter = filter.allow_on_headers_stop_iteration();
        let request = stage.known(filter.post(CHAT)).json(&chat("llama-70b"));
        request.send().expect_forwarded();
        expect_never_routed(filter.post(CHAT).json(&chat("llama-70b")), &failure.to_string());
        filter.retire();
    }
}

#[test]
fn a_filter_that_cannot_count_is_refused_with_the_reason() {
    let vm = World::new().vm(&module("tenant-router"), VM_ID);
    let _ = vm.world().fault(Hostcall::DefineMetric, Status::InternalFailure);
    let said = vm
        .configure("tenant-router", configuration())
        .err()
        .unwrap()
        .text();
    assert!(said.contains("the proxy refused"), "{said}");
}

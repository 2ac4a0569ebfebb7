//! The host fails. Whatever fails, and however: the module does not trap, nothing goes on that was not checked, what
//! goes on is metered, and what was held is given back once the host works again.

use std::ops::RangeInclusive;

use serde_json::{Value, json};
use tollgate_vm::{Hostcall, Request, Response, Status, World, module};

use crate::stage::{
    CHAT, DELTA, Stage, VM_ID, answer, chat, ended, output, places, stage, stream_without_usage, usage_event,
};
use crate::support::faults::{all_failures, failures};

fn limits() -> Value {
    json!([output("1000/day"), places(2)])
}

fn full() -> Stage {
    let stage = stage(limits());
    stage
        .chat(1, 1_000)
        .upstream(answer((1, 1_000)))
        .send()
        .expect_response(200);
    stage
}

/// Nothing is held: the host works again, and after a tick all places are free and all tokens but `used` there.
#[track_caller]
fn expect_settled(stage: &Stage, used: RangeInclusive<u64>, what: &str) {
    stage.world.clear_faults();
    stage.workers.iter().for_each(tollgate_vm::Plugin::tick);
    let first = stage.chat(1, 0).start();
    let outcome = stage.chat(2, 0).upstream(answer((1, 0))).send();
    let headers = outcome.expect_response(200).headers().clone();
    let left = headers.text("x-ratelimit-remaining-tokens");
    let left: u64 = left.unwrap().parse().unwrap();
    assert!(
        used.contains(&(1_000 - left)),
        "{what}: {} for {used:?}",
        1_000 - left
    );
    first.respond_with(answer((1, 0)));
    first.finish().expect_response(200);
}

/// Nothing went on, or all of it as it should be: then its usage is asked for, and the length is right.
#[track_caller]
fn expect_metered_or_not_forwarded(request: Request, what: &str) -> bool {
    let stream = request.start();
    let forwarded = stream.is_forwarded();
    let outcome = stream.finish();
    let body = outcome.forwarded_body();
    if !forwarded {
        assert!(body.is_empty(), "{what}");
        return false;
    }
    if body.is_empty() {
        // Only its headers went, and then it was answered here, or held.
        return false;
    }
    let asked: Value =
        serde_json::from_slice(&body).unwrap_or_else(|error| panic!("{what}: {error}: {outcome}"));
    assert_eq!(asked["stream_options"], json!({"include_usage": true}), "{what}");
    let length = outcome.expect_forwarded().headers().text("content-length");
    assert_eq!(length, Some(body.len().to_string()), "{what}");
    true
}

#[test]
fn a_failing_host_call_lets_nothing_through_unmetered() {
    let (mut went, mut refused) = (0, 0);
    for failure in all_failures("rate-limit", 4) {
        // A host that says there is no such header says nothing that could be told from the truth.
        let what = failure.to_string();
        if what.contains("GetHeaderMapValue") && what.ends_with("NotFound") {
            continue;
        }
        let stage = stage(limits());
        for size in [1_000, 5] {
            failure.befall(&stage.world);
            let upstream = Response::events([DELTA, &usage_event((1, 10)), "data: [DONE]"]);
            let request = stage.streamed(0).in_chunks(size).upstream(upstream);
            match expect_metered_or_not_forwarded(request, &what) {
                true => went += 1,
                false => refused += 1,
            }
        }
    }
    assert!(went > 100 && refused > 100, "{went} {refused}");
}

/// A limit that is reached, or a filter in front that is missing: no failure helps.
#[test]
fn a_failing_host_call_lets_nobody_past_a_limit() {
    let stage = full();
    let unknown = || stage.workers[0].post(CHAT).json(&chat()).in_chunks(20);
    for failure in all_failures("rate-limit", 6) {
        for request in [
            stage.chat(0, 1),
            stage.chat(0, 1_001).in_chunks(20),
            stage.chat(0, 1).in_chunks(20).trailer("x-sum", "1"),
            unknown(),
            unknown().trailer("x-sum", "1"),
        ] {
            failure.befall(&stage.world);
            assert!(!request.start().is_forwarded(), "{failure}");
        }
    }
    expect_settled(&stage, 1_000..=1_000, "refused requests");
}

/// What was reserved is settled, at the latest once the host works again.
#[test]
fn a_failing_host_call_keeps_nothing() {
    for failure in all_failures("rate-limit", 4) {
        let stage = stage(limits());
        let stream = stage.chat(0, 500).start();
        failure.befall(&stage.world);
        stream.respond_with(answer((1, 10)));
        let outcome = stream.finish();
        outcome.expect_response(200);
        let what = failure.to_string();
        // An answer that can't be read is charged by its length.
        let used = if what.contains("GetBufferBytes") {
            10..=40
        } else {
            10..=10
        };
        expect_settled(&stage, used, &what);
    }
    for failure in all_failures("rate-limit", 4) {
        let stage = stage(limits());
        failure.befall(&stage.world);
        let stream = stage.chat(0, 500).start();
        stage.world.clear_faults();
        let forwarded = stream.is_forwarded();
        if forwarded {
            stream.respond_with(answer((1, 10)));
        }
        drop(stream);
        let used = if forwarded { 10 } else { 0 };
        expect_settled(&stage, used..=used, &failure.to_string());
    }
}

/// The answer reaches its client as it is, whatever fails beside it.
#[test]
fn the_answer_comes_whatever_fails() {
    for failure in all_failures("rate-limit", 4) {
        let stage = stage(limits());
        let stream = stage.chat(0, 50).start();
        failure.befall(&stage.world);
        stream.respond_with(Response::json(&json!({"id": 1})).in_chunks(3));
        let outcome = stream.finish();
        outcome.expect_response(200).body(r#"{"id":1}"#);
        let stream = stage.asked(stage.workers[1].post(CHAT), &asking(), 50).start();
        stage.world.clear_faults();
        if !stream.is_forwarded() {
            continue;
        }
        failure.befall(&stage.world);
        stream.respond_with(Response::events([DELTA, "data: [DONE]"]));
        let outcome = stream.finish();
        outcome
            .expect_response(200)
            .body(format!("{DELTA}\n\ndata: [DONE]\n\n"));
    }
}

/// A stream whose client asked for the usage itself: nothing of it is changed.
fn asking() -> Value {
    let mut body = stream_without_usage();
    body["stream_options"] = json!({"include_usage": true});
    body
}

#[test]
fn what_cannot_be_read_is_charged_by_what_went_by() {
    let stage = stage(limits());
    let stream = stage.streamed(0).start();
    let _ = stage
        .world
        .fault(Hostcall::GetBufferBytes, Status::InternalFailure)
        .nth(38);
    stream.respond_headers(Response::new(200).header("content-type", "text/event-stream"));
    for _ in 0..40 {
        stream.respond_chunk(format!("{DELTA}\n\n"));
    }
    stream.respond_end();
    let (_, (_, output)) = ended(&stream.finish());
    assert!((15..=50).contains(&output), "{output}");
}

/// Shared data that fails denies, unless the limit says otherwise.
#[test]
fn shared_data_that_fails_denies_unless_all_limits_allow_it() {
    let with = |on_error: &str| {
        let mut limit = output("1000/day");
        limit["on_error"] = json!(on_error);
        stage(json!([limit]))
    };
    for call in [Hostcall::GetSharedData, Hostcall::SetSharedData] {
        for status in [
            Status::InternalFailure,
            Status::Unimplemented,
            Status::CasMismatch,
            Status::BadArgument,
        ] {
            let stage = with("deny");
            let _ = stage.world.fault(call, status);
            let outcome = stage.chat(0, 50).send();
            outcome.expect_refused(503).code("rate_limit_unavailable");
            assert_eq!(ended(&outcome).0, "limited");
            let stage = with("allow");
            let _ = stage.world.fault(call, status);
            let outcome = stage.chat(0, 50).upstream(answer((1, 2))).send();
            outcome.expect_response(200);
            assert_eq!(
                ended(&outcome),
                ("complete".into(), (1, 2)),
                "{call:?} {status:?}"
            );
        }
    }
}

#[test]
fn what_is_beside_the_way_refuses_nobody() {
    let beside = [
        Hostcall::Log,
        Hostcall::SetProperty,
        Hostcall::DefineMetric,
        Hostcall::IncrementMetric,
        Hostcall::RecordMetric,
        Hostcall::GetHeaderMapPairs,
    ];
    for failure in failures(&beside, 3) {
        let stage = stage(limits());
        failure.befall(&stage.world);
        stage
            .chat(0, 50)
            .upstream(answer((1, 2)))
            .send()
            .expect_response(200);
        stage.workers[0].tick();
    }
}

#[test]
fn a_tick_outlives_what_fails() {
    let stage = stage(limits());
    for failure in all_failures("rate-limit", 6) {
        let stream = stage.chat(0, 50).start();
        failure.befall(&stage.world);
        stage.workers.iter().for_each(tollgate_vm::Plugin::tick);
        stage.world.clear_faults();
        stream.respond_with(answer((1, 0)));
        stream.finish().expect_response(200);
    }
    expect_settled(&stage, 0..=0, "ticks");
}

/// A configuration that can't be set up is refused, as a bad one is, or it works.
#[test]
fn a_failing_host_call_in_configure_refuses_the_configuration_or_nothing() {
    for failure in all_failures("rate-limit", 8) {
        let stage = full();
        let vm = stage.world.vm(&module("rate-limit"), VM_ID);
        failure.befall(&stage.world);
        let configured = vm.configure("rate-limit", json!({"limits": limits()}));
        stage.world.clear_faults();
        let Ok(filter) = configured else { continue };
        stage.chat_on(&filter, 1).send().expect_refused(429);
        stage.chat_on(&filter, 0).send().expect_forwarded();
        filter.tick();
        filter.retire();
    }
}

#[test]
fn a_filter_that_cannot_count_tick_or_be_told_apart_is_refused_with_the_reason() {
    let vm = World::new().vm(&module("rate-limit"), VM_ID);
    for call in [
        Hostcall::DefineMetric,
        Hostcall::SetTickPeriod,
        Hostcall::GetSharedData,
        Hostcall::SetSharedData,
    ] {
        let _ = vm.world().fault(call, Status::InternalFailure);
        let refused = vm.configure("rate-limit", json!({"limits": limits()}));
        // A worker that has its number needs no other.
        let Err(refused) = refused else { panic!("{call:?}") };
        assert!(refused.text().contains("the proxy refused"), "{}", refused.text());
        vm.world().clear_faults();
    }
}

//! Targets that fail are left alone by all workers, and tried again by one.

use std::time::Duration;

use serde_json::json;
use tollgate_vm::{Hostcall, Outcome, Response};

use crate::stage::{CHAT, Stage, chat, configuration, load, stage, target};

/// A chat on `worker` that its target answers with `response`.
fn answered(stage: &Stage, worker: usize, response: Response) -> Outcome {
    stage.chat_on(worker, "llama-70b").upstream(response).send()
}

/// Two failures, which are enough, each seen by another worker.
fn broken(stage: &Stage) {
    for worker in [0, 1] {
        assert_eq!(target(&answered(stage, worker, Response::new(503))), "llama");
    }
}

#[test]
fn a_target_that_failed_is_left_alone_by_all_workers() {
    let stage = stage();
    broken(&stage);
    for worker in [0, 1] {
        let outcome = answered(&stage, worker, Response::new(200));
        assert_eq!(target(&outcome), "spare");
        outcome
            .expect_response(200)
            .header("x-tollgate-route", "breaker-open");
    }
}

#[test]
fn a_success_in_between_counts_anew() {
    let stage = stage();
    for status in [503, 200, 502, 200, 504, 500] {
        let outcome = answered(&stage, 0, Response::new(status).body("x"));
        assert_eq!(target(&outcome), "llama");
    }
    assert_eq!(target(&answered(&stage, 1, Response::new(200))), "llama");
}

#[test]
fn one_request_finds_out_whether_it_works_again() {
    let stage = stage();
    broken(&stage);
    stage.pass(4_999);
    assert_eq!(target(&answered(&stage, 0, Response::new(200))), "spare");
    stage.pass(1);
    let probe = stage.chat("llama-70b").start();
    assert_eq!(target(&answered(&stage, 1, Response::new(200))), "spare");
    probe.respond_with(Response::new(200));
    assert_eq!(target(&probe.finish()), "llama");
    assert_eq!(target(&answered(&stage, 1, Response::new(200))), "llama");
}

#[test]
fn a_target_that_fails_again_is_left_alone_for_twice_as_long() {
    let stage = stage();
    broken(&stage);
    let mut pause = 5_000;
    for _ in 0..6 {
        stage.pass(pause - 1);
        assert_eq!(target(&answered(&stage, 1, Response::new(200))), "spare");
        stage.pass(1);
        assert_eq!(target(&answered(&stage, 0, Response::new(502))), "llama");
        pause = (pause * 2).min(60_000);
    }
}

/// Two workers at once, one between two host calls of the other: still one probe.
#[test]
fn of_two_that_want_to_find_out_one_does() {
    let stage = stage();
    broken(&stage);
    stage.pass(5_000);
    let other = stage.chat_on(1, "llama-70b");
    let went = std::rc::Rc::new(std::cell::RefCell::new(None));
    let to = went.clone();
    let _ = stage.world.before(Hostcall::SetSharedData, move || {
        *to.borrow_mut() = Some(other.start());
    });
    assert_eq!(target(&stage.chat("llama-70b").send()), "spare");
    assert_eq!(target(&went.take().unwrap().finish()), "llama");
}

/// Failures that two workers see at the same moment are two.
#[test]
fn no_failure_is_lost_between_workers() {
    let stage = stage();
    let other = stage.chat_on(1, "llama-70b").upstream(Response::new(503));
    let _ = stage.world.before(Hostcall::SetSharedData, move || {
        other.send().expect_response(503);
    });
    answered(&stage, 0, Response::new(503)).expect_response(503);
    assert_eq!(target(&answered(&stage, 0, Response::new(200))), "spare");
}

#[test]
fn a_target_that_says_how_long_is_left_alone_for_that() {
    let stage = stage();
    let busy = Response::new(429).header("retry-after", "7");
    assert_eq!(target(&answered(&stage, 0, busy)), "llama");
    stage.pass(6_999);
    assert_eq!(target(&answered(&stage, 1, Response::new(200))), "spare");
    stage.pass(1);
    assert_eq!(target(&answered(&stage, 1, Response::new(200))), "llama");
    // Being busy alone is no failure.
    for _ in 0..5 {
        assert_eq!(target(&answered(&stage, 1, Response::new(429))), "llama");
    }
}

#[test]
fn an_answer_that_breaks_off_is_a_failure_unless_its_client_broke_it() {
    let stage = stage();
    let begun = |worker: usize| {
        let stream = stage.chat_on(worker, "llama-70b").start();
        stream.respond_headers(Response::new(200));
        stream.respond_chunk("data: {");
        stream
    };
    for _ in 0..3 {
        let outcome = begun(0).abort();
        assert_eq!(target(&outcome), "llama");
    }
    for worker in [0, 1] {
        let stream = begun(worker);
        stream.upstream_reset();
        assert_eq!(target(&stream.finish()), "llama");
    }
    assert_eq!(target(&answered(&stage, 0, Response::new(200))), "spare");
}

/// The target is left alone for one model, and the other model there goes on.
#[test]
fn a_target_that_fails_one_model_serves_another() {
    let stage = stage();
    broken(&stage);
    let others = stage.chat("gpt-oss-same").upstream(Response::new(200)).send();
    assert_eq!(target(&others), "llama");
}

#[test]
fn time_outs_that_one_organization_causes_count_for_it_alone() {
    let stage = stage();
    let slow = |stage: &Stage| {
        let request = stage.chat("llama-70b");
        request.upstream(Response::new(504)).send()
    };
    for _ in 0..2 {
        assert_eq!(target(&slow(&stage)), "llama");
    }
    assert_eq!(target(&answered(&stage, 1, Response::new(200))), "spare");
    let mut others = stage.other("globex");
    assert_eq!(target(&answered(&others, 1, Response::new(200))), "llama");
    // Its own breaker tries again, like any.
    others.pass(5_000);
    assert_eq!(target(&answered(&stage, 1, Response::new(200))), "llama");
    // Two of them, and it is the target.
    drop(slow(&stage));
    others = others.other("globex");
    drop(slow(&others));
    let third = others.other("initech");
    assert_eq!(target(&answered(&third, 0, Response::new(200))), "spare");
}

/// The filter that reads answers tells of it. It may be the request that makes them go wrong.
#[test]
fn an_answer_that_says_that_it_went_wrong_is_its_organizations_failure() {
    let stage = stage();
    for _ in 0..2 {
        let request = stage.chat("llama-70b").property(&["tollgate.errored"], "1");
        request.upstream(Response::new(200)).send().expect_response(200);
    }
    assert_eq!(target(&answered(&stage, 1, Response::new(200))), "spare");
    let other = stage.other("globex");
    assert_eq!(target(&answered(&other, 1, Response::new(200))), "llama");
}

#[test]
fn a_target_that_cannot_be_reached_has_failed() {
    let stage = stage();
    for _ in 0..2 {
        let stream = stage.chat("llama-70b").start();
        stream.upstream_reset();
        stream.finish().expect_response(503);
    }
    assert_eq!(target(&answered(&stage, 1, Response::new(200))), "spare");
}

/// Envoy tells of the last attempt alone; that those before it failed follows from their number.
#[test]
fn a_retry_that_went_well_tells_of_the_attempt_before() {
    let stage = stage();
    for worker in [0, 1] {
        let stream = stage.chat_on(worker, "llama-70b").start();
        stream.attempts(2);
        stream.respond_with(Response::new(200));
        let outcome = stream.finish();
        outcome
            .expect_response(200)
            .header("x-tollgate-route", "breaker-open");
    }
    assert_eq!(target(&answered(&stage, 0, Response::new(200))), "spare");
}

/// One of Envoy's own circuit breakers is full, or nobody was asked: the target is not to blame.
#[test]
fn what_envoy_refused_by_itself_says_nothing_of_the_target() {
    let stage = stage();
    for _ in 0..4 {
        let overflow = stage
            .chat("llama-70b")
            .property(&["response", "flags"], (1_u64 << 7).to_le_bytes());
        overflow.upstream(Response::new(503)).send().expect_response(503);
        let unasked = stage
            .chat("llama-70b")
            .property(&["upstream", "request_attempt_count"], 0_u64.to_le_bytes());
        unasked.upstream(Response::new(503)).send().expect_response(503);
    }
    assert_eq!(target(&answered(&stage, 0, Response::new(200))), "llama");
}

#[test]
fn with_no_target_left_a_client_is_told_when_to_come_back() {
    let stage = stage();
    for _ in 0..2 {
        stage
            .chat("gpt-oss-120b")
            .upstream(Response::new(503))
            .send()
            .expect_response(503);
    }
    stage.pass(1_500);
    let outcome = stage.chat_on(1, "gpt-oss-120b").send();
    outcome
        .expect_refused(503)
        .code("model_unavailable")
        .header("retry-after", "4")
        .header("retry-after-ms", "3500");
}

#[test]
fn another_model_stands_in_for_those_who_may() {
    let stage = Stage::of("enterprise");
    for _ in 0..2 {
        stage
            .chat("gpt-oss-120b")
            .upstream(Response::new(503))
            .send()
            .expect_response(503);
    }
    let outcome = stage.chat_on(1, "gpt-oss-120b").send();
    assert_eq!(target(&outcome), "llama");
    outcome.expect_forwarded().header("x-tollgate-model", "llama-70b");
    outcome
        .expect_response(200)
        .header("x-tollgate-model", "llama-70b")
        .header("x-tollgate-route", "fallback");
}

#[test]
fn a_reload_forgets_nothing() {
    let stage = stage();
    broken(&stage);
    let again = load(&stage.world, configuration());
    let same = stage.workers[0].vm().configure("tenant-router", configuration());
    let same = same.unwrap().allow_on_headers_stop_iteration();
    for filter in [again, same] {
        let outcome = stage.known(filter.post(CHAT)).json(&chat("llama-70b")).send();
        assert_eq!(target(&outcome), "spare");
    }
    stage.pass(5_000);
    assert_eq!(target(&answered(&stage, 0, Response::new(200))), "llama");
}

/// A clock that was wrong is corrected: what would be a pause longer than any ends.
#[test]
fn a_clock_set_back_leaves_no_target_alone_for_ever() {
    let stage = stage();
    stage.world.advance(Duration::from_hours(1));
    broken(&stage);
    stage.world.set_back(Duration::from_hours(1));
    assert_eq!(target(&answered(&stage, 0, Response::new(200))), "llama");
    assert_eq!(target(&answered(&stage, 1, Response::new(200))), "llama");
}

/// Something else in the breaker's place is a breaker that is closed.
#[test]
fn rubbish_in_the_shared_data_breaks_nothing() {
    let stage = stage();
    for rubbish in [&b""[..], b"x", &[0xff; 12], &[0xff; 13], &[0; 1_000]] {
        stage
            .world
            .set_shared(crate::stage::VM_ID, "breaker-2-llama\0llama-70b", rubbish);
        let outcome = answered(&stage, 0, Response::json(&json!({})));
        outcome.expect_forwarded();
        outcome.expect_response(200);
    }
}

/// What one organization's time-outs closed for it is open again, as the target of a retry too.
#[test]
fn no_target_is_left_alone_for_ever() {
    let stage = stage();
    for cluster in ["llama", "llama", "spare", "spare"] {
        assert_eq!(target(&answered(&stage, 0, Response::new(504))), cluster);
    }
    stage.pass(180_000);
    let both = tollgate_core::priority_groups::header(["llama", "spare"]);
    let outcome = answered(&stage, 0, Response::new(200));
    outcome.expect_forwarded().header("x-tollgate-targets", both);
}

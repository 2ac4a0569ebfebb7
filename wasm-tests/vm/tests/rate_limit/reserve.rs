//! What requests may use is reserved before they go on, by all workers together, and settled when they end.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use tollgate_vm::{Hostcall, Stream};

use crate::stage::{Stage, answer, ended, output, places, record, stage};

#[test]
fn workers_together_admit_what_the_limit_allows() {
    let stage = stage(json!([output("100/minute")]));
    let streams: Vec<Stream> = [0, 1, 2].map(|worker| stage.chat(worker, 30).start()).into();
    assert!(streams.iter().all(Stream::is_forwarded));
    for worker in [0, 1, 2] {
        let outcome = stage.chat(worker, 30).send();
        let refused = outcome.expect_refused(429);
        refused
            .code("rate_limit_exceeded")
            .kind("tokens")
            .details("tollgate_rate_limit_exceeded")
            .header("retry-after", "12");
        assert_eq!(ended(&outcome), ("limited".into(), (0, 0)));
        assert_eq!(record(&outcome)["limit"], "key-output");
    }
    // There is room for ten, and for no more.
    let last = stage.chat(1, 10).start();
    assert!(last.is_forwarded());
    stage.chat(2, 1).send().expect_refused(429);
}

#[test]
fn what_was_not_used_is_given_back_and_what_was_too_much_is_owed() {
    let stage = stage(json!([output("100/minute")]));
    let used = |worker, most, tokens| {
        let outcome = stage.chat(worker, most).upstream(answer(tokens)).send();
        outcome.expect_response(200);
    };
    used(0, 100, (5, 10));
    used(1, 90, (5, 0));
    // The server wrote more than it was allowed to.
    used(2, 90, (5, 150));
    let refused = stage.chat(0, 1).send();
    refused.expect_refused(429);
    // 160 of 100 are used: 61 of them must have leaked before one fits.
    stage.world.advance(Duration::from_millis(36_599));
    stage.chat(0, 1).send().expect_refused(429);
    stage.world.advance(Duration::from_millis(1));
    stage.chat(0, 1).send().expect_forwarded();
}

/// Whichever of its host calls the others come in between.
#[test]
fn races_admit_no_more_than_the_limit() {
    for call in [Hostcall::GetSharedData, Hostcall::SetSharedData] {
        for nth in 1..=4 {
            for others in 1..=5 {
                let stage = stage(json!([output("100/minute"), places(3)]));
                let admitted = Rc::new(Cell::new(0));
                let streams: Vec<_> = (0..others).map(|n| stage.chat(1 + n % 2, 30)).collect();
                let count = admitted.clone();
                let _ = stage
                    .world
                    .before(call, move || {
                        for request in streams {
                            let stream = request.start();
                            count.set(count.get() + u32::from(stream.is_forwarded()));
                            // It goes on for as long as the test.
                            std::mem::forget(stream);
                        }
                    })
                    .nth(nth);
                let last = stage.chat(0, 30).start();
                let all = admitted.get() + u32::from(last.is_forwarded());
                assert!(all <= 3, "{all} of {others} before {call:?} number {nth}");
                assert_eq!(
                    all,
                    3.min(admitted.get() + 1),
                    "{others} before {call:?} number {nth}"
                );
            }
        }
    }
}

/// A settlement that is overtaken is made all the same.
#[test]
fn a_settlement_that_loses_a_race_is_made() {
    let stage = stage(json!([output("100/minute")]));
    let stream = stage.chat(0, 60).start();
    let other = stage.chat(1, 40);
    let _ = stage.world.before(Hostcall::SetSharedData, move || {
        other.upstream(answer((1, 40))).send().expect_response(200);
    });
    stream.respond_with(answer((1, 0)));
    stream.finish().expect_response(200);
    stage.chat(2, 60).send().expect_forwarded();
    let stage = stage_full();
    stage.chat(2, 1).send().expect_refused(429);
}

fn stage_full() -> Stage {
    let stage = stage(json!([output("100/minute")]));
    stage
        .chat(0, 100)
        .upstream(answer((1, 100)))
        .send()
        .expect_response(200);
    stage
}

#[test]
fn a_request_that_one_limit_refuses_takes_nothing_of_the_others() {
    let requests = json!({"name": "key-rpm", "per": ["key"], "rate": "5/minute"});
    let stage = stage(json!([requests, output("100/minute")]));
    for _ in 0..10 {
        stage
            .chat(0, 101)
            .send()
            .expect_refused(429)
            .code("request_too_large_for_limit");
    }
    let outcome = stage.chat(1, 10).upstream(answer((1, 10))).send();
    outcome
        .expect_response(200)
        .header("x-ratelimit-limit-requests", "5")
        .header("x-ratelimit-remaining-requests", "4");
}

#[test]
fn organizations_do_not_touch_each_other() {
    let stage = stage_full();
    let other = Stage {
        who: crate::stage::caller("globex"),
        ..stage_full()
    };
    other.chat(0, 1).send().expect_refused(429);
    // The same key id, in the same process, but of a limit by organization.
    let by_org =
        json!({"name": "org-output", "per": ["org"], "count": "output_tokens", "rate": "100/minute"});
    let filter = crate::stage::load(&stage.world, json!({"limits": [by_org]}));
    assert!(stage.chat_on(&filter, 100).start().is_forwarded());
    let other = Stage {
        world: stage.world.clone(),
        workers: stage.workers.clone(),
        ..other
    };
    assert!(other.chat_on(&filter, 100).start().is_forwarded());
}

#[test]
fn a_limit_that_only_watches_refuses_nobody_and_says_so() {
    let mut watching = output("10/minute");
    watching["mode"] = json!("shadow");
    let stage = stage(json!([watching]));
    let outcome = stage.chat(0, 50).upstream(answer((1, 50))).send();
    outcome.expect_response(200);
    assert_eq!(record(&outcome)["would_limit"], json!(["key-output"]));
    assert_eq!(
        stage
            .world
            .counter("tollgate_limit_shadow_refusals.limit.key-output"),
        1
    );
}

/// While a model is saturated its places are shared by organization.
#[test]
fn a_model_has_so_many_places() {
    let stage = Stage::of(json!({"limits": [], "capacity": [{"model": "llama-*", "concurrent": 2}]}));
    let streams = [0, 1].map(|worker| stage.chat(worker, 10).start());
    let outcome = stage.chat(2, 10).send();
    outcome.expect_refused(429).code("slow_down");
    assert_eq!(record(&outcome)["limit"], Value::Null);
    for stream in streams {
        stream.finish().expect_forwarded();
    }
    stage.chat(2, 10).send().expect_forwarded();
}

/// What a request took before the model had no place for it is given back.
#[test]
fn a_request_without_a_place_takes_nothing() {
    let limits = json!([output("100/minute"), places(2)]);
    let stage = Stage::of(json!({"limits": limits, "capacity": [{"model": "*", "concurrent": 1}]}));
    let stream = stage.chat(0, 50).start();
    for worker in [0, 1, 2, 0] {
        stage
            .chat(worker, 50)
            .send()
            .expect_refused(429)
            .code("slow_down");
    }
    stream.respond_with(answer((1, 50)));
    stream.finish().expect_response(200);
    stage.chat(1, 50).send().expect_forwarded();
}

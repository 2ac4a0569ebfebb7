//! A clock that is wrong, and one that is set.

use std::time::Duration;

use serde_json::json;

use crate::stage::{answer, output, stage};

#[test]
fn what_was_used_leaks_away_with_time() {
    let stage = stage(json!([output("60/minute")]));
    let spend = |worker, most| stage.chat(worker, most).upstream(answer((1, most))).send();
    spend(0, 60).expect_response(200);
    for worker in [0, 1, 2] {
        stage.world.advance(Duration::from_millis(9_999));
        spend(worker, 10).expect_refused(429);
        stage.world.advance(Duration::from_millis(1));
        spend(worker, 10).expect_response(200);
    }
    stage.world.advance(Duration::from_hours(24));
    spend(0, 60).expect_response(200);
    spend(1, 1).expect_refused(429);
}

/// A clock set back gives nobody more than there was.
#[test]
fn a_clock_set_back_gives_nothing_away() {
    let stage = stage(json!([output("60/minute")]));
    stage
        .chat(0, 60)
        .upstream(answer((1, 60)))
        .send()
        .expect_response(200);
    for _ in 0..5 {
        stage.world.set_back(Duration::from_mins(5));
        for worker in [0, 1, 2] {
            stage.chat(worker, 1).send().expect_refused(429);
        }
    }
}

/// A request that began before the clock was set ends as any other.
#[test]
fn a_request_ends_well_over_a_change_of_the_clock() {
    for forward in [true, false] {
        let stage = stage(json!([output("100/day")]));
        let stream = stage.chat(0, 100).start();
        if forward {
            stage.world.advance(Duration::from_mins(5));
        } else {
            stage.world.set_back(Duration::from_mins(5));
        }
        stream.respond_with(answer((1, 10)));
        let outcome = stream.finish();
        outcome.expect_response(200);
        assert_eq!(crate::stage::ended(&outcome).1, (1, 10));
        stage.chat(1, 89).send().expect_forwarded();
        stage.chat(1, 100).send().expect_refused(429);
    }
}

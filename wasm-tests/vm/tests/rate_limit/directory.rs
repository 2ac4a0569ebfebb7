//! What the directory has in place of the table's bounds, as the identity brings it: in force with the next request.

use serde_json::{Value, json};

use crate::stage::{answer, output, stage};

fn acme(more: Value) -> Vec<u8> {
    let mut org = json!({"tier": "pro", "models": ["*"]});
    let members = more.as_object().unwrap().clone();
    org.as_object_mut().unwrap().extend(members);
    crate::identity::identity("k1", ("acme", org))
}

#[test]
fn a_bound_that_is_raised_is_in_force_with_the_next_request() {
    let mut stage = stage(json!([output("100/day")]));
    stage
        .chat(0, 60)
        .upstream(answer((1, 60)))
        .send()
        .expect_response(200);
    stage.chat(1, 60).send().expect_refused(429);
    stage.who = acme(json!({"limits": {"key-output": {"rate": "1000/day"}}}));
    for worker in [0, 1, 2] {
        let outcome = stage.chat(worker, 60).upstream(answer((1, 60))).send();
        outcome
            .expect_response(200)
            .header("x-ratelimit-limit-tokens", "1000");
    }
    // What was used is the same part of either: 600 of 1,000, and then 180.
    let outcome = stage.chat(0, 10).upstream(answer((1, 0))).send();
    outcome
        .expect_response(200)
        .header("x-ratelimit-remaining-tokens", "210");
    stage.who = acme(json!({}));
    stage.chat(0, 60).send().expect_refused(429);
}

#[test]
fn a_cap_refuses_on_every_worker_and_is_counted_by_its_name() {
    let mut stage = stage(json!([]));
    stage.who = acme(json!({"cap": {"rate": "2/hour"}}));
    for worker in [0, 1] {
        stage
            .chat(worker, 1)
            .upstream(answer((1, 1)))
            .send()
            .expect_response(200);
    }
    let refused = stage.chat(2, 1).send();
    refused
        .expect_refused(429)
        .header("ratelimit-policy", r#""cap";q=2;w=3600"#);
    assert_eq!(stage.world.counter("tollgate_limit_refusals.limit.cap"), 1);
    stage.who = acme(json!({}));
    stage
        .chat(2, 1)
        .upstream(answer((1, 1)))
        .send()
        .expect_response(200);
}

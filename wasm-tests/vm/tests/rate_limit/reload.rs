//! A new configuration while requests are under way, and what is left of the old one.

use serde_json::json;

use crate::stage::{answer, load, output, places, stage};

#[test]
fn what_was_used_stays_used() {
    let stage = stage(json!([output("100/day")]));
    stage
        .chat(0, 60)
        .upstream(answer((1, 60)))
        .send()
        .expect_response(200);
    let configuration = json!({"limits": [output("100/day")]});
    let same = stage.workers[0]
        .vm()
        .configure("rate-limit", configuration.clone())
        .unwrap();
    let fresh = load(&stage.world, configuration);
    for filter in [&same, &fresh] {
        stage.chat_on(filter, 41).send().expect_refused(429);
        let outcome = stage.chat_on(filter, 0).upstream(answer((1, 0))).send();
        outcome
            .expect_response(200)
            .header("x-ratelimit-remaining-tokens", "40");
    }
}

#[test]
fn what_is_under_way_is_settled_for_the_new_configuration_too() {
    let stage = stage(json!([output("100/day"), places(1)]));
    let old = stage.workers[0].clone();
    let stream = stage.chat(0, 100).start();
    let new = old
        .vm()
        .configure("rate-limit", json!({"limits": [output("200/day"), places(1)]}))
        .unwrap();
    stage.chat_on(&new, 1).send().expect_refused(429);
    stream.respond_with(answer((1, 10)));
    stream.finish().expect_response(200);
    old.retire();
    let outcome = stage.chat_on(&new, 0).upstream(answer((1, 0))).send();
    outcome.expect_response(200);
    let left = outcome
        .expect_response(200)
        .headers()
        .text("x-ratelimit-remaining-tokens");
    assert!(
        left.as_deref() >= Some("180") && left.as_deref() <= Some("190"),
        "{left:?}"
    );
}

#[test]
fn a_configuration_that_is_refused_leaves_the_old_one_in_force() {
    let stage = stage(json!([output("100/day")]));
    for bad in [
        json!({"limits": [{"name": "x"}]}),
        json!([]),
        json!({"limit": []}),
    ] {
        stage.workers[0].vm().configure("rate-limit", bad).err().unwrap();
        stage.chat(0, 101).send().expect_refused(429);
        stage
            .chat(0, 100)
            .upstream(answer((1, 0)))
            .send()
            .expect_response(200);
    }
}

/// Whatever was counted since the last tick, and whatever was not settled yet, outlives the configuration.
#[test]
fn a_reload_loses_no_count() {
    let stage = stage(json!([output("100/day")]));
    let old = stage.workers[0].clone();
    let stream = stage.chat(0, 50).start();
    old.tick();
    stream.respond_with(answer((5, 10)));
    stream.finish().expect_response(200);
    stage.workers[0]
        .vm()
        .configure("rate-limit", json!({"limits": []}))
        .unwrap();
    old.retire();
    assert_eq!(stage.world.gauge("tollgate_requests_in_flight"), Some(0));
    let used = "tollgate_tokens.kind.output.org.acme.model.llama-70b";
    assert_eq!(stage.world.counter(used), 10);
}

#[test]
fn requests_and_reloads_leave_nothing_behind() {
    let configuration = || json!({"limits": [output("100000/minute"), places(5)]});
    let stage = stage(json!([]));
    let vm = stage.workers[0].vm().clone();
    let mut sizes = Vec::new();
    for _ in 0..60 {
        let filter = vm.configure("rate-limit", configuration()).unwrap();
        for _ in 0..20 {
            let _ = stage.chat_on(&filter, 10).upstream(answer((1, 2))).send();
        }
        filter.tick();
        filter.retire();
        sizes.push(vm.memory());
    }
    assert_eq!(sizes[20..].iter().max(), Some(&sizes[20]), "{sizes:?}");
    let keys = stage.world.shared_keys(crate::stage::VM_ID).len();
    assert!(keys <= 4, "{keys}");
}

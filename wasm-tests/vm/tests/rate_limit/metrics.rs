//! What is counted reaches Envoy with a tick; refusals at once.

use serde_json::json;
use tollgate_vm::Response;

use crate::stage::{answer, output, stage};
use crate::support::counted;

#[test]
fn a_tick_hands_over_what_was_counted() {
    let stage = stage(json!([output("100/day")]));
    let counts = || {
        let counters = counted(&stage.world, "tollgate_");
        let of_series = counters.into_iter().filter(|(name, _)| name.contains(".org."));
        of_series.collect::<Vec<_>>()
    };
    let under_way = || stage.world.gauge("tollgate_requests_in_flight");
    let stream = stage.chat(0, 50).start();
    stage.chat(0, 60).send().expect_refused(429);
    assert_eq!(stage.world.counter("tollgate_limit_refusals.limit.key-output"), 1);
    assert_eq!(counts(), vec![]);
    stage.workers[0].tick();
    assert_eq!(under_way(), Some(1));
    stage.world.advance(std::time::Duration::from_millis(250));
    stream.respond_with(answer((5, 10)));
    stream.finish().expect_response(200);
    stage
        .chat(1, 20)
        .upstream(Response::new(500))
        .send()
        .expect_response(500);
    stage.workers.iter().for_each(tollgate_vm::Plugin::tick);
    let name = |name: &str| format!("{name}.org.acme.model.llama-70b");
    let wanted = [
        ("cost_micros", 25),
        ("requests.outcome.complete", 1),
        ("requests.outcome.failed", 1),
        ("requests.outcome.limited", 1),
        ("tokens.kind.input", 5),
        ("tokens.kind.output", 10),
    ];
    assert_eq!(counts(), wanted.map(|(what, count)| (name(what), count)));
    assert_eq!(under_way(), Some(0));
    assert_eq!(stage.world.histogram("tollgate_first_byte_ms"), [250, 0]);
    // Once is enough.
    let before = counts();
    stage.workers.iter().for_each(tollgate_vm::Plugin::tick);
    assert_eq!(counts(), before);
}

/// Each worker learns, and all learn of it.
#[test]
fn what_one_worker_learns_of_a_model_all_go_by() {
    let stage = stage(json!([]));
    let reserved = |worker| {
        let outcome = stage.chat(worker, 0).upstream(answer((9, 0))).send();
        crate::stage::record(&outcome)["reserved_tokens"]
            .as_u64()
            .unwrap()
    };
    let before = reserved(1);
    for _ in 0..200 {
        let outcome = stage.chat(0, 0).upstream(answer((before * 2, 0))).send();
        outcome.expect_response(200);
    }
    stage.workers[0].tick();
    stage.workers[1].tick();
    assert!(reserved(1) > before, "{} {before}", reserved(1));
}

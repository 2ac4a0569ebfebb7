//! The access logger of attempts: what a target asks for is heeded, whoever saw it.

use serde_json::json;
use tollgate_vm::{Hostcall, Plugin, Request, Response, World, module};

use crate::stage::{CHAT, Stage, VM_ID, stage, target};
use crate::support::faults::failures;

fn logger(world: &World) -> Plugin {
    let vm = world.vm(&module("tenant-router"), VM_ID);
    vm.configure("attempts", json!({})).unwrap()
}

/// An attempt at `cluster` that was answered so.
fn attempt(logger: &Plugin, cluster: &str, response: Response) -> Request {
    let request = logger.post(CHAT).property(&["xds", "cluster_name"], cluster);
    let request = request.header("x-tollgate-org", "acme");
    request.header("x-tollgate-model", "llama-70b").upstream(response)
}

fn leave(seconds: u32) -> Response {
    Response::new(429).header("retry-after", seconds.to_string())
}

fn next(stage: &Stage) -> String {
    let outcome = stage.chat("llama-70b").upstream(Response::new(200)).send();
    target(&outcome)
}

#[test]
fn a_target_that_asked_an_attempt_for_it_is_left_alone_that_long() {
    let stage = stage();
    let logger = logger(&stage.world);
    for other in [
        Response::new(429),
        Response::new(200).header("retry-after", "7"),
        Response::new(503).header("retry-after", "soon"),
    ] {
        attempt(&logger, "llama", other).log_attempt();
        assert_eq!(next(&stage), "llama");
    }
    attempt(&logger, "llama", leave(7)).log_attempt();
    stage.pass(6_999);
    assert_eq!(next(&stage), "spare");
    stage.pass(1);
    assert_eq!(next(&stage), "llama");
}

#[test]
fn a_target_that_had_enough_of_one_organization_serves_others() {
    let stage = stage();
    let logger = logger(&stage.world);
    attempt(&logger, "llama", leave(7)).log_attempt();
    let nobodys = logger.post(CHAT).property(&["xds", "cluster_name"], "llama");
    let nobodys = nobodys.header("x-tollgate-model", "llama-70b").upstream(leave(7));
    nobodys.log_attempt();
    assert_eq!(next(&stage), "spare");
    let globex = stage.other("globex");
    assert_eq!(next(&globex), "llama");
    // 503 is for everybody.
    let down = Response::new(503).header("retry-after", "7");
    attempt(&logger, "llama", down).log_attempt();
    assert_eq!(next(&globex), "spare");
}

/// Told of by its own answer, and as one that was followed by another.
#[test]
fn an_attempt_that_was_followed_by_another_counts_once() {
    let stage = stage();
    let logger = logger(&stage.world);
    let slow: Vec<_> = (0..5).map(|_| stage.chat("llama-70b").start()).collect();
    attempt(&logger, "llama", leave(1)).log_attempt();
    stage.pass(1_000);
    assert_eq!(next(&stage), "llama");
    for stream in slow {
        stream.attempts(2);
        stream.respond_with(Response::new(200));
        stream.finish().expect_response(200);
    }
    assert_eq!(next(&stage), "llama");
}

#[test]
fn what_is_wrong_on_our_side_is_counted() {
    let world = World::new();
    let logger = logger(&world);
    for status in [401, 401, 402, 403, 529, 400, 200, 503] {
        attempt(&logger, "llama", Response::new(status)).log_attempt();
    }
    let counted = crate::support::counted(&world, "tollgate_router_target_faults.reason.");
    let count = |name: &str, count| (format!("{name}.target.llama"), count);
    assert_eq!(
        counted,
        [count("credential", 3), count("overloaded", 1), count("quota", 1)]
    );
}

#[test]
fn where_no_filter_is_there_to_heed_it_that_is_said_once() {
    let world = World::new();
    let logger = logger(&world);
    for _ in 0..3 {
        attempt(&logger, "llama", leave(7)).log_attempt();
    }
    let said = world.log();
    let about = said
        .iter()
        .filter(|line| line.text.contains("no filter with this vm_id"));
    assert_eq!(about.count(), 1);
}

#[test]
fn whatever_fails_it_goes_on_logging() {
    let stage = stage();
    let logger = logger(&stage.world);
    let calls = [
        Hostcall::Log,
        Hostcall::GetCurrentTime,
        Hostcall::GetProperty,
        Hostcall::GetHeaderMapPairs,
        Hostcall::GetSharedData,
        Hostcall::SetSharedData,
    ];
    for failure in failures(&calls, 3) {
        failure.befall(&stage.world);
        attempt(&logger, "llama", leave(7)).log_attempt();
        stage.world.clear_faults();
        stage.pass(60_000);
        assert_eq!(next(&stage), "llama", "{failure}");
    }
    attempt(&logger, "llama", leave(7)).log_attempt();
    assert_eq!(next(&stage), "spare");
}

//! A host that fails: an attempt is right, or it is not made.

use serde_json::json;
use tollgate_vm::{Hostcall, Request, Status, World, module};

use crate::stage::{
    CHAT, CLIENTS, SECRET_A, SECRET_B, VM_ID, asked, body, configuration, expect_no_secret_logged, stage,
    two_attempts,
};
use crate::support::faults::all_failures;

/// Each failure for ever, and at the first twelve such calls.
fn each_failure(world: &World, mut then: impl FnMut(&str)) {
    for failure in all_failures("upstream-adapter", 12) {
        failure.befall(world);
        then(&failure.to_string());
        world.clear_faults();
    }
}

/// `None` where it was not made.
#[track_caller]
fn expect_right_or_not_made(request: Request, what: &str) -> bool {
    let stream = request.start();
    let made = stream.is_forwarded();
    let outcome = stream.finish();
    let received = String::from_utf8_lossy(&outcome.received()).into_owned();
    assert!(
        !received.contains("secret-of") && !received.contains(CLIENTS),
        "{what}: {received}"
    );
    if !made {
        return false;
    }
    let forwarded = outcome.expect_forwarded();
    forwarded
        .header(":path", CHAT)
        .header("x-api-key", SECRET_B)
        .no_header("authorization")
        .no_header("x-title")
        .no_header("x-tollgate-org");
    assert_eq!(
        forwarded.json(),
        json!({"model": "b70", "messages": body()["messages"]}),
        "{what}"
    );
    for (name, value) in forwarded.headers().iter() {
        let value = String::from_utf8_lossy(value);
        assert!(
            !value.contains(SECRET_A) && !value.contains(CLIENTS),
            "{what}: {name}: {value}"
        );
    }
    true
}

#[test]
fn an_attempt_is_right_or_not_made() {
    let stage = stage();
    let (mut made, mut refused) = (0, 0);
    each_failure(&stage.world, |what| {
        match expect_right_or_not_made(stage.chat("b"), what) {
            true => made += 1,
            false => refused += 1,
        }
    });
    assert!(made > 50 && refused > 50, "{made} {refused}");
    assert!(expect_right_or_not_made(stage.chat("b"), "nothing lasts"));
    expect_no_secret_logged(&stage.world);
}

/// Of the two attempts, which one the failure hits makes no difference; but that the host knows nothing of an earlier
/// attempt is no failure that could be told from the truth.
#[test]
fn a_second_attempt_is_right_or_not_made() {
    let world = World::new();
    let chain = two_attempts(&world, "a", "b");
    each_failure(&world, |what| {
        if what.contains("GetProperty") && what.ends_with("NotFound") {
            return;
        }
        expect_right_or_not_made(asked(chain.post(CHAT), "p").json(&body()), what);
    });
    assert!(expect_right_or_not_made(
        asked(chain.post(CHAT), "p").json(&body()),
        "nothing lasts"
    ));
    expect_no_secret_logged(&world);
}

/// Filter state of that name that is not ours: what it stands for can't be given back.
#[test]
fn a_foreign_state_is_not_gone_by() {
    let world = World::new();
    let chain = two_attempts(&world, "a", "b");
    for state in [&b"\xff"[..], b"", b"text"] {
        let request = asked(chain.post(CHAT), "p")
            .property(&["tollgate.attempt"], state)
            .json(&body());
        let outcome = request.send();
        outcome.expect_refused(500).details("tollgate_misconfigured");
    }
}

#[test]
fn a_filter_that_cannot_count_is_refused_with_the_reason() {
    let world = World::new();
    let vm = world.vm(&module("upstream-adapter"), VM_ID);
    let _ = world.fault(Hostcall::DefineMetric, Status::InternalFailure);
    let said = vm
        .configure("upstream-adapter", configuration())
        .err()
        .unwrap()
        .text();
    assert!(said.contains("the proxy refused"), "{said}");
}

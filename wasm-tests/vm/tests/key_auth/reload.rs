//! A new configuration while requests are under way, and what is left of the old one.

use std::time::Duration;

use serde_json::json;

use crate::stage::{CHAT, VM_ID, directory, gateway, inline, key, row};
use tollgate_vm::{World, module};

#[test]
fn a_new_directory_is_for_new_requests() {
    let (old, new) = (key(1), key(2));
    let before = gateway([row(&old, json!({}))]);
    let vm = before.filter.vm().clone();
    let stream = before
        .chat()
        .bearer(old.reveal())
        .json(&json!({"model": "llama-70b"}))
        .in_chunks(4)
        .open();
    assert!(stream.is_forwarded());
    let after = vm
        .configure("key-auth", inline(&directory([row(&new, json!({}))])))
        .unwrap();
    after.post(CHAT).bearer(new.reveal()).send().expect_forwarded();
    let _ = after.post(CHAT).bearer(old.reveal()).send().expect_refused(401);
    // What had begun goes on to its end.
    let outcome = stream.finish();
    outcome.expect_forwarded().body(r#"{"model":"llama-70b"}"#);
    let _ = outcome.expect_response(200);
    before.filter.retire();
    after.post(CHAT).bearer(new.reveal()).send().expect_forwarded();
}

/// Envoy keeps the old one; here that is the test's to do, and the module must not have lost it.
#[test]
fn a_configuration_that_is_refused_leaves_the_old_one_in_force() {
    let key = key(1);
    let gateway = gateway([row(&key, json!({}))]);
    for bad in [
        json!({}),
        json!({"directory": {"inline": {"version": 2, "orgs": {}, "keys": []}}}),
    ] {
        gateway.filter.vm().configure("key-auth", bad).err().unwrap();
        gateway.chat().bearer(key.reveal()).send().expect_forwarded();
    }
}

/// Attempts on one address are remembered over a reload: they are in shared data.
#[test]
fn failures_are_remembered_over_a_reload() {
    let mut configuration = inline(&directory([]));
    configuration["failed_auth"] = json!({"rate": "1/day", "burst": 1});
    let before = crate::stage::Gateway::of(configuration.clone());
    let _ = before.chat().send().expect_refused(401);
    let after = before.filter.vm().configure("key-auth", configuration).unwrap();
    let _ = after.post(CHAT).send().expect_refused(429);
}

#[test]
fn reloads_leave_nothing_behind() {
    let vm = World::new().vm(&module("key-auth"), VM_ID);
    let documents = [0, 1_000].map(|from| directory((from..from + 1_000).map(|n| row(&key(n), json!({})))));
    let documents = documents.map(|document| inline(&document));
    let mut sizes = Vec::new();
    for n in 0..200 {
        let filter = vm.configure("key-auth", documents[n % 2].clone()).unwrap();
        let known = key([0, 1_000][n % 2] + 7);
        filter.post(CHAT).bearer(known.reveal()).send().expect_forwarded();
        filter.retire();
        sizes.push(vm.memory());
    }
    // The first ones find out how much room they need; from then on it is the same.
    assert_eq!(sizes[20..].iter().max(), Some(&sizes[20]), "{sizes:?}");
}

#[test]
fn requests_leave_nothing_behind() {
    let key = key(1);
    let gateway = gateway([row(&key, json!({}))]);
    let send = |n: u32| {
        for _ in 0..n {
            gateway.chat().bearer(key.reveal()).send().expect_forwarded();
            let _ = gateway
                .chat()
                .bearer("sk-nobody")
                .header("x-tollgate-org", "acme")
                .send();
        }
    };
    send(500);
    let before = gateway.filter.vm().memory();
    send(5_000);
    assert_eq!(gateway.filter.vm().memory(), before);
}

/// Two listeners, or an old and a new one for a while: each its own rules.
#[test]
fn two_configurations_at_once_do_not_mix() {
    let (one, two) = (key(1), key(2));
    let first = gateway([row(&one, json!({}))]);
    let second = first
        .filter
        .vm()
        .configure("key-auth", inline(&directory([row(&two, json!({}))])))
        .unwrap();
    for _ in 0..3 {
        first.chat().bearer(one.reveal()).send().expect_forwarded();
        second.post(CHAT).bearer(two.reveal()).send().expect_forwarded();
        let _ = first.chat().bearer(two.reveal()).send().expect_refused(401);
        let _ = second.post(CHAT).bearer(one.reveal()).send().expect_refused(401);
        first.world.advance(Duration::from_secs(10));
    }
}

#[test]
fn a_fetcher_in_the_place_of_the_filter_lets_nobody_through() {
    let world = World::new();
    let fetcher = crate::stage::fetcher(&world);
    let outcome = fetcher.post(CHAT).bearer(key(1).reveal()).send();
    let _ = outcome.expect_refused(500).code("gateway_misconfigured");
}

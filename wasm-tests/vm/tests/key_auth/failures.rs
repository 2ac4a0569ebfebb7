//! The limit on failed authentications of one address: exact over all workers, bounded in memory, and no
//! business of those with a good key.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use tollgate_vm::{Hostcall, Plugin, World};

use crate::stage::{CHAT, VM_ID, decisions, directory, inline, key, row, with, worker};

/// Two workers; a customer's key among what they know.
fn workers(failed_auth: Value) -> (World, [Plugin; 2]) {
    let world = World::new();
    let configuration = with(
        inline(&directory([row(&key(1), json!({}))])),
        "failed_auth",
        failed_auth,
    );
    let workers = [0, 1].map(|_| worker(&world, configuration.clone()));
    (world, workers)
}

/// Whether a failure from `address` was within the limit.
fn fails(worker: &Plugin, address: &str) -> bool {
    let outcome = worker.post(CHAT).bearer("sk-nobody").from(address).send();
    let limited = outcome.received().windows(10).any(|part| part == b"rate_limit");
    let _ = outcome.expect_refused(if limited { 429 } else { 401 });
    !limited
}

#[test]
fn workers_count_one_address_together() {
    let (_, [one, two]) = workers(json!({"rate": "30/minute", "burst": 7}));
    let answered = (0..10)
        .flat_map(|_| [&one, &two])
        .filter(|worker| fails(worker, "10.1.2.3"));
    assert_eq!(answered.count(), 7);
    // Another address has its own.
    assert!(fails(&two, "10.1.2.4"));
}

#[test]
fn it_recovers_at_the_rate() {
    let (world, [one, two]) = workers(json!({"rate": "30/minute", "burst": 3}));
    let spent = || (0..9).filter(|_| fails(&one, "10.1.2.3")).count();
    assert_eq!(spent(), 3);
    world.advance(Duration::from_nanos(1_999_999_999));
    assert!(!fails(&two, "10.1.2.3"));
    // Being refused costs nothing more.
    world.advance(Duration::from_nanos(1));
    assert!(fails(&two, "10.1.2.3"));
    assert!(!fails(&one, "10.1.2.3"));
    world.advance(Duration::from_secs(60));
    assert_eq!(spent(), 3);
}

/// The other worker's failure falls between this one's read and write, each time.
#[test]
fn no_failure_is_lost_in_a_race() {
    let (world, [one, two]) = workers(json!({"rate": "1/hour", "burst": 20}));
    // The first in a slot makes it; from then on every write is a compare-and-swap.
    let passed = Rc::new(Cell::new(u32::from(fails(&one, "10.1.2.3"))));
    for _ in 0..15 {
        let (counted, other) = (passed.clone(), two.clone());
        let _ = world.before(Hostcall::SetSharedData, move || {
            counted.set(counted.get() + u32::from(fails(&other, "10.1.2.3")));
        });
        let own = fails(&one, "10.1.2.3");
        passed.set(passed.get() + u32::from(own));
        world.clear_faults();
    }
    assert_eq!(passed.get(), 20);
}

/// Two workers that create one slot at once may count two failures as one: never more than that.
#[test]
fn a_race_for_a_new_slot_costs_one_failure_at_most() {
    let (world, [one, two]) = workers(json!({"rate": "1/hour", "burst": 5}));
    let other = two.clone();
    let _ = world.before(Hostcall::SetSharedData, move || {
        assert!(fails(&other, "10.1.2.3"))
    });
    let passed = 1 + (0..20).filter(|_| fails(&one, "10.1.2.3")).count();
    assert!((5..=6).contains(&passed), "{passed}");
}

#[test]
fn a_good_key_is_never_affected() {
    let (world, [one, two]) = workers(json!({"rate": "1/day", "burst": 1}));
    while fails(&one, "10.1.2.3") {}
    for worker in [&one, &two] {
        let chat = || worker.post(CHAT).bearer(key(1).reveal()).from("10.1.2.3").send();
        for _ in 0..50 {
            chat().expect_forwarded();
        }
    }
    // Nor does it cost the address anything, nor give it anything back.
    assert!(!fails(&two, "10.1.2.3"));
    let counted = decisions(&world);
    assert!(counted.contains(&("allow.api_key".into(), 100)), "{counted:?}");
    assert!(
        counted.contains(&("deny.auth_rate_limited".into(), 2)),
        "{counted:?}"
    );
}

/// A customer who may not do something is not one who guesses keys.
#[test]
fn only_failed_authentications_count() {
    let world = World::new();
    let (frozen, away) = (key(2), key(3));
    let rows = [
        row(&frozen, json!({"status": "suspended"})),
        row(&away, json!({"networks": ["192.0.2.0/24"]})),
    ];
    let configuration = with(
        inline(&directory(rows)),
        "failed_auth",
        json!({"rate": "1/day", "burst": 1}),
    );
    let worker = worker(&world, configuration);
    for key in [&frozen, &away] {
        for _ in 0..5 {
            let _ = worker.post(CHAT).bearer(key.reveal()).send().expect_refused(403);
        }
    }
    let two = worker
        .post(CHAT)
        .bearer(frozen.reveal())
        .header("api-key", away.reveal());
    let _ = two.send().expect_refused(400);
    assert!(fails(&worker, "127.0.0.1"));
    assert!(!fails(&worker, "127.0.0.1"));
}

/// Nothing at all, a typo and a guess are all failures of the same address.
#[test]
fn every_kind_of_failure_counts() {
    let (_, [one, _]) = workers(json!({"rate": "1/day", "burst": 3}));
    let _ = one.post(CHAT).send().expect_refused(401);
    let _ = one.post(CHAT).bearer("sk-tg-typo").send().expect_refused(401);
    let _ = one.post(CHAT).bearer(key(9).reveal()).send().expect_refused(401);
    let _ = one.post(CHAT).send().expect_refused(429);
}

/// The address is the one Envoy determined; a header is what anyone may write.
#[test]
fn a_forged_header_gives_no_new_address() {
    let (_, [one, _]) = workers(json!({"rate": "1/day", "burst": 2}));
    let forged = |n: u32| {
        let request = one.post(CHAT).bearer("sk-nobody").from("10.1.2.3");
        let request = request.header("x-forwarded-for", format!("10.0.0.{n}"));
        request
            .header("x-envoy-external-address", format!("10.0.0.{n}"))
            .send()
    };
    for n in 0..2 {
        let _ = forged(n).expect_refused(401);
    }
    let _ = forged(3).expect_refused(429);
}

/// Whoever has one address of IPv6 has 2^64 of them.
#[test]
fn a_whole_subnet_of_ipv6_is_one_address() {
    let (_, [one, two]) = workers(json!({"rate": "1/day", "burst": 3}));
    let within = (0..10)
        .filter(|n| {
            fails(
                [&one, &two][n % 2],
                &format!("[2001:db8:1:2:{n}:{n}:{n}:{n}]:443"),
            )
        })
        .count();
    assert_eq!(within, 3);
    assert!(fails(&one, "[2001:db8:1:3::1]:443"));
    // The same client through a dual-stack listener and through one of IPv4.
    while fails(&one, "10.1.2.3") {}
    assert!(!fails(&two, "[::ffff:10.1.2.3]:443"));
}

/// Without an address there is nothing to count by: it stays a refusal.
#[test]
fn an_unknown_address_is_refused_without_a_count() {
    let (world, [one, _]) = workers(json!({"rate": "1/day", "burst": 1}));
    for _ in 0..5 {
        let request = one.post(CHAT).property(&["source", "address"], "@pipe");
        let _ = request.send().expect_refused(401);
    }
    assert!(world.shared_keys(VM_ID).is_empty());
}

/// Shared data is never freed, so strangers share a fixed number of slots.
#[test]
fn a_hundred_thousand_addresses_take_a_bounded_room() {
    let (world, [one, two]) = workers(json!({"rate": "1/day", "burst": 1}));
    let before = [one.vm().memory(), two.vm().memory()];
    for n in 0..100_000_u32 {
        // A walk through all of IPv4.
        let [a, b, c, d] = n.wrapping_mul(0x9e37_79b1).to_be_bytes();
        let request = [&one, &two][n as usize % 2]
            .post(CHAT)
            .from(&format!("{a}.{b}.{c}.{d}"));
        drop(request.open());
    }
    let slots = world.shared_keys(VM_ID).len();
    assert!((4_000..=4_096).contains(&slots), "{slots}");
    for (worker, before) in [&one, &two].into_iter().zip(before) {
        assert!(
            worker.vm().memory() <= before + 65_536,
            "{} of {before}",
            worker.vm().memory()
        );
    }
    // And the customer still comes through.
    two.post(CHAT).bearer(key(1).reveal()).send().expect_forwarded();
}

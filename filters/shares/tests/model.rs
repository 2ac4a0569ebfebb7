//! The protocol, in every order in which messages, clocks and crashes can come.
//!
//! A message that was sent may arrive at any time, never, or again: that is loss, delay, disorder and doubling in one.
//! Small instances are gone through whole, 1.6 million states to depth 23, of two members and one limit of two. Larger
//! ones, of three members and two limits with everything at once, are walked at random: 5 seconds, or `MODEL_SECONDS`.
//! `make model` has the largest instances too, and walks for a minute.
//! Each way to break the rule is noticed by a walk, of 10 to 76 steps, within a second or two.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test says what it expects by failing"
)]

#[path = "model/fleet.rs"]
mod fleet;
#[path = "model/node.rs"]
mod node;
#[path = "model/pages.rs"]
mod pages;
#[path = "model/setup.rs"]
mod setup;
#[path = "model/walk.rs"]
mod walk;

use std::time::{Duration, Instant};

use setup::Setup;
use stateright::{Checker, HasDiscoveries, Model as _};
use tollgate_shares::Mutation;

/// A number from the environment. `MODEL_SECONDS` is how long walks are taken.
fn setting(name: &str, or: u64) -> u64 {
    std::env::var(name).map_or(or, |text| text.parse().expect("a number"))
}

fn tell(name: &str, checker: &impl Checker<Setup>, begun: Instant) {
    println!(
        "{name}: {} states, {} reached, depth {}, {:.1} s",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        begun.elapsed().as_secs_f64()
    );
}

/// Goes through all states of an instance.
fn explore(name: &str, setup: Setup) {
    let begun = Instant::now();
    let failure = HasDiscoveries::AnyFailures;
    let checker = setup.checker().threads(2).finish_when(failure).spawn_bfs().join();
    tell(name, &checker, begun);
    checker.assert_properties();
}

/// Takes random walks for so long, or until one fails; the steps to there.
fn walk(name: &str, setup: &Setup, seconds: u64) -> Option<usize> {
    let walked = walk::walk(setup, Duration::from_secs(seconds));
    println!("{name}: {} walks, {} steps", walked.walks, walked.steps);
    let (property, steps) = walked.failure?;
    println!("  not so: {property}; after {} steps", steps.len());
    for step in &steps {
        println!("    {step:?}");
    }
    Some(steps.len())
}

/// The rule broken in one way: some walk has to notice.
fn notices(mutation: Mutation, setup: Setup) {
    let broken = setup.broken(mutation);
    let found = walk(&format!("{mutation:?}"), &broken, setting("MODEL_SECONDS", 60));
    assert!(found.is_some(), "nobody noticed {mutation:?}");
}

#[test]
#[ignore = "half a minute or more: `make model`"]
fn explicit_shares() {
    explore("explicit", Setup::explicit());
}

#[test]
fn a_share_moves() {
    let setup = Setup {
        wanting: 1,
        turns: 1,
        sends: 3,
        horizon: 1,
        requests: 1,
        ..Setup::explicit()
    };
    explore("moves", setup);
}

#[test]
fn implicit_parts() {
    explore("implicit", Setup::implicit());
}

#[test]
fn slots_are_halved() {
    explore("halving", Setup::halving());
}

#[test]
#[ignore = "half a minute or more: `make model`"]
fn a_member_crashes() {
    let setup = Setup {
        crashes: 1,
        wanting: 1,
        requests: 0,
        ..Setup::explicit()
    };
    explore("crash", setup);
}

#[test]
fn a_member_leaves() {
    let setup = Setup {
        leaves: 1,
        wanting: 0,
        horizon: 1,
        ..Setup::implicit()
    };
    explore("leaves", setup);
}

#[test]
#[ignore = "half a minute or more: `make model`"]
fn data_are_lost() {
    let setup = Setup {
        losses: 1,
        requests: 0,
        ..Setup::explicit()
    };
    explore("loss", setup);
}

#[test]
fn clocks_are_slow() {
    let setup = Setup {
        lag: 1,
        sends: 1,
        requests: 0,
        horizon: 4,
        ..Setup::explicit()
    };
    explore("slow clocks", setup);
}

#[test]
fn the_coordinators_clock_jumps() {
    let setup = Setup {
        jumps: 1,
        sends: 1,
        requests: 0,
        horizon: 4,
        ..Setup::explicit()
    };
    explore("jump", setup);
}

#[test]
fn everything_at_once() {
    let found = walk("everything", &Setup::everything(), setting("MODEL_SECONDS", 5));
    assert_eq!(found, None);
}

#[test]
fn the_log_in_pages() {
    assert!(!pages::comes_back_full(&Setup::pages()));
    let found = walk("pages", &Setup::pages(), setting("MODEL_SECONDS", 5));
    assert_eq!(found, None);
}

#[test]
fn parts_are_halved_away() {
    let found = walk("halved away", &Setup::halved_away(), setting("MODEL_SECONDS", 5));
    assert_eq!(found, None);
}

#[test]
fn grant_before_ack() {
    notices(Mutation::GrantBeforeAck, Setup::everything());
}

#[test]
fn arrive_full() {
    notices(Mutation::ArriveFull, Setup::everything());
}

#[test]
fn lease_from_receipt() {
    notices(Mutation::LeaseFromReceipt, Setup::everything());
}

#[test]
fn no_skew() {
    notices(Mutation::NoSkew, Setup::everything());
}

#[test]
fn clock_jumps() {
    notices(Mutation::ClockJumps, Setup::everything());
}

#[test]
fn forgotten_grants_at_once() {
    notices(Mutation::ForgottenGrantsAtOnce, Setup::everything());
}

#[test]
fn slot_starts_full() {
    let setup = Setup {
        leaves: 1,
        wanting: 0,
        sends: 4,
        requests: 2,
        horizon: 4,
        ..Setup::implicit()
    };
    notices(Mutation::SlotStartsFull, setup);
}

#[test]
fn halve_before_ack() {
    notices(Mutation::HalveBeforeAck, Setup::everything());
}

#[test]
fn activate_before_ack() {
    notices(Mutation::ActivateBeforeAck, Setup::everything());
}

#[test]
fn leave_before_ack() {
    let broken = Setup::pages().broken(Mutation::LeaveBeforeAck);
    assert!(pages::comes_back_full(&broken));
}

#[test]
fn free_parts_full() {
    let setup = Setup {
        leaves: 1,
        wanting: 0,
        turns: 1,
        sends: 4,
        requests: 2,
        horizon: 4,
        ..Setup::implicit()
    };
    assert_eq!(walk("a part is free", &setup, setting("MODEL_SECONDS", 5)), None);
    notices(Mutation::FreePartsFull, setup);
}

#[test]
fn halved_away_full() {
    notices(Mutation::HalvedAwayFull, Setup::halved_away());
}

#[test]
fn any_answer() {
    let setup = Setup {
        keeps_all: true,
        sends: 6,
        horizon: 6,
        turns: 2,
        ..Setup::explicit()
    };
    notices(Mutation::AnyAnswer, setup);
}

#[test]
fn any_order() {
    notices(Mutation::AnyOrder, Setup::everything());
}

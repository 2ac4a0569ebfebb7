//! The rule, in every order in which messages, settlements and crashes can come.
//!
//! A message that was sent may arrive at any time, never, or again: that is loss, delay, disorder and doubling in one. A
//! ledger that crashes has done all of an exchange or nothing, so its crash is an answer that is lost. An Envoy that crashes
//! leaves what it had spent, requests under way included, and the next one reports it. Instances are gone through whole;
//! each way to break the rule is noticed in one.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

#[path = "model/fleet.rs"]
mod fleet;

use std::time::Instant;

use fleet::Setup;
use stateright::{Checker, HasDiscoveries, Model as _};
use tollgate_budgets::Mutation;

/// Goes through all states of an instance; which property failed, if any.
fn explore(name: &str, setup: Setup) -> Option<&'static str> {
    let begun = Instant::now();
    let checker = setup
        .checker()
        .threads(2)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    println!(
        "{name}: {} states, depth {}, {:.1} s",
        checker.unique_state_count(),
        checker.max_depth(),
        begun.elapsed().as_secs_f64()
    );
    let failed = checker
        .discoveries()
        .into_iter()
        .find(|(property, _)| *property != fleet::ALL_SPENT);
    let Some((property, path)) = failed else {
        checker.assert_any_discovery(fleet::ALL_SPENT);
        return None;
    };
    println!("  not so: {property}");
    for action in path.into_actions() {
        println!("    {action:?}");
    }
    Some(property)
}

#[test]
fn two_holders_spend_all_of_it() {
    assert_eq!(explore("two holders", Setup::two()), None);
}

#[test]
fn a_holder_crashes() {
    assert_eq!(explore("crash", Setup::crash()), None);
}

#[test]
#[ignore = "a minute or more: `make model`"]
fn a_holder_crashes_among_more_messages() {
    assert_eq!(explore("long crash", Setup::long_crash()), None);
}

#[test]
fn a_holder_is_written_off_and_heard_again() {
    assert_eq!(explore("written off", Setup::written_off()), None);
}

#[test]
fn every_broken_rule_is_noticed() {
    for (mutation, setup) in [
        (Mutation::LatestReport, Setup::crash()),
        (Mutation::GrantUnspent, Setup::two()),
        (Mutation::StaysWrittenOff, Setup::written_off()),
        (Mutation::AddGrants, Setup::two()),
        (Mutation::ReturnReserved, Setup::two()),
        (Mutation::FinalAsReported, Setup::crash()),
    ] {
        let found = explore(&format!("{mutation:?}"), setup.broken(mutation));
        assert!(found.is_some(), "nobody noticed {mutation:?}");
    }
}

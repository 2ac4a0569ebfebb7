//! Workers that share what they see of the targets, as stories.

use core::time::Duration;

use serde_json::json;

use super::*;
use crate::catalogue::{Catalogue, RawCatalogue, Route};
use crate::config::from_json;
use crate::endpoint::Endpoint;
use crate::identity::Identity;

use crate::state::fake::Worker;
use crate::state::{self, Keyspace, Store as _};

const SECOND: u64 = 1_000_000_000;
const POLICY: Policy = Policy {
    failures: 2,
    open: Duration::from_secs(5),
    longest: Duration::from_secs(60),
};

/// Two workers of an Envoy.
fn workers() -> [Worker; 2] {
    let one = Worker::at(1_000 * SECOND);
    [one.clone(), one]
}

/// A model with two targets; the second is for when the first is broken.
fn catalogue() -> Catalogue {
    let targets = json!([{"cluster": "a"}, {"cluster": "b", "weight": 0}]);
    let models = json!({"models": {"m": {"endpoints": ["chat"], "targets": targets}}});
    let raw: RawCatalogue = from_json(models.to_string().as_bytes()).unwrap();
    Catalogue::try_from(raw).unwrap()
}

fn choose(worker: &mut Worker, org: &str) -> Result<(Order, Route), u64> {
    let who = Identity::sample(org, "k1");
    let catalogue = catalogue();
    let model = catalogue.get("m").unwrap();
    let chosen = Order::choose(worker, &POLICY, model, (&who, Endpoint::Chat), 7);
    chosen.map_err(|wait| wait.expect("some target may be asked"))
}

/// Where a request goes, in the order of its attempts.
#[track_caller]
fn clusters(worker: &mut Worker, org: &str) -> Vec<String> {
    let (order, _) = choose(worker, org).unwrap();
    order.clusters().map(str::to_owned).collect()
}

const fn of(org: &str) -> Wanted<'_> {
    Wanted { model: "m", org }
}

/// A request of `org` that its first target answers with this ending.
#[track_caller]
fn answered(worker: &mut Worker, org: &str, ending: Ending) -> String {
    let (order, _) = choose(worker, org).unwrap();
    let since = 1_000 * SECOND;
    order.answered(worker, &POLICY, of(org), 1, ending, since);
    if ending == Ending::Success {
        order.ended(worker, &POLICY, of(org), 1, ending);
    }
    order.first().to_owned()
}

/// Two failures, which are enough, each seen by another worker.
#[track_caller]
fn broken(workers: &mut [Worker; 2]) {
    for worker in workers {
        assert_eq!(answered(worker, "acme", Ending::Failure), "a");
    }
}

#[test]
fn a_target_that_failed_is_left_alone_by_all_workers() {
    let mut workers = workers();
    broken(&mut workers);
    for worker in &mut workers {
        let (order, route) = choose(worker, "globex").unwrap();
        assert_eq!((order.first(), route), ("b", Route::BreakerOpen));
    }
}

#[test]
fn a_target_that_works_costs_one_look_each() {
    let [mut worker, _] = workers();
    let (order, route) = choose(&mut worker, "acme").unwrap();
    assert_eq!((route, worker.calls()), (Route::Primary, 2));
    order.ended(&mut worker, &POLICY, of("acme"), 1, Ending::Success);
    assert_eq!(worker.calls(), 2);
}

#[test]
fn of_two_that_want_to_find_out_one_does() {
    let mut workers = workers();
    broken(&mut workers);
    workers[0].pass(5 * SECOND);
    let [one, mut other] = workers.clone();
    workers[1].before_write(move || {
        let (order, _) = choose(&mut other, "acme").unwrap();
        assert_eq!((order.first(), order.is_probe()), ("a", true));
    });
    let mut one = one;
    let (order, _) = choose(&mut one, "acme").unwrap();
    assert_eq!((order.first(), order.is_probe()), ("b", false));
}

#[test]
fn a_probe_closes_it_and_one_that_was_not_sent_is_followed_at_once() {
    let mut workers = workers();
    broken(&mut workers);
    workers[0].pass(5 * SECOND);
    let (probe, _) = choose(&mut workers[0], "acme").unwrap();
    assert!(probe.is_probe());
    assert_eq!(clusters(&mut workers[1], "acme"), ["b"]);
    probe.release(&mut workers[0], of("acme"));
    assert_eq!(answered(&mut workers[1], "acme", Ending::Success), "a");
    assert_eq!(clusters(&mut workers[0], "acme"), ["a", "b"]);
    let (order, _) = choose(&mut workers[0], "acme").unwrap();
    assert!(order.first() == "a" && !order.is_probe() && !order.is_plain());
}

/// Released late, when another one was let through since.
#[test]
fn a_probe_is_given_back_by_its_own_request_alone() {
    let mut workers = workers();
    broken(&mut workers);
    workers[0].pass(5 * SECOND);
    let (lost, _) = choose(&mut workers[0], "acme").unwrap();
    workers[0].pass(6 * SECOND);
    let (next, _) = choose(&mut workers[1], "acme").unwrap();
    assert!(lost.is_probe() && next.is_probe());
    lost.release(&mut workers[0], of("acme"));
    assert_eq!(clusters(&mut workers[0], "acme"), ["b"]);
}

#[test]
fn what_one_organization_causes_counts_for_it_alone() {
    let mut workers = workers();
    let suspect = |org| Ending::Suspect(tag(org));
    for worker in &mut workers {
        assert_eq!(answered(worker, "acme", suspect("acme")), "a");
    }
    assert_eq!(clusters(&mut workers[1], "acme"), ["b"]);
    assert_eq!(clusters(&mut workers[1], "globex"), ["a", "b"]);
    // Its own breaker tries again, like any, and gives back what was not sent.
    workers[0].pass(5 * SECOND);
    let (probe, _) = choose(&mut workers[0], "acme").unwrap();
    assert!(probe.is_probe());
    assert_eq!(clusters(&mut workers[1], "acme"), ["b"]);
    probe.release(&mut workers[0], of("acme"));
    assert_eq!(answered(&mut workers[0], "acme", suspect("acme")), "a");
    // Two of them, and it is the target.
    answered(&mut workers[0], "globex", suspect("globex"));
    assert_eq!(clusters(&mut workers[1], "initech"), ["b"]);
}

#[test]
fn a_target_that_asks_for_it_is_left_alone_by_who_asked() {
    let mut workers = workers();
    let busy = |org| Ending::Busy(Duration::from_secs(7), tag(org));
    assert_eq!(answered(&mut workers[0], "acme", busy("acme")), "a");
    assert_eq!(clusters(&mut workers[1], "acme"), ["b"]);
    assert_eq!(answered(&mut workers[1], "globex", busy("globex")), "a");
    assert_eq!(clusters(&mut workers[0], "initech"), ["b"]);
    workers[0].pass(7 * SECOND);
    assert_eq!(clusters(&mut workers[0], "initech"), ["a", "b"]);
}

/// Envoy tells of the last attempt alone; that those before it failed follows from their number.
#[test]
fn a_retry_that_went_well_tells_of_the_attempt_before() {
    let mut workers = workers();
    for worker in &mut workers {
        let (order, _) = choose(worker, "acme").unwrap();
        assert_eq!((order.at(1), order.at(2), order.at(3)), ("a", "b", "a"));
        order.answered(worker, &POLICY, of("acme"), 2, Ending::Success, 1_000 * SECOND);
    }
    // A failure that nobody saw may have been the organization's.
    assert_eq!(clusters(&mut workers[0], "acme"), ["b"]);
    assert_eq!(clusters(&mut workers[0], "globex"), ["a", "b"]);
}

#[test]
fn with_no_target_left_one_is_told_when_to_come_back() {
    let mut workers = workers();
    broken(&mut workers);
    workers[0].pass(SECOND);
    for worker in &mut workers {
        assert_eq!(answered(worker, "acme", Ending::Failure), "b");
    }
    workers[0].pass(SECOND / 2);
    assert_eq!(choose(&mut workers[0], "acme").unwrap_err(), 3_500);
    workers[0].pass(7 * SECOND / 2);
    let (probe, _) = choose(&mut workers[0], "acme").unwrap();
    assert!(probe.is_probe());
    // Another request finds out about both: it may be known soon.
    workers[0].pass(SECOND);
    let (second, _) = choose(&mut workers[0], "acme").unwrap();
    assert_eq!((second.first(), second.is_probe()), ("b", true));
    assert_eq!(choose(&mut workers[1], "acme").unwrap_err(), 4_000);
}

#[test]
fn a_store_that_fails_keeps_nobody_from_a_target() {
    let mut workers = workers();
    broken(&mut workers);
    workers[0].fail(true);
    assert_eq!(clusters(&mut workers[0], "acme"), ["a", "b"]);
    assert_eq!(answered(&mut workers[0], "acme", Ending::Failure), "a");
    workers[0].fail(false);
    assert_eq!(clusters(&mut workers[0], "acme"), ["b"]);
}

#[test]
fn what_can_t_be_read_is_a_breaker_that_is_closed() {
    let [mut worker, _] = workers();
    for rubbish in [&b""[..], b"x", &[0xff; 35], &[0xff; 37]] {
        worker.put(&Keyspace::BREAKER.key(b"a\0m"), rubbish).unwrap();
        assert_eq!(clusters(&mut worker, "acme"), ["a", "b"]);
    }
}

#[test]
fn an_attempt_that_nobody_else_sees_is_heeded_within_the_filters_bound() {
    let [mut filter, mut logger] = workers();
    let destination = of("acme").at("a");
    let week = Ending::BackOff(Duration::from_hours(7 * 24));
    assert!(!back_off(&mut logger, &destination, week));
    publish(&mut filter, &POLICY).unwrap();
    assert_eq!(state::read(&mut logger, ""), Ok(Some(Longest::of(&POLICY))));
    assert!(back_off(&mut logger, &destination, week));
    assert_eq!(clusters(&mut filter, "globex"), ["b"]);
    filter.pass(60 * SECOND);
    assert_eq!(clusters(&mut filter, "globex"), ["a", "b"]);
}

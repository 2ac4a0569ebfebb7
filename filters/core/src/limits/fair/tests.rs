use core::cmp::Reverse;
use std::collections::BinaryHeap;

use proptest::prelude::*;

use super::*;
use crate::config::{Object, from_json};
use crate::limits::tests::random::Random;

const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLI;
/// Where the tests' clock starts.
const START: u64 = 1_700_000_000 * SECOND;

fn capacity(json: &str) -> Capacity {
    let row: Object<RawCapacity> = from_json(json.as_bytes()).unwrap();
    Capacities::try_from(vec![row]).unwrap().0.remove(0)
}

fn seventy() -> Capacity {
    capacity(r#"{"model": "*", "concurrent": 70, "weights": {"two": 2, "four": 4, "ten": 10}}"#)
}

/// One worker's view, all others alive.
fn worker(id: u32) -> Workers {
    Workers::who_sees_all(id)
}

/// A stored record, asked by one request after the other.
struct Shared<'a> {
    capacity: &'a Capacity,
    record: Option<Vec<u8>>,
}

impl Shared<'_> {
    fn ask(&mut self, org: &str, tier: &str, workers: &Workers, now: u64) -> Admission {
        let (verdict, record) =
            self.capacity
                .admit(self.record.as_deref(), Org::named(org), tier, workers, now);
        self.record = record.or(self.record.take());
        verdict
    }

    fn end(&mut self, org: &str, workers: &Workers, now: u64) {
        let record = release(self.record.as_deref(), Org::named(org), workers, now);
        self.record = record.or(self.record.take());
    }

    /// Asks until refused, at most `most` times: how often it was admitted.
    fn flood(&mut self, org: &str, tier: &str, most: u64, now: u64) -> u64 {
        (0..most)
            .take_while(|_| self.ask(org, tier, &worker(0), now) == Admission::Admit)
            .count() as u64
    }

    fn in_flight(&self, now: u64) -> u64 {
        let record = CapacityRecord::read(self.record.as_deref(), &worker(0), now);
        record
            .by_org()
            .flatten()
            .map(|entry| u64::from(entry.in_flight))
            .sum()
    }
}

/// An organization of the simulation: so many clients, each of which asks, waits for its answer and asks again.
struct Load {
    org: &'static str,
    tier: &'static str,
    clients: usize,
    /// From an answer to the next request.
    pause: u64,
    /// From a refusal to the next request.
    retry: u64,
}

fn flood(org: &'static str, tier: &'static str) -> Load {
    Load {
        org,
        tier,
        clients: 100,
        pause: MILLI,
        retry: 100 * MILLI,
    }
}

fn polite(org: &'static str) -> Load {
    Load {
        clients: 1,
        pause: 500 * MILLI,
        ..flood(org, "")
    }
}

/// How long the model takes for a request, 500 ms on average.
#[derive(Clone, Copy)]
enum Service {
    Fixed,
    Exponential,
}

/// What an organization got.
#[derive(Debug, Default, Clone, Copy)]
struct Got {
    answers: u64,
    refusals: u64,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Ask,
    End,
}

/// Runs loads against a capacity, with requests spread over four workers, for 40 s, of which the last 30 count.
fn simulate(capacity: &Capacity, loads: &[Load], service: Service) -> Vec<Got> {
    let mut shared = Shared {
        capacity,
        record: None,
    };
    let mut random = Random(7);
    let mut events = BinaryHeap::new();
    for (load, Load { clients, .. }) in loads.iter().enumerate() {
        for client in 0..*clients {
            events.push(Reverse((
                START + random.below(SECOND),
                load,
                client as u32 % 4,
                Event::Ask,
            )));
        }
    }
    let mut got = vec![Got::default(); loads.len()];
    while let Some(Reverse((now, at, owner, event))) = events.pop() {
        if now > START + 40 * SECOND {
            break;
        }
        let load = &loads[at];
        let counts = u64::from(now > START + 10 * SECOND);
        let (wait, next) = match event {
            Event::Ask => match shared.ask(load.org, load.tier, &worker(owner), now) {
                Admission::Admit => (service.time(&mut random), Event::End),
                Admission::SlowDown => {
                    got[at].refusals += counts;
                    (load.retry / 2 + random.below(load.retry), Event::Ask)
                }
            },
            Event::End => {
                shared.end(load.org, &worker(owner), now);
                got[at].answers += counts;
                (load.pause / 2 + random.below(load.pause), Event::Ask)
            }
        };
        events.push(Reverse((now + wait, at, owner, next)));
    }
    got
}

impl Service {
    fn time(self, random: &mut Random) -> u64 {
        match self {
            Self::Fixed => SECOND / 2,
            Self::Exponential => {
                let unit = (random.below(1 << 30) + 1) as f64 / (1_u64 << 30) as f64;
                (-unit.ln() * (SECOND / 2) as f64) as u64
            }
        }
    }
}

/// What a model that is always full with `concurrent` requests of 500 ms answers in 30 s.
fn full(concurrent: u64) -> f64 {
    (concurrent * 60) as f64
}

#[track_caller]
fn assert_near(found: f64, expected: f64, tolerance: f64) {
    let off = (found - expected).abs() / expected;
    assert!(off <= tolerance, "{found} is {off} off {expected}");
}

#[test]
fn floods_get_their_shares() {
    for service in [Service::Fixed, Service::Exponential] {
        // Those who ask again soon, and those who wait as told.
        for retry in [100 * MILLI, RETRY_MILLIS * MILLI] {
            let loads = ["one", "two", "four"].map(|org| Load {
                retry,
                ..flood(org, "")
            });
            let got = simulate(&seventy(), &loads, service);
            println!("{got:?}");
            let sum: u64 = got.iter().map(|got| got.answers).sum();
            for (got, weight) in got.iter().zip([1.0, 2.0, 4.0]) {
                assert_near(got.answers as f64, sum as f64 * weight / 7.0, 0.1);
                assert!(got.refusals > 0);
            }
            assert_near(sum as f64, full(70), 0.1);
        }
    }
}

#[test]
fn one_that_sends_little_is_never_refused() {
    for service in [Service::Fixed, Service::Exponential] {
        let loads = [
            flood("one", ""),
            flood("two", ""),
            flood("four", ""),
            polite("little"),
        ];
        let got = simulate(&seventy(), &loads, service);
        println!("{got:?}");
        assert_eq!(got[3].refusals, 0);
        assert!(got[3].answers >= 25);
    }
}

#[test]
fn below_saturation_nobody_is_refused() {
    for service in [Service::Fixed, Service::Exponential] {
        let loads = [("one", 50), ("two", 10), ("four", 3)].map(|(org, clients)| Load {
            clients,
            ..flood(org, "")
        });
        let got = simulate(&seventy(), &loads, service);
        assert!(got.iter().all(|got| got.refusals == 0), "{got:?}");
    }
}

#[test]
fn one_that_is_alone_gets_it_all() {
    let got = simulate(&seventy(), &[flood("one", "")], Service::Exponential);
    println!("{got:?}");
    assert_near(got[0].answers as f64, full(70), 0.05);
}

#[test]
fn what_one_leaves_goes_to_the_others_by_weight() {
    let ten = Load {
        clients: 10,
        ..flood("ten", "")
    };
    let got = simulate(
        &seventy(),
        &[flood("one", ""), flood("two", ""), ten],
        Service::Exponential,
    );
    println!("{got:?}");
    assert_eq!(got[2].refusals, 0);
    assert_near(got[0].answers as f64, full(20), 0.1);
    assert_near(got[1].answers as f64, full(40), 0.1);
}

#[test]
fn what_one_leaves_goes_to_the_highest_tier_first() {
    let capacity = capacity(r#"{"model": "*", "concurrent": 90, "tiers": ["gold", "silver"]}"#);
    let little = Load {
        clients: 10,
        ..flood("little", "silver")
    };
    let loads = [flood("high", "gold"), flood("low", "silver"), little];
    let got = simulate(&capacity, &loads, Service::Exponential);
    println!("{got:?}");
    assert_eq!(got[2].refusals, 0);
    assert_near(got[1].answers as f64, full(30), 0.1);
    assert_near(got[0].answers as f64, full(50), 0.1);
}

#[test]
fn lower_tiers_are_shed_first() {
    let capacity = capacity(
        r#"{"model": "*", "concurrent": 100, "weights": {"big": 1000}, "tiers": ["gold", "silver"]}"#,
    );
    // Nearly all of it is the share of one that leaves it unused, and somebody else is hungry: so what is admitted
    // is only what is below saturation.
    let admitted = |tier| {
        let mut shared = Shared {
            capacity: &capacity,
            record: None,
        };
        assert_eq!(shared.flood("big", "gold", 1, START), 1);
        assert_eq!(shared.flood("rival", "gold", 200, START), 99);
        for _ in 0..98 {
            shared.end("rival", &worker(0), START);
        }
        shared.flood("asks", tier, 200, START)
    };
    // With the two that the others have: nine tenths, eight tenths, seven tenths.
    assert_eq!(["gold", "silver", "other"].map(admitted), [88, 78, 68]);
}

#[test]
fn a_newcomer_gets_its_share_at_once() {
    let capacity = seventy();
    let mut shared = Shared {
        capacity: &capacity,
        record: None,
    };
    assert_eq!(shared.flood("one", "", 1_000, START), 70);
    assert_eq!(shared.flood("two", "", 1_000, START), 46);
    assert_eq!(shared.flood("four", "", 1_000, START), 17, "up to the bound");
    // The first two finish what they have, and nothing of theirs comes after it until they are below their shares.
    let mut first = 70;
    while shared.ask("one", "", &worker(0), START) == Admission::SlowDown {
        shared.end("one", &worker(0), START);
        first -= 1;
    }
    assert_eq!(first, 9);
}

#[test]
fn shares_end_with_demand() {
    let capacity = seventy();
    let mut shared = Shared {
        capacity: &capacity,
        record: None,
    };
    let half = 35;
    assert_eq!(shared.flood("first", "", half, START), half);
    assert_eq!(shared.flood("second", "", 1_000, START), half);
    for _ in 0..half {
        shared.end("first", &worker(0), START);
    }
    // Still hungry one and a half seconds later: only what is left below saturation is free for the other.
    assert_eq!(shared.flood("first", "", 1_000, START), half);
    for _ in 0..half {
        shared.end("first", &worker(0), START);
    }
    assert_eq!(shared.flood("second", "", 1_000, START + SECOND), 63 - half);
    assert_eq!(shared.flood("second", "", 1_000, START + 5 * SECOND), 7);
}

#[test]
fn what_a_dead_worker_had_counts_for_nothing() {
    let capacity = seventy();
    let mut shared = Shared {
        capacity: &capacity,
        record: None,
    };
    for _ in 0..70 {
        assert_eq!(shared.ask("one", "", &worker(1), START), Admission::Admit);
    }
    assert_eq!(shared.ask("one", "", &worker(2), START), Admission::SlowDown);
    let survivor = Workers::who_sees(2, &[0], 3);
    assert_eq!(shared.ask("one", "", &survivor, START), Admission::Admit);
    assert_eq!(shared.in_flight(START), 1);
}

#[test]
fn a_flood_of_refusals_is_no_flood_of_writes() {
    let capacity = seventy();
    let mut shared = Shared {
        capacity: &capacity,
        record: None,
    };
    shared.flood("one", "", 1_000, START);
    let writes = (0..1_000_u64).filter(|milli| {
        let (admission, record) = capacity.admit(
            shared.record.as_deref(),
            Org::named("one"),
            "",
            &worker(0),
            START + milli * MILLI,
        );
        assert_eq!(admission, Admission::SlowDown);
        let written = record.is_some();
        shared.record = record.or(shared.record.take());
        written
    });
    assert_eq!(writes.count(), 1);
}

#[test]
fn a_release_without_an_entry_changes_nothing() {
    let org = Org::named("one");
    assert_eq!(release(None, org, &worker(0), START), None);
    assert_eq!(release(Some(b"junk"), org, &worker(0), START), None);
    let capacity = seventy();
    let mut shared = Shared {
        capacity: &capacity,
        record: None,
    };
    shared.ask("one", "", &worker(0), START);
    shared.end("one", &worker(0), START);
    assert_eq!(release(shared.record.as_deref(), org, &worker(0), START), None);
}

#[test]
fn the_answer_is_the_contracts() {
    let answer = slow_down("llama-70b");
    assert_eq!(
        (answer.status, answer.kind, answer.code),
        (429, "rate_limit_error", "slow_down")
    );
    assert!(answer.message.contains("`llama-70b`"));
    assert!(answer.headers().contains(&("retry-after", "1".into())));
}

const ORGS: [&str; 6] = ["one", "two", "four", "ten", "five", "six"];
const TIERS: [&str; 3] = ["gold", "silver", "none"];

proptest! {
    /// Whatever comes: those in flight pass twice the capacity only by one for each organization, below saturation
    /// nobody is refused, and one with nothing in flight is refused only after another refusal.
    #[test]
    fn bounded_and_never_unjust(
        concurrent in 1_u64..40,
        steps in proptest::collection::vec((0_usize..6, 0_usize..3, 0_u32..3, 0_u8..10, 0_u64..400), 1..400),
    ) {
        let capacity = capacity(&format!(
            r#"{{"model": "*", "concurrent": {concurrent}, "weights": {{"two": 2, "four": 4, "ten": 10}}, "tiers": ["gold", "silver"]}}"#
        ));
        let mut shared = Shared { capacity: &capacity, record: None };
        let mut in_flight = [[0_u64; 3]; 6];
        let mut refused_at = [0; 6];
        let mut now = START;
        for (org, tier, owner, kind, millis) in steps {
            now += millis * MILLI;
            let own: u64 = in_flight[org].iter().sum();
            let before: u64 = in_flight.iter().flatten().sum();
            if kind < 8 {
                match shared.ask(ORGS[org], TIERS[tier], &worker(owner), now) {
                    Admission::Admit => in_flight[org][owner as usize] += 1,
                    Admission::SlowDown => {
                        prop_assert!(before * 10 + 10 > concurrent * (9 - tier as u64));
                        prop_assert!(own > 0 || now < refused_at[org] + HUNGRY + FRESH);
                        refused_at[org] = now;
                    }
                }
            } else if in_flight[org][owner as usize] > 0 {
                shared.end(ORGS[org], &worker(owner), now);
                in_flight[org][owner as usize] -= 1;
            }
            let sum: u64 = in_flight.iter().flatten().sum();
            let orgs = in_flight.iter().filter(|own| own.iter().sum::<u64>() > 0).count() as u64;
            prop_assert!(sum <= 2 * concurrent + orgs, "{sum}");
            prop_assert_eq!(shared.in_flight(now), sum);
        }
    }

    /// Workers that step in between each other's reading and writing lose no request and count none twice.
    #[test]
    fn workers_that_interleave_agree(concurrent in 1_u64..10, turns in proptest::collection::vec((0_usize..4, any::<bool>()), 1..400)) {
        let capacity = capacity(&format!(r#"{{"model": "*", "concurrent": {concurrent}}}"#));
        let org = Org::named("one");
        let (mut stored, mut version) = (None::<Vec<u8>>, 0_u32);
        // For each worker: what it read, and what it has in flight.
        let mut read: [Option<(Option<Vec<u8>>, u32)>; 4] = Default::default();
        let mut in_flight = [0_u64; 4];
        for (at, ends) in turns {
            let Some((record, seen)) = read[at].take() else {
                read[at] = Some((stored.clone(), version));
                continue;
            };
            let owner = worker(at as u32);
            let ends = ends && in_flight[at] > 0;
            let next = if ends {
                release(record.as_deref(), org, &owner, START)
            } else {
                match capacity.admit(record.as_deref(), org, "", &owner, START) {
                    (Admission::Admit, next) => next,
                    (Admission::SlowDown, _) => None,
                }
            };
            if let (Some(next), true) = (next, seen == version) {
                (stored, version) = (Some(next), version + 1);
                in_flight[at] = if ends { in_flight[at] - 1 } else { in_flight[at] + 1 };
            }
            let shared = Shared { capacity: &capacity, record: stored.clone() };
            prop_assert_eq!(shared.in_flight(START), in_flight.iter().sum::<u64>());
            prop_assert!(in_flight.iter().sum::<u64>() <= concurrent);
        }
    }

    #[test]
    fn no_record_panics(entries in proptest::collection::vec(any::<[u8; 33]>(), 0..8), concurrent in 1_u32..1_000_000, now: u64) {
        let mut entries = entries;
        entries.sort_by_key(|bytes| u64::from_le_bytes(*bytes.first_chunk().unwrap()));
        let capacity = capacity(&format!(r#"{{"model": "*", "concurrent": {concurrent}, "weights": {{"one": 1000000}}}}"#));
        let bytes = entries.concat();
        let _ = capacity.admit(Some(&bytes), Org::named("one"), "", &worker(0), now);
        let _ = release(Some(&bytes), Org(7), &worker(0), now);
    }
}

//! A share through its life, held against the bucket of the protocol.

use proptest::prelude::*;
use tollgate_shares::{Allowance, Bucket};

use super::*;
use crate::limits::broken::{self, Rule};

const SECOND: u64 = 1_000_000_000;
const START: u64 = 1_700_000_000 * SECOND;

const LIMIT: Limit = Limit {
    rate: 600,
    period: 60_000_000,
    burst: 600,
};

fn lease(number: u64, parts: u32) -> Lease {
    Lease {
        number,
        life: 7,
        from: START,
        until: START + 10_000 * SECOND,
        parts,
        since: START,
    }
}

fn workers() -> Workers {
    Workers::who_sees_all(1)
}

/// What it may still charge at once.
fn remaining(record: &ShareRecord) -> u64 {
    record.standing(&workers()).remaining
}

fn record(parts: u32, now: u64) -> ShareRecord {
    let mut record = ShareRecord::new();
    assert!(record.fit(LIMIT, &lease(1, parts), now));
    record
}

#[test]
fn a_part_fills_from_when_the_slot_was_free() {
    // A quarter: 150, at 2.5 a second.
    assert_eq!(remaining(&record(4, START)), 0);
    assert_eq!(remaining(&record(4, START + 10 * SECOND)), 25);
    assert_eq!(remaining(&record(4, START + 100 * SECOND)), 150);
    // A member without a slot has none.
    let none = record(0, START + 100 * SECOND);
    assert_eq!(none.wait(1, START, &workers()), Some(Wait::Nanos(SOON)));
    assert_eq!(none.wait(601, START, &workers()), Some(Wait::Never));
}

#[test]
fn another_lease_begins_anew_and_an_older_one_is_void() {
    let now = START + 100 * SECOND;
    let mut share = record(4, now);
    let mark = share.charge(100, &workers()).unwrap();
    let smaller = Lease {
        since: now,
        ..lease(2, 8)
    };
    assert!(share.fit(LIMIT, &smaller, now));
    assert_eq!(remaining(&share), 0);
    share.give_back(100, &mark);
    assert_eq!(remaining(&share), 0, "what was charged before is not given back");
    assert!(!share.fit(LIMIT, &lease(1, 4), now));
}

#[test]
fn what_was_granted_ends_with_the_life_of_its_member() {
    let now = START + 100 * SECOND;
    let mut share = record(4, now);
    let whole = LIMIT.whole();
    assert_eq!(share.change(LIMIT.part(4), whole, 0), 0);
    assert_eq!(remaining(&share), 150);
    assert!(share.fit(LIMIT, &lease(2, 8), now), "other parts leave it alone");
    assert_eq!(remaining(&share), 150);
    let next = Lease {
        life: 8,
        parts: 0,
        ..lease(3, 0)
    };
    assert!(share.fit(LIMIT, &next, now));
    assert_eq!(remaining(&share), 0);
}

#[test]
fn a_part_that_was_given_up_comes_back() {
    let now = START + 100 * SECOND;
    // Of a key that no request has come for.
    let mut share = ShareRecord::new();
    share.drop_part(7);
    assert!(share.fit(LIMIT, &lease(1, 4), now));
    assert_eq!(remaining(&share), 0);
    share.restore();
    assert!(share.fit(LIMIT, &lease(1, 4), now));
    assert_eq!(remaining(&share), 150);
}

#[test]
fn one_that_is_not_what_it_should_have_been_begins_empty() {
    let mut share = record(4, START + 100 * SECOND);
    share.change(Share { rate: 1, burst: 1 }, LIMIT.whole(), 0);
    assert_eq!(remaining(&share), 0);
}

/// What is there once a share has gone, come back empty, and 500 of before are given back.
fn after_a_move() -> u64 {
    let now = START + 100 * SECOND;
    let mut share = record(1, now);
    let whole = LIMIT.whole();
    let half = Share {
        rate: 300,
        burst: 300,
    };
    let mark = share.charge(500, &workers()).unwrap();
    // 100 tokens are left. 300 of the 500 that are missing are missing elsewhere from now on.
    assert_eq!(share.change(whole, half, 0), 0);
    assert_eq!(remaining(&share), 100);
    share.change(half, whole, 0);
    assert_eq!(remaining(&share), 100);
    share.give_back(500, &mark);
    remaining(&share)
}

#[test]
fn what_moved_away_is_not_given_back() {
    assert_eq!(after_a_move(), 300);
    assert_eq!(broken::with(Rule::Returnable, after_a_move), 600);
}

#[test]
fn a_debt_stays_one() {
    let now = START + 100 * SECOND;
    let mut share = record(1, now);
    share.charge(600, &workers());
    share.charge_late(200);
    assert_eq!(share.debt(), 200);
    let half = Share {
        rate: 300,
        burst: 300,
    };
    share.change(LIMIT.whole(), half, 0);
    assert_eq!(share.debt(), 200);
    assert!(share.fit(LIMIT, &lease(2, 4), now));
    share.change(half, Share::default(), 0);
    share.drop_part(7);
    assert_eq!(share.debt(), 200);
    let next = Lease {
        life: 8,
        ..lease(3, 4)
    };
    assert!(share.fit(LIMIT, &next, now));
    assert_eq!(share.debt(), 50, "a part that is full pays of it");
}

#[derive(Debug, Clone)]
enum Step {
    Pass(u64),
    Take(u64),
    Change(u64, u64, u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..40_000_000_u64).prop_map(Step::Pass),
        (1..300_u64).prop_map(Step::Take),
        (0..=600_u64, 0..=600_u64, 0..400_u64)
            .prop_map(|(rate, burst, units)| Step::Change(rate, burst, units)),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    /// By the same requests and the same answers a share has the tokens of the protocol's own bucket.
    #[test]
    fn it_is_the_bucket_of_the_protocol(steps in steps()) {
        let mut now = START / MICRO;
        let mut share = record(4, START);
        let mut allowance = Allowance { share: LIMIT.part(4), since: now, got: now };
        let mut bucket = Bucket::new(allowance);
        for step in steps {
            match step {
                Step::Pass(micros) => now += micros,
                Step::Take(tokens) => {
                    prop_assert!(share.fit(LIMIT, &lease(1, 4), now * MICRO));
                    let passes = share.wait(tokens, now * MICRO, &workers()).is_none();
                    if passes {
                        share.charge(tokens, &workers());
                    }
                    prop_assert_eq!(passes, bucket.take(LIMIT, allowance, tokens, now));
                }
                Step::Change(rate, burst, tokens) => {
                    prop_assert!(share.fit(LIMIT, &lease(1, 4), now * MICRO));
                    let (after, units) = (Share { rate, burst }, u128::from(tokens) * u128::from(LIMIT.period));
                    let above = share.change(allowance.share, after, units);
                    prop_assert_eq!(above, bucket.change(LIMIT, allowance, after, units, now));
                    allowance.share = after;
                }
            }
            bucket.advance(LIMIT, allowance, now);
            prop_assert!(share.fit(LIMIT, &lease(1, 4), now * MICRO));
            prop_assert_eq!(remaining(&share), bucket.tokens(LIMIT));
        }
    }

    #[test]
    fn survives_storage(charges in proptest::collection::vec(1..50_u64, 0..8), back in 0..8_usize, in_use in any::<bool>()) {
        let mut share = ShareRecord::new();
        let limit = if in_use { Limit::in_use(50) } else { LIMIT };
        prop_assert_eq!(ShareRecord::decode(&share.encode()), Some(share.clone()));
        prop_assert!(share.fit(limit, &lease(1, 1), START + 100 * SECOND));
        let marks: Vec<_> = charges.iter().map(|charge| share.charge(*charge, &workers())).collect();
        if let Some(Some(mark)) = marks.get(back) {
            share.give_back(1, mark);
        }
        share.refuse(700);
        share.tell(9);
        prop_assert_eq!(ShareRecord::decode(&share.encode()), Some(share));
    }

    #[test]
    fn junk_is_no_share(junk: Vec<u8>, at in 0..200_usize, byte: u8) {
        let _ = ShareRecord::decode(&junk);
        let mut whole = record(4, START + 100 * SECOND).encode();
        for cut in 0..whole.len() {
            prop_assert_eq!(ShareRecord::decode(&whole[..cut]), None);
        }
        if let Some(place) = whole.get_mut(at) {
            *place = byte;
        }
        if let Some(mut read) = ShareRecord::decode(&whole) {
            let _ = read.fit(LIMIT, &lease(u64::MAX, 4), u64::MAX);
            let _ = (read.wait(1, 0, &workers()), read.change(Share::default(), LIMIT.whole(), u128::MAX), read.debt());
        }
    }
}

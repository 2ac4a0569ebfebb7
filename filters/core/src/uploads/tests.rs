use super::*;
use crate::config::from_json;
use proptest::prelude::*;

fn policy() -> Policy {
    Policy {
        requests: Bounds {
            key: 2,
            organization: 3,
            total: 4,
        },
        bytes: Bounds {
            key: 200,
            organization: 300,
            total: 400,
        },
        ..Policy::default()
    }
}

fn hold(requests: u32, bytes: u64) -> Hold {
    Hold { requests, bytes }
}

#[test]
fn the_tightest_bound_is_named() {
    let sums = |key, organization, total| Sums {
        key,
        organization,
        total,
    };
    let over = |sums: Sums, more| {
        policy()
            .admit(&sums, more)
            .map_err(|over| (over.scope, over.unit, over.limit))
    };
    let free = hold(1, 100);
    assert_eq!(over(sums(free, free, free), hold(1, 100)), Ok(()));
    assert_eq!(
        over(sums(hold(2, 0), hold(3, 0), hold(4, 0)), hold(1, 0)),
        Err((Scope::Key, Unit::Requests, 2))
    );
    assert_eq!(
        over(sums(free, hold(3, 0), hold(4, 0)), hold(1, 0)),
        Err((Scope::Organization, Unit::Requests, 3))
    );
    assert_eq!(
        over(sums(free, free, hold(4, 0)), hold(1, 0)),
        Err((Scope::Total, Unit::Requests, 4))
    );
    assert_eq!(
        over(sums(free, free, free), hold(0, 101)),
        Err((Scope::Key, Unit::Bytes, 200))
    );
    assert_eq!(
        over(sums(free, hold(1, 290), free), hold(0, 11)),
        Err((Scope::Organization, Unit::Bytes, 300))
    );
    // What grows in bytes alone is not stopped by requests, nor the other way round.
    assert_eq!(over(sums(hold(9, 0), hold(9, 0), hold(9, 0)), hold(0, 1)), Ok(()));
    assert_eq!(
        over(sums(hold(0, 999), hold(0, 999), hold(0, 999)), hold(1, 0)),
        Ok(())
    );
}

#[test]
fn a_refusal_says_what_whose_and_how_much() {
    let answer = Over {
        scope: Scope::Organization,
        unit: Unit::Requests,
        limit: 128,
    }
    .answer();
    assert_eq!(
        (answer.status, answer.kind, answer.code),
        (429, "requests", "rate_limit_exceeded")
    );
    assert!(
        answer
            .message
            .contains("from this organization: the limit is 128 requests"),
        "{}",
        answer.message
    );
    assert!(answer.headers().contains(&("retry-after", "1".into())));
}

#[test]
fn a_piece_weighs_what_it_takes_of_memory() {
    assert_eq!(
        [1, 512, 513, 4_096, 4_097].map(weight),
        [1, 512, 4_096, 4_096, 8_192]
    );
    assert_eq!(Hold::coming(4_096, Some(600)), hold(1, 4_096));
    assert_eq!(Hold::coming(4_096, Some(1 << 30)), hold(1, 4_096 + AHEAD));
    assert_eq!(
        (Hold::whole(65_535), Hold::whole(65_536)),
        (hold(0, 0), hold(0, 65_536))
    );
}

#[test]
fn workers_count_together_and_each_writes_its_own() {
    let (alice, bob) = (Who::of("acme", "k1"), Who::of("acme", "k2"));
    let mut ledger = Ledger::default();
    let (one, two) = (ledger.join(), ledger.join());
    assert_ne!(one, two);
    let (mut first, mut second) = (Mine::default(), Mine::default());
    first.change(alice, Hold::default(), hold(1, 10));
    first.change(alice, Hold::default(), hold(1, 20));
    ledger.put(one, &first, 1);
    second.change(bob, Hold::default(), hold(1, 5));
    ledger.put(two, &second, 2);
    let ledger = Ledger::read(&ledger.write());
    let sums = ledger.sums(two, &second, alice, 3);
    assert_eq!(
        (sums.key, sums.organization, sums.total),
        (hold(2, 30), hold(3, 35), hold(3, 35))
    );
    let sums = ledger.sums(two, &second, Who::of("globex", "k1"), 3);
    assert_eq!(
        (sums.key, sums.organization, sums.total),
        (hold(0, 0), hold(0, 0), hold(3, 35))
    );
}

#[test]
fn what_ends_or_dies_counts_no_more() {
    let who = Who::of("acme", "k1");
    let mut ledger = Ledger::default();
    let (mut first, second) = (Mine::default(), Mine::default());
    first.change(who, Hold::default(), hold(1, 10));
    ledger.put(1, &first, 0);
    assert_eq!(ledger.sums(2, &second, who, 59_999_999_999).key, hold(1, 10));
    assert_eq!(ledger.sums(2, &second, who, 60_000_000_000).key, hold(0, 0));
    ledger.put(2, &second, 60_000_000_000);
    assert_eq!(ledger.write().len(), 4);
    first.change(who, hold(1, 10), Hold::default());
    assert!(first.is_empty());
}

#[test]
fn a_slow_upload_is_found_and_so_is_one_that_falls_silent() {
    const SECOND: u64 = 1_000_000_000;
    let policy = Policy {
        least_rate: 100,
        grace: 10 * SECOND,
        ..Policy::default()
    };
    let mut pace = Pace::default();
    let mut look = |len, second: u64| pace.is_too_slow(&policy, len, second * SECOND);
    assert!(!look(0, 100));
    assert!(!look(0, 109));
    // 1,000 bytes in ten seconds are enough.
    assert!(!look(1_000, 110));
    assert!(!look(50_000, 111));
    assert!(!look(50_000, 120));
    assert!(look(50_000, 130));
    let mut slow = Pace::default();
    assert!(!slow.is_too_slow(&policy, 0, 100 * SECOND));
    assert!(slow.is_too_slow(&policy, 999, 110 * SECOND));
}

#[test]
fn settings_left_out_are_as_by_default_and_no_wider_than_what_is_given() {
    let read = |json: &str| {
        let raw: RawPolicy = from_json(json.as_bytes()).unwrap();
        Policy::try_from(raw)
    };
    assert_eq!(read("{}"), Ok(Policy::default()));
    let policy = read(
        r#"{"requests": {"total": 20.0}, "bytes": {"key": "1MiB"}, "least_rate": "1KiB/s", "grace": "2s"}"#,
    );
    let policy = policy.unwrap();
    assert_eq!(
        policy.requests,
        Bounds {
            key: 20,
            organization: 20,
            total: 20
        }
    );
    assert_eq!((policy.bytes.key, policy.bytes.total), (1 << 20, 1 << 30));
    assert_eq!((policy.least_rate, policy.grace), (1024, 2_000_000_000));
    let wrong = read(r#"{"requests": {"key": 0, "total": 5000}, "grace": "1ms"}"#).unwrap_err();
    let paths: Vec<_> = wrong.iter().map(|error| error.path.as_str()).collect();
    assert_eq!(paths, ["requests.key", "requests.total", "grace"]);
}

proptest! {
    #[test]
    fn any_bytes_are_read(record in proptest::collection::vec(any::<u8>(), 0..200)) {
        let ledger = Ledger::read(&record);
        let _ = ledger.sums(1, &Mine::default(), Who::default(), 0);
        prop_assert_eq!(Ledger::read(&ledger.write()), ledger);
    }
}

//! One customer after another.

use super::random::Random;
use super::*;

const KEY_RPM: &str = r#"[{"name": "key-rpm", "per": ["key"], "rate": "60/minute"}]"#;
const TPM: &str = r#"[{"name": "org-tpm", "per": ["org"], "count": "tokens", "rate": "60000/minute"}]"#;

#[test]
fn a_burst_then_the_rate_and_who_waits_as_told_passes() {
    let (table, mut store) = (table(KEY_RPM), Memory::default());
    assert_eq!(table.how_many(&mut store, &acme(), START, tokens(0, 0)), 60);
    assert_eq!(
        table.how_many(&mut store, &globex(), START, tokens(0, 0)),
        60,
        "its own"
    );
    let mut now = START;
    for _ in 0..100 {
        let denied = table
            .go(&mut store, &acme(), now, tokens(0, 0))
            .unwrap_err()
            .denied();
        let wait = denied.nanos();
        assert!(
            table
                .go(&mut store, &acme(), now + wait - 1, tokens(0, 0))
                .is_err()
        );
        now += wait;
        assert!(table.go(&mut store, &acme(), now, tokens(0, 0)).is_ok());
    }
    assert_eq!(now, START + 100 * SECOND, "all that the rate allows");
}

/// In any span of time the burst, and what the rate gives in it: the README's numbers.
#[test]
fn what_passes_in_a_span_of_time() {
    for (burst, at_once, in_all) in [
        ("", 60, 119),
        (r#", "burst": 1"#, 1, 60),
        (r#", "burst": 10"#, 10, 69),
    ] {
        let json = format!(r#"[{{"name": "x", "per": ["key"], "rate": "60/minute"{burst}}}]"#);
        let (table, mut store) = (table(&json), Memory::default());
        let mut passed = 0;
        for half_seconds in 0..120 {
            let now = START + half_seconds * SECOND / 2;
            passed += table.how_many(&mut store, &acme(), now, tokens(0, 0));
            if half_seconds == 0 {
                assert_eq!(passed, at_once, "{burst}");
            }
        }
        // From the first to the last of them 59.5 s.
        assert_eq!(passed, in_all, "{burst}");
    }
}

/// Requests that end in any order, all at about the time at which they came: what they did not use is there again.
#[test]
fn what_a_burst_did_not_use_is_given_back_whatever_the_order() {
    let table = table(r#"[{"name": "x", "per": ["key"], "count": "tokens", "rate": "10000/hour"}]"#);
    for seed in 0..40 {
        let (mut random, mut store) = (Random(seed), Memory::default());
        let mut open = Vec::new();
        for _ in 0..105 {
            let admitted = table.go(&mut store, &acme(), START, tokens(25, 70)).unwrap();
            open.push(admitted.reservation);
        }
        while !open.is_empty() {
            let one = open.swap_remove(random.below(open.len() as u64) as usize);
            one.settle(&mut store, START + SECOND, &tokens(22, 50)).unwrap();
        }
        let probe = table
            .go(&mut store, &acme(), START + SECOND, tokens(0, 1))
            .unwrap();
        let (remaining, expected) = (probe.statuses[0].remaining, 10_000 - 105 * 72 - 1);
        assert!(
            remaining.abs_diff(expected) <= 5,
            "{seed}: {remaining} of {expected}"
        );
    }
}

#[test]
fn each_count_counts_its_own() {
    for (count, fits) in [
        ("requests", 600),
        ("tokens", 20),
        ("input_tokens", 60),
        ("output_tokens", 30),
        ("cost", 100),
    ] {
        let json = format!(r#"[{{"name": "x", "per": ["key"], "count": "{count}", "rate": "600/minute"}}]"#);
        let amounts = Amounts {
            cost: 6,
            ..tokens(10, 20)
        };
        assert_eq!(
            table(&json).how_many(&mut Memory::default(), &acme(), START, amounts),
            fits,
            "{count}"
        );
    }
}

#[test]
fn a_refusal_consumes_nothing_anywhere() {
    let table = table(
        r#"[{"name": "a", "per": ["key"], "rate": "60/minute"},
            {"name": "b", "per": ["org"], "count": "tokens", "rate": "1000/minute"},
            {"name": "c", "per": ["org"], "count": "concurrent", "max": 100},
            {"name": "d", "count": "requests", "rate": "100/minute", "mode": "shadow"}]"#,
    );
    let mut store = Memory::default();
    assert!(table.go(&mut store, &acme(), START, tokens(900, 0)).is_ok());
    let before: Vec<_> = store
        .contents()
        .into_iter()
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    let denied = table
        .go(&mut store, &acme(), START, tokens(200, 0))
        .unwrap_err()
        .denied();
    assert_eq!(
        (denied.status.row, denied.status.used, denied.requested),
        (1, 900, 200)
    );
    assert_eq!(denied.nanos(), 6 * SECOND);
    let after: Vec<_> = store
        .contents()
        .into_iter()
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    assert_eq!(before, after);
}

#[test]
fn an_expectation_of_more_than_the_burst_waits_for_all_of_it_and_no_longer() {
    let table = table(
        r#"[{"name": "a", "per": ["key"], "count": "tokens", "rate": "600/minute"},
            {"name": "b", "per": ["key"], "count": "output_tokens", "rate": "60000/minute"}]"#,
    );
    let mut store = Memory::default();
    let subject = acme();
    let go = |store: &mut Memory, now, certain| {
        let ask = Ask {
            certain,
            ..ask(&subject, now, tokens(100, 5_000))
        };
        table.reserve(store, &ask)
    };
    // Nothing else is under way: it passes, and takes all there is of one row, and the expectation of the other.
    let first = go(&mut store, START, tokens(100, 0)).unwrap();
    let used = |admitted: &Admitted| admitted.statuses.iter().map(|row| row.used).collect::<Vec<_>>();
    assert_eq!(used(&first), [600, 5_000]);
    let denied = go(&mut store, START, tokens(100, 0)).unwrap_err().denied();
    assert_eq!((denied.requested, denied.nanos()), (600, 60 * SECOND));
    first
        .reservation
        .settle(&mut store, START, &tokens(100, 20))
        .unwrap();
    let second = table.go(&mut store, &subject, START, tokens(0, 0)).unwrap();
    assert_eq!(used(&second), [120, 20]);
    // What is sure to be more never passes.
    let denied = go(&mut store, START + 60 * SECOND, tokens(601, 0))
        .unwrap_err()
        .denied();
    assert_eq!((denied.requested, denied.wait), (601, Wait::Never));
}

#[test]
fn of_several_limits_the_longest_wait_is_told() {
    let table = table(
        r#"[{"name": "fast", "per": ["key"], "rate": "1/second"},
            {"name": "slow", "per": ["org"], "rate": "1/hour"},
            {"name": "middle", "per": ["key"], "rate": "1/minute"}]"#,
    );
    let mut store = Memory::default();
    assert!(table.go(&mut store, &acme(), START, tokens(0, 0)).is_ok());
    let denied = table
        .go(&mut store, &acme(), START, tokens(0, 0))
        .unwrap_err()
        .denied();
    assert_eq!((denied.status.row, denied.nanos()), (1, 3_600 * SECOND));
    assert!(
        table
            .go(&mut store, &acme(), START + denied.nanos(), tokens(0, 0))
            .is_ok()
    );
}

#[test]
fn more_than_the_burst_never_fits() {
    let denied = table(TPM)
        .go(&mut Memory::default(), &acme(), START, tokens(60_000, 1))
        .unwrap_err()
        .denied();
    assert_eq!(denied.wait, Wait::Never);
}

#[test]
fn what_was_not_used_is_returned() {
    let (table, mut store) = (table(TPM), Memory::default());
    let admitted = table
        .go(&mut store, &acme(), START, tokens(20_000, 40_000))
        .unwrap();
    assert!(table.go(&mut store, &acme(), START, tokens(1, 0)).is_err());
    admitted
        .reservation
        .settle(&mut store, START, &tokens(20_000, 500))
        .unwrap();
    let next = table.go(&mut store, &acme(), START, tokens(39_500, 0)).unwrap();
    assert_eq!(next.statuses[0].remaining, 0);
}

#[test]
fn an_overspend_is_a_debt_that_later_requests_wait_for() {
    let (table, mut store) = (table(TPM), Memory::default());
    let admitted = table.go(&mut store, &acme(), START, tokens(60_000, 0)).unwrap();
    admitted
        .reservation
        .settle(&mut store, START, &tokens(60_000, 60_000))
        .unwrap();
    let denied = table
        .go(&mut store, &acme(), START, tokens(1_000, 0))
        .unwrap_err()
        .denied();
    assert_eq!((denied.status.used, denied.nanos()), (120_000, 61 * SECOND));
}

#[test]
fn a_request_that_the_upstream_refused_costs_no_tokens_but_was_a_request() {
    let table = table(
        r#"[{"name": "r", "per": ["key"], "rate": "60/minute"},
            {"name": "t", "per": ["key"], "count": "tokens", "rate": "1000/minute"}]"#,
    );
    let mut store = Memory::default();
    let first = table.go(&mut store, &acme(), START, tokens(1_000, 0)).unwrap();
    first
        .reservation
        .settle(&mut store, START, &Amounts::default())
        .unwrap();
    let second = table.go(&mut store, &acme(), START, tokens(1_000, 0)).unwrap();
    assert_eq!(
        (second.statuses[0].remaining, second.statuses[1].remaining),
        (58, 0)
    );
    second.reservation.cancel(&mut store, START).unwrap();
    let third = table.go(&mut store, &acme(), START, tokens(1, 0)).unwrap();
    assert_eq!(
        (third.statuses[0].remaining, third.statuses[1].remaining),
        (58, 999)
    );
}

#[test]
fn requests_under_way_end_with_their_settling_or_with_their_worker() {
    let table = table(r#"[{"name": "inflight", "per": ["key"], "count": "concurrent", "max": 2}]"#);
    let mut store = Memory::default();
    let subject = acme();
    let by = |workers| Ask {
        workers,
        ..ask(&subject, START, tokens(0, 0))
    };
    let first = table.reserve(&mut store, &by(who_sees_all(1))).unwrap();
    let lost = table.reserve(&mut store, &by(who_sees_all(2))).unwrap();
    let denied = table
        .reserve(&mut store, &by(who_sees_all(1)))
        .unwrap_err()
        .denied();
    assert_eq!(
        (denied.status.used, denied.status.remaining, denied.nanos()),
        (2, 0, SECOND)
    );
    // Worker 2 died with its request, and a new one took its place.
    let (third, first_again) = (Workers::who_sees(3, &[1], 4), Workers::who_sees(1, &[3], 4));
    let again = table.reserve(&mut store, &by(&third)).unwrap();
    assert!(table.reserve(&mut store, &by(&first_again)).is_err());
    for reservation in [first.reservation, again.reservation, lost.reservation] {
        reservation.settle(&mut store, START, &tokens(5, 5)).unwrap();
    }
    let both: Vec<_> = (0..3)
        .map(|_| table.reserve(&mut store, &by(who_sees_all(1))).is_ok())
        .collect();
    assert_eq!(both, [true, true, false]);
}

#[test]
fn a_shadow_row_tells_and_never_refuses() {
    let table = table(
        r#"[{"name": "trial", "per": ["key"], "rate": "1/minute", "mode": "shadow"},
            {"name": "real", "per": ["key"], "rate": "3/minute"}]"#,
    );
    let mut store = Memory::default();
    let told: Vec<_> = (0..4)
        .map(|_| match table.go(&mut store, &acme(), START, tokens(0, 0)) {
            Ok(admitted) => (true, admitted.would_refuse),
            Err(refused) => (false, refused.denied().would_refuse),
        })
        .collect();
    assert_eq!(
        told,
        [(true, vec![]), (true, vec![0]), (true, vec![0]), (false, vec![0])]
    );
    // It counts as if it had refused: a minute later it has one again.
    let later = table
        .go(&mut store, &acme(), START + 60 * SECOND, tokens(0, 0))
        .unwrap();
    assert!(later.would_refuse.is_empty());
}

#[test]
fn conditions_and_overrides() {
    let table = table(
        r#"[{"name": "free", "per": ["key"], "when": {"tier": ["free"]}, "rate": "2/minute"},
            {"name": "llamas", "per": ["key", "model"], "when": {"model": "llama-*", "endpoint": ["chat"]}, "rate": "5/minute",
             "overrides": [{"org": "acme", "model": ["llama-7*"], "rate": "9/minute"}, {"key": ["another"], "burst": 1}]}]"#,
    );
    let many = |subject: Subject<'_>| table.how_many(&mut Memory::default(), &subject, START, tokens(0, 0));
    assert_eq!(many(acme()), 9);
    assert_eq!(
        many(Subject {
            model: "llama-8b",
            ..acme()
        }),
        5
    );
    assert_eq!(many(globex()), 1, "the override of its key");
    assert_eq!(many(Subject { key: "k", ..globex() }), 2, "its tier");
    assert_eq!(
        many(Subject {
            endpoint: Endpoint::Embeddings,
            ..acme()
        }),
        10_000,
        "covered by no row"
    );
}

#[test]
fn a_store_that_fails_refuses_unless_the_row_says_otherwise() {
    let strict = table(KEY_RPM);
    let mut store = Memory {
        fails_after: Some(0),
        ..Memory::default()
    };
    let refused = strict.go(&mut store, &acme(), START, tokens(0, 0)).unwrap_err();
    assert_eq!(refused.reason, Reason::Store(StoreError::Failed));
    let lax = table(r#"[{"name": "x", "per": ["key"], "rate": "1/minute", "on_error": "allow"}]"#);
    for calls in [0, 1] {
        store.fails_after = Some(calls);
        let admitted = lax.go(&mut store, &acme(), START, tokens(0, 0)).unwrap();
        assert_eq!(
            (admitted.unchecked, admitted.reservation.is_empty()),
            (vec![0], true)
        );
    }
}

#[test]
fn what_could_not_be_settled_can_be_later() {
    let table = table(
        r#"[{"name": "t", "per": ["key"], "count": "tokens", "rate": "1000/minute"},
            {"name": "c", "per": ["org"], "count": "concurrent", "max": 1}]"#,
    );
    let mut store = Memory::default();
    let admitted = table.go(&mut store, &acme(), START, tokens(1_000, 0)).unwrap();
    store.fails_after = Some(2);
    let unsettled = admitted
        .reservation
        .settle(&mut store, START, &tokens(0, 0))
        .unwrap_err();
    assert_eq!(unsettled.error, StoreError::Failed);
    store.fails_after = None;
    assert!(table.go(&mut store, &acme(), START, tokens(1_000, 0)).is_err());
    unsettled.retry(&mut store, START).unwrap();
    let next = table.go(&mut store, &acme(), START, tokens(1_000, 0)).unwrap();
    assert_eq!((next.statuses[0].remaining, next.statuses[1].remaining), (0, 0));
}

#[test]
fn state_survives_a_reload_and_a_changed_rate_gives_neither_a_burst_nor_a_lock() {
    let mut store = Memory::default();
    let old = table(KEY_RPM);
    assert_eq!(old.how_many(&mut store, &acme(), START, tokens(0, 0)), 60);
    let same = table(KEY_RPM);
    assert_eq!(
        same.how_many(&mut store, &acme(), START, tokens(0, 0)),
        0,
        "no free burst"
    );
    let faster = table(&KEY_RPM.replace("60/minute", "600/minute"));
    assert_eq!(
        faster.how_many(&mut store, &acme(), START, tokens(0, 0)),
        0,
        "no free burst"
    );
    assert_eq!(
        faster.how_many(&mut store, &acme(), START + SECOND, tokens(0, 0)),
        10,
        "its own rate at once"
    );
    let slower = table(&KEY_RPM.replace("60/minute", "6/minute"));
    let denied = slower
        .go(&mut store, &acme(), START + SECOND, tokens(0, 0))
        .unwrap_err()
        .denied();
    assert_eq!(denied.nanos(), 10 * SECOND, "no lock-out");
}

#[test]
fn a_changed_rate_holds_from_the_first_request_on_though_it_be_refused() {
    let mut store = Memory::default();
    let row = |rate: &str, burst: u32| {
        table(&format!(
            r#"[{{"name": "key-rph", "per": ["key"], "rate": "{rate}", "burst": {burst}}}]"#
        ))
    };
    assert_eq!(
        row("2/hour", 2).how_many(&mut store, &acme(), START, tokens(0, 0)),
        2
    );
    let faster = row("3600/hour", 10);
    let denied = faster
        .go(&mut store, &acme(), START, tokens(0, 0))
        .unwrap_err()
        .denied();
    assert_eq!(denied.nanos(), SECOND);
    assert_eq!(
        faster.how_many(&mut store, &acme(), START + SECOND, tokens(0, 0)),
        1,
        "who waits as told passes"
    );
}

#[test]
fn two_configurations_side_by_side_keep_each_others_rows() {
    let mut store = Memory::default();
    let old = table(KEY_RPM);
    let new = table(r#"[{"name": "other", "per": ["key"], "rate": "5/minute"}]"#);
    assert_eq!(old.how_many(&mut store, &acme(), START, tokens(0, 0)), 60);
    assert_eq!(new.how_many(&mut store, &acme(), START, tokens(0, 0)), 5);
    assert_eq!(old.how_many(&mut store, &acme(), START + SECOND, tokens(0, 0)), 1);
}

#[test]
fn a_reservation_of_the_old_configuration_returns_its_part_under_the_new_one() {
    let mut store = Memory::default();
    let held = table(TPM)
        .go(&mut store, &acme(), START, tokens(60_000, 0))
        .unwrap();
    let new = table(&TPM.replace("60000", "6000"));
    assert!(
        new.go(&mut store, &acme(), START + SECOND, tokens(1_000, 0))
            .is_err()
    );
    assert!(
        new.go(&mut store, &acme(), START + SECOND, tokens(100, 0))
            .is_ok()
    );
    held.reservation
        .settle(&mut store, START + SECOND, &tokens(30_000, 0))
        .unwrap();
    let next = new.go(&mut store, &acme(), START + SECOND, tokens(1, 0)).unwrap();
    assert_eq!(next.statuses[0].remaining, 2_999);
}

#[test]
fn a_clock_set_back_neither_frees_nor_locks() {
    let (table, mut store) = (table(KEY_RPM), Memory::default());
    table.how_many(&mut store, &acme(), START, tokens(0, 0));
    let back = START - 3_600 * SECOND;
    let denied = table
        .go(&mut store, &acme(), back, tokens(0, 0))
        .unwrap_err()
        .denied();
    assert!(denied.nanos() <= 3_601 * SECOND);
    assert_eq!(
        table.how_many(&mut store, &acme(), back + 5 * SECOND, tokens(0, 0)),
        0
    );
}

#[test]
fn strangers_fill_slots_and_no_more() {
    let table = table(r#"[{"name": "x", "per": ["ip"], "rate": "60/minute"}]"#);
    let mut store = Memory::default();
    for n in 0..20_000_u32 {
        let address = Some(IpAddr::V4((n * 11).into()));
        let _ = table.go(&mut store, &Subject { address, ..acme() }, START, tokens(0, 0));
    }
    assert_eq!(store.values.len(), 4096);
    assert!(store.values.values().all(|(value, _)| value.len() == 76));
}

#[test]
fn one_read_and_one_write_for_all_rows_of_one_per() {
    let table = table(
        r#"[{"name": "a", "per": ["key"], "rate": "60/minute"}, {"name": "b", "per": ["key"], "count": "tokens", "rate": "1000/minute"},
            {"name": "c", "per": ["key"], "count": "concurrent", "max": 5}]"#,
    );
    let mut store = Memory::default();
    let admitted = table.go(&mut store, &acme(), START, tokens(10, 0)).unwrap();
    assert_eq!((store.gets, store.swaps), (1, 1));
    admitted
        .reservation
        .settle(&mut store, START, &tokens(5, 0))
        .unwrap();
    assert_eq!((store.gets, store.swaps), (2, 2));
}

/// Of what was reserved for a request that was given up nothing is returned before its work must be over.
#[test]
fn what_may_still_be_used_is_held() {
    let table = table(
        r#"[{"name": "tokens", "per": ["key"], "count": "tokens", "rate": "1000/day"},
            {"name": "input", "per": ["key"], "count": "input_tokens", "rate": "1000/day"},
            {"name": "output", "per": ["key"], "count": "output_tokens", "rate": "1000/day"},
            {"name": "requests", "per": ["key"], "rate": "10/day"},
            {"name": "places", "per": ["key"], "count": "concurrent", "max": 1}]"#,
    );
    let used = |store: &mut Memory| {
        let admitted = table.go(store, &acme(), START, tokens(0, 0)).unwrap();
        let used: Vec<_> = admitted.statuses.iter().map(|status| status.used).collect();
        admitted.reservation.cancel(store, START).unwrap();
        used
    };
    for (used_now, most, held, left) in [
        // Three attempts have read the input, and 100 tokens of output were reserved.
        (tokens(60, 0), tokens(60, 100), [160, 60, 100], [60, 60, 0]),
        (tokens(20, 30), tokens(20, 100), [120, 20, 100], [50, 20, 30]),
        // More was written than was reserved: there is nothing to hold.
        (tokens(20, 300), tokens(20, 300), [320, 20, 300], [320, 20, 300]),
        (tokens(5, 0), tokens(5, 100), [105, 5, 100], [5, 5, 0]),
        // Not more than was reserved.
        (tokens(20, 0), tokens(20, 900), [140, 20, 100], [20, 20, 0]),
    ] {
        let mut store = Memory::default();
        let admitted = table.go(&mut store, &acme(), START, tokens(20, 100)).unwrap();
        let (settled, hold) = admitted
            .reservation
            .settle_in_part(&mut store, START, &used_now, &most, false);
        settled.unwrap();
        assert_eq!(used(&mut store)[..3], held);
        assert_eq!(used(&mut store)[3..], [2, 1], "its place is free");
        assert_eq!(hold.is_some(), held != left);
        if let Some(hold) = hold {
            hold.release(&mut store, START).unwrap();
        }
        assert_eq!(used(&mut store)[..3], left);
    }
}

/// What a model server may be at work on still is under way, for as long as what it may write is held.
#[test]
fn the_place_of_abandoned_work_is_held_with_its_output() {
    let table = table(
        r#"[{"name": "output", "per": ["org"], "count": "output_tokens", "rate": "1000/day"},
            {"name": "places", "per": ["org"], "count": "concurrent", "max": 2}]"#,
    );
    let places = |store: &mut Memory| {
        let ask = table.go(store, &acme(), START, tokens(0, 0));
        let Ok(admitted) = ask else { return 2 };
        let used = admitted.statuses[1].used - 1;
        admitted.reservation.cancel(store, START).unwrap();
        used
    };
    // With output to hold and without.
    for most in [tokens(0, 100), tokens(0, 0)] {
        let mut store = Memory::default();
        let mut abandon = || {
            let admitted = table.go(&mut store, &acme(), START, tokens(0, 100)).unwrap();
            let (settled, hold) =
                admitted
                    .reservation
                    .settle_in_part(&mut store, START, &tokens(0, 0), &most, true);
            settled.unwrap();
            hold.unwrap()
        };
        let (first, second) = (abandon(), abandon());
        assert_eq!(places(&mut store), 2);
        first.release(&mut store, START).unwrap();
        assert_eq!(places(&mut store), 1);
        // Where there is no room for a hold, its place is free at once.
        second.slots().unwrap().release(&mut store, START).unwrap();
        assert_eq!(places(&mut store), 0);
    }
    let mut store = Memory::default();
    let admitted = table.go(&mut store, &acme(), START, tokens(0, 100)).unwrap();
    let most = tokens(0, 100);
    let (_, hold) = admitted
        .reservation
        .settle_in_part(&mut store, START, &tokens(0, 0), &most, false);
    assert!(hold.unwrap().slots().is_none());
}

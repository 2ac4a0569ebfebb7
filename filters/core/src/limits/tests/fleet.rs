//! Rows of the fleet, as a request meets them.

use super::*;
use crate::state::write;

const ORG_RPM: &str = r#"[{"name": "rpm", "per": ["org"], "where": "fleet", "rate": "60/minute"}]"#;

/// A lease that has this part of each limit, full.
fn lease(parts: u32) -> Lease {
    Lease {
        number: 1,
        life: 1,
        from: START,
        until: START + 10 * SECOND,
        parts,
        since: 0,
    }
}

fn store(parts: u32) -> crate::state::Memory {
    let mut store = crate::state::Memory::default();
    write(&mut store, "", lease(parts)).unwrap();
    store
}

#[test]
fn a_part_passes_and_the_rest_is_asked_for() {
    let table = table(ORG_RPM);
    let mut store = store(4);
    for left in (0..15).rev() {
        let admitted = table.go(&mut store, &acme(), START, tokens(0, 0)).unwrap();
        assert_eq!(admitted.statuses[0].remaining, left);
    }
    let refused = table.go(&mut store, &acme(), START, tokens(0, 0)).unwrap_err();
    let answer = refused.answer(&table, &acme());
    assert_eq!((answer.status, answer.code), (429, "rate_limit_exceeded"));
    assert_eq!(answer.retry, crate::error::Retry::AfterMillis(1_000));
    assert!(
        answer.message.contains("Limit 60, Requested 1."),
        "{}",
        answer.message
    );
    let headers = refused.headers(&table, crate::endpoint::Dialect::OpenAi, START);
    let policy = headers.iter().find(|(name, _)| *name == "ratelimit-policy");
    assert_eq!(policy.unwrap().1, r#""rpm";q=60;w=60"#);
    // Others have theirs.
    assert!(table.go(&mut store, &globex(), START, tokens(0, 0)).is_ok());
    assert_eq!(Notes::Short.take(&mut store).unwrap().len(), 1);
    // It was told once, and counts on.
    assert!(table.go(&mut store, &acme(), START, tokens(0, 0)).is_err());
    assert_eq!(Notes::Short.take(&mut store).unwrap(), []);
}

fn passed(table: &Table, store: &mut crate::state::Memory, subject: &Subject<'_>) -> usize {
    let mut requests = 0..1_000;
    let passes = |_: &usize| table.go(store, subject, START, tokens(0, 0)).is_ok();
    requests.by_ref().take_while(passes).count()
}

#[test]
fn changed_numbers_begin_with_what_was_left_by_the_old_ones() {
    let [old, new] = [60, 120].map(|rate| {
        let rows = r#"[{"name": "rpm", "per": ["org"], "where": "fleet", "rate": "N/minute"}]"#;
        super::table(&rows.replace('N', &rate.to_string()))
    });
    let mut store = store(1);
    for _ in 0..50 {
        assert!(old.go(&mut store, &acme(), START, tokens(0, 0)).is_ok());
    }
    assert_eq!(passed(&new, &mut store, &acme()), 20);
    assert_eq!(passed(&old, &mut store, &acme()), 0);
    assert_eq!(passed(&new, &mut store, &acme()), 0);
    // Of others nothing was used.
    assert_eq!(passed(&new, &mut store, &globex()), 120);
}

/// What was charged by the old numbers is not given back by the new ones, nor twice.
#[test]
fn numbers_that_come_back_give_back_once() {
    let [old, new] = ["60", "30"].map(|rate| {
        let rows = r#"[{"name": "rpm", "per": ["org"], "where": "fleet", "rate": "N/minute"}]"#;
        super::table(&rows.replace('N', rate))
    });
    let mut store = store(1);
    let first = old.go(&mut store, &acme(), START, tokens(0, 0)).unwrap();
    assert_eq!(passed(&new, &mut store, &acme()), 29);
    first.reservation.cancel(&mut store, START).unwrap();
    assert!(passed(&old, &mut store, &acme()) <= 2);
}

#[test]
fn without_a_lease_on_error_decides() {
    let strict = table(ORG_RPM);
    let lax = table(
        r#"[{"name": "rpm", "per": ["org"], "where": "fleet", "rate": "60/minute", "on_error": "allow"},
            {"name": "key", "per": ["key"], "rate": "2/minute"}]"#,
    );
    let mut none = crate::state::Memory::default();
    let mut over = store(1);
    let late = START + 10 * SECOND;
    for (store, now) in [(&mut none, START), (&mut over, late)] {
        let refused = strict.go(store, &acme(), now, tokens(0, 0)).unwrap_err();
        assert_eq!(refused.reason, Reason::Store(StoreError::Failed));
        assert_eq!(refused.answer(&strict, &acme()).status, 503);
        let admitted = lax.go(store, &acme(), now, tokens(0, 0)).unwrap();
        assert_eq!(admitted.unchecked, [0]);
    }
}

/// A client that waits a second for more of it is not told that its day is over.
#[test]
fn a_day_whose_share_is_short_is_not_spent() {
    let table = table(r#"[{"name": "rpd", "per": ["org"], "where": "fleet", "rate": "50/day"}]"#);
    let refused = table
        .go(&mut store(64), &acme(), START, tokens(0, 0))
        .unwrap_err();
    assert_eq!(refused.answer(&table, &acme()).code, "rate_limit_exceeded");
    let mut alone = store(1);
    for _ in 0..50 {
        assert!(table.go(&mut alone, &acme(), START, tokens(0, 0)).is_ok());
    }
    assert!(table.go(&mut alone, &acme(), START, tokens(0, 0)).is_err());
}

#[test]
fn more_than_the_whole_limit_never_passes_and_is_not_asked_for() {
    let table = table(
        r#"[{"name": "tpm", "per": ["org"], "where": "fleet", "count": "tokens", "rate": "1000/minute"}]"#,
    );
    let mut store = store(4);
    let refused = table
        .go(&mut store, &acme(), START, tokens(1_001, 0))
        .unwrap_err();
    assert_eq!(
        refused.answer(&table, &acme()).code,
        "request_too_large_for_limit"
    );
    assert_eq!(Notes::Short.take(&mut store).unwrap(), []);
    let refused = table
        .go(&mut store, &acme(), START, tokens(1_000, 0))
        .unwrap_err();
    assert_eq!(refused.answer(&table, &acme()).code, "rate_limit_exceeded");
    assert_eq!(Notes::Short.take(&mut store).unwrap().len(), 1);
}

#[test]
fn another_row_that_refuses_leaves_the_share_alone() {
    let table = table(
        r#"[{"name": "rpm", "per": ["org"], "where": "fleet", "rate": "60/minute"},
            {"name": "key", "per": ["key"], "rate": "1/minute"}]"#,
    );
    let mut store = store(1);
    assert!(table.go(&mut store, &acme(), START, tokens(0, 0)).is_ok());
    assert!(table.go(&mut store, &acme(), START, tokens(0, 0)).is_err());
    let other = Subject { key: "k", ..acme() };
    let admitted = table.go(&mut store, &other, START, tokens(0, 0)).unwrap();
    let status = admitted.statuses.iter().find(|status| status.row == 0).unwrap();
    assert_eq!(status.remaining, 58);
    admitted.reservation.cancel(&mut store, START).unwrap();
    let admitted = table
        .go(&mut store, &Subject { key: "l", ..acme() }, START, tokens(0, 0))
        .unwrap();
    let status = admitted.statuses.iter().find(|status| status.row == 0).unwrap();
    assert_eq!(status.remaining, 58);
}

#[test]
fn in_shadow_it_is_asked_for_too() {
    let table = table(
        r#"[{"name": "rpm", "per": ["org"], "where": "fleet", "rate": "60/minute", "mode": "shadow"}]"#,
    );
    let mut store = store(0);
    let admitted = table.go(&mut store, &acme(), START, tokens(0, 0)).unwrap();
    assert_eq!(admitted.would_refuse, [0]);
    assert_eq!(Notes::Short.take(&mut store).unwrap().len(), 1);
}

#[test]
fn what_is_in_flight_is_bounded_by_the_share() {
    let table =
        table(r#"[{"name": "busy", "per": ["org"], "where": "fleet", "count": "concurrent", "max": 8}]"#);
    let mut store = store(4);
    let one = table.go(&mut store, &acme(), START, tokens(0, 0)).unwrap();
    let _two = table.go(&mut store, &acme(), START, tokens(0, 0)).unwrap();
    assert!(table.go(&mut store, &acme(), START, tokens(0, 0)).is_err());
    one.reservation.settle(&mut store, START, &tokens(0, 0)).unwrap();
    assert!(table.go(&mut store, &acme(), START, tokens(0, 0)).is_ok());
}

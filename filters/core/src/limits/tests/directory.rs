//! What the directory has in place of the table's bounds, and the caps that it sets.

use super::*;
use crate::bound::{Bounds, CAP, RawBound, RawCap};
use crate::config::Map;
use crate::endpoint::Dialect;

const TABLE: &str = r#"[
    {"name": "key-rpm", "per": ["key"], "rate": "6/minute"},
    {"name": "org-rpm", "per": ["org"], "rate": "60/minute", "overrides": [{"org": "acme", "rate": "30/minute"}]},
    {"name": "project-rpm", "per": ["project"], "rate": "60/minute"},
    {"name": "all-rpm", "rate": "60/minute"},
    {"name": "model-rpm", "per": ["model", "tier"], "rate": "60/minute"},
    {"name": "org-concurrent", "per": ["org"], "count": "concurrent", "max": 50}
]"#;

fn bounds(limits: &str, cap: Option<&str>) -> Option<Bounds> {
    let limits: Map<Object<RawBound>> = from_json(limits.as_bytes()).unwrap();
    let cap: Option<RawCap> = cap.map(|cap| from_json(cap.as_bytes()).unwrap());
    Bounds::check(&limits, cap.as_ref()).unwrap()
}

fn overrides(org: &str, key: &str) -> &'static Overrides {
    Box::leak(Box::new(Overrides {
        org: bounds(org, None),
        key: bounds(key, None),
    }))
}

fn capped(org: Option<&str>, key: Option<&str>) -> &'static Overrides {
    Box::leak(Box::new(Overrides {
        org: bounds("{}", org),
        key: bounds("{}", key),
    }))
}

fn with(overrides: &'static Overrides) -> Subject<'static> {
    Subject { overrides, ..acme() }
}

/// How much each row allows: its rate's amount, or how many in flight.
fn allowed(table: &Table, subject: &Subject<'_>) -> Vec<(String, u64)> {
    let of = |row: &Row| {
        let amount = match row.bound_for(subject)? {
            Bound::Rate(quota) => quota.amount(),
            Bound::Max(max) => u64::from(max),
        };
        Some((row.name.clone(), amount))
    };
    table.rows().iter().filter_map(of).collect()
}

#[track_caller]
fn allows(subject: &Subject<'_>, expected: [u64; 6]) {
    let found: Vec<_> = allowed(&table(TABLE), subject)
        .into_iter()
        .map(|(_, amount)| amount)
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn the_keys_own_before_its_organizations_and_those_before_the_tables() {
    allows(&acme(), [6, 30, 60, 60, 60, 50]);
    let org = r#"{"key-rpm": {"rate": "7/minute"}, "org-rpm": {"rate": "70/minute"}, "project-rpm": {"rate": "700/minute"}, "org-concurrent": {"max": 5}}"#;
    allows(&with(overrides(org, "{}")), [7, 70, 700, 60, 60, 5]);
    let key = r#"{"key-rpm": {"rate": "8/minute"}}"#;
    allows(&with(overrides(org, key)), [8, 70, 700, 60, 60, 5]);
    allows(&with(overrides("{}", key)), [8, 30, 60, 60, 60, 50]);
}

/// One count never has two bounds: keys of one organization share it, or strangers do.
#[test]
fn what_others_share_is_no_keys_and_what_strangers_share_nobodys() {
    let all = r#"{"org-rpm": {"rate": "9/minute"}, "project-rpm": {"rate": "9/minute"}, "all-rpm": {"rate": "9/minute"}, "model-rpm": {"rate": "9/minute"}, "org-concurrent": {"max": 9}}"#;
    allows(&with(overrides("{}", all)), [6, 30, 60, 60, 60, 50]);
    allows(&with(overrides(all, "{}")), [6, 9, 9, 60, 60, 9]);
}

#[test]
fn what_does_not_fit_changes_nothing() {
    let wrong = r#"{"key-rpm": {"max": 1}, "org-concurrent": {"rate": "1/minute"}, "unknown": {"max": 1}}"#;
    allows(&with(overrides(wrong, "{}")), [6, 30, 60, 60, 60, 50]);
    let org = r#"{"key-rpm": {"rate": "7/minute"}}"#;
    let subject = with(overrides(org, r#"{"key-rpm": {"max": 1}}"#));
    allows(&subject, [7, 30, 60, 60, 60, 50]);
}

/// All that the customer is told is of the bound in force.
#[test]
fn what_is_told_is_the_bound_in_force() {
    let table = table(r#"[{"name": "key-rpm", "per": ["key"], "rate": "6/minute"}]"#);
    let mut store = Memory::default();
    let subject = with(overrides(
        "{}",
        r#"{"key-rpm": {"rate": "120/minute", "burst": 2}}"#,
    ));
    let admitted = table.go(&mut store, &subject, START, tokens(0, 0)).unwrap();
    let headers = admitted.headers(&table, Dialect::OpenAi, START);
    assert!(
        headers.contains(&("ratelimit-policy", r#""key-rpm";q=120;w=60"#.to_owned())),
        "{headers:?}"
    );
    assert!(
        headers.contains(&("x-ratelimit-limit-requests", "120".to_owned())),
        "{headers:?}"
    );
    let _ = table.go(&mut store, &subject, START, tokens(0, 0)).unwrap();
    let refused = table.go(&mut store, &subject, START, tokens(0, 0)).unwrap_err();
    let answer = refused.answer(&table, &subject);
    assert!(
        answer.message.contains("Limit 120 (at once 2)") && answer.message.contains("in 500ms"),
        "{}",
        answer.message
    );
}

/// As with a changed rate: what is used stays the same part of the bound.
#[test]
fn one_that_is_changed_keeps_the_part_that_is_used() {
    let table = table(r#"[{"name": "key-rpm", "per": ["key"], "rate": "60/minute"}]"#);
    let mut store = Memory::default();
    for _ in 0..30 {
        let _ = table.go(&mut store, &acme(), START, tokens(0, 0)).unwrap();
    }
    let raised = with(overrides("{}", r#"{"key-rpm": {"rate": "600/minute"}}"#));
    assert_eq!(table.how_many(&mut store, &raised, START, tokens(0, 0)), 300);
    assert_eq!(table.how_many(&mut store, &acme(), START, tokens(0, 0)), 0);
    assert_eq!(
        table.how_many(&mut store, &acme(), START + 10 * SECOND, tokens(0, 0)),
        10
    );
}

#[test]
fn a_cap_limits_where_no_limit_does() {
    let table = table("[]");
    let mut store = Memory::default();
    assert_eq!(
        table.how_many(&mut store, &acme(), START, tokens(0, 0)),
        10_000,
        "none"
    );
    assert_eq!(store.gets, 0, "whoever has no cap costs nothing");
    let org = with(capped(Some(r#"{"rate": "10/second"}"#), None));
    assert_eq!(table.how_many(&mut store, &org, START, tokens(0, 0)), 10);
    let other = Subject { key: "other", ..org };
    assert_eq!(
        table.how_many(&mut store, &other, START, tokens(0, 0)),
        0,
        "its organization's"
    );
    assert_eq!(table.how_many(&mut store, &globex(), START, tokens(0, 0)), 10_000);
    let key = Subject {
        org: "initech",
        ..with(capped(None, Some(r#"{"rate": "10/second", "burst": 3}"#)))
    };
    assert_eq!(table.how_many(&mut store, &key, START, tokens(0, 0)), 3);
    let refused = table.go(&mut store, &key, START, tokens(0, 0)).unwrap_err();
    let headers = refused.headers(&table, Dialect::OpenAi, START);
    assert!(
        headers.contains(&("ratelimit-policy", r#""cap";q=10;w=1"#.to_owned())),
        "{headers:?}"
    );
    let at = refused.denied().status.row;
    assert_eq!(table.row(at).map(|row| row.name.as_str()), Some(CAP));
}

/// A cap comes on top of the limits, and what it counted is forgotten once it has leaked.
#[test]
fn a_cap_comes_on_top_and_goes() {
    let table = table(r#"[{"name": "org-rpm", "per": ["org"], "rate": "60/minute"}]"#);
    let mut store = Memory::default();
    let org = with(capped(Some(r#"{"rate": "10/second"}"#), None));
    assert_eq!(table.how_many(&mut store, &org, START, tokens(0, 0)), 10);
    let before = store.contents()[0].1.len();
    assert_eq!(
        table.how_many(&mut store, &acme(), START, tokens(0, 0)),
        50,
        "ended"
    );
    let _ = table
        .go(&mut store, &acme(), START + 10 * SECOND, tokens(0, 0))
        .unwrap();
    assert!(store.contents()[0].1.len() < before, "no trace of the cap");
}

//! What the customer reads.

use super::*;
use crate::endpoint::Dialect;
use crate::error::{ApiError, Retry};

fn refused(
    json: &str,
    first: Amounts,
    second: Amounts,
    subject: &Subject<'_>,
) -> (ApiError, Vec<(&'static str, String)>) {
    let (table, mut store) = (table(json), Memory::default());
    table.go(&mut store, subject, START, first).unwrap();
    let refused = table.go(&mut store, subject, START, second).unwrap_err();
    (
        refused.answer(&table, subject),
        refused.headers(&table, Dialect::OpenAi, START),
    )
}

fn header<'a>(headers: &'a [(&'static str, String)], name: &str) -> Option<&'a str> {
    headers
        .iter()
        .find(|(other, _)| *other == name)
        .map(|(_, value)| value.as_str())
}

#[test]
fn the_message_of_the_contract() {
    let json = r#"[{"name": "org-tpm", "per": ["org"], "count": "tokens", "rate": "200000/minute"}]"#;
    let (error, headers) = refused(json, tokens(162_960, 0), tokens(42_000, 288), &acme());
    assert_eq!(
        error.message,
        "Rate limit reached for llama-70b in organization acme on tokens per min (TPM): Limit 200000, Used 162960, Requested 42288. Please try again in 1.575s."
    );
    assert_eq!(
        (error.status, error.kind, error.code, error.retry),
        (429, "tokens", "rate_limit_exceeded", Retry::AfterMillis(1_575))
    );
    assert_eq!(header(&headers, "x-ratelimit-limit-tokens"), Some("200000"));
    assert_eq!(header(&headers, "x-ratelimit-remaining-tokens"), Some("37040"));
    assert_eq!(header(&headers, "x-ratelimit-reset-tokens"), Some("48.888s"));
    assert_eq!(header(&headers, "x-ratelimit-limit-requests"), None);
}

#[test]
fn each_scope_and_unit_has_its_words() {
    for (per, count, unit, said) in [
        (
            r#""key""#,
            "requests",
            "second",
            "for key 7f3kq9x2mzd4 on requests per sec (RPS): Limit 5, Used 5, Requested 1. ",
        ),
        (
            r#""project""#,
            "requests",
            "minute",
            "in project search on requests per min (RPM): Limit 5, Used 5, Requested 1. ",
        ),
        (
            r#""org", "model""#,
            "input_tokens",
            "hour",
            "in organization acme on input tokens per hour (ITPH): Limit 5, Used 5, Requested 5. ",
        ),
        (
            r#""tier""#,
            "output_tokens",
            "minute",
            "for tier pro on output tokens per min (OTPM): Limit 5, Requested 5. ",
        ),
        (
            r#""ip""#,
            "tokens",
            "minute",
            "for this address on tokens per min (TPM): Limit 5, Requested 5. ",
        ),
        (
            r#""model""#,
            "cost",
            "minute",
            "for all organizations together on cost in millionths per min: Limit 5, Requested 5. ",
        ),
    ] {
        let json = format!(r#"[{{"name": "x", "per": [{per}], "count": "{count}", "rate": "5/{unit}"}}]"#);
        let (table, mut store) = (table(&json), Memory::default());
        let amounts = match count {
            "input_tokens" | "tokens" => tokens(5, 0),
            "output_tokens" => tokens(0, 5),
            _ => Amounts {
                cost: 5,
                ..tokens(0, 0)
            },
        };
        table.how_many(&mut store, &acme(), START, amounts);
        let error = table
            .go(&mut store, &acme(), START, amounts)
            .unwrap_err()
            .answer(&table, &acme());
        let rest = error
            .message
            .strip_prefix("Rate limit reached for llama-70b ")
            .unwrap();
        assert!(rest.starts_with(said), "{rest}");
    }
}

#[test]
fn requests_under_way() {
    let json = r#"[{"name": "inflight", "per": ["org"], "count": "concurrent", "max": 1}]"#;
    let (error, headers) = refused(json, tokens(0, 0), tokens(0, 0), &acme());
    assert_eq!(
        error.message,
        "Rate limit reached for llama-70b in organization acme on concurrent requests: Limit 1, Used 1, Requested 1. Please try again in 1s."
    );
    assert_eq!(
        (error.kind, error.retry),
        ("concurrent_requests", Retry::AfterMillis(1_000))
    );
    assert_eq!(
        header(&headers, "ratelimit-policy"),
        Some(r#""inflight";q=1;qu="concurrent-requests""#)
    );
    assert_eq!(header(&headers, "ratelimit"), Some(r#""inflight";r=0"#));
}

#[test]
fn what_can_never_fit_is_not_to_be_retried() {
    let json = r#"[{"name": "t", "per": ["org"], "count": "tokens", "rate": "30000/minute"}]"#;
    let (error, _) = refused(json, tokens(9, 0), tokens(31_538, 0), &acme());
    assert_eq!(
        error.message,
        "Request too large for llama-70b in organization acme on tokens per min (TPM): Limit 30000, Requested 31538."
    );
    assert_eq!(
        (error.code, error.retry),
        ("request_too_large_for_limit", Retry::Never)
    );
}

#[test]
fn a_spent_day_is_a_quota() {
    let json = r#"[{"name": "t", "per": ["org"], "count": "cost", "rate": "86400/day"}]"#;
    let cost = |cost| Amounts { cost, ..tokens(0, 0) };
    let (error, _) = refused(json, cost(86_400), cost(90), &acme());
    assert_eq!(
        error.message,
        "Quota spent for llama-70b in organization acme on cost in millionths per day: Limit 86400, Used 86400, Requested 90. It has room for this request in 1m30s."
    );
    assert_eq!(
        (error.kind, error.code, error.retry),
        ("insufficient_quota", "insufficient_quota", Retry::Never)
    );
}

#[test]
fn another_burst_is_told() {
    let json = r#"[{"name": "r", "per": ["key"], "rate": "60/minute", "burst": 1}]"#;
    let (error, headers) = refused(json, tokens(0, 0), tokens(0, 0), &acme());
    assert!(
        error
            .message
            .ends_with("(RPM): Limit 60 (at once 1), Used 1, Requested 1. Please try again in 1s."),
        "{}",
        error.message
    );
    assert_eq!(header(&headers, "ratelimit"), Some(r#""r";r=0;t=1"#));
}

#[test]
fn a_store_that_fails_is_our_fault() {
    let table = table(r#"[{"name": "r", "rate": "60/minute"}]"#);
    let mut store = Memory {
        fails_after: Some(0),
        ..Memory::default()
    };
    let refused = table.go(&mut store, &acme(), START, tokens(0, 0)).unwrap_err();
    let error = refused.answer(&table, &acme());
    assert_eq!((error.status, error.code), (503, "rate_limit_unavailable"));
    assert!(refused.headers(&table, Dialect::OpenAi, START).is_empty());
}

const MANY: &str = r#"[
    {"name": "key-rpm", "per": ["key"], "rate": "60/minute"},
    {"name": "org-rpm", "per": ["org"], "rate": "10/minute"},
    {"name": "key-tpm", "per": ["key"], "count": "tokens", "rate": "1000/minute"},
    {"name": "all", "rate": "5/minute"},
    {"name": "trial", "per": ["key"], "rate": "2/minute", "mode": "shadow"}]"#;

#[test]
fn on_200_the_tightest_of_each_kind() {
    let (table, mut store) = (table(MANY), Memory::default());
    let admitted = table.go(&mut store, &acme(), START, tokens(100, 0)).unwrap();
    let headers = admitted.headers(&table, Dialect::Anthropic, START);
    let expected = [
        ("x-ratelimit-limit-requests", "10"),
        ("x-ratelimit-remaining-requests", "9"),
        ("x-ratelimit-reset-requests", "6s"),
        ("anthropic-ratelimit-requests-limit", "10"),
        ("anthropic-ratelimit-requests-remaining", "9"),
        ("anthropic-ratelimit-requests-reset", "2023-11-14T22:13:26Z"),
        ("x-ratelimit-limit-tokens", "1000"),
        ("x-ratelimit-remaining-tokens", "900"),
        ("x-ratelimit-reset-tokens", "6s"),
        ("anthropic-ratelimit-tokens-limit", "1000"),
        ("anthropic-ratelimit-tokens-remaining", "900"),
        ("anthropic-ratelimit-tokens-reset", "2023-11-14T22:13:26Z"),
        (
            "ratelimit-policy",
            r#""key-rpm";q=60;w=60, "key-tpm";q=1000;w=60, "org-rpm";q=10;w=60"#,
        ),
        (
            "ratelimit",
            r#""key-rpm";r=59;t=1, "key-tpm";r=900;t=6, "org-rpm";r=9;t=6"#,
        ),
    ];
    let got: Vec<_> = headers
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    assert_eq!(got, expected);
}

#[test]
fn what_others_used_is_not_told() {
    let (table, mut store) = (table(MANY), Memory::default());
    assert_eq!(table.how_many(&mut store, &globex(), START, tokens(0, 0)), 5);
    let refused = table.go(&mut store, &acme(), START, tokens(0, 0)).unwrap_err();
    let headers = refused.headers(&table, Dialect::OpenAi, START);
    assert_eq!(header(&headers, "x-ratelimit-limit-requests"), Some("5"));
    assert_eq!(header(&headers, "x-ratelimit-remaining-requests"), Some("0"));
    // Rounded up from 12.
    assert_eq!(header(&headers, "x-ratelimit-reset-requests"), Some("20s"));
    assert!(!refused.answer(&table, &acme()).message.contains("Used"));
}

#[test]
fn durations_as_go_writes_them() {
    for (nanos, said) in [
        (0, "0s"),
        (1, "1ms"),
        (12_000_000, "12ms"),
        (SECOND, "1s"),
        (1_574_000_000, "1.574s"),
        (1_500_000_000, "1.5s"),
        (360 * SECOND, "6m0s"),
        (3_600 * SECOND + 1, "1h0m0.001s"),
        (u64::MAX, "5124095h34m33.71s"),
    ] {
        assert_eq!(super::super::headers::duration(nanos), said);
    }
}

/// By a limit that all share nobody measures what the others use: what is told is the same for much and for a little less.
#[test]
fn a_wait_for_what_others_use_tells_little() {
    let table = table(r#"[{"name": "all", "count": "tokens", "rate": "6000/minute"}]"#);
    let told = |used: u64| {
        let mut store = Memory::default();
        assert!(table.go(&mut store, &globex(), START, tokens(used, 0)).is_ok());
        let refused = table
            .go(&mut store, &acme(), START, tokens(6_000, 0))
            .unwrap_err();
        let answer = refused.answer(&table, &acme());
        let headers = refused.headers(&table, Dialect::Anthropic, START);
        (answer.message.into_owned(), answer.retry, headers)
    };
    for (least, most, millis) in [
        (1, 100, 1_000),
        (201, 300, 3_000),
        (601, 1_000, 10_000),
        (2_001, 3_000, 30_000),
        (5_001, 6_000, 60_000),
    ] {
        let first = told(least);
        assert_eq!(first, told(most));
        assert_eq!(first.1, Retry::AfterMillis(millis));
        assert!(
            first.0.ends_with(&format!("in {}s.", millis / 1_000)) || millis == 60_000,
            "{}",
            first.0
        );
        assert!(!first.0.contains("Used"));
    }
    // Who waits as told passes, if nobody else comes.
    let mut store = Memory::default();
    assert!(table.go(&mut store, &globex(), START, tokens(1_234, 0)).is_ok());
    assert!(
        table
            .go(&mut store, &acme(), START + 20 * SECOND, tokens(6_000, 0))
            .is_ok()
    );
}

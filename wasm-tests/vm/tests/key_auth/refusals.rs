//! Every answer that key-auth makes in the upstream's place: its status, shape, headers, and what it keeps to
//! itself.

use serde_json::{Value, json};
use tollgate_core::key::ApiKey;
use tollgate_vm::{Hostcall, Outcome, Request, Status};

use crate::stage::{CHAT, Fleet, Gateway, decisions, expect_secret, fleet, inline, key, row, secret};

/// An answer as the contract has it.
#[derive(Clone, Copy)]
struct Expected {
    status: u16,
    code: &'static str,
    /// OpenAI's `type`.
    kind: &'static str,
    /// For operators.
    reason: &'static str,
}

const fn invalid(status: u16, code: &'static str, reason: &'static str) -> Expected {
    Expected {
        status,
        code,
        kind: "invalid_request_error",
        reason,
    }
}

/// A row of the contract that is refused for what the key is.
struct OfKey {
    row: Value,
    expected: Expected,
    headers: &'static [(&'static str, &'static str)],
    from: &'static str,
}

fn of_key(more: Value, expected: Expected) -> OfKey {
    OfKey {
        row: more,
        expected,
        headers: &[],
        from: "10.1.2.3",
    }
}

fn rows() -> Vec<OfKey> {
    vec![
        of_key(
            json!({"status": "revoked"}),
            invalid(401, "invalid_api_key", "revoked"),
        ),
        of_key(
            json!({"expires_at": "2026-01-01T00:00:00Z"}),
            invalid(401, "invalid_api_key", "expired"),
        ),
        of_key(
            json!({"not_before": "2026-01-01T00:00:01Z"}),
            invalid(401, "invalid_api_key", "not_yet_valid"),
        ),
        of_key(
            json!({"networks": ["192.0.2.0/24"]}),
            invalid(403, "ip_not_allowed", "ip_not_allowed"),
        ),
        of_key(
            json!({"org": "initech"}),
            invalid(403, "organization_suspended", "organization_suspended"),
        ),
        of_key(
            json!({"project": "frozen"}),
            invalid(403, "project_suspended", "project_suspended"),
        ),
        of_key(
            json!({"status": "suspended"}),
            invalid(403, "key_suspended", "key_suspended"),
        ),
        of_key(
            json!({"scopes": ["embeddings"]}),
            invalid(403, "insufficient_scope", "insufficient_scope"),
        ),
        OfKey {
            headers: &[("openai-organization", "globex")],
            ..of_key(
                json!({}),
                invalid(401, "mismatched_organization", "mismatched_organization"),
            )
        },
        OfKey {
            headers: &[("openai-project", "other")],
            ..of_key(
                json!({"project": "search"}),
                invalid(401, "mismatched_project", "mismatched_project"),
            )
        },
    ]
}

#[test]
fn what_a_key_is_decides_the_answer() {
    let rows = rows();
    let keys: Vec<ApiKey> = (0..).take(rows.len()).map(key).collect();
    let directory = rows
        .iter()
        .zip(&keys)
        .map(|(case, key)| row(key, case.row.clone()));
    let gateway = crate::stage::gateway(directory);
    for (case, key) in rows.iter().zip(&keys) {
        for path in [CHAT, "/v1/messages"] {
            let request = case.headers.iter().fold(
                gateway.filter.post(path).from(case.from),
                |request, (name, value)| request.header(name, value),
            );
            let outcome = request.bearer(key.reveal()).send();
            expect_answer(&outcome, path, case.expected);
            hides(&outcome, key);
        }
        expect_secret(&gateway.world, key);
        assert!(decisions(&gateway.world).contains(&(format!("deny.{}", case.expected.reason), 2)));
    }
}

#[test]
fn what_is_presented_decides_before_any_key_is_looked_up() {
    let (known, other) = (key(1), key(2));
    let gateway = crate::stage::gateway([row(&known, json!({})), row(&other, json!({}))]);
    let typo = format!("{}x", known.reveal());
    let long = "k".repeat(60_000);
    let of = |code, reason| invalid(401, code, reason);
    type Present<'a> = Box<dyn Fn(Request) -> Request + 'a>;
    let cases: Vec<(Present<'_>, Expected)> = vec![
        (
            Box::new(|request| request),
            of("missing_api_key", "missing_api_key"),
        ),
        (
            Box::new(|request| request.header("authorization", "Basic dXNlcjpwYXNz")),
            of("missing_api_key", "missing_api_key"),
        ),
        (
            Box::new(|request| request.header("x-api-key", "")),
            of("missing_api_key", "missing_api_key"),
        ),
        (
            Box::new(|request| request.bearer(&typo)),
            of("invalid_api_key", "malformed_key"),
        ),
        (
            Box::new(|request| request.bearer("sk-tg-")),
            of("invalid_api_key", "malformed_key"),
        ),
        (
            Box::new(|request| request.bearer(&long)),
            of("invalid_api_key", "malformed_key"),
        ),
        (
            Box::new(|request| request.bearer("hunter2")),
            of("invalid_api_key", "unknown_key"),
        ),
        (
            Box::new(|request| request.header("api-key", [0xff, 0xfe, b'k'])),
            of("invalid_api_key", "unknown_key"),
        ),
        (
            Box::new(|request| request.bearer(key(3).reveal())),
            of("invalid_api_key", "unknown_key"),
        ),
        (
            Box::new(|request| request.bearer(known.reveal()).header("x-api-key", other.reveal())),
            invalid(400, "ambiguous_credentials", "ambiguous_credentials"),
        ),
        (
            Box::new(|request| {
                request
                    .header("x-api-key", known.reveal())
                    .header("x-api-key", other.reveal())
            }),
            invalid(400, "ambiguous_credentials", "ambiguous_credentials"),
        ),
        (
            Box::new(|request| {
                let both = format!("Bearer {},Bearer {}", known.reveal(), other.reveal());
                request.header("authorization", both)
            }),
            invalid(400, "ambiguous_credentials", "ambiguous_credentials"),
        ),
        (
            Box::new(|request| request.header("authorization", format!("Bearer {},b", known.reveal()))),
            invalid(400, "ambiguous_credentials", "ambiguous_credentials"),
        ),
    ];
    for (present, expected) in &cases {
        for path in [CHAT, "/v1/messages"] {
            let outcome = present(gateway.filter.post(path)).send();
            expect_answer(&outcome, path, *expected);
            for key in [&known, &other, &key(3)] {
                hides(&outcome, key);
            }
        }
    }
    for secret in [
        "hunter2",
        secret(&known),
        secret(&other),
        secret(&key(3)),
        "dXNlcjpwYXNz",
    ] {
        gateway.world.expect_never_logged(secret);
    }
}

#[test]
fn too_many_failures_are_told_that_waiting_is_no_help() {
    let mut configuration = inline(&crate::stage::directory([]));
    configuration["failed_auth"] = json!({"rate": "1/minute", "burst": 1});
    let gateway = Gateway::of(configuration);
    let _ = gateway.chat().bearer("nobody").send().expect_refused(401);
    for path in [CHAT, "/v1/messages"] {
        let outcome = gateway.filter.post(path).bearer("nobody").send();
        let expected = Expected {
            status: 429,
            code: "rate_limit_exceeded",
            kind: "requests",
            reason: "auth_rate_limited",
        };
        expect_answer(&outcome, path, expected);
        outcome
            .expect_refused(429)
            .header("x-should-retry", "false")
            .no_header("retry-after")
            .no_header("retry-after-ms");
    }
}

#[test]
fn without_a_directory_one_may_try_again_shortly() {
    let Fleet { workers, .. } = fleet();
    for path in [CHAT, "/v1/messages"] {
        let outcome = workers[0].post(path).bearer(key(1).reveal()).send();
        let expected = Expected {
            status: 503,
            code: "directory_unavailable",
            kind: "service_unavailable_error",
            reason: "directory_unavailable",
        };
        expect_answer(&outcome, path, expected);
        outcome
            .expect_refused(503)
            .header("retry-after", "1")
            .header("retry-after-ms", "1000")
            .no_header("x-should-retry");
    }
}

#[test]
fn a_broken_gateway_says_so_and_no_more() {
    let key = key(1);
    let gateway = crate::stage::gateway([row(&key, json!({}))]);
    let _ = gateway
        .world
        .fault(Hostcall::SetProperty, Status::InternalFailure);
    for path in [CHAT, "/v1/messages"] {
        let outcome = gateway.filter.post(path).bearer(key.reveal()).send();
        let expected = Expected {
            status: 500,
            code: "gateway_misconfigured",
            kind: "server_error",
            reason: "misconfigured",
        };
        expect_answer(&outcome, path, expected);
        hides(&outcome, &key);
        outcome
            .expect_refused(500)
            .no_header("x-should-retry")
            .no_header("retry-after");
    }
    expect_secret(&gateway.world, &key);
}

/// A customer sees which key it was, an attacker does not see a key.
#[test]
fn the_key_is_shown_masked() {
    let (ours, gateway) = (key(7), crate::stage::gateway([]));
    let shown = |key: &str| gateway.chat().bearer(key).send().expect_refused(401).message();
    let whole = ours.reveal();
    let mask = format!("{}***{}", &whole[..8], &whole[whole.len() - 2..]);
    assert!(shown(whole).contains(&mask), "{}", shown(whole));
    assert!(shown("sk-proj-0123456789abcdefgh").contains("sk-proj-***gh"));
    // Of a short one, or one that would break out of the message, nothing is shown.
    for tell_tale in [
        "hunter2",
        "0123456789abcdefghi",
        "\"}{\"</script>evil-padding-x",
        "sk-t\u{202e}gnihton-to-see-here",
    ] {
        let message = shown(tell_tale);
        assert!(message.contains(" ***."), "{message}");
    }
}

/// One answer for unknown, revoked, expired and not yet valid: the body does not tell them apart.
#[test]
fn the_customer_cannot_tell_why_a_key_is_bad() {
    let bad = [
        json!({"status": "revoked"}),
        json!({"expires_at": "2020-01-01T00:00:00Z"}),
        json!({"not_before": "2030-01-01T00:00:00Z"}),
    ];
    let bodies: Vec<String> = bad
        .iter()
        .map(|more| body_of(crate::stage::gateway([row(&key(1), more.clone())])))
        .collect();
    let unknown = body_of(crate::stage::gateway([]));
    assert!(bodies.iter().all(|body| *body == unknown), "{bodies:?}");
}

fn body_of(gateway: Gateway) -> String {
    let outcome = gateway.chat().bearer(key(1).reveal()).send();
    String::from_utf8(outcome.expect_refused(401).bytes()).unwrap()
}

#[track_caller]
fn expect_answer(outcome: &Outcome, path: &str, expected: Expected) {
    let answer = outcome.expect_refused(expected.status);
    answer
        .details(&format!("tollgate_{}", expected.reason))
        .header("content-type", "application/json")
        .no_header("x-tollgate-org")
        .no_header("x-tollgate-key-id");
    match expected.status {
        401 => answer.header("www-authenticate", "Bearer"),
        _ => answer.no_header("www-authenticate"),
    };
    let (body, message) = (answer.json(), answer.message());
    assert!(message.len() > 20, "{message}");
    let wanted = if path == "/v1/messages" {
        let id = body["request_id"].as_str().unwrap();
        assert!(id.starts_with("00000000-"), "{id}");
        json!({"type": "error", "error": {"type": anthropic(expected.status), "message": message}, "request_id": id})
    } else {
        json!({"error": {"message": message, "type": expected.kind, "param": null, "code": expected.code}})
    };
    assert_eq!(body, wanted);
}

fn anthropic(status: u16) -> &'static str {
    match status {
        400 => "invalid_request_error",
        401 => "authentication_error",
        403 => "permission_error",
        429 => "rate_limit_error",
        500 => "api_error",
        503 => "overloaded_error",
        other => panic!("no row of the contract has {other}"),
    }
}

#[track_caller]
fn hides(outcome: &Outcome, key: &ApiKey) {
    let received = String::from_utf8_lossy(&outcome.received()).into_owned();
    // Ten characters are more than a mask may show.
    let shown = secret(key)
        .as_bytes()
        .windows(10)
        .any(|part| received.as_bytes().windows(10).any(|found| found == part));
    assert!(!shown, "{received}");
}

//! The API as its clients see it, on both databases.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails by panicking"
)]

mod support;

use axum::http::Method;
use serde_json::{Value, json};
use support::{Plane, on_each};
use tollgate_core::key::{Form, KeyHash, form};

#[tokio::test]
async fn a_key_is_made_shown_once_changed_and_revoked() {
    on_each(async |plane: Plane| {
        plane.org("acme").await;
        let made = plane
            .post(
                "/v1/keys",
                json!({"org": "acme", "project": "search", "name": "ci", "scopes": ["chat"]}),
            )
            .await
            .expect(201);
        let (secret, id) = (made.text("secret"), made.text("id"));
        assert_eq!(form(secret.as_bytes()), Form::Ours);
        assert_eq!(made.header("cache-control"), "no-store");
        assert_eq!(made.text("sha256"), KeyHash::of(secret.as_bytes()).to_string());

        let path = format!("/v1/keys/{id}");
        let shown = plane.get(&path).await.expect(200);
        assert!(shown.body.get("secret").is_none());
        assert_eq!(shown.header("etag"), "\"1\"");
        let changed = plane
            .patch(&path, json!({"name": "nightly", "scopes": null}))
            .await
            .expect(200);
        assert_eq!(
            (changed.text("name"), changed.body.get("scopes")),
            ("nightly".into(), None)
        );
        assert_eq!(changed.header("etag"), "\"2\"");

        let revoked = plane.post(&format!("{path}/revoke"), json!({})).await.expect(200);
        let again = plane.post(&format!("{path}/revoke"), json!({})).await.expect(200);
        assert_eq!(
            (revoked.text("revoked_at"), revoked.header("etag")),
            (again.text("revoked_at"), again.header("etag"))
        );
        plane
            .patch(&path, json!({"name": "x"}))
            .await
            .expect(409)
            .says("was revoked at");

        let everything = plane.get("/v1/audit").await.expect(200).body.to_string();
        assert!(
            !everything.contains(&secret) && everything.contains("key.create"),
            "{everything}"
        );
        assert_eq!(plane.faults().await, [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn who_was_quicker_wins() {
    on_each(async |plane: Plane| {
        plane.org("acme").await;
        let change = async |tag: &'static str, tier: &str| {
            let body = Some(json!({"tier": tier}));
            plane
                .with(
                    &plane.owner,
                    Method::PATCH,
                    "/v1/orgs/acme",
                    body,
                    &[("if-match", tag)],
                )
                .await
        };
        assert_eq!(change("\"1\"", "free").await.expect(200).header("etag"), "\"2\"");
        change("\"1\"", "enterprise")
            .await
            .expect(412)
            .says("its revision is 2");
        change("3", "enterprise").await.expect(400).says("if-match");
        assert_eq!(plane.get("/v1/orgs/acme").await.text("tier"), "free");
    })
    .await;
}

#[tokio::test]
async fn a_create_that_is_sent_again_makes_nothing_new() {
    on_each(async |plane: Plane| {
        plane.org("acme").await;
        let create = async |key: &'static str, name: &str| {
            let body = Some(json!({"org": "acme", "name": name}));
            plane
                .with(
                    &plane.owner,
                    Method::POST,
                    "/v1/keys",
                    body,
                    &[("idempotency-key", key)],
                )
                .await
        };
        let first = create("a", "ci").await.expect(201);
        let again = create("a", "ci").await.expect(201);
        assert_eq!(
            (first.text("id"), again.header("idempotency-replayed")),
            (again.text("id"), "true")
        );
        assert!(again.body.get("secret").is_none(), "it was not kept");
        create("a", "other").await.expect(409).says("another request");
        assert_ne!(create("b", "ci").await.expect(201).text("id"), first.text("id"));
        assert_eq!(
            plane.get("/v1/keys").await.body["items"]
                .as_array()
                .unwrap()
                .len(),
            2
        );
    })
    .await;
}

/// A dry run of what was done already would change nothing.
#[tokio::test]
async fn a_dry_run_with_a_used_idempotency_key_is_a_preview() {
    let plane = Plane::sqlite().await;
    plane.org("acme").await;
    for (path, body) in [
        ("/v1/keys", json!({"org": "acme"})),
        ("/v1/orgs", json!({"id": "globex"})),
        ("/v1/orgs/acme/projects", json!({"id": "x"})),
        ("/v1/tokens", json!({"role": "viewer"})),
        ("/v1/freezes", json!({"target": {"org": "acme"}, "reason": "x"})),
    ] {
        let key = format!("key of {path}");
        let create = async |query: &str| {
            let path = format!("{path}{query}");
            let headers = [("idempotency-key", key.as_str())];
            plane
                .with(&plane.owner, Method::POST, &path, Some(body.clone()), &headers)
                .await
        };
        create("").await.expect(201);
        let shown = create("?dry_run=true").await.expect(200);
        assert_eq!(shown.body, json!({"dry_run": true, "changes": []}));
    }
}

#[tokio::test]
async fn a_dry_run_shows_and_changes_nothing() {
    on_each(async |plane: Plane| {
        plane.org("acme").await;
        let before = plane.get("/v1/audit").await.body;
        let shown = plane
            .patch("/v1/orgs/acme?dry_run=true", json!({"tier": "free"}))
            .await
            .expect(200);
        let change = &shown.body["changes"][0];
        assert_eq!(
            (&change["before"]["tier"], &change["after"]["tier"]),
            (&json!("pro"), &json!("free"))
        );
        let shown = plane
            .post("/v1/keys?dry_run=true", json!({"org": "acme"}))
            .await
            .expect(200);
        assert_eq!(
            (shown.body["dry_run"].clone(), shown.body.get("secret")),
            (json!(true), None)
        );
        assert_eq!(plane.get("/v1/audit").await.body, before);
        assert_eq!(plane.get("/v1/keys").await.body["items"], json!([]));
    })
    .await;
}

#[tokio::test]
async fn what_the_filters_would_refuse_cannot_be_written() {
    on_each(async |plane: Plane| {
        plane.org("acme").await;
        for (path, body, field, says) in [
            ("/v1/orgs", json!({"id": "a b"}), "", "1 to 64 characters"),
            (
                "/v1/orgs",
                json!({"id": "x", "models": ["llama 70b"]}),
                "models[0]",
                "a model name or pattern",
            ),
            (
                "/v1/orgs",
                json!({"id": "x", "labels": {"a": "b\n"}}),
                "labels.a",
                "without control characters",
            ),
            (
                "/v1/orgs",
                json!({"id": "x", "teir": "pro"}),
                "teir",
                "there are `tier`, `status`, `models`",
            ),
            (
                "/v1/orgs",
                json!({"id": "x", "contacts": ["x".repeat(129)]}),
                "contacts",
                "at most 128",
            ),
            (
                "/v1/keys",
                json!({"org": "acme", "contacts": ["mine: sk-tg-ln18t5vyaqki-0WAzjfUVHpFnzMZP5rrZGHkpYKa7jrj3HYAPiq7nxcFm6G"]}),
                "contacts",
                "which is to be kept nowhere",
            ),
            (
                "/v1/keys?reason=leaked+sk-tg-ln18t5vyaqki-0WAzjfUVHpFnzMZP5rrZGHkpYKa7jrj3HYAPiq7nxcFm6G",
                json!({"org": "acme"}),
                "reason",
                "which is to be kept nowhere",
            ),
            (
                "/v1/freezes",
                json!({"target": {"org": "acme"}, "reason": "tg-token-x14ao9wq7k44-OtgblLZ2ucUW6iIKnVLl2v9DPLDXiF15SBzYwEOHzm7"}),
                "reason",
                "which is to be kept nowhere",
            ),
            (
                "/v1/orgs",
                json!({"id": "x", "status": "frozen"}),
                "status",
                "expected `active` or `suspended`",
            ),
            (
                "/v1/keys",
                json!({"org": "acme", "name": "x".repeat(65)}),
                "name",
                "at most 64 characters",
            ),
            (
                "/v1/keys",
                json!({"org": "acme", "expires_at": "2020-01-01T00:00:00Z"}),
                "expires_at",
                "still to come",
            ),
            ("/v1/orgs", json!({"tier": "pro"}), "id", "expected the name"),
            (
                "/v1/orgs/acme/projects",
                json!({"id": "p", "models": "llama"}),
                "models",
                "expected",
            ),
            (
                "/v1/keys",
                json!({"org": "nobody"}),
                "org",
                "an organization that exists",
            ),
            (
                "/v1/keys",
                json!({"org": "acme", "project": "nothing"}),
                "project",
                "a project of `acme`",
            ),
            (
                "/v1/keys",
                json!({"org": "acme", "scopes": ["chats"]}),
                "scopes[0]",
                "chat",
            ),
            (
                "/v1/keys",
                json!({"org": "acme", "scopes": []}),
                "scopes",
                "good for nothing",
            ),
            (
                "/v1/keys",
                json!({"org": "acme", "networks": ["10.0.0.1/8"]}),
                "networks[0]",
                "a network such as",
            ),
            (
                "/v1/keys",
                json!({"org": "acme", "expires_at": "soon"}),
                "expires_at",
                "RFC 3339",
            ),
            (
                "/v1/keys",
                json!({"org": "acme", "status": "on"}),
                "status",
                "active",
            ),
            ("/v1/tokens", json!({"role": "god"}), "role", "owner"),
            (
                "/v1/tokens",
                json!({"role": "viewer", "orgs": ["nobody"]}),
                "orgs[0]",
                "exists",
            ),
            (
                "/v1/tokens",
                json!({"role": "viewer", "expires_at": "2001-01-01T00:00:00Z"}),
                "expires_at",
                "still to come",
            ),
            (
                "/v1/freezes",
                json!({"target": {"org": "acme"}, "reason": " "}),
                "reason",
                "say why",
            ),
            (
                "/v1/freezes",
                json!({"target": {"org": "acme"}, "reason": "x", "for": "soon"}),
                "for",
                "30m",
            ),
        ] {
            let answer = plane.post(path, body.clone()).await;
            let answer = answer.expect(422);
            answer.says(says);
            assert_eq!(
                answer.body["errors"][0]["field"], field,
                "{body}: {}",
                answer.body
            );
        }
        plane
            .post("/v1/orgs", json!({"id": "acme"}))
            .await
            .expect(409)
            .says("exists already");
        plane
            .post("/v1/freezes", json!({"target": {"key": "none"}, "reason": "x"}))
            .await
            .expect(404);
        let broken =
            axum::http::Request::post("/v1/orgs").header("authorization", format!("Bearer {}", plane.owner));
        plane
            .ask(broken.body("{\"id\": ".into()).unwrap())
            .await
            .expect(422);
        let huge =
            axum::http::Request::post("/v1/orgs").header("authorization", format!("Bearer {}", plane.owner));
        plane
            .ask(huge.body(vec![b' '; 300_000].into()).unwrap())
            .await
            .expect(413);
        plane.get("/v1/nothing").await.expect(404).says("/openapi.json");
        plane.delete("/v1/keys").await.expect(405).says("/openapi.json");
        plane.get("/v1/keys?limit=0").await.expect(422);
        plane.get("/v1/keys?limits=5").await.expect(400).says("limits");
    })
    .await;
}

/// They would be shown raw, and turn what follows.
#[tokio::test]
async fn characters_that_nobody_sees_are_refused() {
    let plane = Plane::sqlite().await;
    plane.org("acme").await;
    for c in [
        '\u{202e}',
        '\u{2066}',
        '\u{200b}',
        '\u{2028}',
        '\u{2029}',
        '\u{feff}',
        '\u{ad}',
        '\u{e0041}',
    ] {
        let text = format!("a{c}b");
        for (path, body, field) in [
            ("/v1/orgs", json!({"id": "x", "labels": {"a": text}}), "labels.a"),
            ("/v1/orgs", json!({"id": "x", "labels": {&text: "a"}}), "labels"),
            ("/v1/orgs", json!({"id": "x", "contacts": [text]}), "contacts"),
            (
                "/v1/orgs/acme/projects",
                json!({"id": "x", "labels": {"a": text}}),
                "labels.a",
            ),
            ("/v1/keys", json!({"org": "acme", "name": text}), "name"),
            ("/v1/tokens", json!({"role": "viewer", "name": text}), "name"),
            (
                "/v1/freezes",
                json!({"target": {"org": "acme"}, "reason": text}),
                "reason",
            ),
        ] {
            let answer = plane.post(path, body.clone()).await.expect(422);
            answer.says("nobody sees");
            assert_eq!(answer.body["errors"][0]["field"], field, "{body}");
        }
    }
    // What people write stays.
    let name = json!({"org": "acme", "name": "Žluťoučký 鍵 🔑"});
    plane.post("/v1/keys", name).await.expect(201);
}

/// They can't stand in a path, so that nothing could be done with them.
#[tokio::test]
async fn names_that_a_url_would_drop_are_refused() {
    let plane = Plane::sqlite().await;
    plane.org("acme").await;
    for id in [".", ".."] {
        let row = json!({"id": id, "sha256": "1".repeat(64), "org": "acme"});
        for (path, body) in [
            ("/v1/orgs", json!({"id": id})),
            ("/v1/orgs/acme/projects", json!({"id": id})),
            ("/v1/import", json!({"keys": [row]})),
        ] {
            let answer = plane.post(path, body).await.expect(422);
            answer.says("another name than `.` and `..`");
        }
    }
}

#[tokio::test]
async fn a_time_is_rfc_3339_and_nothing_more() {
    let plane = Plane::sqlite().await;
    plane.org("acme").await;
    let key = plane.post("/v1/keys", json!({"org": "acme"})).await.text("id");
    for time in ["2090-01-01T00:00:00+01:00[Europe/Berlin]", "2090-01-01 00:00:00Z"] {
        let row = json!({"id": "x", "sha256": "1".repeat(64), "org": "acme", "expires_at": time});
        for (path, body) in [
            ("/v1/keys", json!({"org": "acme", "expires_at": time})),
            ("/v1/keys", json!({"org": "acme", "not_before": time})),
            ("/v1/tokens", json!({"role": "viewer", "expires_at": time})),
            ("/v1/import", json!({"keys": [row]})),
        ] {
            plane.post(path, body).await.expect(422).says("RFC 3339");
        }
        let change = plane
            .patch(&format!("/v1/keys/{key}"), json!({"expires_at": time}))
            .await;
        change.expect(422).says("RFC 3339");
    }
}

/// A proxy before the server may have read the other one.
#[tokio::test]
async fn a_header_that_is_there_twice_is_refused() {
    let plane = Plane::sqlite().await;
    let viewer = plane.token("viewer", None).await;
    let request = |tokens: [&str; 2]| {
        let [one, two] = tokens.map(|token| format!("Bearer {token}"));
        let request = axum::http::Request::get("/v1/tokens");
        let request = request.header("authorization", one).header("authorization", two);
        request.body(axum::body::Body::empty()).unwrap()
    };
    for tokens in [[&*plane.owner, &*viewer], [&*viewer, &*plane.owner]] {
        plane
            .ask(request(tokens))
            .await
            .expect(400)
            .says("`authorization` is there more than once");
    }
    for path in ["/v1/orgs", "/healthz", "/nowhere"] {
        let request = axum::http::Request::get(path)
            .header("host", "one")
            .header("host", "one");
        let answer = plane.ask(request.body(axum::body::Body::empty()).unwrap()).await;
        answer.expect(400).says("`host` is there more than once");
    }
}

/// Of two members with one name a proxy, or whoever reads the request in a log, may have read the other one.
#[tokio::test]
async fn a_member_that_is_there_twice_is_refused() {
    let plane = Plane::sqlite().await;
    plane.org("acme").await;
    for (method, path, body, name) in [
        ("POST", "/v1/orgs", r#"{"id": "a", "tier": "x", "id": "b"}"#, "id"),
        (
            "PATCH",
            "/v1/orgs/acme",
            r#"{"labels": {"a": "b", "\u0061": "c"}}"#,
            "a",
        ),
        ("POST", "/v1/keys", r#"{"org": "acme", "org": "acme"}"#, "org"),
        (
            "POST",
            "/v1/tokens",
            r#"{"role": "viewer", "role": "owner"}"#,
            "role",
        ),
        (
            "POST",
            "/v1/freezes",
            r#"{"target": {"org": "acme", "org": "b"}, "reason": "x"}"#,
            "org",
        ),
        (
            "POST",
            "/v1/import",
            r#"{"keys": [{"id": "a", "id": "b"}]}"#,
            "id",
        ),
        (
            "POST",
            "/v1/audit/verify",
            r#"{"checkpoints": [], "checkpoints": []}"#,
            "checkpoints",
        ),
    ] {
        let request = axum::http::Request::builder().method(method).uri(path);
        let request = request.header("authorization", format!("Bearer {}", plane.owner));
        let answer = plane.ask(request.body(body.into()).unwrap()).await;
        let told = format!("the member `{name}` is there twice");
        answer.expect(400).says(&told);
    }
    assert_eq!(
        plane.get("/v1/orgs").await.body["items"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

const KEY: &str = "sk-tg-ln18t5vyaqki-0WAzjfUVHpFnzMZP5rrZGHkpYKa7jrj3HYAPiq7nxcFm6G";
const TOKEN: &str = "tg-token-x14ao9wq7k44-OtgblLZ2ucUW6iIKnVLl2v9DPLDXiF15SBzYwEOHzm7";

/// A text with nothing percent-encoded in it any more.
fn decoded(text: &str) -> String {
    let mut pieces = text.split('%');
    let mut plain = pieces.next().unwrap().to_owned();
    for piece in pieces {
        match piece.get(..2).map(|digits| u8::from_str_radix(digits, 16)) {
            Some(Ok(byte)) => plain += &format!("{}{}", char::from(byte), &piece[2..]),
            _ => plain += piece,
        }
    }
    if plain == text { plain } else { decoded(&plain) }
}

/// A key or token in the wrong place is neither kept nor repeated.
#[tokio::test]
async fn credentials_in_the_wrong_place_are_neither_kept_nor_told() {
    let plane = Plane::sqlite().await;
    plane.org("acme").await;
    let limits = |name: &str| json!({name: {"rate": "1/minute"}});
    let restrict = |target: Value| json!({"target": target, "reason": "x"});
    // As long as names may be.
    let name = &TOKEN[..60];
    let rows = [
        ("/v1/orgs", json!({"id": name}), "id"),
        ("/v1/orgs", json!({"id": "x", "tier": name}), "tier"),
        ("/v1/orgs", json!({"id": "x", "labels": {"a": KEY}}), "labels.a"),
        (
            "/v1/orgs",
            json!({"id": "x", "labels": {"a": format!("x{TOKEN}")}}),
            "labels.a",
        ),
        ("/v1/orgs", json!({"id": "x", "labels": {name: "a"}}), "labels"),
        ("/v1/orgs", json!({"id": "x", "models": ["a", KEY]}), "models[1]"),
        (
            "/v1/orgs",
            json!({"id": "x", "limits": limits(&KEY.to_lowercase())}),
            "limits",
        ),
        ("/v1/orgs/acme/projects", json!({"id": name}), "id"),
        (
            "/v1/orgs/acme/projects",
            json!({"id": "x", "models": [TOKEN]}),
            "models[0]",
        ),
        (
            "/v1/orgs/acme/projects",
            json!({"id": "x", "labels": {"a": KEY}}),
            "labels.a",
        ),
        ("/v1/keys", json!({"org": "acme", "models": [KEY]}), "models[0]"),
        ("/v1/keys", json!({"org": "acme", "name": name}), "name"),
        ("/v1/keys?reason=x{KEY}", json!({"org": "acme"}), "reason"),
        (
            "/v1/import",
            json!({"keys": [{"id": name, "sha256": "1".repeat(64), "org": "acme"}]}),
            "id",
        ),
        ("/v1/tokens", json!({"role": "viewer", "name": name}), "name"),
        (
            "/v1/restrictions",
            restrict(json!({"cluster": TOKEN})),
            "target.cluster",
        ),
        (
            "/v1/restrictions",
            restrict(json!({"models": {"tier": name}})),
            "target.models.tier",
        ),
    ];
    for (path, body, field) in rows {
        let answer = plane
            .post(&path.replace("{KEY}", KEY), body.clone())
            .await
            .expect(422);
        answer.says("which is to be kept nowhere");
        assert_eq!(
            answer.body["errors"][0]["field"], field,
            "{body}: {}",
            answer.body
        );
        assert!(
            !answer.body.to_string().contains(&TOKEN[20..40]),
            "{}",
            answer.body
        );
    }
    let headers = [("idempotency-key", TOKEN)];
    let body = Some(json!({"id": "x"}));
    let again = plane
        .with(&plane.owner, Method::POST, "/v1/orgs", body, &headers)
        .await;
    again.expect(422).says("which is to be kept nowhere");

    // Errors about something else.
    for secret in [KEY, TOKEN] {
        for (method, path, body) in [
            (Method::PATCH, "/v1/orgs/acme", json!({secret: 1})),
            (Method::PATCH, "/v1/orgs/acme", json!({secret: null})),
            (
                Method::PATCH,
                "/v1/orgs/acme",
                json!({"labels": {"a": {secret: 1}}}),
            ),
            (Method::PATCH, "/v1/orgs/acme", json!({"status": secret})),
            (Method::PATCH, "/v1/orgs/acme?{}=1", json!({"tier": "x"})),
            (Method::PATCH, "/v1/orgs/acme?dry_run={}", json!({"tier": "x"})),
            (Method::POST, "/v1/tokens", json!({"role": secret})),
            (
                Method::POST,
                "/v1/tokens",
                json!({"role": "viewer", "orgs": [secret]}),
            ),
            (Method::POST, "/v1/tokens", json!({"role": "viewer", secret: 1})),
            (Method::POST, "/v1/orgs", json!({"id": secret})),
            (Method::POST, "/v1/orgs/{}/projects", json!({"id": "x"})),
            (Method::POST, "/v1/orgs/acme/projects", json!({"id": secret})),
            (Method::POST, "/v1/keys", json!({"org": secret})),
            (
                Method::POST,
                "/v1/keys",
                json!({"org": "acme", "project": secret}),
            ),
            (
                Method::POST,
                "/v1/keys",
                json!({"org": "acme", "scopes": [secret]}),
            ),
            (
                Method::POST,
                "/v1/keys",
                json!({"org": "acme", "expires_at": secret}),
            ),
            (
                Method::POST,
                "/v1/import",
                json!({"keys": [{"id": secret, "sha256": secret, "org": "acme"}]}),
            ),
            (
                Method::POST,
                "/v1/import",
                json!({"keys": [{"id": "x", "sha256": "1".repeat(64), "org": secret}]}),
            ),
            (
                Method::POST,
                "/v1/freezes",
                json!({"target": {"key": secret}, "reason": "x"}),
            ),
            (
                Method::POST,
                "/v1/freezes",
                json!({"target": {secret: "x"}, "reason": "x"}),
            ),
            (Method::POST, "/v1/keys/{}/revoke", json!({})),
        ] {
            let path = path.replace("{}", secret);
            let answer = plane
                .as_token(&plane.owner, method, &path, Some(body.clone()))
                .await;
            assert!(answer.status.is_client_error(), "{path} {body}: {}", answer.body);
            let told = answer.body.to_string();
            assert!(!told.contains(&secret[20..40]), "{path} {body}: {told}");
        }
    }
    // However it is spelled in a path.
    for secret in [KEY, TOKEN] {
        let mut encoded = secret.to_owned();
        for _ in 0..3 {
            encoded = encoded.bytes().map(|byte| format!("%{byte:02X}")).collect();
            for path in [
                "/v1/keys/{}",
                "/v1/keys/{}%00",
                "/v1/orgs/{}",
                "/v1/keys?after={}&limit={}",
                "/v1/keys?{}=1",
            ] {
                let answer = plane.get(&path.replace("{}", &encoded)).await;
                assert!(answer.status.is_client_error(), "{path}: {}", answer.body);
                let told = answer.body.to_string();
                assert!(!decoded(&told).contains(&secret[20..40]), "{path}: {told}");
            }
        }
    }
    let kept = plane.get("/v1/audit?limit=1000").await.body.to_string();
    assert!(!kept.contains(&TOKEN[20..40]) && !kept.contains(&KEY[20..40]));
}

#[tokio::test]
async fn a_key_is_rotated_and_that_undone() {
    on_each(async |plane: Plane| {
        plane.org("acme").await;
        let old = plane
            .post(
                "/v1/keys",
                json!({"org": "acme", "expires_at": "2090-01-01T00:00:00Z"}),
            )
            .await
            .expect(201)
            .text("id");
        let rotate = format!("/v1/keys/{old}/rotate");
        let new = plane.post(&rotate, json!({"overlap": "1h"})).await.expect(201);
        let again = plane.post(&rotate, json!({"overlap": "1h"})).await.expect(200);
        assert_eq!(
            (new.text("id"), again.body.get("secret")),
            (again.text("id"), None)
        );
        assert_eq!(new.text("rotated_from"), old);
        assert_eq!(new.text("expires_at"), "2090-01-01T00:00:00Z");
        assert!(
            plane
                .get(&format!("/v1/keys/{old}"))
                .await
                .text("expires_at")
                .as_str()
                < "2090"
        );

        let undone = plane
            .post(&format!("/v1/keys/{old}/undo-rotation"), json!({}))
            .await
            .expect(200);
        assert_eq!(undone.text("expires_at"), "2090-01-01T00:00:00Z");
        let new = plane.get(&format!("/v1/keys/{}", new.text("id"))).await;
        assert!(new.body["revoked_at"].is_string());
        plane
            .post(&format!("/v1/keys/{old}/undo-rotation"), json!({}))
            .await
            .expect(409)
            .says("not being rotated");

        plane.post(&rotate, json!({"overlap": "0s"})).await.expect(201);
        assert!(plane.get(&format!("/v1/keys/{old}")).await.body["revoked_at"].is_string());
        assert_eq!(plane.faults().await, [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn a_key_whose_new_one_was_revoked_is_rotated_anew() {
    on_each(async |plane: Plane| {
        plane.org("acme").await;
        let body = json!({"org": "acme", "expires_at": "2090-01-01T00:00:00Z"});
        let old = plane.post("/v1/keys", body).await.expect(201).text("id");
        let rotate = format!("/v1/keys/{old}/rotate");
        let lost = plane.post(&rotate, json!({})).await.expect(201).text("id");
        plane
            .post(&format!("/v1/keys/{lost}/revoke"), json!({}))
            .await
            .expect(200);
        let new = plane.post(&rotate, json!({"overlap": "48h"})).await.expect(201);
        assert_ne!(new.text("id"), lost);
        assert_eq!(new.text("rotated_from"), old);
        // Not when the old one was to end for the rotation that came to nothing.
        assert_eq!(new.text("expires_at"), "2090-01-01T00:00:00Z");
        assert!(new.body.get("rotation").is_none(), "{}", new.body);
        let again = plane.post(&rotate, json!({})).await.expect(200);
        assert_eq!(again.text("id"), new.text("id"));
        let undone = plane
            .post(&format!("/v1/keys/{old}/undo-rotation"), json!({}))
            .await
            .expect(200);
        assert_eq!(undone.text("expires_at"), "2090-01-01T00:00:00Z");
        assert_eq!(plane.faults().await, [""; 0]);
    })
    .await;
}

/// Undone out of turn, a rotation would leave the newest key good beside the oldest.
#[tokio::test]
async fn rotations_are_undone_from_the_last() {
    on_each(async |plane: Plane| {
        plane.org("acme").await;
        let rotate = async |key: &str, status: u16| {
            let path = format!("/v1/keys/{key}/rotate");
            plane.post(&path, json!({})).await.expect(status).text("id")
        };
        let undo = async |key: &str| {
            plane
                .post(&format!("/v1/keys/{key}/undo-rotation"), json!({}))
                .await
        };
        let x = plane.post("/v1/keys", json!({"org": "acme"})).await.text("id");
        let y = rotate(&x, 201).await;
        let z = rotate(&y, 201).await;
        assert_eq!(rotate(&x, 200).await, z, "the newest");
        let refused = undo(&x).await.expect(409);
        refused.says(&y);
        refused.says(&z);
        undo(&y).await.expect(200);
        undo(&x).await.expect(200);
        for key in [&y, &z] {
            let key = plane.get(&format!("/v1/keys/{key}")).await.body;
            assert!(key["revoked_at"].is_string(), "{key}");
        }

        // Nor is it in the way once it is good for nothing.
        let y = rotate(&x, 201).await;
        let z = rotate(&y, 201).await;
        plane
            .post(&format!("/v1/keys/{z}/revoke"), json!({}))
            .await
            .expect(200);
        assert_eq!(rotate(&x, 200).await, y, "the newest that is good");
        undo(&x).await.expect(200);
        let y = plane.get(&format!("/v1/keys/{y}")).await.body;
        assert!(y["revoked_at"].is_string(), "{y}");
        assert_eq!(plane.faults().await, [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn a_freeze_is_in_force_until_it_ends() {
    on_each(async |plane: Plane| {
        plane.org("acme").await;
        let freeze = plane
            .post(
                "/v1/freezes",
                json!({"target": {"project": "acme/search"}, "reason": "leak", "for": "30m"}),
            )
            .await
            .expect(201);
        let id = freeze.text("id");
        plane
            .post(
                "/v1/freezes",
                json!({"target": {"project": "acme/search"}, "reason": "too"}),
            )
            .await
            .expect(409)
            .says(&id);
        assert_eq!(plane.get("/v1/freezes").await.body["items"][0]["reason"], "leak");
        let document = plane.get("/v1/directory").await.expect(200).body;
        assert_eq!(
            document["orgs"]["acme"]["projects"]["search"]["status"],
            "suspended"
        );
        plane
            .post(&format!("/v1/freezes/{id}/end"), json!({}))
            .await
            .expect(200);
        plane
            .post(&format!("/v1/freezes/{id}/end"), json!({}))
            .await
            .expect(200);
        assert_eq!(plane.get("/v1/freezes").await.body["items"], json!([]));
        let document = plane.get("/v1/directory").await.body;
        assert_eq!(document["orgs"]["acme"]["projects"]["search"]["status"], "active");
        assert_eq!(plane.faults().await, [""; 0]);
    })
    .await;
}

/// Those in force are read by an index of them alone; those that ended come in pages.
#[tokio::test]
async fn freezes_that_ended_cost_nothing() {
    on_each(async |plane: Plane| {
        plane.org("acme").await;
        let mut made = Vec::new();
        for project in ["a", "b", "c", "d", "e"] {
            plane
                .post("/v1/orgs/acme/projects", json!({"id": project}))
                .await
                .expect(201);
            let body = json!({"target": {"project": format!("acme/{project}")}, "reason": "x"});
            made.push(plane.post("/v1/freezes", body).await.expect(201).text("id"));
        }
        made.sort();
        for id in &made[..3] {
            plane
                .post(&format!("/v1/freezes/{id}/end"), json!({}))
                .await
                .expect(200);
        }
        let listed = async |query: &str| {
            let answer = plane.get(&format!("/v1/freezes{query}")).await.expect(200).body;
            let ids = answer["items"].as_array().unwrap().iter();
            let ids: Vec<String> = ids.map(|one| one["id"].as_str().unwrap().to_owned()).collect();
            (ids, answer["next"].as_str().map(str::to_owned))
        };
        assert_eq!(listed("").await, (made[3..].to_vec(), None));
        assert_eq!(
            listed("?limit=1").await,
            (made[3..4].to_vec(), Some(made[3].clone()))
        );
        let second = format!("?org=acme&limit=1&after={}", made[3]);
        assert_eq!(listed(&second).await, (made[4..].to_vec(), None));
        assert_eq!(listed("?ended=true").await, (made.clone(), None));
        let first = listed("?ended=true&limit=2").await;
        assert_eq!(first, (made[..2].to_vec(), Some(made[1].clone())));
        let rest = format!("?ended=true&limit=3&after={}", made[1]);
        assert_eq!(listed(&rest).await, (made[2..].to_vec(), None));
        plane.get("/v1/freezes?limit=0").await.expect(422);

        let pool = sqlx::AnyPool::connect(&plane.address).await.unwrap();
        // PostgreSQL decides by how much there is, and here is next to nothing.
        let of_each = if plane.address.starts_with("sqlite:") {
            vec!["", "AND org = 'acme'"]
        } else {
            Vec::new()
        };
        for of_org in of_each {
            let plan = format!(
                "EXPLAIN QUERY PLAN SELECT revision, document FROM objects \
                 WHERE kind = 'freeze' AND id > '' AND in_force = 1 AND kind <> 'key' {of_org} ORDER BY id LIMIT 10"
            );
            let plan: Vec<(i64, i64, i64, String)> = sqlx::query_as(sqlx::AssertSqlSafe(plan))
                .fetch_all(&pool)
                .await
                .unwrap();
            assert!(
                plan.iter().any(|step| step.3.contains("objects_in_force")),
                "{plan:?}"
            );
        }
        let kept: (i64,) = sqlx::query_as("SELECT COUNT(*) FROM objects WHERE in_force = 1")
            .fetch_one(&pool)
            .await
            .unwrap();
        assert_eq!(kept, (2,));
        assert_eq!(plane.faults().await, [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn a_cap_is_in_force_until_it_ends() {
    on_each(async |plane: Plane| {
        plane.org("acme").await;
        let key = plane.post("/v1/keys", json!({"org": "acme"})).await.text("id");
        let cap = |target: Value| json!({"target": target, "rate": "10/second", "burst": 2, "reason": "x", "for": "1h"});
        let org = plane
            .post("/v1/caps", cap(json!({"org": "acme"})))
            .await
            .expect(201);
        plane
            .post("/v1/caps", cap(json!({"org": "acme"})))
            .await
            .expect(409)
            .says(&org.text("id"));
        let own = plane.post("/v1/caps", cap(json!({"key": key}))).await.expect(201);
        assert_eq!(
            plane.get("/v1/caps").await.body["items"].as_array().unwrap().len(),
            2
        );
        let document = plane.get("/v1/directory").await.expect(200).body;
        let rate = json!({"rate": "10/second", "burst": 2});
        assert_eq!(document["orgs"]["acme"]["cap"], rate);
        assert_eq!(document["keys"][0]["cap"], rate);
        // A key with another secret would have none.
        plane
            .post(&format!("/v1/keys/{key}/rotate"), json!({}))
            .await
            .expect(409)
            .says("is capped");
        for id in [org.text("id"), own.text("id")] {
            for _ in 0..2 {
                plane
                    .post(&format!("/v1/caps/{id}/end"), json!({}))
                    .await
                    .expect(200);
            }
        }
        assert_eq!(plane.get("/v1/caps").await.body["items"], json!([]));
        let document = plane.get("/v1/directory").await.body;
        assert!(!document.to_string().contains("cap"), "{document}");
        for (body, field) in [
            (json!({"target": {"project": "acme/search"}, "rate": "1/second", "reason": "x"}), "target"),
            (json!({"target": {"org": "acme"}, "rate": "10", "reason": "x"}), "rate"),
            (json!({"target": {"org": "acme"}, "rate": "1/second", "burst": 0, "reason": "x"}), "burst"),
        ] {
            let answer = plane.post("/v1/caps", body).await.expect(422);
            assert_eq!(answer.body["errors"][0]["field"], field, "{}", answer.body);
        }
        assert_eq!(plane.faults().await, [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn what_is_drained_or_shed_is_in_the_directory_until_it_ends() {
    on_each(async |plane: Plane| {
        plane.org("acme").await;
        let before = plane.get("/v1/directory").await;
        let restrict = |target: Value| json!({"target": target, "reason": "x", "for": "1h"});
        let (cluster, shed) = (
            json!({"cluster": "gpu-a"}),
            json!({"models": {"tier": "free", "model": "llama-*"}}),
        );
        let drain = plane
            .post("/v1/restrictions", restrict(cluster.clone()))
            .await
            .expect(201);
        let again = plane
            .post("/v1/restrictions", restrict(cluster))
            .await
            .expect(409);
        again.says("the target `gpu-a` is out of use already");
        again.says(&drain.text("id"));
        again.says("`tollgate undrain gpu-a`");
        plane
            .post("/v1/restrictions", restrict(shed.clone()))
            .await
            .expect(201);
        plane
            .post("/v1/restrictions", restrict(json!({"models": {"tier": "free"}})))
            .await
            .expect(201);
        plane
            .post("/v1/restrictions", restrict(shed))
            .await
            .expect(409)
            .says("the model `llama-*` for the tier `free` is out of use already");
        let document = plane.get("/v1/directory").await.expect(200);
        let mut shed = document.body["traffic"]["shed"].as_array().unwrap().clone();
        shed.sort_by_key(|row| row["model"].to_string());
        assert_eq!(
            (&document.body["traffic"]["drained"], json!(shed)),
            (
                &json!(["gpu-a"]),
                json!([{"tier": "free", "model": "*"}, {"tier": "free", "model": "llama-*"}])
            )
        );
        let after = |answer: &support::Answer| format!("/v1/directory?after={}", answer.version());
        let changes = plane.get(&after(&before)).await.expect(200);
        assert_eq!(
            changes.body["traffic"], document.body["traffic"],
            "{}",
            changes.body
        );
        assert_eq!(
            (&changes.body["orgs"], &changes.body["keys"]),
            (&json!({}), &json!([]))
        );

        let restrictions = plane.get("/v1/restrictions").await.body;
        for one in restrictions["items"].as_array().unwrap() {
            let path = format!("/v1/restrictions/{}/end", one["id"].as_str().unwrap());
            for _ in 0..2 {
                plane.post(&path, json!({})).await.expect(200);
            }
        }
        assert_eq!(plane.get("/v1/restrictions").await.body["items"], json!([]));
        let ended = plane.get("/v1/directory").await;
        assert_eq!(ended.body, before.body);
        let changes = plane.get(&after(&document)).await.expect(200);
        assert_eq!(changes.body["traffic"], json!({}));

        for (target, field) in [
            (json!({"org": "acme"}), "target"),
            (json!({"cluster": "gpu-*"}), "target.cluster"),
            (json!({"cluster": ""}), "target.cluster"),
            (json!({"models": {"tier": "a b"}}), "target.models.tier"),
            (
                json!({"models": {"tier": "free", "model": "a b"}}),
                "target.models.model",
            ),
        ] {
            let answer = plane.post("/v1/restrictions", restrict(target)).await.expect(422);
            assert_eq!(answer.body["errors"][0]["field"], field, "{}", answer.body);
        }
        for path in ["/v1/freezes", "/v1/caps"] {
            let mut body = restrict(json!({"cluster": "gpu-a"}));
            if path == "/v1/caps" {
                body["rate"] = json!("1/second");
            }
            let answer = plane.post(path, body).await.expect(422);
            assert_eq!(answer.body["errors"][0]["field"], "target", "{}", answer.body);
        }
        for n in 0..32 {
            let body = restrict(json!({"cluster": format!("c{n}")}));
            plane.post("/v1/restrictions", body).await.expect(201);
        }
        plane
            .post("/v1/restrictions", restrict(json!({"cluster": "one-more"})))
            .await
            .expect(409)
            .says("32 are in force already");
        assert_eq!(plane.faults().await, [""; 0]);
    })
    .await;
}

/// Bounds are checked as the filters check them, and a change replaces what it names.
#[tokio::test]
async fn limits_of_an_organization_and_a_key() {
    let plane = Plane::sqlite().await;
    plane.org("acme").await;
    let limits = json!({"org-rpm": {"rate": "5000/minute", "burst": 9000}, "org-concurrent": {"max": 40}});
    plane
        .patch("/v1/orgs/acme", json!({"limits": limits}))
        .await
        .expect(200);
    let key = json!({"org": "acme", "limits": {"key-rpm": {"rate": "7/minute"}}});
    plane.post("/v1/keys", key).await.expect(201);
    let document = plane.get("/v1/directory").await.expect(200).body;
    assert_eq!(document["orgs"]["acme"]["limits"], limits);
    assert_eq!(
        document["keys"][0]["limits"],
        json!({"key-rpm": {"rate": "7/minute"}})
    );
    plane
        .patch("/v1/orgs/acme", json!({"limits": {"org-rpm": null}}))
        .await
        .expect(200);
    let org = plane.get("/v1/orgs/acme").await.body;
    assert_eq!(org["limits"], json!({"org-concurrent": {"max": 40}}));
    for (limits, field) in [
        (json!({"a": {"rate": "1"}}), "limits.a.rate"),
        (json!({"a": {"rate": "1/day", "max": 1}}), "limits.a.max"),
        (json!({"A": {"max": 1}}), "limits.A"),
        (json!({"cap": {"max": 1}}), "limits.cap"),
        (json!({"a": {"rates": "1/day"}}), "limits.a.rates"),
    ] {
        let answer = plane
            .patch("/v1/orgs/acme", json!({"limits": limits}))
            .await
            .expect(422);
        assert_eq!(answer.body["errors"][0]["field"], field, "{}", answer.body);
    }
}

#[tokio::test]
async fn lists_come_in_pages() {
    let plane = Plane::sqlite().await;
    for org in ["a", "b", "c", "d", "e"] {
        plane.org(org).await;
    }
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = plane
            .get(&format!("/v1/orgs?limit=2{after}"))
            .await
            .expect(200)
            .body;
        seen.extend(
            page["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|org| org["id"].as_str().unwrap().to_owned()),
        );
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(seen, ["a", "b", "c", "d", "e"]);
}

#[tokio::test]
async fn nothing_that_is_used_is_removed() {
    on_each(async |plane: Plane| {
        plane.org("acme").await;
        let key = plane
            .post("/v1/keys", json!({"org": "acme", "project": "search"}))
            .await
            .expect(201)
            .text("id");
        plane
            .delete("/v1/orgs/acme")
            .await
            .expect(409)
            .says("still has keys");
        plane
            .delete("/v1/orgs/acme/projects/search")
            .await
            .expect(409)
            .says("still has keys");
        plane
            .post(&format!("/v1/keys/{key}/revoke"), json!({}))
            .await
            .expect(200);
        plane.delete("/v1/orgs/acme").await.expect(409).says("1 projects");
        plane.delete("/v1/orgs/acme/projects/search").await.expect(200);
        plane.delete("/v1/orgs/acme").await.expect(200);
        plane.get("/v1/orgs/acme").await.expect(404);
        plane
            .post("/v1/orgs", json!({"id": "acme"}))
            .await
            .expect(409)
            .says("choose another id");
        assert_eq!(plane.faults().await, [""; 0]);
    })
    .await;
}

/// Rows of keys that were taken over before stay as they are; the same ids for other keys are refused.
#[tokio::test]
async fn an_import_may_be_sent_again() {
    on_each(async |plane: Plane| {
        plane.org("acme").await;
        let row = |id: &str, digit: &str| json!({"id": id, "sha256": digit.repeat(64), "org": "acme"});
        let import = async |rows: Value| plane.post("/v1/import", json!({"keys": rows})).await;
        let first = import(json!([row("one", "1"), row("two", "2")]))
            .await
            .expect(201);
        assert_eq!(first.body, json!({"imported": 2, "existed": 0}));
        plane.post("/v1/keys/one/revoke", json!({})).await.expect(200);
        let again = json!([row("one", "1"), row("three", "3"), row("two", "2")]);
        let again = import(again).await.expect(201);
        assert_eq!(again.body, json!({"imported": 1, "existed": 2}));
        // It stays revoked.
        let key = plane.get("/v1/keys/one").await.body;
        assert!(key["revoked_at"].is_string(), "{key}");

        for other in [
            row("two", "4"),
            row("four", "2"),
            json!({"id": "two", "sha256": "2".repeat(64), "org": "none"}),
        ] {
            let status = import(json!([row("five", "5"), other])).await.status;
            assert!([409, 422].contains(&status.as_u16()), "{other}: {status}");
        }
        plane.get("/v1/keys/five").await.expect(404);
        let twice = import(json!([row("six", "6"), row("six", "6")])).await;
        assert!(!twice.status.is_success(), "{}", twice.body);

        let revoked = json!({"id": "old", "sha256": "7".repeat(64), "org": "acme", "status": "revoked"});
        import(json!([revoked])).await.expect(201);
        assert!(plane.get("/v1/keys/old").await.body["revoked_at"].is_string());
        let rows = plane.get("/v1/directory").await.body["keys"].clone();
        assert_eq!(rows.as_array().unwrap().len(), 2, "{rows}");
        // Its organization sees it in the trail.
        let token = plane.token("viewer", Some(&["acme"])).await;
        let trail = plane.as_token(&token, Method::GET, "/v1/audit", None).await;
        assert!(trail.body.to_string().contains("key.import"), "{}", trail.body);
        assert_eq!(plane.faults().await, [""; 0]);
    })
    .await;
}

/// PostgreSQL keeps no NUL: nothing has one, on either database.
#[tokio::test]
async fn nothing_has_a_nul() {
    on_each(async |plane: Plane| {
        plane.org("acme").await;
        for path in [
            "/v1/keys/%00",
            "/v1/orgs/a%00",
            "/v1/orgs/acme/projects/%00",
            "/v1/freezes/%00",
        ] {
            plane.get(path).await.expect(404);
        }
        plane.post("/v1/keys/a%00/revoke", json!({})).await.expect(404);
        for path in [
            "/v1/keys?org=%00",
            "/v1/keys?after=%00",
            "/v1/freezes?after=a%00",
            "/v1/audit?org=%00",
            "/v1/orgs?org=%00",
        ] {
            plane.get(path).await.expect(422).says("a NUL");
        }
        let reason = "/v1/keys?reason=%00";
        plane.post(reason, json!({"org": "acme"})).await.expect(422);
        for (path, body) in [
            ("/v1/keys", json!({"org": "\0"})),
            ("/v1/keys", json!({"org": "acme", "project": "a\0"})),
            ("/v1/keys", json!({"org": "acme", "contacts": ["\0"]})),
            ("/v1/orgs", json!({"id": "a", "labels": {"\0": "b"}})),
            ("/v1/freezes", json!({"target": {"key": "\0"}, "reason": "x"})),
            ("/v1/tokens", json!({"role": "viewer", "orgs": ["\0"]})),
            (
                "/v1/import",
                json!({"keys": [{"id": "\0", "sha256": "ab", "org": "acme"}]}),
            ),
        ] {
            plane.post(path, body).await.expect(422).says("a NUL");
        }
        // What only looks like one is text.
        let body = json!({"org": "acme", "name": "\\u0000"});
        plane.post("/v1/keys", body).await.expect(201);
    })
    .await;
}

/// Members have names: a list of values in the order of the code is nothing that anybody should send.
#[tokio::test]
async fn an_array_is_no_object() {
    let plane = Plane::sqlite().await;
    plane.org("acme").await;
    let key = plane.post("/v1/keys", json!({"org": "acme"})).await.text("id");
    let budget = json!({"id": "b", "scope": {"org": "acme"}, "unit": "tokens", "window": "day", "amount": 5});
    plane.post("/v1/budgets", budget.clone()).await.expect(201);
    let holder = "holder-0000000001";
    let mut labelled = budget;
    labelled["scope"] = json!({"label": ["a", "b"]});
    let message = json!(["0123456789abcdef", 1, 0, null, 0, 0, false, []]);
    for (path, body) in [
        ("/v1/budgets/exchange", json!([holder, []])),
        (
            "/v1/budgets/exchange",
            json!({"holder": holder, "items": [["b", null, 0, 0, 5, 0, 0, false]]}),
        ),
        ("/v1/fleet", message),
        ("/v1/budgets/b/raise", json!([5, "1h", "x"])),
        ("/v1/budgets", labelled),
        ("/v1/freezes", json!([{"key": key}, "x", null])),
        ("/v1/tokens", json!(["viewer", null, null, null])),
        (&*format!("/v1/keys/{key}/rotate"), json!(["1h"])),
        ("/v1/audit/verify", json!([[], null])),
        ("/v1/import", json!([[{"id": "a", "sha256": "b", "org": "acme"}]])),
        ("/v1/keys", json!([])),
        ("/v1/orgs", json!(["a"])),
    ] {
        let answer = plane.post(path, body.clone()).await;
        assert_eq!(answer.status, 422, "{path} {body}: {}", answer.body);
    }
    let limits = json!({"limits": {"key-rpm": ["5/minute", 5, null]}});
    plane.patch(&format!("/v1/keys/{key}"), limits).await.expect(422);
    let before = plane.get("/v1/audit?limit=1000").await.expect(200);
    assert_eq!(before.body["items"].as_array().unwrap().len(), 5);
}

/// By the hash of a key one learns of it, where one may see it at all.
#[tokio::test]
async fn a_key_is_found_by_its_hash() {
    on_each(async |plane: Plane| {
        let mut made = Vec::new();
        for org in ["acme", "globex", "initech"] {
            plane.org(org).await;
            made.push(plane.post("/v1/keys", json!({"org": org})).await.expect(201));
        }
        // One that is confined to several organizations names none.
        let customer = plane.token("viewer", Some(&["acme", "globex"])).await;
        let find = async |token: &str, query: &str| {
            let path = format!("/v1/keys?{query}");
            plane.as_token(token, Method::GET, &path, None).await
        };
        for (key, seen) in made.iter().zip([true, true, false]) {
            let (id, sha256) = (key.text("id"), key.text("sha256"));
            let query = format!("sha256={sha256}");
            let ids = async |token: &str, query: &str| {
                let page = find(token, query).await.expect(200).body;
                let items = page["items"].as_array().unwrap().clone();
                items
                    .iter()
                    .map(|key| key["id"].as_str().unwrap().to_owned())
                    .collect::<Vec<_>>()
            };
            assert_eq!(ids(&plane.owner, &query).await, core::slice::from_ref(&id));
            assert_eq!(ids(&customer, &query).await, if seen { vec![id] } else { vec![] });
            let other = format!("{query}&org=acme");
            assert_eq!(ids(&customer, &other).await.is_empty(), key.text("org") != "acme");
        }
        assert!(
            find(&customer, &format!("sha256={}", "0".repeat(64)))
                .await
                .expect(200)
                .body["items"]
                .as_array()
                .unwrap()
                .is_empty()
        );
        let sha256 = made[0].text("sha256");
        find(&customer, &format!("sha256={sha256}&org=initech"))
            .await
            .expect(404);
        find(&customer, "sha256=abc")
            .await
            .expect(422)
            .says("64 hexadecimal digits");
    })
    .await;
}

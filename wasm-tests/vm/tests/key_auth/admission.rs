//! What goes on to the model of an admitted request: who it is, and nothing of how that was proved.

use serde_json::json;
use tollgate_core::bound::Overrides;
use tollgate_core::endpoint::Scopes;
use tollgate_core::identity::{Grants, Identity};
use tollgate_core::traffic::Withheld;
use tollgate_vm::{Headers, Request};

use crate::stage::{
    CHAT, Gateway, decisions, directory, expect_secret, gateway, inline, key, row, secret, with,
};

#[test]
fn the_identity_goes_on_in_headers_and_in_filter_state() {
    let key = key(1);
    let gateway = gateway([row(&key, json!({"project": "search", "name": "ci"}))]);
    let outcome = gateway.chat().bearer(key.reveal()).send();
    outcome
        .expect_forwarded()
        .header("x-tollgate-org", "acme")
        .header("x-tollgate-project", "search")
        .header("x-tollgate-key-id", key.id())
        .header("x-tollgate-tier", "pro");
    let identity = Identity::decode(outcome.filter_state("tollgate.identity").unwrap()).unwrap();
    let expected = Identity {
        key_id: key.id().into(),
        org: "acme".into(),
        project: Some("search".into()),
        tier: "pro".into(),
        scopes: Scopes::UNRESTRICTED,
        models: Grants {
            org: vec!["llama-*".into(), "gpt-oss-120b".into()],
            project: Some(vec!["llama-*".into()]),
            key: None,
        },
        labels: vec![
            ("cost_center".into(), "42".into()),
            ("region".into(), "eu".into()),
        ],
        overrides: Overrides::NONE,
        withheld: Withheld::NOTHING,
        budgets: Vec::new(),
    };
    assert_eq!(identity, expected);
    assert_eq!(decisions(&gateway.world), [("allow.api_key".to_owned(), 1)]);
    expect_secret(&gateway.world, &key);
}

#[test]
fn a_key_of_a_whole_organization_has_no_project() {
    let key = key(1);
    let gateway = gateway([row(&key, json!({"org": "globex"}))]);
    // Not even one that the client made up.
    let request = gateway
        .chat()
        .bearer(key.reveal())
        .header("x-tollgate-project", "search");
    let outcome = request.send();
    outcome
        .expect_forwarded()
        .no_header("x-tollgate-project")
        .header("x-tollgate-tier", "default");
    let identity = Identity::decode(outcome.filter_state("tollgate.identity").unwrap()).unwrap();
    assert_eq!((identity.project, identity.labels), (None, vec![]));
}

#[test]
fn a_key_may_come_in_each_of_the_customary_ways() {
    let key = key(1);
    let k = key.reveal();
    let ways: &[&[(&str, String)]] = &[
        &[("authorization", format!("Bearer {k}"))],
        &[("Authorization", format!("bearer   {k}  "))],
        &[("authorization", format!("BEARER {k}"))],
        &[("x-api-key", k.into())],
        &[("api-key", format!(" {k} "))],
        &[
            ("authorization", format!("Bearer {k}")),
            ("x-api-key", k.into()),
            ("api-key", k.into()),
        ],
        &[
            ("x-api-key", k.into()),
            ("x-api-key", k.into()),
            ("X-Api-Key", k.into()),
        ],
        &[
            ("authorization", format!("Bearer {k}")),
            ("authorization", format!("Bearer {k}")),
        ],
        &[("authorization", format!("Bearer {k},Bearer {k}"))],
        &[("authorization", format!("Basic dXNlcjpwYXNz, Bearer {k}"))],
        &[
            ("authorization", "Basic dXNlcjpwYXNz".into()),
            ("x-api-key", k.into()),
        ],
        &[
            ("authorization", String::new()),
            ("api-key", String::new()),
            ("x-api-key", k.into()),
        ],
        &[
            ("authorization", "Bearer \u{fffd}\u{7f}".into()),
            ("authorization", "Bearer".into()),
        ],
    ];
    let gateway = gateway([row(&key, json!({}))]);
    let (last, good) = ways.split_last().unwrap();
    for way in good {
        let outcome = presenting(gateway.chat(), way).send();
        expect_clean(outcome.expect_forwarded().headers(), k);
    }
    let _ = presenting(gateway.chat(), last).send().expect_refused(401);
    expect_secret(&gateway.world, &key);
}

#[test]
fn what_a_client_says_it_is_goes_no_further() {
    let key = key(1);
    let gateway = gateway([row(&key, json!({}))]);
    let lies = [
        ("x-tollgate-org", "globex"),
        ("X-Tollgate-Org", "initech"),
        ("x-tollgate-key-id", "admin"),
        ("x-tollgate-priority", "0"),
        ("x-tollgate-model", "gpt-oss-120b"),
        ("x-tollgate-", "empty"),
        ("x-envoy-retry-on", "5xx"),
        ("x-envoy-max-retries", "1000"),
        ("x-envoy-upstream-rq-timeout-ms", "0"),
        ("x-envoy-original-path", "/admin"),
        ("X-ENVOY-DECORATOR-OPERATION", "x"),
    ];
    let request = lies
        .iter()
        .fold(gateway.chat().bearer(key.reveal()), |request, (name, value)| {
            request.header(name, value)
        });
    // Envoy sets this one by itself, to the address it determined.
    let outcome = request
        .header("x-envoy-external-address", "10.1.2.3")
        .header("openai-organization", "acme")
        .header("x-tollgatekeeper", "kept")
        .send();
    let forwarded = outcome.expect_forwarded();
    expect_clean(forwarded.headers(), key.reveal());
    forwarded
        .header("x-tollgate-org", "acme")
        .header("x-envoy-external-address", "10.1.2.3")
        .header("x-tollgatekeeper", "kept");
}

#[test]
fn what_is_none_of_its_business_stays() {
    let key = key(1);
    let gateway = gateway([row(&key, json!({}))]);
    let outcome = gateway
        .chat()
        .bearer(key.reveal())
        .header("accept", "text/event-stream")
        .header("x-stainless-lang", "python")
        .header("anthropic-version", "2023-06-01")
        .header("x-forwarded-for", "10.9.8.7")
        .header("x-odd", [0xff, 0xfe])
        .json(&json!({"model": "llama-70b"}))
        .in_chunks(5)
        .send();
    let forwarded = outcome.expect_forwarded();
    forwarded
        .header(":path", CHAT)
        .header("accept", "text/event-stream")
        .header("x-stainless-lang", "python")
        .header("anthropic-version", "2023-06-01")
        .header("x-forwarded-for", "10.9.8.7")
        .header("x-odd", [0xff, 0xfe])
        .body(r#"{"model":"llama-70b"}"#);
    // One header was taken away and three were added to Envoy's six and the seven here.
    assert_eq!(forwarded.headers().len(), 6 + 7 + 3);
}

#[test]
fn routes_may_match_on_the_identity() {
    let key = key(1);
    let document = directory([row(&key, json!({}))]);
    let cleared = |gateway: &Gateway, header: (&str, &str)| {
        let request = gateway.chat().bearer(key.reveal()).header(header.0, header.1);
        request.send().route_cache_cleared()
    };
    let as_usual = Gateway::of(inline(&document));
    assert_eq!(cleared(&as_usual, ("accept", "*/*")), 1);
    // Where no route does, that work is saved; but a route that a lie chose is chosen anew.
    let saving = Gateway::of(with(inline(&document), "route_on_identity", json!(false)));
    assert_eq!(cleared(&saving, ("accept", "*/*")), 0);
    assert_eq!(cleared(&saving, ("x-tollgate-tier", "pro")), 1);
    assert_eq!(cleared(&saving, ("x-envoy-original-path", "/")), 1);
}

#[test]
fn each_request_is_counted_once_by_decision_and_reason() {
    let (good, frozen) = (key(1), key(2));
    let gateway = gateway([
        row(&good, json!({})),
        row(&frozen, json!({"status": "suspended"})),
    ]);
    for _ in 0..3 {
        gateway.chat().bearer(good.reveal()).send().expect_forwarded();
    }
    for _ in 0..2 {
        let _ = gateway.chat().bearer(frozen.reveal()).send().expect_refused(403);
    }
    let _ = gateway.chat().send().expect_refused(401);
    let counted = [
        ("allow.api_key", 3),
        ("deny.key_suspended", 2),
        ("deny.missing_api_key", 1),
    ];
    assert_eq!(
        decisions(&gateway.world),
        counted.map(|(name, count)| (name.to_owned(), count))
    );
    // No name of a metric holds what a stranger, or a customer, can choose.
    let names: String = gateway.world.counters().into_keys().collect();
    for chosen in [good.id(), frozen.id(), "acme", "127.0.0.1"] {
        assert!(!names.contains(chosen));
    }
}

/// A response is the upstream's, untouched.
#[test]
fn the_answer_comes_back_as_it_is() {
    let key = key(1);
    let gateway = gateway([row(&key, json!({}))]);
    let upstream = tollgate_vm::Response::new(401)
        .header("x-tollgate-org", "upstream")
        .body("{\"error\":\"upstream's own\"}");
    let outcome = gateway.chat().bearer(key.reveal()).upstream(upstream).send();
    outcome.expect_forwarded();
    outcome
        .expect_response(401)
        .header("x-tollgate-org", "upstream")
        .body("{\"error\":\"upstream's own\"}");
}

fn presenting(request: Request, headers: &[(&str, String)]) -> Request {
    headers
        .iter()
        .fold(request, |request, (name, value)| request.header(name, value))
}

/// No credential, and of the gateway's own headers just those that it sets.
#[track_caller]
fn expect_clean(headers: &Headers, key: &str) {
    let own = ["x-tollgate-org", "x-tollgate-key-id", "x-tollgate-tier"];
    for (name, value) in headers.iter() {
        let value = String::from_utf8_lossy(value);
        assert!(!value.contains(key), "{name}: {value}");
        assert!(
            !["authorization", "x-api-key", "api-key"].contains(&name),
            "{name}"
        );
        assert!(!name.starts_with("x-tollgate-") || own.contains(&name), "{name}");
        assert!(
            !name.starts_with("x-envoy-") || name == "x-envoy-external-address",
            "{name}"
        );
    }
    assert_eq!(own.map(|name| headers.all(name).count()), [1, 1, 1]);
    assert_ne!(headers.get("x-tollgate-key-id"), Some(&b"admin"[..]));
}

#[test]
fn a_secret_is_only_in_what_the_client_sent() {
    let key = key(1);
    let gateway = gateway([row(&key, json!({}))]);
    let outcome = gateway.chat().bearer(key.reveal()).send();
    let state = String::from_utf8_lossy(outcome.filter_state("tollgate.identity").unwrap()).into_owned();
    assert!(!state.contains(secret(&key)) && !state.contains(&key.sha256_hex()));
    for shared in gateway.world.shared_keys(crate::stage::VM_ID) {
        assert!(!shared.contains(secret(&key)));
    }
}

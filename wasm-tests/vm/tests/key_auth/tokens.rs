//! Callers whose token `jwt_authn` verified: an identity without a key.

use serde_json::{Value, json};
use tollgate_core::endpoint::Scopes;
use tollgate_core::identity::Identity;
use tollgate_vm::{Hostcall, Outcome, Request, Status};

use crate::stage::{CHAT, Fleet, Gateway, decisions, directory, inline, key, row, with};

const TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl";

/// A gateway that takes tokens, and one key.
fn tokens() -> Gateway {
    let directory = directory([row(&key(1), json!({}))]);
    Gateway::of(with(
        inline(&directory),
        "jwt",
        json!({"metadata_key": "tollgate"}),
    ))
}

/// As `jwt_authn` leaves it with `payload_in_metadata: tollgate`.
fn claims(request: Request, claims: Value) -> Request {
    request.metadata("envoy.filters.http.jwt_authn", json!({"tollgate": claims}))
}

fn ada() -> Value {
    json!({"sub": "ada@example.com", "org": "acme", "project": "search", "iss": "https://id.example", "exp": 1.9e9})
}

fn identity(outcome: &Outcome) -> Identity {
    outcome.expect_forwarded();
    Identity::decode(outcome.filter_state("tollgate.identity").unwrap()).unwrap()
}

#[test]
fn a_verified_token_is_an_identity() {
    let gateway = tokens();
    let outcome = claims(gateway.chat(), ada()).send();
    outcome
        .expect_forwarded()
        .header("x-tollgate-org", "acme")
        .header("x-tollgate-project", "search")
        .header("x-tollgate-tier", "pro");
    let identity = identity(&outcome);
    assert_eq!(
        (identity.org.as_str(), identity.project.as_deref()),
        ("acme", Some("search"))
    );
    assert_eq!(identity.scopes, Scopes::UNRESTRICTED);
    assert_eq!(identity.models.project, Some(vec!["llama-*".to_owned()]));
    assert_eq!(decisions(&gateway.world), [("allow.token".to_owned(), 1)]);
}

#[test]
fn the_id_is_stable_and_does_not_show_the_subject() {
    let gateway = tokens();
    let id = |subject: &str, org: &str| {
        let outcome = claims(gateway.chat(), json!({"sub": subject, "org": org})).send();
        identity(&outcome).key_id
    };
    let first = id("ada@example.com", "acme");
    assert_eq!(id("ada@example.com", "acme"), first);
    assert_eq!(first.len(), 4 + 16);
    assert!(first.starts_with("jwt-") && !first.contains("ada"));
    assert_ne!(id("bob@example.com", "acme"), first);
    gateway.world.expect_never_logged("ada@example.com");
}

#[test]
fn a_token_without_a_project_speaks_for_the_organization() {
    let outcome = claims(tokens().chat(), json!({"sub": "ada", "org": "acme"})).send();
    outcome.expect_forwarded().no_header("x-tollgate-project");
    assert_eq!(identity(&outcome).models.project, None);
}

#[test]
fn what_the_claims_do_not_say_for_sure_is_refused() {
    let nowhere = [
        json!({"sub": "ada", "org": "nobody"}),
        json!({"sub": "ada", "org": "acme", "project": "nothing"}),
        json!({"sub": "ada", "org": "ACME"}),
        json!({"sub": "ada"}),
        json!({"sub": "ada", "org": ""}),
        json!({"org": "acme"}),
        json!({"org": "acme", "sub": ""}),
        json!({"sub": "ada", "org": 7}),
        json!({"sub": "ada", "org": true}),
        json!({"sub": "ada", "org": ["acme"]}),
        json!({"sub": "ada", "org": {"name": "acme"}}),
        json!({"sub": "ada", "org": null}),
        json!({"sub": null, "org": "acme"}),
        json!({"sub": "ada", "org": "acme", "project": 7}),
        json!({"sub": "ada", "org": "acme", "project": ["search"]}),
        json!({"sub": "ada", "org": "acme", "project": null}),
        json!({"sub": "ada", "org": "acme\u{0}search"}),
    ];
    let gateway = tokens();
    for said in &nowhere {
        let outcome = claims(gateway.chat().bearer(TOKEN), said.clone()).send();
        let _ = outcome
            .expect_refused(401)
            .code("invalid_api_key")
            .details("tollgate_unknown_tenant")
            .header("www-authenticate", "Bearer");
    }
    gateway.world.expect_never_logged("c2lnbmF0dXJl");
}

#[test]
fn a_freeze_holds_for_tokens_too() {
    let gateway = tokens();
    for (said, code) in [
        (json!({"sub": "ada", "org": "initech"}), "organization_suspended"),
        (
            json!({"sub": "ada", "org": "initech", "project": "tps"}),
            "organization_suspended",
        ),
        (
            json!({"sub": "ada", "org": "acme", "project": "frozen"}),
            "project_suspended",
        ),
    ] {
        let _ = claims(gateway.chat(), said).send().expect_refused(403).code(code);
    }
    let mismatched = claims(gateway.chat(), ada())
        .header("openai-project", "frozen")
        .send();
    let _ = mismatched.expect_refused(401).code("mismatched_project");
}

#[test]
fn a_token_that_was_forwarded_goes_no_further() {
    let gateway = tokens();
    for header in ["authorization", "x-api-key", "api-key"] {
        let value = if header == "authorization" {
            format!("Bearer {TOKEN}")
        } else {
            TOKEN.to_owned()
        };
        let outcome = claims(gateway.chat(), ada()).header(header, value).send();
        outcome.expect_forwarded().no_header(header);
    }
}

#[test]
fn a_token_and_a_key_are_one_credential_too_many() {
    let gateway = tokens();
    let k = key(1);
    let with_key = |request: Request| claims(request, ada()).send();
    for outcome in [
        with_key(gateway.chat().bearer(k.reveal())),
        with_key(gateway.chat().header("x-api-key", "unknown")),
        with_key(gateway.chat().bearer(TOKEN).header("api-key", k.reveal())),
        with_key(
            gateway
                .chat()
                .header("authorization", format!("Bearer {TOKEN},Bearer {}", k.reveal())),
        ),
    ] {
        let _ = outcome.expect_refused(400).code("ambiguous_credentials");
    }
}

#[test]
fn a_key_is_still_a_key() {
    let gateway = tokens();
    let outcome = gateway.chat().bearer(key(1).reveal()).send();
    assert_eq!(identity(&outcome).key_id, key(1).id());
    let _ = gateway.chat().send().expect_refused(401).code("missing_api_key");
    // Another filter's metadata, or another provider's, is no token.
    let other = gateway
        .chat()
        .metadata("envoy.filters.http.jwt_authn", json!({"other": ada()}));
    let _ = other.send().expect_refused(401).code("missing_api_key");
    let other = gateway
        .chat()
        .metadata("envoy.filters.http.ext_authz", json!({"tollgate": ada()}));
    let _ = other.send().expect_refused(401).code("missing_api_key");
}

/// A token that nobody verified is just a string that is no key.
#[test]
fn an_unverified_token_is_an_unknown_key() {
    let gateway = tokens();
    let _ = gateway
        .chat()
        .bearer(TOKEN)
        .send()
        .expect_refused(401)
        .details("tollgate_unknown_key");
}

#[test]
fn where_tokens_are_not_configured_metadata_is_nothing() {
    let gateway = crate::stage::gateway([row(&key(1), json!({}))]);
    let _ = claims(gateway.chat(), ada())
        .send()
        .expect_refused(401)
        .code("missing_api_key");
    let _ = claims(gateway.chat().bearer(TOKEN), ada())
        .send()
        .expect_refused(401);
    claims(gateway.chat().bearer(key(1).reveal()), ada())
        .send()
        .expect_forwarded();
}

#[test]
fn claims_may_have_other_names() {
    let jwt = json!({"metadata_key": "idp", "org_claim": "tenant", "project_claim": "team", "subject_claim": "oid"});
    let gateway = Gateway::of(with(inline(&directory([])), "jwt", jwt));
    let said = json!({"idp": {"tenant": "acme", "team": "search", "oid": "1", "org": "globex", "sub": "x"}});
    let outcome = gateway
        .chat()
        .metadata("envoy.filters.http.jwt_authn", said)
        .send();
    outcome
        .expect_forwarded()
        .header("x-tollgate-org", "acme")
        .header("x-tollgate-project", "search");
}

/// Who has a token but no tenant is failing to authenticate.
#[test]
fn bad_tokens_count_towards_the_limit() {
    let configuration = with(inline(&directory([])), "jwt", json!({"metadata_key": "tollgate"}));
    let gateway = Gateway::of(with(
        configuration,
        "failed_auth",
        json!({"rate": "1/day", "burst": 2}),
    ));
    let fails = || claims(gateway.chat(), json!({"sub": "eve", "org": "nobody"})).send();
    for _ in 0..2 {
        let _ = fails().expect_refused(401);
    }
    let _ = fails().expect_refused(429);
}

#[test]
fn tokens_follow_a_fetched_directory() {
    let configuration = json!({
        "directory": {"http": {"max_stale": "10m", "on_stale": "deny"}},
        "jwt": {"metadata_key": "tollgate"},
    });
    let fleet = Fleet::with(configuration);
    let chat = |claims_: Value| claims(fleet.workers[0].post(CHAT), claims_).send();
    let globex = || json!({"sub": "ada", "org": "globex"});
    let _ = chat(globex()).expect_refused(503);
    let document = directory([]);
    fleet.take_over(&document, "\"1\"");
    chat(globex()).expect_forwarded();
    fleet.take_over(
        &with(document.clone(), "orgs.globex.status", json!("suspended")),
        "\"2\"",
    );
    let _ = chat(globex()).expect_refused(403).code("organization_suspended");
    let mut gone = document;
    gone["orgs"].as_object_mut().unwrap().remove("globex");
    fleet.take_over(&gone, "\"3\"");
    let _ = chat(globex())
        .expect_refused(401)
        .details("tollgate_unknown_tenant");
    chat(ada()).expect_forwarded();
}

/// Claims that can't be read are not claims that aren't there.
#[test]
fn claims_that_cannot_be_read_refuse() {
    let gateway = tokens();
    let claim = "metadata.filter_metadata.envoy.filters.http.jwt_authn.tollgate.project";
    let fault = gateway
        .world
        .fault(Hostcall::GetProperty, Status::InternalFailure)
        .of(claim);
    let _ = claims(gateway.chat(), ada()).send().expect_refused(401);
    fault.clear();
    claims(gateway.chat(), ada()).send().expect_forwarded();
}

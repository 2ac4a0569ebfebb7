//! What a row of the directory means: inheritance, freezes, rotation, networks, tenant headers, foreign keys.

use serde_json::{Value, json};
use tollgate_core::identity::Identity;
use tollgate_vm::Outcome;

use crate::stage::{Gateway, directory, gateway, imported, inline, key, row, with};

fn identity(outcome: &Outcome) -> Identity {
    outcome.expect_forwarded();
    Identity::decode(outcome.filter_state("tollgate.identity").unwrap()).unwrap()
}

#[test]
fn each_level_carries_its_own_grants() {
    let keys = [key(0), key(1), key(2), key(3)];
    let gateway = gateway([
        row(&keys[0], json!({})),
        row(&keys[1], json!({"project": "search"})),
        row(&keys[2], json!({"project": "search", "models": ["llama-70b"]})),
        row(&keys[3], json!({"org": "initech", "models": []})),
    ]);
    let grants = |n: usize| identity(&gateway.chat().bearer(keys[n].reveal()).send()).models;
    let acme = ["llama-*", "gpt-oss-120b"];
    let whole = grants(0);
    assert_eq!(
        (whole.org.as_slice(), whole.project, whole.key),
        (acme.map(String::from).as_slice(), None, None)
    );
    let project = grants(1);
    assert_eq!(
        (project.org.as_slice(), project.key),
        (acme.map(String::from).as_slice(), None)
    );
    assert_eq!(project.project, Some(vec!["llama-*".to_owned()]));
    let narrow = grants(2);
    assert_eq!(narrow.project, Some(vec!["llama-*".to_owned()]));
    assert_eq!(narrow.key, Some(vec!["llama-70b".to_owned()]));
    // Frozen, so there is no identity at all.
    let outcome = gateway.chat().bearer(keys[3].reveal()).send();
    let _ = outcome.expect_refused(403);
    assert_eq!(outcome.filter_state("tollgate.identity"), None);
}

/// An empty list grants nothing; that is not the same as no list.
#[test]
fn an_empty_grant_is_carried_as_such() {
    let key = key(1);
    let document = with(
        directory([row(&key, json!({"models": []}))]),
        "orgs.acme.models",
        json!([]),
    );
    let gateway = Gateway::of(inline(&document));
    let models = identity(&gateway.chat().bearer(key.reveal()).send()).models;
    assert_eq!(
        (models.org, models.project, models.key),
        (vec![], None, Some(vec![]))
    );
}

#[test]
fn a_freeze_anywhere_above_freezes_and_the_highest_is_named() {
    let key = key(1);
    let plain = directory([row(&key, json!({"project": "search"}))]);
    let freezes = [
        ("orgs.acme.status", "organization_suspended"),
        ("orgs.acme.projects.search.status", "project_suspended"),
    ];
    for (path, code) in freezes {
        let gateway = Gateway::of(inline(&with(plain.clone(), path, json!("suspended"))));
        let _ = gateway
            .chat()
            .bearer(key.reveal())
            .send()
            .expect_refused(403)
            .code(code);
    }
    let all = freezes.iter().fold(
        directory([row(&key, json!({"project": "search", "status": "suspended"}))]),
        |document, (path, _)| with(document, path, json!("suspended")),
    );
    let frozen = |document: &Value| {
        let gateway = Gateway::of(inline(document));
        let outcome = gateway.chat().bearer(key.reveal()).send();
        outcome.expect_refused(403).json()["error"]["code"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(frozen(&all), "organization_suspended");
    let thawed = with(all, "orgs.acme.status", json!("active"));
    assert_eq!(frozen(&thawed), "project_suspended");
    let thawed = with(thawed, "orgs.acme.projects.search.status", json!("active"));
    assert_eq!(frozen(&thawed), "key_suspended");
}

#[test]
fn a_freeze_is_for_that_tenant_alone() {
    let keys = [key(0), key(1), key(2)];
    let gateway = gateway([
        row(&keys[0], json!({"project": "frozen"})),
        row(&keys[1], json!({"project": "search"})),
        row(&keys[2], json!({"org": "globex"})),
    ]);
    let _ = gateway.chat().bearer(keys[0].reveal()).send().expect_refused(403);
    for key in &keys[1..] {
        gateway.chat().bearer(key.reveal()).send().expect_forwarded();
    }
}

#[test]
fn rotation_is_two_keys_for_a_while() {
    let (old, new) = (key(1), key(2));
    let rows = [
        row(&old, json!({"expires_at": "2026-01-08T00:00:00Z"})),
        row(&new, json!({"not_before": "2026-01-01T00:00:00Z"})),
    ];
    let both = Gateway::of(inline(&directory(rows)));
    for key in [&old, &new] {
        let ids = identity(&both.chat().bearer(key.reveal()).send());
        assert_eq!(ids.key_id, key.id());
    }
    both.world.advance(std::time::Duration::from_hours(7 * 24));
    let _ = both
        .chat()
        .bearer(old.reveal())
        .send()
        .expect_refused(401)
        .details("tollgate_expired");
    both.chat().bearer(new.reveal()).send().expect_forwarded();
}

#[test]
fn a_key_is_good_on_its_networks_alone() {
    let key = key(1);
    let gateway = gateway([row(
        &key,
        json!({"networks": ["10.0.0.0/8", "192.0.2.7/32", "2001:db8:1::/48"]}),
    )]);
    let inside = [
        "10.0.0.0",
        "10.255.255.255",
        "192.0.2.7",
        "2001:db8:1::",
        "2001:db8:1:ffff:ffff:ffff:ffff:ffff",
        // As a dual-stack listener shows a client of IPv4.
        "::ffff:10.1.2.3",
    ];
    for address in inside {
        gateway
            .chat()
            .bearer(key.reveal())
            .from(&bracketed(address))
            .send()
            .expect_forwarded();
    }
    let outside = [
        "9.255.255.255",
        "11.0.0.0",
        "192.0.2.6",
        "2001:db8:2::1",
        "::ffff:11.0.0.1",
        "::10.1.2.3",
    ];
    for address in outside {
        let outcome = gateway
            .chat()
            .bearer(key.reveal())
            .from(&bracketed(address))
            .send();
        let _ = outcome.expect_refused(403).code("ip_not_allowed");
    }
}

/// What Envoy could not determine, or a client claims, is no address.
#[test]
fn an_unknown_address_is_in_no_network() {
    let key = key(1);
    let everywhere = row(&key, json!({"networks": ["0.0.0.0/0", "::/0"]}));
    let gateway = gateway([everywhere]);
    for address in [
        "",
        "@/var/run/pipe",
        "10.1.2.3",
        "10.1.2.3:",
        "fe80::1%eth0:1",
        "localhost:80",
    ] {
        let request = gateway
            .chat()
            .bearer(key.reveal())
            .property(&["source", "address"], address);
        let outcome = request.header("x-forwarded-for", "10.1.2.3").send();
        let _ = outcome.expect_refused(403).code("ip_not_allowed");
    }
}

#[test]
fn tenant_headers_must_name_the_keys_own() {
    let (whole, project) = (key(1), key(2));
    let gateway = gateway([
        row(&whole, json!({})),
        row(&project, json!({"project": "search"})),
    ]);
    let chat = |key: &tollgate_core::key::ApiKey, headers: &[(&str, &str)]| {
        headers
            .iter()
            .fold(gateway.chat().bearer(key.reveal()), |request, (name, value)| {
                request.header(name, value)
            })
            .send()
    };
    let (org, proj) = ("openai-organization", "OpenAI-Project");
    for headers in [
        &[(org, "acme"), (proj, "search")][..],
        &[(org, " acme "), (org, "acme")],
        &[(org, ""), (proj, "")],
        &[(proj, "search")],
    ] {
        chat(&project, headers).expect_forwarded();
    }
    for (headers, code) in [
        (&[(org, "ACME")][..], "mismatched_organization"),
        (&[(org, "acme"), (org, "globex")], "mismatched_organization"),
        (&[(org, "globex"), (proj, "x")], "mismatched_organization"),
        (&[(org, "acme"), (proj, "frozen")], "mismatched_project"),
        (&[(proj, "search,frozen")], "mismatched_project"),
    ] {
        let _ = chat(&project, headers).expect_refused(401).code(code);
    }
    chat(&whole, &[(org, "acme")]).expect_forwarded();
    let _ = chat(&whole, &[(proj, "search")])
        .expect_refused(401)
        .code("mismatched_project");
}

/// The header names the mismatch to those with a good key only: others learn nothing of tenants.
#[test]
fn a_bad_key_learns_nothing_of_tenants() {
    let (revoked, away) = (key(1), key(2));
    let gateway = gateway([
        row(&revoked, json!({"status": "revoked", "org": "initech"})),
        row(&away, json!({"networks": ["192.0.2.0/24"], "org": "initech"})),
    ]);
    let chat = |key: &str| {
        gateway
            .chat()
            .bearer(key)
            .header("openai-organization", "nobody")
            .send()
    };
    for key in [revoked.reveal(), key(3).reveal()] {
        let _ = chat(key).expect_refused(401).code("invalid_api_key");
    }
    let _ = chat(away.reveal()).expect_refused(403).code("ip_not_allowed");
}

#[test]
fn another_systems_keys_go_on_working() {
    let foreign = [
        "sk-proj-AbCdEfGhIjKlMnOp",
        "gsk_0123",
        "k",
        "key with a blank",
        "d\u{e9}j\u{e0}-vu",
    ];
    let rows = foreign
        .iter()
        .zip(0..)
        .map(|(key, n)| imported(&format!("old-{n}"), key));
    let gateway = gateway(rows);
    for (n, key) in foreign.iter().enumerate() {
        for name in ["x-api-key", "api-key"] {
            let outcome = gateway.chat().header(name, key).send();
            assert_eq!(identity(&outcome).key_id, format!("old-{n}"));
        }
        let outcome = gateway.chat().bearer(key).send();
        assert_eq!(identity(&outcome).key_id, format!("old-{n}"));
        let _ = gateway
            .chat()
            .bearer(&format!("{key}x"))
            .send()
            .expect_refused(401);
    }
    // A key that begins as ours do must be one of ours, whatever its hash says.
    let gateway = crate::stage::gateway([imported("old", "sk-tg-imported")]);
    let _ = gateway
        .chat()
        .bearer("sk-tg-imported")
        .send()
        .expect_refused(401)
        .details("tollgate_malformed_key");
}

/// What the directory holds of a key does not open anything.
#[test]
fn a_hash_is_no_key() {
    let key = key(1);
    let gateway = gateway([row(&key, json!({}))]);
    for guess in [
        key.sha256_hex(),
        key.id().to_owned(),
        format!("sk-tg-{}", key.id()),
    ] {
        let _ = gateway.chat().bearer(&guess).send().expect_refused(401);
    }
}

#[test]
fn every_character_of_a_key_counts() {
    let key = key(1);
    let gateway = Gateway::of(with(
        inline(&directory([row(&key, json!({}))])),
        "failed_auth",
        json!({"rate": "1000/second", "burst": 1000}),
    ));
    for at in 0..key.reveal().len() {
        let mut typo = key.reveal().to_owned();
        let other = if typo.as_bytes()[at] == b'x' { "y" } else { "x" };
        typo.replace_range(at..=at, other);
        let _ = gateway
            .chat()
            .bearer(&typo)
            .send()
            .expect_refused(401)
            .code("invalid_api_key");
    }
    gateway.chat().bearer(key.reveal()).send().expect_forwarded();
}

/// `[2001:db8::1]:40000`; an address of IPv4 as it is.
fn bracketed(address: &str) -> String {
    match address.contains(':') {
        true => format!("[{address}]:40000"),
        false => address.to_owned(),
    }
}

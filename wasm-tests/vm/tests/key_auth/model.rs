//! Random directories and random requests, against the policy written down once more in plain Rust.

use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

use crate::stage::{Gateway, inline, key, with};

/// Organizations and projects there may be. Each test case freezes some.
const ORGS: [&str; 3] = ["acme", "globex", "initech"];
const PROJECTS: [&str; 2] = ["search", "ads"];

/// Networks, and which of the addresses each contains.
const NETWORKS: [(&str, [bool; 5]); 4] = [
    ("10.0.0.0/8", [true, false, false, true, false]),
    ("192.0.2.128/25", [false, true, false, false, false]),
    ("2001:db8::/32", [false, false, true, false, false]),
    ("0.0.0.0/0", [true, true, false, true, false]),
];
const ADDRESSES: [&str; 5] = [
    "10.200.0.1:1",
    "192.0.2.255:1",
    "[2001:db8:ffff::1]:1",
    "[::ffff:10.0.0.1]:1",
    "unix",
];

const PATHS: [(&str, Option<&str>); 7] = [
    ("/v1/chat/completions", Some("chat")),
    ("/v1/responses?x=/v1/models", Some("chat")),
    ("/v1/embeddings", Some("embeddings")),
    ("/v1/models/llama-70b", Some("models")),
    ("/v1/audio/speech", Some("audio")),
    ("/v1/models/../embeddings", None),
    ("/healthz", None),
];

/// Seconds after the test's beginning.
const NOW: i64 = 100_000;

#[derive(Debug, Clone)]
struct Key {
    org: usize,
    project: Option<usize>,
    status: &'static str,
    scopes: Option<Vec<&'static str>>,
    lives: (Option<i64>, Option<i64>),
    networks: Vec<usize>,
}

#[derive(Debug, Clone)]
struct Tenants {
    frozen: [bool; 3],
    frozen_projects: [[bool; 2]; 3],
}

#[derive(Debug, Clone)]
struct Asked {
    /// Which keys, in which header each: 0 is `authorization`, 1 `x-api-key`, 2 `api-key`. From 6 on no key is in
    /// the directory, from 8 on it isn't even one.
    presents: Vec<(usize, usize)>,
    path: usize,
    address: usize,
    org: Option<&'static str>,
    project: Option<&'static str>,
}

fn any_key() -> impl Strategy<Value = Key> {
    let scopes = proptest::option::weighted(
        0.5,
        proptest::sample::subsequence(vec!["chat", "embeddings", "models", "audio"], 1..4),
    );
    let status = prop_oneof![6 => Just("active"), 1 => Just("suspended"), 1 => Just("revoked")];
    let lives = prop_oneof![
        4 => Just((None, None)),
        1 => (NOW - 1..NOW + 3).prop_map(|end| (None, Some(end))),
        1 => (NOW - 2..NOW + 2).prop_map(|start| (Some(start), None)),
        1 => (NOW - 2..NOW + 2).prop_map(|start| (Some(start), Some(start + 1))),
    ];
    let networks = prop_oneof![
        2 => Just(Vec::new()),
        1 => proptest::sample::subsequence((0..4).collect::<Vec<_>>(), 1..3),
    ];
    let project = proptest::option::of(0..2_usize);
    (0..3_usize, project, status, scopes, lives, networks).prop_map(
        |(org, project, status, scopes, lives, networks)| Key {
            org,
            project,
            status,
            scopes,
            lives,
            networks,
        },
    )
}

fn any_tenants() -> impl Strategy<Value = Tenants> {
    let frozen = || proptest::bool::weighted(0.15);
    let org = proptest::array::uniform3(frozen());
    let project = proptest::array::uniform3([frozen(), frozen()]);
    (org, project).prop_map(|(frozen, frozen_projects)| Tenants {
        frozen,
        frozen_projects,
    })
}

fn any_request() -> impl Strategy<Value = Asked> {
    let presents = prop_oneof![
        8 => (0..9_usize, 0..3_usize).prop_map(|one| vec![one]),
        1 => Just(Vec::new()),
        2 => (0..9_usize).prop_map(|key| vec![(key, 0), (key, 2), (key, 2)]),
        2 => proptest::collection::vec((0..9_usize, 0..3_usize), 2..4),
    ];
    let org = proptest::option::weighted(0.3, select(vec!["acme", "globex", "", "nobody"]));
    let project = proptest::option::weighted(0.3, select(vec!["search", "ads", "", "nothing"]));
    (presents, 0..7_usize, 0..5_usize, org, project).prop_map(|(presents, path, address, org, project)| {
        Asked {
            presents,
            path,
            address,
            org,
            project,
        }
    })
}

/// The text of the `n`th credential.
fn credential(n: usize) -> String {
    match n {
        8 => "sk-tg-typo".to_owned(),
        n => key(n as u64).reveal().to_owned(),
    }
}

fn document(tenants: &Tenants, keys: &[Key]) -> Value {
    let status = |frozen: bool| if frozen { "suspended" } else { "active" };
    let orgs: Map<String, Value> = (0..3)
        .map(|org| {
            let projects: Map<String, Value> = (0..2)
                .map(|project| {
                    let status = status(tenants.frozen_projects[org][project]);
                    (PROJECTS[project].to_owned(), json!({"status": status}))
                })
                .collect();
            (
                ORGS[org].to_owned(),
                json!({"status": status(tenants.frozen[org]), "projects": projects}),
            )
        })
        .collect();
    let rows: Vec<Value> = keys.iter().enumerate().map(|(n, key)| row(n, key)).collect();
    json!({"version": 1, "orgs": orgs, "keys": rows})
}

fn row(n: usize, of: &Key) -> Value {
    let key = key(n as u64);
    let mut row = json!({
        "id": key.id(), "sha256": key.sha256_hex(), "org": ORGS[of.org], "status": of.status,
    });
    let networks: Vec<_> = of.networks.iter().map(|network| NETWORKS[*network].0).collect();
    if !networks.is_empty() {
        row["networks"] = json!(networks);
    }
    if let Some(project) = of.project {
        row["project"] = json!(PROJECTS[project]);
    }
    if let Some(scopes) = &of.scopes {
        row["scopes"] = json!(scopes);
    }
    // 100,000 seconds after the year began it is 03:46:40 of the second day.
    let time = |second: i64| {
        format!(
            "2026-01-02T03:{:02}:{:02}Z",
            46 + (second - NOW + 40) / 60,
            (second - NOW + 40) % 60
        )
    };
    if let Some(start) = of.lives.0 {
        row["not_before"] = json!(time(start));
    }
    if let Some(end) = of.lives.1 {
        row["expires_at"] = json!(time(end));
    }
    row
}

/// The policy: the details of the refusal, or who may go on.
fn policy(tenants: &Tenants, keys: &[Key], asked: &Asked) -> Result<usize, &'static str> {
    let mut presented: Vec<usize> = asked.presents.iter().map(|(key, _)| *key).collect();
    presented.sort_unstable();
    presented.dedup();
    let n = match presented.as_slice() {
        [] => return Err("missing_api_key"),
        [one] => *one,
        _ => return Err("ambiguous_credentials"),
    };
    if n == 8 {
        return Err("malformed_key");
    }
    let key = keys.get(n).ok_or("unknown_key")?;
    let (start, end) = key.lives;
    let contains = |network: &usize| NETWORKS[*network].1[asked.address];
    let org = asked.org.filter(|name| !name.is_empty());
    let project = asked.project.filter(|name| !name.is_empty());
    let needed = PATHS[asked.path].1;
    let rules = [
        ("revoked", key.status == "revoked"),
        ("expired", end.is_some_and(|end| end <= NOW)),
        ("not_yet_valid", start.is_some_and(|start| start > NOW)),
        (
            "ip_not_allowed",
            !key.networks.is_empty() && !key.networks.iter().any(contains),
        ),
        ("organization_suspended", tenants.frozen[key.org]),
        (
            "project_suspended",
            key.project
                .is_some_and(|project| tenants.frozen_projects[key.org][project]),
        ),
        ("key_suspended", key.status == "suspended"),
        (
            "mismatched_organization",
            org.is_some_and(|org| org != ORGS[key.org]),
        ),
        (
            "mismatched_project",
            project.is_some_and(|named| key.project.is_none_or(|own| PROJECTS[own] != named)),
        ),
        (
            "insufficient_scope",
            key.scopes
                .as_ref()
                .is_some_and(|scopes| needed.is_none_or(|needed| !scopes.contains(&needed))),
        ),
    ];
    match rules.into_iter().find(|(_, broken)| *broken) {
        Some((reason, _)) => Err(reason),
        None => Ok(n),
    }
}

fn status(reason: &str) -> u16 {
    match reason {
        "ambiguous_credentials" => 400,
        reason if reason.ends_with("_suspended") => 403,
        "ip_not_allowed" | "insufficient_scope" => 403,
        _ => 401,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_module_keeps_the_policy(
        tenants in any_tenants(),
        keys in proptest::collection::vec(any_key(), 6),
        requests in proptest::collection::vec(any_request(), 30),
    ) {
        let configuration = with(
            inline(&document(&tenants, &keys)),
            "failed_auth",
            json!({"rate": "1000/second", "burst": 1000}),
        );
        let gateway = Gateway::of(configuration);
        gateway.world.advance(Duration::from_secs(NOW as u64));
        for asked in &requests {
            let outcome = send(&gateway, asked);
            match policy(&tenants, &keys, asked) {
                Ok(n) => {
                    let org = ORGS[keys[n].org];
                    outcome.expect_forwarded().header("x-tollgate-org", org).header("x-tollgate-key-id", key(n as u64).id());
                }
                Err(reason) => {
                    let _ = outcome.expect_refused(status(reason)).details(&format!("tollgate_{reason}"));
                }
            }
        }
    }
}

fn send(gateway: &Gateway, asked: &Asked) -> tollgate_vm::Outcome {
    let mut request = gateway.filter.post(PATHS[asked.path].0);
    request = request.property(&["source", "address"], ADDRESSES[asked.address]);
    for (key, header) in &asked.presents {
        request = match header {
            0 => request.bearer(&credential(*key)),
            1 => request.header("x-api-key", credential(*key)),
            _ => request.header("api-key", credential(*key)),
        };
    }
    if let Some(org) = asked.org {
        request = request.header("openai-organization", org);
    }
    if let Some(project) = asked.project {
        request = request.header("openai-project", project);
    }
    request.send()
}

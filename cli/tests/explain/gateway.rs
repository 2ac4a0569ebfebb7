//! Random gateways: a directory, a catalogue and limits, in which much goes together and much does not.

use serde_json::{Map, Value, json};
use tollgate_core::key::ApiKey;

use crate::random::Random;

pub(crate) const ENDPOINTS: [&str; 9] = [
    "chat",
    "completions",
    "responses",
    "messages",
    "embeddings",
    "moderations",
    "speech",
    "transcriptions",
    "images_generations",
];
pub(crate) const NAMES: [&str; 6] = ["large", "big", "small", "llama-70b", "llama", "nothing"];
const MODELS: [&str; 3] = ["large", "small", "llama-70b"];
const TIERS: [&str; 3] = ["free", "pro", "enterprise"];
const ORGS: [&str; 4] = ["acme", "globex", "initech", "umbrella"];
const PROJECTS: [&str; 2] = ["search", "batch"];
const PATTERNS: [&str; 6] = ["*", "llama-*", "*l*", "large", "small", "other-*"];
const DIMENSIONS: [&str; 7] = ["key", "project", "org", "model", "endpoint", "tier", "ip"];
const SCOPES: [&str; 6] = ["chat", "embeddings", "moderations", "images", "audio", "models"];

/// The configuration of a gateway, and the secrets of its keys.
pub(crate) struct Gateway {
    pub(crate) configuration: Value,
    pub(crate) keys: Vec<ApiKey>,
}

impl Gateway {
    pub(crate) fn random(random: &mut Random) -> Self {
        let keys: Vec<ApiKey> = (0..24).map(|_| key(random)).collect();
        let configuration = json!({
            "key_auth": {"directory": {"inline": directory(random, &keys)}, "route_on_identity": false},
            "tenant_router": router(random),
            "rate_limit": limits(random, &keys),
        });
        Self { configuration, keys }
    }
}

pub(crate) fn key(random: &mut Random) -> ApiKey {
    let mut bytes = [0; 40];
    for byte in &mut bytes {
        *byte = random.number().to_le_bytes()[0];
    }
    ApiKey::mint(&bytes)
}

fn directory(random: &mut Random, keys: &[ApiKey]) -> Value {
    let mut orgs = Map::new();
    for name in ORGS {
        let mut projects = Map::new();
        for name in PROJECTS {
            let mut project =
                json!({"status": status(random, 90), "labels": {"region": random.one_of(&["eu", "us"])}});
            if random.percent(40) {
                project["models"] = json!(random.some_of(&PATTERNS));
            }
            projects.insert(name.to_owned(), project);
        }
        let models = if random.percent(60) {
            vec!["*"]
        } else {
            random.some_of(&PATTERNS)
        };
        let mut org = json!({"status": status(random, 92), "models": models, "projects": projects});
        if random.percent(80) {
            org["tier"] = json!(random.one_of(&TIERS));
        }
        orgs.insert(name.to_owned(), org);
    }
    let rows: Vec<Value> = keys.iter().map(|key| row(random, key)).collect();
    let mut traffic = json!({});
    if random.percent(30) {
        let target = |random: &mut Random| format!("{}-{}", random.one_of(&MODELS), random.below(3));
        traffic["drained"] = json!([target(random), target(random)]);
    }
    if random.percent(20) {
        traffic["shed"] = json!([{"tier": random.one_of(&TIERS), "model": random.one_of(&PATTERNS)}]);
    }
    json!({"version": 1, "orgs": orgs, "keys": rows, "traffic": traffic})
}

fn status(random: &mut Random, active: u64) -> &'static str {
    if random.percent(active) {
        "active"
    } else {
        "suspended"
    }
}

fn row(random: &mut Random, key: &ApiKey) -> Value {
    let mut row = json!({"id": key.id(), "sha256": key.sha256_hex(), "org": random.one_of(&ORGS)});
    if random.percent(60) {
        row["project"] = json!(random.one_of(&PROJECTS));
    }
    if random.percent(10) {
        row["status"] = json!(random.one_of(&["suspended", "revoked"]));
    }
    if random.percent(20) {
        row["scopes"] = json!(random.some_of(&SCOPES));
    }
    if random.percent(20) {
        row["models"] = json!(random.some_of(&PATTERNS));
    }
    if random.percent(12) {
        row["networks"] = json!(random.some_of(&["10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32"]));
    }
    if random.percent(8) {
        row["not_before"] = json!("2026-03-01T00:00:00Z");
    }
    if random.percent(15) {
        row["expires_at"] = json!("2026-09-01T00:00:00Z");
    }
    row
}

fn when(random: &mut Random) -> Value {
    let mut when = Map::new();
    while when.is_empty() {
        for (name, values) in [
            ("tier", &TIERS[..]),
            ("org", &ORGS[..]),
            ("project", &PROJECTS[..]),
        ] {
            if random.percent(30) {
                when.insert(name.to_owned(), json!(random.some_of(values)));
            }
        }
        if random.percent(20) {
            when.insert("endpoint".to_owned(), json!(random.some_of(&ENDPOINTS)));
        }
    }
    Value::Object(when)
}

fn router(random: &mut Random) -> Value {
    let mut models = Map::new();
    for (name, alias) in MODELS.iter().zip([Some("big"), None, Some("llama")]) {
        let mut endpoints = random.some_of(&ENDPOINTS);
        if random.percent(80) && !endpoints.contains(&"chat") {
            endpoints.push("chat");
        }
        let clusters: Vec<String> = (0..=random.below(3)).map(|at| format!("{name}-{at}")).collect();
        let targets: Vec<Value> = clusters
            .iter()
            .map(|cluster| json!({"cluster": cluster, "weight": random.below(4)}))
            .collect();
        let mut model = json!({"endpoints": endpoints, "targets": targets});
        if let Some(alias) = alias {
            model["aliases"] = json!([alias]);
        }
        if random.percent(30) {
            model["context_window"] = json!(random.one_of(&[1_000, 100_000]));
        }
        if random.percent(40) {
            model["max_output"] = json!(random.one_of(&[400, 4_000]));
        }
        if random.percent(40) {
            model["rules"] = json!([{"when": when(random), "targets": random.some_of(&clusters)}]);
        }
        if random.percent(30) {
            let target = random.one_of(&clusters);
            model["canary"] = json!({"target": target, "percent": random.below(101)});
        }
        if random.percent(50) {
            model["price"] = json!({"input": 3, "output": 9});
        }
        if random.percent(40) {
            let others: Vec<&str> = MODELS.into_iter().filter(|other| other != name).collect();
            model["fallback"] = json!(random.some_of(&others));
        }
        models.insert((*name).to_owned(), model);
    }
    let mut router = json!({"catalogue": {"models": models}});
    if random.percent(60) {
        router["allow_fallback"] = when(random);
    }
    router
}

fn limits(random: &mut Random, keys: &[ApiKey]) -> Value {
    let rows: Vec<Value> = (0..=random.below(6)).map(|at| limit(random, at, keys)).collect();
    let mut limits = json!({"limits": rows});
    if random.percent(30) {
        limits["capacity"] = json!([{"model": random.one_of(&PATTERNS), "concurrent": 2 + random.below(20)}]);
    }
    limits
}

fn limit(random: &mut Random, at: u64, keys: &[ApiKey]) -> Value {
    let per = if random.percent(90) {
        random.some_of(&DIMENSIONS)
    } else {
        vec![]
    };
    let count = *random.one_of(&[
        "requests",
        "tokens",
        "input_tokens",
        "output_tokens",
        "concurrent",
        "cost",
    ]);
    let mut row = json!({"name": format!("{count}-{at}").replace('_', "-"), "per": per, "count": count});
    bound(random, count, &mut row);
    if random.percent(30) {
        row["mode"] = json!("shadow");
    }
    if random.percent(40) {
        let mut condition = when(random);
        if random.percent(30) {
            condition["model"] = json!(random.some_of(&PATTERNS));
        }
        row["when"] = condition;
    }
    let mut overrides = Vec::new();
    if per.contains(&"key") && random.percent(50) {
        let ids: Vec<&str> = keys.iter().map(ApiKey::id).collect();
        overrides.push(json!({"key": random.some_of(&ids)}));
    }
    if (per.contains(&"key") || per.contains(&"org")) && random.percent(50) {
        overrides.push(json!({"tier": random.some_of(&TIERS)}));
    }
    if per.contains(&"model") && random.percent(50) {
        overrides.push(json!({"model": random.some_of(&PATTERNS)}));
    }
    for special in &mut overrides {
        bound(random, count, special);
    }
    row["overrides"] = json!(overrides);
    row
}

fn bound(random: &mut Random, count: &str, row: &mut Value) {
    if count == "concurrent" {
        row["max"] = json!(1 + random.below(3));
        return;
    }
    let amount = match count {
        "requests" => 1 + random.below(5),
        _ => *random.one_of(&[100, 1_000, 3_000, 50_000, 1_000_000]),
    };
    row["rate"] = json!(format!(
        "{amount}/{}",
        random.one_of(&["second", "minute", "hour", "day"])
    ));
    if random.percent(30) {
        row["burst"] = json!(amount * 2);
    }
}

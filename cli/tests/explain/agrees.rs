//! What `explain` says against what the gateway does: the real module in wasmtime, with the files that `explain` reads.
//!
//! Requests of one gateway are days apart, so that each finds every limit unused, unless one like it is still under way:
//! then `explain` is told what that one holds.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::{Value, json};
use tollgate_core::key::ApiKey;
use tollgate_vm::{Outcome, Plugin, Request, Stream, World, module};

use crate::gateway::{ENDPOINTS, Gateway, NAMES, key};
use crate::random::Random;

const DAYS: Duration = Duration::from_secs(3 * 86_400);

/// A request, by what was drawn.
#[derive(Debug, Clone)]
struct Drawn {
    key: String,
    secret: String,
    model: &'static str,
    endpoint: &'static str,
    bytes: usize,
    max_tokens: Option<u64>,
    stream: bool,
    address: &'static str,
    at: String,
    /// Whether `explain` gets the body, or the tokens that it has.
    as_tokens: bool,
}

/// What the gateway did.
#[derive(Debug, PartialEq)]
enum Done {
    Passed {
        model: String,
        target: String,
        reserved: u64,
        would_limit: BTreeSet<String>,
    },
    Refused {
        status: u64,
        code: String,
        reason: String,
        limit: Option<String>,
        reserved: Option<u64>,
        would_limit: BTreeSet<String>,
    },
    Answered,
}

const GATEWAYS: u64 = 100;
const REQUESTS: u64 = 100;

#[test]
fn explain_says_what_the_gateway_did_on_10000_random_requests() {
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    for seed in 0..GATEWAYS {
        let mut random = Random::new(seed);
        let gateway = Gateway::random(&mut random);
        let (asked, done) = play(&mut random, &gateway, REQUESTS);
        let told = explain(&gateway.configuration, &asked);
        assert_eq!(told.len(), done.len());
        for ((asked, done), told) in asked.iter().zip(&done).zip(&told) {
            let what = agree(done, told);
            let what = what.unwrap_or_else(|why| {
                let asked: String = asked.to_string().chars().take(500).collect();
                panic!("gateway {seed}: {why}\n{asked}\ngateway: {done:?}\nexplain: {told}")
            });
            *seen.entry(what).or_default() += 1;
            if told["would_limit"] != json!([]) {
                *seen.entry("would_limit".to_owned()).or_default() += 1;
            }
        }
    }
    println!("{seen:#?}");
    // Else it would be about little.
    for what in [
        "passes",
        "answered",
        "would_limit",
        "unknown_key",
        "revoked",
        "key_suspended",
        "organization_suspended",
        "project_suspended",
        "expired",
        "not_yet_valid",
        "ip_not_allowed",
        "insufficient_scope",
        "model_not_found",
        "project_model_not_granted",
        "key_model_not_granted",
        "model_not_at_endpoint",
        "output_too_long",
        "context_length_exceeded",
        "model_unavailable",
        "model_shed",
        "targets_drained",
        "rate_limit_exceeded",
        "insufficient_quota",
        "request_too_large_for_limit",
    ] {
        let often = seen.get(what).copied().unwrap_or(0);
        assert!(often >= 5, "{what} came {often} times: {seen:?}");
    }
}

/// What became of it, where both say the same.
fn agree(done: &Done, told: &Value) -> Result<String, String> {
    let text = |path: &str| told.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let same = |what: &str, gateway: &str, explain: &str| match gateway == explain {
        true => Ok(()),
        false => Err(format!("{what}: {gateway}, and {explain} was told")),
    };
    let reserved = told["reserved"]["input"]
        .as_u64()
        .zip(told["reserved"]["output"].as_u64());
    let reserved = reserved.map(|(input, output)| input + output);
    let would_limit = names(&told["would_limit"]);
    match done {
        Done::Answered => same("decision", "answered", text("/decision")).map(|()| "answered".to_owned()),
        Done::Passed {
            model,
            target,
            reserved: held,
            would_limit: would,
        } => {
            same("decision", "passes", text("/decision"))?;
            same("model", model, text("/model"))?;
            let targets = told["targets"].as_array().unwrap();
            if !targets
                .iter()
                .any(|one| one["cluster"] == target.as_str() && one["share"].as_f64().unwrap() > 0.0)
            {
                return Err(format!("target {target}"));
            }
            same(
                "reserved",
                &format!("{:?}", Some(*held)),
                &format!("{reserved:?}"),
            )?;
            same("would_limit", &format!("{would:?}"), &format!("{would_limit:?}"))?;
            Ok("passes".to_owned())
        }
        Done::Refused {
            status,
            code,
            reason,
            limit,
            reserved: held,
            would_limit: would,
        } => {
            same("decision", "refused", text("/decision"))?;
            same("status", &status.to_string(), &told["status"].to_string())?;
            same("code", code, text("/error/code"))?;
            same("reason", reason, text("/reason"))?;
            same("limit", limit.as_deref().unwrap_or_default(), text("/limit"))?;
            same("would_limit", &format!("{would:?}"), &format!("{would_limit:?}"))?;
            if held.is_some() {
                same("reserved", &format!("{held:?}"), &format!("{reserved:?}"))?;
            }
            Ok(reason.clone())
        }
    }
}

/// Sends random requests to the real module: each as `explain` is asked about it, and what became of it.
fn play(random: &mut Random, gateway: &Gateway, requests: u64) -> (Vec<Value>, Vec<Done>) {
    let world = World::new();
    let vm = world.vm(&module("gateway"), "tollgate");
    let plugin = vm.configure("gateway", gateway.configuration.clone());
    let plugin = plugin.unwrap_or_else(|refused| panic!("{}: {:#}", refused.text(), gateway.configuration));
    let plugin = plugin.allow_on_headers_stop_iteration();
    let (mut asked, mut done) = (Vec::new(), Vec::new());
    while (done.len() as u64) < requests {
        world.advance(DAYS);
        // What is held for clients that left is given back with a tick.
        world.run_for(Duration::from_secs(2));
        let drawn = draw(random, gateway, &world);
        let stream = send(&plugin, &drawn).start();
        let pairs = stream.is_forwarded() && drawn.max_tokens.is_some() && random.percent(80);
        let second = pairs.then(|| done_of(&ended(send(&plugin, &drawn).start())));
        let first = done_of(&ended(stream));
        asked.push(drawn.asked(&first, Vec::new()));
        if let (
            Some(second),
            Done::Passed {
                reserved,
                would_limit,
                ..
            },
        ) = (second, &first)
        {
            asked.push(drawn.asked(&second, drawn.holds(gateway, *reserved, would_limit)));
            done.push(first);
            done.push(second);
        } else {
            done.push(first);
        }
    }
    (asked, done)
}

fn draw(random: &mut Random, gateway: &Gateway, world: &World) -> Drawn {
    let stranger = key(random);
    let known: &ApiKey = random.one_of(&gateway.keys);
    let key = if random.percent(97) { known } else { &stranger };
    let endpoint = match random.percent(50) {
        true => "chat",
        false => *random.one_of(&[&ENDPOINTS[..], &["models"]].concat()),
    };
    let writes = ["chat", "completions", "responses", "messages"].contains(&endpoint);
    let bytes = *random.one_of(&[10, 300, 3_000, 40_000]);
    let at = jiff::Timestamp::from_second(i64::try_from(world.nanos() / 1_000_000_000).unwrap());
    let max_tokens = *random.one_of(&[None, Some(10), Some(300), Some(2_500), Some(20_000)]);
    Drawn {
        key: key.id().to_owned(),
        secret: key.reveal().to_owned(),
        model: random.one_of::<&str>(&NAMES),
        endpoint,
        bytes: bytes + usize::try_from(random.below(bytes as u64 / 10 + 1)).unwrap(),
        max_tokens: max_tokens.filter(|_| writes),
        stream: writes && random.percent(40),
        address: random.one_of::<&str>(&["10.1.2.3", "192.0.2.7", "203.0.113.9", "2001:db8::1"]),
        at: at.unwrap().to_string(),
        as_tokens: random.percent(50),
    }
}

impl Drawn {
    /// The members of a JSON body.
    fn body(&self) -> Value {
        let text = "word ".repeat(self.bytes / 5);
        let mut body = match self.endpoint {
            "chat" | "messages" => json!({"messages": [{"role": "user", "content": text}]}),
            "completions" | "images_generations" => json!({"prompt": text}),
            "speech" => json!({"input": text, "voice": "alloy"}),
            _ => json!({"input": text}),
        };
        body["model"] = json!(self.model);
        let cap = if self.endpoint == "responses" {
            "max_output_tokens"
        } else {
            "max_tokens"
        };
        if let Some(most) = self.max_tokens {
            body[cap] = json!(most);
        }
        if self.stream {
            body["stream"] = json!(true);
        }
        body
    }

    fn form(&self) -> String {
        let part = |head: &str, value: &str| {
            format!("--b\r\ncontent-disposition: form-data; {head}\r\n\r\n{value}\r\n")
        };
        let model = part("name=\"model\"", self.model);
        let file = part("name=\"file\"; filename=\"a.wav\"", &"x".repeat(self.bytes));
        format!("{model}{file}--b--\r\n")
    }

    /// As `explain` is asked, of a request of which the gateway did this, with so much of the limits in use.
    fn asked(&self, done: &Done, used: Vec<(String, u64)>) -> Value {
        let mut asked = json!({
            "key": self.key, "model": self.model, "endpoint": self.endpoint,
            "address": self.address, "at": self.at, "used": used,
        });
        if self.endpoint == "models" {
            asked["model"] = json!("");
            return asked;
        }
        let output = match (self.endpoint, self.max_tokens) {
            ("embeddings" | "moderations", _) => Some(0),
            (_, capped) => capped,
        };
        let held = match done {
            Done::Passed { reserved, .. } => Some(*reserved),
            Done::Refused { reserved, .. } => *reserved,
            Done::Answered => None,
        };
        let form = self.endpoint == "transcriptions";
        if !form && (!self.as_tokens || output.is_none()) {
            asked["body"] = self.body();
            return asked;
        }
        // Nobody caps what is written of sound: then as much of it is input as its bytes say.
        let input = match (held.zip(output), form) {
            (Some((held, output)), _) => held - output,
            (None, true) => (self.bytes as u64).div_ceil(256) + 8,
            (None, false) => (self.bytes as u64) * 27 / 100 + 8,
        };
        asked["input_tokens"] = json!(input);
        asked["max_tokens"] = json!(self.max_tokens);
        asked["stream"] = json!(self.stream);
        asked
    }

    /// What it holds of each limit, by its name, if nothing else of its limits' callers is under way.
    fn holds(&self, gateway: &Gateway, reserved: u64, would_limit: &BTreeSet<String>) -> Vec<(String, u64)> {
        let output = self.max_tokens.unwrap();
        let input = reserved - output;
        let rows = gateway.configuration["rate_limit"]["limits"].as_array().unwrap();
        let held = |row: &Value| match row["count"].as_str().unwrap() {
            "requests" | "concurrent" => 1,
            "tokens" => reserved,
            "input_tokens" => input,
            "output_tokens" => output,
            // Each model has the same price, or none.
            _ => match priced(gateway, self.model) {
                true => (input * 3 + output * 9).max(1),
                false => 0,
            },
        };
        let named = rows
            .iter()
            .map(|row| (row["name"].as_str().unwrap().to_owned(), held(row)));
        named.filter(|(name, _)| !would_limit.contains(name)).collect()
    }
}

fn priced(gateway: &Gateway, model: &str) -> bool {
    let models = &gateway.configuration["tenant_router"]["catalogue"]["models"];
    let own = match model {
        "big" => "large",
        "llama" => "llama-70b",
        other => other,
    };
    models[own].get("price").is_some()
}

fn send(plugin: &Plugin, drawn: &Drawn) -> Request {
    let path = match drawn.endpoint {
        "chat" => "/v1/chat/completions".to_owned(),
        "speech" | "transcriptions" => format!("/v1/audio/{}", drawn.endpoint),
        "images_generations" => "/v1/images/generations".to_owned(),
        other => format!("/v1/{other}"),
    };
    let request = if drawn.endpoint == "models" {
        plugin.get(&path)
    } else {
        plugin.post(&path)
    };
    let request = request.bearer(&drawn.secret).from(drawn.address);
    match drawn.endpoint {
        "models" => request,
        "transcriptions" => request
            .header("content-type", "multipart/form-data; boundary=b")
            .body(drawn.form()),
        _ => request.json(&drawn.body()),
    }
}

/// Its client leaves before an answer, so that nothing is learned of it.
fn ended(stream: Stream) -> Outcome {
    match stream.is_forwarded() {
        true => stream.abort(),
        false => stream.finish(),
    }
}

fn done_of(outcome: &Outcome) -> Done {
    let record = outcome.filter_state("tollgate.usage").unwrap_or_default();
    let record: Value =
        serde_json::from_str(&format!("{{\"v\":1{}}}", str::from_utf8(record).unwrap())).unwrap();
    let would_limit = names(&record["would_limit"]);
    let reserved = record["reserved_tokens"].as_u64();
    let Some((status, details, body)) = outcome.local_reply() else {
        let forwarded = outcome.expect_forwarded();
        let header = |name: &str| forwarded.headers().text(name).unwrap_or_default().to_owned();
        return Done::Passed {
            model: header("x-tollgate-model"),
            target: header("x-tollgate-target"),
            reserved: reserved.unwrap(),
            would_limit,
        };
    };
    if status == 200 {
        return Done::Answered;
    }
    let body: Value = serde_json::from_slice(body).unwrap();
    let code = body["error"]["code"].as_str().or(body["error"]["type"].as_str());
    Done::Refused {
        status: status.into(),
        code: code.unwrap().to_owned(),
        reason: details.strip_prefix("tollgate_").unwrap_or(details).to_owned(),
        limit: record["limit"].as_str().map(str::to_owned),
        reserved,
        would_limit,
    }
}

fn names(list: &Value) -> BTreeSet<String> {
    let names = list.as_array().into_iter().flatten();
    names.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// What `tollgate explain` says of each.
fn explain(configuration: &Value, asked: &[Value]) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("gateway.yaml"), format!("{configuration:#}")).unwrap();
    let lines: Vec<String> = asked.iter().map(ToString::to_string).collect();
    let requests = folder.path().join("requests.jsonl");
    std::fs::write(&requests, lines.join("\n")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(["explain", "gateway.yaml", "--requests", "requests.jsonl"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{}\n{configuration:#}",
        String::from_utf8_lossy(&output.stderr)
    );
    said.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

//! Requests and the reasons for what became of them.

use serde_json::{Value, json};

use super::*;
use crate::key::ApiKey;
use crate::state::fake::Worker;

const SECOND: u64 = 1_000_000_000;

struct Stage {
    host: Worker,
    pipeline: Pipeline,
    key: ApiKey,
}

fn stage() -> Stage {
    let key = ApiKey::mint(&[7; 40]);
    let callers = json!({
        "directory": {"inline": {
            "version": 1,
            "orgs": {"acme": {"tier": "pro", "models": ["*"]}},
            "keys": [{"id": "k1", "sha256": key.sha256_hex(), "org": "acme"}],
        }},
    });
    let route = json!({
        "catalogue": {"models": {
            "large": {
                "endpoints": ["chat"], "aliases": ["big"], "fallback": ["small"], "max_output": 100,
                "targets": [{"cluster": "a"}, {"cluster": "b", "weight": 0}],
            },
            "small": {"endpoints": ["chat"], "targets": [{"cluster": "c"}], "max_output": 100},
        }},
        "breaker": {"failures": 1, "open": "5s", "longest": "60s"},
        "allow_fallback": {"tier": ["pro"]},
    });
    let limits = json!({
        "limits": [
            {"name": "requests", "per": ["key"], "count": "requests", "rate": "2/minute", "burst": 2},
            {"name": "tokens", "per": ["org"], "count": "tokens", "rate": "1000/minute", "burst": 1000, "mode": "shadow"},
        ],
        "capacity": [{"model": "small", "concurrent": 1}],
    });
    let mut host = Worker::at(1_700_000_000 * SECOND);
    let bytes = |config: &Value| config.to_string().into_bytes();
    let pipeline = Pipeline::start(
        Arc::new(auth::Config::parse(&bytes(&callers)).unwrap_or_else(|errors| panic!("{errors:?}"))),
        Arc::new(route::Config::parse(&bytes(&route)).unwrap_or_else(|errors| panic!("{errors:?}"))),
        Arc::new(limiter::Config::parse(&bytes(&limits)).unwrap_or_else(|errors| panic!("{errors:?}"))),
        &mut host,
    );
    Stage {
        pipeline: pipeline.unwrap(),
        host,
        key,
    }
}

impl Stage {
    /// What becomes of a chat with this model, and why.
    fn ask(&mut self, model: &str) -> (Decision, Vec<String>) {
        let bearer = format!("Bearer {}", self.key.reveal());
        let headers = vec![
            (":method", "POST"),
            (":path", "/v1/chat/completions"),
            (":authority", "x"),
            ("authorization", bearer.as_str()),
        ];
        let body = json!({"model": model, "messages": [{"role": "user", "content": "one"}]}).to_string();
        let decision = self.pipeline.decide(&mut self.host, &headers, body.as_bytes(), 7);
        (decision, self.host.notes())
    }

    fn passes(&mut self, model: &str) -> (Box<Accepted>, Vec<String>) {
        match self.ask(model) {
            (Decision::Passes(accepted), notes) => (accepted, notes),
            (Decision::Answered(reply), notes) => panic!("{reply:?} {notes:?}"),
        }
    }

    fn refused(&mut self, model: &str) -> (String, Vec<String>) {
        match self.ask(model) {
            (Decision::Answered(reply), notes) => (reply.details, notes),
            (Decision::Passes(_), notes) => panic!("{notes:?}"),
        }
    }
}

#[test]
fn each_decision_is_told_with_its_rule() {
    let mut stage = stage();
    let (accepted, notes) = stage.passes("big");
    assert_eq!(accepted.request.order().first(), "a");
    assert_eq!(
        notes,
        [
            "check: Known holds",
            "check: Organization holds",
            "check: Status holds",
            "check: Scope holds",
            "caller: key k1 of organization acme, tier pro",
            "model: big is large",
            "fallback: small may stand in",
            "targets: by weight",
            "target a: asked first (primary)",
            "target b: asked if those before it fail",
            "reserved: 22 input, 100 output",
            "limits: 2 of 2 cover it",
            "limit requests: passes, 1 used, 1 left",
            "limit tokens: passes, 122 used, 878 left",
        ]
    );
}

#[test]
fn a_refusal_names_the_limit_and_leaves_everything_as_it_was() {
    let mut stage = stage();
    let (first, _) = stage.passes("large");
    let (second, _) = stage.passes("large");
    let (details, notes) = stage.refused("large");
    assert_eq!(details, "tollgate_rate_limit_exceeded");
    assert!(
        notes.contains(&"limit requests: refuses, 2 used, 0 left".to_owned()),
        "{notes:?}"
    );
    for accepted in [first, second] {
        stage.pipeline.withdraw(&mut stage.host, *accepted);
    }
    let (_, notes) = stage.passes("large");
    assert!(
        notes.contains(&"limit requests: passes, 1 used, 1 left".to_owned()),
        "{notes:?}"
    );
}

#[test]
fn a_full_model_and_a_stranger_are_told_apart() {
    let mut stage = stage();
    let (_held, notes) = stage.passes("small");
    assert_eq!(notes.last().unwrap(), "capacity of small: a slot is taken");
    let (details, notes) = stage.refused("small");
    assert_eq!(details, "tollgate_slow_down");
    assert_eq!(
        notes[notes.len() - 2..],
        ["capacity of small: full", "refused: slow_down (Limits)"]
    );
    stage.key = ApiKey::mint(&[8; 40]);
    let (details, notes) = stage.refused("small");
    assert_eq!(details, "tollgate_unknown_key");
    assert_eq!(notes, ["refused: unknown_key (Auth)"]);
}

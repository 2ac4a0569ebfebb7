//! A worker's limits from a request's coming to its record, over a store in memory.

use std::rc::Rc;

use serde_json::{Value, json};

use super::*;
use crate::body::Input;
use crate::bound::Overrides;
use crate::budget::{Terms, Unit};
use crate::endpoint::{Endpoint, Scopes};
use crate::identity::{Grants, Identity};
use crate::limits::Refusal;
use crate::route::Routed;
use crate::settlement::{Answer, Head};
use crate::spending::{Exchanger, Outside};
use crate::spent::Spent;
use crate::state::fake::{Told, Worker};
use crate::traffic::Withheld;
use crate::usage::UsageEvent;

const SECOND: u64 = 1_000_000_000;

/// One worker, and what it decides.
struct Stage {
    host: Worker,
    limiter: Limiter,
    holds: Holds,
}

impl Stage {
    fn of(configuration: &Value) -> Self {
        let mut host = Worker::at(1_700_000_000 * SECOND);
        host.tell(Told {
            attempts: 1,
            connected: true,
            ..Told::default()
        });
        let config = Config::parse(configuration.to_string().as_bytes()).unwrap();
        let workers = Workers::join(&mut host, None).unwrap();
        Self {
            host,
            limiter: Limiter::new(Arc::new(config), workers),
            holds: Holds::new(),
        }
    }

    /// A chat that may write so many tokens.
    fn chat(&mut self, max_output: u64) -> Result<Box<InFlight>, Box<Rejection>> {
        self.chat_of(max_output, &[])
    }

    /// The same by a caller with budgets.
    fn chat_of(&mut self, max_output: u64, budgets: &[Terms]) -> Result<Box<InFlight>, Box<Rejection>> {
        let routed = Routed {
            endpoint: Endpoint::Chat,
            model: "llama-70b".into(),
            target: "llama".into(),
            stream: false,
            input: Input {
                text: 100,
                ..Input::default()
            },
            max_output: Some(max_output),
            answers: 1,
            background: false,
            price: None,
            ask_usage: None,
            whole_at: 0,
            repeats: false,
            context_window: None,
            plain: false,
        };
        let request = Request {
            who: Rc::new(Identity {
                budgets: budgets.to_vec(),
                ..acme()
            }),
            routed: &routed,
            address: None,
            now: self.host.now().unwrap_or(0),
        };
        self.limiter.admit(&mut self.host, request)
    }

    /// Answers a request with so many tokens, to its end.
    fn answer(&mut self, mut request: Box<InFlight>, output: u64) -> Finished {
        let head = Head {
            status: Some("200"),
            content_type: Some(b"application/json"),
            ..Head::default()
        };
        let mut answer = Answer::begin(request.terms(), &head, UsageEvent::Pass, 7, false);
        let body = json!({"choices": [{}], "usage": {"prompt_tokens": 12, "completion_tokens": output}});
        answer.read(body.to_string().as_bytes(), true);
        request.answer = Some(answer);
        self.finish(request)
    }

    fn finish(&mut self, request: Box<InFlight>) -> Finished {
        self.limiter
            .finish(&mut self.host, &mut self.holds, request, Spent::default())
    }
}

fn acme() -> Identity {
    Identity {
        key_id: "k1".into(),
        org: "acme".into(),
        project: None,
        tier: "pro".into(),
        scopes: Scopes::UNRESTRICTED,
        models: Grants {
            org: vec!["*".into()],
            project: None,
            key: None,
        },
        labels: Vec::new(),
        overrides: Overrides::NONE,
        withheld: Withheld::NOTHING,
        budgets: Vec::new(),
    }
}

fn record(finished: &Finished) -> Value {
    serde_json::from_str(&format!("{{\"v\":1{}}}", finished.record)).unwrap()
}

fn output(rate: &str) -> Value {
    json!({"name": "output", "per": ["key"], "count": "output_tokens", "rate": rate})
}

/// What the limit of output says remains.
fn remaining(request: &InFlight) -> &str {
    let name = "x-ratelimit-remaining-tokens";
    let found = request.headers.iter().find(|(other, _)| *other == name);
    &found.unwrap().1
}

#[test]
fn a_request_is_reserved_settled_and_recorded() {
    let mut stage = Stage::of(&json!({"limits": [output("100/day")]}));
    let request = stage.chat(60).unwrap();
    let finished = stage.answer(request, 34);
    let record = record(&finished);
    assert_eq!(
        (&record["outcome"], &record["output_tokens"]),
        (&json!("complete"), &json!(34))
    );
    assert_eq!(
        (&record["org"], &record["model"]),
        (&json!("acme"), &json!("llama-70b"))
    );
    assert_eq!(
        (finished.first_byte_ms, finished.used.output_tokens),
        (Some(7), 34)
    );
    let next = stage.chat(60).unwrap();
    assert_eq!(remaining(&next), "6", "34 are used, and 60 reserved");
    stage.finish(next);
}

#[test]
fn a_limit_that_is_reached_refuses_and_holds_nothing() {
    let mut stage = Stage::of(&json!({"limits": [output("100/day")]}));
    let first = stage.chat(60).unwrap();
    let rejection = stage.chat(60).unwrap_err();
    assert_eq!(rejection.refusal(), Refusal::Limit(0));
    let reply = rejection.reply(Some("r-1".into()));
    assert_eq!(
        (reply.status, reply.details.as_str()),
        (429, "tollgate_insufficient_quota")
    );
    assert!(
        reply
            .headers
            .iter()
            .any(|(name, _)| *name == "x-ratelimit-remaining-tokens")
    );
    let record = record(&stage.limiter.finish_rejected(*rejection));
    assert_eq!(
        (&record["outcome"], &record["limit"]),
        (&json!("limited"), &json!("output"))
    );
    assert!(stage.chat(40).is_ok());
    drop(first);
}

#[test]
fn a_model_at_its_capacity_refuses_and_gives_the_limits_back() {
    let capacity = json!([{"model": "*", "concurrent": 1}]);
    let mut stage = Stage::of(&json!({"limits": [output("100/day")], "capacity": capacity}));
    let first = stage.chat(10).unwrap();
    let rejection = stage.chat(10).unwrap_err();
    assert_eq!(rejection.refusal(), Refusal::Capacity);
    assert_eq!(rejection.reply(None).details, "tollgate_slow_down");
    let record = record(&stage.limiter.finish_rejected(*rejection));
    assert_eq!(
        (&record["outcome"], record.get("limit")),
        (&json!("limited"), None)
    );
    stage.answer(first, 10);
    // The hunger of the refused one has passed.
    stage.host.pass(10 * SECOND);
    let next = stage.chat(10).unwrap();
    assert_eq!(remaining(&next), "80");
    stage.finish(next);
}

#[test]
fn a_store_that_fails_is_no_limit_that_is_reached() {
    let limit = json!({"name": "rpm", "per": ["key"], "rate": "9/minute", "on_error": "deny"});
    let mut stage = Stage::of(&json!({"limits": [limit]}));
    stage.host.fail(true);
    let rejection = stage.chat(10).unwrap_err();
    assert_eq!(rejection.refusal(), Refusal::Unavailable);
    assert_eq!(rejection.reply(None).details, "tollgate_rate_limit_unavailable");
}

#[test]
fn a_limit_in_shadow_mode_is_named_in_the_record() {
    let mut limit = output("50/day");
    limit["mode"] = json!("shadow");
    let mut stage = Stage::of(&json!({"limits": [limit]}));
    let first = stage.chat(40).unwrap();
    let second = stage.chat(40).unwrap();
    assert_eq!((first.would_refuse(), second.would_refuse()), (&[][..], &[0][..]));
    assert_eq!(record(&stage.finish(first)).get("would_limit"), None);
    assert_eq!(record(&stage.finish(second))["would_limit"], json!(["output"]));
}

/// Nobody answered yet: what the model server may come to is held until it can't come any more.
#[test]
fn what_a_client_left_is_held_for_its_time() {
    let mut stage = Stage::of(&json!({"limits": [output("100/day")], "abandoned_hold": "5s"}));
    let request = stage.chat(60).unwrap();
    assert_eq!(record(&stage.finish(request))["outcome"], "no_answer");
    assert!(stage.chat(60).is_err());
    stage.host.pass(5 * SECOND);
    stage.limiter.tick(&mut stage.host, &mut stage.holds).unwrap();
    assert!(stage.chat(60).is_ok());
}

#[test]
fn what_another_filter_answered_has_a_record_too() {
    for (status, outcome) in [(200, "complete"), (403, "refused"), (0, "refused")] {
        let line = format!("{{\"v\":1{}}}", record_of_another(&acme(), status));
        let record: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&record["outcome"], record.get("model")), (&json!(outcome), None));
    }
}

#[test]
fn an_answer_need_not_tell_of_limits_and_a_refusal_does() {
    let limits = json!([output("50/day")]);
    let passed = Stage::of(&json!({"limits": limits})).chat(40).unwrap();
    assert!(!passed.headers.is_empty());
    let mut stage = Stage::of(&json!({"limits": limits, "limit_headers": false}));
    assert_eq!(stage.chat(40).unwrap().headers, []);
    let reply = stage.chat(40).unwrap_err().reply(None);
    let told = |name: &str| reply.headers.iter().any(|(header, _)| *header == name);
    assert!(told("x-ratelimit-remaining-tokens"), "{:?}", reply.headers);
}

/// What a request's record says if its gateway is killed at that moment.
#[test]
fn what_is_known_of_a_request_grows_with_its_answer() {
    let mut stage = Stage::of(&json!({"limits": []}));
    let mut request = stage.chat(60).unwrap();
    let known = |request: &InFlight| {
        let known = request.so_far();
        let record: Value = serde_json::from_str(&format!("{{\"v\":1{}}}", known.members)).unwrap();
        assert_eq!(
            (&record["org"], &record["outcome"]),
            (&json!("acme"), &json!("crashed"))
        );
        assert_eq!(
            record["reserved_tokens"],
            json!(request.terms().reserved_tokens())
        );
        (known.status, record)
    };
    let (status, record) = known(&request);
    assert_eq!(
        (status, &record["output_tokens"], record.get("first_byte_ms")),
        (0, &json!(0), None)
    );
    assert_eq!(record["input_tokens"], json!(request.terms().reserved.input));
    let head = Head {
        status: Some("200"),
        content_type: Some(b"text/event-stream"),
        ..Head::default()
    };
    let mut answer = Answer::begin(request.terms(), &head, UsageEvent::Pass, 7, false);
    let event = |text: &str| {
        format!(
            "data: {}\n\n",
            json!({"choices": [{"index": 0, "delta": {"content": text}}]})
        )
    };
    for _ in 0..5 {
        answer.read(event("word ").as_bytes(), false);
    }
    request.answer = Some(answer);
    let (status, record) = known(&request);
    assert_eq!(
        (status, &record["first_byte_ms"], &record["source"]),
        (200, &json!(7), &json!("estimated"))
    );
    assert!(
        (5..=10).contains(&record["output_tokens"].as_u64().unwrap()),
        "{record}"
    );
    let usage = json!({"choices": [], "usage": {"prompt_tokens": 12, "completion_tokens": 5}});
    let last = format!("data: {usage}\n\ndata: [DONE]\n\n");
    request.answer.as_mut().unwrap().read(last.as_bytes(), false);
    let (_, record) = known(&request);
    assert_eq!(
        (
            &record["input_tokens"],
            &record["output_tokens"],
            &record["source"]
        ),
        (&json!(12), &json!(5), &json!("reported"))
    );
}

/// Has this Envoy have so much of a budget for a minute, as if the control plane had answered.
fn grant(stage: &mut Stage, budget: &str, amount: u64) {
    let mut exchanger = Exchanger::new([1, 2]);
    let mut post = Post(None);
    assert!(stage.chat_of(10, &[terms(budget, Unit::Tokens)]).is_err());
    exchanger.tick(&mut stage.host, &mut post);
    let message: Value = serde_json::from_slice(&post.0.take().unwrap()).unwrap();
    let now = stage.host.now().unwrap() / 1_000_000;
    let items = message["items"].as_array().unwrap().iter().map(|item| {
        json!({"budget": item["budget"], "window": now, "ends_at": now + 60_000, "granted": amount, "keep": amount,
            "amount": amount, "spent": 0})
    });
    let answer = json!({"items": items.collect::<Vec<_>>()})
        .to_string()
        .into_bytes();
    exchanger.answered((), Some("200"), || Ok(answer), &mut stage.host, &mut post);
}

/// Takes what an exchanger sends.
struct Post(Option<Vec<u8>>);

impl Outside<Worker> for Post {
    type Call = ();

    fn send(&mut self, _: &mut Worker, message: &[u8], _: u32) -> Result<(), String> {
        self.0 = Some(message.to_vec());
        Ok(())
    }

    fn count(&mut self, _: bool) {}

    fn stand(&mut self, _: u64) {}

    fn complain(&mut self, complaint: &str) {
        panic!("{complaint}");
    }
}

fn terms(id: &str, unit: Unit) -> Terms {
    Terms {
        id: id.into(),
        unit,
        is_shared: false,
        begins_at: None,
        ends_at: None,
    }
}

#[test]
fn a_budget_that_is_spent_refuses_and_its_record_says_which() {
    let mut stage = Stage::of(&json!({"limits": [output("1000/day")]}));
    let budgets = [terms("monthly", Unit::Tokens)];
    grant(&mut stage, "monthly", 150);
    let request = stage.chat_of(60, &budgets).unwrap();
    stage.answer(request, 34);
    // 12 + 34 are spent, as the record of the first says.
    let rejection = stage.chat_of(90, &budgets).unwrap_err();
    assert_eq!(rejection.refusal(), Refusal::Budget);
    let reply = rejection.reply(None);
    assert_eq!(
        (reply.status, reply.details.as_str()),
        (429, "tollgate_insufficient_quota")
    );
    let should_retry = reply.headers.iter().find(|(name, _)| *name == "x-should-retry");
    assert_eq!(should_retry.map(|(_, value)| &**value), Some("false"));
    let body = String::from_utf8(reply.body.clone()).unwrap();
    assert!(body.contains("Limit 150 tokens, Used 46, Requested "), "{body}");
    let record = record(&stage.limiter.finish_rejected(*rejection));
    assert_eq!(
        (&record["outcome"], &record["budget"], record.get("limit")),
        (&json!("limited"), &json!("monthly"), None)
    );
    // It took nothing of the limit.
    let next = stage.chat_of(20, &budgets).unwrap();
    assert_eq!(remaining(&next), "946");
    stage.finish(next);
}

#[test]
fn a_model_at_its_capacity_gives_budgets_back() {
    let capacity = json!([{"model": "*", "concurrent": 1}]);
    let mut stage = Stage::of(&json!({"limits": [], "capacity": capacity}));
    let budgets = [terms("monthly", Unit::Tokens)];
    grant(&mut stage, "monthly", 150);
    let first = stage.chat_of(10, &budgets).unwrap();
    for _ in 0..20 {
        assert_eq!(
            stage.chat_of(10, &budgets).unwrap_err().refusal(),
            Refusal::Capacity
        );
    }
    stage.answer(first, 10);
    stage.host.pass(10 * SECOND);
    let next = stage.chat_of(10, &budgets).unwrap();
    stage.finish(next);
}

#[test]
fn a_budget_of_which_nobody_knows_is_closed_unless_it_is_declared_open() {
    let budgets = [terms("monthly", Unit::CostMicros)];
    let mut closed = Stage::of(&json!({"limits": []}));
    let rejection = closed.chat_of(10, &budgets).unwrap_err();
    assert_eq!(rejection.reply(None).details, "tollgate_rate_limit_unavailable");
    let mut open = Stage::of(&json!({"limits": [], "budgets_on_error": "allow"}));
    let request = open.chat_of(10, &budgets).unwrap();
    open.finish(request);
}

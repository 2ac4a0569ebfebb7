//! A request's way, from its headers to its end, as stories.

use std::rc::Rc;

use serde_json::{Value, json};

use super::*;
use crate::directory::Loader;
use crate::fault::Fault;
use crate::flags::Flags;
use crate::headers::withheld;
use crate::identity::Identity;
use crate::state::fake::{Told, Worker};
use crate::targets::{Ending, tag};

const SECOND: u64 = 1_000_000_000;

type Given = Vec<(&'static str, &'static str)>;

fn config(more: &Value) -> Config {
    let mut config = json!({
        "catalogue": {"models": {
            "large": {
                "endpoints": ["chat"], "targets": [{"cluster": "a"}, {"cluster": "b", "weight": 0}], "fallback": ["small"],
                "timeouts": {"first_byte": "10s", "whole": "2m"}, "retries": 2, "deprecated_at": "1970-01-01T00:00:07Z",
            },
            "small": {"endpoints": ["chat"], "targets": [{"cluster": "c"}]},
        }},
        "breaker": {"failures": 1, "open": "5s", "longest": "60s"},
        "priorities": {"pro": "high"},
    });
    for (name, value) in more.as_object().unwrap() {
        config[name] = value.clone();
    }
    Config::parse(config.to_string().as_bytes()).unwrap()
}

fn chat(more: &[(&'static str, &'static str)]) -> Given {
    let line = [(":method", "POST"), (":path", "/v1/chat/completions")];
    line.into_iter().chain(more.iter().copied()).collect()
}

struct Stage {
    host: Worker,
    config: Config,
    who: Rc<Identity>,
}

fn stage(more: &Value) -> Stage {
    Stage {
        host: Worker::at(1_000 * SECOND),
        config: config(more),
        who: Rc::new(Identity::sample("acme", "k1")),
    }
}

impl Stage {
    fn begin(&mut self, headers: &Given, end: bool) -> Result<Begun, Refusal> {
        self.config.begin(&mut self.host, headers, &self.who, end)
    }

    /// What becomes of a chat with this body.
    fn plan<'s>(&'s mut self, body: &'s str) -> Result<Plan<'s, 's>, Refusal> {
        let Ok(Begun::Held(head)) = self.begin(&chat(&[]), false) else {
            panic!("a chat is waited for")
        };
        let Self { host, config, who } = self;
        config.plan(host, &head, who, body.as_bytes(), 7)
    }

    /// A chat that goes out.
    fn send(&mut self, model: &str) -> InFlight {
        let (who, since) = (Rc::clone(&self.who), 1_000 * SECOND);
        let body = json!({"model": model, "messages": []}).to_string();
        let plan = self.plan(&body).unwrap();
        InFlight::new(plan.model, (plan.order, plan.route), who, since)
    }

    fn tell(&self, told: Told) {
        self.host.tell(told);
    }

    fn answered(&mut self, request: &mut InFlight, ending: Ending) {
        request.answered(&mut self.host, &self.config.breaker, ending);
    }

    fn ended(&mut self, request: InFlight, heard: Heard) {
        request.ended(&mut self.host, &self.config.breaker, |_| heard);
    }

    /// Where the next chat goes.
    fn first(&mut self) -> String {
        self.send("large").order().first().to_owned()
    }
}

/// An answer of the first attempt.
const ONE: Told = Told {
    client: None,
    flags: Flags(0),
    attempts: 1,
    details: Some("via_upstream"),
    connected: true,
};
const LARGE: &str = r#"{"model": "large", "stream": true, "messages": []}"#;

#[test]
fn what_the_headers_say_decides_what_is_waited_for() {
    let mut stage = stage(&json!({}));
    let Ok(Begun::Held(head)) = stage.begin(
        &chat(&[
            ("content-type", "application/json"),
            ("content-encoding", "gzip"),
            ("content-length", "70"),
        ]),
        false,
    ) else {
        panic!("a chat is waited for")
    };
    assert_eq!(
        (head.length, head.says_coding, head.controlled),
        (Some(70), true, false)
    );
    assert!(head.boundary.is_none() && head.coding.is_some());
    for (name, controlled) in [
        ("x-envoy-max-retries", true),
        ("x-tollgate-targets", true),
        ("x-envoy-external-address", false),
    ] {
        let Ok(Begun::Held(head)) = stage.begin(&chat(&[(name, "1")]), false) else {
            panic!("{name}")
        };
        assert_eq!(head.controlled, controlled, "{name}");
    }
    assert!(matches!(
        stage.begin(&chat(&[]), true),
        Err(Refusal::Malformed(_))
    ));
    let get = |path| vec![(":method", "GET"), (":path", path)];
    assert!(matches!(
        stage.begin(&get("/v1/models"), true),
        Ok(Begun::Answered(_))
    ));
    let unknown = stage.begin(&get("/v1/models/none"), true);
    assert_eq!(unknown.unwrap_err().reason(), Reason::UnknownModel);
}

#[test]
fn too_many_refusals_end_it_before_anything_is_read() {
    let mut stage = stage(&json!({"refusals": {"key": "1/minute"}}));
    stage.config.refusals.count(&mut stage.host, &stage.who);
    assert!(matches!(
        stage.begin(&chat(&[]), false),
        Err(Refusal::TooManyRefused(_))
    ));
}

#[test]
fn a_plan_says_what_everyone_behind_goes_by() {
    let mut stage = stage(&json!({}));
    let (config, who) = (config(&json!({})), Rc::clone(&stage.who));
    let plan = stage.plan(LARGE).unwrap();
    let routed = plan.routed(7);
    assert_eq!((&*routed.model, &*routed.target), ("large", "a"));
    assert!(routed.stream && routed.repeats && routed.whole_at == 7);
    let targets = crate::priority_groups::header(["a", "b"]);
    for (name, value) in plan.headers(&config, &who) {
        let wanted = match name {
            "x-tollgate-model" => "large",
            "x-tollgate-target" => "a",
            "x-tollgate-targets" => &targets,
            "x-tollgate-priority" => "high",
            "x-envoy-upstream-rq-timeout-ms" => "120000",
            "x-envoy-upstream-rq-per-try-timeout-ms" => "10000",
            "x-envoy-max-retries" => "2",
            "x-envoy-retry-on" => "reset",
            "x-envoy-retriable-status-codes" => crate::fault::ANOTHER_TARGET,
            _ => panic!("{name}"),
        };
        assert_eq!(value.as_deref(), Some(wanted), "{name}");
    }
    let plan = stage.plan(r#"{"model": "small", "messages": []}"#).unwrap();
    let others = plan.headers(&config, &who).into_iter().skip(3);
    assert!(others.into_iter().all(|(_, value)| value.is_none()));
}

#[test]
fn what_names_no_model_is_refused() {
    let mut stage = stage(&json!({}));
    for (body, reason) in [
        (r#"{"messages": []}"#, "missing_model"),
        (r#"{"model": "", "messages": []}"#, "missing_model"),
        (r#"{"model": "none", "messages": []}"#, "model_not_found"),
        ("{", "invalid_json"),
    ] {
        assert_eq!(stage.plan(body).unwrap_err().reason().name(), reason, "{body}");
    }
}

#[test]
fn another_model_stands_in_for_those_who_may() {
    for (allowed, more) in [
        (false, json!({})),
        (true, json!({"allow_fallback": {"tier": ["pro"]}})),
    ] {
        let mut stage = stage(&more);
        stage.tell(ONE);
        for target in ["a", "b"] {
            let mut request = stage.send("large");
            assert_eq!(request.order().first(), target);
            stage.answered(&mut request, Ending::Failure);
        }
        match stage.plan(LARGE) {
            Ok(plan) => assert_eq!(
                (allowed, &*plan.model.name, plan.route.name()),
                (true, "small", "fallback")
            ),
            Err(refusal) => assert_eq!((allowed, refusal), (false, Refusal::Unavailable(5_000))),
        }
    }
}

#[test]
fn what_is_out_of_use_is_passed_by() {
    let withheld = |stage: &mut Stage, traffic: Value| {
        let document = json!({"version": 1, "orgs": {}, "keys": [], "traffic": traffic});
        let directory = Loader::load(document.to_string().into_bytes()).unwrap();
        Rc::make_mut(&mut stage.who).withheld = directory.traffic().withheld("pro");
    };
    let mut stage = stage(&json!({"allow_fallback": {"tier": ["pro"]}}));
    for (traffic, model, target, route) in [
        (json!({}), "large", "a", "primary"),
        (json!({"drained": ["b"]}), "large", "a", "primary"),
        (json!({"drained": ["a"]}), "large", "b", "primary"),
        (json!({"drained": ["a", "b"]}), "small", "c", "fallback"),
        (
            json!({"shed": [{"tier": "pro", "model": "large"}]}),
            "small",
            "c",
            "fallback",
        ),
        (json!({"shed": [{"tier": "free"}]}), "large", "a", "primary"),
    ] {
        withheld(&mut stage, traffic);
        let plan = stage.plan(LARGE).unwrap();
        assert_eq!(
            (&*plan.model.name, plan.order.first(), plan.route.name()),
            (model, target, route)
        );
    }
    for (traffic, refusal) in [
        (json!({"drained": ["a", "b", "c"]}), Refusal::Drained),
        (json!({"shed": [{"tier": "pro"}]}), Refusal::Shed),
        (
            json!({"drained": ["c"], "shed": [{"tier": "pro", "model": "large"}]}),
            Refusal::Shed,
        ),
    ] {
        withheld(&mut stage, traffic);
        let refused = stage.plan(LARGE).unwrap_err();
        assert_eq!((refused.answer().status, &refused), (503, &refusal));
        assert_eq!(refused.answer().retry, Retry::Never);
    }
}

#[test]
fn a_customer_learns_who_served_and_why() {
    let mut stage = stage(&json!({}));
    stage.tell(Told { attempts: 2, ..ONE });
    let mut request = stage.send("large");
    let said = request.introduction(&stage.host);
    let wanted = [
        ("x-tollgate-model", Some("large")),
        ("x-tollgate-route", Some("breaker-open")),
        ("deprecation", Some("@7")),
        ("sunset", None),
    ];
    for ((name, value), wanted) in said.iter().zip(wanted) {
        assert_eq!((*name, value.as_deref()), wanted);
    }
    let mut small = stage.send("small");
    assert_eq!(small.introduction(&stage.host)[1].1.as_deref(), Some("primary"));
}

#[test]
fn a_good_answer_is_one_once_it_is_whole() {
    let broke = Flags(1 << 6);
    for (heard, flags, next) in [
        (Heard::Whole, Flags(0), "a"),
        (Heard::Unknown, Flags(0), "a"),
        (Heard::Unknown, broke, "b"),
        // The client left.
        (Heard::Unknown, Flags(1 << 14), "a"),
        (Heard::Errored, Flags(0), "b"),
    ] {
        let mut stage = stage(&json!({}));
        stage.tell(ONE);
        let mut request = stage.send("large");
        stage.answered(&mut request, Ending::Success);
        assert_eq!(stage.first(), "a");
        stage.tell(Told { flags, ..ONE });
        stage.ended(request, heard);
        assert_eq!(stage.first(), next, "{heard:?} {flags:?}");
    }
}

/// One of Envoy's own circuit breakers is full, or nobody was asked: the target is not to blame.
#[test]
fn what_the_proxy_refused_by_itself_says_nothing_of_the_target() {
    let unasked = Told { attempts: 0, ..ONE };
    let overflow = Flags(1 << 7);
    let no_cluster = Flags(1 << 24);
    for (told, next) in [
        (unasked, "a"),
        (
            Told {
                flags: overflow,
                ..ONE
            },
            "a",
        ),
        (
            Told {
                flags: no_cluster,
                ..unasked
            },
            "b",
        ),
        (ONE, "b"),
    ] {
        let mut stage = stage(&json!({}));
        stage.tell(told);
        let mut request = stage.send("large");
        stage.answered(&mut request, Ending::Failure);
        assert_eq!(stage.first(), next, "{told:?}");
    }
}

#[test]
fn a_probe_that_was_not_sent_is_given_back() {
    for refused_before in [true, false] {
        let mut stage = stage(&json!({}));
        stage.tell(ONE);
        let mut request = stage.send("large");
        stage.answered(&mut request, Ending::Failure);
        stage.host.pass(5 * SECOND);
        let mut probe = stage.send("large");
        assert!(probe.order().is_probe() && stage.first() == "b");
        if refused_before {
            probe.withdraw(&mut stage.host);
        } else {
            // By the limits behind, in a chain of filters.
            stage.tell(Told { attempts: 0, ..ONE });
            stage.answered(&mut probe, Ending::Success);
            stage.ended(probe, Heard::Unknown);
        }
        assert!(stage.send("large").order().is_probe(), "{refused_before}");
    }
}

#[test]
fn a_body_tells_more_of_a_target_than_its_status() {
    let busy = Ending::Busy(core::time::Duration::from_secs(7), tag("acme"));
    for (ending, fault, others) in [
        (Ending::Success, Fault::Misdirected, "a"),
        (busy, Fault::Quota, "b"),
        (busy, Fault::Unreadable(429), "a"),
    ] {
        let mut stage = stage(&json!({}));
        stage.tell(ONE);
        let mut request = stage.send("large");
        stage.answered(&mut request, ending);
        request.faulty(&mut stage.host, &stage.config.breaker, fault);
        let own = stage.first();
        stage.who = Rc::new(Identity::sample("globex", "k2"));
        assert_eq!((&*own, &*stage.first()), ("b", others), "{fault:?}");
    }
}

#[test]
fn a_silent_answer_is_its_organizations_failure() {
    let mut stage = stage(&json!({}));
    stage.tell(Told { attempts: 2, ..ONE });
    let mut request = stage.send("large");
    assert_eq!(request.target(&stage.host), "b");
    stage.tell(ONE);
    let mut request = stage.send("large");
    assert_eq!(request.target(&stage.host), "a");
    request.fell_silent(&mut stage.host, &stage.config.breaker);
    stage.ended(request, Heard::Unknown);
    assert_eq!(stage.first(), "b");
    stage.who = Rc::new(Identity::sample("globex", "k2"));
    assert_eq!(stage.first(), "a");
}

#[test]
fn a_model_server_says_only_what_it_may() {
    let answer = vec![
        ("retry-after", "999999"),
        ("retry-after-ms", "7"),
        ("x-tollgate-org", "umbrella"),
        ("content-type", "application/json"),
    ];
    let told = |details| {
        let host = Worker::at(SECOND);
        host.tell(Told {
            details: Some(details),
            ..ONE
        });
        let names = withheld(&answer, &host).into_iter();
        names
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(told("via_upstream"), ["retry-after", "x-tollgate-org"]);
    assert_eq!(told("tollgate_model_unavailable"), ["x-tollgate-org"]);
}

#[test]
fn what_is_encoded_is_decoded_and_nothing_else() {
    let routed = Routed {
        endpoint: Endpoint::Chat,
        model: "llama-70b".into(),
        target: "llama".into(),
        stream: true,
        input: Input {
            text: 700,
            pictures: 1,
            ..Input::default()
        },
        max_output: Some(100),
        answers: 1,
        background: false,
        price: Some(Price {
            input: 1,
            cached_input: 2,
            output: 3,
            ..Price::default()
        }),
        ask_usage: Some(Edit {
            at: 1,
            len: 0,
            text: "x".into(),
        }),
        whole_at: 1_790_000_000_000_000_000,
        repeats: true,
        context_window: Some(131_072),
        plain: false,
    };
    let state = routed.encode();
    assert_eq!(Routed::decode(&state), Some(routed));
    assert_eq!(Routed::decode(&[&state[..], b"x"].concat()), None);
    for len in 0..state.len() {
        assert_eq!(Routed::decode(&state[..len]), None, "{len}");
    }
}

#[test]
fn request_lines() {
    let ask = |method: &str, path: &'static str| resource(method.as_bytes(), path.as_bytes());
    assert_eq!(
        ask("POST", "/v1/chat/completions?a=b"),
        Ok(Resource::Model(Endpoint::Chat))
    );
    assert_eq!(ask("GET", "/v1/chat/completions"), Err(Refusal::Method("POST")));
    assert_eq!(ask("GET", "/v1/models?limit=1"), Ok(Resource::Models));
    assert_eq!(
        ask("GET", "/v1/models/meta/llama"),
        Ok(Resource::ModelEntry("meta/llama"))
    );
    assert_eq!(ask("DELETE", "/v1/models/x"), Err(Refusal::Method("GET, HEAD")));
    assert_eq!(
        ask("GET", "/v2/models?key=secret"),
        Err(Refusal::UnknownUrl("GET /v2/models".into()))
    );
    assert_eq!(
        ask("sk-tg-x", "/v1/sk-tg-abcdefghijklmnop/%73k-tg/x?y"),
        Err(Refusal::UnknownUrl("*** /v1/sk-tg-ab***op/***/x".into()))
    );
}

#[test]
fn kinds_of_bodies() {
    let kind =
        |endpoint, kind: Option<&'static str>| body_kind(endpoint, kind.map(str::as_bytes).into_iter());
    assert_eq!(
        kind(Endpoint::Chat, Some("application/json; charset=utf-8")),
        Ok(None)
    );
    assert_eq!(kind(Endpoint::Chat, None), Ok(None));
    assert!(kind(Endpoint::Chat, Some("text/plain")).is_err());
    assert_eq!(
        kind(Endpoint::Transcriptions, Some("multipart/form-data; boundary=x")),
        Ok(Some("x"))
    );
    for good in [
        "application/json",
        "Application/JSON ; Charset=\"UTF-8\"",
        "application/json;",
        "application/json; charset=utf8; profile=\"x; charset=y\"",
    ] {
        assert_eq!(kind(Endpoint::Chat, Some(good)), Ok(None), "{good}");
    }
    for (endpoint, bad, charset) in [
        (Endpoint::Chat, "application/json; charset=utf-7", "utf-7"),
        (Endpoint::Chat, "application/json;charset=\"utf-16\"", "utf-16"),
        (Endpoint::Chat, "application/json; charset=us-ascii", "us-ascii"),
        (Endpoint::Chat, "application/json; charset=", ""),
        (
            Endpoint::Transcriptions,
            "multipart/form-data; boundary=x; charset=utf-7",
            "utf-7",
        ),
    ] {
        let refused = kind(endpoint, Some(bad)).unwrap_err();
        if charset.is_empty() {
            assert!(matches!(refused, Refusal::MediaType(_)), "{bad}");
        } else {
            assert_eq!(refused, Refusal::Charset(charset.into()), "{bad}");
            assert!(refused.answer().message.contains(charset));
        }
    }
    for bad in [
        "application/json; charset=utf-8; charset=utf-7",
        "application/json; charset=utf-8, application/json",
        "application/json, application/json",
        "application/json; charset*=utf-8''utf-7",
        "application/json; charset*0=ut; charset*1=f-7",
        "application/json; x=\"\\\"; charset=utf-7; y=\"",
        "application/json; charset",
        "application/json (comment); charset=utf-7",
        "application/json charset=utf-7",
        "",
    ] {
        assert!(
            matches!(kind(Endpoint::Chat, Some(bad)), Err(Refusal::MediaType(_))),
            "{bad}"
        );
    }
    let twice = [&b"application/json"[..], b"application/json"];
    assert!(body_kind(Endpoint::Chat, twice.into_iter()).is_err());
    assert!(kind(Endpoint::Transcriptions, Some("application/json")).is_err());
    assert!(kind(Endpoint::Transcriptions, None).is_err());
}

#[test]
fn an_unavailable_model_says_when() {
    let answer = Refusal::Unavailable(1_500).answer();
    assert_eq!((answer.status, answer.code), (503, "model_unavailable"));
    assert!(answer.headers().contains(&("retry-after", "2".into())));
}

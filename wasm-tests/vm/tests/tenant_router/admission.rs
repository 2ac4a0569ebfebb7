//! Where a request goes, and what it tells those behind.

use serde_json::{Value, json};
use tollgate_core::endpoint::Endpoint;
use tollgate_core::priority_groups;
use tollgate_vm::Response;

use crate::stage::{CHAT, Stage, chat, configuration, load, routed, stage};

#[test]
fn a_request_goes_to_the_target_of_its_model() {
    let stage = stage();
    let outcome = stage.chat("llama-latest").send();
    outcome
        .expect_forwarded()
        .header("x-tollgate-model", "llama-70b")
        .header("x-tollgate-target", "llama")
        .header("x-tollgate-targets", priority_groups::header(["llama", "spare"]))
        .header("x-tollgate-priority", "default")
        .header("x-envoy-upstream-rq-timeout-ms", "120000")
        .no_header("x-envoy-upstream-rq-per-try-timeout-ms")
        .header("x-envoy-max-retries", "2")
        .body(chat("llama-70b").to_string());
    assert_eq!(outcome.route_cache_cleared(), 1);
    let routed = routed(&outcome);
    assert_eq!(
        (routed.endpoint, &*routed.model, &*routed.target),
        (Endpoint::Chat, "llama-70b", "llama")
    );
    assert_eq!(
        (routed.stream, routed.max_output, routed.answers),
        (false, Some(100), 1)
    );
    assert!(routed.input.text >= 5, "{:?}", routed.input);
    assert_eq!(routed.price.unwrap().output, 2_400_000);
    assert_eq!(routed.ask_usage, None);
    assert_eq!(stage.decisions(), [("allow.routed".to_owned(), 1)]);
}

#[test]
fn a_stream_without_usage_is_to_be_asked_for_it() {
    let stage = stage();
    let ask = |more: Value| {
        let mut body = chat("llama-70b");
        body["stream"] = json!(true);
        body["stream_options"] = more;
        let outcome = stage.post(CHAT).json(&body).send();
        // The router itself leaves the body as it is.
        outcome
            .expect_forwarded()
            .body(body.to_string())
            .header("x-envoy-upstream-rq-per-try-timeout-ms", "10000");
        routed(&outcome).ask_usage.is_some()
    };
    assert!(ask(json!({"include_usage": false})) && ask(json!({})));
    assert!(!ask(json!({"include_usage": true})));
}

#[test]
fn a_tier_may_go_first() {
    for (tier, priority) in [("enterprise", "high"), ("pro", "default")] {
        let outcome = Stage::of(tier).chat("llama-70b").send();
        outcome.expect_forwarded().header("x-tollgate-priority", priority);
    }
}

/// Envoy's router obeys these, so that nobody but the filter may say them.
#[test]
fn what_a_client_tells_envoy_goes_no_further() {
    let stage = stage();
    let lies = [
        ("x-envoy-max-retries", "1000"),
        ("x-envoy-upstream-rq-timeout-ms", "0"),
        ("x-envoy-upstream-rq-per-try-timeout-ms", "0"),
        ("x-envoy-retry-on", "5xx"),
        ("x-envoy-retriable-status-codes", "200"),
        ("x-tollgate-targets", "hidden"),
        ("x-tollgate-target", "hidden"),
        ("x-tollgate-model", "hidden"),
        ("x-tollgate-priority", "high"),
    ];
    for model in ["llama-70b", "gpt-oss-120b"] {
        let request = lies.iter().fold(stage.chat(model), |request, (name, value)| {
            request.header(name, value)
        });
        let with = request.send();
        let without = stage.chat(model).send();
        for (name, _) in lies {
            let said = |outcome: &tollgate_vm::Outcome| outcome.expect_forwarded().headers().text(name);
            assert_eq!(said(&with), said(&without), "{name} of {model}");
        }
    }
}

#[test]
fn models_are_listed_to_those_who_may_use_them() {
    let stage = stage();
    let outcome = stage.get("/v1/models").send();
    let answer = outcome.expect_refused(200);
    answer.header("content-type", "application/json");
    let names = |list: &Value| -> Vec<String> {
        let models = list["data"].as_array().unwrap().iter();
        models
            .map(|model| model["id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        names(&answer.json()),
        [
            "gpt-oss-120b",
            "gpt-oss-same",
            "llama-70b",
            "llama-live",
            "llama-whisper"
        ]
    );
    let entry = stage.get("/v1/models/llama-70b").send();
    assert_eq!(entry.expect_refused(200).json()["owned_by"], "meta");
    for name in ["hidden", "nothing", "llama"] {
        let outcome = stage.get(&format!("/v1/models/{name}")).send();
        outcome.expect_refused(404).code("model_not_found");
    }
    assert_eq!(
        stage.decisions(),
        [
            ("allow.listed".to_owned(), 2),
            ("deny.model_not_found".to_owned(), 3)
        ]
    );
}

#[test]
fn an_answer_says_who_served_and_what_ends_when() {
    let stage = stage();
    let upstream = || Response::json(&json!({"id": "1"})).header("x-tollgate-model", "made-up");
    let outcome = stage.chat("llama-70b").upstream(upstream()).send();
    outcome
        .expect_response(200)
        .header("x-tollgate-model", "llama-70b")
        .header("x-tollgate-route", "primary")
        .no_header("deprecation")
        .no_header("sunset")
        .body(r#"{"id":"1"}"#);
    let outcome = stage.chat("gpt-oss-120b").upstream(upstream()).send();
    outcome
        .expect_response(200)
        .header("x-tollgate-model", "gpt-oss-120b")
        .header("deprecation", "@1767225600")
        .header("sunset", "Wed, 01 Jul 2026 00:00:00 GMT");
}

#[test]
fn a_changed_catalogue_is_for_new_requests() {
    let stage = stage();
    let mut changed = configuration();
    changed["catalogue"]["models"]["llama-70b"]["targets"] = json!([{"cluster": "new"}]);
    let stream = stage.chat("llama-70b").in_chunks(10).open();
    let old = stage.workers[0].clone();
    let new = old.vm().configure("tenant-router", changed).unwrap();
    let new = new.allow_on_headers_stop_iteration();
    let outcome = stage.known(new.post(CHAT)).json(&chat("llama-70b")).send();
    outcome.expect_forwarded().header("x-tollgate-target", "new");
    let outcome = stream.finish();
    outcome.expect_forwarded().header("x-tollgate-target", "llama");
    outcome.expect_response(200).header("x-tollgate-route", "primary");
}

#[test]
fn requests_and_reloads_leave_nothing_behind() {
    let stage = stage();
    let vm = stage.workers[0].vm().clone();
    let mut sizes = Vec::new();
    for _ in 0..60 {
        let filter = vm.configure("tenant-router", configuration()).unwrap();
        let filter = filter.allow_on_headers_stop_iteration();
        for model in ["llama-70b", "nothing"] {
            for _ in 0..20 {
                let _ = stage.known(filter.post(CHAT)).json(&chat(model)).send();
            }
        }
        filter.retire();
        sizes.push(vm.memory());
    }
    assert_eq!(sizes[20..].iter().max(), Some(&sizes[20]), "{sizes:?}");
}

/// As on another machine: nothing of it depends on which worker is asked.
#[test]
fn a_worker_that_came_later_routes_the_same() {
    let stage = stage();
    let late = load(&stage.world, configuration());
    let outcome = stage.known(late.post(CHAT)).json(&chat("llama-70b")).send();
    outcome.expect_forwarded().header("x-tollgate-target", "llama");
}

//! What is not routed, and what its client is told.

use serde_json::{Value, json};
use tollgate_vm::{Request, World};

use crate::stage::{CHAT, chat, configuration, load, stage};
use crate::support::worker;

#[test]
fn a_request_that_cannot_be_routed_says_why() {
    let stage = stage();
    let long =
        json!({"model": "llama-70b", "messages": [{"role": "user", "content": "a b ".repeat(100_000)}]});
    let mut greedy = chat("llama-70b");
    greedy["max_tokens"] = json!(101);
    let stories: [(Request, u16, &str); 13] = [
        (
            stage.post("/v1/nothing").json(&chat("llama-70b")),
            404,
            "unknown_url",
        ),
        (
            stage.post("/v2/chat/completions").json(&chat("llama-70b")),
            404,
            "unknown_url",
        ),
        (stage.get(CHAT), 405, "method_not_allowed"),
        (stage.post("/v1/models"), 405, "method_not_allowed"),
        (
            stage.post(CHAT).header("content-type", "text/plain").body("{}"),
            415,
            "unsupported_media_type",
        ),
        (stage.post(CHAT).body("{\"model\":"), 400, "invalid_json"),
        (stage.post(CHAT), 400, "invalid_json"),
        (
            stage
                .post(CHAT)
                .body(r#"{"model":"llama-70b","model":"hidden","messages":[]}"#),
            400,
            "invalid_json",
        ),
        (
            stage.post(CHAT).json(&json!({"messages": []})),
            400,
            "missing_model",
        ),
        (stage.chat("hidden"), 404, "model_not_found"),
        (stage.chat("nothing"), 404, "model_not_found"),
        (stage.post(CHAT).json(&long), 400, "context_length_exceeded"),
        (stage.post(CHAT).json(&greedy), 400, "unsupported_parameter"),
    ];
    let mut refused = 0;
    for (request, status, code) in stories {
        let outcome = request.send();
        let answer = outcome.expect_refused(status);
        answer.code(code).header("content-type", "application/json");
        assert!(!answer.message().is_empty());
        refused += 1;
    }
    let counted: u64 = stage.decisions().iter().map(|(_, count)| count).sum();
    assert_eq!(counted, refused);
    assert!(
        stage
            .decisions()
            .iter()
            .all(|(name, _)| name.starts_with("deny."))
    );
}

#[test]
fn what_is_not_granted_does_not_exist() {
    let stage = stage();
    let told = |model: &str| {
        let outcome = stage.chat(model).send();
        let message = outcome.expect_refused(404).message();
        message.replace(model, "")
    };
    assert_eq!(told("hidden"), told("nothing"));
}

#[test]
fn anthropics_path_has_anthropics_errors() {
    let stage = stage();
    let outcome = stage
        .post("/v1/messages")
        .header("x-request-id", "r1")
        .json(&chat("nothing"))
        .send();
    let answer: Value = outcome.expect_refused(404).json();
    assert_eq!(
        (&answer["type"], &answer["error"]["type"], &answer["request_id"]),
        (&json!("error"), &json!("not_found_error"), &json!("r1"))
    );
}

/// Nobody in front said who this is: whatever is asked for, it goes nowhere.
#[test]
fn without_an_identity_nothing_is_served() {
    let world = World::new();
    let filter = load(&world, configuration());
    for state in [
        None,
        Some(&b""[..]),
        Some(b"\xff\xff"),
        Some(b"{\"org\":\"acme\"}"),
    ] {
        let asked = [
            filter.get("/v1/models"),
            filter.get("/v1/models/llama-70b"),
            filter.post(CHAT).json(&chat("llama-70b")),
            filter.post(CHAT).json(&chat("llama-70b")).in_chunks(9),
            filter.post(CHAT).json(&chat("llama-70b")).trailer("a", "b"),
            filter.post("/v1/nothing"),
        ];
        for request in asked {
            let request = match state {
                Some(state) => request.property(&["tollgate.identity"], state),
                None => request.header("x-tollgate-org", "acme"),
            };
            let outcome = request.send();
            outcome.expect_refused(500).code("gateway_misconfigured");
        }
    }
}

/// A chain in the wrong order fails closed.
#[test]
fn ahead_of_key_auth_it_serves_nobody() {
    let world = World::new();
    let router = load(&world, configuration());
    let directory = json!({"version": 1, "orgs": {"acme": {"models": ["*"]}}, "keys": []});
    let key_auth = worker(&world, "key-auth", json!({"directory": {"inline": directory}}));
    let chain = world.chain(&[&router, &key_auth]);
    let outcome = chain.post(CHAT).bearer("sk-any").json(&chat("llama-70b")).send();
    outcome.expect_refused(500).code("gateway_misconfigured");
}

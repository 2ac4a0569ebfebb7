//! Where a credential of ours is at stake, only what is known to be needed passes, in both directions.

use serde_json::{Value, json};
use tollgate_harness::models::Fault;

use crate::stage::{Stage, providers};

const CHAT: &str = "/v1/chat/completions";
const MARK: &str = "forged";

fn chat() -> Value {
    json!({"model": "llama-70b", "messages": [{"role": "user", "content": "one"}]})
}

/// The first provider sees one header more, and says one more.
fn allowing() -> Value {
    let mut providers = providers();
    providers["local"]["allow_headers"] = json!(["X-Routing"]);
    providers["local"]["allow_response_headers"] = json!(["X-Served-Model"]);
    providers
}

#[tokio::test]
async fn a_provider_sees_what_it_needs_of_a_request() {
    let stage = Stage::with(&allowing(), |options| options).await;
    stage.first.set_fault(Fault::status(503));
    let mut request = stage.post(CHAT).json(chat());
    for name in [
        "x-unheard-of",
        // Shared by all customers of a credential: one would read another's answer.
        "idempotency-key",
        "openai-organization",
        "traceparent",
        "baggage",
        "origin",
        "referer",
        "accept-language",
        "x-forwarded-for",
        "true-client-ip",
        "cookie",
        "x-original-url",
    ] {
        let value = if name == "openai-organization" {
            "acme"
        } else {
            MARK
        };
        request = request.header(name, value);
    }
    request = request
        .header("x-routing", "near")
        .header("anthropic-version", "2023-06-01")
        .header("user-agent", "a-client/1");
    request.send().await.expect(200);
    let (first, second) = (&stage.first.seen()[0], &stage.second.seen()[0]);
    for seen in [first, second] {
        let mut names: Vec<_> = seen.headers.iter().map(|(name, _)| name.as_str()).collect();
        names.retain(|name| !["authorization", "x-api-key", "x-one", "x-routing"].contains(name));
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "accept",
                "anthropic-version",
                "content-length",
                "content-type",
                "host",
                "user-agent",
                "x-request-id"
            ],
            "{seen:#?}"
        );
    }
    assert_eq!(
        (first.header("x-routing"), second.header("x-routing")),
        (Some("near"), None)
    );
}

#[tokio::test]
async fn a_customer_sees_what_a_provider_says_of_its_answer() {
    let stage = Stage::with(&allowing(), |options| options).await;
    let theirs = [
        "set-cookie",
        "alt-svc",
        "strict-transport-security",
        "via",
        "openai-organization",
        "openai-project",
        "anthropic-organization-id",
        "x-ratelimit-limit-requests",
        "x-ratelimit-limit-tokens",
        "x-tollgate-model",
        "x-tollgate-route",
        "x-envoy-upstream-service-time",
        "x-envoy-immediate-health-check-fail",
        "access-control-allow-origin",
        "cf-ray",
        "x-unheard-of",
        "x-request-id",
        "server",
    ];
    let good = [
        ("x-served-model", "seen"),
        ("x-should-retry", "false"),
        ("cache-control", "no-store"),
    ];
    let says = theirs.map(|name| (name, MARK)).into_iter().chain(good);
    stage.first.set_headers(says.clone());
    stage.second.set_headers(says);
    // Behind a retry too; and what only the first may say, the second may not.
    stage.first.set_fault(Fault::status(503));
    let reply = stage.post(CHAT).json(chat()).send().await.expect(200);
    assert!(!format!("{:?}", reply.headers).contains(MARK), "{reply:#?}");
    drop(reply.lacks("x-served-model"));
    assert_eq!(stage.second.seen().len(), 1);
    // The last: then all of it is left alone for a while.
    let refused = Fault {
        retry_after: Some("7".into()),
        ..Fault::status(429)
    };
    for (fault, status) in [(Fault::default(), 200), (refused, 429)] {
        stage.first.set_fault(fault.clone());
        let reply = stage.post(CHAT).json(chat()).send().await.expect(status);
        assert!(!format!("{:?}", reply.headers).contains(MARK), "{reply:#?}");
        let reply = reply
            .has("openai-organization", "acme")
            .has("x-tollgate-model", "llama-70b");
        for (name, value) in good {
            assert_eq!(reply.header(name), Some(value), "{reply:#?}");
        }
        assert_eq!(reply.header("retry-after"), fault.retry_after.as_deref());
    }
}

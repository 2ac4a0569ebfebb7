//! Secrets: where they are not seen, and what happens where they are missing or change.

use serde_json::{Value, json};
use tollgate_harness::models::Fault;
use tollgate_harness::net::eventually;

use crate::stage::{Stage, first_secret, providers, second_secret};

const CHAT: &str = "/v1/chat/completions";

fn chat() -> Value {
    json!({"model": "llama-70b", "messages": [{"role": "user", "content": "one"}]})
}

/// Every header that a secret passes through, in an operator's own access log, and Envoy's log at its most talkative
/// but for the bytes on the wire.
#[tokio::test]
async fn no_log_shows_a_secret() {
    let stage = Stage::with(&providers(), |options| {
        options.log_level("debug").edit(
            "listener.yaml",
            "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
            "%REQ(AUTHORIZATION)% %REQ(X-API-KEY)% %FILTER_STATE(wasm.tollgate.attempt:PLAIN)% \
             %REQ(X-TOLLGATE-SECRET-LOCAL_KEY)% %REQ(X-TOLLGATE-SECRET-OPENROUTER_KEY)%",
        )
    })
    .await;
    let ask = || stage.post(CHAT).json(chat()).send();
    ask().await.expect(200);
    stage.first.set_fault(Fault::status(503));
    ask().await.expect(200);
    stage.second.set_fault(Fault::status(503));
    ask().await.expect(503);
    let reply = stage
        .post(CHAT)
        .body("{")
        .header("content-type", "application/json")
        .send()
        .await;
    let id = reply
        .expect(400)
        .code("invalid_json")
        .request_id()
        .unwrap()
        .to_owned();
    let record = stage.gateway.access_log().of(&id).await;
    assert_eq!(record.client.as_deref(), Some("- - - - -"));
    assert_eq!(stage.gateway.access_log().records().len(), 4);
    stage.expect_no_secret_shown().await;
}

#[tokio::test]
async fn a_missing_secret_is_an_operators_mistake_and_never_an_attempt_without() {
    let stage = Stage::with(&providers(), |options| {
        options.edit(
            "clusters.yaml",
            "ENVIRONMENT(CARGO_PKG_NAME)",
            "ENVIRONMENT(TOLLGATE_NOBODY_SETS_THIS)",
        )
    })
    .await;
    for _ in 0..3 {
        let reply = stage.post(CHAT).json(chat()).send().await;
        let reply = reply
            .expect(500)
            .code("gateway_misconfigured")
            .kind("server_error");
        assert!(
            !reply.text().contains("LOCAL_KEY"),
            "that is the operator's business"
        );
        let record = stage.gateway.access_log().of(reply.request_id().unwrap()).await;
        assert_eq!(record.details.as_deref(), Some("tollgate_missing_secret"));
    }
    assert_eq!((stage.first.seen().len(), stage.second.seen().len()), (0, 0));
    let stats = stage.gateway.stats().await;
    let missing = "wasmcustom.tollgate_adapter_attempts.provider.local.outcome.missing_secret";
    assert_eq!(stats.counter(missing), 3);
    let log = stage.gateway.log();
    let said = log
        .matches("no usable secret LOCAL_KEY (header x-tollgate-secret-local_key")
        .count();
    assert!((1..=2).contains(&said), "once a worker: {log}");
}

/// An endpoint that nobody said anything of could be anybody's.
#[tokio::test]
async fn an_endpoint_without_a_known_provider_is_not_asked() {
    for (metadata, details) in [
        ("{tollgate: {provider: nobody}}", "tollgate_unknown_provider"),
        ("{other: {provider: local}}", "tollgate_no_provider"),
    ] {
        let stage = Stage::with(&providers(), |options| {
            options.edit("clusters.yaml", "{tollgate: {provider: local}}", metadata)
        })
        .await;
        let reply = stage.post(CHAT).json(chat()).send().await;
        let reply = reply.expect(500).code("gateway_misconfigured");
        let record = stage.gateway.access_log().of(reply.request_id().unwrap()).await;
        assert_eq!(record.details.as_deref(), Some(details));
        assert_eq!(stage.first.seen().len(), 0);
    }
}

#[tokio::test]
async fn a_client_cannot_bring_a_secret() {
    let stage = Stage::start().await;
    let mut request = stage.post(CHAT).json(chat());
    for name in [
        "x-tollgate-secret-local_key",
        "x-tollgate-secret-openrouter_key",
        "x_tollgate_secret_local_key",
    ] {
        request = request.header(name, "mine");
    }
    request
        .header("proxy-authorization", "Basic mine")
        .send()
        .await
        .expect(200);
    let seen = &stage.first.seen()[0];
    assert!(
        !seen.headers.iter().any(|(_, value)| value.contains("mine")),
        "{:?}",
        seen.headers
    );
    assert_eq!(
        seen.header("authorization"),
        Some(format!("Bearer {}", first_secret()).as_str())
    );
}

#[tokio::test]
async fn a_secret_in_a_file_is_changed_without_a_restart() {
    let stage = Stage::start().await;
    stage.first.set_fault(Fault::status(503));
    let used = async || {
        stage.post(CHAT).json(chat()).send().await.expect(200);
        stage
            .second
            .seen()
            .pop()
            .unwrap()
            .header("x-api-key")
            .unwrap()
            .to_owned()
    };
    assert_eq!(used().await, second_secret());
    stage.rotate("another-secret");
    eventually("the new secret is used", async || {
        (used().await == "another-secret").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_configuration_changes_and_a_wrong_one_does_not() {
    const FILE: &str = "filters/upstream-adapter.yaml";
    const REJECTED: &str =
        "extension_config_discovery.upstream_http_filter.tollgate.upstream-adapter.update_rejected";
    let stage = Stage::start().await;
    let host = async || {
        stage.post(CHAT).json(chat()).send().await.expect(200);
        stage
            .first
            .seen()
            .pop()
            .unwrap()
            .header("host")
            .unwrap()
            .to_owned()
    };
    assert_eq!(host().await, "one.example");
    stage.gateway.edit(FILE, "one.example", "two.example");
    eventually("the new name is used", async || {
        (host().await == "two.example").then_some(())
    })
    .await;
    stage.gateway.edit(FILE, "two.example", "three/example");
    eventually("the wrong one is refused", async || {
        (stage.gateway.stats().await.counter(REJECTED) > 0).then_some(())
    })
    .await;
    assert_eq!(host().await, "two.example");
    let log = stage.gateway.log();
    assert!(
        log.contains("configuration refused: providers.local.authority: found `three/example`"),
        "{log}"
    );
}

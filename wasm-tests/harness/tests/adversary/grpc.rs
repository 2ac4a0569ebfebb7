//! A client that says it speaks gRPC: Envoy would hide each refusal in `grpc-message` and call it a 200.

use std::time::Duration;

use tollgate_harness::client::{Reply, Request};
use tollgate_harness::raw;

use crate::stage::{CHAT, MESSAGES, Stage};

/// As Envoy knows it, and in other spellings.
const TYPES: [&str; 6] = [
    "application/grpc",
    "application/grpc+proto",
    "application/grpc+json",
    "application/grpc; charset=utf-8",
    "application/grpc-web",
    "Application/GRPC",
];

/// Sends it in each spelling, over both versions of HTTP.
async fn each(make: impl Fn() -> Request) -> Vec<Reply> {
    let mut replies = Vec::new();
    for kind in TYPES {
        for http2 in [false, true] {
            let ask = make().header("content-type", kind).header("te", "trailers");
            let reply = if http2 { ask.http2() } else { ask }.send().await;
            replies.push(
                reply
                    .lacks("grpc-status")
                    .lacks("grpc-message")
                    .lacks("x-tollgate-own-answer"),
            );
        }
    }
    replies
}

/// Sees that each reply is this refusal, and that the logs say so.
async fn refused(stage: &Stage, replies: Vec<Reply>, status: u16, code: &str) {
    for reply in replies {
        let reply = reply.expect(status).code(code);
        let length = reply.body.len().to_string();
        let reply = reply.has("content-length", &length);
        let id = reply.request_id().unwrap();
        assert_eq!(stage.gateway.access_log().of(id).await.status, status);
        assert_eq!(stage.gateway.usage_log().of(id).await.status, status);
    }
}

#[tokio::test]
async fn a_grpc_client_gets_the_contracts_statuses_and_bodies() {
    let stage = Stage::start().await;
    let gateway = &stage.gateway;
    let replies = each(|| gateway.post(CHAT).body("")).await;
    refused(&stage, replies, 401, "missing_api_key").await;
    let replies = each(|| gateway.post("/v2/x").key(&stage.key).body("")).await;
    refused(&stage, replies, 404, "unknown_url").await;
    let replies = each(|| gateway.request("PUT", CHAT).key(&stage.key).body("")).await;
    refused(&stage, replies, 405, "method_not_allowed").await;
    let replies = each(|| gateway.post(CHAT).key(&stage.key).body("{}")).await;
    refused(&stage, replies, 415, "unsupported_media_type").await;
    for reply in each(|| gateway.post(MESSAGES).key(&stage.key).body("{}")).await {
        reply.expect(415).anthropic("invalid_request_error");
    }
    assert_eq!(stage.models.seen().len(), 0);
}

#[tokio::test]
async fn what_the_gateway_answers_itself_is_an_answer() {
    let stage = Stage::start().await;
    for reply in each(|| stage.gateway.get("/v1/models").key(&stage.key)).await {
        let reply = reply.expect(200).has("content-type", "application/json");
        assert_eq!(reply.json()["object"], "list");
    }
    for reply in each(|| stage.gateway.request("HEAD", "/v1/models").key(&stage.key)).await {
        assert_eq!(reply.expect(200).text(), "");
    }
    for reply in each(|| stage.gateway.request("HEAD", "/v1/models")).await {
        assert_eq!(reply.expect(401).text(), "");
    }
}

#[tokio::test]
async fn envoys_own_refusals_are_said_plainly() {
    let stage = Stage::start().await;
    let key = stage.key.reveal();
    let head = |line: &str, more: &str| {
        format!("{line} HTTP/1.1\r\nhost: x\r\ncontent-type: application/grpc\r\n{more}\r\n")
    };
    let bearer = format!("authorization: Bearer {key}\r\n");
    for (head, status, code) in [
        (head("POST /%00", "content-length: 0\r\n"), 400, "bad_request"),
        (head("POST /v1#f", "content-length: 0\r\n"), 400, "bad_request"),
        (
            head("GET /v1", "connection: upgrade\r\nupgrade: x\r\n"),
            400,
            "bad_request",
        ),
        (head("CONNECT x:443", &bearer), 400, "bad_request"),
    ] {
        let answer = raw::exchange(stage.gateway.addr(), head.as_bytes(), Duration::from_secs(10)).await;
        refused(&stage, vec![answer.expect_any()], status, code).await;
    }
}

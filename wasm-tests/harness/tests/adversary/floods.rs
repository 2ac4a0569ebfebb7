//! Requests that are wrong, again and again: they cost work, and an operator can limit them.

use serde_json::json;
use tollgate_core::key::ApiKey;
use tollgate_harness::models::ModelServer;
use tollgate_harness::{Catalogue, Directory, Gateway, Options, Reply};

use crate::uploads::{CHAT, chat};

struct Stage {
    gateway: Gateway,
    _models: ModelServer,
    keys: [ApiKey; 2],
}

impl Stage {
    async fn new(refusals: serde_json::Value) -> Self {
        let models = ModelServer::start().await.unwrap();
        let mut directory = Directory::new();
        let keys = [directory.key("acme"), directory.key("acme")];
        let mut catalogue = Catalogue::new();
        catalogue.set("refusals", refusals);
        let options = Options::new().llama(models.addr()).directory(&directory);
        Self {
            gateway: options.catalogue(&catalogue).start().await,
            _models: models,
            keys,
        }
    }

    async fn ask(&self, key: &ApiKey, body: impl Into<reqwest::Body>) -> Reply {
        self.gateway.post(CHAT).key(key).body(body).send().await
    }

    /// Six of six kinds, all refused for what they are.
    async fn six_refused(&self, key: &ApiKey) {
        self.ask(key, "{").await.expect(400);
        self.ask(key, r#"{"model":"nothing"}"#).await.expect(404);
        self.gateway
            .post("/v1/nothing")
            .key(key)
            .body("{}")
            .send()
            .await
            .expect(404);
        self.gateway.get(CHAT).key(key).send().await.expect(405);
        let text = self
            .gateway
            .post(CHAT)
            .key(key)
            .header("content-type", "text/xml");
        text.body("{}").send().await.expect(415);
        let coded = self.gateway.post(CHAT).key(key).header("content-encoding", "br");
        coded.body("{}").send().await.expect(415);
    }
}

#[tokio::test]
async fn refused_requests_of_a_key_are_limited() {
    let stage = Stage::new(json!({"key": "6/hour"})).await;
    let [wrong, good] = &stage.keys;
    // What is good does not count.
    for _ in 0..10 {
        stage.ask(wrong, chat(200)).await.expect(200);
    }
    stage.six_refused(wrong).await;
    let reply = stage.ask(wrong, chat(200)).await.expect(429);
    let reply = reply
        .kind("requests")
        .code("rate_limit_exceeded")
        .says("from this key");
    let seconds: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((540..=600).contains(&seconds), "{seconds}");
    let anthropic = stage
        .gateway
        .post("/v1/messages")
        .key(wrong)
        .body("{")
        .send()
        .await;
    anthropic.expect(429).anthropic("rate_limit_error");
    // Nobody else is refused for it.
    stage.ask(good, chat(200)).await.expect(200);
}

#[tokio::test]
async fn refused_requests_of_an_address_are_limited() {
    let stage = Stage::new(json!({"address": "6/hour"})).await;
    let [first, second] = &stage.keys;
    stage.six_refused(first).await;
    let reply = stage.ask(second, chat(200)).await.expect(429);
    reply.code("rate_limit_exceeded").says("from this address");
}

#[tokio::test]
async fn without_a_limit_none_is_turned_away() {
    let stage = Stage::new(json!({})).await;
    for _ in 0..10 {
        stage.six_refused(&stage.keys[0]).await;
    }
    stage.ask(&stage.keys[0], chat(200)).await.expect(200);
}

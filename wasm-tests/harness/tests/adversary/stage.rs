//! A gateway with one customer and one model server behind it.

use serde_json::{Value, json};
use tollgate_core::key::ApiKey;
use tollgate_harness::client::Request;
use tollgate_harness::models::ModelServer;
use tollgate_harness::{Directory, Gateway, Options};

pub(crate) const CHAT: &str = "/v1/chat/completions";
pub(crate) const MESSAGES: &str = "/v1/messages";

pub(crate) struct Stage {
    pub(crate) gateway: Gateway,
    pub(crate) key: ApiKey,
    pub(crate) models: ModelServer,
}

impl Stage {
    pub(crate) async fn start() -> Self {
        Self::with(|options| options).await
    }

    pub(crate) async fn with(change: impl FnOnce(Options) -> Options) -> Self {
        let models = ModelServer::start().await.unwrap();
        let mut directory = Directory::new();
        let key = directory.project_key("acme", "search");
        let options = Options::new()
            .workers(1)
            .llama(models.addr())
            .directory(&directory);
        let gateway = change(options).start().await;
        Self { gateway, key, models }
    }

    /// A request that is fine.
    pub(crate) fn ask(&self, path: &str) -> Request {
        self.gateway.post(path).key(&self.key).json(chat())
    }
}

pub(crate) fn chat() -> Value {
    json!({"model": "llama-70b", "max_tokens": 8, "messages": [{"role": "user", "content": "one two three"}]})
}

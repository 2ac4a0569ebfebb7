//! Providers in clusters of their own: the targets of one model, each retry at the next one, as `envoy/routes.yaml` has
//! it. The adapter stands in every chain, and behind a provider's secret in that provider's alone.

use serde_json::{Value, json};
use tollgate_harness::Catalogue;
use tollgate_harness::catalogue::in_order;
use tollgate_harness::models::{Fault, ModelServer, Seen};

use crate::retries::{expect_first, expect_second, model};
use crate::stage::{Stage, first_secret, prefixed, second_secret};

const CHAT: &str = "/v1/chat/completions";
/// Of the first provider.
const PREFIXED: &str = "/one/v1/chat/completions";
const PROTOCOL: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// The two providers, and a model server of our own behind them or in front.
struct Apart {
    stage: Stage,
    own: ModelServer,
}

impl Apart {
    /// Asks these clusters in this order.
    async fn start(order: &[&str]) -> Self {
        let own = ModelServer::builder().name("own").start().await.unwrap();
        let mut providers = prefixed("/one");
        providers["own"] = json!({});
        let mut catalogue = Catalogue::empty();
        catalogue.chat("llama-70b", order).set(
            "breaker",
            json!({"failures": 1000, "open": "1ms", "longest": "1ms"}),
        );
        catalogue.change("llama-70b", json!({"targets": in_order(order)}));
        let clusters = |block: String| apart(&block, own.addr().port());
        let stage = Stage::of(&providers, clusters, |options| options.catalogue(&catalogue)).await;
        Self { stage, own }
    }

    fn seen(&self) -> [Vec<Seen>; 3] {
        [&self.stage.first, &self.stage.second, &self.own].map(ModelServer::seen)
    }

    async fn ask(&self, status: u16) {
        let body = json!({"messages": [{"role": "user", "content": "one two three"}], "model": "llama-70b"});
        let reply = self.stage.post(CHAT).json(body).send().await.expect(status);
        // What an attempt took away is back when the answer is made.
        drop(reply.has("openai-organization", "acme"));
    }
}

/// The members of the file's aggregate, each with the aggregate's chain but for the other's secret, and a cluster of
/// our own with the adapter alone.
fn apart(block: &str, own: u16) -> String {
    let mut clusters: Vec<Value> = serde_saphyr::from_str(block).unwrap();
    let aggregate = clusters.remove(0);
    let options = &aggregate["typed_extension_protocol_options"][PROTOCOL];
    let chain = options["http_filters"].as_array().unwrap().clone();
    let [from_environment, from_file, adapter, codec] = chain.try_into().unwrap();
    let mut own_cluster = clusters[0].clone();
    own_cluster["name"] = json!("own");
    own_cluster["load_assignment"]["cluster_name"] = json!("own");
    let endpoint = &mut own_cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0];
    endpoint["endpoint"]["address"]["socket_address"]["port_value"] = json!(own);
    endpoint["metadata"]["filter_metadata"]["tollgate"]["provider"] = json!("own");
    clusters.push(own_cluster);
    let mut text = String::new();
    for (mut cluster, secret) in clusters
        .into_iter()
        .zip([Some(from_environment), Some(from_file), None])
    {
        let filters = secret.into_iter().chain([adapter.clone(), codec.clone()]);
        let mut options = options.clone();
        options["http_filters"] = filters.collect();
        cluster["typed_extension_protocol_options"] = json!({PROTOCOL: options});
        text += &format!("- {cluster}\n");
    }
    text
}

/// Ours sees who is calling, and nothing of either provider.
fn expect_own(seen: &Seen) {
    assert_eq!((seen.path.as_str(), model(seen).as_str()), (CHAT, "llama-70b"));
    assert_eq!(
        (seen.header("x-tollgate-org"), seen.header("x-tollgate-model")),
        (Some("acme"), Some("llama-70b"))
    );
    for name in ["authorization", "x-api-key", "x-one"] {
        assert_eq!(seen.header(name), None, "{name}");
    }
    assert_ne!(seen.header("host"), Some("one.example"));
    for (name, value) in &seen.headers {
        let foreign = [first_secret(), second_secret(), "sk-tg-".to_owned()];
        assert!(!foreign.iter().any(|foreign| value.contains(foreign)), "{name}");
        assert!(!name.starts_with("x-tollgate-secret-"), "{name}");
    }
    let length = seen.body.len().to_string();
    assert_eq!(seen.header("content-length"), Some(length.as_str()));
}

#[tokio::test]
async fn each_retry_is_that_clusters_own() {
    let apart = Apart::start(&["local", "openrouter", "own"]).await;
    for server in [&apart.stage.first, &apart.stage.second] {
        server.set_fault(Fault::status(503));
    }
    for _ in 0..10 {
        apart.ask(200).await;
    }
    let [first, second, own] = apart.seen();
    first.iter().for_each(|seen| expect_first(seen, PREFIXED));
    second.iter().for_each(expect_second);
    own.iter().for_each(expect_own);
    assert_eq!((first.len(), second.len(), own.len()), (10, 10, 10));
    apart.stage.expect_no_secret_shown().await;
}

#[tokio::test]
async fn and_so_it_is_in_any_order() {
    for order in [
        ["openrouter", "local", "own"],
        ["own", "openrouter", "local"],
        ["local", "own", "openrouter"],
    ] {
        let apart = Apart::start(&order).await;
        for server in [&apart.stage.first, &apart.stage.second, &apart.own] {
            server.set_fault(Fault::status(503));
        }
        apart.ask(503).await;
        let [first, second, own] = apart.seen();
        first.iter().for_each(|seen| expect_first(seen, PREFIXED));
        second.iter().for_each(expect_second);
        own.iter().for_each(expect_own);
        assert_eq!((first.len(), second.len(), own.len()), (1, 1, 1), "{order:?}");
    }
}

#[tokio::test]
async fn a_cluster_that_is_not_there_leaves_no_trace() {
    let mut apart = Apart::start(&["local", "openrouter", "own"]).await;
    // Its port refuses from here on.
    let placeholder = ModelServer::start().await.unwrap();
    drop(std::mem::replace(&mut apart.stage.first, placeholder));
    for _ in 0..3 {
        apart.ask(200).await;
    }
    let [_, second, own] = apart.seen();
    second.iter().for_each(expect_second);
    assert_eq!((second.len(), own.len()), (3, 0));
}

/// What a provider says of our credential in an answer that begins with success is answered by the next target.
#[tokio::test]
async fn an_error_inside_a_success_is_asked_elsewhere() {
    let apart = Apart::start(&["openrouter", "own", "local"]).await;
    for error in [
        json!({"message": "Incorrect API key provided", "code": "invalid_api_key"}),
        json!({"message": "You exceeded your current quota", "type": "insufficient_quota"}),
        json!({"message": "x", "code": 401}),
        json!({"message": "Overloaded", "code": 529}),
    ] {
        apart.stage.second.fault_once(Fault {
            body: Some(json!({ "error": error }).to_string()),
            ..Fault::default()
        });
        apart.ask(200).await;
    }
    let [first, second, own] = apart.seen();
    assert_eq!((first.len(), second.len(), own.len()), (0, 4, 4));
}

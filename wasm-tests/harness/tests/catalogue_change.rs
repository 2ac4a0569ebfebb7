//! The catalogue edited while customers call: traffic moves within a second, no request fails, streams go on, and a
//! wrong catalogue is refused with its place.

#![expect(
    clippy::unwrap_used,
    reason = "a test says what it expects by failing, in its helpers too"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tollgate_core::key::ApiKey;
use tollgate_harness::models::{FAULT_HEADER, ModelServer, SERVER_HEADER};
use tollgate_harness::{Catalogue, Directory, Gateway, Options, Reload};

const PATH: &str = "/v1/chat/completions";
/// From the file's rename on, so long at most until no worker goes by the old one.
const BOUND: Duration = Duration::from_secs(1);
const CALLERS: usize = 6;

struct Stack {
    gateway: Gateway,
    key: ApiKey,
    catalogue: Catalogue,
    _servers: [ModelServer; 2],
}

impl Stack {
    /// A model, all of it at `old`; `new` is there as well.
    async fn start() -> Self {
        let server = |name: &str| ModelServer::builder().name(name).keep(0).start();
        let servers = [server("old").await.unwrap(), server("new").await.unwrap()];
        let (directory, key) = Directory::of_one("acme");
        let mut catalogue = Catalogue::empty();
        catalogue.chat("model", &["old"]);
        let options = Options::new()
            .cluster("old", servers[0].addr())
            .cluster("new", servers[1].addr());
        let gateway = options.directory(&directory).catalogue(&catalogue).start().await;
        Self {
            gateway,
            key,
            catalogue,
            _servers: servers,
        }
    }

    /// Callers that ask on and on until `stop`; what each request met, and when it was sent.
    fn load(&self, stop: &Arc<AtomicBool>) -> tokio::task::JoinSet<Vec<(Instant, Instant, String)>> {
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..CALLERS {
            // A connection of its own each, so that both workers have some.
            let (client, key, stop) = (self.gateway.client(), self.key.reveal().to_owned(), stop.clone());
            callers.spawn(async move {
                let mut samples = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let sent = Instant::now();
                    let reply = client
                        .post(PATH)
                        .key(&key)
                        .json(chat(false))
                        .send()
                        .await
                        .expect(200);
                    let server = reply.header(SERVER_HEADER).unwrap().to_owned();
                    samples.push((sent, Instant::now(), server));
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                samples
            });
        }
        callers
    }
}

fn chat(stream: bool) -> Value {
    json!({"model": "model", "stream": stream, "messages": [{"role": "user", "content": "one two three"}]})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_moves_traffic_within_a_second_and_fails_no_request() {
    let mut stack = Stack::start().await;
    let request = stack.gateway.post(PATH).key(&stack.key).json(chat(true));
    let mut stream = request.header(FAULT_HEADER, "tokens=60,pace=100ms").open().await;
    stream.chunk().await.unwrap().unwrap();

    let stop = Arc::new(AtomicBool::new(false));
    let load = stack.load(&stop);
    let mut turns = Vec::new();
    for target in ["new", "old", "new"] {
        tokio::time::sleep(BOUND).await;
        stack.catalogue.chat("model", &[target]);
        let at = Instant::now();
        assert_eq!(
            stack.gateway.set_router(&stack.catalogue.configuration()).await,
            Reload::Accepted
        );
        turns.push((at, target));
        tokio::time::sleep(BOUND).await;
    }
    tokio::time::sleep(BOUND).await;
    stop.store(true, Ordering::Relaxed);
    let samples: Vec<_> = load.join_all().await.into_iter().flatten().collect();
    println!("{} requests, none failed", samples.len());
    assert!(samples.len() > 500, "{}", samples.len());
    for (sent, done, server) in &samples {
        // In force when it was sent, and, while a change is on its way, the one before.
        let latest = turns.iter().rev().find(|(at, _)| *at <= *done);
        let settled = turns.iter().rev().find(|(at, _)| *at + BOUND <= *sent);
        let name = |turn: Option<&(Instant, &'static str)>| turn.map_or("old", |(_, target)| target);
        assert!(
            server == name(latest) || server == name(settled),
            "{server} served a request of {:?} after the first change",
            sent.saturating_duration_since(turns[0].0)
        );
    }
    let mut text = String::new();
    while let Some(chunk) = stream.chunk().await.unwrap() {
        text += &String::from_utf8_lossy(&chunk);
    }
    assert!(
        text.trim_end().ends_with("data: [DONE]"),
        "the stream went on to its end"
    );
}

#[tokio::test]
async fn a_wrong_catalogue_is_refused_with_its_place_and_the_old_one_serves() {
    let stack = Stack::start().await;
    let ask = async || {
        let request = stack.gateway.post(PATH).key(&stack.key).json(chat(false));
        request.send().await.expect(200).has(SERVER_HEADER, "old");
    };
    let wrong = |change: &dyn Fn(&mut Value)| {
        let mut catalogue = stack.catalogue.clone();
        let configuration = catalogue.configuration_mut();
        change(&mut configuration["catalogue"]["models"]["model"]);
        configuration.clone()
    };
    /// Something done to a good catalogue.
    type Edit<'e> = &'e dyn Fn(&mut Value);
    let mistakes: [(Edit<'_>, &str); 6] = [
        (
            &|model| model["targets"][0]["weight"] = json!(-1),
            "catalogue.models.model.targets[0].weight",
        ),
        (
            &|model| model["targets"] = json!([]),
            "catalogue.models.model.targets",
        ),
        (
            &|model| model["canary"] = json!({"target": "nowhere", "percent": 5}),
            "catalogue.models.model.canary.target",
        ),
        (
            &|model| model["rules"] = json!([{"when": {}, "targets": ["old"]}]),
            "catalogue.models.model.rules[0].when",
        ),
        (
            &|model| model["fallback"] = json!(["nobody"]),
            "catalogue.models.model.fallback[0]",
        ),
        (
            &|model| model["colour"] = json!("red"),
            "catalogue.models.model.colour",
        ),
    ];
    for (change, place) in mistakes {
        let Reload::Rejected(why) = stack.gateway.set_router(&wrong(change)).await else {
            panic!("it was taken: {place}")
        };
        assert!(why.contains(place), "{place} is not in: {why}");
        ask().await;
    }
    assert_eq!(
        stack.gateway.set_router(&stack.catalogue.configuration()).await,
        Reload::Accepted
    );
    ask().await;
}

#[tokio::test]
async fn without_a_catalogue_nobody_is_served() {
    let server = ModelServer::start().await.unwrap();
    let mut directory = Directory::new();
    let key = directory.key("acme");
    let options = Options::new().llama(server.addr()).directory(&directory);
    let gateway = options.router(json!({"catalogue": "none"})).start().await;
    let ask = |path: &str| gateway.post(path).key(&key).json(chat(false)).send();
    ask(PATH)
        .await
        .expect(500)
        .code("gateway_misconfigured")
        .kind("server_error");
    ask("/v1/messages").await.expect(500).anthropic("api_error");
    assert_eq!(server.seen().len(), 0);
}

#[tokio::test]
async fn a_chain_without_the_router_serves_nobody() {
    let server = ModelServer::start().await.unwrap();
    let mut directory = Directory::new();
    let key = directory.key("acme");
    let name = "        - name: tollgate.tenant-router\n          config_discovery:";
    let without =
        "        - name: tollgate.tenant-router\n          disabled: true\n          config_discovery:";
    let options = Options::new().llama(server.addr()).directory(&directory);
    let gateway = options.chain().edit("listener.yaml", name, without).start().await;
    let ask = |path: &str| gateway.post(path).key(&key).json(chat(false)).send();
    ask(PATH)
        .await
        .expect(500)
        .code("gateway_misconfigured")
        .kind("server_error");
    ask("/v1/messages").await.expect(500).anthropic("api_error");
    assert_eq!(server.seen().len(), 0);
}

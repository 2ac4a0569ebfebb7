//! What a native library can do to an Envoy: one of the tests' own (`wasm-tests/native`), with a filter in front of the others
//! that panics, and one that waits.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails by panicking"
)]

mod support;

use serde_json::{Value, json};
use support::{OPENAI, chat};
use tollgate_core::key::ApiKey;
use tollgate_harness::client::Request;
use tollgate_harness::config::repository;
use tollgate_harness::documents::{Documents, Failure};
use tollgate_harness::models::{FAULT_HEADER, ModelServer};
use tollgate_harness::{Directory, Gateway, Options, net};

struct Stack {
    gateway: Gateway,
    _models: ModelServer,
    key: ApiKey,
}

impl Stack {
    async fn start() -> Self {
        Self::with("panicker", |options| options).await
    }

    async fn with(name: &str, change: impl FnOnce(Options) -> Options) -> Self {
        let models = ModelServer::start().await.unwrap();
        let mut directory = Directory::new();
        let key = directory.key("acme");
        let library = repository().join("target/tests/libtollgate_test_library.so");
        assert!(
            library.is_file(),
            "{} is missing: scripts/test.sh makes it",
            library.display()
        );
        let filter = json!({
            "name": name,
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter",
                "dynamic_module_config": {"module": {"local": {"filename": library}}, "do_not_close": true},
                "filter_name": name,
            },
        });
        let place = "        - name: tollgate.key-auth\n          config_discovery:";
        let gateway = change(Options::new())
            .workers(1)
            .llama(models.addr())
            .directory(&directory)
            .edit("listener.yaml", place, &format!("        - {filter}\n{place}"))
            .start()
            .await;
        Self {
            gateway,
            _models: models,
            key,
        }
    }

    fn ask(&self) -> Request {
        self.gateway.post(OPENAI).key(&self.key).json(chat())
    }

    /// One that goes well; how many the filter says that it has seen.
    async fn seen(&self) -> u32 {
        let reply = self.ask().send().await.expect(200);
        reply.headers["x-seen"].to_str().unwrap().parse().unwrap()
    }
}

#[test]
fn the_library_is_configured_as_the_module_is() {
    let configuration = |file: &str, place: &str| {
        let text = std::fs::read_to_string(repository().join("envoy/filters").join(file)).unwrap();
        let file: Value = serde_saphyr::from_str(&text).unwrap();
        file.pointer("/resources/0/typed_config")
            .unwrap()
            .pointer(place)
            .unwrap()
            .clone()
    };
    assert_eq!(
        configuration("gateway-native.yaml", "/filter_config/value"),
        configuration("gateway.yaml", "/config/configuration/value")
    );
}

#[tokio::test]
async fn a_panic_ends_its_request_and_nothing_else() {
    let mut stack = Stack::start().await;
    let places = [
        ("request headers", Some(500)),
        ("request body", Some(500)),
        ("answer headers", Some(500)),
        // Its head has passed: it is broken off.
        ("answer body", None),
        ("tick", Some(500)),
        // It is over.
        ("log", Some(200)),
        ("end", Some(200)),
    ];
    for (place, status) in places {
        assert_eq!((stack.seen().await, stack.seen().await), (1, 2), "before {place}");
        // Another one is under way meanwhile, and long enough for a tick.
        let slowly = |request: Request| request.header(FAULT_HEADER, "first-byte=500ms");
        let (other, reply) = tokio::join!(
            slowly(stack.ask()).send(),
            slowly(stack.ask().header("x-panic", place)).try_send()
        );
        other.expect(200);
        match (reply, status) {
            (Ok(reply), Some(status)) => assert_eq!(reply.status, status, "{place}: {reply:?}"),
            (Ok(reply), None) => panic!("{place}: {reply:?}"),
            (Err(error), Some(_)) => panic!("{place}: {error}"),
            (Err(_), None) => {}
        }
    }
    // What it knew is made anew.
    assert_eq!(stack.seen().await, 1);
    // Two libraries hand over what they counted, each when it comes to it.
    net::eventually("each panic is counted", async || {
        let panics = stack.gateway.stats().await.counter("wasmcustom.tollgate_panics");
        (panics == places.len() as u64).then_some(())
    })
    .await;
    let log = stack.gateway.log();
    assert!(log.contains("a panic at wasm-tests/native/src/lib.rs:"), "{log}");
    assert!(!log.contains("a secret"), "{log}");
    assert!(stack.gateway.is_running());
}

#[tokio::test]
async fn a_request_waits_for_a_call_and_goes_on_or_is_answered() {
    let judge = Documents::start(&json!("fine")).await.unwrap();
    let stack = Stack::with("waiter", |options| {
        options.unchecked_cluster("judge", judge.addr())
    })
    .await;
    let models = async || stack.gateway.get("/v1/models").key(&stack.key).send().await;
    models().await.expect(200);
    // Its body came meanwhile, and is shown to it whole: it writes before it, which is no JSON to whoever reads it next.
    let reply = stack.ask().send().await.expect(400);
    assert!(reply.text().contains("JSON"), "{}", reply.text());
    judge.fail(Failure::Status(503));
    assert_eq!(models().await.status, 403);
    judge.fail(Failure::Cut);
    assert_eq!(models().await.status, 403, "half an answer is none");
    // It is looked at with every tick, and waits for three.
    judge.fail(Failure::Silence);
    assert_eq!(models().await.status, 504);
    judge.fail(None);
    models().await.expect(200);
    assert!(
        judge
            .fetches()
            .iter()
            .any(|fetch| fetch.path == "/v1/chat/completions")
    );
}

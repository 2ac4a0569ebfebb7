//! What the files in `envoy/` promise besides the errors: one reading of a request, no header that only the gateway
//! may set, retries that are safe, a log without secrets, and changes that cut nothing.

#![expect(
    clippy::unwrap_used,
    reason = "a test says what it expects by failing, in its helpers too"
)]

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tollgate_core::key::ApiKey;
use tollgate_harness::client::Request;
use tollgate_harness::documents::{Documents, Failure};
use tollgate_harness::models::{Ending, FAULT_HEADER, Fault, ModelServer};
use tollgate_harness::{Directory, Gateway, Options, Reload, net, raw};

const PATH: &str = "/v1/chat/completions";

struct Stack {
    gateway: Gateway,
    directory: Directory,
    key: ApiKey,
    models: ModelServer,
}

impl Stack {
    async fn start() -> Self {
        Self::with(|options| options).await
    }

    async fn with(change: impl FnOnce(Options) -> Options) -> Self {
        let models = ModelServer::start().await.unwrap();
        let mut directory = Directory::new();
        let key = directory.project_key("acme", "search");
        let options = Options::new().llama(models.addr()).directory(&directory);
        let gateway = change(options.unbroken()).start().await;
        Self {
            gateway,
            directory,
            key,
            models,
        }
    }

    fn ask(&self) -> Request {
        self.gateway.post(PATH).key(&self.key).json(chat(false))
    }

    fn stream(&self, fault: &str) -> Request {
        self.gateway
            .post(PATH)
            .key(&self.key)
            .json(chat(true))
            .header(FAULT_HEADER, fault)
    }
}

fn chat(stream: bool) -> Value {
    json!({"model": "llama-70b", "stream": stream, "messages": [{"role": "user", "content": "one two three"}]})
}

#[tokio::test]
async fn an_answer_says_who_and_how_long_and_not_with_what() {
    let stack = Stack::start().await;
    let reply = stack
        .ask()
        .header("x-request-id", "mine")
        .header(FAULT_HEADER, "first-byte=50ms")
        .send()
        .await
        .expect(200);
    let reply = reply
        .has("openai-organization", "acme")
        .has("openai-version", "2020-10-01")
        .has("server", "tollgate");
    let millis: u64 = reply.header("openai-processing-ms").unwrap().parse().unwrap();
    assert!((50..5_000).contains(&millis), "{millis}");
    let reply = reply.lacks("x-envoy-upstream-service-time").lacks("x-powered-by");
    let id = reply.request_id().unwrap();
    assert_eq!(
        (id.len(), id.matches('-').count()),
        (36, 4),
        "a UUID, not the client's: {id}"
    );
    assert_eq!(stack.models.seen()[0].request_id.as_deref(), Some(id));
}

#[tokio::test]
async fn the_gateways_own_headers_come_from_the_gateway_alone() {
    let stack = Stack::start().await;
    let spoofed = [
        "x-tollgate-org",
        "x-tollgate-target",
        "x-envoy-max-retries",
        "x-envoy-upstream-alt-stat-name",
    ];
    let mut request = stack
        .ask()
        .header("x_tollgate_org", "evil")
        .header("x-mine", "kept");
    for name in spoofed {
        request = request.header(name, "evil");
    }
    request
        .send()
        .await
        .expect(200)
        .has("openai-organization", "acme");
    let seen = &stack.models.seen()[0];
    assert!(
        !seen.headers.iter().any(|(_, value)| value == "evil"),
        "{:?}",
        seen.headers
    );
    assert_eq!(
        (seen.header("x-tollgate-org"), seen.header("x-mine")),
        (Some("acme"), Some("kept"))
    );
    assert!(seen.header("authorization").is_none());
}

#[tokio::test]
async fn a_path_is_read_in_one_way() {
    let stack = Stack::start().await;
    let key = stack.key.reveal();
    let get = async |path: &str| {
        let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n\r\n");
        raw::exchange(stack.gateway.addr(), head.as_bytes(), Duration::from_secs(10))
            .await
            .expect_any()
    };
    for path in [
        "/v1//models",
        "/v1/x/../models",
        "/v1%2Fmodels",
        "/./v1/%6dodels",
        "/v1/x/%2e%2e/models",
    ] {
        let reply = get(path).await;
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        assert_eq!(reply.json()["object"], "list", "{path}");
    }
    for path in [
        "/v1/models/..%2f..%2fhealth",
        "/v1/models/%2e%2e/%2e%2e/health",
        "/v1/models/..%5c..%5chealth",
    ] {
        assert_eq!(get(path).await.status, 404, "{path}");
    }
    assert_eq!(stack.models.seen().len(), 0);
}

#[tokio::test]
async fn the_access_log_tells_who_did_what_and_no_secret() {
    let stack = Stack::start().await;
    let path = format!("{PATH}?api_key={}", stack.key.reveal());
    let reply = stack
        .gateway
        .post(&path)
        .key(&stack.key)
        .json(chat(false))
        .send()
        .await
        .expect(200);
    let record = stack.gateway.access_log().of(reply.request_id().unwrap()).await;
    let said = (
        record.org.as_deref(),
        record.project.as_deref(),
        record.key_id.as_deref(),
        record.tier.as_deref(),
    );
    assert_eq!(
        said,
        (Some("acme"), Some("search"), Some(stack.key.id()), Some("pro"))
    );
    let what = (
        record.method.as_deref(),
        record.path.as_deref(),
        record.status,
        record.protocol.as_deref(),
    );
    assert_eq!(what, (Some("POST"), Some(PATH), 200, Some("HTTP/1.1")));
    let whence = (record.cluster.as_deref(), record.host, record.attempts);
    assert_eq!(whence, (Some("llama"), Some(stack.models.addr().to_string()), 1));
    assert_eq!(record.client.as_deref(), Some("127.0.0.1"));
    assert!(record.bytes_in > 0 && record.bytes_out as usize == reply.body.len());

    // One that Envoy refuses before it drops headers.
    let head = "GET /%00 HTTP/1.1\r\nhost: x\r\nx-tollgate-org: evil\r\nx-tollgate-key-id: evil\r\n\r\n";
    raw::exchange(stack.gateway.addr(), head.as_bytes(), Duration::from_secs(10))
        .await
        .expect(400);
    let record = stack
        .gateway
        .access_log()
        .find(|record| record.status == 400)
        .await;
    assert_eq!((record.org, record.key_id), (None, None));

    let secret = &stack.key.reveal()["sk-tg-".len() + 13..];
    assert!(!stack.gateway.access_log().text().contains(secret));
    assert!(!stack.gateway.log().contains(secret));
}

#[tokio::test]
async fn what_a_model_may_have_begun_is_not_sent_again() {
    let stack = Stack::start().await;
    // Too busy: nothing was done, so another try is safe.
    stack.models.fault_once(Fault {
        status: Some(503),
        ..Fault::default()
    });
    stack.ask().send().await.expect(200);
    assert_eq!(stack.models.seen().len(), 2);
    for fault in ["status=500", "status=429", "status=502", "reset"] {
        stack.models.ledger().clear();
        stack.ask().header(FAULT_HEADER, fault).send().await;
        assert_eq!(stack.models.seen().len(), 1, "{fault}");
    }
}

#[tokio::test]
async fn counters_have_labels() {
    let stack = Stack::start().await;
    stack.ask().send().await.expect(200);
    stack.gateway.post(PATH).send().await.expect(401);
    let count = async |decision: &str, reason: &str| {
        let labels = [("decision", decision), ("reason", reason)];
        stack
            .gateway
            .prometheus()
            .await
            .value("tollgate_key_auth_requests", &labels)
    };
    assert_eq!(count("deny", "missing_api_key").await, Some(1.0));
    assert_eq!(count("allow", "api_key").await, Some(1.0));
}

#[tokio::test]
async fn a_changed_directory_is_taken_and_a_broken_one_is_not() {
    let mut stack = Stack::start().await;
    let old = stack.key;
    let new = stack.directory.key("globex");
    stack.directory.revoke(&old);
    let status = async |key: &ApiKey| {
        stack
            .gateway
            .post(PATH)
            .key(key)
            .json(chat(false))
            .send()
            .await
            .status
    };

    assert_eq!(
        stack
            .gateway
            .set_key_auth(&stack.directory.inline_without_limit())
            .await,
        Reload::Accepted
    );
    net::eventually("both workers take it", async || {
        let mut statuses = Vec::new();
        for _ in 0..8 {
            statuses.push((status(&old).await, status(&new).await));
        }
        statuses.iter().all(|both| *both == (401, 200)).then_some(())
    })
    .await;

    let mut broken = stack.directory.inline_without_limit();
    broken["directory"]["inline"]["keys"][0]["org"] = json!("nobody");
    let Reload::Rejected(why) = stack.gateway.set_key_auth(&broken).await else {
        panic!("it was taken")
    };
    assert!(why.contains("directory.inline.keys[0]"), "{why}");
    let Reload::Rejected(_) = stack.gateway.set_key_auth_file("resources: [").await else {
        panic!("it was taken")
    };
    assert_eq!((status(&old).await, status(&new).await), (401, 200));
}

#[tokio::test]
async fn a_change_of_routes_or_directory_cuts_no_stream() {
    let stack = Stack::start().await;
    let mut response = stack.stream("tokens=60,pace=50ms").open().await;
    let first = response.chunk().await.unwrap().unwrap();
    stack.gateway.edit(
        "routes.yaml",
        "cluster_header: x-tollgate-target",
        "cluster_header: x-mine",
    );
    net::eventually("the new routes are taken", async || {
        (stack.ask().header("x-mine", "nowhere").send().await.status == 503).then_some(())
    })
    .await;
    assert_eq!(
        stack.gateway.set_key_auth(&Directory::new().inline()).await,
        Reload::Accepted
    );
    net::eventually("the key is gone", async || {
        (stack.ask().send().await.status == 401).then_some(())
    })
    .await;
    let mut text = String::from_utf8_lossy(&first).into_owned();
    while let Some(chunk) = response.chunk().await.unwrap() {
        text += &String::from_utf8_lossy(&chunk);
    }
    assert!(text.trim_end().ends_with("data: [DONE]"), "{text}");
    assert_eq!(stack.models.seen()[0].ending, Ending::Completed);
}

#[tokio::test]
async fn a_stream_is_ended_by_silence_and_not_by_its_length() {
    let stack = Stack::with(|options| {
        options.edit(
            "listener.yaml",
            "stream_idle_timeout: 300s",
            "stream_idle_timeout: 2s",
        )
    })
    .await;
    let begun = Instant::now();
    let long = stack.stream("tokens=12,pace=300ms").send().await.expect(200);
    assert!(long.text().trim_end().ends_with("data: [DONE]") && begun.elapsed() > Duration::from_secs(3));
    let silent = stack.stream("stall=3").open().await;
    assert!(silent.bytes().await.is_err(), "cut, and told so");
}

#[tokio::test]
async fn a_client_that_leaves_gives_its_model_back() {
    let stack = Stack::start().await;
    let mut response = stack.stream("tokens=10000,pace=20ms").open().await;
    response.chunk().await.unwrap().unwrap();
    drop(response);
    let aborted = stack.models.wait_until(Duration::from_secs(10), |seen| {
        seen.iter().any(|s| s.ending == Ending::Aborted)
    });
    aborted.await.unwrap();
    let record = stack
        .gateway
        .access_log()
        .find(|record| record.flags == "DC")
        .await;
    assert_eq!((record.status, record.org.as_deref()), (200, Some("acme")));
}

#[tokio::test]
async fn a_directory_from_an_http_server_is_taken_by_all_workers() {
    let models = ModelServer::start().await.unwrap();
    let mut directory = Directory::new();
    let key = directory.key("acme");
    // A directory is not emptied: another key stays.
    directory.key("acme");
    let documents = Documents::start(&directory.document()).await.unwrap();
    let options = Options::new().llama(models.addr()).documents(documents.addr());
    let gateway = options
        .edit("directory-http.yaml", "refresh: 5s", "refresh: 1s")
        .edit("filters/key-auth.yaml", "burst: 30}", "burst: 1000}")
        .start()
        .await;
    let status = async || gateway.post(PATH).key(&key).json(chat(false)).send().await.status;
    net::eventually("the key is accepted", async || {
        (status().await == 200).then_some(())
    })
    .await;

    // An unchanged document is not sent again, and a server that fails changes nothing.
    net::eventually("a 304", async || {
        documents
            .fetches()
            .iter()
            .any(|f| f.status == Some(304))
            .then_some(())
    })
    .await;
    for failure in [Failure::Status(500), Failure::Cut] {
        documents.fail(failure);
        let before = documents.fetches().len();
        net::eventually("two more fetches", async || {
            (documents.fetches().len() >= before + 2).then_some(())
        })
        .await;
        assert_eq!(status().await, 200, "{failure:?}");
    }
    documents.fail(None);

    documents.set(&directory.revoke(&key).document());
    net::eventually("the key is refused by every worker", async || {
        for _ in 0..16 {
            if status().await != 401 {
                return None;
            }
        }
        Some(())
    })
    .await;
}

#[tokio::test]
async fn only_loopback_reaches_the_admin() {
    let stack = Stack::start().await;
    assert!(stack.gateway.admin_addr().ip().is_loopback());
    let listeners: Value =
        serde_json::from_str(&stack.gateway.admin("/listeners?format=json").await).unwrap();
    assert_eq!(listeners["listener_statuses"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn nothing_is_left_of_a_gateway() {
    let stack = Stack::start().await;
    assert!(stack.gateway.rss_kb() > 10_000 && stack.gateway.cpu_time() > Duration::ZERO);
    let (pid, directory) = (stack.gateway.pid(), stack.gateway.directory().to_owned());
    assert!(directory.exists());
    drop(stack);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    assert!(!directory.exists());
}

#[tokio::test]
async fn a_gateway_that_cannot_start_says_why() {
    let failed = Gateway::try_start(Options::new().argument("--no-such-argument")).await;
    let why = format!("{:#}", failed.err().unwrap());
    assert!(why.contains("no-such-argument"), "{why}");
}

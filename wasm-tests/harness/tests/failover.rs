//! A target that fails, beside one that works: customers see none of it, the log tells operators all of it, and once
//! it works again it is used again.

#![expect(
    clippy::unwrap_used,
    reason = "a test says what it expects by failing, in its helpers too"
)]

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tollgate_core::key::ApiKey;
use tollgate_harness::access_log::{FailedAttempt, Record};
use tollgate_harness::client::Request;
use tollgate_harness::models::{Ending, FAULT_HEADER, Fault, ModelServer, SERVER_HEADER};
use tollgate_harness::{Catalogue, Directory, Gateway, Options, Reply, net};

const PATH: &str = "/v1/chat/completions";
/// Requests while a target fails.
const REQUESTS: usize = 2_000;
/// Of them under way at a time.
const CALLERS: usize = 16;

struct Stack {
    gateway: Gateway,
    key: ApiKey,
    left: ModelServer,
    right: ModelServer,
    /// Whether answers are asked for as streams.
    streamed: bool,
}

impl Stack {
    /// Two targets of equal weight: `left` and `right`.
    async fn start(model: Value) -> Self {
        // Long enough to be seen, short enough to wait for.
        Self::with(model, json!({"failures": 5, "open": "500ms", "longest": "2s"})).await
    }

    async fn with(model: Value, breaker: Value) -> Self {
        let server = |name: &str| ModelServer::builder().name(name).keep(100_000).start();
        let (left, right) = (server("left").await.unwrap(), server("right").await.unwrap());
        let (directory, key) = Directory::of_one("acme");
        let mut catalogue = Catalogue::empty();
        catalogue
            .chat("twin", &["left", "right"])
            .chat("lone", &["left"])
            .change("twin", model)
            .set("breaker", breaker);
        let options = Options::new()
            .cluster("left", left.addr())
            .cluster("right", right.addr())
            .directory(&directory)
            .catalogue(&catalogue);
        Self {
            gateway: options.start().await,
            key,
            left,
            right,
            streamed: false,
        }
    }

    fn ask(&self, model: &str) -> Request {
        self.gateway.post(PATH).key(&self.key).json(chat(model, false))
    }

    /// That many requests, several at a time; their answers.
    async fn ask_many(&self, count: usize) -> Vec<Reply> {
        let client = self.gateway.client();
        let mut callers = tokio::task::JoinSet::new();
        for caller in 0..CALLERS {
            let share = count / CALLERS + usize::from(caller < count % CALLERS);
            let (client, key) = (client.clone(), self.key.reveal().to_owned());
            let body = chat("twin", self.streamed);
            callers.spawn(async move {
                let mut replies = Vec::with_capacity(share);
                for _ in 0..share {
                    let request = client.post(PATH).key(&key).json(body.clone());
                    replies.push(request.send().await);
                }
                replies
            });
        }
        callers.join_all().await.into_iter().flatten().collect()
    }

    /// As [`Self::ask_many`]; asserts that customers saw nothing but good answers, and returns how many came from
    /// `left` and how many from `right`.
    async fn all_good(&self, count: usize) -> (usize, usize) {
        let replies = self.ask_many(count).await;
        assert_eq!(replies.len(), count);
        let mut by = BTreeMap::new();
        for reply in replies {
            let reply = reply.expect(200).has("x-tollgate-model", "twin");
            if self.streamed {
                assert!(reply.text().ends_with("data: [DONE]\n\n"));
            } else {
                assert_eq!(reply.json().get("object"), Some(&"chat.completion".into()));
            }
            *by.entry(reply.header(SERVER_HEADER).unwrap().to_owned())
                .or_insert(0) += 1;
        }
        let of = |name: &str| by.get(name).copied().unwrap_or(0);
        (of("left"), of("right"))
    }

    /// Asks on and on until `left` answers, then asserts that it has its share again.
    async fn recovered(&self) {
        let back =
            async || (self.ask("twin").send().await.header(SERVER_HEADER) == Some("left")).then_some(());
        net::eventually("left is asked again", back).await;
        let (left, right) = self.all_good(600).await;
        // Half of 600, give or take more than six standard deviations.
        assert!((225..=375).contains(&left), "{left} to left, {right} to right");
    }

    /// The failed attempts of requests that were served, once the log has all of them.
    async fn failed(&self, requests: usize) -> (Vec<Record>, Vec<FailedAttempt>) {
        let log = self.gateway.access_log();
        let records = net::eventually("every request is in the log", async || {
            Some(log.records()).filter(|records| records.len() >= requests)
        })
        .await;
        let again: u32 = records.iter().map(|record| record.attempts - 1).sum();
        let failed = net::eventually("every attempt is in the log", async || {
            Some(log.failed_attempts()).filter(|failed| failed.len() >= again as usize)
        })
        .await;
        assert_eq!(
            failed.len(),
            again as usize,
            "each further attempt has a failed one before it"
        );
        (records, failed)
    }
}

fn chat(model: &str, stream: bool) -> Value {
    json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": "one two three"}]})
}

/// `left` fails in some way: no customer notices, it is soon left alone, the log says why, and it comes back.
async fn unnoticed(fault: &str, model: Value, soon: usize, reason: impl Fn(&FailedAttempt) -> bool) {
    let mut stack = Stack::start(model).await;
    stack.streamed = fault.starts_with("first-byte");
    let (left, right) = stack.all_good(200).await;
    assert!(left > 50 && right > 50, "{left} and {right}");

    stack.left.set_fault(Fault::parse(fault).unwrap());
    assert_eq!(stack.all_good(REQUESTS).await, (0, REQUESTS));
    let (records, failed) = stack.failed(200 + REQUESTS).await;
    println!("{fault}: {} attempts failed in {REQUESTS} requests", failed.len());
    // So many to find out and those that were under way with them, then one now and then.
    assert!((soon..REQUESTS / 10).contains(&failed.len()), "{}", failed.len());
    for attempt in &failed {
        assert_eq!(attempt.cluster.as_deref(), Some("left"));
        assert_eq!(attempt.host, Some(stack.left.addr().to_string()));
        assert!(reason(attempt), "{attempt:?}");
        let mut of = records
            .iter()
            .filter(|record| record.request_id == attempt.request_id);
        let record = of.next().unwrap();
        assert_eq!(
            (record.attempts, record.cluster.as_deref(), record.status),
            (2, Some("right"), 200)
        );
        assert_eq!(record.route.as_deref(), Some("breaker-open"));
    }

    stack.left.clear_faults();
    stack.recovered().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_answers_503_is_unnoticed() {
    unnoticed("status=503", json!({}), 5, |attempt| attempt.status == 503).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_has_had_enough_is_unnoticed() {
    unnoticed("status=429,retry-after=1", json!({}), 1, |attempt| {
        attempt.status == 429
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_is_silent_is_unnoticed() {
    let model = json!({"timeouts": {"first_byte": "200ms"}});
    unnoticed("first-byte=60s", model, 5, |attempt| attempt.flags.contains("UT")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_is_gone_is_unnoticed() {
    let mut stack = Stack::start(json!({})).await;
    let addr = stack.left.addr();
    drop(std::mem::replace(
        &mut stack.left,
        ModelServer::start().await.unwrap(),
    ));
    assert_eq!(stack.all_good(REQUESTS).await, (0, REQUESTS));
    let (_, failed) = stack.failed(REQUESTS).await;
    println!("{} attempts failed in {REQUESTS} requests", failed.len());
    assert!((5..REQUESTS / 10).contains(&failed.len()), "{}", failed.len());
    for attempt in &failed {
        // Refused, or on a connection that was open when the server went.
        let lost = attempt.flags.contains("UF") || attempt.flags.contains("UC");
        assert!(lost && attempt.cluster.as_deref() == Some("left"), "{attempt:?}");
    }
    stack.left = ModelServer::builder()
        .name("left")
        .port(addr.port())
        .start()
        .await
        .unwrap();
    stack.recovered().await;
}

#[tokio::test]
async fn with_no_target_left_it_is_said_at_once() {
    let stack = Stack::start(json!({})).await;
    for server in [&stack.left, &stack.right] {
        server.set_fault(Fault::status(503));
    }
    let refused = net::eventually("both are left alone", async || {
        let reply = stack.ask("twin").send().await.expect(503);
        (reply.header(SERVER_HEADER).is_none()).then_some(reply)
    })
    .await;
    let seen = stack.left.seen().len() + stack.right.seen().len();
    let reply = refused
        .code("model_unavailable")
        .kind("service_unavailable_error");
    let seconds: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=2).contains(&seconds), "{seconds}");
    let record = stack.gateway.access_log().of(reply.request_id().unwrap()).await;
    assert_eq!(
        (record.details.as_deref(), record.attempts),
        (Some("tollgate_model_unavailable"), 0)
    );
    assert!(seen >= 10, "five failures each: {seen}");
}

#[tokio::test]
async fn a_target_that_says_how_long_is_left_alone_that_long() {
    let stack = Stack::start(json!({})).await;
    stack
        .left
        .fault_once(Fault::parse("status=429,retry-after=1").unwrap());
    let told = std::time::Instant::now();
    stack.ask("lone").send().await.expect(429).has("retry-after", "1");
    let reply = stack
        .ask("lone")
        .send()
        .await
        .expect(503)
        .code("model_unavailable");
    assert!(reply.header("retry-after").is_some());
    net::eventually("it is asked again", async || {
        (stack.ask("lone").send().await.status == 200).then_some(())
    })
    .await;
    assert!(told.elapsed() >= Duration::from_secs(1));
    assert_eq!(stack.left.seen().len(), 2);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_no_end_and_counts() {
    // Envoy takes a second to end a connection on which an answer broke off.
    let breaker = json!({"failures": 5, "open": "30s", "longest": "60s"});
    let stack = Stack::with(json!({}), breaker).await;
    for round in 0..5 {
        let request = stack.gateway.post(PATH).key(&stack.key).json(chat("lone", true));
        let mut response = request.header(FAULT_HEADER, "cut=3").open().await;
        assert_eq!(response.status(), 200, "round {round}");
        let mut text = String::new();
        let broke = loop {
            match response.chunk().await {
                Ok(Some(chunk)) => text += &String::from_utf8_lossy(&chunk),
                Ok(None) => break false,
                Err(_) => break true,
            }
        };
        assert!(broke && !text.contains("[DONE]"), "{text}");
        assert!(text.contains("data: "), "it had begun");
    }
    assert!(stack.left.seen().iter().all(|seen| seen.ending == Ending::Cut));
    // Each ending is noted when its stream is over, which the client may see a moment before.
    let reply = net::eventually("it is left alone", async || {
        let reply = stack.ask("lone").send().await;
        (reply.status == 503).then_some(reply)
    })
    .await;
    reply.code("model_unavailable");
    // The target serves its other models meanwhile.
    net::eventually("it serves another", async || {
        let reply = stack.ask("twin").send().await.expect(200);
        (reply.header(SERVER_HEADER) == Some("left")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_the_catalogue_sets_is_obeyed_and_what_a_client_sets_is_not() {
    let stack = Stack::start(json!({})).await;
    let mut catalogue = Catalogue::empty();
    catalogue
        .chat("quick", &["left"])
        .change(
            "quick",
            json!({"timeouts": {"first_byte": "300ms", "whole": "1s"}, "retries": 0}),
        )
        .chat("twice", &["left"])
        .change("twice", json!({"retries": 1}))
        .chat("never", &["left"])
        .change("never", json!({"retries": 0}))
        .chat("free", &["left"])
        .set(
            "breaker",
            json!({"failures": 1000, "open": "1ms", "longest": "1ms"}),
        );
    stack.gateway.set_router(&catalogue.configuration()).await;
    net::eventually("the catalogue is in force", async || {
        for _ in 0..16 {
            if stack.ask("quick").send().await.status != 200 {
                return None;
            }
        }
        Some(())
    })
    .await;
    let ask = |model: &str, fault: &str| {
        let request = stack.gateway.post(PATH).key(&stack.key).json(chat(model, true));
        let request = request.header(FAULT_HEADER, fault);
        // A client would have it otherwise.
        request
            .header("x-envoy-upstream-rq-timeout-ms", "50")
            .header("x-envoy-upstream-rq-per-try-timeout-ms", "50")
            .header("x-envoy-max-retries", "5")
            .header("x-envoy-retry-on", "5xx")
    };
    let tries = async |model: &str, fault: &str, status: u16| {
        stack.left.ledger().clear();
        ask(model, fault).send().await.expect(status);
        stack.left.seen().len()
    };
    assert_eq!(tries("quick", "first-byte=60s", 504).await, 1);
    assert_eq!(
        tries("quick", "first-byte=100ms", 200).await,
        1,
        "the client's 50 ms do not count"
    );
    assert_eq!(tries("twice", "status=503", 503).await, 2);
    assert_eq!(tries("never", "status=503", 503).await, 1);
    assert_eq!(tries("free", "status=503", 503).await, 3, "as routes.yaml says");
    assert_eq!(
        tries("free", "status=500", 500).await,
        1,
        "the client's retry-on does not count"
    );

    // `whole` ends an answer that is still being given.
    let begun = std::time::Instant::now();
    let request = stack.gateway.post(PATH).key(&stack.key).json(chat("quick", true));
    let response = request.header(FAULT_HEADER, "tokens=1000,pace=50ms").open().await;
    assert!(response.bytes().await.is_err(), "cut, and told so");
    let took = begun.elapsed();
    assert!(
        took > Duration::from_millis(900) && took < Duration::from_secs(10),
        "{took:?}"
    );
}

/// Also where nobody saw it say so: the retry was answered by the other. Once, not once for each of five failures.
#[tokio::test]
async fn a_target_that_says_how_long_behind_a_retry_is_left_alone_that_long() {
    for fault in ["status=429,retry-after=6", "status=503,retry-after=6"] {
        let breaker = json!({"failures": 1000, "open": "60s", "longest": "60s"});
        let stack = Stack::with(json!({}), breaker).await;
        stack.left.set_fault(Fault::parse(fault).unwrap());
        let begun = std::time::Instant::now();
        let asked = || stack.left.seen().len();
        net::eventually("left is asked", async || {
            stack.ask("twin").send().await.expect(200);
            (asked() > 0).then_some(())
        })
        .await;
        for _ in 0..50 {
            stack.ask("twin").send().await.expect(200);
        }
        assert!(begun.elapsed() < Duration::from_secs(6), "too slow to tell");
        assert_eq!(asked(), 1, "{fault}");
        stack.left.clear_faults();
        stack.recovered().await;
        assert!(begun.elapsed() >= Duration::from_secs(6));
    }
}

/// Whoever the limits refuse goes nowhere, so it is not the one that finds out whether a target works again.
#[tokio::test]
async fn a_flood_of_refused_requests_keeps_no_target_closed() {
    let left = ModelServer::builder().name("left").start().await.unwrap();
    let mut directory = Directory::empty();
    for org in ["acme", "globex"] {
        directory.org(org, json!({"models": ["*"]}));
    }
    let (acme, globex) = (directory.key("acme"), directory.key("globex"));
    let mut catalogue = Catalogue::empty();
    catalogue.chat("lone", &["left"]).set(
        "breaker",
        json!({"failures": 1000, "open": "60s", "longest": "60s"}),
    );
    let gateway = Options::new()
        .cluster("left", left.addr())
        .directory(&directory)
        .catalogue(&catalogue)
        .limits(json!({"limits": [{"name": "org-rpm", "per": ["org"], "rate": "1/minute", "burst": 1}]}))
        .start()
        .await;
    let ask = async |key: &ApiKey| {
        let request = gateway.post(PATH).key(key).json(chat("lone", false));
        request.send().await
    };
    left.fault_once(Fault::parse("status=503,retry-after=1").unwrap());
    // Its retry may be answered.
    ask(&acme).await;
    net::eventually("the limits are asked again", async || {
        let reply = ask(&acme).await;
        assert!(reply.status == 503 || reply.status == 429, "{}", reply.status);
        (reply.status == 429).then_some(())
    })
    .await;
    for _ in 0..50 {
        ask(&acme).await.expect(429);
    }
    // What is refused says so a moment before its end is noted.
    net::eventually("another is the probe", async || {
        let reply = ask(&globex).await;
        (reply.status == 200).then_some(())
    })
    .await;
}

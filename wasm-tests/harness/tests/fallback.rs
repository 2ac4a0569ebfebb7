//! Both targets of a model are broken: another model serves whom the operator allows it and whose grants have it, and
//! the answer, the log and the bill say which. The others are told when to come back.

#![expect(
    clippy::unwrap_used,
    reason = "a test says what it expects by failing, in its helpers too"
)]

mod support;

use serde_json::{Value, json};
use support::lane::{Lane, lanes};
use tollgate_core::key::ApiKey;
use tollgate_harness::models::{Fault, ModelServer, SERVER_HEADER};
use tollgate_harness::{Catalogue, Directory, Gateway, Options, Reply, net};

const PATH: &str = "/v1/chat/completions";
/// A currency unit a million tokens: so each token of input costs a millionth, and each of output two.
const PRICE: (u64, u64) = (1, 2);

/// `big` at `left` and `right`; `locked` and then `small`, each at its own, may stand in for it, for the tier `pro`.
struct Stack {
    gateway: Gateway,
    left: ModelServer,
    right: ModelServer,
    locked: ModelServer,
    spare: ModelServer,
    keys: Keys,
}

/// Keys of callers who all may use `big`.
struct Keys {
    /// `pro`, and may use every model.
    pro: ApiKey,
    /// `free`, and may use every model.
    free: ApiKey,
    /// `pro`; `small` is granted, `locked` is not.
    partial: ApiKey,
    /// `pro`; nothing else is granted to the organization, to the project, to the key.
    narrow: [ApiKey; 3],
}

impl Keys {
    fn mint(directory: &mut Directory) -> Self {
        directory
            .org("acme", json!({"tier": "pro", "models": ["*"]}))
            .org("globex", json!({"tier": "free", "models": ["*"]}))
            .org("hooli", json!({"tier": "pro", "models": ["big", "small"]}))
            .org("narrow", json!({"tier": "pro", "models": ["big"]}))
            .project("acme", "narrow", json!({"models": ["big"]}));
        Self {
            pro: directory.key("acme"),
            free: directory.key("globex"),
            partial: directory.key("hooli"),
            narrow: [
                directory.key("narrow"),
                directory.project_key("acme", "narrow"),
                directory.key_with(json!({"org": "acme", "models": ["big"]})),
            ],
        }
    }
}

impl Stack {
    async fn start(breaker: Value) -> Self {
        let server = |name: &str| ModelServer::builder().name(name).start();
        let (left, right) = (server("left").await.unwrap(), server("right").await.unwrap());
        let (locked, spare) = (server("locked").await.unwrap(), server("spare").await.unwrap());
        let mut directory = Directory::empty();
        let keys = Keys::mint(&mut directory);
        let mut catalogue = Catalogue::empty();
        catalogue
            .chat("big", &["left", "right"])
            .change(
                "big",
                json!({"fallback": ["locked", "small"], "price": {"input": 1000, "output": 1000}}),
            )
            .chat("locked", &["locked"])
            .chat("small", &["spare"])
            .change("small", json!({"price": {"input": PRICE.0, "output": PRICE.1}}))
            .set("allow_fallback", json!({"tier": ["pro"]}))
            .set("breaker", breaker);
        let gateway = Options::new()
            .cluster("left", left.addr())
            .cluster("right", right.addr())
            .cluster("locked", locked.addr())
            .cluster("spare", spare.addr())
            .directory(&directory)
            .catalogue(&catalogue)
            .start()
            .await;
        Self {
            gateway,
            left,
            right,
            locked,
            spare,
            keys,
        }
    }

    /// With both targets of `big` broken, for longer than a test takes.
    async fn broken() -> Self {
        let stack = Self::start(json!({"failures": 3, "open": "60s", "longest": "60s"})).await;
        stack.break_big().await;
        stack
    }

    /// Both fail until they are left alone.
    async fn break_big(&self) {
        for server in [&self.left, &self.right] {
            server.set_fault(Fault::status(503));
        }
        net::eventually("both are left alone", async || {
            let reply = self.ask(&self.keys.free).await.expect(503);
            reply.header(SERVER_HEADER).is_none().then_some(())
        })
        .await;
        for server in [&self.left, &self.right] {
            server.ledger().clear();
        }
    }

    async fn ask(&self, key: &ApiKey) -> Reply {
        let request = self.gateway.post(PATH).key(key);
        request.json(chat("big")).send().await
    }

    /// Asserts that nobody asked the targets of `big`.
    fn expect_left_alone(&self) {
        assert_eq!((self.left.seen().len(), self.right.seen().len()), (0, 0));
    }
}

fn chat(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "one two three"}]})
}

/// The model can't be had, and the answer says when to ask again: within a minute.
fn expect_unavailable(reply: Reply) -> Reply {
    let reply = reply
        .expect(503)
        .code("model_unavailable")
        .kind("service_unavailable_error")
        .lacks(SERVER_HEADER)
        .lacks("x-tollgate-model");
    let seconds: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    reply
}

#[tokio::test]
async fn another_model_serves_whom_the_operator_allows_it() {
    let stack = Stack::broken().await;
    let reply = stack.ask(&stack.keys.pro).await.expect(200);
    let reply = reply
        .has(SERVER_HEADER, "locked")
        .has("x-tollgate-model", "locked")
        .has("x-tollgate-route", "fallback");
    assert_eq!(stack.locked.seen().pop().unwrap().model, "locked");
    let record = stack.gateway.access_log().of(reply.request_id().unwrap()).await;
    assert_eq!(
        (record.model.as_deref(), record.route.as_deref(), record.attempts),
        (Some("locked"), Some("fallback"), 1)
    );
    // The first that stands in breaks too: the next one does.
    stack.locked.set_fault(Fault::status(503));
    let reply = net::eventually("the first stand-in is left alone", async || {
        let reply = stack.ask(&stack.keys.pro).await;
        (reply.header("x-tollgate-model") == Some("small")).then_some(reply)
    })
    .await;
    reply.expect(200).has("x-tollgate-route", "fallback");
    stack.expect_left_alone();
}

#[tokio::test]
async fn the_bill_is_that_of_the_model_that_served() {
    let stack = Stack::broken().await;
    let reply = stack.ask(&stack.keys.partial).await.expect(200);
    let reply = reply.has("x-tollgate-model", "small");
    let usage = stack.gateway.record_of(&reply).await;
    assert_eq!(
        (
            usage.model.as_deref(),
            usage.cluster.as_str(),
            usage.org.as_deref()
        ),
        (Some("small"), "spare", Some("hooli"))
    );
    assert_eq!(
        (usage.outcome.as_deref(), usage.source.as_deref()),
        (Some("complete"), Some("reported"))
    );
    let seen = stack.spare.seen().pop().unwrap();
    assert_eq!(
        (usage.input_tokens, usage.output_tokens),
        (Some(seen.input_tokens), Some(seen.output_tokens))
    );
    let cost = PRICE.0 * seen.input_tokens + PRICE.1 * seen.output_tokens;
    assert_eq!(usage.cost_micros, Some(cost));
}

#[tokio::test]
async fn who_is_not_allowed_it_is_told_when_to_come_back() {
    let stack = Stack::broken().await;
    let reply = expect_unavailable(stack.ask(&stack.keys.free).await);
    let usage = stack.gateway.record_of(&reply).await;
    assert_eq!(
        (
            usage.status,
            usage.outcome.as_deref(),
            usage.org.as_deref(),
            usage.attempts
        ),
        (503, Some("refused"), Some("globex"), 0)
    );
    assert_eq!((usage.tokens(), usage.cost_micros, usage.model), (0, None, None));
    let request = stack.gateway.post("/v1/messages").key(&stack.keys.free);
    let mut body = chat("big");
    body["max_tokens"] = json!(4);
    let reply = request.json(body).send().await;
    reply.expect(503).anthropic("overloaded_error");
    // The other model is there for whom asks for it.
    let request = stack.gateway.post(PATH).key(&stack.keys.free);
    let reply = request.json(chat("small")).send().await.expect(200);
    drop(reply.has("x-tollgate-route", "primary"));
    stack.expect_left_alone();
}

#[tokio::test]
async fn no_model_stands_in_that_the_caller_has_no_grant_for() {
    let stack = Stack::broken().await;
    for key in &stack.keys.narrow {
        let reply = expect_unavailable(stack.ask(key).await);
        let text = reply.text();
        assert!(!text.contains("small") && !text.contains("locked"), "{text}");
    }
    assert_eq!((stack.locked.seen().len(), stack.spare.seen().len()), (0, 0));
    // Of two, the one that is granted.
    let reply = stack.ask(&stack.keys.partial).await.expect(200);
    drop(reply.has("x-tollgate-model", "small").has(SERVER_HEADER, "spare"));
    assert_eq!(stack.locked.seen().len(), 0);
    stack.expect_left_alone();
}

#[tokio::test]
async fn the_model_itself_serves_again_once_it_can() {
    let stack = Stack::start(json!({"failures": 3, "open": "500ms", "longest": "1s"})).await;
    stack.break_big().await;
    net::eventually("another model stands in", async || {
        let reply = stack.ask(&stack.keys.pro).await;
        (reply.header("x-tollgate-route") == Some("fallback")).then_some(())
    })
    .await;
    stack.right.clear_faults();
    net::eventually("the target that works again serves", async || {
        let reply = stack.ask(&stack.keys.pro).await;
        (reply.header(SERVER_HEADER) == Some("right")).then_some(())
    })
    .await;
    let reply = stack.ask(&stack.keys.free).await.expect(200);
    drop(reply.has("x-tollgate-model", "big").has(SERVER_HEADER, "right"));
}

/// Two workers, and a connection to each: what one finds out the other knows.
#[tokio::test]
async fn a_breaker_is_one_for_both_workers() {
    let model = ModelServer::builder().name("model").start().await.unwrap();
    let (directory, key) = Directory::of_one("acme");
    let mut catalogue = Catalogue::empty();
    catalogue
        .chat("lone", &["model"])
        .change("lone", json!({"retries": 0}))
        .set("breaker", json!({"failures": 4, "open": "3s", "longest": "3s"}));
    let options = Options::new().workers(2).cluster("model", model.addr());
    let gateway = options.directory(&directory).catalogue(&catalogue).start().await;
    let [mut one, mut other] = lanes(&gateway).await;

    model.set_fault(Fault::status(503));
    // Two failures each: neither worker alone has seen enough.
    for _ in 0..2 {
        for lane in [&mut one, &mut other] {
            ask(lane, &key).await.expect(503).has(SERVER_HEADER, "model");
        }
    }
    for lane in [&mut one, &mut other] {
        expect_unavailable(ask(lane, &key).await);
    }
    assert_eq!(model.seen().len(), 4);

    // One of them tries it again and finds it well; the other goes there at once.
    model.clear_faults();
    net::eventually("it is asked again", async || {
        (ask(&mut one, &key).await.status == 200).then_some(())
    })
    .await;
    ask(&mut other, &key).await.expect(200);
    assert_eq!(model.seen().len(), 6);
}

async fn ask(lane: &mut Lane, key: &ApiKey) -> Reply {
    let body = chat("lone").to_string();
    let request = format!(
        "POST {PATH} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        key.reveal(),
        body.len()
    );
    lane.exchange(request.as_bytes()).await.unwrap()
}

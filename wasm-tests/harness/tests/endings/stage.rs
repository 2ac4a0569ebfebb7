//! The gateway and the model servers, and what one request does on them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tollgate_core::key::ApiKey;
use tollgate_harness::client::Request;
use tollgate_harness::models::{FAULT_HEADER, Fault, ModelServer};
use tollgate_harness::{Catalogue, Client, Directory, Gateway, Options, Reload, directory};

use crate::plan::{Api, BRIEF, DEEP, Ending, HASTY, LIAR, LOST, PAIR, Plan, SWIFT};

/// By which the model servers' ledgers tell whose a request is.
pub(crate) const NUMBER: &str = "x-plan-number";
/// What the filter behind the limits refuses.
const REFUSE_LATER: &str = "x-refuse-later";

/// Requests of a key, in the time that the stage's limits are for.
pub(crate) const KEY_REQUESTS: u64 = 1_500;
/// Tokens of a key.
pub(crate) const KEY_TOKENS: u64 = 1_000_000;
/// Requests of an organization at once.
pub(crate) const ORG_PLACES: usize = 96;
/// Requests that [`SWIFT`] serves at once.
pub(crate) const SWIFT_PLACES: usize = 8;
/// Millionths of a currency unit for each token read, read from the cache, written.
pub(crate) const PRICE: [u64; 3] = [4, 1, 8];

pub(crate) struct Stage {
    pub(crate) gateway: Gateway,
    pub(crate) client: Client,
    pub(crate) models: [ModelServer; 3],
    pub(crate) keys: Vec<ApiKey>,
    /// When its limits began to leak.
    pub(crate) began: Instant,
    /// The time that a key's limits are for.
    span: &'static str,
    directory: Directory,
    catalogue: Catalogue,
}

/// What a client saw.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// `x-request-id`, if the answer began.
    pub(crate) id: Option<String>,
    pub(crate) status: Option<u16>,
    /// Pieces of text that came.
    pub(crate) pieces: u64,
}

impl Stage {
    pub(crate) async fn start(span: &'static str) -> Self {
        let models = [
            ModelServer::builder().name("llama").start().await.unwrap(),
            ModelServer::builder().name("gpt-oss").start().await.unwrap(),
            ModelServer::builder().name("broken").start().await.unwrap(),
        ];
        models[2].set_fault(Fault::status(503));
        let mut directory = Directory::empty();
        for (org, tier) in [("acme", "pro"), ("globex", "free"), ("poor", "free")] {
            directory.org(org, json!({"tier": tier, "models": ["*"]}));
        }
        let keys = ["acme", "acme", "globex", "globex", "poor"].map(|org| directory.key(org));
        let catalogue = catalogue();
        let later = "- name: envoy.filters.http.header_to_metadata";
        let gateway = Options::new()
            .key_auth(directory.inline_without_limit())
            .llama(models[0].addr())
            .gpt_oss(models[1].addr())
            .cluster("broken", models[2].addr())
            .catalogue(&catalogue)
            .limits(limits(20, span))
            .edit(
                "listener.yaml",
                later,
                &format!("{}        {later}", refusing_filter()),
            )
            .start()
            .await;
        Self {
            client: gateway.client(),
            gateway,
            models,
            keys: keys.into(),
            began: Instant::now(),
            span,
            directory,
            catalogue,
        }
    }

    /// Has each key use more tokens than all its requests will ever hold at once. In a bucket that holds less, a charge
    /// that was made among many others may count as leaked when it comes back, as only so many gaps between those are known.
    pub(crate) async fn use_some(&self) {
        let body =
            json!({"model": DEEP, "max_tokens": 4_000, "messages": [{"role": "user", "content": "go on"}]});
        for caller in 0..self.keys.len() {
            for _ in 0..8 {
                let ask = self.ask(caller, Api::Chat.path(), body.clone());
                ask.header(FAULT_HEADER, "tokens=4000").send().await.expect(200);
            }
        }
    }

    /// A request of a caller's.
    pub(crate) fn ask(&self, caller: usize, path: &str, body: Value) -> Request {
        self.client.post(path).key(&self.keys[caller]).json(body)
    }

    /// Does what is planned, as a client.
    pub(crate) async fn perform(&self, plan: &Plan) -> Seen {
        let request = self.request(plan);
        let open = request.try_open();
        let response = match plan.ending {
            Ending::LeftBefore => tokio::time::timeout(Duration::from_millis(150), open).await,
            _ => Ok(open.await),
        };
        let Ok(Ok(mut response)) = response else {
            return Seen {
                id: None,
                status: None,
                pieces: 0,
            };
        };
        let seen = Seen {
            id: response
                .headers()
                .get("x-request-id")
                .map(|id| id.to_str().unwrap().to_owned()),
            status: Some(response.status().as_u16()),
            pieces: 0,
        };
        let mut text = Vec::new();
        // An answer may break off as planned.
        while let Ok(Some(chunk)) = response.chunk().await {
            text.extend_from_slice(&chunk);
            if leaves(plan.ending, &text) {
                break;
            }
        }
        let piece = b"{\"content\":\"";
        let pieces = text
            .windows(piece.len() + 1)
            .filter(|part| part.starts_with(piece) && !part.ends_with(b"\""));
        Seen {
            pieces: pieces.count() as u64,
            ..seen
        }
    }

    fn request(&self, plan: &Plan) -> Request {
        let request = self.client.post(plan.api.path());
        let request = match plan.ending {
            Ending::Stranger => request.key(&directory::mint()),
            _ => request.key(&self.keys[plan.caller]),
        };
        let mut request = match plan.ending {
            Ending::BrokenBody => request
                .header("content-type", "application/json")
                .body("{\"model\": "),
            _ => request.json(plan.body.clone()),
        };
        request = request.header(NUMBER, &plan.number.to_string());
        if !plan.fault.is_empty() {
            request = request.header(FAULT_HEADER, &plan.fault);
        }
        if plan.ending == Ending::RefusedLater {
            request = request.header(REFUSE_LATER, "yes");
        }
        if plan.http2 { request.http2() } else { request }
    }

    /// Replaces each filter's file, in six parts that each wait for `due`, while a stream is under way; gives the streams'
    /// request ids.
    pub(crate) async fn reload_all(&self, due: impl AsyncFn(usize)) -> Vec<String> {
        let mut ids = Vec::new();
        for part in 1..=6 {
            due(part).await;
            let mut stream = self.stream_of_a_second().await;
            ids.push(stream.headers()["x-request-id"].to_str().unwrap().to_owned());
            match part {
                1 | 4 => accepted(self.gateway.set_limits(&limits(20 + part, self.span)).await),
                2 => {
                    let wrong = json!({"limits": [{"name": "x", "rate": "60/fortnight"}]});
                    let refused = self.gateway.set_limits(&wrong).await;
                    assert!(matches!(refused, Reload::Rejected(_)), "{refused:?}");
                    accepted(self.gateway.set_limits(&limits(20 + part, self.span)).await);
                }
                3 | 6 => {
                    let mut changed = self.catalogue.clone();
                    changed.change(SWIFT, json!({"owned_by": format!("owner {part}")}));
                    accepted(self.gateway.set_router(&changed.configuration()).await);
                }
                _ => {
                    let mut changed = self.directory.clone();
                    changed.key("acme");
                    accepted(self.gateway.set_key_auth(&changed.inline_without_limit()).await);
                }
            }
            while stream.chunk().await.unwrap().is_some() {}
        }
        ids
    }

    /// The second try, or a later one, if all places are taken.
    async fn stream_of_a_second(&self) -> reqwest::Response {
        let body = json!({"model": DEEP, "stream": true, "messages": [{"role": "user", "content": "go on"}]});
        loop {
            let fault = "tokens=200, pace=5ms";
            let ask = self
                .ask(0, Api::Chat.path(), body.clone())
                .header(FAULT_HEADER, fault);
            let response = ask.open().await;
            if response.status() == 200 {
                return response;
            }
            assert_eq!(response.status(), 429, "{response:?}");
        }
    }
}

fn accepted(reload: Reload) {
    assert_eq!(reload, Reload::Accepted);
}

/// Whether the client leaves, having read so far.
fn leaves(ending: Ending, text: &[u8]) -> bool {
    let events = || text.windows(2).filter(|two| two == b"\n\n").count();
    let last = || {
        [
            "data: [DONE]",
            "event: message_stop",
            "event: response.completed",
            "event: response.incomplete",
        ]
        .iter()
        .any(|last| text.windows(last.len()).any(|part| part == last.as_bytes()))
    };
    match ending {
        Ending::LeftAfter(wanted) => events() >= wanted,
        Ending::LeftAtEnd => last(),
        _ => false,
    }
}

/// `each_second`: requests of the poor organization.
fn limits(each_second: usize, span: &str) -> Value {
    json!({
        "limits": [
            {"name": "key-rpd", "per": ["key"], "rate": format!("{KEY_REQUESTS}/{span}")},
            {"name": "key-tpd", "per": ["key"], "count": "tokens", "rate": format!("{KEY_TOKENS}/{span}")},
            {"name": "poor-rps", "per": ["org"], "when": {"org": ["poor"]}, "rate": format!("{each_second}/second")},
            {"name": "org-places", "per": ["org"], "count": "concurrent", "max": ORG_PLACES},
            {"name": "shadow-rpd", "per": ["key"], "rate": "100/day", "mode": "shadow"},
        ],
        // What is held for work that may go on is settled soon after.
        "abandoned_hold": "100ms",
        "capacity": [{"model": SWIFT, "concurrent": SWIFT_PLACES, "weights": {"acme": 2}}],
    })
}

fn catalogue() -> Catalogue {
    let all = ["chat", "completions", "responses", "messages", "embeddings"];
    let model = |targets: Value, more: Value| {
        let mut model = json!({"endpoints": all, "targets": targets});
        model
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        model
    };
    let [input, cached, output] = PRICE;
    let price = json!({"input": input, "cached_input": cached, "output": output});
    let (llama, gpt_oss, broken) = (
        json!([{"cluster": "llama"}]),
        json!([{"cluster": "gpt-oss"}]),
        json!([{"cluster": "broken"}]),
    );
    let pair = json!([{"cluster": "broken"}, {"cluster": "gpt-oss", "weight": 0}]);
    let mut catalogue = Catalogue::empty();
    catalogue
        .model(SWIFT, model(llama.clone(), json!({"price": price.clone()})))
        .model(DEEP, model(gpt_oss.clone(), json!({})))
        .model(LIAR, model(gpt_oss, json!({"price": price})))
        .model(
            HASTY,
            model(
                llama.clone(),
                json!({"timeouts": {"first_byte": "150ms"}, "retries": 0}),
            ),
        )
        .model(BRIEF, model(llama, json!({"timeouts": {"whole": "300ms"}})))
        .model(PAIR, model(pair, json!({})))
        .model(LOST, model(broken, json!({"fallback": [DEEP]})))
        .set(
            "breaker",
            json!({"failures": 12, "open": "300ms", "longest": "600ms"}),
        )
        .set("allow_fallback", json!({"tier": ["pro"]}));
    catalogue
}

/// Stands behind the limits and refuses what has a header.
fn refusing_filter() -> String {
    format!(
        r#"- name: envoy.filters.http.rbac
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC
            rules:
              action: DENY
              policies:
                later:
                  permissions: [{{header: {{name: {REFUSE_LATER}, present_match: true}}}}]
                  principals: [{{any: true}}]
"#
    )
}

//! Two Envoys of two workers each spend budgets of a real control plane, to their end: never more than there is, whoever
//! asks where. Then clients are told that it is spent, and what the control plane counts is what the usage records say.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test says what it expects by failing, in its helpers too"
)]

mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use support::assert_no_vm_broke;
use tollgate_harness::control::ControlPlane;
use tollgate_harness::models::ModelServer;
use tollgate_harness::usage_log::UsageRecord;
use tollgate_harness::{Gateway, Options, Reply};

/// For all that takes exchanges: there is one in a second, or soon.
const DEADLINE: Duration = Duration::from_secs(60);
const REQUESTS: u64 = 60;
const TOKENS: u64 = 400;

struct Fleet {
    control: ControlPlane,
    gateways: [Gateway; 2],
    _folder: tempfile::TempDir,
    keys: Vec<String>,
}

impl Fleet {
    /// An organization for each of these budgets, and a key of it.
    async fn start(models: &ModelServer, budgets: &[Value]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = format!("sqlite:{}", folder.path().join("tollgate.db").display());
        let control = ControlPlane::start(&database, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let mut keys = Vec::new();
        for budget in budgets {
            let org = budget["scope"]["org"].as_str().unwrap();
            let body = json!({"id": org, "tier": "pro", "models": ["*"]});
            control.post("/v1/orgs", &body).await.unwrap();
            keys.push(control.key(org).await.unwrap().1);
            control.post("/v1/budgets", budget).await.unwrap();
        }
        let token = control.gateway_token().await.unwrap();
        let options = || {
            Options::new()
                .key_auth(json!({"directory": {"http": {"max_stale": "10m", "on_stale": "deny"}}}))
                .llama(models.addr())
                .watch(control.addr(), &token)
                .fleet(control.addr(), &token)
        };
        let gateways = [options().start().await, options().start().await];
        Self {
            control,
            gateways,
            _folder: folder,
            keys,
        }
    }

    async fn ask(&self, at: usize, key: usize) -> Reply {
        let body =
            json!({"model": "llama-70b", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]});
        let request = self.gateways[at].post("/v1/chat/completions");
        request.key(self.keys[key].as_str()).json(body).send().await
    }

    /// Asks both until each says that the budget is spent; how many requests passed.
    async fn spend(&self, key: usize, budget: &str) -> u64 {
        let begun = Instant::now();
        let (mut passed, mut spent) = (0, [false; 2]);
        while spent != [true; 2] {
            let in_time = begun.elapsed() < DEADLINE;
            assert!(in_time, "{passed} passed: {}", self.spending(budget).await);
            for (at, spent) in spent.iter_mut().enumerate() {
                let (one, two, three) = tokio::join!(self.ask(at, key), self.ask(at, key), self.ask(at, key));
                for reply in [one, two, three] {
                    match (reply.status, reply.header("x-should-retry")) {
                        (200, _) => passed += 1,
                        (429, Some("false")) => *spent = is_spent(&reply),
                        // It asks for more; or it has not heard of the budget yet.
                        (429 | 503, None) if reply.text().contains("Budget") => {
                            assert_eq!(reply.header("retry-after"), Some("1"));
                        }
                        // Nor of the directory.
                        (status, _) => assert!(matches!(status, 401 | 503), "{}", reply.text()),
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        passed
    }

    async fn spending(&self, budget: &str) -> Value {
        let path = format!("/v1/budgets/{budget}/spending");
        self.control.ask(Method::GET, &path, &Value::Null).await.unwrap()
    }

    /// Waits until the control plane has heard that so much was spent.
    async fn is_counted(&self, budget: &str, spent: u64) {
        let begun = Instant::now();
        loop {
            let spending = self.spending(budget).await;
            if spending["spent"] == spent {
                return;
            }
            assert!(begun.elapsed() < DEADLINE, "{spent} of {budget}: {spending}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The records of an organization, at both Envoys.
    async fn records(&self, org: &str) -> Vec<UsageRecord> {
        let mut records = Vec::new();
        for gateway in &self.gateways {
            let own = gateway.usage_records().await.into_values();
            records.extend(own.filter(|record| record.org.as_deref() == Some(org)));
        }
        records
    }
}

/// What the contract says of a budget that is spent.
fn is_spent(reply: &Reply) -> bool {
    let error = &reply.json()["error"];
    assert_eq!(
        (&error["type"], &error["code"]),
        (&json!("insufficient_quota"), &json!("insufficient_quota")),
        "{}",
        reply.text()
    );
    assert_eq!(reply.header("retry-after"), None);
    assert!(reply.text().contains("is spent: Limit "), "{}", reply.text());
    assert!(reply.text().contains(" It resets at "), "{}", reply.text());
    true
}

/// Of an organization, for once: no window ends while this runs.
fn budget(org: &str, unit: &str, amount: u64) -> Value {
    json!({
        "id": format!("{org}-all"), "scope": {"org": org}, "unit": unit, "amount": amount,
        "window": "once", "ends_at": "2090-01-01T00:00:00Z",
    })
}

#[tokio::test]
async fn two_envoys_spend_a_budget_to_its_end_and_never_more() {
    let models = ModelServer::start().await.unwrap();
    let budgets = [
        budget("acme", "requests", REQUESTS),
        budget("globex", "tokens", TOKENS),
    ];
    let fleet = Fleet::start(&models, &budgets).await;

    let passed = fleet.spend(0, "acme-all").await;
    assert_eq!(passed, REQUESTS, "all of them, and no more");
    let records = fleet.records("acme").await;
    let complete = records.iter().filter(|record| record.is("complete"));
    assert_eq!(complete.count() as u64, REQUESTS);
    fleet.is_counted("acme-all", REQUESTS).await;
    let refused = records.iter().filter(|record| record.is("limited"));
    let mut refused = refused.map(|record| (record.budget.as_deref(), record.tokens()));
    assert!(refused.all(|record| record == (Some("acme-all"), 0)));

    // Others are not concerned. Of tokens a request spends what its record says.
    let passed = fleet.spend(1, "globex-all").await;
    let records = fleet.records("globex").await;
    let tokens: u64 = records.iter().map(UsageRecord::tokens).sum();
    assert!(passed > 0 && tokens <= TOKENS, "{tokens} of {TOKENS}");
    assert!(
        tokens >= TOKENS - 100,
        "{tokens} of {TOKENS}: less is left than one may use"
    );
    fleet.is_counted("globex-all", tokens).await;

    // More for a while is there within the time of an exchange.
    let raise = json!({"by": 5, "for": "1h", "reason": "a test"});
    fleet
        .control
        .post("/v1/budgets/acme-all/raise", &raise)
        .await
        .unwrap();
    let begun = Instant::now();
    while fleet.ask(0, 0).await.status != 200 {
        assert!(begun.elapsed() < DEADLINE, "{}", fleet.spending("acme-all").await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for gateway in &fleet.gateways {
        assert_no_vm_broke(gateway).await;
    }
}

//! Two Envoys of two workers each follow a control plane, on either database: what its API changes is in force on each
//! worker within a second, while requests run, and nobody else is disturbed. `TOLLGATE_KEYS=1000000`: among so many keys.

#![expect(
    clippy::unwrap_used,
    reason = "a test says what it expects by failing, in its helpers too"
)]

mod support;

#[path = "../../../control/tests/support/postgres.rs"]
mod postgres;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::assert_no_vm_broke;
use support::lane;
use support::load::Load;
use tollgate_core::key::KeyHash;
use tollgate_harness::client::Credential;
use tollgate_harness::control::ControlPlane;
use tollgate_harness::models::ModelServer;
use tollgate_harness::{Gateway, Options, Reply, net};

/// From the request to the API until no worker goes by what was before.
const BOUND: Duration = Duration::from_secs(1);
/// Until each worker has a directory of a million keys.
const LOADED: Duration = Duration::from_secs(120);
/// The most that an Envoy receives for one change, headers and all.
const CHANGE: u64 = 2_048;

async fn following(control: &ControlPlane, models: &ModelServer) -> Options {
    let token = control.gateway_token().await.unwrap();
    Options::new()
        .key_auth(json!({
            "directory": {"http": {"max_stale": "10m", "on_stale": "deny"}},
            "failed_auth": {"rate": "600000/minute", "burst": 600000},
        }))
        .llama(models.addr())
        .watch(control.addr(), &token)
}

/// Keys that nobody uses.
async fn fill(control: &ControlPlane, keys: usize) {
    for from in (0..keys).step_by(5_000) {
        let rows = (from..keys.min(from + 5_000)).map(|at| {
            let id = format!("unused{at:09}");
            let sha256 = KeyHash::of(id.as_bytes()).to_string();
            json!({"id": id, "sha256": sha256, "org": "globex"})
        });
        let rows: Vec<Value> = rows.collect();
        control.post("/v1/import", &json!({"keys": rows})).await.unwrap();
    }
}

/// Waits until a change that was made then must be in force, and the load has shown it.
async fn settled(loads: &[&Load], at: Instant) {
    tokio::time::sleep_until((at + BOUND).into()).await;
    for load in loads {
        load.go_on(2).await;
    }
}

async fn follows(database: &str) {
    let control = ControlPlane::start(database, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    for org in ["acme", "globex"] {
        let body = json!({"id": org, "tier": "pro", "models": ["*"]});
        control.post("/v1/orgs", &body).await.unwrap();
    }
    let keys = std::env::var("TOLLGATE_KEYS").map_or(2_000, |keys| keys.parse().unwrap());
    fill(&control, keys).await;
    let (_, steady) = control.key("acme").await.unwrap();
    let (leaver_id, leaver) = control.key("acme").await.unwrap();
    let (frozen_id, frozen) = control.key("acme").await.unwrap();
    let (_, suspended) = control.key("globex").await.unwrap();
    // Known before it is there, so that the load has it.
    let newcomer = tollgate_harness::directory::mint();

    let models = ModelServer::builder().keep(0).start().await.unwrap();
    let gateways = [
        following(&control, &models).await.start().await,
        following(&control, &models).await.start().await,
    ];
    for gateway in &gateways {
        for lane in &mut lane::lanes(gateway).await {
            let has = net::within(LOADED, async || {
                (lane.ask(&steady).await.status == 200).then_some(())
            });
            has.await.unwrap();
        }
    }
    let mut received = Received::by(&gateways).await;
    let callers: [(&str, &dyn Credential); 5] = [
        ("steady", &steady),
        ("leaver", &leaver),
        ("frozen", &frozen),
        ("suspended", &suspended),
        ("newcomer", &newcomer),
    ];
    let loads = [
        Load::start(&gateways[0], &callers).await,
        Load::start(&gateways[1], &callers).await,
    ];
    let both = [&loads[0], &loads[1]];

    let row = json!({"keys": [{"id": newcomer.id(), "sha256": newcomer.sha256_hex(), "org": "acme"}]});
    let added = Instant::now();
    control.post("/v1/import", &row).await.unwrap();
    settled(&both, added).await;
    received.one_change(&gateways).await;
    let revoked = Instant::now();
    let revoke = format!("/v1/keys/{leaver_id}/revoke");
    control.post(&revoke, &json!({})).await.unwrap();
    settled(&both, revoked).await;
    received.one_change(&gateways).await;
    let freeze = json!({"target": {"key": frozen_id}, "reason": "leaked", "for": "3s"});
    let froze = Instant::now();
    control.post("/v1/freezes", &freeze).await.unwrap();
    settled(&both, froze).await;
    received.one_change(&gateways).await;
    let freeze = json!({"target": {"org": "globex"}, "reason": "abuse"});
    let froze_org = Instant::now();
    control.post("/v1/freezes", &freeze).await.unwrap();
    settled(&both, froze_org).await;
    received.one_change(&gateways).await;

    // The freeze for three seconds has ended by itself.
    for gateway in &gateways {
        for lane in &mut lane::lanes(gateway).await {
            net::eventually("the freeze is over", async || {
                (lane.ask(&frozen).await.status == 200).then_some(())
            })
            .await;
        }
    }
    assert!(froze.elapsed() >= Duration::from_secs(3));
    for (gateway, load) in gateways.iter().zip(loads) {
        let journal = load.stop();
        println!("requests:\n{}", journal.summary());
        assert!(journal.always("steady", 200) > 100);
        let took = journal
            .before(froze + Duration::from_millis(2_900))
            .turns("frozen", froze, BOUND, 200, 403);
        println!("frozen: in force on both workers after {took:?}");
        for (name, at, before, after) in [
            ("newcomer", added, 401, 200),
            ("leaver", revoked, 200, 401),
            ("suspended", froze_org, 200, 403),
        ] {
            let took = journal.turns(name, at, BOUND, before, after);
            println!("{name}: in force on both workers after {took:?}");
        }
        println!("memory at most: {} kB", gateway.peak_rss_kb());
        assert_no_vm_broke(gateway).await;
    }
}

/// What Envoys have received from the control plane.
struct Received(Vec<u64>);

impl Received {
    async fn by(gateways: &[Gateway]) -> Self {
        let mut bytes = Vec::new();
        for gateway in gateways {
            bytes.push(
                gateway
                    .stats()
                    .await
                    .counter("cluster.directory.upstream_cx_rx_bytes_total"),
            );
        }
        Self(bytes)
    }

    /// Asserts that one change since the last look took few bytes, and some.
    async fn one_change(&mut self, gateways: &[Gateway]) {
        let now = Self::by(gateways).await;
        for (now, before) in now.0.iter().zip(&self.0) {
            let bytes = now - before;
            println!("one change: {bytes} bytes");
            assert!((1..=CHANGE).contains(&bytes), "one change is {bytes} bytes");
        }
        *self = now;
    }
}

/// Asks for a completion, on a connection of its own.
async fn chat(gateway: &Gateway, key: &str) -> Reply {
    let body = json!({"model": "llama-70b", "messages": [{"role": "user", "content": "one two"}]});
    gateway
        .post("/v1/chat/completions")
        .key(key)
        .json(body)
        .send()
        .await
}

/// So many answers once a change that was made then must be in force: connections enough for each worker to have some.
async fn answers(gateway: &Gateway, key: &str, at: Instant) -> Vec<Reply> {
    tokio::time::sleep_until((at + BOUND).into()).await;
    let mut answers = Vec::new();
    for _ in 0..16 {
        answers.push(chat(gateway, key).await);
    }
    answers
}

/// What stands in place of a limit's bound, and a cap, are in force within a second, and rate-limit's configuration is never
/// touched. A cap ends by itself.
#[tokio::test]
async fn limits_and_caps_follow() {
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", folder.path().join("tollgate.db").display());
    let control = ControlPlane::start(&database, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let acme = json!({"id": "acme", "models": ["*"]});
    control.post("/v1/orgs", &acme).await.unwrap();
    let (_, key) = control.key("acme").await.unwrap();
    let models = ModelServer::builder().keep(0).start().await.unwrap();
    let limits = json!({"limits": [{"name": "org-rph", "per": ["org"], "rate": "1/hour"}]});
    let gateway = following(&control, &models).await.limits(limits).start().await;
    net::eventually("the limit of the table is used up", async || {
        (chat(&gateway, &key).await.status == 429).then_some(())
    })
    .await;

    let raised = Instant::now();
    let change = json!({"limits": {"org-rph": {"rate": "1000000/hour"}}});
    control
        .ask(reqwest::Method::PATCH, "/v1/orgs/acme", &change)
        .await
        .unwrap();
    for answer in answers(&gateway, &key, raised).await {
        let answer = answer.expect(200);
        assert_eq!(
            answer.header("ratelimit-policy"),
            Some(r#""org-rph";q=1000000;w=3600"#)
        );
    }

    let capped = Instant::now();
    let cap = json!({"target": {"org": "acme"}, "rate": "1/hour", "reason": "a loop", "for": "5s"});
    control.post("/v1/caps", &cap).await.unwrap();
    let told = answers(&gateway, &key, capped).await;
    assert!(capped.elapsed() < Duration::from_secs(5), "too slow to tell");
    let passed = told.iter().filter(|answer| answer.status == 200).count();
    assert!(passed <= 1, "{passed} of one an hour");
    let refused = told.into_iter().find(|answer| answer.status == 429).unwrap();
    let refused = refused.code("rate_limit_exceeded").says("in organization acme");
    let policy = refused.header("ratelimit-policy").unwrap();
    assert!(policy.contains(r#""cap";q=1;w=3600"#), "{policy}");

    net::eventually("the cap is over", async || {
        (chat(&gateway, &key).await.status == 200).then_some(())
    })
    .await;
    assert!(capped.elapsed() >= Duration::from_secs(5));
    assert_no_vm_broke(&gateway).await;
}

/// A target that is drained and a model that is shed get no request after a second, and serve again once that has ended.
#[tokio::test]
async fn what_is_out_of_use_follows() {
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", folder.path().join("tollgate.db").display());
    let control = ControlPlane::start(&database, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let mut keys = Vec::new();
    for (org, tier) in [("acme", "pro"), ("globex", "free")] {
        let body = json!({"id": org, "tier": tier, "models": ["*"]});
        control.post("/v1/orgs", &body).await.unwrap();
        keys.push(control.key(org).await.unwrap().1);
    }
    let [pro, free] = &keys[..] else { unreachable!() };
    let models = ModelServer::builder().keep(0).start().await.unwrap();
    let gateway = following(&control, &models).await.start().await;
    for key in &keys {
        net::eventually("it has the directory", async || {
            (chat(&gateway, key).await.status == 200).then_some(())
        })
        .await;
    }
    let restrict = async |target: Value| {
        let begun = Instant::now();
        let body = json!({"target": target, "reason": "a fire"});
        let answer = control.post("/v1/restrictions", &body).await.unwrap();
        (begun, answer["id"].as_str().unwrap().to_owned())
    };
    let end = async |id: &str| {
        let begun = Instant::now();
        let path = format!("/v1/restrictions/{id}/end");
        control.post(&path, &json!({})).await.unwrap();
        begun
    };
    let shed = json!({"models": {"tier": "free", "model": "llama-*"}});
    for (target, free_only) in [(json!({"cluster": "llama"}), false), (shed, true)] {
        let (begun, id) = restrict(target).await;
        let mut refused = answers(&gateway, free, begun).await;
        let others = answers(&gateway, pro, begun).await;
        if free_only {
            assert!(others.iter().all(|answer| answer.status == 200));
        } else {
            refused.extend(others);
        }
        for answer in refused {
            let answer = answer.expect(503).code("model_unavailable");
            assert_eq!(answer.header("x-should-retry"), Some("false"));
        }
        let ended = end(&id).await;
        for key in &keys {
            for answer in answers(&gateway, key, ended).await {
                answer.expect(200);
            }
        }
    }
    assert_no_vm_broke(&gateway).await;
}

#[tokio::test]
async fn on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    follows(&format!("sqlite:{}", folder.path().join("tollgate.db").display())).await;
}

#[tokio::test]
async fn on_postgres() {
    follows(&postgres::database()).await;
}

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
use tollgate_harness::{Gateway, Options, net};

/// From the request to the API until no worker goes by what was before.
const BOUND: Duration = Duration::from_secs(1);

async fn start(control: &ControlPlane, models: &ModelServer) -> Gateway {
    let token = control.gateway_token().await.unwrap();
    let watch = format!("timeout: 30s\n          watch: 25s\n          token: {token}");
    Options::new()
        .edit(
            "directory-http.yaml",
            "path: /directory.json",
            "path: /v1/directory",
        )
        .edit("directory-http.yaml", "timeout: 30s", &watch)
        .key_auth(json!({
            "directory": {"http": {"max_stale": "10m", "on_stale": "deny"}},
            "failed_auth": {"rate": "600000/minute", "burst": 600000},
        }))
        .llama(models.addr())
        .documents(control.addr())
        .start()
        .await
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
    let gateways = [start(&control, &models).await, start(&control, &models).await];
    for gateway in &gateways {
        for lane in &mut lane::lanes(gateway).await {
            net::eventually("a worker has the directory", async || {
                (lane.ask(&steady).await.status == 200).then_some(())
            })
            .await;
        }
    }
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
    let revoked = Instant::now();
    let revoke = format!("/v1/keys/{leaver_id}/revoke");
    control.post(&revoke, &json!({})).await.unwrap();
    settled(&both, revoked).await;
    let freeze = json!({"target": {"key": frozen_id}, "reason": "leaked", "for": "3s"});
    let froze = Instant::now();
    control.post("/v1/freezes", &freeze).await.unwrap();
    settled(&both, froze).await;
    let freeze = json!({"target": {"org": "globex"}, "reason": "abuse"});
    let froze_org = Instant::now();
    control.post("/v1/freezes", &freeze).await.unwrap();
    settled(&both, froze_org).await;

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
        for (name, at, before, after) in [
            ("newcomer", added, 401, 200),
            ("leaver", revoked, 200, 401),
            ("suspended", froze_org, 200, 403),
        ] {
            let took = journal.turns(name, at, BOUND, before, after);
            println!("{name}: in force on both workers after {took:?}");
        }
        assert_no_vm_broke(gateway).await;
    }
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

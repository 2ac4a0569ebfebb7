//! Two Envoys of two workers each keep one limit together, by a control plane: wherever the requests come, no more of them
//! pass in any span of time than one limit allows, and whoever is asked has what there is. Without the control plane
//! nothing of it is used once the leases are over.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test says what it expects by failing, in its helpers too"
)]

mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::assert_no_vm_broke;
use tollgate_core::key::ApiKey;
use tollgate_harness::bucket::{Bucket, Passed};
use tollgate_harness::control::ControlPlane;
use tollgate_harness::models::ModelServer;
use tollgate_harness::{Directory, Gateway, Options, Reply};

/// 600 a minute.
const LIMIT: Bucket = Bucket {
    rate: 10.0,
    burst: 20.0,
};
/// The part of the limit that an Envoy has unasked: of four places one.
const PART: f64 = 0.25;
/// For all that takes leases: they are ten seconds long.
const DEADLINE: Duration = Duration::from_secs(90);

fn limit() -> Value {
    json!({"limits": [{"name": "org-rpm", "per": ["org"], "where": "fleet", "rate": "600/minute", "burst": 20}]})
}

struct Fleet {
    gateways: [Gateway; 2],
    key: ApiKey,
    passed: Vec<Passed>,
}

impl Fleet {
    async fn start(control: &ControlPlane, models: &ModelServer) -> Self {
        let (directory, key) = Directory::of_one("acme");
        let token = control.gateway_token().await.unwrap();
        let options = || {
            Options::new()
                .directory(&directory)
                .llama(models.addr())
                .limits(limit())
                .fleet(control.addr(), &token)
        };
        Self {
            gateways: [options().start().await, options().start().await],
            key,
            passed: Vec::new(),
        }
    }

    /// One request after the other at one Envoy, for as long as `until` says no of each answer and when it came.
    async fn ask(&mut self, at: usize, mut until: impl FnMut(&Reply, &[Passed]) -> bool) {
        let begun = Instant::now();
        let from = self.passed.len();
        loop {
            let sent = Instant::now();
            let body = json!({"model": "llama-70b", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]});
            let request = self.gateways[at].post("/v1/chat/completions");
            let reply = request.key(&self.key).json(body).send().await;
            if reply.status == 200 {
                let answered = Instant::now();
                self.passed.push(Passed { sent, answered });
            }
            if until(&reply, &self.passed[from..]) {
                return;
            }
            assert!(begun.elapsed() < DEADLINE, "{} {}", reply.status, reply.text());
            // Ten times what the limit allows, and no more.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Asks one Envoy until it has let pass what its own part would not: it has a share of its own.
    async fn ask_for_a_share(&mut self, at: usize) {
        self.ask(at, |_, passed| {
            // Three quarters of the rate over the last five seconds, where the part is one quarter.
            let recent = passed
                .iter()
                .filter(|one| one.sent.elapsed() < Duration::from_secs(5));
            let wanted = 0.75 * LIMIT.rate * 5.0;
            assert!(PART * LIMIT.most(Duration::from_secs(5)) < wanted);
            recent.count() as f64 >= wanted
        })
        .await;
    }

    /// In any span of time no more passed than the limit allows.
    fn is_never_over(&self) {
        assert_eq!(LIMIT.holds(&self.passed), Ok(()));
    }
}

#[tokio::test]
async fn one_limit_for_two_envoys() {
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", folder.path().join("tollgate.db").display());
    let control = ControlPlane::start(&database, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let models = ModelServer::builder().keep(0).start().await.unwrap();
    let mut fleet = Fleet::start(&control, &models).await;

    // All of it where it is asked for, at one and then at the other.
    fleet.ask_for_a_share(0).await;
    fleet.ask_for_a_share(1).await;

    // What it refuses tells the limit of the fleet, and a time by which more has been asked for.
    fleet
        .ask(1, |reply, _| {
            if reply.status == 429 {
                assert_eq!(reply.header("x-ratelimit-limit-requests"), Some("600"));
                assert!(reply.header("retry-after").is_some());
                assert!(reply.text().contains("rate_limit_exceeded"));
            }
            reply.status == 429
        })
        .await;
    fleet.is_never_over();

    // With the control plane gone leases end, and nobody can say what others use.
    let addr = control.addr();
    control.kill();
    for at in 0..2 {
        fleet.ask(at, |reply, _| reply.status == 503).await;
    }
    fleet.is_never_over();

    // It comes back with its books.
    let control = ControlPlane::start(&database, addr).unwrap();
    fleet.ask_for_a_share(1).await;
    fleet.is_never_over();
    for gateway in &fleet.gateways {
        assert_no_vm_broke(gateway).await;
    }
    drop(control);
}

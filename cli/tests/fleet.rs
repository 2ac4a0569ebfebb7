//! Gateways that keep a limit together by `tollgate serve`, while servers are killed and the store of the books hangs or is
//! lost. What passes, one bucket of the whole limit would pass.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails by panicking"
)]

#[path = "../../fleet/tests/redis/node.rs"]
mod node;
mod server;

use core::time::Duration;
use std::collections::BTreeSet;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use node::Node;
use reqwest::StatusCode;
use rustix::process::Signal;
use serde_json::{Value, json};
use server::redis::Redis;
use server::{Server, client, get, post, postgres};
use tokio::task::JoinSet;
use tollgate_shares::{Allowance, Answer, Bucket, Key, Limit, Message, Share, Time, Timing};

const SECOND: Time = 1_000_000;
const LIMIT: Limit = Limit {
    rate: 200,
    period: SECOND,
    burst: 40,
};
const KEY: Key = Key([9; 16]);
const WHOLE: Allowance = Allowance {
    share: Share { rate: 200, burst: 40 },
    since: 0,
    got: 0,
};
/// Longest wait for anything. Empty books grant nothing for twelve seconds.
const DEADLINE: Duration = Duration::from_secs(120);

/// What all gateways of a test know.
struct Fleet {
    http: reqwest::Client,
    token: String,
    urls: Mutex<Vec<String>>,
    begun: Instant,
    /// Of what passed.
    whole: Mutex<Bucket>,
    heard: Mutex<Heard>,
}

#[derive(Default)]
struct Heard {
    passed: usize,
    /// Of answers that gave something.
    epochs: BTreeSet<u64>,
    /// What the last message without an answer got.
    refused: Option<(StatusCode, Value)>,
}

impl Fleet {
    /// Six gateways at these servers, for as long as the test runs.
    fn start(urls: Vec<String>, token: &str) -> (Arc<Self>, JoinSet<()>) {
        let fleet = Arc::new(Self {
            http: client(),
            token: token.to_owned(),
            urls: Mutex::new(urls),
            begun: Instant::now(),
            whole: Mutex::new(Bucket::new(WHOLE)),
            heard: Mutex::default(),
        });
        let mut gateways = JoinSet::new();
        for at in 0..6 {
            gateways.spawn(gateway(Arc::clone(&fleet), at));
        }
        (fleet, gateways)
    }

    /// Ahead by a minute, in which the bucket of the whole limit has filled.
    fn now(&self) -> Time {
        60 * SECOND + u64::try_from(self.begun.elapsed().as_micros()).unwrap()
    }

    /// A request, if the gateway's bucket has a token.
    fn request(&self, node: &mut Node) {
        let mut whole = self.whole.lock().unwrap();
        let now = self.now();
        if node.admit(KEY, LIMIT, 1, now) {
            assert!(
                whole.take(LIMIT, WHOLE, 1, now),
                "more passed than one bucket would"
            );
            self.heard.lock().unwrap().passed += 1;
        }
    }

    async fn exchange(&self, at: u64, message: &Message) -> Option<Answer> {
        let url = {
            let urls = self.urls.lock().unwrap();
            urls[usize::try_from(at).unwrap() % urls.len()].clone()
        };
        let request = self.http.post(format!("{url}/v1/fleet")).bearer_auth(&self.token);
        let sent = request.json(message).timeout(Duration::from_secs(2)).send().await;
        let response = sent.ok()?;
        let status = response.status();
        if status == StatusCode::OK {
            let answer: Answer = response.json().await.ok()?;
            if answer.terms.is_some() {
                self.heard.lock().unwrap().epochs.insert(answer.epoch.0);
            }
            return Some(answer);
        }
        let body = response.json().await.unwrap_or_default();
        self.heard.lock().unwrap().refused = Some((status, body));
        None
    }

    async fn until(&self, what: &str, is_so: impl Fn(&mut Heard) -> bool) {
        let begun = Instant::now();
        while !is_so(&mut self.heard.lock().unwrap()) {
            assert!(begun.elapsed() < DEADLINE, "it is not so: {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until some hundred more requests passed.
    async fn until_more_pass(&self) {
        let before = self.heard.lock().unwrap().passed;
        self.until("more requests pass", |heard| heard.passed >= before + 100)
            .await;
    }

    fn epochs(&self) -> BTreeSet<u64> {
        self.heard.lock().unwrap().epochs.clone()
    }
}

async fn gateway(fleet: Arc<Fleet>, at: u64) {
    let mut node = Node::new(Timing::FLEET, (at + 1) << 40);
    for round in at.. {
        node.member.want(KEY, LIMIT, 20 + round * 37 % 100, 0);
        let message = node.send(fleet.now());
        if let Some(answer) = fleet.exchange(round, &message).await {
            node.receive(&answer, fleet.now());
        }
        for wait in 0..8 {
            fleet.request(&mut node);
            tokio::time::sleep(Duration::from_millis(1 + (round + wait) % 8)).await;
        }
    }
}

/// Ends gateways; one that saw too much pass has failed.
async fn end(mut gateways: JoinSet<()>) {
    gateways.abort_all();
    while let Some(ended) = gateways.join_next().await {
        if let Err(error) = ended
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

async fn gateway_token(server: &Server, owner: &str) -> String {
    let made = post(
        &client(),
        &format!("{}/v1/tokens", server.url),
        owner,
        json!({"role": "gateway"}),
    )
    .await;
    made.unwrap().1["secret"].as_str().unwrap().to_owned()
}

/// Another in the place of one that was killed.
fn restarted(server: Server, database: &str) -> Server {
    server.kill();
    Server::start(database)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_over_one_database_are_one_coordinator_when_one_is_killed() {
    let database = postgres::database();
    let (mut one, two) = (Server::start(&database), Server::start(&database));
    let token = gateway_token(&two, &one.token.clone().unwrap()).await;
    let (fleet, gateways) = Fleet::start(vec![one.url.clone(), two.url.clone()], &token);
    fleet.until_more_pass().await;
    for _ in 0..4 {
        one = tokio::task::block_in_place(|| restarted(one, &database));
        *fleet.urls.lock().unwrap() = vec![one.url.clone(), two.url.clone()];
        fleet.until_more_pass().await;
    }
    assert_eq!(fleet.epochs().len(), 1, "the books went on");
    end(gateways).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_server_over_a_file_goes_on_where_it_was_killed() {
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", folder.path().join("tollgate.db").display());
    let mut server = Server::start(&database);
    let token = gateway_token(&server, &server.token.clone().unwrap()).await;
    let (fleet, gateways) = Fleet::start(vec![server.url.clone()], &token);
    fleet.until_more_pass().await;
    for _ in 0..3 {
        server = tokio::task::block_in_place(|| restarted(server, &database));
        *fleet.urls.lock().unwrap() = vec![server.url.clone()];
        fleet.until_more_pass().await;
    }
    assert_eq!(fleet.epochs().len(), 1, "the books went on");
    end(gateways).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_hangs_or_is_lost_stops_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", folder.path().join("tollgate.db").display());
    let mut redis = Redis::start();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.env("TOLLGATE_FLEET_STORE", redis.address());
    let server = Server::start_by(command, &database);
    let owner = server.token.clone().unwrap();
    let token = gateway_token(&server, &owner).await;
    let (fleet, gateways) = Fleet::start(vec![server.url.clone()], &token);
    fleet.until_more_pass().await;

    redis.signal(Signal::STOP);
    fleet.heard.lock().unwrap().refused = None;
    fleet
        .until("it is said that Redis does not answer", |heard| {
            heard.refused.is_some()
        })
        .await;
    let (status, problem) = fleet.heard.lock().unwrap().refused.clone().unwrap();
    assert_eq!(
        (status.as_u16(), &problem["type"]),
        (503, &json!("urn:tollgate:problem:no-books"))
    );
    assert!(!problem.to_string().contains("hush"), "{problem}");
    let orgs = get(&client(), &format!("{}/v1/orgs", server.url), &owner).await;
    assert_eq!(orgs, json!({"items": []}));
    redis.signal(Signal::CONT);
    fleet.until_more_pass().await;
    assert_eq!(fleet.epochs().len(), 1, "the books went on");

    tokio::task::block_in_place(|| redis.restart());
    fleet
        .until("other books give something", |heard| heard.epochs.len() == 2)
        .await;
    fleet.until_more_pass().await;
    end(gateways).await;
}

#[test]
fn a_store_that_is_none_is_refused_and_its_password_kept() {
    for wrong in [
        "rediss://:hush-hush@h",
        "redis:hush-hush",
        "redis://:hush-hush@h:port",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let database = format!("sqlite:{}", folder.path().join("tollgate.db").display());
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--database", &database]);
        let output = command.args(["--fleet-store", wrong]).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(
            !output.status.success() && told.contains("--fleet-store"),
            "{told}"
        );
        assert!(!told.contains("hush"), "{told}");
    }
}

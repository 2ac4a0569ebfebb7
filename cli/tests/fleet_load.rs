//! How many messages of gateways a server takes, by where the books are: for a second each, or as long as `FLEET_SECONDS` says
//! (`scripts/control-bench.sh`). It prints what it measured, and fails where a message is refused.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails by panicking"
)]

mod server;

use core::time::Duration;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use server::redis::Redis;
use server::{Server, client, postgres};
use tokio::task::JoinSet;
use tollgate_shares::{Answer, Incarnation, Key, Limit, Member, Timing};

/// Gateways, of which so many wait for an answer at once.
const GATEWAYS: usize = 1_000;
const AT_ONCE: usize = 32;

#[tokio::test(flavor = "multi_thread")]
async fn on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", folder.path().join("tollgate.db").display());
    measure("SQLite", &Server::start(&database)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres() {
    measure("PostgreSQL", &Server::start(&postgres::database())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_redis() {
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", folder.path().join("tollgate.db").display());
    let redis = Redis::start();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.env("TOLLGATE_FLEET_STORE", redis.address());
    measure("Redis", &Server::start_by(command, &database)).await;
}

async fn measure(name: &str, server: &Server) {
    let seconds = std::env::var("FLEET_SECONDS").map_or(1, |text| text.parse().unwrap());
    let load = Arc::new(Load {
        http: client(),
        url: format!("{}/v1/fleet", server.url),
        token: server.token.clone().unwrap(),
        begun: Instant::now(),
        refused: AtomicUsize::new(0),
    });
    let mut members: Vec<_> = (0..GATEWAYS as u64)
        .map(|at| Member::new(Timing::FLEET, Incarnation(at.wrapping_mul(0x9e37_79b9_7f4a_7c15))))
        .collect();
    // Empty books give nothing at first.
    while !members[0].is_valid(load.now()) {
        load.exchange(&mut members[0]).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(
            load.begun.elapsed() < Duration::from_secs(120),
            "{name} gives nothing"
        );
    }
    for wants in [0, 1, 10] {
        let (cpu, begun) = (server.cpu(), Instant::now());
        let mut times = load.run(&mut members, wants, Duration::from_secs(seconds)).await;
        let (cpu, took) = (server.cpu() - cpu, begun.elapsed());
        times.sort_unstable();
        let count = times.len();
        println!(
            "{name}, {wants} wants each: {:.0} messages a second; p50 {:?}, p99 {:?}; {:.0} µs of the server's CPU each",
            count as f64 / took.as_secs_f64(),
            times[count / 2],
            times[count * 99 / 100],
            cpu.as_secs_f64() * 1e6 / count as f64,
        );
        assert!(count > 0);
    }
    let refused = load.refused.load(Ordering::Relaxed);
    println!("{name}: {refused} refused");
}

struct Load {
    http: reqwest::Client,
    url: String,
    token: String,
    begun: Instant,
    refused: AtomicUsize,
}

impl Load {
    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap()
    }

    async fn exchange(&self, member: &mut Member) {
        let message = member.message(self.now());
        let request = self.http.post(&self.url).bearer_auth(&self.token);
        let response = request.json(&message).send().await.unwrap();
        match response.status().as_u16() {
            200 => {
                let answer: Answer = response.json().await.unwrap();
                member.receive(&answer, self.now());
            }
            503 => _ = self.refused.fetch_add(1, Ordering::Relaxed),
            other => panic!("{other}: {}", response.text().await.unwrap()),
        }
    }

    /// All gateways by turns, each with so many new wants; how long each message took.
    async fn run(self: &Arc<Self>, members: &mut Vec<Member>, wants: usize, span: Duration) -> Vec<Duration> {
        let until = Instant::now() + span;
        let mut lanes = JoinSet::new();
        let each = members.len().div_ceil(AT_ONCE);
        while !members.is_empty() {
            let mut own = members.split_off(members.len().saturating_sub(each));
            let load = Arc::clone(self);
            let lane = lanes.len() as u64;
            lanes.spawn(async move {
                let mut times = Vec::new();
                for round in 0.. {
                    let at = round % own.len();
                    if Instant::now() >= until {
                        break;
                    }
                    for want in 0..wants as u64 {
                        // Its own keys, and another demand than before.
                        let key = (lane << 40 | (at as u64) << 20 | want).to_be_bytes();
                        let limit = Limit {
                            rate: 6_000,
                            period: 60_000_000,
                            burst: 6_000,
                        };
                        let key = Key([key, key].concat().try_into().unwrap());
                        own[at].want(key, limit, 100 + (round as u64 * 331) % 3_000, 0);
                    }
                    let begun = Instant::now();
                    load.exchange(&mut own[at]).await;
                    times.push(begun.elapsed());
                }
                (own, times)
            });
        }
        let mut all = Vec::new();
        while let Some(done) = lanes.join_next().await {
            let (own, times) = done.unwrap();
            members.extend(own);
            all.extend(times);
        }
        all
    }
}

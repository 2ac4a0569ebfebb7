//! What Envoy holds in memory stays what it was, for as long as `SOAK_SECONDS` says: requests that end in every way, and
//! reloads of all files, with each second one.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tollgate_harness::models::random::Random;
use tollgate_harness::net;
use tollgate_harness::usage_log::UsageRecord;

use crate::plan::Plan;
use crate::stage::Stage;

/// Unless `SOAK_SECONDS` says otherwise.
const SECONDS: u32 = 20;
/// Under way at once.
const CLIENTS: usize = 32;
/// Memory is looked at so often.
const LOOKS: u32 = 80;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_stays_flat() {
    let seconds = std::env::var("SOAK_SECONDS").map_or(SECONDS, |said| said.parse().unwrap());
    let stage = Stage::start("second").await;
    let end = Instant::now() + Duration::from_secs(seconds.into());
    let over = || Instant::now() >= end;

    let client = async |number: usize| {
        let mut dice = Random::new(number as u64);
        let mut done = 0;
        while !over() {
            let plan = Plan::draw(number, stage.keys.len(), &mut dice);
            stage.perform(&plan).await;
            done += 1;
        }
        done
    };
    let reloads = async || {
        while !over() {
            stage
                .reload_all(async |_| tokio::time::sleep(Duration::from_secs(1)).await)
                .await;
        }
    };
    let memory = async || {
        let mut seen = Vec::new();
        let mut looks = tokio::time::interval(Duration::from_secs(seconds.into()) / LOOKS);
        while !over() {
            looks.tick().await;
            seen.push(stage.gateway.rss_kb());
        }
        seen
    };
    let (done, (), memory) = tokio::join!(join_all((0..CLIENTS).map(client)), reloads(), memory());

    let quarter = memory.len() / 4;
    let [_, before, _, after] = [0, 1, 2, 3].map(|part| median(&memory[part * quarter..][..quarter]));
    println!(
        "{} requests in {seconds} s; {before} kB in the second quarter, {after} kB in the last",
        done.iter().sum::<u64>()
    );
    assert!(
        after <= before + before / 20 + 4_096,
        "{before} kB, then {after}: {memory:?}"
    );
    each_request_has_one_record(&stage).await;
}

async fn each_request_has_one_record(stage: &Stage) {
    let requests = stage.gateway.requests().await;
    let log = stage.gateway.usage_log();
    let lines = net::within(Duration::from_secs(60), async || {
        Some(log.lines()).filter(|lines| lines.len() as u64 >= requests)
    });
    let lines = lines.await.unwrap();
    let record = |line: &String| serde_json::from_str::<UsageRecord>(line).unwrap().id;
    let ids: HashSet<String> = lines.iter().map(record).collect();
    assert_eq!((lines.len() as u64, ids.len() as u64), (requests, requests));
}

fn median(numbers: &[u64]) -> u64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

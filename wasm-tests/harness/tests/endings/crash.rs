//! Envoy is killed again and again (`CRASHES`) under requests that end in every way: each one that had begun has one record.
//! The native form alone survives that.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use tokio::sync::RwLock;
use tollgate_harness::models::random::Random;
use tollgate_harness::models::{FAULT_HEADER, ModelServer};
use tollgate_harness::usage_log::UsageRecord;
use tollgate_harness::{Directory, Options, is_native};

use crate::plan::Plan;
use crate::stage::{Seen, Stage};

/// Unless `CRASHES` says otherwise.
const CRASHES: usize = 5;
/// Under way at once.
const CLIENTS: usize = 32;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_request_has_one_record_whenever_envoy_is_killed() {
    if !is_native() {
        return;
    }
    let crashes = std::env::var("CRASHES").map_or(CRASHES, |said| said.parse().unwrap());
    let mut stage = Stage::start("second").await;
    let stage = RwLock::new(&mut stage);
    let (is_over, next) = (AtomicBool::new(false), AtomicUsize::new(0));

    let client = async |number: usize| {
        let mut dice = Random::new(number as u64);
        let mut seen = Vec::new();
        while !is_over.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let stage = stage.read().await;
            let plan = Plan::draw(number, stage.keys.len(), &mut dice);
            seen.push(stage.perform(&plan).await);
        }
        seen
    };
    let killer = async || {
        let mut dice = Random::new(crashes as u64);
        for _ in 0..crashes {
            tokio::time::sleep(Duration::from_millis(dice.between(50, 700) as u64)).await;
            kill(&stage).await;
        }
        is_over.store(true, Ordering::Relaxed);
    };
    let (seen, ()) = tokio::join!(join_all((0..CLIENTS).map(client)), killer());
    let stage = stage.into_inner();
    let seen: Vec<Seen> = seen.into_iter().flatten().collect();
    let last = stage.gateway.requests().await;
    let told: Vec<String> = seen.iter().filter_map(|seen| seen.id.clone()).collect();
    let served = stage.models.iter().flat_map(ModelServer::seen);
    let served = served.filter_map(|served| served.request_id);
    let records = records(stage, last, told.into_iter().chain(served).collect()).await;

    for seen in &seen {
        let Some(id) = &seen.id else { continue };
        let record = records.get(id).unwrap_or_else(|| panic!("no record of {id}"));
        if record.is("crashed") {
            assert_eq!(
                Some(record.status),
                seen.status.filter(|_| record.status > 0).or(Some(0))
            );
        }
        if record.is("crashed") || record.is("aborted") {
            let written = record.output_tokens.unwrap();
            assert!(written >= seen.pieces, "{} pieces of {record:?}", seen.pieces);
        }
    }
    for served in stage.models.iter().flat_map(ModelServer::seen) {
        let record = &records[served.request_id.as_ref().unwrap()];
        assert!(record.reserved_tokens.is_some(), "{record:?}");
        if record.is("crashed") {
            assert!(record.input_tokens.unwrap() > 0, "{record:?}");
        }
    }
    assert!(
        records.len() <= next.load(Ordering::Relaxed) + crashes,
        "no more than were asked"
    );
    let mut outcomes = BTreeMap::<_, usize>::new();
    for record in records.values() {
        *outcomes
            .entry(record.outcome.as_deref().unwrap_or("-"))
            .or_default() += 1;
    }
    println!("{crashes} crashes, {} requests: {outcomes:?}", records.len());
    assert!(outcomes["crashed"] >= crashes && outcomes["complete"] > 0);
}

/// While others go on asking, as they may: whoever waits for the lock meanwhile, asks after it.
async fn kill(stage: &RwLock<&mut Stage>) {
    let pid = stage.read().await.gateway.pid();
    let mut gone = tokio::process::Command::new("kill");
    gone.args(["-9", &pid.to_string()]);
    assert!(gone.status().await.unwrap().success());
    stage.write().await.gateway.kill().await;
}

/// All records by their ids, once these are there, and as many as Envoy has counted since its last start.
async fn records(stage: &Stage, last: u64, ids: HashSet<String>) -> HashMap<String, UsageRecord> {
    let log = stage.gateway.usage_log();
    let are_there = |records: &[UsageRecord]| {
        let known = records.iter().filter(|record| ids.contains(&record.id));
        known.count() >= ids.len() && records.len() as u64 >= last
    };
    let list = log.wait(are_there).await;
    let mut records = HashMap::new();
    for record in list {
        let again = records.insert(record.id.clone(), record);
        assert_eq!(again, None, "a second record of one request");
    }
    records
}

#[tokio::test]
async fn limits_stand_as_they_were_when_envoy_was_killed() {
    if !is_native() {
        return;
    }
    let models = ModelServer::start().await.unwrap();
    let mut directory = Directory::new();
    let key = directory.key("acme");
    let limits = json!({"limits": [
        {"name": "key-rpd", "per": ["key"], "rate": "20/day"},
        {"name": "key-tpd", "per": ["key"], "count": "tokens", "rate": "100000/day"},
        {"name": "places", "per": ["key"], "count": "concurrent", "max": 1},
    ]});
    let options = Options::new()
        .llama(models.addr())
        .directory(&directory)
        .limits(limits);
    let mut gateway = options.start().await;
    let ask = async |gateway: &tollgate_harness::Gateway, fault: &str| {
        let body = json!({"model": "llama-70b", "max_tokens": 40, "messages": [{"role": "user", "content": "hello"}]});
        let request = gateway.post("/v1/chat/completions").key(&key);
        request.header(FAULT_HEADER, fault).json(body).try_open().await
    };
    for left in (15..20).rev() {
        let reply = ask(&gateway, "tokens=10").await.unwrap();
        assert_eq!(
            reply.headers()["x-ratelimit-remaining-requests"],
            left.to_string()
        );
    }
    let before = ask(&gateway, "tokens=10").await.unwrap();
    let tokens = |reply: &reqwest::Response| -> u64 {
        let left = &reply.headers()["x-ratelimit-remaining-tokens"];
        left.to_str().unwrap().parse().unwrap()
    };
    let tokens_before = tokens(&before);
    // Under way when it is killed: its request and its reservation stay charged, its place is free.
    let hangs = async {
        let _ = ask(&gateway, "first-byte=60s").await;
    };
    let asked = tollgate_harness::net::eventually("it is with the model server", async || {
        (models.seen().len() == 7).then_some(())
    });
    tokio::select! { () = hangs => panic!("it is not answered"), () = asked => {} }
    gateway.kill().await;
    let reply = ask(&gateway, "tokens=10").await.unwrap();
    assert_eq!(reply.status(), 200);
    assert_eq!(reply.headers()["x-ratelimit-remaining-requests"], "12");
    let records = gateway.usage_log().wait(|records| records.len() == 8).await;
    let crashed: Vec<_> = records.iter().filter(|record| record.is("crashed")).collect();
    let [crashed] = crashed[..] else {
        panic!("{records:?}")
    };
    let reserved = crashed.reserved_tokens.unwrap();
    let settled: u64 = records
        .iter()
        .filter(|record| record.is("complete"))
        .map(UsageRecord::tokens)
        .sum();
    let last = records.last().unwrap();
    // The last is told before it is settled; a token a second leaks.
    let expected = 100_000 - (settled - last.tokens()) - reserved - last.reserved_tokens.unwrap();
    let left = tokens(&reply);
    assert!(
        (expected..expected + 60).contains(&left),
        "{left} of {expected}, {tokens_before} before"
    );
    // A second kill, with nothing since.
    gateway.kill().await;
    let reply = ask(&gateway, "tokens=10").await.unwrap();
    assert_eq!(reply.headers()["x-ratelimit-remaining-requests"], "11");
}

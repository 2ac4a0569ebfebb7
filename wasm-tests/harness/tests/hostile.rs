//! Ten thousand hostile requests at once with honest ones. The gateway refuses, and goes on: nothing of it breaks, no
//! model server is asked in another's name, no secret is logged, and honest callers notice nothing.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test says what it expects by failing, in its helpers too"
)]

mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use support::hostile::{self, Attack, MARK, SMUGGLED};
use support::load::Load;
use support::{OPENAI, assert_no_vm_broke, chat, lane};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tollgate_core::key::ApiKey;
use tollgate_harness::models::random::Random;
use tollgate_harness::models::{ModelServer, Seen};
use tollgate_harness::{Directory, Options, net};

/// The seed of all of it.
const SEED: u64 = 20_260_731;
const ATTACKS: usize = 10_000;
/// Connections at once.
const ATTACKERS: usize = 24;
/// How long an attacker waits for an answer that may never come.
const PATIENCE: Duration = Duration::from_millis(250);
/// What Envoy may hold more afterwards, in kilobytes: buffers of connections, and its statistics.
const GROWTH: u64 = 96 * 1024;

/// Sends one attack; what came back.
async fn strike(addr: SocketAddr, attack: &Attack) -> Vec<u8> {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let mut answer = Vec::new();
    let all = async {
        for piece in &attack.pieces {
            // The gateway may have closed already.
            if stream.write_all(piece).await.is_err() {
                break;
            }
        }
        if attack.waits {
            let mut buffer = [0; 8192];
            while !is_whole(&answer) {
                match stream.read(&mut buffer).await {
                    Ok(read @ 1..) => answer.extend_from_slice(&buffer[..read]),
                    _ => break,
                }
            }
        }
    };
    let _ = timeout(PATIENCE, all).await;
    answer
}

fn is_whole(answer: &[u8]) -> bool {
    let answer = tollgate_harness::raw::Answer {
        bytes: answer.to_vec(),
        closed: false,
    };
    answer.reply().is_some()
}

/// The status of each answer in what came back.
fn statuses(answer: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(answer);
    let heads = text.split("HTTP/1.1 ").skip(1);
    heads.filter_map(|head| head.get(..3)?.parse().ok()).collect()
}

/// How often each kind of attack got each status; 0 counts the attacks.
type Account = BTreeMap<(&'static str, u16), usize>;

/// Sends all of them, several at a time, and looks at each answer.
async fn strike_all(addr: SocketAddr, key: &str) -> Account {
    let next = Arc::new(AtomicUsize::new(0));
    let mut attackers = tokio::task::JoinSet::new();
    for _ in 0..ATTACKERS {
        let (next, key) = (next.clone(), key.to_owned());
        attackers.spawn(async move {
            let mut account = Account::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= ATTACKS {
                    return account;
                }
                // Each has its own seed, so that one can be drawn again alone.
                let attack = hostile::attack(&mut Random::new(SEED + number as u64), &key);
                let answer = strike(addr, &attack).await;
                for secret in [MARK, &key] {
                    let shown = answer
                        .windows(secret.len())
                        .any(|window| window == secret.as_bytes());
                    assert!(!shown, "number {number} is told a key: {attack:?}");
                }
                *account.entry((attack.kind, 0)).or_insert(0) += 1;
                for status in statuses(&answer) {
                    // 100: Envoy lets a client go on with its body before any filter has looked.
                    assert!(
                        (100..500).contains(&status),
                        "number {number} got {status}: {attack:?}"
                    );
                    *account.entry((attack.kind, status)).or_insert(0) += 1;
                }
            }
        });
    }
    let mut account = Account::new();
    while let Some(part) = attackers.join_next().await {
        for (what, count) in part.unwrap() {
            *account.entry(what).or_insert(0) += count;
        }
    }
    account
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_hostile_requests_break_nothing() {
    println!("seed {SEED}");
    let models = ModelServer::builder().keep(1_000_000).start().await.unwrap();
    let mut directory = Directory::new();
    let honest = directory.project_key("acme", "search");
    // The attackers hold a key of their own, too.
    let theirs = directory.key("globex");
    let mut key_auth = directory.inline();
    // Or nearly all of them would meet the limit and nothing behind it.
    key_auth["failed_auth"] = json!({"rate": "600000/minute", "burst": 600000});
    let mut gateway = Options::new()
        .llama(models.addr())
        .key_auth(key_auth)
        .start()
        .await;
    let load = Load::start(&gateway, &[("honest", &honest)]).await;
    let rss = gateway.rss_kb();
    let begun = Instant::now();

    let account = strike_all(gateway.addr(), theirs.reveal()).await;
    let took = begun.elapsed();
    load.go_on(3).await;
    let journal = load.stop();
    println!("{ATTACKS} in {took:?}; by kind: how many (0), and which answers came back:");
    for kind in hostile::kinds() {
        let of_kind: BTreeMap<_, _> = account
            .iter()
            .filter(|((k, _), _)| *k == kind)
            .map(|((_, s), n)| (*s, *n))
            .collect();
        assert!(of_kind[&0] > 100, "{kind} was hardly tried");
        println!("  {kind}: {of_kind:?}");
    }
    let (p99, max) = journal.latency("honest");
    println!(
        "honest requests meanwhile:\n{}  p99 {p99:?}, longest {max:?}",
        journal.summary()
    );
    assert!(journal.always("honest", 200) > 100);

    // Envoy lives, no VM broke, and a good key is served at once.
    assert!(gateway.is_running());
    for lane in &mut lane::lanes(&gateway).await {
        lane.ask(honest.reveal()).await.expect(200);
    }
    gateway
        .post(OPENAI)
        .key(&honest)
        .json(chat())
        .http2()
        .send()
        .await
        .expect(200);
    assert_no_vm_broke(&gateway).await;

    // Every connection of theirs is given back, and with it what it held.
    net::eventually("no connection is left over", async || {
        let stats = gateway.stats().await;
        let requests = stats.counter("http.gateway.downstream_rq_active");
        (requests == 0 && stats.counter("http.gateway.downstream_cx_active") <= 4).then_some(())
    })
    .await;
    let grown = gateway.rss_kb().saturating_sub(rss);
    println!("Envoy holds {grown} kB more, {rss} kB before");
    assert!(grown < GROWTH, "{grown} kB more");

    // Nobody was answered by a failure of the gateway's, on either version of HTTP.
    let records = gateway.access_log().records();
    let mut failures = BTreeMap::new();
    for record in records.iter().filter(|record| record.status >= 500) {
        *failures
            .entry((record.status, &record.details, &record.protocol))
            .or_insert(0) += 1;
    }
    assert!(failures.is_empty(), "{failures:#?}");
    let stats = gateway.stats().await;
    assert_eq!(stats.counter("http.gateway.downstream_rq_5xx"), 0);
    assert_eq!(
        stats.counter("wasmcustom.tollgate_key_auth_requests.decision.deny.reason.misconfigured"),
        0
    );
    let judged = stats.sum("wasmcustom.tollgate_key_auth_requests.");
    println!("{judged} requests came to key-auth");
    assert!(
        judged as usize > ATTACKS / 2,
        "most of them are to reach the filter"
    );
    for record in &records {
        let known = [None, Some("acme"), Some("globex")];
        assert!(known.contains(&record.org.as_deref()), "{record:?}");
    }

    for seen in models.seen() {
        assert_honest(&seen, &[("acme", &honest), ("globex", &theirs)]);
    }

    // No secret is in a log: neither of those who have one, nor what was presented as one.
    for (log, text) in [
        ("access log", gateway.access_log().text()),
        ("Envoy's log", gateway.log()),
    ] {
        for key in [&honest, &theirs] {
            // Behind its public id, which may be logged.
            let secret = &key.reveal()[19..];
            assert!(
                !text.contains(secret) && !text.contains(&key.sha256_hex()),
                "{log} holds a key"
            );
        }
        assert!(!text.contains(MARK), "{log} holds what was presented as a key");
    }
}

/// A request that a model server saw is of one of these callers, as who they are, and holds nothing that was hidden in
/// another request.
fn assert_honest(seen: &Seen, callers: &[(&str, &ApiKey)]) {
    let (org, id) = (seen.header("x-tollgate-org"), seen.header("x-tollgate-key-id"));
    let is = |(name, key): &(&str, &ApiKey)| org == Some(*name) && id == Some(key.id());
    assert!(callers.iter().any(is), "{seen:#?}");
    let ours = [
        "x-tollgate-org",
        "x-tollgate-project",
        "x-tollgate-key-id",
        "x-tollgate-tier",
        "x-tollgate-model",
        "x-tollgate-target",
        "x-tollgate-priority",
        "x-envoy-external-address",
    ];
    let control = |name: &&str| name.starts_with("x-tollgate-") || name.starts_with("x-envoy-");
    let mut names: Vec<_> = seen
        .headers
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(control)
        .collect();
    assert!(names.iter().all(|name| ours.contains(name)), "{seen:#?}");
    names.sort_unstable();
    assert!(
        names.windows(2).all(|pair| pair[0] != pair[1]),
        "twice: {seen:#?}"
    );
    for name in ["authorization", "x-api-key", "api-key"] {
        assert_eq!(seen.header(name), None, "{seen:#?}");
    }
    let text = format!("{:?}{}", seen.headers, seen.path);
    assert!(!text.contains(MARK) && !text.contains(SMUGGLED), "{seen:#?}");
    for (_, key) in callers {
        assert!(!text.contains(key.reveal()), "{seen:#?}");
    }
}

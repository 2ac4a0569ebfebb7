//! A control plane with many keys: 5,000, or as many as `TOLLGATE_KEYS` says (`scripts/control-bench.sh`, a million). It
//! prints what it measured, and fails where a key is lost or a change is more than it should be.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails by panicking"
)]

mod server;

use core::time::Duration;
use std::time::Instant;

use serde_json::json;
use server::{Server, client, get, post};
use tollgate_core::key::KeyHash;

/// The largest answer to one change.
const CHANGE: usize = 2_048;

#[tokio::test(flavor = "multi_thread")]
async fn on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    measure(
        "SQLite",
        &format!("sqlite:{}", folder.path().join("tollgate.db").display()),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres() {
    measure("PostgreSQL", &server::postgres::database()).await;
}

async fn measure(name: &str, database: &str) {
    let keys: usize = std::env::var("TOLLGATE_KEYS").map_or(5_000, |keys| keys.parse().unwrap());
    let server = Server::start(database);
    let (http, url) = (client(), server.url.clone());
    let token = server.token.clone().unwrap();
    for org in 0..10 {
        let body = json!({"id": format!("org{org}"), "models": ["*"]});
        assert_eq!(
            post(&http, &format!("{url}/v1/orgs"), &token, body)
                .await
                .unwrap()
                .0,
            201
        );
    }

    let begun = Instant::now();
    for from in (0..keys).step_by(5_000) {
        let rows = (from..keys.min(from + 5_000)).map(|at| {
            let id = format!("key{at:09}");
            let sha256 = KeyHash::of(id.as_bytes()).to_string();
            json!({"id": id, "sha256": sha256, "org": format!("org{}", at % 10)})
        });
        let body = json!({"keys": rows.collect::<Vec<_>>()});
        let (status, answer) = post(&http, &format!("{url}/v1/import"), &token, body)
            .await
            .unwrap();
        assert_eq!(status, 201, "{answer}");
    }
    let imported = begun.elapsed();

    let document = format!("{url}/v1/directory");
    let (version, plain, whole) = fetch(&http, &document, &token, false).await;
    let (_, gzip, gzipped) = fetch(&http, &document, &token, true).await;

    // One change, as a gateway that waits for it sees it.
    let mut told = Vec::new();
    let mut most = 0;
    let mut version = version;
    for at in 0..20 {
        let wait = format!("{document}?after={version}&wait=20");
        let revoke = format!("{url}/v1/keys/key{at:09}/revoke");
        let (answer, begun) = tokio::join!(fetch(&http, &wait, &token, false), async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let begun = Instant::now();
            assert_eq!(post(&http, &revoke, &token, json!({})).await.unwrap().0, 200);
            begun
        });
        told.push(begun.elapsed());
        most = most.max(answer.1);
        version = answer.0;
    }
    assert!(most <= CHANGE, "one change is {most} bytes");

    let (writes, write_p99) = many(&http, &token, |at| {
        (
            format!("{url}/v1/keys"),
            Some(json!({"org": format!("org{}", at % 10)})),
        )
    })
    .await;
    let (reads, read_p99) = many(&http, &token, |at| {
        (format!("{url}/v1/keys/key{:09}", at % keys), None)
    })
    .await;
    told.sort_unstable();
    println!("| {name}, {keys} keys | |\n|---|---:|");
    println!("| import | {:.1} s |", imported.as_secs_f64());
    println!(
        "| the server's memory at most | {} MB |",
        server.most_memory() / 1_000_000
    );
    println!(
        "| whole document | {:.1} MB in {:.1} s |",
        plain as f64 / 1e6,
        whole.as_secs_f64()
    );
    println!(
        "| the same, compressed | {:.1} MB in {:.1} s |",
        gzip as f64 / 1e6,
        gzipped.as_secs_f64()
    );
    println!("| one change | {most} bytes |");
    println!(
        "| from the request to revoke until a waiting gateway has it, p50 and longest of 20 | {:?}, {:?} |",
        told[10], told[19]
    );
    println!("| keys made a second by 16 clients, p99 | {writes:.0}, {write_p99:?} |");
    println!("| keys read a second by 16 clients, p99 | {reads:.0}, {read_p99:?} |");
    let begun = Instant::now();
    let patient = reqwest::Client::builder()
        .timeout(Duration::from_secs(600))
        .build()
        .unwrap();
    let verdict = post(&patient, &format!("{url}/v1/audit/verify"), &token, json!({}))
        .await
        .unwrap();
    assert_eq!(verdict.1["faults"], json!([]));
    println!(
        "| the whole trail verified, and memory at most by then | {:.1} s, {} MB |",
        begun.elapsed().as_secs_f64(),
        server.most_memory() / 1_000_000
    );
    let left = get(&http, &document, &token).await["keys"]
        .as_array()
        .unwrap()
        .len();
    assert!(left >= keys - 20, "{left}");
}

/// Version, bytes and time of a document.
async fn fetch(http: &reqwest::Client, url: &str, token: &str, gzip: bool) -> (String, usize, Duration) {
    let begun = Instant::now();
    let request = http
        .get(url)
        .bearer_auth(token)
        .header("accept-encoding", if gzip { "gzip" } else { "identity" });
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    let version = response.headers()["etag"]
        .to_str()
        .unwrap()
        .trim_matches('"')
        .to_owned();
    let bytes = response.bytes().await.unwrap().len();
    (version, bytes, begun.elapsed())
}

/// How many requests of 16 clients at once are answered a second, for two seconds, and the time that one of a hundred
/// takes longer than.
async fn many(
    http: &reqwest::Client,
    token: &str,
    request: impl Fn(usize) -> (String, Option<serde_json::Value>),
) -> (f64, Duration) {
    const CLIENTS: usize = 16;
    let begun = Instant::now();
    let until = begun + Duration::from_secs(2);
    let asking = (0..CLIENTS).map(async |client| {
        let mut times = Vec::new();
        while Instant::now() < until {
            let (url, body) = request(client + CLIENTS * times.len());
            let asked = Instant::now();
            let status = match body {
                Some(body) => post(http, &url, token, body).await.unwrap().0,
                None => http
                    .get(url)
                    .bearer_auth(token)
                    .send()
                    .await
                    .unwrap()
                    .status()
                    .as_u16(),
            };
            assert!(status < 300, "{status}");
            times.push(asked.elapsed());
        }
        times
    });
    let mut times: Vec<Duration> = futures_util::future::join_all(asking)
        .await
        .into_iter()
        .flatten()
        .collect();
    times.sort_unstable();
    let rate = times.len() as f64 / begun.elapsed().as_secs_f64();
    (rate, times[times.len() * 99 / 100])
}

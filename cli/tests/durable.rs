//! What was acknowledged is there: under a hundred writers, killed servers, two servers over one database, a full disk and
//! a file that can't be written.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails by panicking"
)]

mod server;

use core::time::Duration;
use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::json;
use server::{Server, client, get, post, postgres};
use tollgate_budgets::Slice;

/// The ids of all keys.
async fn keys(http: &reqwest::Client, url: &str, token: &str) -> Vec<String> {
    let (mut ids, mut after) = (Vec::new(), String::new());
    loop {
        let page = get(http, &format!("{url}/v1/keys?limit=1000{after}"), token).await;
        ids.extend(
            page["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|key| key["id"].as_str().unwrap().to_owned()),
        );
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return ids,
        }
    }
}

/// A hundred writers make keys at these servers until the time is over; the ids of those that were acknowledged.
async fn write(
    http: &reqwest::Client,
    urls: Arc<Mutex<Vec<String>>>,
    token: &str,
    until: Instant,
) -> BTreeSet<String> {
    let writers = (0..100).map(|writer| {
        let (http, urls, token) = (http.clone(), Arc::clone(&urls), token.to_owned());
        tokio::spawn(async move {
            let mut made = Vec::new();
            while Instant::now() < until {
                let url = {
                    let urls = urls.lock().unwrap();
                    urls[(writer + made.len()) % urls.len()].clone()
                };
                match post(&http, &format!("{url}/v1/keys"), &token, json!({"org": "acme"})).await {
                    Some((201, body)) => made.push(body["id"].as_str().unwrap().to_owned()),
                    Some((503, _)) | None => tokio::time::sleep(Duration::from_millis(20)).await,
                    Some(other) => panic!("{other:?}"),
                }
            }
            made
        })
    });
    let mut all = BTreeSet::new();
    for writer in writers.collect::<Vec<_>>() {
        for id in writer.await.unwrap() {
            assert!(all.insert(id.clone()), "{id} was made twice");
        }
    }
    all
}

/// All acknowledged ones are there, none twice, and the trail holds.
async fn assert_whole(http: &reqwest::Client, url: &str, token: &str, acknowledged: &BTreeSet<String>) {
    let stored = keys(http, url, token).await;
    let unique: BTreeSet<String> = stored.iter().cloned().collect();
    assert_eq!(unique.len(), stored.len(), "one is there twice");
    let lost: Vec<_> = acknowledged.difference(&unique).collect();
    assert_eq!(lost, [""; 0], "acknowledged and not there");
    let (status, verdict) = post(http, &format!("{url}/v1/audit/verify"), token, json!({}))
        .await
        .unwrap();
    assert_eq!((status, &verdict["faults"]), (200, &json!([])), "{verdict}");
    assert!(acknowledged.len() > 100, "only {} were made", acknowledged.len());
}

/// What was begun for a time ends by itself, also if the server was down when that was over.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_begun_for_a_time_ends_though_the_server_was_down() {
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", folder.path().join("tollgate.db").display());
    let server = Server::start(&database);
    let (http, token) = (client(), server.token.clone().unwrap());
    let begin = async |path: &str, body| {
        let (status, body) = post(&http, &format!("{}{path}", server.url), &token, body)
            .await
            .unwrap();
        assert_eq!(status, 201, "{body}");
    };
    begin("/v1/orgs", json!({"id": "acme"})).await;
    let target = json!({"org": "acme"});
    let freeze = json!({"target": target, "reason": "x", "for": "1s"});
    begin("/v1/freezes", freeze).await;
    let cap = json!({"target": target, "rate": "1/second", "reason": "x", "for": "1s"});
    begin("/v1/caps", cap).await;
    server.kill();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let server = Server::start(&database);
    let started = Instant::now();
    loop {
        let directory = get(&http, &format!("{}/v1/directory", server.url), &token).await;
        let acme = &directory["orgs"]["acme"];
        if acme["status"] == "active" && acme.get("cap").is_none() {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(5), "{acme}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_writers_and_a_server_that_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", folder.path().join("tollgate.db").display());
    let mut server = Server::start(&database);
    let token = server.token.clone().unwrap();
    let http = client();
    post(
        &http,
        &format!("{}/v1/orgs", server.url),
        &token,
        json!({"id": "acme", "models": ["*"]}),
    )
    .await
    .unwrap();
    let urls = Arc::new(Mutex::new(vec![server.url.clone()]));
    let until = Instant::now() + Duration::from_secs(12);
    let (acknowledged, ()) = tokio::join!(write(&http, Arc::clone(&urls), &token, until), async {
        let mut pause = 400;
        while Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            // At another moment of its work each time.
            pause = 300 + (pause * 7 + 131) % 900;
            let next = tokio::task::block_in_place(|| {
                let old = core::mem::replace(&mut server, Server::start(&database));
                old.kill();
                server.url.clone()
            });
            *urls.lock().unwrap() = vec![next];
        }
    });
    assert_whole(&http, &server.url, &token, &acknowledged).await;
}

/// One Envoy, which spends a budget at these servers until nothing is left of it; what it spent. `all` is what all did.
async fn spend(
    http: reqwest::Client,
    urls: Arc<Mutex<Vec<String>>>,
    token: String,
    at: usize,
    all: Arc<AtomicU64>,
) -> u64 {
    let mut slice = Slice::default();
    let (mut asked, mut idle) = (at, 0);
    while idle < 20 {
        asked += 1;
        let url = {
            let urls = urls.lock().unwrap();
            urls[asked % urls.len()].clone()
        };
        let mut item = json!(slice.report(8, 1));
        item["budget"] = json!("b");
        let body = json!({"holder": format!("envoy-{at:0>16}"), "items": [item]});
        let answer = match post(&http, &format!("{url}/v1/budgets/exchange"), &token, body).await {
            Some((200, answer)) => answer["items"][0].clone(),
            // It was killed, perhaps once it had granted something: the next message asks again.
            Some((503, _)) | None => {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
            Some(other) => panic!("{other:?}"),
        };
        let plain: serde_json::Map<_, _> = ["granted", "keep", "amount", "spent"]
            .map(|name| (name.to_owned(), answer[name].clone()))
            .into_iter()
            .collect();
        slice.take(&serde_json::from_value(plain.into()).unwrap());
        idle += 1;
        let available = slice.available();
        if available > 0 {
            slice.reserve(available).unwrap();
            slice.settle(available, available);
            all.fetch_add(available, Ordering::Relaxed);
            idle = 0;
        }
    }
    slice.spent()
}

/// Two servers on one database, of which one is killed again and again, and four Envoys that spend a budget.
async fn spend_while_servers_are_killed(database: &str, servers: usize) {
    const AMOUNT: u64 = 6_000;
    let mut one = Server::start(database);
    let two = (servers > 1).then(|| Server::start(database));
    let (http, token) = (client(), one.token.clone().unwrap());
    let urls = |one: &Server| -> Vec<String> {
        let two = two.iter().map(|two| two.url.clone());
        core::iter::once(one.url.clone()).chain(two).collect()
    };
    let make = async |path: &str, body| {
        let (status, body) = post(&http, &format!("{}{path}", one.url), &token, body)
            .await
            .unwrap();
        assert_eq!(status, 201, "{body}");
    };
    make("/v1/orgs", json!({"id": "acme"})).await;
    let budget =
        json!({"id": "b", "scope": {"org": "acme"}, "unit": "tokens", "window": "once", "amount": AMOUNT});
    make("/v1/budgets", budget).await;
    let all = Arc::new(AtomicU64::new(0));
    let at = Arc::new(Mutex::new(urls(&one)));
    let envoys: Vec<_> = (0..4)
        .map(|envoy| {
            let (urls, all) = (Arc::clone(&at), Arc::clone(&all));
            tokio::spawn(spend(http.clone(), urls, token.clone(), envoy, all))
        })
        .collect();
    for kill in 1..=5 {
        while all.load(Ordering::Relaxed) < AMOUNT * kill / 6 {
            assert!(
                !envoys.iter().all(|envoy| envoy.is_finished()),
                "they have stopped"
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(
            kill > 1 || all.load(Ordering::Relaxed) < AMOUNT,
            "all was spent before"
        );
        tokio::task::block_in_place(|| one.kill());
        one = tokio::task::block_in_place(|| Server::start(database));
        *at.lock().unwrap() = urls(&one);
    }
    let mut spent = 0;
    for envoy in envoys {
        spent += envoy.await.unwrap();
    }
    assert_eq!(spent, AMOUNT, "all of it, and not a unit more");
    let shown = get(&http, &format!("{}/v1/budgets/b/spending", one.url), &token).await;
    assert_eq!(
        (&shown["spent"], &shown["escrowed"]),
        (&json!(AMOUNT), &json!(0)),
        "{shown}"
    );
}

/// A threshold that was reached is told, once, by a server that was started for that after the one where it was reached had
/// been killed.
#[tokio::test(flavor = "multi_thread")]
async fn a_threshold_is_told_by_whichever_server_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    let receiver = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", receiver.local_addr().unwrap());
    let (sender, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in receiver.incoming() {
            let (mut stream, mut request, mut bytes) = (stream.unwrap(), String::new(), [0; 4096]);
            while !request.ends_with("}}") {
                let read = stream.read(&mut bytes).unwrap();
                assert!(read > 0, "{request}");
                request.push_str(&String::from_utf8_lossy(&bytes[..read]));
            }
            stream
                .write_all(b"HTTP/1.1 204 Taken\r\nconnection: close\r\n\r\n")
                .unwrap();
            sender.send(request).unwrap();
        }
    });
    let database = postgres::database();
    let more = ["--webhook", &url, "--webhook-secret", secret.to_str().unwrap()];
    let (server, other) = (
        Server::start_with(&database, &more),
        Server::start_with(&database, &more),
    );
    let (http, token) = (client(), server.token.clone().unwrap());
    let send = async |server: &Server, path: &str, body| {
        let answer = post(&http, &format!("{}{path}", server.url), &token, body).await;
        answer.unwrap().1
    };
    send(&server, "/v1/orgs", json!({"id": "acme"})).await;
    let budget = json!({"id": "b", "scope": {"org": "acme"}, "unit": "tokens", "window": "once", "amount": 10, "thresholds": [50, 100]});
    send(&server, "/v1/budgets", budget).await;
    let spent =
        |spent: u64| json!({"holder": "holder-0000000001", "items": [{"budget": "b", "spent": spent}]});
    let answer = send(&server, "/v1/budgets/exchange", spent(5)).await;
    server.kill();
    assert_eq!(answer["items"][0]["spent"], 5, "{answer}");
    let next = || {
        let request: String = told.recv_timeout(Duration::from_secs(30)).unwrap();
        assert!(request.contains("webhook-signature: v1,"), "{request}");
        let body = request.split_once("\r\n\r\n").unwrap().1;
        serde_json::from_str::<serde_json::Value>(body).unwrap()["data"].clone()
    };
    let data = tokio::task::block_in_place(next);
    assert_eq!(
        (&data["percent"], &data["spent"]),
        (&json!(50), &json!(5)),
        "{data}"
    );
    send(&other, "/v1/budgets/exchange", spent(10)).await;
    let data = tokio::task::block_in_place(next);
    assert_eq!(
        (&data["percent"], &data["spent"]),
        (&json!(100), &json!(10)),
        "{data}"
    );
    let trail = get(&http, &format!("{}/v1/audit?org=acme", other.url), &token).await;
    let reached = |entry: &&serde_json::Value| entry["action"] == "budget.reached";
    let entries = trail["items"].as_array().unwrap().iter().filter(reached).count();
    assert_eq!(entries, 2);
    assert!(told.try_recv().is_err(), "each is told once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_gives_no_unit_of_a_budget_twice_and_loses_none() {
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", folder.path().join("tollgate.db").display());
    spend_while_servers_are_killed(&database, 1).await;
    spend_while_servers_are_killed(&postgres::database(), 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_over_one_database() {
    let database = postgres::database();
    let (mut one, two) = (Server::start(&database), Server::start(&database));
    let token = one.token.clone().unwrap();
    assert_eq!(two.token, None);
    let http = client();
    post(
        &http,
        &format!("{}/v1/orgs", two.url),
        &token,
        json!({"id": "acme", "models": ["*"]}),
    )
    .await
    .unwrap();
    let urls = Arc::new(Mutex::new(vec![one.url.clone(), two.url.clone()]));
    let until = Instant::now() + Duration::from_secs(10);
    let (acknowledged, ()) = tokio::join!(write(&http, Arc::clone(&urls), &token, until), async {
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(1_300)).await;
            let next = tokio::task::block_in_place(|| {
                let old = core::mem::replace(&mut one, Server::start(&database));
                old.kill();
                one.url.clone()
            });
            *urls.lock().unwrap() = vec![next, two.url.clone()];
        }
    });
    assert_whole(&http, &two.url, &token, &acknowledged).await;
    // What one changes, who waits at the other is told.
    let at = http
        .get(format!("{}/v1/directory", two.url))
        .bearer_auth(&token)
        .send()
        .await
        .unwrap();
    let version = at.headers()["etag"]
        .to_str()
        .unwrap()
        .trim_matches('"')
        .to_owned();
    let wait = format!("{}/v1/directory?after={version}&wait=15", two.url);
    let begun = Instant::now();
    let (changes, _) = tokio::join!(get(&http, &wait, &token), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        post(
            &http,
            &format!("{}/v1/keys", one.url),
            &token,
            json!({"org": "acme"}),
        )
        .await
        .unwrap()
    });
    assert_eq!(changes["keys"].as_array().unwrap().len(), 1);
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_writes_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", folder.path().join("tollgate.db").display());
    let http = client();
    // Files of it may have one mebibyte, as if the disk were full then.
    let mut small = Command::new("sh");
    small.args([
        "-c",
        "trap '' XFSZ; ulimit -S -f 1024; exec \"$0\" \"$@\"",
        env!("CARGO_BIN_EXE_tollgate"),
    ]);
    let server = Server::start_by(small, &database);
    let token = server.token.clone().unwrap();
    post(
        &http,
        &format!("{}/v1/orgs", server.url),
        &token,
        json!({"id": "acme", "models": ["*"]}),
    )
    .await
    .unwrap();
    let mut acknowledged = BTreeSet::new();
    let problem = loop {
        let body = json!({"org": "acme", "contacts": vec!["x".repeat(128); 16]});
        match post(&http, &format!("{}/v1/keys", server.url), &token, body)
            .await
            .unwrap()
        {
            (201, key) => acknowledged.insert(key["id"].as_str().unwrap().to_owned()),
            (503, problem) => break problem,
            other => panic!("{other:?}"),
        };
        assert!(acknowledged.len() < 10_000);
    };
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("nothing was changed"),
        "{problem}"
    );
    for _ in 0..4 {
        let body = json!({"org": "acme", "contacts": vec!["x".repeat(128); 16]});
        let key = post(&http, &format!("{}/v1/keys", server.url), &token, body)
            .await
            .unwrap();
        assert_eq!(key.0, 503, "{}", key.1);
    }
    // The last directory goes on being served.
    let document = get(&http, &format!("{}/v1/directory", server.url), &token).await;
    assert_eq!(document["keys"].as_array().unwrap().len(), acknowledged.len());
    // There is room again: what is acknowledged from now on is lasting, and in force at once.
    server.may_write_any_amount();
    for at in 0..12 {
        let body = json!({"org": "acme", "name": format!("after {at}")});
        let (status, key) = post(&http, &format!("{}/v1/keys", server.url), &token, body)
            .await
            .unwrap();
        assert_eq!(status, 201, "{key}");
        let id = key["id"].as_str().unwrap().to_owned();
        for _ in 0..10 {
            get(&http, &format!("{}/v1/keys/{id}", server.url), &token).await;
        }
        acknowledged.insert(id);
    }
    server.kill();
    let server = Server::start(&database);
    let stored: BTreeSet<String> = keys(&http, &server.url, &token).await.into_iter().collect();
    assert_eq!(stored, acknowledged);
    let (_, verdict) = post(
        &http,
        &format!("{}/v1/audit/verify", server.url),
        &token,
        json!({}),
    )
    .await
    .unwrap();
    assert_eq!(verdict["faults"], json!([]));
    post(
        &http,
        &format!("{}/v1/keys", server.url),
        &token,
        json!({"org": "acme"}),
    )
    .await
    .unwrap();
}

#[test]
fn a_file_that_is_no_database_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tollgate.db");
    std::fs::write(&file, "somebody's notes, which are no database at all").unwrap();
    let mut serve = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    serve.args([
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--database",
        &format!("sqlite:{}", file.display()),
    ]);
    let mut process = serve.stderr(Stdio::piped()).spawn().unwrap();
    let mut told = String::new();
    process.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert!(
        !process.wait().unwrap().success() && told.contains("is not a database"),
        "{told}"
    );
    assert_eq!(
        std::fs::read_to_string(&file).unwrap(),
        "somebody's notes, which are no database at all"
    );
}

/// What is written into a file that has no name any more is lost with the process.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_moved_under_the_server_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let server = Server::start(&format!("sqlite:{}", at("tollgate.db").display()));
    let (http, token) = (client(), server.token.clone().unwrap());
    let create = async |name: &str| {
        let url = format!("{}/v1/orgs", server.url);
        post(&http, &url, &token, json!({"id": name})).await.unwrap()
    };
    let health = async || probe(&http, &server, "/readyz").await;
    assert_eq!(create("acme").await.0, 201);
    assert_eq!(health().await, (200, "ok\n".to_owned()));
    std::fs::rename(at("tollgate.db"), at("moved.db")).unwrap();
    for what in ["deleted", "replaced"] {
        if what == "replaced" {
            std::fs::copy(at("moved.db"), at("tollgate.db")).unwrap();
        }
        let (status, problem) = create("lost").await;
        assert_eq!(status, 503, "{problem}");
        let told = problem["detail"].as_str().unwrap();
        assert!(told.contains(&format!("was {what} under the server")), "{told}");
        let (status, told) = health().await;
        assert!(status == 503 && told.contains(what), "{told}");
        // To several at once, too.
        let url = format!("{}/v1/directory", server.url);
        let all = futures_util::future::join_all((0..40).map(|_| get(&http, &url, &token)));
        let all = tokio::time::timeout(Duration::from_secs(5), all).await.unwrap();
        assert!(all.iter().all(|one| one["orgs"].get("acme").is_some()));
    }
    std::fs::rename(at("moved.db"), at("tollgate.db")).unwrap();
    assert_eq!(create("more").await.0, 201);
    assert_eq!(health().await.0, 200);

    // The log beside it has what is not in the file yet.
    std::fs::rename(at("tollgate.db-wal"), at("moved.db-wal")).unwrap();
    let (status, problem) = create("lost").await;
    assert_eq!(status, 503, "{problem}");
    let told = problem["detail"].as_str().unwrap();
    assert!(
        told.contains("tollgate.db-wal` was deleted under the server"),
        "{told}"
    );
    std::fs::rename(at("moved.db-wal"), at("tollgate.db-wal")).unwrap();
    assert_eq!(create("even-more").await.0, 201);
}

/// A backup that is copied into the file while a server has it open: what it reads is a mixture of that and the log.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_written_over_under_the_server_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (file, backup) = (at("tollgate.db"), at("backup.db"));
    let database = format!("sqlite:{file}");
    let server = Server::start(&database);
    let (http, token) = (client(), server.token.clone().unwrap());
    let ask = async |path: &str, body| {
        let url = format!("{}{path}", server.url);
        post(&http, &url, &token, body).await.unwrap()
    };
    let gateways = ask("/v1/tokens", json!({"role": "gateway"})).await.1;
    let gateways = gateways["secret"].as_str().unwrap();
    assert_eq!(ask("/v1/orgs", json!({"id": "kept"})).await.0, 201);
    sqlx::any::install_default_drivers();
    let pool = sqlx::AnyPool::connect(&format!("sqlite://{file}")).await.unwrap();
    let save = format!("VACUUM INTO '{backup}'");
    sqlx::raw_sql(sqlx::AssertSqlSafe(save))
        .execute(&pool)
        .await
        .unwrap();
    assert_eq!(ask("/v1/orgs", json!({"id": "later"})).await.0, 201);
    // SQLite itself may write into it, in whichever process.
    sqlx::raw_sql("PRAGMA wal_checkpoint")
        .execute(&pool)
        .await
        .unwrap();
    pool.close().await;
    assert_eq!(ask("/v1/orgs", json!({"id": "latest"})).await.0, 201);
    let directory = get(&http, &format!("{}/v1/directory", server.url), gateways).await;

    std::fs::copy(&backup, &file).unwrap();
    let (status, problem) = ask("/v1/orgs", json!({"id": "lost"})).await;
    let told = problem["detail"].as_str().unwrap();
    assert_eq!(status, 503, "{told}");
    assert!(
        told.contains("was written over under the server") && told.contains("tollgate restore"),
        "{told}"
    );
    assert_eq!(probe(&http, &server, "/readyz").await.0, 503);
    assert_eq!(probe(&http, &server, "/healthz").await.0, 200);
    // Tokens that were revoked since the backup would be good again: nobody reads but gateways, what they had.
    let orgs = get(&http, &format!("{}/v1/orgs", server.url), &token).await;
    assert_eq!(orgs["status"], 503, "{orgs}");
    let last = get(&http, &format!("{}/v1/directory", server.url), gateways).await;
    assert_eq!(last, directory);
    assert!(last["orgs"].get("latest").is_some(), "{last}");
    server.kill();

    for log in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{file}{log}"));
    }
    std::fs::remove_file(&file).unwrap();
    let (done, told) = tollgate(&["restore", &backup, "--database", &database]);
    assert!(done, "{told}");
    let server = Server::start(&database);
    let orgs = get(&http, &format!("{}/v1/orgs", server.url), &token).await;
    assert_eq!(orgs["items"].as_array().unwrap().len(), 1, "{orgs}");
}

/// What a server says of itself.
async fn probe(http: &reqwest::Client, server: &Server, path: &str) -> (u16, String) {
    let answer = http.get(format!("{}{path}", server.url)).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// Whether SQLite copies the log into a file just now: who does has a byte of its index locked.
fn is_copied(file: &str) -> bool {
    use rustix::process::{Flock, FlockType, fcntl_getlk};
    let wanted = Flock {
        start: 121,
        length: 1,
        ..Flock::from(FlockType::WriteLock)
    };
    let index = std::fs::File::open(format!("{file}-shm")).unwrap();
    fcntl_getlk(&index, &wanted).unwrap().is_some()
}

/// A file that can't take what is in the log: what SQLite copied of it changes the file and is no harm, a backup that is copied
/// over it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_written_over_is_noticed_where_the_log_could_not_be_copied() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (file, backup) = (at("tollgate.db"), at("backup.db"));
    let database = format!("sqlite:{file}");
    let mut command = Command::new("sh");
    let tollgate = env!("CARGO_BIN_EXE_tollgate");
    command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\"", tollgate]);
    let server = Server::start_by(command, &database);
    let (http, token) = (client(), server.token.clone().unwrap());
    let ask = async |path: &str, body| {
        let url = format!("{}{path}", server.url);
        post(&http, &url, &token, body).await.unwrap()
    };
    assert_eq!(ask("/v1/orgs", json!({"id": "acme"})).await.0, 201);
    sqlx::any::install_default_drivers();
    let pool = sqlx::AnyPool::connect(&format!("sqlite://{file}")).await.unwrap();
    let save = format!("VACUUM INTO '{backup}'");
    sqlx::raw_sql(sqlx::AssertSqlSafe(save))
        .execute(&pool)
        .await
        .unwrap();
    pool.close().await;

    // Each makes the log long, and the file longer than the log.
    let import = async |part: usize| {
        let models: Vec<_> = (0..24).map(|model| format!("{model:0>120}")).collect();
        let row = |at: usize| {
            json!({"id": format!("k{part}-{at}"), "org": "acme", "models": models,
                "sha256": format!("{:064x}", part * 100_000 + at)})
        };
        let rows: Vec<_> = (0..5_000).map(row).collect();
        ask("/v1/import", json!({"keys": rows})).await
    };
    let size = || std::fs::metadata(&file).unwrap().len();
    let (status, told) = import(0).await;
    assert_eq!(status, 201, "{told}");
    let whole = size();
    assert!(whole > 30 << 20, "{whole}");
    let most = whole + (whole >> 2);
    server.may_write_files_of(most);
    let (status, told) = import(1).await;
    assert_eq!(status, 201, "{told}");
    assert!((whole..=most).contains(&size()), "{}", size());

    let create = async |name: &str| ask("/v1/orgs", json!({"id": name})).await;
    assert_eq!(create("written").await.0, 201);
    // The server tries again by itself too, and changes the file.
    let changed = || std::fs::metadata(&file).unwrap().modified().unwrap();
    let (first, begun) = (changed(), Instant::now());
    while changed() == first || is_copied(&file) {
        assert!(begun.elapsed() < Duration::from_secs(60), "it does not try again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(probe(&http, &server, "/readyz").await.0, 200);

    std::fs::copy(&backup, &file).unwrap();
    let (status, problem) = create("lost").await;
    let told = problem["detail"].as_str().unwrap_or_default();
    assert!(
        status == 503 && told.contains("was written over under the server"),
        "{problem}"
    );
}

/// A load balancer asks another server meanwhile, and nothing starts this one anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_does_not_answer_makes_a_server_unready_and_ends_none() {
    let database = postgres::database();
    let (server_address, name) = database.rsplit_once('/').unwrap();
    let server = Server::start(&database);
    let http = client();
    assert_eq!(probe(&http, &server, "/readyz").await, (200, "ok\n".to_owned()));
    sqlx::any::install_default_drivers();
    let other = format!("{server_address}/postgres");
    let pool = sqlx::AnyPool::connect(&other).await.unwrap();
    let run = async |statements: String| {
        let statements = sqlx::AssertSqlSafe(statements);
        sqlx::raw_sql(statements).execute(&pool).await.unwrap();
    };
    let until = async |status: u16| {
        let begun = Instant::now();
        loop {
            let (found, told) = probe(&http, &server, "/readyz").await;
            if found == status {
                return told;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{found}: {told}");
            assert_eq!(probe(&http, &server, "/healthz").await.0, 200);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    run(format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false")).await;
    run(format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
    ))
    .await;
    let told = until(503).await;
    assert!(told.contains("the database has not answered for"), "{told}");
    run(format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true")).await;
    until(200).await;
}

fn tollgate(arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.env_remove("TOLLGATE_SERVER").stdin(Stdio::null());
    let output = command.args(arguments).output().unwrap();
    let told = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(told).unwrap())
}

/// The log beside a file is taken for its own, whatever the file is.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_left_by_another_file_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (file, other) = (at("tollgate.db"), at("other.db"));
    for file in [&file, &other] {
        let (done, told) = tollgate(&["init", "--database", &format!("sqlite:{file}")]);
        assert!(done, "{told}");
    }
    sqlx::any::install_default_drivers();
    let pool = sqlx::AnyPool::connect(&format!("sqlite://{other}"))
        .await
        .unwrap();
    let fill = "CREATE TABLE filled (bytes BLOB); INSERT INTO filled VALUES (zeroblob(4000000)), (zeroblob(4000000)); \
                PRAGMA wal_checkpoint(TRUNCATE); UPDATE filled SET bytes = randomblob(500000);";
    sqlx::raw_sql(fill).execute(&pool).await.unwrap();
    std::fs::copy(format!("{other}-wal"), format!("{file}-wal")).unwrap();
    drop(pool);
    let serve = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--database",
        &format!("sqlite:{file}"),
    ];
    let (done, told) = tollgate(&serve);
    assert!(
        !done && told.contains("is damaged") && told.contains("tollgate restore"),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_restored_whatever_lies_beside_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (file, backup) = (at("tollgate.db"), at("backup.db"));
    let database = format!("sqlite:{file}");
    let restore = |backup: &str| tollgate(&["restore", backup, "--database", &database]);
    let server = Server::start(&database);
    let (http, token) = (client(), server.token.clone().unwrap());
    let create = async |server: &Server, name: &str| {
        let url = format!("{}/v1/orgs", server.url);
        assert_eq!(
            post(&http, &url, &token, json!({"id": name})).await.unwrap().0,
            201
        );
    };
    create(&server, "kept").await;
    sqlx::any::install_default_drivers();
    let pool = sqlx::AnyPool::connect(&format!("sqlite://{file}")).await.unwrap();
    let save = format!("VACUUM INTO '{backup}'");
    sqlx::raw_sql(sqlx::AssertSqlSafe(save))
        .execute(&pool)
        .await
        .unwrap();
    pool.close().await;
    create(&server, "later").await;
    let (done, told) = restore(&backup);
    assert!(!done && told.contains("stop the server"), "{told}");
    create(&server, "latest").await;
    server.kill();
    assert!(std::fs::metadata(format!("{file}-wal")).unwrap().len() > 0);

    let names = || -> BTreeSet<String> {
        let entries = std::fs::read_dir(folder.path()).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    };
    std::fs::write(at("notes"), "somebody's notes").unwrap();
    std::fs::create_dir(at("folder")).unwrap();
    let made = Command::new("mkfifo").arg(at("pipe")).status().unwrap();
    assert!(made.success());
    let before = names();
    for wrong in [at("notes"), at("nothing"), at("folder"), at("pipe")] {
        let (done, told) = restore(&wrong);
        assert!(!done && told.contains("is no backup"), "{told}");
        assert_eq!(names(), before, "{wrong}");
    }
    // Through a link too, which stays one.
    let link = at("link.db");
    std::os::unix::fs::symlink("tollgate.db", &link).unwrap();
    let (done, told) = tollgate(&["restore", &backup, "--database", &format!("sqlite:{link}")]);
    assert!(done && told.contains("tollgate.db.replaced"), "{told}");
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&file).unwrap());
    assert_eq!(mode & 0o777, 0o600);
    let server = Server::start(&database);
    let orgs = get(&http, &format!("{}/v1/orgs", server.url), &token).await;
    assert_eq!(orgs["items"].as_array().unwrap().len(), 1, "{orgs}");
    create(&server, "after").await;
    server.kill();
    let (_, before) = tollgate(&["org", "list", "--database", &format!("sqlite:{file}.replaced")]);
    assert!(before.contains("latest"), "{before}");
    let (done, told) = restore(&backup);
    assert!(!done && told.contains("move it away first"), "{told}");
    // Nor is anything left of one that finds no room.
    std::fs::remove_file(format!("{file}.replaced")).unwrap();
    let before = names();
    let mut small = Command::new("sh");
    small.env_remove("TOLLGATE_SERVER").stdin(Stdio::null());
    small.args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\""]);
    small.args([
        env!("CARGO_BIN_EXE_tollgate"),
        "restore",
        &backup,
        "--database",
        &database,
    ]);
    let output = small.output().unwrap();
    assert!(!output.status.success());
    assert_eq!(names(), before);
}

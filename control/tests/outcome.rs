//! A database that is lost at the last step of a change.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails by panicking"
)]

mod support;

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;

use axum::http::Method;
use serde_json::json;
use support::{Plane, postgres};

/// A proxy before a database, and what makes it drop each connection once it has passed on a COMMIT.
fn proxy(database: &str) -> (String, Arc<AtomicBool>) {
    let (server, name) = database.split_once('@').unwrap().1.split_once('/').unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("postgres://tollgate@{}/{name}", listener.local_addr().unwrap());
    let (server, drops) = (server.to_owned(), Arc::new(AtomicBool::new(false)));
    let will_drop = Arc::clone(&drops);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (client, server) = (client.unwrap(), TcpStream::connect(&server).unwrap());
            let (answers, asker) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || pass(answers, asker, &AtomicBool::new(false)));
            let will_drop = Arc::clone(&will_drop);
            std::thread::spawn(move || pass(client, server, &will_drop));
        }
    });
    (address, drops)
}

fn pass(mut from: TcpStream, mut to: TcpStream, drops: &AtomicBool) {
    let mut bytes = [0; 65_536];
    while let Ok(read) = from.read(&mut bytes) {
        if read == 0 {
            break;
        }
        let is_last = drops.load(Ordering::Relaxed) && bytes[..read].windows(6).any(|word| word == b"COMMIT");
        if is_last {
            // Its answer reaches nobody.
            let _ = from.shutdown(Shutdown::Both);
        }
        if to.write_all(&bytes[..read]).is_err() || is_last {
            break;
        }
    }
    // PostgreSQL has done what it was asked by then.
    std::thread::sleep(Duration::from_millis(300));
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

#[tokio::test]
async fn an_outcome_that_nobody_knows_is_told_as_such() {
    let (address, drops) = proxy(&postgres::database());
    let plane = Plane::open(&address, None).await;
    plane.org("acme").await;
    let create = async || {
        let body = Some(json!({"org": "acme", "name": "ci"}));
        let headers = [("idempotency-key", "a")];
        plane
            .with(&plane.owner, Method::POST, "/v1/keys", body, &headers)
            .await
    };
    drops.store(true, Ordering::Relaxed);
    let lost = create().await.expect(503);
    assert_eq!(lost.text("type"), "urn:tollgate:problem:unknown-outcome");
    lost.says("may have been made or not");
    lost.says("the same `idempotency-key`");
    assert!(
        !lost.text("detail").contains("nothing was changed"),
        "{}",
        lost.body
    );
    drops.store(false, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(600)).await;

    let again = create().await.expect(201);
    assert_eq!(again.header("idempotency-replayed"), "true", "it had been made");
    let keys = plane.get("/v1/keys").await.body;
    assert_eq!(keys["items"].as_array().unwrap().len(), 1, "{keys}");
    assert_eq!(plane.faults().await, [""; 0]);
}

//! What gateways fetch: whole, or what changed; at once.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails by panicking"
)]

mod support;

use core::time::Duration;
use std::io::Read as _;
use std::time::Instant;

use axum::http::{Method, Request};
use serde_json::{Value, json};
use support::{Plane, on_each};
use tollgate_core::directory::Loader;

#[tokio::test]
async fn the_document_is_what_the_filters_read() {
    on_each(async |plane: Plane| {
        plane.org("acme").await;
        plane.org("globex").await;
        let key = plane
            .post(
                "/v1/keys",
                json!({"org": "acme", "project": "search", "networks": ["10.0.0.0/8"]}),
            )
            .await;
        let gone = plane.post("/v1/keys", json!({"org": "globex"})).await.text("id");
        plane
            .post(&format!("/v1/keys/{gone}/revoke"), json!({}))
            .await
            .expect(200);
        let document = plane.get("/v1/directory").await.expect(200).body;
        let loaded = Loader::load(document.to_string().into_bytes()).unwrap();
        assert_eq!((loaded.keys(), loaded.orgs()), (1, 2));
        assert_eq!(document["keys"][0]["id"], key.text("id").as_str());
        assert!(!document.to_string().contains(&gone));
    })
    .await;
}

#[tokio::test]
async fn it_is_compressed_for_who_takes_that() {
    let plane = Plane::sqlite().await;
    plane.org("acme").await;
    let request = Request::get("/v1/directory")
        .header("authorization", format!("Bearer {}", plane.owner))
        .header("accept-encoding", "br, gzip");
    let response = tower::ServiceExt::oneshot(
        plane.router.clone(),
        request.body(axum::body::Body::empty()).unwrap(),
    )
    .await
    .unwrap();
    assert_eq!(response.headers()["content-encoding"], "gzip");
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX)
        .await
        .unwrap();
    let mut text = String::new();
    flate2::read::GzDecoder::new(&bytes[..])
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(&text).unwrap(),
        plane.get("/v1/directory").await.body
    );
}

#[tokio::test]
async fn what_changed_is_enough() {
    on_each(async |plane: Plane| {
        plane.org("acme").await;
        plane.org("globex").await;
        let kept = plane.post("/v1/keys", json!({"org": "acme"})).await;
        let gone = plane.post("/v1/keys", json!({"org": "globex"})).await;
        let first = plane.get("/v1/directory").await.version();
        assert_eq!(
            plane.get(&format!("/v1/directory?after={first}")).await.status,
            304
        );

        plane
            .post(&format!("/v1/keys/{}/revoke", gone.text("id")), json!({}))
            .await
            .expect(200);
        plane
            .patch("/v1/orgs/acme", json!({"status": "suspended"}))
            .await
            .expect(200);
        let new = plane
            .post("/v1/keys", json!({"org": "acme", "project": "search"}))
            .await;
        let changes = plane
            .get(&format!("/v1/directory?after={first}"))
            .await
            .expect(200);
        assert_eq!(
            changes.header("content-type"),
            "application/vnd.tollgate.changes+json"
        );
        assert!(changes.body.to_string().len() < 2_048);
        assert_eq!(changes.body["after"], first.as_str());
        assert_eq!(changes.body["removed_keys"], json!([gone.text("sha256")]));
        assert_eq!(changes.body["orgs"]["acme"]["status"], "suspended");
        assert_eq!(
            changes.body["orgs"]["acme"]["projects"]["search"]["status"],
            "active"
        );
        assert_eq!(changes.body["orgs"].as_object().unwrap().len(), 1);
        assert_eq!(changes.body["keys"].as_array().unwrap().len(), 1);
        assert_eq!(changes.body["keys"][0]["id"], new.text("id").as_str());
        assert!(!changes.body.to_string().contains(&kept.text("id")));

        let second = changes.version();
        plane
            .post(&format!("/v1/keys/{}/revoke", new.text("id")), json!({}))
            .await
            .expect(200);
        plane.delete("/v1/orgs/globex/projects/search").await.expect(200);
        plane.delete("/v1/orgs/globex").await.expect(200);
        let changes = plane
            .get(&format!("/v1/directory?after={second}"))
            .await
            .expect(200)
            .body;
        assert_eq!(changes["orgs"], json!({"globex": null}));
        // A token is nothing that gateways know of.
        let third = plane.get("/v1/directory").await.version();
        plane.token("viewer", None).await;
        assert_eq!(
            plane.get(&format!("/v1/directory?after={third}")).await.status,
            304
        );
    })
    .await;
}

#[tokio::test]
async fn who_has_another_databases_version_gets_it_whole() {
    let plane = Plane::sqlite().await;
    plane.org("acme").await;
    for after in [
        "0123456789abcdef-1-0",
        "nonsense",
        "-",
        "0-99999999999999999999-0",
    ] {
        let answer = plane
            .get(&format!("/v1/directory?after={after}"))
            .await
            .expect(200);
        assert_eq!(answer.header("content-type"), "application/json", "{after}");
    }
    let own = plane.get("/v1/directory").await.version();
    let [name, seq, hash] = own.split('-').collect::<Vec<_>>()[..] else {
        panic!("{own}")
    };
    for after in [
        format!("{name}-999999-{hash}"),
        format!("{name}-{seq}-0123456789abcdef"),
        format!("{name}-{seq}-"),
        format!("{name}-{seq}"),
    ] {
        let answer = plane
            .get(&format!("/v1/directory?after={after}"))
            .await
            .expect(200);
        assert_eq!(answer.header("content-type"), "application/json", "{after}");
    }
    plane.get("/v1/directory?wait=301").await.expect(422);
}

#[tokio::test]
async fn who_waits_is_told_at_once() {
    on_each(async |plane: Plane| {
        plane.org("acme").await;
        let first = plane.get("/v1/directory").await.version();
        let path = format!("/v1/directory?after={first}&wait=30");
        let begun = Instant::now();
        let (answer, ()) = tokio::join!(plane.get(&path), async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            plane
                .patch("/v1/orgs/acme", json!({"tier": "free"}))
                .await
                .expect(200);
        });
        assert_eq!(answer.expect(200).body["orgs"]["acme"]["tier"], "free");
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "it waited for the time to be over"
        );
    })
    .await;
}

#[tokio::test]
async fn it_is_for_gateways_and_operators() {
    let plane = Plane::sqlite().await;
    let gateway = plane.token("gateway", None).await;
    plane
        .as_token(&gateway, Method::GET, "/v1/directory", None)
        .await
        .expect(200);
    plane
        .as_token(&gateway, Method::GET, "/v1/orgs", None)
        .await
        .expect(403);
    let viewer = plane.token("viewer", None).await;
    plane
        .as_token(&viewer, Method::GET, "/v1/directory", None)
        .await
        .expect(403);
}

/// A gateway whose network hangs holds up nobody.
#[tokio::test]
async fn who_reads_nothing_holds_up_nobody() {
    let plane = Plane::sqlite().await;
    plane.org("acme").await;
    let rows =
        (0..10_000).map(|at| json!({"id": format!("k{at}"), "sha256": format!("{at:064}"), "org": "acme"}));
    let rows: Vec<Value> = rows.collect();
    plane.post("/v1/import", json!({"keys": rows})).await.expect(201);
    let mut unread = Vec::new();
    for _ in 0..40 {
        let request =
            Request::get("/v1/directory").header("authorization", format!("Bearer {}", plane.owner));
        let request = request.body(axum::body::Body::empty()).unwrap();
        unread.push(
            tower::ServiceExt::oneshot(plane.router.clone(), request)
                .await
                .unwrap(),
        );
    }
    let others = async {
        plane.post("/v1/keys", json!({"org": "acme"})).await.expect(201);
        plane.get("/v1/keys").await.expect(200);
        plane.get("/v1/directory").await.expect(200).body["keys"]
            .as_array()
            .unwrap()
            .len()
    };
    let keys = tokio::time::timeout(Duration::from_secs(8), others)
        .await
        .unwrap();
    assert_eq!(keys, 10_001);
    // And each gets the document as it was.
    let body = unread.pop().unwrap().into_body();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let document: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(document["keys"].as_array().unwrap().len(), 10_000);
}

/// A token that is revoked while its holder waits for a change gets nothing any more.
#[tokio::test]
async fn who_waits_with_a_revoked_token_is_told_nothing() {
    let plane = Plane::sqlite().await;
    plane.org("acme").await;
    let made = plane
        .post("/v1/tokens", json!({"role": "gateway"}))
        .await
        .expect(201);
    let (token, id) = (made.text("secret"), made.text("id"));
    let known = plane
        .as_token(&token, Method::GET, "/v1/directory", None)
        .await
        .version();
    let wait = format!("/v1/directory?after={known}&wait=20");
    let (answer, ()) = tokio::join!(plane.as_token(&token, Method::GET, &wait, None), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        plane
            .post(&format!("/v1/tokens/{id}/revoke"), json!({}))
            .await
            .expect(200);
        plane.post("/v1/keys", json!({"org": "acme"})).await.expect(201);
    });
    answer.expect(401);
}

/// Who follows, and who has fallen behind.
#[tokio::test]
async fn gateways_are_listed_with_what_they_have() {
    let plane = Plane::sqlite().await;
    plane.org("acme").await;
    let gateway = plane.token("gateway", None).await;
    let id = gateway.split('-').nth(2).unwrap();
    let list = async || plane.get("/v1/gateways").await.expect(200).body["items"].clone();
    // Whoever else fetches it is no gateway.
    plane.get("/v1/directory").await.expect(200);
    assert_eq!(list().await, json!([]));
    let fetch = async |path: &str| plane.as_token(&gateway, Method::GET, path, None).await;
    let version = fetch("/v1/directory").await.expect(200).version();
    let all = list().await;
    assert_eq!(all[0]["token"], id, "{all}");
    assert!(
        all[0].get("version").is_none() && all[0]["is_current"] == false,
        "{all}"
    );
    fetch(&format!("/v1/directory?after={version}")).await.expect(304);
    let all = list().await;
    assert_eq!(all[0]["version"], *version, "{all}");
    assert!(
        all[0]["is_current"] == true && all.as_array().unwrap().len() == 1,
        "{all}"
    );
    plane.post("/v1/keys", json!({"org": "acme"})).await.expect(201);
    assert_eq!(list().await[0]["is_current"], false);
}

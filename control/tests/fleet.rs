//! `/v1/fleet`: what a gateway may say, and who may say it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails by panicking"
)]

mod support;

use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use axum::http::Method;
use serde_json::{Value, json};
use sqlx::{AnyConnection, Connection as _};
use support::redis::Redis;
use support::{Plane, on_each};
use tollgate_control::Store;
use tollgate_control::api::{App, router};
use tollgate_control::fleet::{Fleet, FleetStore};
use tollgate_shares::{Answer, Incarnation, Key, Limit, MAX_WANTS, Member, Message, Timing};

fn message(member: &mut Member) -> Value {
    serde_json::to_value(member.message(0)).unwrap()
}

/// Whose books answer a member, once they do: on a busy machine a store may take too long, and it asks again.
async fn epoch(plane: &Plane, member: &mut Member) -> Value {
    let begun = Instant::now();
    loop {
        let answer = plane.post("/v1/fleet", message(member)).await;
        if answer.status == 200 {
            return answer.body["epoch"].clone();
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", answer.body);
    }
}

/// A member that wants some of one key.
fn member() -> Member {
    let mut member = Member::new(Timing::FLEET, Incarnation(7));
    let limit = Limit {
        rate: 600,
        period: 60_000_000,
        burst: 600,
    };
    member.want(Key([1; 16]), limit, 10, 0);
    member
}

#[tokio::test]
async fn a_gateway_is_answered() {
    on_each(async |plane: Plane| {
        let token = plane.token("gateway", None).await;
        let mut member = member();
        let answer = plane
            .as_token(&token, Method::POST, "/v1/fleet", Some(message(&mut member)))
            .await
            .expect(200);
        assert_eq!(answer.header("cache-control"), "no-store");
        let read: Answer = serde_json::from_value(answer.body).unwrap();
        // Nothing is granted at first: gateways may have something by books that were lost.
        assert!(member.expects(&read) && read.terms.is_none());
        // Another server over the same database has the same books.
        let store = Arc::new(Store::open(&plane.address).await.unwrap());
        let other = Plane {
            router: router(App::new(Arc::clone(&store), None)),
            store,
            owner: plane.owner.clone(),
            address: plane.address.clone(),
            _folder: None,
        };
        let next = other.post("/v1/fleet", message(&mut member)).await.expect(200);
        assert_eq!(next.body["epoch"], answer_epoch(&read));
        // The trail is not about this.
        assert_eq!(plane.faults().await, [""; 0]);
    })
    .await;
}

fn answer_epoch(answer: &Answer) -> Value {
    serde_json::to_value(answer.epoch).unwrap()
}

#[tokio::test]
async fn what_no_gateway_says_is_refused_with_its_place() {
    let plane = Plane::sqlite().await;
    let good = message(&mut member());
    let refused = async |change: &dyn Fn(&mut Value)| {
        let mut wrong = good.clone();
        change(&mut wrong);
        plane.post("/v1/fleet", wrong).await.expect(422)
    };
    refused(&|body| body["seq"] = json!(0))
        .await
        .says("seq: found `0`, expected 1 to 2^53");
    refused(&|body| body["seq"] = json!(-1)).await.says("seq");
    refused(&|body| body["answered"] = json!(1))
        .await
        .says("answered");
    refused(&|body| body["version"] = json!(1_u64 << 54))
        .await
        .says("version");
    refused(&|body| body["incarnation"] = json!("7"))
        .await
        .says("incarnation");
    refused(&|body| body["epoch"] = json!("X")).await.says("epoch");
    refused(&|body| body["parts"] = json!(1_u64 << 32))
        .await
        .says("parts");
    refused(&|body| body["more"] = json!(1)).await.says("more");
    refused(&|body| body["wants"][0]["more"] = json!(1))
        .await
        .says("wants.0.more");
    refused(&|body| body["wants"][0]["key"] = json!("1"))
        .await
        .says("wants[0].key");
    refused(&|body| body["wants"][0]["returned"] = json!("-1"))
        .await
        .says("wants[0].returned");
    refused(&|body| body["wants"][0]["limit"] = json!([600, 0, 600]))
        .await
        .says("wants[0].limit");
    refused(&|body| body["wants"][0]["limit"] = json!([600, 60]))
        .await
        .says("wants[0].limit");
    refused(&|body| body["wants"][0]["limit"] = json!([1_u64 << 51, 1, 1]))
        .await
        .says("wants[0].limit");
    refused(&|body| body["wants"] = json!([body["wants"][0], body["wants"][0]]))
        .await
        .says("wants[1].key");
    refused(&|body| {
        let want = body["wants"][0].clone();
        body["wants"] = Value::Array(vec![want; MAX_WANTS + 1]);
    })
    .await
    .says("wants: found `513`");
    let large = json!({"incarnation": "0".repeat(300_000)});
    plane.post("/v1/fleet", large).await.expect(413);
    plane.post("/v1/fleet", json!([])).await.expect(422);
    plane.get("/v1/fleet").await.expect(405);
    // None of them was heard, and the good one is.
    plane.post("/v1/fleet", good).await.expect(200);
}

/// What a member has, asks for and returns may be any number.
#[tokio::test]
async fn the_largest_numbers_are_taken() {
    on_each(async |plane: Plane| {
        let mut message = member().message(0);
        message.seq = 1 << 53;
        message.wants = (0..MAX_WANTS as u128)
            .map(|at| tollgate_shares::Want {
                key: Key(at.to_be_bytes()),
                limit: Limit {
                    rate: (1 << 51) - 1,
                    period: (1 << 51) - 1,
                    burst: (1 << 51) - 1,
                },
                have: tollgate_shares::Share {
                    rate: u64::MAX,
                    burst: u64::MAX,
                },
                returned: u128::MAX,
                demand: u64::MAX,
                need: u64::MAX,
            })
            .collect();
        let body = serde_json::to_value(&message).unwrap();
        assert!(body.to_string().len() < 200_000, "a message fits into a body");
        plane.post("/v1/fleet", body).await.expect(200);
    })
    .await;
}

/// As a server that hangs in the middle of its own message has it.
#[tokio::test]
async fn while_the_books_are_held_gateways_are_told_so() {
    on_each(async |plane: Plane| {
        plane.org("acme").await;
        let mut member = member();
        plane.post("/v1/fleet", message(&mut member)).await.expect(200);
        let mut other = AnyConnection::connect(&plane.address).await.unwrap();
        let mut held = other.begin().await.unwrap();
        sqlx::query("UPDATE fleet SET seq = seq")
            .execute(&mut *held)
            .await
            .unwrap();
        let refused = plane.post("/v1/fleet", message(&mut member)).await.expect(503);
        assert_eq!(refused.body["type"], "urn:tollgate:problem:no-books");
        plane.get("/v1/directory").await.expect(200);
        held.rollback().await.unwrap();
        let begun = std::time::Instant::now();
        while plane.post("/v1/fleet", message(&mut member)).await.status != 200 {
            assert!(
                begun.elapsed() < core::time::Duration::from_secs(60),
                "it stays so"
            );
        }
        assert_eq!(plane.get("/healthz").await.expect(200).body, "ok\n");
    })
    .await;
}

#[tokio::test]
async fn without_redis_all_else_is_served() {
    let plane = Plane::sqlite().await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    // It takes connections and says nothing.
    let address = format!("redis://:secret@{}", nobody.local_addr().unwrap());
    let plane = with_store(plane, &address);
    assert_eq!(plane.get("/healthz").await.expect(200).body, "ok\n");
    let refused = plane.post("/v1/fleet", message(&mut member())).await.expect(503);
    assert_eq!(refused.body["type"], "urn:tollgate:problem:no-books");
    assert_eq!(refused.header("retry-after"), "1");
    let told = refused.body["detail"].as_str().unwrap();
    assert!(
        told.contains("did not answer") && !told.contains("secret"),
        "{told}"
    );
    plane.org("acme").await;
    let health = plane.get("/healthz").await.expect(200).body;
    assert!(
        health
            .as_str()
            .unwrap()
            .starts_with("ok, but limits of the fleet"),
        "{health}"
    );
}

/// The same control plane, by another server that was told another store.
fn with_store(plane: Plane, store: &str) -> Plane {
    let fleet = Fleet::open(&plane.store, FleetStore::parse(store).unwrap()).unwrap();
    Plane {
        router: router(App::with_fleet(Arc::clone(&plane.store), None, fleet)),
        ..plane
    }
}

#[tokio::test]
async fn two_servers_with_two_stores_are_never_two_coordinators() {
    let redis = Redis::start();
    on_each(async |plane: Plane| {
        let mut member = member();
        let first = epoch(&plane, &mut member).await;
        let old = plane.router.clone();
        let plane = with_store(plane, &redis.address());
        let there = epoch(&plane, &mut member).await;
        assert_ne!(there, first);
        // The one that was started first has them no longer.
        let plane = Plane { router: old, ..plane };
        let refused = plane.post("/v1/fleet", message(&mut member)).await.expect(503);
        refused.says("the books are in Redis at 127.0.0.1");
        // Started again, it has; and both stores begin anew, whatever they have of before.
        let plane = with_store(plane, "database");
        assert_ne!(epoch(&plane, &mut member).await, first);
        let plane = with_store(plane, &redis.address());
        assert_ne!(epoch(&plane, &mut member).await, there);
    })
    .await;
}

/// The description of the API has the members that messages and answers have.
#[tokio::test]
async fn the_description_is_of_what_is_sent() {
    let openapi: Value = serde_json::from_str(&tollgate_control::api::openapi()).unwrap();
    let described = |name: &str| -> BTreeSet<String> {
        let schema = &openapi["components"]["schemas"][name];
        let members: BTreeSet<String> = schema["properties"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect();
        let required = schema["required"].as_array().unwrap().iter();
        let required: BTreeSet<_> = required.map(|one| one.as_str().unwrap().to_owned()).collect();
        assert_eq!(members, required, "{name}: all are there");
        members
    };
    let members = |value: &Value| {
        value
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<BTreeSet<_>>()
    };
    let message: Message = member().message(0);
    let sent = serde_json::to_value(message).unwrap();
    assert_eq!(described("FleetMessage"), members(&sent));
    assert_eq!(described("FleetWant"), members(&sent["wants"][0]));
    let answer = r#"{"incarnation":"0000000000000001","seq":1,"epoch":"0000000000000001","terms":{"slot":{"parts":1,"age":1},
        "version":1,"log":[],"grants":[{"key":"00000000000000000000000000000001","share":[1,1],"units":"1","waiting":false}]}}"#;
    let answer: Answer = serde_json::from_str(answer).unwrap();
    let sent = serde_json::to_value(answer).unwrap();
    assert_eq!(described("FleetAnswer"), members(&sent));
    assert_eq!(described("FleetTerms"), members(&sent["terms"]));
    assert_eq!(described("FleetSlot"), members(&sent["terms"]["slot"]));
    assert_eq!(described("FleetGrant"), members(&sent["terms"]["grants"][0]));
}

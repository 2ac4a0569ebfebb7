//! What a customer's administrator sends, however much of it, holds up nobody else and does not grow without bounds.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails by panicking"
)]

mod support;

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;

use axum::http::Method;
use futures_util::future::join_all;
use serde_json::json;
use support::{Plane, on_each};

/// Forty connections of one confined token write; each freeze of the platform comes after a few of those writes at most.
#[tokio::test]
async fn the_platform_waits_behind_no_flood() {
    on_each(async |plane: Plane| {
        plane.org("acme").await;
        let customer = plane.token("operator", Some(&["acme"])).await;
        let key = plane.post("/v1/keys", json!({"org": "acme"})).await.text("id");
        let is_over = AtomicBool::new(false);
        let flood = join_all((0..40).map(|at| {
            let (plane, customer, is_over) = (&plane, &customer, &is_over);
            async move {
                let (mut statuses, mut round) = (Vec::new(), 0);
                while !is_over.load(Ordering::Relaxed) {
                    round += 1;
                    let body = json!({"labels": {"at": format!("{at}-{round}")}});
                    let path = "/v1/orgs/acme/projects/search";
                    let answer = plane.as_token(customer, Method::PATCH, path, Some(body)).await;
                    if answer.status == 429 {
                        assert_eq!(answer.header("retry-after"), "1");
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    statuses.push(answer.status.as_u16());
                }
                statuses
            }
        }));
        let platform = async {
            let entries = async |after: i64| {
                let path = format!("/v1/audit?limit=1000&after={after}");
                let answer = plane.get(&path).await.expect(200);
                answer.body["items"].as_array().unwrap().clone()
            };
            let (mut before, mut seq) = (Vec::new(), 0);
            for _ in 0..10 {
                // The trail tells who wrote first.
                loop {
                    let some = entries(seq).await;
                    if let Some(last) = some.last() {
                        seq = last["seq"].as_i64().unwrap();
                    }
                    if some.len() < 1_000 {
                        break;
                    }
                }
                let body = json!({"target": {"key": key}, "reason": "leaked"});
                let freeze = plane.post("/v1/freezes", body).await.expect(201).text("id");
                let since = entries(seq).await;
                let place = since.iter().position(|entry| entry["action"] == "freeze.begin");
                before.push(place.unwrap());
                plane
                    .post(&format!("/v1/freezes/{freeze}/end"), json!({}))
                    .await
                    .expect(200);
            }
            is_over.store(true, Ordering::Relaxed);
            before
        };
        let (answers, before) = tokio::join!(flood, platform);
        // One of the flood is under way and one in the line; some are done while the freeze comes to the line.
        assert!(before.iter().sum::<usize>() < 100, "{before:?}");
        let answers: Vec<u16> = answers.into_iter().flatten().collect();
        let count = |status: u16| answers.iter().filter(|answer| **answer == status).count();
        assert!(count(200) > 0 && count(429) > 0, "{answers:?}");
        assert_eq!(count(200) + count(429), answers.len(), "{answers:?}");
        assert_eq!(plane.faults().await, [""; 0]);
    })
    .await;
}

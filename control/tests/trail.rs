//! The trail: whatever is done to it behind the server's back is found.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails by panicking"
)]

mod support;

use serde_json::{Value, json};
use sqlx::{AnyPool, Row as _};
use support::{Plane, on_each};
use tollgate_control::audit::{Checkpoint, public_key};

/// A trail of some thirty entries.
async fn filled(plane: &Plane) -> AnyPool {
    plane.org("acme").await;
    for at in 0..12 {
        let key = plane
            .post("/v1/keys", json!({"org": "acme", "name": format!("k{at}")}))
            .await
            .expect(201)
            .text("id");
        plane
            .patch(&format!("/v1/keys/{key}"), json!({"name": "other"}))
            .await
            .expect(200);
    }
    AnyPool::connect(&plane.address).await.unwrap()
}

async fn run(pool: &AnyPool, statement: &'static str) {
    sqlx::query(statement).execute(pool).await.unwrap();
}

#[tokio::test]
async fn what_was_changed_is_found() {
    on_each(async |plane: Plane| {
        let pool = filled(&plane).await;
        assert_eq!(plane.faults().await, [""; 0]);
        let checkpoint = plane
            .post("/v1/audit/checkpoint", json!({}))
            .await
            .expect(200)
            .body;
        let checkpoint: Checkpoint = serde_json::from_value(checkpoint).unwrap();
        run(&pool, "CREATE TABLE kept AS SELECT * FROM audit").await;
        run(&pool, "CREATE TABLE kept_objects AS SELECT * FROM objects").await;
        run(&pool, "CREATE TABLE kept_head AS SELECT * FROM head").await;
        for (what, statements) in [
            (
                "an entry edited",
                vec!["UPDATE audit SET entry = REPLACE(entry, 'key.create', 'key.change') WHERE seq = 6"],
            ),
            (
                "an actor edited",
                vec!["UPDATE audit SET entry = REPLACE(entry, 'token:', 'token:x') WHERE seq = 6"],
            ),
            (
                "a hash edited",
                vec!["UPDATE audit SET hash = (SELECT hash FROM audit WHERE seq = 5) WHERE seq = 6"],
            ),
            ("an entry dropped", vec!["DELETE FROM audit WHERE seq = 6"]),
            ("the first dropped", vec!["DELETE FROM audit WHERE seq = 1"]),
            (
                "two swapped",
                vec![
                    "UPDATE audit SET seq = 1006 WHERE seq = 6",
                    "UPDATE audit SET seq = 6 WHERE seq = 7",
                    "UPDATE audit SET seq = 7 WHERE seq = 1006",
                ],
            ),
            ("the end cut", vec!["DELETE FROM audit WHERE seq > 10"]),
            (
                "the end cut, and its head moved",
                vec![
                    "DELETE FROM audit WHERE seq > 10",
                    "UPDATE head SET seq = 10, hash = (SELECT hash FROM audit WHERE seq = 10)",
                ],
            ),
            (
                "an object edited",
                vec!["UPDATE objects SET document = REPLACE(document, 'other', 'mine') WHERE kind = 'key'"],
            ),
            (
                "an object dropped",
                vec!["DELETE FROM objects WHERE kind = 'org'"],
            ),
            (
                "all of it emptied",
                vec!["DELETE FROM audit", "DELETE FROM objects"],
            ),
        ] {
            for statement in statements {
                run(&pool, statement).await;
            }
            assert_ne!(plane.faults().await, [""; 0], "{what}");
            for table in ["audit", "objects", "head"] {
                let kept = if table == "audit" {
                    "kept".to_owned()
                } else {
                    format!("kept_{table}")
                };
                let back = format!("DELETE FROM {table}; INSERT INTO {table} SELECT * FROM {kept}");
                sqlx::raw_sql(sqlx::AssertSqlSafe(back))
                    .execute(&pool)
                    .await
                    .unwrap();
            }
            assert_eq!(plane.faults().await, [""; 0], "after {what}");
        }
        // Everything is cut back to a state that fits: only what is kept elsewhere knows.
        rewrite(&plane, &pool).await;
        assert_eq!(plane.faults().await, [""; 0]);
        let key = public_key(&checkpoint.public_key).unwrap();
        let verdict = plane
            .store
            .verify(core::slice::from_ref(&checkpoint), Some(&key))
            .await
            .unwrap();
        assert!(
            verdict.faults.iter().any(|fault| fault.problem.contains("cut")),
            "{verdict:?}"
        );
        let forged = Checkpoint {
            seq: 1,
            ..checkpoint.clone()
        };
        let verdict = plane.store.verify(&[forged], Some(&key)).await.unwrap();
        assert!(
            verdict
                .faults
                .iter()
                .any(|fault| fault.problem.contains("signature")),
            "{verdict:?}"
        );
    })
    .await;
}

/// Somebody with the database's password takes back all behind the third entry.
async fn rewrite(plane: &Plane, pool: &AnyPool) {
    let _ = plane;
    run(pool, "DELETE FROM audit WHERE seq > 3").await;
    run(pool, "DELETE FROM objects WHERE seq > 3").await;
    run(
        pool,
        "UPDATE head SET seq = 3, hash = (SELECT hash FROM audit WHERE seq = 3)",
    )
    .await;
}

/// 1,000 random actions: what the trail makes of nothing is what is stored. `verify` rebuilds it.
#[tokio::test]
async fn a_random_history_is_rebuilt_from_its_trail() {
    let plane = Plane::sqlite().await;
    let mut random = Random(0x746f_6c6c);
    let (mut orgs, mut keys, mut freezes) = (Vec::new(), Vec::new(), Vec::new());
    let mut done = 0;
    while done < 1_000 {
        let answer = match random.below(11) {
            0 => {
                let name = format!("o{done}");
                let answer = plane.post("/v1/orgs", json!({"id": name, "models": ["*"]})).await;
                orgs.push(name);
                answer
            }
            _ if orgs.is_empty() => continue,
            1 => {
                let org = random.of(&orgs);
                plane
                    .post(
                        &format!("/v1/orgs/{org}/projects"),
                        json!({"id": format!("p{done}")}),
                    )
                    .await
            }
            2 => {
                plane
                    .patch(
                        &format!("/v1/orgs/{}", random.of(&orgs)),
                        json!({"tier": format!("t{}", random.below(3))}),
                    )
                    .await
            }
            3 | 4 => {
                let answer = plane.post("/v1/keys", json!({"org": random.of(&orgs)})).await;
                // The organization may have been removed.
                if answer.status == 201 {
                    keys.push(answer.text("id"));
                }
                answer
            }
            _ if keys.is_empty() => continue,
            5 => {
                plane
                    .patch(
                        &format!("/v1/keys/{}", random.of(&keys)),
                        json!({"name": format!("n{done}")}),
                    )
                    .await
            }
            6 => {
                plane
                    .post(
                        &format!("/v1/keys/{}/rotate", random.of(&keys)),
                        json!({"overlap": "1h"}),
                    )
                    .await
            }
            7 => {
                let target = if random.below(2) == 0 {
                    json!({"key": random.of(&keys)})
                } else {
                    json!({"org": random.of(&orgs)})
                };
                let answer = plane
                    .post("/v1/freezes", json!({"target": target, "reason": "x"}))
                    .await;
                if answer.status == 201 {
                    freezes.push(answer.text("id"));
                }
                answer
            }
            10 => {
                let target = json!({"key": random.of(&keys)});
                plane
                    .post(
                        "/v1/caps",
                        json!({"target": target, "rate": "1/second", "reason": "x"}),
                    )
                    .await
            }
            8 if !freezes.is_empty() => {
                plane
                    .post(&format!("/v1/freezes/{}/end", random.of(&freezes)), json!({}))
                    .await
            }
            _ => match random.below(3) {
                0 => {
                    plane
                        .post(&format!("/v1/keys/{}/revoke", random.of(&keys)), json!({}))
                        .await
                }
                1 => {
                    plane
                        .post(&format!("/v1/keys/{}/undo-rotation", random.of(&keys)), json!({}))
                        .await
                }
                _ => plane.delete(&format!("/v1/orgs/{}", random.of(&orgs))).await,
            },
        };
        assert!(answer.status.as_u16() < 500, "{}", answer.body);
        done += 1;
    }
    assert_eq!(plane.faults().await, [""; 0]);
    // And by a program that is not ours: the last `after` of each object.
    let pool = AnyPool::connect(&plane.address).await.unwrap();
    let mut state = std::collections::BTreeMap::new();
    for row in sqlx::query("SELECT entry FROM audit ORDER BY seq")
        .fetch_all(&pool)
        .await
        .unwrap()
    {
        let entry: Value = serde_json::from_str(&row.get::<String, _>("entry")).unwrap();
        for change in entry["changes"].as_array().unwrap() {
            let id = (
                change["kind"].as_str().unwrap().to_owned(),
                change["id"].as_str().unwrap().to_owned(),
            );
            if change["after"].is_null() {
                state.remove(&id)
            } else {
                state.insert(id, change["after"].clone())
            };
        }
    }
    let rows = sqlx::query("SELECT kind, id, document FROM objects WHERE gone = 0")
        .fetch_all(&pool)
        .await
        .unwrap();
    let stored: std::collections::BTreeMap<_, _> = rows
        .iter()
        .map(|row| {
            (
                (row.get("kind"), row.get("id")),
                serde_json::from_str(&row.get::<String, _>("document")).unwrap(),
            )
        })
        .collect();
    assert_eq!(state, stored);
    assert!(stored.len() > 200, "{}", stored.len());
}

/// Xorshift: the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn of<'a>(&mut self, all: &'a [String]) -> &'a str {
        &all[self.below(all.len() as u64) as usize]
    }
}

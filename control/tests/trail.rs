//! The trail: whatever is done to it behind the server's back is found.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails by panicking"
)]

mod support;

use axum::http::Method;
use serde_json::{Value, json};
use sqlx::{AnyPool, Row as _};
use support::{Plane, on_each};
use tollgate_control::Store;
use tollgate_control::WriteQuota;
use tollgate_control::checkpoint::{Checkpoint, public_key};
use tollgate_control::store::Engine;
use tollgate_core::key::KeyHash;

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
        keep(&pool).await;
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
            put_back(&pool).await;
            assert_eq!(plane.faults().await, [""; 0], "after {what}");
        }
        // Everything is cut back to a state that fits: only what is kept elsewhere knows.
        rewrite(&pool).await;
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

const TABLES: [&str; 3] = ["audit", "objects", "head"];

/// Keeps what there is, for [`put_back`].
async fn keep(pool: &AnyPool) {
    for table in TABLES {
        let kept = format!("CREATE TABLE kept_{table} AS SELECT * FROM {table}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(kept))
            .execute(pool)
            .await
            .unwrap();
    }
}

async fn put_back(pool: &AnyPool) {
    for table in TABLES {
        let back = format!("DELETE FROM {table}; INSERT INTO {table} SELECT * FROM kept_{table}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(back))
            .execute(pool)
            .await
            .unwrap();
    }
}

/// Each column that the server acts on follows from the trail.
#[tokio::test]
async fn no_column_can_be_edited_unseen() {
    on_each(async |plane: Plane| {
        plane.org("acme").await;
        plane.org("globex").await;
        plane.post("/v1/orgs", json!({"id": "gone"})).await.expect(201);
        plane.delete("/v1/orgs/gone").await.expect(200);
        plane.token("viewer", None).await;
        let key = plane.post("/v1/keys", json!({"org": "acme"})).await.expect(201);
        let target = json!({"key": key.text("id")});
        for (path, more) in [("freezes", json!({})), ("caps", json!({"rate": "1/second"}))] {
            let mut body = json!({"target": target, "reason": "x"});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            plane.post(&format!("/v1/{path}"), body).await.expect(201);
        }
        let pool = AnyPool::connect(&plane.address).await.unwrap();
        assert_eq!(plane.faults().await, [""; 0]);
        keep(&pool).await;
        for (statement, fault) in [
            // The secret of whoever did this is the owner's now.
            (
                "UPDATE objects SET sha256 = 'ab' WHERE kind = 'token' AND document LIKE '%owner%'",
                "`sha256` of the token",
            ),
            ("UPDATE objects SET sha256 = 'ab' WHERE kind = 'key'", "`sha256` of the key"),
            ("UPDATE objects SET sha256 = 'ab' WHERE kind = 'cap'", "`sha256` of the cap"),
            ("UPDATE objects SET org = 'globex' WHERE kind = 'key'", "`org` of the key"),
            ("UPDATE objects SET org = 'globex' WHERE id = 'acme/search'", "`org` of the project"),
            ("UPDATE objects SET org = 'globex' WHERE id = 'acme'", "`org` of the org"),
            ("UPDATE objects SET org = 'globex' WHERE kind = 'freeze'", "`org` of the freeze"),
            ("UPDATE objects SET org = 'globex' WHERE kind = 'cap'", "`org` of the cap"),
            ("UPDATE objects SET org = 'globex' WHERE kind = 'token'", "`org` of the token"),
            ("UPDATE objects SET seq = seq - 1 WHERE kind = 'key'", "`seq` of the key"),
            ("UPDATE objects SET seq = seq + 1000 WHERE id = 'acme'", "`seq` of the org"),
            ("UPDATE objects SET revision = revision + 1 WHERE kind = 'key'", "`revision` of the key"),
            ("UPDATE objects SET gone = 1 WHERE kind = 'freeze'", "`gone` of the freeze"),
            // It would never end.
            ("UPDATE objects SET in_force = 0 WHERE kind = 'freeze'", "`in_force` of the freeze"),
            ("UPDATE objects SET in_force = 0 WHERE kind = 'key'", "`in_force` of the key"),
            ("UPDATE objects SET gone = 2 WHERE id = 'gone'", "`gone` of the org"),
            ("UPDATE objects SET gone = 0 WHERE id = 'gone'", "`gone` of the org `gone`"),
            (
                "UPDATE objects SET document = REPLACE(document, '\"gone\"', '\"acme\"') WHERE id = 'gone'",
                "`document` of the org `gone`",
            ),
            // Of two members some readers take the first, others the last.
            (
                "UPDATE objects SET document = REPLACE(document, '{\"id\"', '{\"role\":\"owner\",\"id\"') WHERE kind = 'token'",
                "`document` of the token",
            ),
            (
                "UPDATE objects SET document = REPLACE(document, '\"labels\":{', '\"labels\":{\"a\":\"b\",\"a\":\"b\"') \
                 WHERE id = 'acme'",
                "`document` of the org",
            ),
            ("UPDATE objects SET document = '' WHERE kind = 'key'", "`document` of the key"),
            ("UPDATE objects SET id = 'other' WHERE kind = 'key'", "and not in the trail"),
            (
                "INSERT INTO objects SELECT kind, 'other', org, NULL, revision, seq, gone, in_force, document FROM objects \
                 WHERE kind = 'key'",
                "the key `other` is there, and not in the trail",
            ),
            (
                "INSERT INTO objects SELECT '', '', org, NULL, revision, seq, gone, in_force, document FROM objects WHERE kind = 'key'",
                "beside those of the trail",
            ),
            ("UPDATE audit SET org = 'globex' WHERE seq = 2", "its `org`"),
            ("UPDATE audit SET org = 'acme' WHERE seq = 1", "its `org`"),
            (
                "INSERT INTO audit SELECT 0, org, entry, hash FROM audit WHERE seq = 2",
                "beside the trail",
            ),
            ("UPDATE head SET seq = seq + 1", "it was cut"),
            ("UPDATE head SET hash = name", "the trail's last hash"),
            ("UPDATE head SET name = 'other'", "name was changed"),
            ("DELETE FROM head", "does not say where the trail ends"),
        ] {
            run(&pool, statement).await;
            let faults = plane.faults().await;
            assert!(
                faults.iter().any(|one| one.contains(fault)),
                "{statement}: {faults:?}"
            );
            put_back(&pool).await;
            assert_eq!(plane.faults().await, [""; 0], "after {statement}");
        }
        // A server that started behind it is not taken in by another name.
        run(&pool, "UPDATE head SET name = 'other'").await;
        let store = Store::open(&plane.address).await.unwrap();
        let verdict = store.verify(&[], None).await.unwrap();
        assert_eq!(verdict.faults[0].seq, 1);
        assert!(verdict.faults[0].problem.contains("hash does not fit"), "{verdict:?}");
    })
    .await;
}

/// What was edited stays found after the server wrote over it.
#[tokio::test]
async fn an_edit_that_was_written_over_is_found() {
    on_each(async |plane: Plane| {
        plane.org("acme").await;
        let pool = AnyPool::connect(&plane.address).await.unwrap();
        run(
            &pool,
            "UPDATE objects SET document = REPLACE(document, '\"pro\"', '\"free\"') WHERE id = 'acme'",
        )
        .await;
        plane
            .patch("/v1/orgs/acme", json!({"contacts": ["x"]}))
            .await
            .expect(200);
        let faults = plane.faults().await;
        assert_eq!(
            faults,
            ["4: it found the organization `acme` otherwise than the trail had left it"]
        );
    })
    .await;
}

/// A checkpoint of a trail that was rewritten is compared, whatever is given beside it.
#[tokio::test]
async fn checkpoints_of_one_entry_do_not_hide_each_other() {
    on_each(async |plane: Plane| {
        plane.org("acme").await;
        let pool = AnyPool::connect(&plane.address).await.unwrap();
        let (mut checkpoints, mut plane) = (Vec::new(), plane);
        for name in ["lost", "kept"] {
            rewrite(&pool).await;
            plane = plane.reopened(WriteQuota::default()).await;
            plane.post("/v1/orgs", json!({"id": name})).await.expect(201);
            let signed = plane.post("/v1/audit/checkpoint", json!({})).await.expect(200);
            checkpoints.push(serde_json::from_value::<Checkpoint>(signed.body).unwrap());
        }
        assert_eq!(checkpoints[0].seq, checkpoints[1].seq);
        for _ in 0..2 {
            checkpoints.reverse();
            let verdict = plane.store.verify(&checkpoints, None).await.unwrap();
            let problems: Vec<_> = verdict.faults.iter().map(|fault| &fault.problem).collect();
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(problems[0].contains("written anew"), "{problems:?}");
        }
    })
    .await;
}

/// After a restore entries get numbers that gateways have seen before.
#[tokio::test]
async fn a_version_from_before_a_restore_is_not_taken_for_another() {
    on_each(async |plane: Plane| {
        plane.org("acme").await;
        let pool = AnyPool::connect(&plane.address).await.unwrap();
        plane.post("/v1/orgs", json!({"id": "lost"})).await.expect(201);
        let lost = plane.get("/v1/directory").await.expect(200);
        let lost = lost.header("etag").trim_matches('"').to_owned();
        rewrite(&pool).await;
        // The server that knew more does not go on with less: a token that was revoked since would be good again.
        let told = "went back under the server";
        plane
            .post("/v1/orgs", json!({"id": "x"}))
            .await
            .expect(503)
            .says(told);
        plane.get("/v1/orgs").await.expect(503).says(told);
        plane.get("/readyz").await.expect(503).says(told);
        // To be started anew, it would go on with what is there.
        plane.get("/healthz").await.expect(200);
        let plane = plane.reopened(WriteQuota::default()).await;
        // With as many entries as before, and then with more.
        for name in ["other", "more"] {
            plane.post("/v1/orgs", json!({"id": name})).await.expect(201);
            let answer = plane
                .get(&format!("/v1/directory?after={lost}"))
                .await
                .expect(200);
            assert_eq!(answer.header("content-type"), "application/json");
            assert!(answer.body["orgs"][name].is_object() && answer.body["orgs"]["lost"].is_null());
            let path = "/v1/directory";
            let held = [("if-none-match", lost.as_str())];
            let answer = plane.with(&plane.owner, Method::GET, path, None, &held).await;
            answer.expect(200);
        }
    })
    .await;
}

/// A server that has written nothing, over a database that is restored from a backup, or of which a standby took over that
/// had less; others may have written more into it since than there was.
#[tokio::test]
async fn a_server_that_only_serves_notices_that_the_database_went_back() {
    on_each(async |plane: Plane| {
        plane.org("acme").await;
        let gateway = plane.token("gateway", None).await;
        let revoked = plane
            .post("/v1/keys", json!({"org": "acme"}))
            .await
            .expect(201)
            .text("id");
        let pool = AnyPool::connect(&plane.address).await.unwrap();
        keep(&pool).await;
        let reader = Plane {
            store: plane.store.clone(),
            owner: plane.owner.clone(),
            address: plane.address.clone(),
            router: plane.router.clone(),
            _folder: None,
        };
        let reader = reader.reopened(WriteQuota::default()).await;
        let revoke = format!("/v1/keys/{revoked}/revoke");
        plane.post(&revoke, json!({})).await.expect(200);
        let fetch = async || {
            reader
                .as_token(&gateway, Method::GET, "/v1/directory", None)
                .await
        };
        let served = fetch().await.expect(200);
        assert_eq!(served.body["keys"], json!([]));

        put_back(&pool).await;
        let plane = plane.reopened(WriteQuota::default()).await;
        for name in ["more", "and-more", "and-even-more"] {
            plane.post("/v1/orgs", json!({"id": name})).await.expect(201);
        }
        fetch().await.expect(503).says("went back under the server");
        // From then on the last that is to be believed.
        let last = fetch().await.expect(200);
        assert_eq!((last.version(), &last.body), (served.version(), &served.body));
        reader.get("/v1/orgs").await.expect(503);
        reader
            .get("/readyz")
            .await
            .expect(503)
            .says("went back under the server");
    })
    .await;
}

/// Somebody with the database's password takes back all behind the third entry.
async fn rewrite(pool: &AnyPool) {
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
        let answer = match random.below(12) {
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
            11 => {
                let target = json!({"cluster": format!("c{}", random.below(4))});
                let body = json!({"target": target, "reason": "x"});
                let answer = plane.post("/v1/restrictions", body).await;
                if answer.status == 201 && random.below(2) == 0 {
                    let path = format!("/v1/restrictions/{}/end", answer.text("id"));
                    plane.post(&path, json!({})).await
                } else {
                    answer
                }
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

/// What the server reads could be something else than what is looked through.
#[tokio::test]
async fn a_table_that_is_no_plain_one_is_found() {
    on_each(async |plane: Plane| {
        plane.org("acme").await;
        let pool = AnyPool::connect(&plane.address).await.unwrap();
        let run = async |statements: &'static str| {
            sqlx::raw_sql(statements).execute(&pool).await.unwrap();
        };
        assert_eq!(plane.faults().await, [""; 0]);
        let view = "ALTER TABLE objects RENAME TO others; CREATE VIEW objects AS SELECT * FROM others";
        let cases: &[(&str, &str, &str)] = match plane.store.engine() {
            Engine::Sqlite => &[
                (
                    "CREATE TRIGGER t AFTER INSERT ON objects BEGIN SELECT 1; END",
                    "DROP TRIGGER t",
                    "the trigger t",
                ),
                ("CREATE VIEW v AS SELECT 1", "DROP VIEW v", "the view v"),
                (
                    "DROP INDEX objects_by_change; CREATE INDEX objects_by_change ON objects (seq)",
                    "DROP INDEX objects_by_change; CREATE INDEX objects_by_change ON objects (kind, seq)",
                    "the index objects_by_change is not as the server made it",
                ),
                (
                    "CREATE UNIQUE INDEX one_of_each ON objects (id, org, kind, seq)",
                    "DROP INDEX one_of_each",
                    "the index one_of_each, which is not the server's",
                ),
                (
                    "PRAGMA ignore_check_constraints = ON; UPDATE head SET one = 2",
                    "UPDATE head SET one = 1; PRAGMA ignore_check_constraints = OFF",
                    "SQLite finds the file damaged: CHECK constraint failed in head",
                ),
                (view, "", "the table objects is not as the server made it"),
            ],
            Engine::Postgres => &[
                (
                    "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; \
                     CREATE TRIGGER t BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION f()",
                    "DROP TRIGGER t ON audit",
                    "audit: it has triggers",
                ),
                (
                    "CREATE RULE r AS ON DELETE TO audit DO INSTEAD NOTHING",
                    "DROP RULE r ON audit",
                    "audit: it has rules",
                ),
                (
                    "ALTER TABLE objects ENABLE ROW LEVEL SECURITY",
                    "ALTER TABLE objects DISABLE ROW LEVEL SECURITY",
                    "objects: it has policies",
                ),
                (
                    "ALTER TABLE head ALTER COLUMN seq SET DEFAULT 0",
                    "ALTER TABLE head ALTER COLUMN seq DROP DEFAULT",
                    "head: it has columns that are computed",
                ),
                (
                    "ALTER TABLE audit ADD CHECK (seq > 0)",
                    "ALTER TABLE audit DROP CONSTRAINT audit_seq_check",
                    "the constraint audit_seq_check of audit, which is not the server's",
                ),
                (
                    "CREATE UNIQUE INDEX one_of_each ON objects (id, org, kind)",
                    "DROP INDEX one_of_each",
                    "the index one_of_each of objects, which is not the server's",
                ),
                (
                    "DROP INDEX objects_by_change",
                    "CREATE INDEX objects_by_change ON objects (kind, seq)",
                    "the index objects_by_change of objects is not as the server made it",
                ),
                (
                    "ALTER TABLE objects ALTER COLUMN document DROP NOT NULL",
                    "ALTER TABLE objects ALTER COLUMN document SET NOT NULL",
                    "the column document of objects is not as the server made it",
                ),
                (
                    "ALTER TABLE idempotency ALTER COLUMN token TYPE VARCHAR(200)",
                    "ALTER TABLE idempotency ALTER COLUMN token TYPE TEXT",
                    "the column token of idempotency is not as the server made it",
                ),
                (
                    "ALTER TABLE spent ADD COLUMN more BIGINT",
                    "ALTER TABLE spent DROP COLUMN more",
                    "the column more of spent, which is not the server's",
                ),
                (
                    "ALTER TABLE notices SET UNLOGGED",
                    "ALTER TABLE notices SET LOGGED",
                    "notices: a crash empties it",
                ),
                (
                    "CREATE TABLE more () INHERITS (objects)",
                    "DROP TABLE more",
                    "objects: it inherits",
                ),
                (view, "", "objects: it is no plain table"),
            ],
        };
        for (alter, back, fault) in cases {
            run(alter).await;
            let faults = plane.faults().await;
            assert!(
                faults.iter().any(|one| one.contains(fault)),
                "{alter}: {faults:?}"
            );
            if !back.is_empty() {
                run(back).await;
                assert_eq!(plane.faults().await, [""; 0], "after {back}");
            }
        }
    })
    .await;
}

/// What it can't look at it says, and looks through the trail all the same.
#[tokio::test]
async fn who_may_make_no_temporary_tables_is_told_what_to_grant() {
    let plane = Plane::open(&support::postgres::database(), None).await;
    plane.org("acme").await;
    let pool = AnyPool::connect(&plane.address).await.unwrap();
    let name: String = sqlx::query("SELECT current_database()::TEXT")
        .fetch_one(&pool)
        .await
        .unwrap()
        .get(0);
    let role = format!("only_{name}");
    let confine = format!(
        "CREATE ROLE {role} LOGIN; REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC; \
         GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}; GRANT CREATE ON SCHEMA public TO {role}"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(confine))
        .execute(&pool)
        .await
        .unwrap();
    let confined = Plane {
        address: plane.address.replace("tollgate@", &format!("{role}@")),
        ..plane
    };
    let plane = confined.reopened(WriteQuota::default()).await;
    let grant = format!("GRANT TEMPORARY ON DATABASE {name} TO {role}");
    let faults = plane.faults().await;
    assert!(faults.len() == 1 && faults[0].contains(&grant), "{faults:?}");
    run(&pool, "UPDATE audit SET hash = 'other' WHERE seq = 2").await;
    let faults = plane.faults().await;
    assert!(
        faults.iter().any(|one| one.contains("hash does not fit")),
        "{faults:?}"
    );
}

/// A token that is put into the database, used, and taken out again.
#[tokio::test]
async fn a_token_that_was_never_made_is_found() {
    on_each(async |plane: Plane| {
        plane.org("acme").await;
        let pool = AnyPool::connect(&plane.address).await.unwrap();
        let secret = format!("tg-token-{}-{}", "r".repeat(12), "s".repeat(43));
        let sha256 = KeyHash::of(secret.as_bytes());
        let token = json!({"id": "r".repeat(12), "sha256": sha256.to_string(), "role": "owner",
            "created_at": "2026-01-01T00:00:00Z", "created_by": "local"});
        let row = format!(
            "INSERT INTO objects (kind, id, org, sha256, revision, seq, gone, in_force, document) \
             VALUES ('token', 'rrrrrrrrrrrr', '', $1, 1, 1, 0, 0, '{token}')"
        );
        sqlx::query(sqlx::AssertSqlSafe(row))
            .bind(sha256.as_bytes().to_vec())
            .execute(&pool)
            .await
            .unwrap();
        let body = Some(json!({"role": "owner"}));
        let made = plane.as_token(&secret, Method::POST, "/v1/tokens", body).await;
        made.expect(201);
        run(&pool, "DELETE FROM objects WHERE id = 'rrrrrrrrrrrr'").await;
        assert_eq!(
            plane.faults().await,
            ["4: it is by `token:rrrrrrrrrrrr`, which was made in no entry before it"]
        );
    })
    .await;
}

/// An entry that is appended, with the right hashes, has to be by somebody who could have made it.
#[tokio::test]
async fn an_entry_is_by_who_may_make_it() {
    on_each(async |plane: Plane| {
        plane.org("acme").await;
        plane.org("globex").await;
        let pool = AnyPool::connect(&plane.address).await.unwrap();
        let token = async |body: Value| plane.post("/v1/tokens", body).await.expect(201).text("id");
        let viewer = token(json!({"role": "viewer"})).await;
        let customer = token(json!({"role": "operator", "orgs": ["acme"]})).await;
        let owner = token(json!({"role": "owner", "expires_at": "2090-01-01T00:00:00Z"})).await;
        let revoked = token(json!({"role": "owner"})).await;
        plane
            .post(&format!("/v1/tokens/{revoked}/revoke"), json!({}))
            .await
            .expect(200);
        assert_eq!(plane.faults().await, [""; 0]);
        keep(&pool).await;
        let expired = 4_000_000_000_000_i64;
        let by = |id: &str| format!("token:{id}");
        for (actor, action, org, time, fault) in [
            (
                by(&viewer),
                "token.create",
                "",
                0,
                "does not allow `token.create`",
            ),
            (
                by(&customer),
                "key.create",
                "globex",
                0,
                "does not allow `key.create`",
            ),
            (
                by(&customer),
                "org.change",
                "acme",
                0,
                "does not allow `org.change`",
            ),
            (by(&customer), "key.create", "acme", 0, ""),
            (by(&revoked), "org.change", "acme", 0, "expired or was revoked"),
            (
                by(&owner),
                "org.change",
                "acme",
                expired,
                "expired or was revoked",
            ),
            (by(&owner), "org.change", "acme", 0, ""),
            (by(&owner), "freeze.over", "acme", 0, "does no `freeze.over`"),
            ("system".to_owned(), "token.create", "", 0, "`system` does no"),
            (
                "somebody".to_owned(),
                "key.create",
                "acme",
                0,
                "`somebody` does no",
            ),
            // What no hash can tell: docs/threats.md says so.
            ("local".to_owned(), "key.create", "acme", 0, ""),
        ] {
            append(&pool, &actor, action, org, time).await;
            let faults = plane.faults().await;
            match fault {
                "" => assert_eq!(faults, [""; 0], "{actor}, {action}"),
                _ => assert!(
                    faults.iter().any(|one| one.contains(fault)),
                    "{actor}: {faults:?}"
                ),
            }
            put_back(&pool).await;
        }
    })
    .await;
}

/// Appends an entry as the server would, hashes and all.
async fn append(pool: &AnyPool, actor: &str, action: &str, org: &str, time: i64) {
    let head = sqlx::query("SELECT seq, hash FROM head")
        .fetch_one(pool)
        .await
        .unwrap();
    let (seq, previous): (i64, String) = (head.get::<i64, _>("seq") + 1, head.get("hash"));
    let entry =
        json!({"seq": seq, "time": time, "actor": actor, "address": "local", "action": action, "org": org,
        "changes": []})
        .to_string();
    let hash = KeyHash::of(format!("{previous}\n{entry}").as_bytes()).to_string();
    sqlx::query("INSERT INTO audit (seq, org, entry, hash) VALUES ($1, $2, $3, $4)")
        .bind(seq)
        .bind(org.to_owned())
        .bind(entry)
        .bind(hash.clone())
        .execute(pool)
        .await
        .unwrap();
    sqlx::query("UPDATE head SET seq = $1, hash = $2")
        .bind(seq)
        .bind(hash)
        .execute(pool)
        .await
        .unwrap();
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

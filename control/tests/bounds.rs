//! What a customer's administrator sends, however much of it, holds up nobody else and does not grow without bounds.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails by panicking"
)]

mod support;

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use core::time::Duration;

use axum::http::Method;
use futures_util::future::join_all;
use serde_json::{Value, json};
use sqlx::{AnyPool, Row as _};
use support::{Plane, on_each};
use tollgate_control::WriteQuota;

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
        println!("written before each freeze: {before:?}");
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

/// What the platform has of a project's keys is looked at before anybody waits for the database.
#[tokio::test]
async fn a_project_with_keys_is_not_removed() {
    on_each(async |plane: Plane| {
        plane.org("acme").await;
        let path = "/v1/orgs/acme/projects/search";
        let body = json!({"org": "acme", "project": "search"});
        let key = plane.post("/v1/keys", body).await.expect(201).text("id");
        plane.post("/v1/keys", json!({"org": "acme"})).await.expect(201);
        plane.delete(path).await.expect(409).says("still has keys");
        plane
            .delete("/v1/orgs/acme")
            .await
            .expect(409)
            .says("still has keys");
        plane
            .post(&format!("/v1/keys/{key}/revoke"), json!({}))
            .await
            .expect(200);
        plane.delete(path).await.expect(200);
        plane.delete(path).await.expect(404);
        assert_eq!(plane.faults().await, [""; 0]);
    })
    .await;
}

/// A list that each gateway would hold is bounded.
#[tokio::test]
async fn a_list_is_not_endless() {
    on_each(async |plane: Plane| {
        plane.org("acme").await;
        let models = |count: usize| (0..count).map(|at| format!("m{at}")).collect::<Vec<_>>();
        let labels: Value = (0..33).map(|at| (format!("l{at}"), json!("x"))).collect();
        let networks: Vec<_> = (0..33).map(|at| format!("10.0.{at}.0/24")).collect();
        for (path, body, field) in [
            ("/v1/orgs", json!({"id": "a", "models": models(1_001)}), "models"),
            ("/v1/orgs", json!({"id": "a", "labels": labels}), "labels"),
            ("/v1/orgs/acme/projects", json!({"id": "a", "models": models(101)}), "models"),
            ("/v1/orgs/acme/projects", json!({"id": "a", "labels": labels}), "labels"),
            ("/v1/keys", json!({"org": "acme", "models": models(101)}), "models"),
            ("/v1/keys", json!({"org": "acme", "networks": networks}), "networks"),
            ("/v1/keys", json!({"org": "acme", "scopes": vec!["chat"; 33]}), "scopes"),
        ] {
            let answer = plane.post(path, body).await.expect(422);
            assert_eq!(answer.body["errors"][0]["field"], field, "{}", answer.body);
            answer.says("expected at most");
        }
        let body = json!({"id": "a", "models": models(100)});
        plane.post("/v1/orgs/acme/projects", body).await.expect(201);
        let body = json!({"org": "acme", "models": models(100), "networks": networks[..32]});
        plane.post("/v1/keys", body).await.expect(201);
        // What only the platform may make so large.
        let body = json!({"org": "acme", "models": models(100).iter().map(|name| name.repeat(20)).collect::<Vec<_>>()});
        let key = plane.post("/v1/keys", body.clone()).await.expect(201).text("id");
        let customer = plane.token("operator", Some(&["acme"])).await;
        let answer = plane.as_token(&customer, Method::POST, "/v1/keys", Some(body)).await;
        answer.expect(422).says("expected at most 4096");
        let (path, body) = (format!("/v1/keys/{key}"), json!({"name": "x"}));
        let answer = plane.as_token(&customer, Method::PATCH, &path, Some(body)).await;
        answer.expect(422).says("expected at most 4096");
        // Contacts are kept in the trail as models are.
        let contacts: Vec<_> = (0..16).map(|at| format!("{at:0>128}")).collect();
        let models: Vec<_> = (0..90).map(|at| format!("{at:0>20}")).collect();
        for (body, status) in [
            (json!({"org": "acme", "contacts": contacts}), 201),
            (json!({"org": "acme", "models": models}), 201),
            (json!({"org": "acme", "models": models, "contacts": contacts}), 422),
        ] {
            let answer = plane.as_token(&customer, Method::POST, "/v1/keys", Some(body)).await;
            answer.expect(status);
        }
    })
    .await;
}

/// What customers write in a day is bounded, for a token and for an organization; what the platform writes is not.
#[tokio::test]
async fn customers_write_so_much_in_a_day() {
    on_each(async |plane: Plane| {
        let plane = plane
            .reopened(WriteQuota {
                writes: 20,
                bytes: 1 << 30,
            })
            .await;
        plane.org("acme").await;
        plane.org("globex").await;
        let path = "/v1/orgs/acme/projects/search";
        let tokens = [
            plane.token("operator", Some(&["acme", "globex"])).await,
            plane.token("operator", Some(&["acme"])).await,
            plane.token("operator", Some(&["acme"])).await,
        ];
        let write = async |plane: &Plane, token: &str, at: usize| {
            let body = json!({"labels": {"at": at.to_string()}});
            plane.as_token(token, Method::PATCH, path, Some(body)).await
        };
        // Half of the organization's each.
        for token in &tokens[..2] {
            for at in 0..10 {
                write(&plane, token, at).await.expect(200);
            }
            // Dry runs and what changes nothing stay free.
            let same = plane.as_token(token, Method::PATCH, path, Some(json!({}))).await;
            same.expect(200);
        }
        let answer = write(&plane, &tokens[0], 99).await.expect(429);
        assert_eq!(answer.text("type"), "urn:tollgate:problem:write-quota");
        answer.says("the tokens of the organization `acme` may make 20 writes in a day");
        let wait: u64 = answer.header("retry-after").parse().unwrap();
        assert!((3_000..=4_321).contains(&wait), "{wait}");
        write(&plane, &tokens[2], 99).await.expect(429).says("`acme`");
        // The token's own is used up in its other organization too.
        let other = "/v1/orgs/globex/projects/search";
        let body = json!({"labels": {"at": "99"}});
        let answer = plane.as_token(&tokens[0], Method::PATCH, other, Some(body)).await;
        answer.expect(429).says("the token `");
        // After a restart too.
        let plane = plane
            .reopened(WriteQuota {
                writes: 20,
                bytes: 1 << 30,
            })
            .await;
        write(&plane, &tokens[2], 99).await.expect(429);
        // The platform writes on.
        for at in 0..30 {
            let owner = plane.owner.clone();
            write(&plane, &owner, at).await.expect(200);
        }
        assert_eq!(plane.faults().await, [""; 0]);
    })
    .await;
}

/// What is wrong is put out of use whatever was written before, and however often that was done; what undoes it is counted.
#[tokio::test]
async fn what_makes_things_safer_always_passes() {
    on_each(async |plane: Plane| {
        let plane = plane
            .reopened(WriteQuota {
                writes: 10,
                bytes: 1 << 30,
            })
            .await;
        plane.org("acme").await;
        let customer = plane.token("operator", Some(&["acme"])).await;
        let mut keys = Vec::new();
        for _ in 0..8 {
            keys.push(plane.post("/v1/keys", json!({"org": "acme"})).await.text("id"));
        }
        let ask = async |method: Method, path: &str, body: Value| {
            plane.as_token(&customer, method, path, Some(body)).await
        };
        let project = "/v1/orgs/acme/projects/search";
        // An incident: nothing of it is counted.
        for key in &keys[..6] {
            let revoke = format!("/v1/keys/{key}/revoke");
            ask(Method::POST, &revoke, json!({})).await.expect(200);
        }
        for at in 0..5 {
            ask(Method::PATCH, project, json!({"labels": {"at": at.to_string()}}))
                .await
                .expect(200);
        }
        let labels = json!({"labels": {"at": "more"}});
        ask(Method::PATCH, project, labels)
            .await
            .expect(429)
            .says("Revoking, suspending");
        // And then another one.
        let held = format!("/v1/keys/{}", keys[6]);
        let suspend = json!({"status": "suspended"});
        let both = json!({"status": "suspended", "contacts": ["ops"]});
        ask(Method::PATCH, &held, both).await.expect(429);
        for path in [&*held, project] {
            ask(Method::PATCH, path, suspend.clone()).await.expect(200);
            ask(Method::PATCH, path, json!({"status": "active"}))
                .await
                .expect(429);
        }
        for (path, rate) in [("/v1/freezes", Value::Null), ("/v1/caps", json!("1/second"))] {
            let begin = |key: &str, span: Option<&str>| {
                let mut body = json!({"target": {"key": key}, "reason": "leaked", "rate": rate, "for": span});
                body.as_object_mut().unwrap().retain(|_, value| !value.is_null());
                body
            };
            // One that ends by itself can be begun again and again.
            ask(Method::POST, path, begin(&keys[6], Some("23h")))
                .await
                .expect(429);
            for (key, span) in [(&keys[6], None), (&keys[7], Some("24h"))] {
                let begun = ask(Method::POST, path, begin(key, span)).await.expect(201);
                let end = format!("{path}/{}/end", begun.text("id"));
                ask(Method::POST, &end, json!({})).await.expect(429);
            }
        }
        ask(Method::POST, &format!("{held}/revoke"), json!({}))
            .await
            .expect(200);
        assert_eq!(plane.faults().await, [""; 0]);
    })
    .await;
}

/// By their bytes too: what is kept for `idempotency-key` is among them.
#[tokio::test]
async fn customers_write_so_many_bytes_in_a_day() {
    on_each(async |plane: Plane| {
        let bytes = 400_000;
        let plane = plane
            .reopened(WriteQuota {
                writes: 1_000_000,
                bytes,
            })
            .await;
        plane.org("acme").await;
        let customer = plane.token("operator", Some(&["acme"])).await;
        let contacts: Vec<_> = (0..16).map(|at| format!("{at:0>128}")).collect();
        let mut made = 0;
        let refused = loop {
            let body = json!({"org": "acme", "contacts": contacts});
            let headers = [("idempotency-key", &*format!("{made}"))];
            let answer = plane
                .with(&customer, Method::POST, "/v1/keys", Some(body), &headers)
                .await;
            if answer.status != 201 {
                break answer;
            }
            made += 1;
        };
        refused.expect(429).says("200000 bytes of writes");
        // Twice 2.2 to 2.8 KB each.
        assert!((35..=46).contains(&made), "{made}");
    })
    .await;
}

/// So many rows of a kind as if the API had made them one by one.
async fn fill(plane: &Plane, kind: &str, count: usize) {
    let pool = AnyPool::connect(&plane.address).await.unwrap();
    let statement = format!(
        "WITH RECURSIVE n(at) AS (SELECT 1 UNION ALL SELECT at + 1 FROM n WHERE at < {count}) \
         INSERT INTO objects (kind, id, org, sha256, revision, seq, gone, in_force, document) \
         SELECT kind, 'filled' || at, org, NULL, 1, seq, gone, in_force, \
         REPLACE(document, '\"id\":\"' || id || '\"', '\"id\":\"filled' || at || '\"') \
         FROM n, (SELECT * FROM objects WHERE kind = '{kind}' LIMIT 1) AS one"
    );
    sqlx::query(sqlx::AssertSqlSafe(statement))
        .execute(&pool)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_customer_has_so_many_budgets_at_most() {
    on_each(async |plane: Plane| {
        plane.org("acme").await;
        let customer = plane.token("operator", Some(&["acme"])).await;
        let budget = |id: &str| {
            json!({"id": id, "scope": {"project": "acme/search"}, "unit": "tokens", "window": "day", "amount": 5})
        };
        let ask = async |id: &str| {
            let body = Some(budget(id));
            plane.as_token(&customer, Method::POST, "/v1/budgets", body).await
        };
        ask("acme:first").await.expect(201);
        fill(&plane, "budget", 99).await;
        ask("acme:more").await.expect(409).says("100 budgets already");
        plane.post("/v1/budgets", budget("acme:more")).await.expect(201);
    })
    .await;
}

#[tokio::test]
async fn a_customer_has_so_many_keys_and_freezes_at_most() {
    on_each(async |plane: Plane| {
        plane.org("acme").await;
        let customer = plane.token("operator", Some(&["acme"])).await;
        let ask =
            async |path: &str, body: Value| plane.as_token(&customer, Method::POST, path, Some(body)).await;
        let key = ask("/v1/keys", json!({"org": "acme"}))
            .await
            .expect(201)
            .text("id");
        fill(&plane, "key", 9_999).await;
        let more = json!({"org": "acme"});
        ask("/v1/keys", more.clone())
            .await
            .expect(409)
            .says("10000 keys already");
        let rotate = format!("/v1/keys/{key}/rotate");
        ask(&rotate, json!({}))
            .await
            .expect(409)
            .says("10000 keys already");
        // Those that are revoked count no more, and the platform makes more.
        ask("/v1/keys/filled1/revoke", json!({})).await.expect(200);
        ask("/v1/keys", more.clone()).await.expect(201);
        ask("/v1/keys", more.clone()).await.expect(409);
        plane.post("/v1/keys", more).await.expect(201);

        for (path, kind, extra) in [
            ("/v1/freezes", "freeze", Value::Null),
            ("/v1/caps", "cap", json!("1/second")),
        ] {
            let body = |key: &str| {
                let mut body = json!({"target": {"key": key}, "reason": "x"});
                if !extra.is_null() {
                    body["rate"] = extra.clone();
                }
                body
            };
            let own = ask(path, body(&key)).await.expect(201).text("id");
            fill(&plane, kind, 999).await;
            ask(path, body("filled2"))
                .await
                .expect(409)
                .says("in force already");
            plane.post(path, body("filled3")).await.expect(201);
            for end in [&own, "filled4", "filled5"] {
                ask(&format!("{path}/{end}/end"), json!({})).await.expect(200);
            }
            ask(path, body("filled2")).await.expect(201);
        }
    })
    .await;
}

#[tokio::test]
async fn projects_take_so_much_at_most() {
    on_each(async |plane: Plane| {
        plane.org("acme").await;
        let customer = plane.token("operator", Some(&["acme"])).await;
        let models: Vec<_> = (0..100).map(|at| format!("{at:0>120}")).collect();
        let (mut made, path) = (0, "/v1/orgs/acme/projects");
        let body = |at: usize| json!({"id": format!("p{at}"), "models": models});
        let refused = loop {
            let answer = plane
                .as_token(&customer, Method::POST, path, Some(body(made)))
                .await;
            if answer.status != 201 {
                break answer;
            }
            made += 1;
        };
        refused.expect(409).says("may take 1048576");
        assert!((80..90).contains(&made), "{made}");
        let project = format!("{path}/search");
        let change = async |body: Value| {
            plane
                .as_token(&customer, Method::PATCH, &project, Some(body))
                .await
        };
        change(json!({"models": models}))
            .await
            .expect(409)
            .says("may take 1048576");
        for at in 0..3 {
            plane.post(path, body(made + at)).await.expect(201);
        }
        // What is there may shrink.
        let shrunk = format!("{path}/p0");
        let answer = plane
            .as_token(&customer, Method::PATCH, &shrunk, Some(json!({"models": ["m"]})))
            .await;
        answer.expect(200);

        // A list is answered in parts, none of which is large.
        let (mut listed, mut after) = (0, String::new());
        loop {
            let page = plane
                .get(&format!("{path}?limit=1000{after}"))
                .await
                .expect(200)
                .body;
            assert!(page.to_string().len() < 1_100_000);
            listed += page["items"].as_array().unwrap().len();
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => break,
            }
        }
        assert_eq!(listed, made + 4);
        assert_ne!(after, "", "it comes in parts");
    })
    .await;
}

/// What changed is told whole where it would be more than a gateway takes.
#[tokio::test]
async fn what_changed_is_no_larger_than_gateways_take() {
    on_each(async |plane: Plane| {
        let models: Vec<_> = (0..1_000).map(|at| format!("{at:0>127}")).collect();
        let version = plane.get("/v1/directory").await.expect(200).version();
        let path = format!("/v1/directory?after={version}");
        for at in 0..60 {
            let body = json!({"id": format!("o{at}"), "models": models});
            plane.post("/v1/orgs", body).await.expect(201);
        }
        let told = plane.get(&path).await.expect(200);
        assert_eq!(
            told.header("content-type"),
            "application/vnd.tollgate.changes+json"
        );
        for at in 60..70 {
            let body = json!({"id": format!("o{at}"), "models": models});
            plane.post("/v1/orgs", body).await.expect(201);
        }
        let told = plane.get(&path).await.expect(200);
        assert_eq!(told.header("content-type"), "application/json");
    })
    .await;
}

/// Reads of customers that take long leave connections to gateways and the platform.
#[tokio::test]
async fn customers_that_read_take_few_of_the_connections() {
    let plane = Plane::open(&support::postgres::database(), None).await;
    plane.org("acme").await;
    let budget = json!({"id": "b", "scope": {"org": "acme"}, "unit": "tokens", "window": "day", "amount": 5});
    plane.post("/v1/budgets", budget).await.expect(201);
    let gateway = plane.token("gateway", None).await;
    let mut customers = Vec::new();
    for _ in 0..20 {
        customers.push(plane.token("viewer", Some(&["acme"])).await);
    }
    let pool = AnyPool::connect(&plane.address).await.unwrap();
    let mut held = pool.begin().await.unwrap();
    let lock = "LOCK TABLE budget_windows IN ACCESS EXCLUSIVE MODE";
    sqlx::query(lock).execute(&mut *held).await.unwrap();
    let read = async |token: &str| {
        let path = "/v1/budgets/b/spending";
        plane.as_token(token, Method::GET, path, None).await
    };
    let flood = join_all(customers.iter().map(|customer| read(customer)));
    let one = join_all((0..70).map(|_| read(&customers[0])));
    let others = async {
        let waiting =
            "SELECT COUNT(*) AS n FROM pg_locks WHERE relation = 'budget_windows'::regclass AND NOT granted";
        let wait = async {
            while sqlx::query(waiting)
                .fetch_one(&pool)
                .await
                .unwrap()
                .get::<i64, _>("n")
                < 4
            {}
        };
        tokio::time::timeout(Duration::from_secs(30), wait).await.unwrap();
        for _ in 0..20 {
            plane.get("/v1/keys").await.expect(200);
            let directory = plane.as_token(&gateway, Method::GET, "/v1/directory", None);
            directory.await.expect(200);
        }
        held.rollback().await.unwrap();
    };
    let (answers, many, ()) = tokio::join!(flood, one, others);
    assert!(answers.iter().chain(&many).any(|answer| answer.status == 200));
    let refused = many.into_iter().filter(|answer| answer.status != 200);
    let refused: Vec<_> = refused.map(|answer| answer.expect(429)).collect();
    assert!(refused.len() >= 5, "{}", refused.len());
    for answer in refused {
        assert_eq!(answer.header("retry-after"), "1");
        answer.says("too many reads of this token wait");
    }
}

/// A stolen token of a gateway sends all it can at both endpoints: what the platform writes comes after a few of these at most,
/// and what honest gateways say by another token is heard.
#[tokio::test]
async fn the_platform_waits_behind_no_flood_of_gateways() {
    let plane = Plane::sqlite().await;
    plane.org("acme").await;
    for id in ["a", "b", "c"] {
        let body = json!({"id": id, "scope": {"org": "acme"}, "unit": "tokens", "window": "hour", "amount": 1_000_000});
        plane.post("/v1/budgets", body).await.expect(201);
    }
    let (stolen, honest) = (
        plane.token("gateway", None).await,
        plane.token("gateway", None).await,
    );
    let (is_over, taken) = (AtomicBool::new(false), AtomicUsize::new(0));
    let flood = join_all((0..40_u64).map(|at| {
        let (plane, stolen, is_over, taken) = (&plane, &stolen, &is_over, &taken);
        async move {
            let (mut statuses, mut round) = (Vec::new(), 0_u64);
            while !is_over.load(Ordering::Relaxed) {
                round += 1;
                let items = ["a", "b", "c"].map(|id| json!({"budget": id, "spent": round, "want": 1}));
                let spends = json!({"holder": format!("liar-{at:0>16}"), "items": items});
                let want = |key: u64| json!({
                    "key": format!("{:032x}", (at << 40) | (round << 10) | key), "limit": [1, 86_400_000_000_u64, 1],
                    "have": [0, 0], "returned": "0", "demand": 1, "need": 0,
                });
                let shares = json!({
                    "incarnation": format!("{at:016x}"), "seq": round, "answered": 0, "epoch": null, "version": 0, "parts": 0,
                    "leaves": false, "wants": (0..100).map(want).collect::<Vec<_>>(),
                });
                for (path, body) in [("/v1/budgets/exchange", spends), ("/v1/fleet", shares)] {
                    let answer = plane.as_token(stolen, Method::POST, path, Some(body)).await;
                    statuses.push(answer.status.as_u16());
                    if answer.status == 200 {
                        taken.fetch_add(1, Ordering::Relaxed);
                    } else {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
            }
            statuses
        }
    }));
    let platform = async {
        let (mut before, mut longest) = (Vec::new(), Duration::ZERO);
        for _ in 0..10 {
            let key = plane
                .post("/v1/keys", json!({"org": "acme"}))
                .await
                .expect(201)
                .text("id");
            let (first, begun) = (taken.load(Ordering::Relaxed), std::time::Instant::now());
            plane
                .post(&format!("/v1/keys/{key}/revoke"), json!({}))
                .await
                .expect(200);
            longest = longest.max(begun.elapsed());
            before.push(taken.load(Ordering::Relaxed) - first);
            let item = json!([{"budget": "a", "want": 1}]);
            let body = json!({"holder": "holder-0000000001", "items": item});
            let heard = plane
                .as_token(&honest, Method::POST, "/v1/budgets/exchange", Some(body))
                .await;
            heard.expect(200);
        }
        is_over.store(true, Ordering::Relaxed);
        (before, longest)
    };
    let (statuses, (before, longest)) = tokio::join!(flood, platform);
    println!("exchanges before each revocation: {before:?}; the longest took {longest:?}");
    // One of each is under way and one in the line, of limits as many as share a transaction; some are done while the
    // revocation comes to the line. Without its turn it would come behind all 40.
    assert!(before.iter().sum::<usize>() < 10 * 40, "{before:?}");
    let statuses: Vec<u16> = statuses.into_iter().flatten().collect();
    assert!(
        statuses.iter().filter(|status| **status == 200).count() > 10,
        "{statuses:?}"
    );
}

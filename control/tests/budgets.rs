//! Budgets: who may make which, what is spent of them to the unit, raises and thresholds.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails by panicking"
)]

mod support;

use std::collections::BTreeMap;

use axum::http::Method;
use serde_json::{Value, json};
use support::{Answer, Plane, on_each};
use tollgate_core::directory::Loader;

const ONE: &str = "holder-0000000001";
const TWO: &str = "holder-0000000002";

/// One exchange about one budget, as an Envoy makes it.
async fn exchange(plane: &Plane, token: &str, holder: &str, item: Value) -> Value {
    let body = json!({"holder": holder, "items": [item]});
    let answer = plane
        .as_token(token, Method::POST, "/v1/budgets/exchange", Some(body))
        .await
        .expect(200);
    answer.body["items"][0].clone()
}

async fn spending(plane: &Plane, budget: &str) -> Value {
    let path = format!("/v1/budgets/{budget}/spending");
    plane.get(&path).await.expect(200).body
}

async fn budget(plane: &Plane, change: Value) -> Answer {
    let mut body =
        json!({"id": "b", "scope": {"org": "acme"}, "unit": "tokens", "window": "month", "amount": 1000});
    for (name, value) in change.as_object().unwrap() {
        body[name] = value.clone();
    }
    plane.post("/v1/budgets", body).await
}

#[tokio::test]
async fn a_budget_is_made_changed_and_removed() {
    on_each(async |plane: Plane| {
        plane.org("acme").await;
        let made = budget(&plane, json!({"time_zone": "Europe/Berlin", "thresholds": [50, 100]}))
            .await
            .expect(201);
        assert_eq!(made.body["org"], "acme");
        assert_eq!(made.body["policy"], "refuse");
        let path = "/v1/budgets/b";
        let tag = plane.get(path).await.expect(200).headers["etag"].clone();
        let changed = plane
            .patch(path, json!({"amount": 2000, "policy": {"slow": {"from_percent": 90, "rate": "1/second"}}}))
            .await
            .expect(200);
        assert_eq!(changed.body["amount"], 2000);
        // What is counted stays what it is.
        for fixed in ["unit", "scope", "window", "time_zone", "raise", "reached"] {
            plane
                .patch(path, json!({fixed: "day"}))
                .await
                .expect(422)
                .says("there is no such member");
        }
        let stale = [("if-match", tag.to_str().unwrap())];
        plane
            .with(&plane.owner, Method::PATCH, path, Some(json!({"amount": 1})), &stale)
            .await
            .expect(412);
        // Of a dry run, and of a create that comes again, nothing.
        let dry = plane.patch(&format!("{path}?dry_run=true"), json!({"amount": 3})).await;
        assert_eq!(dry.expect(200).body["changes"][0]["after"]["amount"], 3);
        let again = json!({"id": "c", "scope": {"project": "acme/search"}, "unit": "requests", "window": "hour", "amount": 5});
        for expected in [false, true] {
            let answer = plane
                .with(
                    &plane.owner,
                    Method::POST,
                    "/v1/budgets",
                    Some(again.clone()),
                    &[("idempotency-key", "k")],
                )
                .await
                .expect(201);
            assert_eq!(answer.headers.contains_key("idempotency-replayed"), expected);
        }
        let listed = plane.get("/v1/budgets?org=acme").await.expect(200);
        let ids: Vec<&Value> = listed.body["items"].as_array().unwrap().iter().map(|one| &one["id"]).collect();
        assert_eq!(ids, ["b", "c"]);
        assert_eq!(plane.get(path).await.expect(200).body["amount"], 2000);
        plane.delete(path).await.expect(200);
        plane.get(path).await.expect(404);
        budget(&plane, json!({})).await.expect(409);
        assert_eq!(plane.faults().await, [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn gateways_are_told_whom_budgets_cover() {
    on_each(async |plane: Plane| {
        plane.org("acme").await;
        let before = plane.get("/v1/directory").await.expect(200);
        assert_eq!(before.body.get("budgets"), None);
        budget(&plane, json!({})).await.expect(201);
        let once = json!({"id": "once", "scope": {"label": {"name": "a", "value": "b"}}, "unit": "requests",
            "window": "once", "amount": 1, "begins_at": "2026-12-01T00:00:00Z", "ends_at": "2090-12-31T00:00:00Z"});
        plane.post("/v1/budgets", once).await.expect(201);
        let document = plane.get("/v1/directory").await.expect(200);
        let told = json!({
            "b": {"scope": {"org": "acme"}, "unit": "tokens"},
            "once": {"scope": {"label": {"name": "a", "value": "b"}}, "unit": "requests",
                "begins_at": "2026-12-01T00:00:00Z", "ends_at": "2090-12-31T00:00:00Z"},
        });
        assert_eq!(document.body["budgets"], told);
        let text = document.body.to_string().into_bytes();
        assert_eq!(Loader::load(text).unwrap().budgets().len(), 2);
        let after = |answer: &Answer| format!("/v1/directory?after={}", answer.version());
        let changes = plane.get(&after(&before)).await.expect(200);
        assert_eq!((&changes.body["budgets"], &changes.body["orgs"]), (&told, &json!({})));
        for id in ["b", "once"] {
            let path = format!("/v1/budgets/{id}");
            plane.delete(&path).await.expect(200);
        }
        assert_eq!(plane.get("/v1/directory").await.body.get("budgets"), None);
        let changes = plane.get(&after(&document)).await.expect(200);
        assert_eq!(changes.body["budgets"], json!({}));
    })
    .await;
}

#[tokio::test]
async fn what_a_budget_is_on_has_to_be_there() {
    let plane = Plane::sqlite().await;
    plane.org("acme").await;
    plane.org("globex").await;
    let key = plane.post("/v1/keys", json!({"org": "acme"})).await.text("id");
    for (scope, status) in [
        (json!({"org": "nobody"}), 404),
        (json!({"project": "acme/nothing"}), 404),
        (json!({"key": "nothing"}), 404),
        (json!({"pool": ["acme", "nobody"]}), 404),
        (json!({"pool": ["acme"]}), 422),
        (json!({"pool": ["globex", "acme"]}), 422),
        (json!({"label": {"name": "", "value": "x"}}), 422),
        (json!({"org": "acme", "key": "k"}), 422),
        (json!({}), 422),
        (json!({"key": key}), 201),
    ] {
        let answer = budget(&plane, json!({"scope": scope})).await;
        assert_eq!(answer.status, status, "{scope}: {}", answer.body);
    }
    let pool = json!({"pool": ["acme", "globex"]});
    let shared = budget(&plane, json!({"id": "pool", "scope": pool}))
        .await
        .expect(201);
    assert_eq!(shared.body.get("org"), None);
    plane
        .post(&format!("/v1/keys/{key}/revoke"), json!({}))
        .await
        .expect(200);
    budget(&plane, json!({"id": "late", "scope": {"key": key}}))
        .await
        .expect(409)
        .says("revoked");
    for (change, field) in [
        (json!({"amount": -1}), "amount"),
        (json!({"colour": 1}), "colour"),
    ] {
        budget(&plane, change).await.expect(422).says(field);
    }
}

/// A customer's administrator adds tighter ones, and leaves the platform's as they are.
#[tokio::test]
async fn a_customer_makes_budgets_of_its_own() {
    let plane = Plane::sqlite().await;
    plane.org("acme").await;
    plane.org("globex").await;
    budget(&plane, json!({"id": "whole"})).await.expect(201);
    budget(
        &plane,
        json!({"id": "pool", "scope": {"pool": ["acme", "globex"]}}),
    )
    .await
    .expect(201);
    budget(&plane, json!({"id": "theirs", "scope": {"org": "globex"}}))
        .await
        .expect(201);
    let customer = plane.token("operator", Some(&["acme"])).await;
    let ask = async |method: Method, path: &str, body: Value| {
        plane.as_token(&customer, method, path, Some(body)).await
    };
    let own = json!({"id": "acme:own", "scope": {"project": "acme/search"}, "unit": "tokens", "window": "day", "amount": 9});
    ask(Method::POST, "/v1/budgets", own.clone()).await.expect(201);
    let with = |scope: Value| {
        let mut body = own.clone();
        body["id"] = json!("acme:other");
        body["scope"] = scope;
        body
    };
    for (scope, status) in [
        (json!({"org": "acme"}), 403),
        (json!({"label": {"name": "a", "value": "b"}}), 403),
        (json!({"pool": ["acme", "globex"]}), 403),
        (json!({"project": "globex/search"}), 404),
        (json!({"org": "globex"}), 404),
    ] {
        ask(Method::POST, "/v1/budgets", with(scope)).await.expect(status);
    }
    let listed = plane
        .as_token(&customer, Method::GET, "/v1/budgets", None)
        .await
        .expect(200);
    let ids: Vec<&Value> = listed.body["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["id"])
        .collect();
    assert_eq!(ids, ["acme:own", "whole"]);
    let shown = plane
        .as_token(&customer, Method::GET, "/v1/budgets/whole/spending", None)
        .await
        .expect(200);
    assert_eq!(
        (&shown.body["left"], shown.body.get("slices")),
        (&json!(1000), None)
    );
    for (id, status) in [
        ("acme:own", 200),
        ("whole", 403),
        ("pool", 404),
        ("theirs", 404),
        ("nothing", 404),
    ] {
        let path = format!("/v1/budgets/{id}");
        ask(Method::PATCH, &path, json!({"amount": 10}))
            .await
            .expect(status);
        let raise = json!({"by": 5, "for": "1h", "reason": "x"});
        ask(Method::POST, &format!("{path}/raise"), raise)
            .await
            .expect(status);
        ask(Method::POST, &format!("{path}/raise/end"), json!({}))
            .await
            .expect(status);
        let seen = if status == 403 { 200 } else { status };
        for path in [path.clone(), format!("{path}/spending")] {
            plane
                .as_token(&customer, Method::GET, &path, None)
                .await
                .expect(seen);
        }
        ask(Method::DELETE, &path, json!({})).await.expect(status);
    }
    assert_eq!(plane.faults().await, [""; 0]);
}

#[tokio::test]
async fn slices_are_given_spent_and_given_back_to_the_unit() {
    on_each(async |plane: Plane| {
        plane.org("acme").await;
        budget(&plane, json!({})).await.expect(201);
        let gateway = plane.token("gateway", None).await;
        let ask = async |holder: &str, item: Value| exchange(&plane, &gateway, holder, item).await;
        // A twentieth of it, and what a request waits for.
        let first = ask(ONE, json!({"budget": "b", "want": 50})).await;
        assert_eq!(
            (&first["granted"], &first["amount"]),
            (&json!(50), &json!(1000)),
            "{first}"
        );
        let window = first["window"].clone();
        let item = |members: Value| {
            let mut item = json!({"budget": "b", "window": window});
            for (name, value) in members.as_object().unwrap() {
                item[name] = value.clone();
            }
            item
        };
        let second = ask(TWO, item(json!({"need": 950}))).await;
        assert_eq!(second["granted"], 950);
        // Nothing is left, however often it is asked for, and whoever asks.
        for _ in 0..3 {
            assert_eq!(
                ask(ONE, item(json!({"granted": 50, "want": 60, "need": 60}))).await["granted"],
                50
            );
        }
        let spent = ask(ONE, item(json!({"granted": 50, "spent": 50, "need": 1}))).await;
        assert_eq!((&spent["granted"], &spent["spent"]), (&json!(50), &json!(50)));
        let shown = spending(&plane, "b").await;
        let of = |shown: &Value| ["spent", "escrowed", "left"].map(|name| shown[name].as_u64().unwrap());
        assert_eq!(of(&shown), [50, 950, 0], "{shown}");
        // The second gives back 900 and has spent 10; an older message of it comes late.
        ask(TWO, item(json!({"granted": 950, "returned": 900, "spent": 10}))).await;
        ask(TWO, item(json!({"granted": 950, "returned": 0, "spent": 0}))).await;
        assert_eq!(of(&spending(&plane, "b").await), [60, 40, 900]);
        // It died with 15 spent, as its records say. That is final, also when it comes again.
        for _ in 0..2 {
            ask(TWO, item(json!({"spent": 15, "done": true}))).await;
            assert_eq!(of(&spending(&plane, "b").await), [65, 0, 935]);
        }
        let slices = spending(&plane, "b").await["slices"].clone();
        let states: Vec<&Value> = slices
            .as_array()
            .unwrap()
            .iter()
            .map(|slice| &slice["state"])
            .collect();
        assert!(
            states.contains(&&json!("open")) && states.contains(&&json!("done")),
            "{slices}"
        );
        // What is spent of one that was removed is counted, and nothing is given of it.
        plane.delete("/v1/budgets/b").await.expect(200);
        let late = ask(
            ONE,
            item(json!({"granted": 50, "spent": 70, "want": 50, "need": 50})),
        )
        .await;
        assert_eq!(
            (&late["granted"], &late["spent"]),
            (&json!(50), &json!(85)),
            "{late}"
        );
        assert_eq!(plane.faults().await, [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn what_an_envoy_says_wrongly_is_said_of_that_item_alone() {
    let plane = Plane::sqlite().await;
    plane.org("acme").await;
    budget(&plane, json!({})).await.expect(201);
    let once = json!({"id": "over", "window": "once", "begins_at": "2090-01-01T00:00:00Z"});
    budget(&plane, once).await.expect(201);
    let gateway = plane.token("gateway", None).await;
    let send = async |body: Value| {
        plane
            .as_token(&gateway, Method::POST, "/v1/budgets/exchange", Some(body))
            .await
    };
    let items = json!([
        {"budget": "nothing", "spent": 1},
        {"budget": "b", "want": 5},
        {"budget": "b", "want": 5},
        {"budget": "b", "window": 12345, "spent": 1},
        {"budget": "b", "window": 9_000_000_000_000_i64},
        {"budget": "over", "want": 1},
    ]);
    let answer = send(json!({"holder": ONE, "items": items})).await.expect(200);
    let problems: Vec<Option<&str>> = answer.body["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["problem"].as_str())
        .collect();
    assert_eq!(
        problems,
        [
            Some("there is no such budget"),
            None,
            Some("the same window stands in the message twice"),
            Some("no window of the budget begins then"),
            Some("the window is still to come"),
            Some("the budget has no window then"),
        ]
    );
    assert_eq!(answer.body["items"][1]["granted"], 5);
    // A token in the place of a name is not repeated, nor an endless one.
    for name in [&*gateway, &*format!("x{gateway}"), &*"x".repeat(100_000)] {
        let items = json!([{"budget": name, "spent": 1}]);
        let answer = send(json!({"holder": ONE, "items": items})).await.expect(200);
        let told = answer.body.to_string();
        assert!(told.contains("no such budget") && told.len() < 500, "{told}");
        assert!(!told.contains(&gateway[30..]), "{told}");
    }
    let huge = json!([{"budget": "b", "spent": 9_007_199_254_740_993_u64}]);
    let answer = send(json!({"holder": ONE, "items": huge})).await.expect(200);
    assert!(
        answer.body["items"][0]["problem"]
            .as_str()
            .unwrap()
            .contains("2^53")
    );
    assert_eq!(spending(&plane, "b").await["spent"], 0);
    for at in [
        "9999-12-31T23:59:59Z",
        "0000-01-01T00:00:00Z",
        "now",
        "2026-11-30",
    ] {
        let path = format!("/v1/budgets/b/spending?at={at}");
        let status = plane.get(&path).await.status;
        assert!(status == 422 || status == 200, "{at}: {status}");
    }
    for (holder, items) in [("short", json!([])), ("no spaces in here", json!([]))] {
        send(json!({"holder": holder, "items": items})).await.expect(422);
    }
    let many: Vec<Value> = (0..201).map(|_| json!({"budget": "b"})).collect();
    send(json!({"holder": ONE, "items": many})).await.expect(422);
    send(json!({"holder": ONE, "items": [{"budget": "b", "spent": -1}]}))
        .await
        .expect(422);
    for role in ["viewer", "support"] {
        let token = plane.token(role, None).await;
        let body = json!({"holder": ONE, "items": []});
        plane
            .as_token(&token, Method::POST, "/v1/budgets/exchange", Some(body))
            .await
            .expect(403);
    }
}

/// Two servers on one PostgreSQL, eight Envoys that report at once, some messages twice: not a unit too many, nor lost.
#[tokio::test]
async fn two_servers_give_no_unit_twice() {
    let address = support::postgres::database();
    let first = Plane::open(&address, None).await;
    let second = tollgate_control::Store::open(&address).await.unwrap();
    let second = tollgate_control::api::router(tollgate_control::api::App::new(second.into(), None));
    first.org("acme").await;
    budget(&first, json!({"amount": 2000})).await.expect(201);
    budget(&first, json!({"id": "a", "amount": 500}))
        .await
        .expect(201);
    let gateway = first.token("gateway", None).await;
    let mut envoys = Vec::new();
    for at in 0..8 {
        let router = if at % 2 == 0 {
            first.router.clone()
        } else {
            second.clone()
        };
        envoys.push(tokio::spawn(spend(
            router,
            gateway.clone(),
            format!("envoy-{at:0>16}"),
        )));
    }
    let mut spent = [0, 0];
    for envoy in envoys {
        let by = envoy.await.unwrap();
        spent = [spent[0] + by[0], spent[1] + by[1]];
    }
    assert_eq!(spent, [2000, 500], "all of both, and nothing beyond");
    for (id, spent) in [("b", 2000), ("a", 500)] {
        let shown = spending(&first, id).await;
        assert_eq!(
            (&shown["spent"], &shown["escrowed"], &shown["left"]),
            (&json!(spent), &json!(0), &json!(0)),
            "{shown}"
        );
    }
    assert_eq!(first.faults().await, [""; 0]);
}

/// One Envoy, which spends all that it is given until there is nothing; what it spent of each budget.
async fn spend(router: axum::Router, token: String, holder: String) -> [u64; 2] {
    use tower::ServiceExt as _;
    let mut slices = [tollgate_budgets::Slice::default(); 2];
    // In another order than the other server's, so that one would wait for the other if windows were not ordered.
    let mut ids = ["b", "a"];
    let mut idle = 0;
    while idle < 20 {
        idle += 1;
        let items: Vec<Value> = ids
            .iter()
            .zip(&slices)
            .map(|(id, slice)| {
                let mut item = json!(slice.report(16, 7));
                item["budget"] = json!(id);
                // The last units are fewer than seven.
                if idle > 10 {
                    item["need"] = json!(1);
                }
                item
            })
            .collect();
        let body = json!({"holder": holder, "items": items}).to_string();
        // A message in three comes twice, and of two answers the first is lost.
        for _ in 0..1 + idle % 3 / 2 {
            let request = axum::http::Request::post("/v1/budgets/exchange")
                .header("authorization", format!("Bearer {token}"))
                .body(axum::body::Body::from(body.clone()))
                .unwrap();
            let response = router.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), 200);
            let bytes = axum::body::to_bytes(response.into_body(), usize::MAX)
                .await
                .unwrap();
            let answer: Value = serde_json::from_slice(&bytes).unwrap();
            for (item, slice) in answer["items"].as_array().unwrap().iter().zip(&mut slices) {
                assert_eq!(item.get("problem"), None, "{item}");
                let mut plain = item.clone();
                plain
                    .as_object_mut()
                    .unwrap()
                    .retain(|name, _| ["granted", "keep", "amount", "spent"].contains(&name.as_str()));
                slice.take(&serde_json::from_value(plain).unwrap());
            }
        }
        for slice in &mut slices {
            let available = slice.available();
            if available > 0 {
                slice.reserve(available).unwrap();
                slice.settle(available, available);
                idle = 0;
            }
        }
        ids.reverse();
        slices.reverse();
    }
    if ids[0] == "a" {
        slices.reverse();
    }
    slices.map(|slice| slice.spent())
}

/// Who is silent for too long is written off, and is as before once it is heard again.
#[tokio::test]
async fn the_slice_of_a_lost_envoy_is_given_to_others_where_that_is_said() {
    on_each(async |plane: Plane| {
        plane.org("acme").await;
        budget(&plane, json!({})).await.expect(201);
        let gateway = plane.token("gateway", None).await;
        let ask = async |holder: &str, item: Value| exchange(&plane, &gateway, holder, item).await;
        ask(ONE, json!({"budget": "b", "need": 900})).await;
        let pool = sqlx::AnyPool::connect(&plane.address).await.unwrap();
        let run = async |statement: &'static str| {
            sqlx::query(statement).execute(&pool).await.unwrap();
        };
        // An hour passes for this one; and for all, as if the servers had been down.
        let silent =
            "UPDATE budget_slices SET heard_at = heard_at - 3600000 WHERE holder = 'holder-0000000001'";
        let all_silent =
            "UPDATE budget_windows SET heard_at = heard_at - 3600000, awake_since = awake_since - 3600000";
        let awake = "UPDATE budget_windows SET awake_since = awake_since - 3600000";
        run(silent).await;
        run(awake).await;
        // Without a word of that, it is kept for it.
        assert_eq!(ask(TWO, json!({"budget": "b", "need": 101})).await["granted"], 0);
        plane
            .patch("/v1/budgets/b", json!({"lost_after": "10m"}))
            .await
            .expect(200);
        let asks = json!({"budget": "b", "need": 101});
        run(silent).await;
        run(all_silent).await;
        assert_eq!(ask(TWO, asks.clone()).await["granted"], 0);
        run(awake).await;
        assert_eq!(
            ask(TWO, json!({"budget": "b", "need": 101})).await["granted"],
            101
        );
        let shown = spending(&plane, "b").await;
        assert_eq!(
            (&shown["escrowed"], &shown["left"]),
            (&json!(101), &json!(899)),
            "{shown}"
        );
        let again = ask(ONE, json!({"budget": "b", "granted": 900, "spent": 5})).await;
        assert_eq!((&again["granted"], &again["spent"]), (&json!(900), &json!(5)));
        let shown = spending(&plane, "b").await;
        assert_eq!(
            (&shown["escrowed"], &shown["left"]),
            (&json!(996), &json!(0)),
            "{shown}"
        );
    })
    .await;
}

/// Names that a customer gives are its own, so that nobody learns by one which others there are, or were.
#[tokio::test]
async fn a_customer_learns_nothing_of_others_by_a_name() {
    on_each(async |plane: Plane| {
        plane.org("acme").await;
        plane.org("globex").await;
        budget(&plane, json!({"id": "theirs", "scope": {"org": "globex"}}))
            .await
            .expect(201);
        for org in ["acme", "globex"] {
            let customer = plane.token("operator", Some(&[org])).await;
            let make = async |id: &str, query: &str| {
                let scope = json!({"project": format!("{org}/search")});
                let body = json!({"id": id, "scope": scope, "unit": "tokens", "window": "day", "amount": 9});
                let path = format!("/v1/budgets{query}");
                plane.as_token(&customer, Method::POST, &path, Some(body)).await
            };
            let own = format!("{org}:monthly");
            make(&own, "").await.expect(201);
            make(&own, "").await.expect(409);
            let path = format!("/v1/budgets/{own}");
            plane
                .as_token(&customer, Method::DELETE, &path, None)
                .await
                .expect(200);
            make(&own, "").await.expect(409);
            // Whether there is one of that name, was one, or never: the same is said.
            for query in ["", "?dry_run=true"] {
                let said = async |id: &str| {
                    make(id, query)
                        .await
                        .expect(422)
                        .body
                        .to_string()
                        .replace(id, "it")
                };
                let never = said("never").await;
                assert!(never.contains(&format!("`{org}:` and a name")), "{never}");
                for id in ["theirs", "monthly", "initech:monthly"] {
                    assert_eq!(said(id).await, never);
                }
                let others = if org == "acme" {
                    "globex:monthly"
                } else {
                    "acme:monthly"
                };
                assert_eq!(said(others).await, never);
            }
        }
        // The platform makes both, each where it belongs.
        budget(&plane, json!({"id": "acme:whole"})).await.expect(201);
        let pool = json!({"pool": ["acme", "globex"]});
        for wrong in [
            json!({"id": "globex:whole"}),
            json!({"id": "acme:pool", "scope": pool}),
        ] {
            budget(&plane, wrong)
                .await
                .expect(422)
                .says("the organization that its scope is in");
        }
        assert_eq!(plane.faults().await, [""; 0]);
    })
    .await;
}

/// To a budget a key and those that it is rotated to are one, whichever of them it was made for.
#[tokio::test]
async fn a_budget_of_a_key_follows_its_rotations() {
    on_each(async |plane: Plane| {
        plane.org("acme").await;
        let customer = plane.token("operator", Some(&["acme"])).await;
        let first = plane.post("/v1/keys", json!({"org": "acme"})).await;
        assert_eq!(first.body.get("rotation_root"), None);
        let mut key = first.text("id");
        let root = key.clone();
        for overlap in ["0s", "1h"] {
            let path = format!("/v1/keys/{key}/rotate");
            let body = json!({"overlap": overlap});
            let new = plane
                .as_token(&customer, Method::POST, &path, Some(body))
                .await
                .expect(201);
            assert_eq!(new.text("rotation_root"), root);
            assert_eq!(new.text("rotated_from"), key);
            key = new.text("id");
            let made = budget(
                &plane,
                json!({"id": format!("b{overlap}"), "scope": {"key": key}}),
            )
            .await
            .expect(201);
            assert_eq!(made.body["scope"], json!({"key": root}));
        }
        // Where that comes to nothing, the next is of the same line.
        let path = format!("/v1/keys/{key}");
        let other = plane
            .post(&format!("{path}/rotate"), json!({}))
            .await
            .expect(201)
            .text("id");
        plane
            .post(&format!("{path}/undo-rotation"), json!({}))
            .await
            .expect(200);
        let again = plane.post(&format!("{path}/rotate"), json!({})).await.expect(201);
        assert_ne!(again.text("id"), other);
        assert_eq!(again.text("rotation_root"), root);
        // Gateways are told.
        let directory = plane.get("/v1/directory").await.expect(200).body;
        let rows = directory["keys"].as_array().unwrap().iter();
        let lines: BTreeMap<_, _> = rows
            .map(|row| (row["id"].as_str().unwrap(), &row["rotation_root"]))
            .collect();
        assert_eq!(lines[&*again.text("id")], &json!(root));
        assert_eq!(plane.faults().await, [""; 0]);
    })
    .await;
}

/// Who rotates a key that has ended has not all those read that came after it: there may be thousands.
#[tokio::test]
async fn a_key_that_has_ended_is_not_rotated() {
    let plane = Plane::sqlite().await;
    plane.org("acme").await;
    let key = plane.post("/v1/keys", json!({"org": "acme"})).await.text("id");
    let rotate = format!("/v1/keys/{key}/rotate");
    plane.post(&rotate, json!({})).await.expect(201);
    plane.post(&rotate, json!({})).await.expect(200);
    let ended = json!({"expires_at": "2020-01-01T00:00:00Z"});
    plane.patch(&format!("/v1/keys/{key}"), ended).await.expect(200);
    plane
        .post(&rotate, json!({}))
        .await
        .expect(409)
        .says("has expired");
}

fn sums(shown: &Value) -> [u64; 3] {
    ["spent", "escrowed", "left"].map(|name| shown[name].as_u64().unwrap())
}

/// A gateway's token that somebody stole says what it likes, by as many holders as it likes.
#[tokio::test]
async fn a_stolen_token_is_believed_the_amount_once_and_struck_out() {
    on_each(async |plane: Plane| {
        plane.org("acme").await;
        budget(&plane, json!({"thresholds": [50]})).await.expect(201);
        let honest = plane.token("gateway", None).await;
        let made = plane
            .post("/v1/tokens", json!({"role": "gateway"}))
            .await
            .expect(201);
        let (stolen, id) = (made.text("secret"), made.text("id"));
        exchange(&plane, &honest, ONE, json!({"budget": "b", "want": 40})).await;
        exchange(
            &plane,
            &honest,
            ONE,
            json!({"budget": "b", "granted": 40, "spent": 30}),
        )
        .await;
        let lie = json!({"budget": "b", "granted": 1_u64 << 53, "spent": 1_u64 << 53});
        for holder in ["liar-00000000001", "liar-00000000002"] {
            for _ in 0..2 {
                let said = exchange(&plane, &stolen, holder, lie.clone()).await;
                assert_eq!(said["spent"], 1030, "{said}");
            }
        }
        // It is no other's word: not by the name of one that speaks by another token.
        let said = exchange(
            &plane,
            &stolen,
            ONE,
            json!({"budget": "b", "spent": 40, "done": true}),
        )
        .await;
        assert!(
            said["problem"].as_str().unwrap().contains("another token's"),
            "{said}"
        );
        let shown = spending(&plane, "b").await;
        assert_eq!(sums(&shown), [1030, 10, 0], "{shown}");
        let of_id = |slice: &&Value| slice["token"] == json!(id);
        assert_eq!(
            shown["slices"].as_array().unwrap().iter().filter(of_id).count(),
            2,
            "{shown}"
        );

        plane
            .post(&format!("/v1/tokens/{id}/revoke"), json!({}))
            .await
            .expect(200);
        let path = "/v1/budgets/b/strike";
        let dry = plane
            .post(&format!("{path}?dry_run=true"), json!({"token": id}))
            .await;
        assert_eq!(
            dry.expect(200).body["changes"][0]["after"]["struck"]["spent"],
            1000
        );
        assert_eq!(sums(&spending(&plane, "b").await), [1030, 10, 0]);
        let struck = plane.post(path, json!({"token": id})).await.expect(200).body;
        assert_eq!(
            (
                &struck["struck"]["slices"],
                &struck["struck"]["spent"],
                &struck["struck"]["escrowed"]
            ),
            (&json!(2), &json!(1000), &json!(0)),
            "{struck}"
        );
        let shown = spending(&plane, "b").await;
        assert_eq!(sums(&shown), [30, 10, 960], "{shown}");
        let states = shown["slices"].as_array().unwrap().iter();
        assert_eq!(
            states.filter(|slice| slice["state"] == "struck").count(),
            2,
            "{shown}"
        );
        // There is nothing more of it, and what is honest goes on.
        plane.post(path, json!({"token": id})).await.expect(404);
        let said = exchange(
            &plane,
            &honest,
            ONE,
            json!({"budget": "b", "granted": 40, "spent": 40, "need": 500}),
        )
        .await;
        assert_eq!(
            (&said["granted"], &said["spent"]),
            (&json!(540), &json!(40)),
            "{said}"
        );

        // One holder by its name: nothing of it counts, and nothing more is taken of it or granted.
        let struck = plane.post(path, json!({"holder": ONE})).await.expect(200).body;
        assert_eq!(struck["struck"]["escrowed"], 500, "{struck}");
        assert_eq!(sums(&spending(&plane, "b").await), [0, 0, 1000]);
        let said = exchange(
            &plane,
            &honest,
            ONE,
            json!({"budget": "b", "spent": 99, "need": 5}),
        )
        .await;
        assert!(said["problem"].as_str().unwrap().contains("struck out"), "{said}");
        assert_eq!(sums(&spending(&plane, "b").await), [0, 0, 1000]);
        for wrong in [
            json!({}),
            json!({"holder": TWO, "token": id}),
            json!({"budget": "b"}),
        ] {
            plane.post(path, wrong).await.expect(422);
        }
        let customer = plane.token("operator", Some(&["acme"])).await;
        plane
            .as_token(&customer, Method::POST, path, Some(json!({"holder": TWO})))
            .await
            .expect(403);
        let seen = plane
            .as_token(&customer, Method::GET, "/v1/budgets/b", None)
            .await
            .expect(200);
        assert_eq!(seen.body["struck"]["whose"], "platform", "{}", seen.body);
        assert_eq!(plane.faults().await, [""; 0]);
    })
    .await;
}

/// A gateway whose token was replaced speaks for the holders that it had by the one before.
#[tokio::test]
async fn a_holder_goes_over_to_another_token_once_its_own_is_revoked() {
    let plane = Plane::sqlite().await;
    plane.org("acme").await;
    budget(&plane, json!({})).await.expect(201);
    let made = plane
        .post("/v1/tokens", json!({"role": "gateway"}))
        .await
        .expect(201);
    let (old, new) = (made.text("secret"), plane.token("gateway", None).await);
    exchange(&plane, &old, ONE, json!({"budget": "b", "need": 40})).await;
    let last = json!({"budget": "b", "spent": 25, "done": true});
    let refused = exchange(&plane, &new, ONE, last.clone()).await;
    assert!(
        refused["problem"]
            .as_str()
            .unwrap()
            .contains("until that is revoked"),
        "{refused}"
    );
    assert_eq!(sums(&spending(&plane, "b").await), [0, 40, 960]);
    plane
        .post(&format!("/v1/tokens/{}/revoke", made.text("id")), json!({}))
        .await
        .expect(200);
    exchange(&plane, &new, ONE, last).await;
    assert_eq!(sums(&spending(&plane, "b").await), [25, 0, 975]);
}

/// From before the budget was made there is no window; of the last one, and of this, somebody is told.
#[tokio::test]
async fn windows_begin_with_the_budget_and_old_ones_tell_nobody() {
    const HOUR: i64 = 3_600_000;
    on_each(async |plane: Plane| {
        plane.org("acme").await;
        let change = json!({"window": "hour", "amount": 10, "thresholds": [50]});
        budget(&plane, change).await.expect(201);
        let gateway = plane.token("gateway", None).await;
        let ask = async |holder: &str, item: Value| exchange(&plane, &gateway, holder, item).await;
        let now = ask(ONE, json!({"budget": "b"})).await["window"].as_i64().unwrap();
        let spent = |hours: i64| json!({"budget": "b", "window": now - hours * HOUR, "spent": 10});
        let refused = ask(ONE, spent(1)).await;
        assert!(
            refused["problem"]
                .as_str()
                .unwrap()
                .contains("before the budget was made"),
            "{refused}"
        );
        // As if it had been made long ago.
        let pool = sqlx::AnyPool::connect(&plane.address).await.unwrap();
        let row = sqlx::query("SELECT document FROM objects WHERE kind = 'budget'")
            .fetch_one(&pool)
            .await
            .unwrap();
        let mut document: Value = serde_json::from_str(&sqlx::Row::get::<String, _>(&row, 0)).unwrap();
        document["created_at"] = json!("2020-01-01T00:00:00Z");
        sqlx::query("UPDATE objects SET document = $1 WHERE kind = 'budget'")
            .bind(document.to_string())
            .execute(&pool)
            .await
            .unwrap();
        let reached = async || -> i64 {
            let row = sqlx::query("SELECT COUNT(*) FROM budget_windows WHERE reached > 0")
                .fetch_one(&pool)
                .await
                .unwrap();
            sqlx::Row::get(&row, 0)
        };
        for hours in 2..20 {
            assert_eq!(ask(TWO, spent(hours)).await["spent"], 10);
        }
        let told_of_old = reached().await;
        for hours in [1, 0] {
            assert_eq!(ask(TWO, spent(hours)).await["spent"], 10);
        }
        let told = [told_of_old, reached().await];
        // Unless an hour began meanwhile.
        if ask(ONE, json!({"budget": "b"})).await["window"] == now {
            assert_eq!(told, [0, 2]);
        }
        // Who was never heard in a window that is long over has spent nothing in it.
        let late = ask(TWO, spent(30)).await;
        assert!(
            late["problem"].as_str().unwrap().contains("never heard in it"),
            "{late}"
        );
        let row = sqlx::query("SELECT COUNT(*) FROM budget_windows")
            .fetch_one(&pool)
            .await
            .unwrap();
        let kept: i64 = sqlx::Row::get(&row, 0);
        assert!((20..=21).contains(&kept), "{kept}");
    })
    .await;
}

/// A token has so many holders in a window.
#[tokio::test]
async fn a_token_has_so_many_holders_at_most() {
    on_each(async |plane: Plane| {
        plane.org("acme").await;
        budget(&plane, json!({})).await.expect(201);
        let (gateway, other) = (plane.token("gateway", None).await, plane.token("gateway", None).await);
        exchange(&plane, &gateway, ONE, json!({"budget": "b"})).await;
        let pool = sqlx::AnyPool::connect(&plane.address).await.unwrap();
        let many = |from: i64, until: i64, state: i64| {
            format!(
                "WITH RECURSIVE n(i) AS (SELECT {from} UNION ALL SELECT i + 1 FROM n WHERE i < {until}) \
                 INSERT INTO budget_slices (budget, starts_at, holder, granted, returned, spent, state, heard_at, token) \
                 SELECT budget, starts_at, 'made-' || i, 0, 0, 0, {state}, heard_at, token FROM n, budget_slices \
                 WHERE holder = 'holder-0000000001'"
            )
        };
        let run = async |statement: String| {
            sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&pool).await.unwrap();
        };
        run(many(2, 999, 0)).await;
        assert_eq!(exchange(&plane, &gateway, TWO, json!({"budget": "b"})).await.get("problem"), None);
        let full = exchange(&plane, &gateway, "holder-0000000003", json!({"budget": "b"})).await;
        assert!(full["problem"].as_str().unwrap().contains("as many holders"), "{full}");
        // Those that are over count otherwise; who is known, and who speaks by another token, goes on.
        run("UPDATE budget_slices SET state = 2 WHERE holder LIKE 'made-%'".to_owned()).await;
        let fits = exchange(&plane, &gateway, "holder-0000000003", json!({"budget": "b"})).await;
        assert_eq!(fits.get("problem"), None, "{fits}");
        run(many(1_000, 9_999, 2)).await;
        let full = exchange(&plane, &gateway, "holder-0000000004", json!({"budget": "b"})).await;
        assert!(full["problem"].as_str().unwrap().contains("as many holders"), "{full}");
        for (token, holder) in [(&gateway, TWO), (&other, "holder-0000000004")] {
            let fits = exchange(&plane, token, holder, json!({"budget": "b"})).await;
            assert_eq!(fits.get("problem"), None, "{fits}");
        }
    })
    .await;
}

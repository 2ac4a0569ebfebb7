//! Budgets: who may make which, what is spent of them to the unit, raises and thresholds.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails by panicking"
)]

mod support;

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
    let own = json!({"id": "own", "scope": {"project": "acme/search"}, "unit": "tokens", "window": "day", "amount": 9});
    ask(Method::POST, "/v1/budgets", own.clone()).await.expect(201);
    let with = |scope: Value| {
        let mut body = own.clone();
        body["id"] = json!("other");
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
    assert_eq!(ids, ["own", "whole"]);
    let shown = plane
        .as_token(&customer, Method::GET, "/v1/budgets/whole/spending", None)
        .await
        .expect(200);
    assert_eq!(
        (&shown.body["left"], shown.body.get("slices")),
        (&json!(1000), None)
    );
    for (id, status) in [
        ("own", 200),
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

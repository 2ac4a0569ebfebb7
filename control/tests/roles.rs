//! Each cell of the table role × action in docs/operating.md, by asking.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails by panicking"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use axum::http::Method;
use serde_json::{Value, json};
use support::{Plane, on_each};

/// The table's rows: what is done, and a request that does it.
const ACTIONS: &[(&str, &str)] = &[
    (
        "read organizations, projects, keys, budgets, freezes, caps and restrictions",
        "GET /v1/keys",
    ),
    (
        "read organizations, projects, keys, budgets, freezes, caps and restrictions",
        "spending",
    ),
    (
        "read its organizations' part of the trail",
        "GET /v1/audit?org=acme",
    ),
    (
        "read the trail of tokens, restrictions and what else is of no organization",
        "whole trail",
    ),
    ("freeze a key or project", "freeze key"),
    ("freeze an organization", "freeze org"),
    ("end a freeze", "end"),
    ("cap a key", "cap key"),
    ("cap an organization", "cap org"),
    ("end a cap", "end cap"),
    ("drain a target, shed a model, end that", "drain"),
    ("drain a target, shed a model, end that", "shed"),
    ("drain a target, shed a model, end that", "end drain"),
    (
        "create, change and remove projects",
        "POST /v1/orgs/acme/projects",
    ),
    ("create, change and remove projects", "change project"),
    ("create, change and remove projects", "remove project"),
    ("create, change and rotate keys", "POST /v1/keys"),
    ("create, change and rotate keys", "change key"),
    ("create, change and rotate keys", "rotate"),
    ("create, change and rotate keys", "undo rotation"),
    ("revoke keys", "revoke"),
    ("change the limits of keys", "limit key"),
    (BUDGETS, "create budget"),
    (BUDGETS, "change budget"),
    (BUDGETS, "raise budget"),
    (BUDGETS, "remove budget"),
    (SHARED_BUDGETS, "create org budget"),
    (SHARED_BUDGETS, "create label budget"),
    (SHARED_BUDGETS, "create pool budget"),
    (SHARED_BUDGETS, "change org budget"),
    (SHARED_BUDGETS, "raise org budget"),
    (SHARED_BUDGETS, "remove org budget"),
    ("strike holders of slices out of budgets", "strike out of budget"),
    ("create and remove organizations", "POST /v1/orgs"),
    ("create and remove organizations", "remove org"),
    ("change organizations", "PATCH /v1/orgs/acme"),
    ("import keys", "POST /v1/import"),
    ("verify the trail, sign checkpoints", "POST /v1/audit/verify"),
    ("verify the trail, sign checkpoints", "POST /v1/audit/checkpoint"),
    ("list, create and revoke tokens", "POST /v1/tokens"),
    ("list, create and revoke tokens", "GET /v1/tokens"),
    ("list, create and revoke tokens", "revoke token"),
    (
        "fetch the directory, exchange slices of budgets",
        "GET /v1/directory",
    ),
    ("fetch the directory, exchange slices of budgets", "exchange"),
    ("see the gateways", "GET /v1/gateways"),
    ("keep limits together with gateways", "POST /v1/fleet"),
];

const BUDGETS: &str = "create, change, raise and remove budgets of projects and keys";
const SHARED_BUDGETS: &str = "create, change, raise and remove all other budgets";

/// The table's columns.
const ROLES: [&str; 8] = [
    "gateway",
    "viewer",
    "support",
    "operator",
    "owner",
    "viewer of acme",
    "operator of acme",
    "owner of acme",
];

#[tokio::test]
async fn the_table_is_true() {
    let plane = Plane::sqlite().await;
    plane.org("acme").await;
    plane.org("globex").await;
    let table = table();
    let mut wrong = Vec::new();
    for role in ROLES {
        let (name, orgs) = role
            .split_once(" of ")
            .map_or((role, None), |(name, org)| (name, Some([org])));
        let token = plane.token(name, orgs.as_ref().map(<[&str; 1]>::as_slice)).await;
        for &(action, request) in ACTIONS {
            let status = ask(&plane, &token, request).await;
            let may = match status {
                200 | 201 => true,
                403 => false,
                // What is the platform's is nothing to those who are confined.
                404 if request == "end drain" => false,
                other => panic!("{role}, {action}: {other}"),
            };
            if table[action][role] != may {
                wrong.push(format!("{role}, {action}: answered {status}"));
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
}

/// A status; what is acted on is made anew each time.
async fn ask(plane: &Plane, token: &str, request: &str) -> u16 {
    use core::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("n{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let key = async || {
        plane
            .post("/v1/keys", json!({"org": "acme", "project": "search"}))
            .await
            .text("id")
    };
    let freeze = |target: Value| json!({"target": target, "reason": "x"});
    let cap = |target: Value| json!({"target": target, "rate": "1/second", "reason": "x"});
    if request == "whole trail" {
        let answer = plane
            .as_token(token, Method::GET, "/v1/audit?limit=1000", None)
            .await;
        // The entry about the very token, with its role and SHA-256, is of no organization.
        let is_whole = answer.body.to_string().contains("token.create");
        let items = answer.body["items"].as_array();
        let of_none = |items: &Vec<Value>| items.iter().any(|entry| entry["org"] == "");
        assert_eq!(items.is_some_and(of_none), is_whole);
        return if is_whole { 200 } else { 403 };
    }
    let (method, path, body) = match request {
        "freeze key" => (
            Method::POST,
            "/v1/freezes".to_owned(),
            freeze(json!({"key": key().await})),
        ),
        "cap key" => (
            Method::POST,
            "/v1/caps".to_owned(),
            cap(json!({"key": key().await})),
        ),
        "limit key" => (
            Method::PATCH,
            format!("/v1/keys/{}", key().await),
            json!({"limits": {"key-rpm": {"rate": "9000/minute"}}}),
        ),
        "change key" => (
            Method::PATCH,
            format!("/v1/keys/{}", key().await),
            json!({"name": name}),
        ),
        "rotate" => (
            Method::POST,
            format!("/v1/keys/{}/rotate", key().await),
            json!({}),
        ),
        "undo rotation" => {
            let key = key().await;
            plane
                .post(&format!("/v1/keys/{key}/rotate"), json!({}))
                .await
                .expect(201);
            (Method::POST, format!("/v1/keys/{key}/undo-rotation"), json!({}))
        }
        "change project" | "remove project" => {
            plane
                .post("/v1/orgs/acme/projects", json!({"id": name}))
                .await
                .expect(201);
            let path = format!("/v1/orgs/acme/projects/{name}");
            match request {
                "remove project" => (Method::DELETE, path, Value::Null),
                _ => (Method::PATCH, path, json!({"labels": {"a": "b"}})),
            }
        }
        "revoke token" => {
            let made = plane.post("/v1/tokens", json!({"role": "viewer"})).await;
            (
                Method::POST,
                format!("/v1/tokens/{}/revoke", made.text("id")),
                json!({}),
            )
        }
        "exchange" => (
            Method::POST,
            "/v1/budgets/exchange".to_owned(),
            json!({"holder": "holder-0000000001", "items": []}),
        ),
        budget if budget.ends_with("budget") || budget == "spending" => {
            budget_request(plane, token, budget, &name).await
        }
        "drain" => (
            Method::POST,
            "/v1/restrictions".to_owned(),
            freeze(json!({"cluster": name})),
        ),
        "shed" => (
            Method::POST,
            "/v1/restrictions".to_owned(),
            freeze(json!({"models": {"tier": name}})),
        ),
        "end drain" => {
            let drain = freeze(json!({"cluster": name}));
            let begun = plane.post("/v1/restrictions", drain).await;
            let path = format!("/v1/restrictions/{}/end", begun.text("id"));
            (Method::POST, path, json!({}))
        }
        "freeze org" | "cap org" | "remove org" => {
            let body = json!({"id": name, "models": ["*"]});
            plane.post("/v1/orgs", body).await.expect(201);
            // A confined token sees no other.
            let org = if plane
                .as_token(token, Method::GET, "/v1/orgs/globex", None)
                .await
                .status
                == 404
            {
                "acme"
            } else {
                &name
            };
            let target = json!({"org": org});
            match request {
                "remove org" => (Method::DELETE, format!("/v1/orgs/{org}"), Value::Null),
                "cap org" => (Method::POST, "/v1/caps".to_owned(), cap(target)),
                _ => (Method::POST, "/v1/freezes".to_owned(), freeze(target)),
            }
        }
        "end" | "end cap" => {
            let target = json!({"key": key().await});
            let (path, body) = match request {
                "end cap" => ("/v1/caps", cap(target)),
                _ => ("/v1/freezes", freeze(target)),
            };
            // One that the token itself began, where it may.
            let own = plane
                .as_token(token, Method::POST, path, Some(body.clone()))
                .await;
            let begun = if own.status == 201 {
                own
            } else {
                plane.as_token(&plane.owner, Method::POST, path, Some(body)).await
            };
            (
                Method::POST,
                format!("{path}/{}/end", begun.text("id")),
                json!({}),
            )
        }
        "revoke" => (
            Method::POST,
            format!("/v1/keys/{}/revoke", key().await),
            json!({}),
        ),
        "POST /v1/orgs/acme/projects" => (
            Method::POST,
            "/v1/orgs/acme/projects".to_owned(),
            json!({"id": name}),
        ),
        "POST /v1/keys" => (Method::POST, "/v1/keys".to_owned(), json!({"org": "acme"})),
        "POST /v1/orgs" => (Method::POST, "/v1/orgs".to_owned(), json!({"id": name})),
        "PATCH /v1/orgs/acme" => (Method::PATCH, "/v1/orgs/acme".to_owned(), json!({"tier": name})),
        "POST /v1/import" => {
            let sha256 = format!("{:0>64}", name.trim_start_matches('n'));
            (
                Method::POST,
                "/v1/import".to_owned(),
                json!({"keys": [{"id": name, "sha256": sha256, "org": "acme"}]}),
            )
        }
        "POST /v1/fleet" => (
            Method::POST,
            "/v1/fleet".to_owned(),
            json!({
                "incarnation": "0123456789abcdef", "seq": 1, "answered": 0, "epoch": null, "version": 0, "parts": 0,
                "leaves": false, "wants": [],
            }),
        ),
        "POST /v1/tokens" => (Method::POST, "/v1/tokens".to_owned(), json!({"role": "viewer"})),
        "POST /v1/audit/verify" | "POST /v1/audit/checkpoint" => {
            let path = request.trim_start_matches("POST ");
            (Method::POST, path.to_owned(), json!({}))
        }
        get => (
            Method::GET,
            get.trim_start_matches("GET ").to_owned(),
            Value::Null,
        ),
    };
    let body = (!body.is_null()).then_some(body);
    plane.as_token(token, method, &path, body).await.status.as_u16()
}

/// A request about a budget: of a project one that the token itself made, where it may.
async fn budget_request(plane: &Plane, token: &str, request: &str, name: &str) -> (Method, String, Value) {
    let scope = match request {
        other if other.contains("org") || other == "spending" => json!({"org": "acme"}),
        "create label budget" => json!({"label": {"name": "a", "value": "b"}}),
        "create pool budget" => json!({"pool": ["acme", "globex"]}),
        _ => json!({"project": "acme/search"}),
    };
    // A confined token's names are its organization's.
    let name = match request {
        "create label budget" | "create pool budget" => name.to_owned(),
        _ => format!("acme:{name}"),
    };
    let body = json!({"id": name, "scope": scope, "unit": "tokens", "window": "day", "amount": 5});
    let all = "/v1/budgets".to_owned();
    if request.starts_with("create") {
        return (Method::POST, all, body);
    }
    let own = plane
        .as_token(token, Method::POST, &all, Some(body.clone()))
        .await;
    if own.status != 201 {
        plane.post(&all, body).await.expect(201);
    }
    let one = format!("{all}/{name}");
    match request {
        "spending" => (Method::GET, format!("{one}/spending"), Value::Null),
        "strike out of budget" => {
            let body = json!({"holder": "holder-0000000001", "items": [{"budget": name, "want": 1}]});
            plane.post("/v1/budgets/exchange", body).await.expect(200);
            let whose = json!({"holder": "holder-0000000001"});
            (Method::POST, format!("{one}/strike"), whose)
        }
        other if other.starts_with("change") => (Method::PATCH, one, json!({"amount": 6})),
        other if other.starts_with("remove") => (Method::DELETE, one, Value::Null),
        _ => (
            Method::POST,
            format!("{one}/raise"),
            json!({"by": 1, "for": "1h", "reason": "x"}),
        ),
    }
}

/// The table as docs/operating.md has it.
fn table() -> BTreeMap<String, BTreeMap<String, bool>> {
    let text = include_str!("../../docs/operating.md");
    let mut rows = text
        .lines()
        .skip_while(|line| !line.starts_with("| | gateway"))
        .map(|line| {
            line.trim_matches('|')
                .split('|')
                .map(|cell| cell.trim().to_owned())
                .collect::<Vec<_>>()
        });
    let columns = rows.next().unwrap();
    assert_eq!(columns[1..], ROLES, "the table's columns");
    let rows = rows.skip(1).take_while(|row| row.len() == columns.len());
    let rows: BTreeMap<_, _> = rows
        .map(|row| {
            let cells = columns[1..]
                .iter()
                .cloned()
                .zip(row[1..].iter().map(|cell| cell == "yes"));
            (row[0].clone(), cells.collect())
        })
        .collect();
    let actions: BTreeSet<_> = ACTIONS.iter().map(|(action, _)| *action).collect();
    let names: BTreeSet<_> = rows.keys().map(String::as_str).collect();
    assert_eq!(names, actions, "the table's rows");
    rows
}

#[tokio::test]
async fn what_is_another_organizations_does_not_exist() {
    let plane = Plane::sqlite().await;
    plane.org("acme").await;
    plane.org("globex").await;
    let key = plane.post("/v1/keys", json!({"org": "globex"})).await.text("id");
    let freeze = plane
        .post("/v1/freezes", json!({"target": {"key": key}, "reason": "x"}))
        .await
        .text("id");
    let token = plane.token("owner", Some(&["acme"])).await;
    for (method, path, body) in [
        (Method::GET, "/v1/orgs/globex".to_owned(), None),
        (Method::GET, "/v1/orgs/globex/projects".to_owned(), None),
        (Method::GET, "/v1/orgs/globex/projects/search".to_owned(), None),
        (Method::GET, format!("/v1/keys/{key}"), None),
        (Method::GET, "/v1/keys?org=globex".to_owned(), None),
        (Method::GET, "/v1/audit?org=globex".to_owned(), None),
        (Method::GET, format!("/v1/freezes/{freeze}"), None),
        (
            Method::PATCH,
            format!("/v1/keys/{key}"),
            Some(json!({"name": "x"})),
        ),
        (Method::POST, format!("/v1/keys/{key}/revoke"), Some(json!({}))),
        (Method::POST, format!("/v1/keys/{key}/rotate"), Some(json!({}))),
        (
            Method::POST,
            "/v1/keys".to_owned(),
            Some(json!({"org": "globex"})),
        ),
        (
            Method::POST,
            "/v1/orgs/globex/projects".to_owned(),
            Some(json!({"id": "x"})),
        ),
        (Method::POST, format!("/v1/freezes/{freeze}/end"), Some(json!({}))),
    ] {
        let answer = plane.as_token(&token, method.clone(), &path, body.clone()).await;
        assert_eq!(answer.status, 404, "{path}: {}", answer.body);
        // Exactly as for what nobody has, but for its name.
        let nobody = path
            .replace(&key, "nobody")
            .replace(&freeze, "nobody")
            .replace("globex", "nobody");
        let body = body.map(|body| {
            json!(
                body.to_string()
                    .replace("globex", "nobody")
                    .parse::<Value>()
                    .unwrap()
            )
        });
        let expected = plane.as_token(&token, method, &nobody, body).await;
        let told = answer.body.to_string();
        let told = told
            .replace(&key, "nobody")
            .replace(&freeze, "nobody")
            .replace("globex", "nobody");
        assert_eq!(
            (answer.status, told),
            (expected.status, expected.body.to_string())
        );
    }
    for path in ["/v1/orgs", "/v1/keys", "/v1/freezes", "/v1/audit"] {
        let answer = plane.as_token(&token, Method::GET, path, None).await.expect(200);
        assert!(
            !answer.body.to_string().contains("globex"),
            "{path}: {}",
            answer.body
        );
    }
}

/// A customer learns that the platform did something, and not which of its people, from where.
#[tokio::test]
async fn a_customers_trail_names_nobody_of_the_platform() {
    let plane = Plane::sqlite().await;
    plane.org("acme").await;
    let made = plane.post("/v1/tokens", json!({"role": "support"})).await;
    let (staff, id) = (made.text("secret"), made.text("id"));
    let freeze = json!({"target": {"org": "acme"}, "reason": "abuse"});
    let path = "/v1/freezes";
    plane
        .as_token(&staff, Method::POST, path, Some(freeze))
        .await
        .expect(201);
    let customer = plane.token("operator", Some(&["acme"])).await;
    let key = json!({"org": "acme"});
    plane
        .as_token(&customer, Method::POST, "/v1/keys", Some(key))
        .await
        .expect(201);
    let trail = plane
        .as_token(&customer, Method::GET, "/v1/audit", None)
        .await
        .expect(200);
    let items = trail.body["items"].as_array().unwrap();
    let by = |action: &str| {
        let entry = items.iter().find(|entry| entry["action"] == action).unwrap();
        (
            entry["actor"].as_str().unwrap(),
            entry["address"].as_str().unwrap(),
        )
    };
    assert_eq!(by("freeze.begin"), ("platform", ""));
    assert_eq!(by("org.create"), ("platform", ""));
    assert!(!trail.body.to_string().contains(&id), "{}", trail.body);
    let (actor, address) = by("key.create");
    assert!(
        actor.starts_with("token:") && address == "local",
        "{actor} {address}"
    );
    let whole = plane.get("/v1/audit").await.body.to_string();
    assert!(whole.contains(&format!("\"actor\":\"token:{id}\"")), "{whole}");
}

/// The same wherever an object is shown: one by one, in lists, in dry runs, in the answers to writes and to their repetition.
#[tokio::test]
async fn a_customer_sees_nobody_of_the_platform() {
    on_each(async |plane: Plane| {
        plane.org("acme").await;
        let key = plane.post("/v1/keys", json!({"org": "acme"})).await.text("id");
        let begin = async |path: &str, mut body: Value| {
            body["reason"] = json!("whispered");
            body["target"] = json!({"key": key});
            plane.post(path, body).await.expect(201).text("id")
        };
        let freeze = begin("/v1/freezes", json!({})).await;
        let cap = begin("/v1/caps", json!({"rate": "1/second"})).await;
        let budget =
            json!({"id": "b", "scope": {"org": "acme"}, "unit": "tokens", "window": "day", "amount": 5});
        plane.post("/v1/budgets", budget).await.expect(201);
        let raise = json!({"by": 5, "for": "1h", "reason": "whispered"});
        plane.post("/v1/budgets/b/raise", raise).await.expect(200);
        plane
            .post(&format!("/v1/freezes/{freeze}/end"), json!({}))
            .await
            .expect(200);
        let customer = plane.token("operator", Some(&["acme"])).await;
        let staff = plane.owner.split('-').nth(2).unwrap();
        let ask = async |method: Method, path: &str, body: Value| {
            let body = (method != Method::GET).then_some(body);
            let headers = [("idempotency-key", path)];
            let headers = if method == Method::POST { &headers[..] } else { &[] };
            let answer = plane.with(&customer, method, path, body, headers).await;
            assert!(answer.status.is_success(), "{path}: {}", answer.body);
            let shown = answer.body.to_string();
            assert!(!shown.contains(staff), "{path}: {shown}");
            assert!(!shown.contains("whispered"), "{path}: {shown}");
            // By which whoever guesses knows that he is right.
            assert!(!shown.contains("\"hash\""), "{path}: {shown}");
            shown
        };
        for path in [
            "/v1/orgs",
            "/v1/orgs/acme",
            "/v1/orgs/acme/projects",
            "/v1/orgs/acme/projects/search",
            "/v1/keys",
            &format!("/v1/keys/{key}"),
            "/v1/freezes?ended=true",
            &format!("/v1/freezes/{freeze}"),
            "/v1/caps",
            &format!("/v1/caps/{cap}"),
            "/v1/budgets",
            "/v1/budgets/b",
            "/v1/audit",
        ] {
            let shown = ask(Method::GET, path, Value::Null).await;
            assert!(shown.contains("\"platform\""), "{path}: {shown}");
        }
        for (method, path, body) in [
            (
                Method::PATCH,
                &*format!("/v1/keys/{key}?dry_run=true"),
                json!({"name": "a"}),
            ),
            (Method::PATCH, &format!("/v1/keys/{key}"), json!({"name": "a"})),
            (
                Method::PATCH,
                "/v1/orgs/acme/projects/search",
                json!({"labels": {"a": "b"}}),
            ),
            (
                Method::DELETE,
                "/v1/orgs/acme/projects/search?dry_run=true",
                json!({}),
            ),
            (Method::POST, &format!("/v1/keys/{key}/revoke"), json!({})),
        ] {
            let shown = ask(method, path, body).await;
            assert!(shown.contains("\"platform\""), "{path}: {shown}");
        }
        // Its own writes are its own, also where they are repeated.
        let own = customer.split('-').nth(2).unwrap();
        for _ in 0..2 {
            let shown = ask(Method::POST, "/v1/keys", json!({"org": "acme"})).await;
            assert!(shown.contains(&format!("token:{own}")), "{shown}");
        }
        // The platform sees who it was.
        let shown = plane.get(&format!("/v1/keys/{key}")).await.body.to_string();
        assert!(shown.contains(staff), "{shown}");
    })
    .await;
}

#[tokio::test]
async fn a_customers_administrator_cannot_end_what_the_platform_froze() {
    let plane = Plane::sqlite().await;
    plane.org("acme").await;
    let key = plane.post("/v1/keys", json!({"org": "acme"})).await.text("id");
    let freeze = plane
        .post("/v1/freezes", json!({"target": {"key": key}, "reason": "abuse"}))
        .await
        .text("id");
    let cap = plane
        .post(
            "/v1/caps",
            json!({"target": {"key": key}, "rate": "1/second", "reason": "abuse"}),
        )
        .await
        .text("id");
    let token = plane.token("owner", Some(&["acme"])).await;
    for end in [format!("/v1/freezes/{freeze}/end"), format!("/v1/caps/{cap}/end")] {
        plane
            .as_token(&token, Method::POST, &end, Some(json!({})))
            .await
            .expect(403)
            .says("by the platform");
    }
    // Nor by changing the key: what is frozen is no member that a client sets.
    let path = format!("/v1/keys/{key}");
    for (body, status) in [
        (json!({"frozen_by": null}), 422),
        (json!({"status": "active"}), 200),
    ] {
        plane
            .as_token(&token, Method::PATCH, &path, Some(body))
            .await
            .expect(status);
    }
    let rows = plane.get("/v1/directory").await.body["keys"].clone();
    assert_eq!(rows[0]["status"], "suspended", "{rows}");
    assert_eq!(rows[0]["cap"], json!({"rate": "1/second"}), "{rows}");
}

/// A customer that froze its own key first can't keep the platform's freeze off, and then end its own; and what it froze
/// does not come back to life with the end of the platform's.
#[tokio::test]
async fn the_platform_and_the_customer_freeze_one_over_the_other() {
    on_each(async |plane: Plane| {
        plane.org("acme").await;
        let key = plane.post("/v1/keys", json!({"org": "acme"})).await.text("id");
        let customer = plane.token("operator", Some(&["acme"])).await;
        let support = plane.token("support", None).await;
        for (path, rates) in [
            ("/v1/freezes", None),
            ("/v1/caps", Some(["1/hour", "1000/second"])),
        ] {
            let begin = async |token: &str| {
                let mut body = json!({"target": {"key": key}, "reason": "x"});
                if let Some([slow, fast]) = rates {
                    body["rate"] = json!(if *token == *customer { slow } else { fast });
                }
                plane.as_token(token, Method::POST, path, Some(body)).await
            };
            let end = async |token: &str, id: &str| {
                plane
                    .as_token(token, Method::POST, &format!("{path}/{id}/end"), Some(json!({})))
                    .await
            };
            let held = async || {
                let row = plane.get("/v1/directory").await.body["keys"][0].clone();
                (row["status"] == "suspended", row["cap"]["rate"].clone())
            };
            let only = |rate: Option<usize>| match (rates, rate) {
                (None, held) => (held.is_some(), Value::Null),
                (Some(_), None) => (false, Value::Null),
                (Some(rates), Some(at)) => (false, json!(rates[at])),
            };
            let in_force = async || {
                let items = plane.get(path).await.body["items"].clone();
                let ids = items.as_array().unwrap().iter();
                let ids: BTreeSet<String> = ids.map(|one| one["id"].as_str().unwrap().to_owned()).collect();
                ids
            };
            // Whoever is first, whoever ends first.
            for first in [&customer, &support] {
                for ends_first in [&customer, &support] {
                    let second = if *first == customer { &support } else { &customer };
                    let one = begin(first).await.expect(201).text("id");
                    begin(first).await.expect(409).says(&one);
                    if *first == support && rates.is_some() {
                        begin(second).await.expect(409).says("by the platform");
                        end(&support, &one).await.expect(200);
                        continue;
                    }
                    let two = begin(second).await.expect(201).text("id");
                    begin(second).await.expect(409).says(&two);
                    let all = BTreeSet::from([one.clone(), two.clone()]);
                    assert_eq!(in_force().await, all);
                    assert_eq!(held().await, only(Some(0)), "both hold");
                    let (own, platforms) = if *first == customer {
                        (&one, &two)
                    } else {
                        (&two, &one)
                    };
                    let shown = plane.get(&format!("/v1/keys/{key}")).await.body;
                    assert!(
                        shown["frozen_by"] == **platforms || shown["cap"]["by"] == **platforms,
                        "{shown}"
                    );
                    end(&customer, platforms)
                        .await
                        .expect(403)
                        .says("by the platform");
                    let (ended, left, holds) = if *ends_first == customer {
                        (own, platforms, 1)
                    } else {
                        (platforms, own, 0)
                    };
                    end(ends_first, ended).await.expect(200);
                    assert_eq!(in_force().await, BTreeSet::from([left.clone()]));
                    assert_eq!(held().await, only(Some(holds)), "the other one");
                    // Again changes nothing.
                    end(ends_first, ended).await.expect(200);
                    assert_eq!(held().await, only(Some(holds)), "the other one");
                    end(&support, left).await.expect(200);
                    assert_eq!(held().await, only(None));
                }
            }
        }
        let key = plane.get(&format!("/v1/keys/{key}")).await.body;
        for member in ["frozen_by", "frozen_beneath_by", "cap", "cap_beneath"] {
            assert!(key.get(member).is_none(), "{key}");
        }
        assert_eq!(plane.faults().await, [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn a_customers_administrator_does_not_resume_what_the_platform_suspended() {
    on_each(async |plane: Plane| {
        plane.org("acme").await;
        let customer = plane.token("operator", Some(&["acme"])).await;
        let key = plane.post("/v1/keys", json!({"org": "acme"})).await.text("id");
        let set = async |token: &str, path: &str, body: Value| {
            plane.as_token(token, Method::PATCH, path, Some(body)).await
        };
        let (suspend, resume) = (json!({"status": "suspended"}), json!({"status": "active"}));
        for path in [&format!("/v1/keys/{key}"), "/v1/orgs/acme/projects/search"] {
            // Its own suspension it ends.
            set(&customer, path, suspend.clone()).await.expect(200);
            set(&customer, path, resume.clone()).await.expect(200);
            // One of the platform it does not, also where it had suspended first.
            set(&customer, path, suspend.clone()).await.expect(200);
            let labels = if path.contains("keys") {
                json!({"name": "x"})
            } else {
                json!({"labels": {"a": "b"}})
            };
            let other = set(&plane.owner, path, labels).await.expect(200);
            assert!(
                other.body.get("suspended_by_platform").is_none(),
                "{}",
                other.body
            );
            let taken = set(&plane.owner, path, suspend.clone()).await.expect(200);
            assert_eq!(taken.body["suspended_by_platform"], true);
            for body in [resume.clone(), json!({"status": null})] {
                set(&customer, path, body)
                    .await
                    .expect(403)
                    .says("by the platform");
            }
            set(&customer, path, suspend.clone()).await.expect(200);
            set(&customer, path, resume.clone()).await.expect(403);
            // All else stays the customer's.
            set(&customer, path, json!({"contacts": ["ops"]}))
                .await
                .expect(200);
        }
        // Nor does a key come back under another secret.
        let rotated = plane
            .as_token(
                &customer,
                Method::POST,
                &format!("/v1/keys/{key}/rotate"),
                Some(json!({})),
            )
            .await
            .expect(201)
            .text("id");
        set(&customer, &format!("/v1/keys/{rotated}"), resume.clone())
            .await
            .expect(403);
        let made = plane
            .post("/v1/keys", json!({"org": "acme", "status": "suspended"}))
            .await
            .expect(201)
            .text("id");
        set(&customer, &format!("/v1/keys/{made}"), resume.clone())
            .await
            .expect(403);
        let resumed = set(&plane.owner, &format!("/v1/keys/{key}"), resume.clone())
            .await
            .expect(200);
        assert!(
            resumed.body.get("suspended_by_platform").is_none(),
            "{}",
            resumed.body
        );
        assert_eq!(plane.faults().await, [""; 0]);
    })
    .await;
}

/// A key's own limits stand in place of the platform's: whoever may set them may raise them.
#[tokio::test]
async fn a_customers_administrator_changes_no_limits() {
    let plane = Plane::sqlite().await;
    plane.org("acme").await;
    let limits = json!({"key-rpm": {"rate": "10/minute"}});
    let key = plane
        .post("/v1/keys", json!({"org": "acme", "limits": limits}))
        .await
        .expect(201)
        .text("id");
    let token = plane.token("owner", Some(&["acme"])).await;
    for (method, path, body) in [
        (
            Method::POST,
            "/v1/keys".to_owned(),
            json!({"org": "acme", "limits": limits}),
        ),
        (
            Method::PATCH,
            format!("/v1/keys/{key}"),
            json!({"limits": {"key-rpm": {"rate": "20/minute"}}}),
        ),
        (Method::PATCH, format!("/v1/keys/{key}"), json!({"limits": null})),
        (
            Method::PATCH,
            "/v1/orgs/acme".to_owned(),
            json!({"limits": limits}),
        ),
    ] {
        plane
            .as_token(&token, method, &path, Some(body))
            .await
            .expect(403);
    }
    // All else of the key it may change, and rotate it, which gives the new one the same limits.
    let patch = Some(json!({"name": "ci"}));
    plane
        .as_token(&token, Method::PATCH, &format!("/v1/keys/{key}"), patch)
        .await
        .expect(200);
    let rotate = format!("/v1/keys/{key}/rotate");
    let new = plane
        .as_token(&token, Method::POST, &rotate, Some(json!({})))
        .await
        .expect(201);
    assert_eq!(new.body["limits"], limits);
}

#[tokio::test]
async fn a_token_that_is_not_good_opens_nothing() {
    let plane = Plane::sqlite().await;
    let made = plane
        .post("/v1/tokens", json!({"role": "viewer"}))
        .await
        .expect(201);
    let token = made.text("secret");
    plane
        .as_token(&token, Method::GET, "/v1/orgs", None)
        .await
        .expect(200);
    plane
        .post(&format!("/v1/tokens/{}/revoke", made.text("id")), json!({}))
        .await
        .expect(200);
    for token in [&token, "tg-token-x", "", "sk-tg-x"] {
        let answer = plane
            .as_token(token, Method::GET, "/v1/orgs", None)
            .await
            .expect(401);
        assert_eq!(answer.header("www-authenticate"), "Bearer");
    }
    let bare = axum::http::Request::get("/v1/orgs")
        .body(axum::body::Body::empty())
        .unwrap();
    plane.ask(bare).await.expect(401).says("send a token");
}

#[tokio::test]
async fn the_first_token_is_told_once() {
    let plane = Plane::sqlite().await;
    assert_eq!(plane.store.first_token().await.unwrap(), None);
}

/// A body that comes when its token is revoked already does nothing.
#[tokio::test]
async fn a_body_that_comes_after_the_end_of_its_token_does_nothing() {
    let plane = Plane::sqlite().await;
    let made = plane
        .post("/v1/tokens", json!({"role": "owner"}))
        .await
        .expect(201);
    let (token, id) = (made.text("secret"), made.text("id"));
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<&str, std::io::Error>>(1);
    let body = futures_util::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|piece| (piece, receiver))
    });
    let request = axum::http::Request::post("/v1/tokens")
        .header("authorization", format!("Bearer {token}"))
        .body(axum::body::Body::from_stream(body))
        .unwrap();
    let (answer, ()) = tokio::join!(plane.ask(request), async {
        sender.send(Ok("{\"role\": \"owner\"")).await.unwrap();
        // There is room for more once that was read, and so the token judged.
        let rest = sender.reserve().await.unwrap();
        plane
            .post(&format!("/v1/tokens/{id}/revoke"), json!({}))
            .await
            .expect(200);
        rest.send(Ok("}"));
        drop(sender);
    });
    answer.expect(401);
    assert_eq!(
        plane.get("/v1/tokens").await.body["items"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

/// Who may not import is told so before a large body is read.
#[tokio::test]
async fn a_body_is_read_for_who_may_send_it_alone() {
    let plane = Plane::sqlite().await;
    let token = plane.token("viewer", None).await;
    let never = futures_util::stream::pending::<Result<&str, std::io::Error>>();
    let request = axum::http::Request::post("/v1/import")
        .header("authorization", format!("Bearer {token}"))
        .body(axum::body::Body::from_stream(never))
        .unwrap();
    let answer = tokio::time::timeout(core::time::Duration::from_secs(10), plane.ask(request)).await;
    answer.unwrap().expect(403);
    let many: Vec<Value> = vec![json!({}); 10_001];
    let answer = plane.post("/v1/import", json!({"keys": many})).await;
    answer.expect(422).says("more than 10000 rows");
}

/// By rotation a customer's administrator has two keys for one, and never more: each has the limits of the first.
#[tokio::test]
async fn rotation_makes_two_keys_of_one_at_most() {
    on_each(async |plane: Plane| {
        plane.org("acme").await;
        let limits = json!({"key-rpm": {"rate": "5000/minute"}});
        let first = plane
            .post("/v1/keys", json!({"org": "acme", "limits": limits}))
            .await
            .expect(201)
            .text("id");
        let customer = plane.token("operator", Some(&["acme"])).await;
        let ask = async |method: Method, path: String, body: Value| {
            plane.as_token(&customer, method, &path, Some(body)).await
        };
        let rotate = async |key: &str, overlap: &str| {
            let path = format!("/v1/keys/{key}/rotate");
            ask(Method::POST, path, json!({"overlap": overlap})).await
        };
        for overlap in ["31d", "3650d"] {
            rotate(&first, overlap).await.expect(422).says("at most `30d`");
        }
        let second = rotate(&first, "30d").await.expect(201).text("id");
        rotate(&second, "30d").await.expect(409).says("is still good");
        // Nor does the old one go on beside the new one.
        for end in [json!(null), json!("2090-01-01T00:00:00Z")] {
            let path = format!("/v1/keys/{first}");
            let answer = ask(Method::PATCH, path, json!({"expires_at": end})).await;
            answer.expect(409).says("ends as it was rotated");
        }
        ask(Method::PATCH, format!("/v1/keys/{first}"), json!({"name": "old"}))
            .await
            .expect(200);
        ask(Method::POST, format!("/v1/keys/{first}/revoke"), json!({}))
            .await
            .expect(200);
        let third = rotate(&second, "1h").await.expect(201).text("id");
        // The platform is not held to that.
        let path = format!("/v1/keys/{third}/rotate");
        plane.post(&path, json!({})).await.expect(201);
        assert_eq!(plane.faults().await, [""; 0]);
    })
    .await;
}

/// A key that the platform froze, capped or suspended is not got rid of by going back to the one before.
#[tokio::test]
async fn undoing_a_rotation_ends_nothing_of_the_platforms() {
    on_each(async |plane: Plane| {
        plane.org("acme").await;
        let customer = plane.token("operator", Some(&["acme"])).await;
        let ask = async |path: String, body: Value| {
            plane.as_token(&customer, Method::POST, &path, Some(body)).await
        };
        let old = plane.post("/v1/keys", json!({"org": "acme"})).await.text("id");
        let new = ask(format!("/v1/keys/{old}/rotate"), json!({}))
            .await
            .expect(201)
            .text("id");
        let undo = format!("/v1/keys/{old}/undo-rotation");
        for (path, done) in [("/v1/freezes", "frozen"), ("/v1/caps", "capped")] {
            let mut body = json!({"target": {"key": new}, "reason": "abuse"});
            if done == "capped" {
                body["rate"] = json!("1/minute");
            }
            let held = plane.post(path, body).await.expect(201).text("id");
            let says = format!("is {done} by the platform");
            ask(undo.clone(), json!({})).await.expect(409).says(&says);
            plane
                .post(&format!("{path}/{held}/end"), json!({}))
                .await
                .expect(200);
        }
        let path = format!("/v1/keys/{new}");
        plane
            .patch(&path, json!({"status": "suspended"}))
            .await
            .expect(200);
        ask(undo.clone(), json!({}))
            .await
            .expect(409)
            .says("is suspended by the platform");
        plane.patch(&path, json!({"status": "active"})).await.expect(200);
        // Nor by revoking it, and rotating the old one to another.
        let first = plane.post("/v1/keys", json!({"org": "acme"})).await.text("id");
        let rotate = format!("/v1/keys/{first}/rotate");
        let second = ask(rotate.clone(), json!({})).await.expect(201).text("id");
        let body = json!({"target": {"key": second}, "reason": "abuse"});
        plane.post("/v1/freezes", body).await.expect(201);
        ask(format!("/v1/keys/{second}/revoke"), json!({}))
            .await
            .expect(200);
        for path in [rotate, format!("/v1/keys/{first}/undo-rotation")] {
            ask(path, json!({}))
                .await
                .expect(409)
                .says("is frozen by the platform");
        }
        // What the customer froze, as its new key leaked, it goes back from.
        ask(
            "/v1/freezes".to_owned(),
            json!({"target": {"key": new}, "reason": "leaked"}),
        )
        .await
        .expect(201);
        ask(undo, json!({})).await.expect(200);
        assert_eq!(plane.faults().await, [""; 0]);
    })
    .await;
}

//! The directory from an HTTP server, on two workers under load: taken when the server comes up, asked for with its
//! ETag, in force within the bound, kept when the server fails or sends nonsense, and given up when it is too old.

#![expect(
    clippy::unwrap_used,
    reason = "a test says what it expects by failing, in its helpers too"
)]

mod support;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::lane;
use support::load::Load;
use support::{ANTHROPIC, OPENAI, assert_no_vm_broke, chat};
use tollgate_core::key::ApiKey;
use tollgate_harness::documents::{Documents, Failure, Fetch};
use tollgate_harness::models::ModelServer;
use tollgate_harness::{Directory, Gateway, Options, net};

/// How often the gateway asks; the least it takes.
const REFRESH: Duration = Duration::from_secs(1);

/// From a new document on the server until no worker goes by the old one.
const BOUND: Duration = Duration::from_secs(2);

struct Stack {
    gateway: Gateway,
    documents: Documents,
    _models: ModelServer,
}

impl Stack {
    /// A gateway whose directory is in force on both workers: there `key` is good.
    async fn start(directory: &Directory, key: &ApiKey, http: Value) -> Self {
        let models = ModelServer::builder().keep(0).start().await.unwrap();
        let documents = Documents::start(&directory.document()).await.unwrap();
        let gateway = options(http)
            .llama(models.addr())
            .documents(documents.addr())
            .start()
            .await;
        let stack = Self {
            gateway,
            documents,
            _models: models,
        };
        let mut lanes = lane::lanes(&stack.gateway).await;
        net::eventually("both workers have the directory", async || {
            (ask(&mut lanes, key).await == [200, 200]).then_some(())
        })
        .await;
        stack
    }

    /// Waits until this many fetches had this result.
    async fn fetched(&self, result: &str, times: u64) {
        fetched(&self.gateway, result, times).await;
    }

    async fn count(&self, result: &str) -> u64 {
        count(&self.gateway, result).await
    }

    async fn age(&self) -> u64 {
        gauge(&self.gateway, "age_seconds").await
    }
}

/// The repository's own files with the least refresh, and no limit on failures.
fn options(http: Value) -> Options {
    Options::new()
        .edit("directory-http.yaml", "refresh: 5s", "refresh: 1s")
        .edit("directory-http.yaml", "timeout: 30s", "timeout: 2s")
        .key_auth(
            json!({"directory": {"http": http}, "failed_auth": {"rate": "600000/minute", "burst": 600000}}),
        )
}

/// Never too old.
fn patient() -> Value {
    json!({"max_stale": "10m", "on_stale": "deny"})
}

async fn count(gateway: &Gateway, result: &str) -> u64 {
    let name = format!("wasmcustom.tollgate_directory_fetches.result.{result}");
    gateway.stats().await.counter(&name)
}

async fn fetched(gateway: &Gateway, result: &str, times: u64) {
    net::eventually(&format!("{times} fetches are {result}"), async || {
        (count(gateway, result).await >= times).then_some(())
    })
    .await;
}

async fn gauge(gateway: &Gateway, name: &str) -> u64 {
    gateway
        .stats()
        .await
        .counter(&format!("wasmcustom.tollgate_directory_{name}"))
}

/// Asks each worker.
async fn ask(lanes: &mut [lane::Lane; 2], key: &ApiKey) -> [u16; 2] {
    let [first, second] = lanes;
    [
        first.ask(key.reveal()).await.status,
        second.ask(key.reveal()).await.status,
    ]
}

#[tokio::test]
async fn a_gateway_that_is_up_before_its_document_server_waits_for_it() {
    let models = ModelServer::start().await.unwrap();
    let mut directory = Directory::new();
    let key = directory.key("acme");
    let nobody = net::Refusing::new().unwrap();
    let gateway = options(patient())
        .llama(models.addr())
        .documents(nobody.addr())
        .start()
        .await;
    let mut lanes = lane::lanes(&gateway).await;
    fetched(&gateway, "failed", 2).await;
    assert_eq!(ask(&mut lanes, &key).await, [503, 503]);
    let request = |path: &str| gateway.post(path).key(&key).json(chat());
    request(OPENAI)
        .send()
        .await
        .expect(503)
        .code("directory_unavailable")
        .has("retry-after", "1");
    request(ANTHROPIC)
        .send()
        .await
        .expect(503)
        .anthropic("overloaded_error");
    let complaint = "directory: the document's server";
    assert_eq!(
        gateway.log().matches(complaint).count(),
        1,
        "once, however often:\n{}",
        gateway.log()
    );
    assert_eq!(gauge(&gateway, "keys").await, 0);

    let documents = Documents::start(&directory.document()).await.unwrap();
    let up = Instant::now();
    let (from, to) = (
        nobody.addr().port().to_string(),
        documents.addr().port().to_string(),
    );
    gateway.edit(
        "clusters.yaml",
        &format!("port_value: {from}"),
        &format!("port_value: {to}"),
    );
    net::eventually("both workers have the directory", async || {
        (ask(&mut lanes, &key).await == [200, 200]).then_some(())
    })
    .await;
    println!("in force {:?} after the server was there", up.elapsed());
    assert!(
        up.elapsed() < BOUND + Duration::from_secs(1),
        "{:?}",
        up.elapsed()
    );
    assert_eq!(
        (gauge(&gateway, "keys").await, gauge(&gateway, "orgs").await),
        (1, 3)
    );
    assert!(
        gateway
            .log()
            .contains("directory: 1 keys of 3 organizations are in force")
    );
    assert_no_vm_broke(&gateway).await;
}

#[tokio::test]
async fn an_unchanged_document_is_not_sent_again() {
    let mut directory = Directory::new();
    let key = directory.key("acme");
    let stack = Stack::start(&directory, &key, patient()).await;
    stack.fetched("unchanged", 3).await;
    let fetches = stack.documents.fetches();
    let fetch = |etag: Option<&str>, status| Fetch {
        if_none_match: etag.map(str::to_owned),
        path: "/directory.json".to_owned(),
        status: Some(status),
    };
    let again = fetch(Some("\"v1\""), 304);
    assert_eq!(fetches[..3], [fetch(None, 200), again.clone(), again]);
    assert_eq!(stack.count("ok").await, 1);
    assert!(stack.age().await <= 2, "a 304 confirms it");
    // A new one is asked for with the old one's ETag.
    stack
        .documents
        .set(&directory.project("acme", "new", json!({})).document());
    stack.fetched("ok", 2).await;
    let fetches = stack.documents.fetches();
    let taken = fetches
        .iter()
        .rposition(|fetch| fetch.status == Some(200))
        .unwrap();
    assert_eq!(fetches[taken], fetch(Some("\"v1\""), 200));
    stack
        .fetched("unchanged", stack.count("unchanged").await + 1)
        .await;
    assert_eq!(
        stack.documents.fetches().last().unwrap(),
        &fetch(Some("\"v2\""), 304)
    );
    assert_eq!(
        ask(&mut lane::lanes(&stack.gateway).await, &key).await,
        [200, 200]
    );
    assert_no_vm_broke(&stack.gateway).await;
}

#[tokio::test]
async fn a_revocation_is_in_force_within_refresh_and_a_second() {
    let mut directory = Directory::new();
    let steady = directory.project_key("acme", "search");
    let free = directory.key("globex");
    let leavers = [(); 4].map(|()| directory.key("acme"));
    let stack = Stack::start(&directory, &steady, patient()).await;
    let names = ["leaver 0", "leaver 1", "leaver 2", "leaver 3"];
    let mut callers: Vec<(&str, &dyn tollgate_harness::client::Credential)> =
        vec![("steady", &steady), ("free", &free)];
    for (name, key) in names.into_iter().zip(&leavers) {
        callers.push((name, key));
    }
    let load = Load::start(&stack.gateway, &callers).await;
    let mut revoked = Vec::new();
    for leaver in &leavers {
        stack.documents.set(&directory.revoke(leaver).document());
        let at = Instant::now();
        tokio::time::sleep_until((at + BOUND).into()).await;
        load.go_on(2).await;
        // The next one comes at another moment between two fetches.
        tokio::time::sleep(REFRESH / 4).await;
        revoked.push(at);
    }
    let journal = load.stop();
    println!("requests:\n{}", journal.summary());
    for caller in ["steady", "free"] {
        assert!(journal.always(caller, 200) > 200);
    }
    for (name, at) in names.into_iter().zip(revoked) {
        let took = journal.turns(name, at, REFRESH + Duration::from_secs(1), 200, 401);
        println!("{name}: refused on both workers {took:?} after the server showed it");
    }
    assert_no_vm_broke(&stack.gateway).await;
}

#[tokio::test]
async fn every_kind_of_change_reaches_both_workers() {
    let mut directory = Directory::new();
    let steady = directory.project_key("acme", "search");
    let freezing = directory.key("acme");
    let org = directory.key("globex");
    let old = directory.project_key("acme", "search");
    let stack = Stack::start(&directory, &steady, patient()).await;
    let load = Load::start(
        &stack.gateway,
        &[
            ("steady", &steady),
            ("freezing", &freezing),
            ("org", &org),
            ("rotating", &old),
            ("old key", &old),
        ],
    )
    .await;
    let change = async |directory: &Directory| {
        stack.documents.set(&directory.document());
        let at = Instant::now();
        tokio::time::sleep_until((at + BOUND).into()).await;
        load.go_on(2).await;
        at
    };
    let frozen = change(directory.change(&freezing, json!({"status": "suspended"}))).await;
    // A freeze of the organization and the first half of a rotation, in one document.
    directory.document_mut()["orgs"]["globex"]["status"] = json!("suspended");
    let new = directory.project_key("acme", "search");
    let org_frozen = change(&directory).await;
    load.switch("rotating", &new);
    load.go_on(2).await;
    let rotated = change(directory.revoke(&old)).await;
    // A new tenant with its first key.
    directory.org("umbrella", json!({"tier": "free", "models": ["llama-*"]}));
    let newcomer = directory.key("umbrella");
    change(&directory).await;
    let mut lanes = lane::lanes(&stack.gateway).await;
    assert_eq!(ask(&mut lanes, &newcomer).await, [200, 200]);
    // Its end, with its keys.
    directory.revoke(&newcomer);
    directory.document_mut()["orgs"]
        .as_object_mut()
        .unwrap()
        .remove("umbrella");
    change(&directory).await;
    assert_eq!(ask(&mut lanes, &newcomer).await, [401, 401]);
    let journal = load.stop();
    println!("requests:\n{}", journal.summary());
    for caller in ["steady", "rotating"] {
        assert!(journal.always(caller, 200) > 200);
    }
    journal.turns("freezing", frozen, BOUND, 200, 403);
    journal.turns("org", org_frozen, BOUND, 200, 403);
    journal.turns("old key", rotated, BOUND, 200, 401);
    assert_no_vm_broke(&stack.gateway).await;
}

#[tokio::test]
async fn a_bad_document_is_rejected_whole() {
    let mut directory = Directory::new();
    let steady = directory.project_key("acme", "search");
    let leaver = directory.key("globex");
    let stack = Stack::start(&directory, &steady, patient()).await;
    let load = Load::start(&stack.gateway, &[("steady", &steady), ("leaver", &leaver)]).await;

    let mut broken = directory.clone();
    broken.revoke(&leaver);
    let stranger = broken.key_with(json!({"org": "umbrella"}));
    let good = directory.document().to_string();
    for (document, reason) in [
        (
            broken.document().to_string(),
            "keys[1].org: found `umbrella`, expected an organization under `orgs`",
        ),
        (String::new(), "the document is empty"),
        ("<html>It works!</html>".to_owned(), "expected `{` here"),
        (
            good[..good.len() / 2].to_owned(),
            "directory: the document is rejected",
        ),
        (
            good.replace("\"version\":1", "\"version\":2"),
            "version: found `2`, expected 1",
        ),
        (
            format!("{good}{good}"),
            "something follows the end of the document",
        ),
    ] {
        let (rejected, log) = (stack.count("rejected").await, stack.gateway.log().len());
        stack.documents.set_bytes(document);
        stack.fetched("rejected", rejected + 1).await;
        let log = stack.gateway.log()[log..].to_owned();
        assert!(
            log.contains("the last good one stays in force") && log.contains(reason),
            "{reason} in:\n{log}"
        );
        // The ETag of a document that was rejected is not the directory's.
        let asked = stack.documents.fetches().pop().unwrap();
        assert_eq!(asked.if_none_match.as_deref(), Some("\"v1\""), "{asked:?}");
    }
    load.go_on(5).await;
    assert_eq!(
        ask(&mut lane::lanes(&stack.gateway).await, &stranger).await,
        [401, 401]
    );
    assert!(stack.age().await >= 4, "nothing confirms it meanwhile");
    assert_eq!(gauge(&stack.gateway, "keys").await, 2);

    // A good one again.
    stack.documents.set(&directory.revoke(&leaver).document());
    let mended = Instant::now();
    tokio::time::sleep_until((mended + BOUND).into()).await;
    load.go_on(5).await;
    let journal = load.stop();
    println!("requests:\n{}", journal.summary());
    journal.always("steady", 200);
    let took = journal.turns("leaver", mended, BOUND, 200, 401);
    println!("the good one was in force on both workers after {took:?}");
    assert!(stack.age().await <= 2);
    assert_no_vm_broke(&stack.gateway).await;
}

#[tokio::test]
async fn while_its_server_fails_the_last_good_one_stays() {
    let mut directory = Directory::new();
    let steady = directory.project_key("acme", "search");
    let leaver = directory.key("globex");
    let stack = Stack::start(&directory, &steady, patient()).await;
    let load = Load::start(&stack.gateway, &[("steady", &steady), ("leaver", &leaver)]).await;
    for failure in [
        Failure::Status(500),
        Failure::Status(404),
        Failure::Status(204),
        Failure::Cut,
        Failure::Silence,
    ] {
        let failed = stack.count("failed").await;
        stack.documents.fail(failure);
        stack.fetched("failed", failed + 2).await;
        load.go_on(2).await;
    }
    let age = stack.age().await;
    println!("the directory is {age} s old");
    assert!(age >= 8, "{age}");
    assert!(
        stack
            .gateway
            .log()
            .contains("the document's server, or Envoy in its place, answered with status 500")
    );
    // What changed meanwhile is taken when the server is back.
    stack.documents.set(&directory.revoke(&leaver).document());
    let back = Instant::now();
    stack.documents.fail(None);
    // A request that met a silent server has its own time-out to wait for.
    let bound = BOUND + Duration::from_secs(2);
    tokio::time::sleep_until((back + bound).into()).await;
    load.go_on(2).await;
    let journal = load.stop();
    println!("requests:\n{}", journal.summary());
    journal.always("steady", 200);
    let took = journal.turns("leaver", back, bound, 200, 401);
    println!("after an outage in force on both workers {took:?} after the server was back");
    assert!(stack.age().await <= 2);
    assert_no_vm_broke(&stack.gateway).await;
}

#[tokio::test]
async fn one_that_is_too_old_is_given_up_where_deny_is_declared() {
    let mut directory = Directory::new();
    let steady = directory.project_key("acme", "search");
    let stack = Stack::start(
        &directory,
        &steady,
        json!({"max_stale": "3s", "on_stale": "deny"}),
    )
    .await;
    let load = Load::start(&stack.gateway, &[("steady", &steady)]).await;
    // Longer than `max_stale`, with a server that says each second that nothing changed.
    stack.fetched("unchanged", 4).await;
    stack.documents.fail(Failure::Status(503));
    let failed = Instant::now();
    let given_up = Duration::from_secs(4);
    tokio::time::sleep_until((failed + given_up).into()).await;
    load.go_on(2).await;
    let request = |path: &str| stack.gateway.post(path).key(&steady).json(chat());
    let reply = request(OPENAI)
        .send()
        .await
        .expect(503)
        .code("directory_unavailable")
        .has("retry-after", "1");
    let record = stack.gateway.access_log().of(reply.request_id().unwrap()).await;
    assert_eq!(record.details.as_deref(), Some("tollgate_directory_unavailable"));
    request(ANTHROPIC)
        .http2()
        .send()
        .await
        .expect(503)
        .anthropic("overloaded_error");
    stack.documents.fail(None);
    let back = Instant::now();
    tokio::time::sleep_until((back + BOUND).into()).await;
    load.go_on(2).await;
    let journal = load.stop();
    println!("requests:\n{}", journal.summary());
    // The last confirmation was at most a refresh before the failure, and a worker looks every quarter of a second.
    let took = journal.before(back).turns("steady", failed, given_up, 200, 503);
    println!("given up {took:?} after the server failed");
    assert!(took > Duration::from_millis(1500), "{took:?}");
    let took = journal
        .since(failed + given_up)
        .turns("steady", back, BOUND, 503, 200);
    println!("in force again {took:?} after it was back");
    assert_no_vm_broke(&stack.gateway).await;
}

#[tokio::test]
async fn one_that_is_too_old_serves_on_where_allow_is_declared() {
    let mut directory = Directory::new();
    let steady = directory.project_key("acme", "search");
    let stranger = tollgate_harness::directory::mint();
    let stack = Stack::start(
        &directory,
        &steady,
        json!({"max_stale": "1s", "on_stale": "allow"}),
    )
    .await;
    let load = Load::start(&stack.gateway, &[("steady", &steady), ("stranger", &stranger)]).await;
    stack.documents.fail(Failure::Status(503));
    net::eventually("it is far too old", async || {
        (stack.age().await >= 4).then_some(())
    })
    .await;
    load.go_on(5).await;
    let journal = load.stop();
    journal.always("steady", 200);
    journal.always("stranger", 401);
    assert_no_vm_broke(&stack.gateway).await;
}

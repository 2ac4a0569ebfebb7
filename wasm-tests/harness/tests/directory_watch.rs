//! The directory from a server that says what changed, on two workers under load: each change in force within a second, a
//! server that dies and comes back with another database, and one that is a file server after all.

#![expect(
    clippy::unwrap_used,
    reason = "a test says what it expects by failing, in its helpers too"
)]

mod support;

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Map, Value, json};
use support::assert_no_vm_broke;
use support::lane;
use support::load::Load;
use tokio::runtime::Runtime;
use tollgate_harness::models::ModelServer;
use tollgate_harness::{Directory, Gateway, Options, net};

/// From a change on the server until no worker goes by what was before.
const BOUND: Duration = Duration::from_secs(1);
/// How often a server that does not wait is asked.
const REFRESH: Duration = Duration::from_secs(1);
/// How long one that does is asked to wait.
const WAIT: Duration = Duration::from_secs(5);
const TOKEN: &str = "tg-token-0123456789abcdefghijklmnopqrstuvwxyz";

/// One question, and what was answered.
#[derive(Debug, Clone)]
struct Asked {
    uri: String,
    if_none_match: Option<String>,
    authorization: Option<String>,
    answer: &'static str,
    /// How long the answer took.
    took: Duration,
}

/// What the server knows.
struct Database {
    name: &'static str,
    /// All documents so far: versions are `{name}-{number}`, the first has number 1.
    documents: Vec<Value>,
    /// Whether it knows nothing of versions and of waiting.
    is_static: bool,
    asked: Vec<Asked>,
}

type Shared = Arc<(Mutex<Database>, tokio::sync::watch::Sender<()>)>;

/// A server that speaks the protocol of docs/configuration.md.
struct Server {
    addr: SocketAddr,
    shared: Shared,
    runtime: Option<Runtime>,
}

impl Server {
    fn start(document: &Value) -> Self {
        let database = Database {
            name: "a",
            documents: vec![document.clone()],
            is_static: false,
            asked: Vec::new(),
        };
        let mut server = Self {
            addr: (Ipv4Addr::LOCALHOST, 0).into(),
            shared: Arc::new((Mutex::new(database), tokio::sync::watch::Sender::new(()))),
            runtime: None,
        };
        server.live();
        server
    }

    /// Listens where it did before.
    fn live(&mut self) {
        let runtime = Runtime::new().unwrap();
        let listener = std::net::TcpListener::bind(self.addr).unwrap();
        listener.set_nonblocking(true).unwrap();
        self.addr = listener.local_addr().unwrap();
        let router = Router::new().fallback(answer).with_state(self.shared.clone());
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, router).await.unwrap();
        });
        self.runtime = Some(runtime);
    }

    /// Ends it with all that it has open.
    fn die(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }

    fn change(&self, then: impl FnOnce(&mut Database)) -> Instant {
        let (database, changed) = &*self.shared;
        then(&mut database.lock().unwrap());
        changed.send_replace(());
        Instant::now()
    }

    /// Has another document from now on; since when.
    fn set(&self, directory: &Directory) -> Instant {
        self.change(|database| database.documents.push(directory.document()))
    }

    fn asked(&self) -> Vec<Asked> {
        self.shared.0.lock().unwrap().asked.clone()
    }

    /// How many questions had this answer.
    fn answered(&self, answer: &str) -> usize {
        self.asked().iter().filter(|asked| asked.answer == answer).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Database {
    fn version(&self) -> String {
        format!("{}-{}", self.name, self.documents.len())
    }

    /// The document of a version that it has had.
    fn document(&self, version: &str) -> Option<&Value> {
        let (name, number) = version.rsplit_once('-')?;
        let number: usize = number.parse().ok()?;
        self.documents
            .get(number.checked_sub(1)?)
            .filter(|_| name == self.name)
    }
}

async fn answer(State(shared): State<Shared>, headers: HeaderMap, uri: Uri) -> Response {
    let begun = Instant::now();
    let header = |name| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    let query = |name: &str| {
        let query = uri.query().unwrap_or_default();
        query
            .split('&')
            .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
            .map(str::to_owned)
    };
    let (after, wait) = (query("after"), query("wait"));
    let known = header(header::IF_NONE_MATCH);
    let mut changed = shared.1.subscribe();
    let is_static = shared.0.lock().unwrap().is_static;
    if let (Some(after), Some(wait), false) = (&after, wait, is_static) {
        let wait = Duration::from_secs(wait.parse().unwrap());
        let is_current = || shared.0.lock().unwrap().version() == *after;
        while is_current() && begun.elapsed() < wait {
            let _ = tokio::time::timeout(wait - begun.elapsed(), changed.changed()).await;
        }
    }
    let mut database = shared.0.lock().unwrap();
    let etag = format!("\"{}\"", database.version());
    let current = database.documents.last().unwrap().clone();
    let before = after
        .as_ref()
        .filter(|_| !database.is_static)
        .and_then(|after| database.document(after));
    let (answer, response) = if known.as_ref() == Some(&etag) {
        ("unchanged", StatusCode::NOT_MODIFIED.into_response())
    } else if let (Some(before), Some(after)) = (before, &after) {
        let changes = difference(after, before, &current);
        (
            "changes",
            packed(&changes, &etag, "application/vnd.tollgate.changes+json"),
        )
    } else {
        ("document", packed(&current, &etag, "application/json"))
    };
    database.asked.push(Asked {
        uri: uri.to_string(),
        if_none_match: known,
        authorization: header(header::AUTHORIZATION),
        answer,
        took: begun.elapsed(),
    });
    response
}

fn packed(body: &Value, etag: &str, content_type: &str) -> Response {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body.to_string().as_bytes()).unwrap();
    let headers = [
        (header::ETAG, etag.to_owned()),
        (header::CONTENT_TYPE, content_type.to_owned()),
        (header::CONTENT_ENCODING, "gzip".to_owned()),
    ];
    (headers, encoder.finish().unwrap()).into_response()
}

/// What differs between two documents.
fn difference(version: &str, before: &Value, after: &Value) -> Value {
    let (old, new) = (
        before["orgs"].as_object().unwrap(),
        after["orgs"].as_object().unwrap(),
    );
    let mut orgs: Map<String, Value> = Map::new();
    for (name, org) in new.iter().filter(|(name, org)| old.get(*name) != Some(org)) {
        orgs.insert(name.clone(), org.clone());
    }
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        orgs.insert(name.clone(), Value::Null);
    }
    let (old, new) = (
        before["keys"].as_array().unwrap(),
        after["keys"].as_array().unwrap(),
    );
    let keys: Vec<&Value> = new.iter().filter(|row| !old.contains(row)).collect();
    let is_left = |row: &&Value| new.iter().all(|other| other["sha256"] != row["sha256"]);
    let removed: Vec<&Value> = old.iter().filter(is_left).map(|row| &row["sha256"]).collect();
    json!({"version": 1, "after": version, "orgs": orgs, "keys": keys, "removed_keys": removed})
}

async fn start(server: &Server, models: &ModelServer) -> Gateway {
    let watch = format!("timeout: 2s\n          watch: 5s\n          token: {TOKEN}");
    Options::new()
        .edit("directory-http.yaml", "refresh: 5s", "refresh: 1s")
        .edit("directory-http.yaml", "timeout: 30s", &watch)
        .key_auth(json!({
            "directory": {"http": {"max_stale": "10m", "on_stale": "deny"}},
            "failed_auth": {"rate": "600000/minute", "burst": 600000},
        }))
        .llama(models.addr())
        .documents(server.addr)
        .start()
        .await
}

async fn fetches(gateway: &Gateway, result: &str) -> u64 {
    let name = format!("wasmcustom.tollgate_directory_fetches.result.{result}");
    gateway.stats().await.counter(&name)
}

/// Waits until a change that was made then must be in force, and the load has shown it.
async fn settled(load: &Load, at: Instant, bound: Duration) {
    tokio::time::sleep_until((at + bound).into()).await;
    load.go_on(2).await;
}

#[tokio::test]
async fn each_change_is_in_force_within_a_second() {
    let models = ModelServer::builder().keep(0).start().await.unwrap();
    let mut directory = Directory::new();
    let steady = directory.project_key("acme", "search");
    let leavers = [(); 3].map(|()| directory.key("acme"));
    let frozen = directory.key("globex");
    let server = Server::start(&directory.document());
    let gateway = start(&server, &models).await;
    let newcomer = tollgate_harness::directory::mint();
    let mut lanes = lane::lanes(&gateway).await;
    for lane in &mut lanes {
        net::eventually("a worker has the directory", async || {
            (lane.ask(steady.reveal()).await.status == 200).then_some(())
        })
        .await;
    }
    let load = Load::start(
        &gateway,
        &[
            ("steady", &steady),
            ("leaver 0", &leavers[0]),
            ("leaver 1", &leavers[1]),
            ("leaver 2", &leavers[2]),
            ("frozen", &frozen),
            ("newcomer", &newcomer),
        ],
    )
    .await;
    let added = server.set(directory.row(&newcomer, json!({"org": "acme", "project": "search"})));
    settled(&load, added, BOUND).await;
    let mut revoked = Vec::new();
    for leaver in &leavers {
        let at = server.set(directory.revoke(leaver));
        settled(&load, at, BOUND).await;
        // The next one comes at another moment between two ticks.
        tokio::time::sleep(Duration::from_millis(70)).await;
        revoked.push(at);
    }
    directory.document_mut()["orgs"]["globex"]["status"] = json!("suspended");
    let suspended = server.set(&directory);
    settled(&load, suspended, BOUND).await;
    // Longer than it waits, so that it says that nothing changed.
    net::eventually("the server has waited", async || {
        (server.answered("unchanged") >= 1).then_some(())
    })
    .await;
    let journal = load.stop();
    println!("requests:\n{}", journal.summary());
    assert!(journal.always("steady", 200) > 200);
    let took = journal.turns("newcomer", added, BOUND, 401, 200);
    println!("a new key: on both workers after {took:?}");
    for (name, at) in ["leaver 0", "leaver 1", "leaver 2"].into_iter().zip(revoked) {
        let took = journal.turns(name, at, BOUND, 200, 401);
        println!("{name}: refused on both workers after {took:?}");
    }
    let took = journal.turns("frozen", suspended, BOUND, 200, 403);
    println!("a frozen organization: refused on both workers after {took:?}");

    let asked = server.asked();
    println!("{asked:#?}");
    assert_eq!((server.answered("document"), server.answered("changes")), (1, 5));
    assert_eq!(asked[0].uri, "/directory.json");
    assert_eq!(asked[1].uri, "/directory.json?after=a-1&wait=5");
    assert_eq!(asked[1].if_none_match.as_deref(), Some("\"a-1\""));
    assert!(
        asked
            .iter()
            .all(|asked| asked.authorization == Some(format!("Bearer {TOKEN}")))
    );
    let waited = asked.iter().find(|asked| asked.answer == "unchanged").unwrap();
    assert!(
        waited.took >= WAIT && waited.took < WAIT + Duration::from_secs(1),
        "{waited:?}"
    );
    assert_eq!(fetches(&gateway, "ok").await, 6);
    assert_eq!(
        (
            fetches(&gateway, "failed").await,
            fetches(&gateway, "rejected").await
        ),
        (0, 0)
    );
    assert!(!gateway.log().contains(TOKEN));
    assert!(
        gateway
            .log()
            .contains("directory: 3 keys of 3 organizations are in force")
    );
    assert_no_vm_broke(&gateway).await;
}

#[tokio::test]
async fn another_database_and_a_file_server_are_taken_for_what_they_are() {
    let models = ModelServer::builder().keep(0).start().await.unwrap();
    let mut directory = Directory::new();
    let steady = directory.project_key("acme", "search");
    let old = directory.key("globex");
    let leaver = directory.key("acme");
    let mut server = Server::start(&directory.document());
    let gateway = start(&server, &models).await;
    let mut lanes = lane::lanes(&gateway).await;
    for lane in &mut lanes {
        net::eventually("a worker has the directory", async || {
            (lane.ask(steady.reveal()).await.status == 200).then_some(())
        })
        .await;
    }
    let callers: [(&str, &dyn tollgate_harness::client::Credential); 3] =
        [("steady", &steady), ("old", &old), ("leaver", &leaver)];
    let load = Load::start(&gateway, &callers).await;

    // It dies while it is asked, and is away for a while.
    server.die();
    net::eventually("it is missed", async || {
        (fetches(&gateway, "failed").await >= 3).then_some(())
    })
    .await;
    load.go_on(5).await;
    let failed = fetches(&gateway, "failed").await;
    assert!(failed <= 5, "asked every refresh: {failed}");
    // It is back, with a database that knows nothing of the old one's versions.
    directory.revoke(&old);
    server.change(|database| {
        database.name = "b";
        database.documents = vec![directory.document()];
    });
    server.live();
    let back = Instant::now();
    let bound = REFRESH + BOUND;
    settled(&load, back, bound).await;
    let asked = server.asked();
    let last = asked.iter().rfind(|asked| asked.answer == "document").unwrap();
    assert_eq!(last.uri, "/directory.json?after=a-1&wait=5");
    assert_eq!(fetches(&gateway, "ok").await, 2);

    // And then it is a file server.
    server.change(|database| database.is_static = true);
    let unchanged = server.answered("unchanged");
    net::eventually("it answers at once", async || {
        (server.answered("unchanged") >= unchanged + 2).then_some(())
    })
    .await;
    let (from, asked) = (Instant::now(), server.asked().len());
    tokio::time::sleep(REFRESH * 4).await;
    let asked = server.asked().len() - asked;
    assert!(asked <= 5, "asked {asked} times in {:?}", from.elapsed());
    let revoked = server.set(directory.revoke(&leaver));
    settled(&load, revoked, bound).await;
    let journal = load.stop();
    println!("requests:\n{}", journal.summary());
    assert!(journal.always("steady", 200) > 200);
    let took = journal.turns("old", back, bound, 200, 401);
    println!("another database's document: on both workers {took:?} after it was back");
    let took = journal.turns("leaver", revoked, bound, 200, 401);
    println!("a file server's: on both workers after {took:?}");
    assert_eq!(fetches(&gateway, "rejected").await, 0);
    assert_no_vm_broke(&gateway).await;
}

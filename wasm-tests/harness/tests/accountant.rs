//! An accountant that is not our code: `wasm-tests/accountant`, in Python. It asks random things, is the model server that
//! counts what it reads and writes, and does the sums; here is only the gateway between its two ends.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Map, Value, json};
use tollgate_harness::{Catalogue, Directory, Options};

/// Of a random plan, unless `ACCOUNTANT_REQUESTS` and `ACCOUNTANT_SEED` say otherwise.
const REQUESTS: &str = "1500";
const SEED: &str = "10";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_limit_is_passed_by_the_accountants_own_sums() {
    let said = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../accountant/accountant.py");
    let mut accountant = Command::new("python3")
        .arg(script)
        .arg(said("ACCOUNTANT_REQUESTS", REQUESTS))
        .arg(said("ACCOUNTANT_SEED", SEED))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut says = BufReader::new(accountant.stdout.take().unwrap());
    says.read_line(&mut line).unwrap();
    let setup: Value = serde_json::from_str(&line).unwrap();

    let mut directory = Directory::empty();
    let mut keys = Map::new();
    for limit in setup["limits"].as_array().unwrap() {
        let org = limit["name"].as_str().unwrap();
        directory.org(org, json!({"models": ["*"]}));
        keys.insert(org.to_owned(), json!(directory.key(org).reveal()));
    }
    let mut catalogue = Catalogue::empty();
    for (name, model) in setup["models"].as_object().unwrap() {
        catalogue.model(name, model.clone());
    }
    let port = u16::try_from(setup["model_port"].as_u64().unwrap()).unwrap();
    // As long as each limit takes to forget its burst: what a model wrote for a client that left counts until then.
    let hold = "4s";
    let gateway = Options::new()
        .llama(SocketAddr::from(([127, 0, 0, 1], port)))
        .directory(&directory)
        .catalogue(&catalogue)
        .limits(json!({"limits": setup["limits"], "abandoned_hold": hold}))
        .unbroken()
        .start()
        .await;
    let answer = json!({"address": gateway.addr().to_string(), "keys": keys});
    let mut told = accountant.stdin.take().unwrap();
    writeln!(told, "{answer}").unwrap();
    let ended = tokio::task::spawn_blocking(move || accountant.wait())
        .await
        .unwrap();
    assert!(
        ended.unwrap().success(),
        "the accountant found what it says above"
    );
}

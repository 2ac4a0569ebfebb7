//! The real SDKs for Node of OpenAI and Anthropic against a real Envoy: runs the files of `wasm-tests/sdk-node`.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on fails by panicking"
)]

#[path = "support/limits.rs"]
mod limits;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::json;
use tollgate_harness::Cast;
use tollgate_harness::config::repository;
use tollgate_harness::models::ModelServer;
use tollgate_harness::{Gateway, Options};

/// Its gateway lets nobody guess; no other test could go on there.
const GUESSING: &str = "guessing.test.js";
/// Its gateway has limits.
const LIMITS: &str = "limits.test.js";

/// A gateway with a key of each kind.
struct Stage {
    gateway: Gateway,
    llama: ModelServer,
    cast: Cast,
}

impl Stage {
    async fn set(change: impl FnOnce(Options) -> Options) -> Self {
        let llama = ModelServer::start().await.unwrap();
        let cast = Cast::all();
        let options = cast.write(Options::new().llama(llama.addr()));
        let gateway = change(options.unbroken()).start().await;
        Self { gateway, llama, cast }
    }

    /// Runs test files with Node; what it says is this test's output.
    fn node(&self, files: &[String]) {
        let facts = json!({
            "gateway": self.gateway.url(),
            "models": self.llama.url(),
            "keys": self.cast.json(),
        });
        let mut node = Command::new("node");
        node.args(["--test", "--test-reporter=spec"])
            .args(files)
            .current_dir(directory())
            .env("TOLLGATE_SDK", facts.to_string());
        // Settings of the person who runs this are not to change what a client does.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if ["OPENAI_", "ANTHROPIC_", "NODE_"]
                .iter()
                .any(|begin| text.starts_with(begin))
            {
                node.env_remove(&name);
            }
        }
        let run = node.output().expect("node is started");
        println!("{}", String::from_utf8_lossy(&run.stdout));
        eprintln!("{}", String::from_utf8_lossy(&run.stderr));
        assert!(run.status.success(), "node ended with {}", run.status);
    }
}

fn directory() -> PathBuf {
    repository().join("wasm-tests/sdk-node")
}

/// The test files, once their packages are those of the lock file.
fn files() -> Vec<String> {
    let wanted = fs::read(directory().join("package-lock.json")).unwrap();
    // scripts/setup-node.sh leaves the lock file there that it has installed.
    let installed = fs::read(directory().join("node_modules/.installed.json")).ok();
    assert!(
        installed == Some(wanted),
        "wasm-tests/sdk-node has not the packages of its lock file: `make test` puts them there"
    );
    let entries = fs::read_dir(directory()).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".test.js"))
        .collect()
}

#[tokio::test]
async fn customers_programs_see_the_contract() {
    // The tests get far more wrong, from one address, than the shipped limit grants.
    let wide = |options: Options| {
        options.edit(
            "filters/key-auth.yaml",
            "{rate: 30/minute, burst: 30}",
            "{rate: 6000/minute, burst: 6000}",
        )
    };
    let mut files = files();
    files.retain(|name| ![GUESSING, LIMITS].contains(&name.as_str()));
    assert!(!files.is_empty());
    Stage::set(wide).await.node(&files);
}

#[tokio::test]
async fn guessing_is_limited() {
    Stage::set(|options| options).await.node(&only(GUESSING));
}

#[tokio::test]
async fn limits_are_waited_for() {
    let limits = |options: Options| options.limits(limits::of_each_kind());
    Stage::set(limits).await.node(&only(LIMITS));
}

fn only(file: &str) -> Vec<String> {
    let mut files = files();
    files.retain(|name| name == file);
    assert_eq!(files.len(), 1);
    files
}

//! The real SDKs of OpenAI and Anthropic against a real Envoy: runs the pytest files of `wasm-tests/sdk`.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails by panicking"
)]

#[path = "support/limits.rs"]
mod limits;

use std::process::Command;

use serde_json::json;
use tollgate_harness::Cast;
use tollgate_harness::models::ModelServer;
use tollgate_harness::tools::python;
use tollgate_harness::{Gateway, Options};

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

    /// Runs pytest; its output is this test's.
    fn pytest(&self, arguments: &[&str]) {
        let python = python().unwrap_or_else(|e| panic!("{e:#}"));
        let facts = json!({
            "gateway": self.gateway.url(),
            "models": self.llama.url(),
            "keys": self.cast.json(),
        });
        let run = Command::new(python)
            .args(["-m", "pytest", "-q", "--durations=3"])
            .args(arguments)
            .current_dir(tollgate_harness::config::repository().join("wasm-tests/sdk"))
            .env("TOLLGATE_SDK", facts.to_string())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            // Settings of the person who runs this are not to change what a client does.
            .env_remove("OPENAI_API_KEY")
            .env_remove("OPENAI_BASE_URL")
            .env_remove("OPENAI_ORG_ID")
            .env_remove("OPENAI_PROJECT_ID")
            .env_remove("ANTHROPIC_API_KEY")
            .env_remove("ANTHROPIC_AUTH_TOKEN")
            .env_remove("ANTHROPIC_BASE_URL")
            .env("NO_PROXY", "127.0.0.1")
            .output()
            .expect("pytest is started");
        println!("{}", String::from_utf8_lossy(&run.stdout));
        eprintln!("{}", String::from_utf8_lossy(&run.stderr));
        assert!(
            run.status.success(),
            "pytest ended with {}: `make test` sets up what it needs",
            run.status
        );
    }
}

#[tokio::test]
async fn customers_programs_see_the_contract() {
    // The tests get far more wrong, from one address, than the shipped limit grants.
    let key_auth = "filters/key-auth.yaml";
    let wide = |options: Options| {
        options.edit(
            key_auth,
            "{rate: 30/minute, burst: 30}",
            "{rate: 6000/minute, burst: 6000}",
        )
    };
    Stage::set(wide)
        .await
        .pytest(&["--ignore=test_guessing.py", "--ignore=test_limits.py"]);
}

#[tokio::test]
async fn guessing_is_limited() {
    Stage::set(|options| options).await.pytest(&["test_guessing.py"]);
}

#[tokio::test]
async fn limits_are_waited_for() {
    let limits = |options: Options| options.limits(limits::of_each_kind());
    Stage::set(limits).await.pytest(&["test_limits.py"]);
}

//! A gateway with two providers behind one aggregate cluster: the blocks of `envoy/filters/upstream-adapter.yaml`, as
//! an operator would copy them, with other ports and paths.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;
use tollgate_core::key::ApiKey;
use tollgate_harness::client::Request;
use tollgate_harness::config::repository;
use tollgate_harness::models::ModelServer;
use tollgate_harness::{Directory, Gateway, Options};

const FILE: &str = "filters/upstream-adapter.yaml";

/// Two providers and a gateway in front of them.
pub(crate) struct Stage {
    pub(crate) gateway: Gateway,
    pub(crate) key: ApiKey,
    /// Of the provider `local`.
    pub(crate) first: ModelServer,
    /// Of the provider `openrouter`.
    pub(crate) second: ModelServer,
    /// Where the second's secret lies.
    pub(crate) secrets: TempDir,
}

/// The first provider's secret comes from Envoy's environment, which is the test's: of what cargo sets there, this
/// stands in no file of a gateway.
pub(crate) fn first_secret() -> String {
    std::env::var("CARGO_PKG_NAME").unwrap()
}

/// The second's comes from a file; made up for each run.
pub(crate) fn second_secret() -> String {
    format!("second-secret-{}-qZ7w", std::process::id())
}

/// Two that differ in all that can differ, but that the first's path is one that a stand-in answers.
pub(crate) fn providers() -> Value {
    prefixed("")
}

/// The same, with a prefix of the first's paths. The stand-in knows no such path: it answers faults and 404.
pub(crate) fn prefixed(prefix: &str) -> Value {
    json!({
        "local": {
            "models": {"llama-*": "first/*"},
            "path_prefix": prefix, "authority": "one.example",
            "credential": {"secret": "LOCAL_KEY"}, "headers": {"x-one": "1"},
        },
        "openrouter": {
            "models": {"llama-70b": "the second's name of llama-70b"},
            "credential": {"secret": "OPENROUTER_KEY", "header": "x-api-key"},
        },
    })
}

impl Stage {
    pub(crate) async fn start() -> Self {
        Self::with(&providers(), |options| options).await
    }

    pub(crate) async fn with(providers: &Value, change: impl FnOnce(Options) -> Options) -> Self {
        let routes = format!("    routes:\n{}", block("in routes.yaml", 4));
        let change = |options: Options| change(options.edit("routes.yaml", "    routes:\n", &routes));
        Self::of(providers, |clusters| clusters, change).await
    }

    /// With other clusters, made of the file's own, and nothing added to the routes.
    pub(crate) async fn of(
        providers: &Value,
        clusters: impl FnOnce(String) -> String,
        change: impl FnOnce(Options) -> Options,
    ) -> Self {
        let first = ModelServer::builder().name("first").start().await.unwrap();
        let second = ModelServer::builder().name("second").start().await.unwrap();
        let secrets = TempDir::new().unwrap();
        let mut directory = Directory::new();
        let key = directory.project_key("acme", "search");
        write_secret(secrets.path(), &second_secret());
        let place = secrets.path().display().to_string();
        let file = block("envoy/secrets/openrouter_key.yaml", 0).replace("/run/secrets", &place);
        fs::write(secrets.path().join("openrouter_key.yaml"), file).unwrap();
        let block = block("in clusters.yaml", 0)
            .replace(
                "port_value: 11001",
                &format!("port_value: {}", first.addr().port()),
            )
            .replace(
                "port_value: 11002",
                &format!("port_value: {}", second.addr().port()),
            )
            .replace("ENVIRONMENT(LOCAL_KEY)", "ENVIRONMENT(CARGO_PKG_NAME)")
            .replace("envoy/secrets", &place);
        let clusters = clusters(block);
        let endpoints = "endpoints: [chat, completions, responses, messages";
        let options = Options::new()
            .edit(
                "filters/tenant-router.yaml",
                endpoints,
                &format!("{endpoints}, transcriptions"),
            )
            .directory(&directory)
            .edit(
                "clusters.yaml",
                "resources:\n",
                &format!("resources:\n{clusters}"),
            )
            .edit(
                FILE,
                &configuration(),
                &format!("          providers: {providers}\n"),
            );
        Self {
            gateway: change(options).start().await,
            key,
            first,
            second,
            secrets,
        }
    }

    pub(crate) fn post(&self, path: &str) -> Request {
        self.gateway.post(path).key(&self.key)
    }

    /// Another secret of the second provider, put there as a secret store does.
    pub(crate) fn rotate(&self, secret: &str) {
        write_secret(self.secrets.path(), secret);
    }

    /// Nothing that an operator reads has either secret.
    pub(crate) async fn expect_no_secret_shown(&self) {
        let pages = ["/config_dump?include_eds", "/clusters", "/stats", "/server_info"];
        let mut shown = vec![
            ("log", self.gateway.log()),
            ("access log", self.gateway.access_log().text()),
        ];
        for page in pages {
            shown.push((page, self.gateway.admin(page).await));
        }
        for (place, text) in shown {
            for secret in [first_secret(), second_secret()] {
                assert!(!text.contains(&secret), "{place} shows {secret}");
            }
        }
    }
}

fn write_secret(place: &Path, secret: &str) {
    let new = place.join(".new");
    // Files that people edit end in a line break.
    fs::write(&new, format!("{secret}\n")).unwrap();
    fs::rename(new, place.join("openrouter_key")).unwrap();
}

fn file() -> String {
    fs::read_to_string(repository().join("envoy").join(FILE)).unwrap()
}

/// The filter's configuration in its file.
fn configuration() -> String {
    let file = file();
    let begin = file.find("          # By the name").unwrap();
    let end = file.find("\n# Whoever").unwrap();
    file[begin..end].to_owned()
}

/// A commented block of the file, as it would stand in the file that it is for.
pub(crate) fn block(title: &str, indent: usize) -> String {
    let file = file();
    let (_, rest) = file.split_once(&format!("# --- {title} ---\n")).unwrap();
    let (block, _) = rest.split_once("# --- ").unwrap();
    let line = |line: &str| format!("{:indent$}{}\n", "", line.strip_prefix("# ").unwrap());
    block.lines().map(line).collect()
}

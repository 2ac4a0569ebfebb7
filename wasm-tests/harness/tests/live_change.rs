//! Changes of the directory while customers call: not one request is wrongly refused, and none is wrongly admitted
//! once the bound is over. The directory is the filter's own file here; `directory_http.rs` has the other source.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test says what it expects by failing, in its helpers too"
)]

mod support;

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::load::Load;
use support::{OPENAI, assert_no_vm_broke, assert_no_vm_restarted};
use tollgate_core::key::ApiKey;
use tollgate_harness::models::{Ending, FAULT_HEADER, ModelServer};
use tollgate_harness::{Directory, Gateway, Options, Reload, config, directory, is_native};

/// The bound for a changed file: from its rename on, so long at most until no worker goes by the old one.
const BOUND: Duration = Duration::from_secs(1);

struct Stack {
    gateway: Gateway,
    models: ModelServer,
}

impl Stack {
    async fn start(directory: &Directory) -> Self {
        Self::with(directory, |options| options).await
    }

    async fn with(directory: &Directory, change: impl FnOnce(Options) -> Options) -> Self {
        let models = ModelServer::builder().keep(100).start().await.unwrap();
        let options = Options::new().llama(models.addr()).key_auth(unlimited(directory));
        let gateway = change(options).start().await;
        Self { gateway, models }
    }

    /// Puts a directory in force; when that began.
    async fn change(&self, directory: &Directory) -> Instant {
        let at = Instant::now();
        assert_eq!(
            self.gateway.set_key_auth(&unlimited(directory)).await,
            Reload::Accepted
        );
        at
    }

    /// Begins a streamed answer of `tokens` tokens, 50 ms apart.
    async fn stream(&self, key: &ApiKey, tokens: u32) -> reqwest::Response {
        let body = json!({"model": "llama-70b", "stream": true, "messages": [{"role": "user", "content": "one two"}]});
        let request = self.gateway.post(OPENAI).key(key).json(body);
        let response = request
            .header(FAULT_HEADER, &format!("tokens={tokens},pace=50ms"))
            .open()
            .await;
        assert_eq!(response.status(), 200);
        response
    }
}

/// A key that is refused fails many times a second here.
fn unlimited(directory: &Directory) -> Value {
    let mut key_auth = directory.inline();
    key_auth["failed_auth"] = json!({"rate": "600000/minute", "burst": 600000});
    key_auth
}

async fn until(moment: Instant) {
    tokio::time::sleep_until(moment.into()).await;
}

#[tokio::test]
async fn changes_under_load_refuse_and_admit_nobody_wrongly() {
    let mut directory = Directory::new();
    directory.org("umbrella", json!({"tier": "free", "models": ["llama-*"]}));
    let steady = directory.project_key("acme", "search");
    let free = directory.key("globex");
    let leaver = directory.key("acme");
    let freezing = directory.key("acme");
    let frozen_org = directory.key("umbrella");
    let old = directory.project_key("acme", "search");
    let stack = Stack::start(&directory).await;
    let load = Load::start(
        &stack.gateway,
        &[
            ("steady", &steady),
            ("free", &free),
            ("leaver", &leaver),
            ("freezing", &freezing),
            ("org", &frozen_org),
            ("rotating", &old),
            ("old key", &old),
        ],
    )
    .await;
    let streams = [
        stack.stream(&steady, 150).await,
        stack.stream(&leaver, 150).await,
        stack.stream(&frozen_org, 150).await,
    ];

    // A revocation.
    let revoked = stack.change(directory.revoke(&leaver)).await;
    until(revoked + BOUND).await;
    // A freeze of a key, and of an organization.
    let frozen = stack
        .change(directory.change(&freezing, json!({"status": "suspended"})))
        .await;
    until(frozen + BOUND).await;
    directory.document_mut()["orgs"]["umbrella"]["status"] = json!("suspended");
    let org_frozen = stack.change(&directory).await;
    until(org_frozen + BOUND).await;
    // A rotation: both keys are good, the owner changes over, the old one goes.
    let new = directory.project_key("acme", "search");
    let both = stack.change(&directory).await;
    until(both + BOUND).await;
    load.switch("rotating", &new);
    load.go_on(5).await;
    let rotated = stack.change(directory.revoke(&old)).await;
    until(rotated + BOUND).await;
    // A thaw.
    directory.document_mut()["orgs"]["umbrella"]["status"] = json!("active");
    let thawed = stack.change(&directory).await;
    until(thawed + BOUND).await;
    load.go_on(5).await;

    let journal = load.stop();
    println!("requests:\n{}", journal.summary());
    for caller in ["steady", "free", "rotating"] {
        assert!(journal.always(caller, 200) > 500, "{caller}: that is no load");
    }
    let took = [
        ("a revocation", journal.turns("leaver", revoked, BOUND, 200, 401)),
        (
            "a key's freeze",
            journal.turns("freezing", frozen, BOUND, 200, 403),
        ),
        (
            "a rotation's end",
            journal.turns("old key", rotated, BOUND, 200, 401),
        ),
        (
            "an organization's freeze",
            journal.before(thawed).turns("org", org_frozen, BOUND, 200, 403),
        ),
        (
            "its thaw",
            journal
                .since(org_frozen + BOUND)
                .turns("org", thawed, BOUND, 403, 200),
        ),
    ];
    for (what, took) in took {
        println!("{what} was in force on both workers after {took:?}");
    }
    for said in journal.of("freezing").filter(|sample| sample.status == 403) {
        assert!(said.text.contains("key_suspended"), "{said:?}");
    }
    // What had begun went on, whatever became of its key.
    for (number, response) in streams.into_iter().enumerate() {
        let text = String::from_utf8(response.bytes().await.unwrap().to_vec()).unwrap();
        assert!(
            text.trim_end().ends_with("data: [DONE]"),
            "stream {number}: {text}"
        );
    }
    let seen = stack.models.seen();
    assert!(
        seen.iter().all(|seen| seen.ending == Ending::Completed),
        "{seen:#?}"
    );
    assert_no_vm_broke(&stack.gateway).await;
}

#[tokio::test]
async fn reloads_in_a_row_fail_no_request() {
    let mut directory = Directory::new();
    let steady = directory.project_key("acme", "search");
    let free = directory.key("globex");
    let stack = Stack::start(&directory).await;
    let load = Load::start(&stack.gateway, &[("steady", &steady), ("free", &free)]).await;
    let rss = stack.gateway.rss_kb();
    for number in 0..20 {
        let mut key_auth = unlimited(&directory);
        key_auth["failed_auth"]["burst"] = json!(1000 + number);
        assert_eq!(stack.gateway.set_key_auth(&key_auth).await, Reload::Accepted);
    }
    load.go_on(5).await;
    let journal = load.stop();
    let grown = stack.gateway.rss_kb().saturating_sub(rss);
    println!("20 reloads: {grown} kB more; requests:\n{}", journal.summary());
    for caller in ["steady", "free"] {
        assert!(journal.always(caller, 200) > 20);
    }
    assert!(grown < 64 * 1024, "a reload keeps memory: {grown} kB after 20");
    assert_no_vm_broke(&stack.gateway).await;
}

/// One mistake: a `configuration`, and what the refusal of it must say.
struct Mistake {
    name: String,
    configuration: String,
    expected: String,
}

/// The files of `wasm-tests/vm/tests/bad_config`: a `.yaml`, and beside it in `.expected` all that is said, a line each.
/// `pasted` stands where someone pasted a key.
fn mistakes(pasted: &ApiKey) -> Vec<Mistake> {
    let dir = config::repository().join("wasm-tests/vm/tests/bad_config/key-auth");
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let yaml = files
        .into_iter()
        .filter(|path| path.extension().is_some_and(|end| end == "yaml"));
    let filled = |text: String| {
        text.replace("$KEY", pasted.reveal())
            .replace("$HASH", &pasted.sha256_hex())
    };
    yaml.map(|path| Mistake {
        name: path.file_stem().unwrap().to_string_lossy().into_owned(),
        configuration: filled(fs::read_to_string(&path).unwrap()),
        expected: fs::read_to_string(path.with_extension("expected")).unwrap(),
    })
    .collect()
}

/// The repository's own file, with this configuration and the module that `good` names.
fn file_with(good: &str, configuration: &str) -> String {
    let good: Value = serde_json::from_str(good).unwrap();
    let module = &good["resources"][0]["typed_config"]["config"]["vm_config"]["code"]["local"]["filename"];
    let file = fs::read_to_string(config::repository().join("envoy/filters/key-auth.yaml")).unwrap();
    let (head, _) = file.split_once("          directory:").unwrap();
    let head = head.replace("dist/tollgate-key-auth.wasm", module.as_str().unwrap());
    let indented = configuration.lines().map(|line| format!("          {line}\n"));
    head + &indented.collect::<String>()
}

#[tokio::test]
async fn each_mistake_is_refused_with_its_place_and_the_old_one_serves() {
    let mut directory = Directory::new();
    let steady = directory.project_key("acme", "search");
    let leaver = directory.key("globex");
    let stack = Stack::start(&directory).await;
    let load = Load::start(&stack.gateway, &[("steady", &steady), ("leaver", &leaver)]).await;
    let pasted = directory::mint();
    let mistakes = mistakes(&pasted);
    assert!(mistakes.len() > 60, "{}", mistakes.len());
    let good = fs::read_to_string(stack.gateway.directory().join("envoy/filters/key-auth.yaml")).unwrap();
    let mut wrong = Vec::new();
    for mistake in &mistakes {
        let text = file_with(&good, &mistake.configuration);
        let Reload::Rejected(why) = stack.gateway.set_key_auth_file(&text).await else {
            panic!("{} was taken", mistake.name)
        };
        let is_said = |line: &str| {
            // Envoy hands a library whole numbers as such.
            let line = if is_native() {
                line.replace("floating point", "integer").replace(".0`", "`")
            } else {
                line.to_owned()
            };
            // In the one module's file the configuration is a section.
            let in_section = match line.strip_prefix("(top level)") {
                Some(rest) => format!("key_auth{rest}"),
                None => format!("key_auth.{line}"),
            };
            let refused = [line, in_section].map(|why| format!("configuration refused: {why}"));
            refused.iter().any(|refused| why.contains(refused))
        };
        if !mistake.expected.lines().all(is_said) || why.contains(pasted.reveal()) {
            wrong.push(format!(
                "{}: expected `{}` in:\n{why}",
                mistake.name, mistake.expected
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    load.go_on(5).await;
    // The next good one is taken.
    let mut mended: Value = serde_json::from_str(&good).unwrap();
    let configuration = "/resources/0/typed_config/config/configuration/value";
    *mended.pointer_mut(configuration).unwrap() = unlimited(directory.revoke(&leaver));
    let revoked = Instant::now();
    assert_eq!(
        stack.gateway.set_key_auth_file(&mended.to_string()).await,
        Reload::Accepted
    );
    until(revoked + BOUND).await;
    load.go_on(5).await;
    let journal = load.stop();
    println!("{} mistakes; requests:\n{}", mistakes.len(), journal.summary());
    journal.always("steady", 200);
    let took = journal.turns("leaver", revoked, BOUND, 200, 401);
    println!("the good one was in force on both workers after {took:?}");
    assert_no_vm_restarted(&stack.gateway).await;
}

/// Some of them Envoy finds before the filter does.
#[tokio::test]
async fn each_mistake_beside_the_configuration_is_refused_too() {
    let mut directory = Directory::new();
    let steady = directory.project_key("acme", "search");
    let stack = Stack::with(&directory, Options::chain).await;
    let load = Load::start(&stack.gateway, &[("steady", &steady)]).await;
    let good = fs::read_to_string(stack.gateway.directory().join("envoy/filters/key-auth.yaml")).unwrap();
    for (from, to, expected) in [
        ("{", "[", ""),
        ("\"key-auth\"", "\"elsewhere\"", "root_id"),
        ("google.protobuf.Struct", "google.protobuf.Unknown", "Unknown"),
        ("tollgate-key-auth.wasm", "no-such.wasm", "no-such.wasm"),
    ] {
        let broken = good.replacen(from, to, 1);
        assert_ne!(good, broken);
        let Reload::Rejected(why) = stack.gateway.set_key_auth_file(&broken).await else {
            panic!("it was taken: {broken}")
        };
        assert!(why.contains(expected), "expected `{expected}` in:\n{why}");
    }
    load.go_on(5).await;
    load.stop().always("steady", 200);
    assert_no_vm_restarted(&stack.gateway).await;
}

//! The examples do what their READMEs say: the files as they are, on a real Envoy, with only ports and keys put in.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what it expects by failing, in its helpers too"
)]

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tollgate_core::key::ApiKey;
use tollgate_harness::bucket::{Bucket, Passed};
use tollgate_harness::config::repository;
use tollgate_harness::control::ControlPlane;
use tollgate_harness::documents::Documents;
use tollgate_harness::models::ModelServer;
use tollgate_harness::process::Process;
use tollgate_harness::tools::python;
use tollgate_harness::{Client, Directory, net};

const CHAT: &str = "/v1/chat/completions";
const IMAGES: &str = "/v1/images/generations";

/// A file of `examples/`.
fn example(path: &str) -> String {
    let path = repository().join("examples").join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|e| panic!("{e} in:\n{text}"))
}

/// Puts `to` in place of `from`, which must be there.
fn put(text: &str, from: &str, to: impl ToString) -> String {
    assert!(text.contains(from), "no `{from}` in:\n{text}");
    text.replace(from, &to.to_string())
}

fn put_port(text: &str, from: u16, to: u16) -> String {
    put(
        text,
        &format!("port_value: {from}}}"),
        format!("port_value: {to}}}"),
    )
}

fn body() -> Value {
    json!({"model": "llama-8b", "messages": [{"role": "user", "content": "hi"}]})
}

/// Applies the hunks of a README's code blocks of the kind ```` ```{kind} ````: context, `-` and `+` lines.
fn patch(text: &str, readme: &str, kind: &str) -> String {
    let (mut text, fence, mut hunks) = (text.to_owned(), format!("```{kind}"), 0);
    let mut lines = readme.lines();
    while lines.by_ref().any(|line| line == fence) {
        let (mut old, mut new) = ("\n".to_owned(), "\n".to_owned());
        for line in lines.by_ref().take_while(|line| *line != "```") {
            let (sign, rest) = line.split_at(1);
            if sign != "+" {
                old += &format!("{rest}\n");
            }
            if sign != "-" {
                new += &format!("{rest}\n");
            }
        }
        assert_eq!(text.matches(&old).count(), 1, "the place of this hunk:{old}");
        text = text.replace(&old, &new);
        hunks += 1;
    }
    assert!(hunks > 0, "no {fence} block");
    text
}

/// Envoy as the harness runs it: `ENVOY_BIN`, the one that `make` installs, or the official image.
fn envoy(dir: &Path) -> Command {
    let mut command = program(dir, dir);
    command.args(["-c", "envoy.yaml"]);
    command
}

/// The same in a folder of `dir`, with no arguments yet.
fn program(dir: &Path, folder: &Path) -> Command {
    let mut command = if std::env::var("ENVOY_RUNTIME").is_ok_and(|runtime| runtime == "docker") {
        let mut command = Command::new("docker");
        command.args(["run", "--rm", "--network", "host", "--user"]);
        let (user, group) = (rustix::process::getuid(), rustix::process::getgid());
        command.arg(format!("{}:{}", user.as_raw(), group.as_raw()));
        for (path, mode) in [(dir, "rw"), (&repository(), "ro")] {
            command
                .arg("--volume")
                .arg(format!("{0}:{0}:{mode}", path.display()));
        }
        command.arg("--workdir").arg(folder);
        command.args(["--entrypoint", "envoy", "envoyproxy/envoy:v1.40.0"]);
        command
    } else {
        let installed = || repository().join("target/tools/envoy");
        Command::new(std::env::var_os("ENVOY_BIN").map_or_else(installed, PathBuf::from))
    };
    command.current_dir(folder);
    command
}

/// A directory to run Envoy in, with `dist` and `examples/existing-envoy` where they are in the repository.
fn stage(config: &str) -> TempDir {
    let dir = tempfile::Builder::new().prefix("tollgate-").tempdir().unwrap();
    std::os::unix::fs::symlink(repository().join("dist"), dir.path().join("dist")).unwrap();
    fs::create_dir_all(dir.path().join("examples/existing-envoy")).unwrap();
    fs::write(dir.path().join("envoy.yaml"), config).unwrap();
    dir
}

/// A running Envoy. A failed test shows its log.
struct Envoy {
    addr: SocketAddr,
    admin: SocketAddr,
    dir: TempDir,
    _process: Process,
}

impl Envoy {
    async fn start(config: &str) -> Self {
        Self::start_in(stage(config)).await
    }

    async fn start_in(dir: TempDir) -> Self {
        let command = envoy(dir.path());
        Self::start_by(command, dir).await
    }

    /// Its log and the address of its admin port are in `dir`.
    async fn start_by(mut command: Command, dir: TempDir) -> Self {
        command
            .args(["--disable-hot-restart", "--concurrency", "2", "-l", "warning"])
            .args(["--file-flush-interval-msec", "20"])
            .arg("--admin-address-path")
            .arg(dir.path().join("admin"));
        let log = File::create(dir.path().join("log")).unwrap();
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let mut process = Process::spawn(command).expect("Envoy can be started");
        let up = net::within(Duration::from_secs(60), async || {
            if process.ended().is_some() {
                return Some(Err("it has ended"));
            }
            let admin = fs::read_to_string(dir.path().join("admin")).ok()?.parse().ok()?;
            Some(Ok((admin, listener(admin).await?)))
        });
        let up = up.await.unwrap_or(Err("it takes too long"));
        let (admin, addr) = up.unwrap_or_else(|why| panic!("no Envoy, {why}:\n{}", log_of(&dir)));
        Self {
            addr,
            admin,
            dir,
            _process: process,
        }
    }

    /// A client with connections of its own: several of them meet both workers.
    fn client(&self) -> Client {
        Client::new(self.addr)
    }

    /// The status that a chat request gets with this key or token.
    async fn chat(&self, credential: &str) -> u16 {
        let request = self.client().post(CHAT).key(credential);
        request.json(body()).send().await.status
    }

    /// Waits until 16 requests in a row are let through: all workers know the key.
    async fn admits(&self, key: &ApiKey) {
        self.settles("all workers know the key", key, &[200]).await;
    }

    /// Waits until 16 requests in a row are refused. While one worker still knows the key this is guessing to
    /// the other, which answers 429 once there was too much of it.
    async fn refuses(&self, key: &ApiKey) {
        self.settles("no worker knows the key", key, &[401, 429]).await;
    }

    async fn settles(&self, what: &str, key: &ApiKey, statuses: &[u16]) {
        net::eventually(what, async || {
            for _ in 0..16 {
                if !statuses.contains(&self.chat(key.reveal()).await) {
                    return None;
                }
            }
            Some(())
        })
        .await;
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = log_of(&self.dir);
            let from = log.lines().count().saturating_sub(40);
            let end: Vec<&str> = log.lines().skip(from).collect();
            eprintln!("--- the end of Envoy's log ---\n{}\n--- end ---", end.join("\n"));
        }
    }
}

fn log_of(dir: &TempDir) -> String {
    fs::read_to_string(dir.path().join("log")).unwrap_or_default()
}

/// Where the only listener listens, once Envoy is ready.
async fn listener(admin: SocketAddr) -> Option<SocketAddr> {
    let admin = Client::new(admin);
    if admin.get("/ready").try_send().await.ok()?.status != 200 {
        return None;
    }
    let listeners = admin.get("/listeners?format=json").try_send().await.ok()?.json();
    let address = &listeners["listener_statuses"][0]["local_address"]["socket_address"];
    let port = u16::try_from(address["port_value"].as_u64()?).ok()?;
    (port != 0).then_some(
        (
            address["address"].as_str()?.parse::<std::net::IpAddr>().ok()?,
            port,
        )
            .into(),
    )
}

/// The keys of `existing-envoy`: one for each of its organizations.
struct Keys {
    acme: ApiKey,
    globex: ApiKey,
    directory: Directory,
}

impl Keys {
    fn mint() -> Self {
        let mut directory = Directory::empty();
        directory.org("acme", json!({"tier": "pro"}));
        directory.org("globex", json!({"tier": "free"}));
        let (acme, globex) = (directory.key("acme"), directory.key("globex"));
        Self {
            acme,
            globex,
            directory,
        }
    }

    /// As an operator does it: the rows go where `keys: []` is.
    fn fill_in(&self, config: &str) -> String {
        put(
            config,
            "keys: []",
            format!("keys: {}", self.directory.document()["keys"]),
        )
    }
}

/// `envoy-before.yaml` or what became of it, on free ports.
fn ports(config: &str, service: &ModelServer) -> String {
    let config = put_port(&put_port(config, 9901, 0), 8080, 0);
    put_port(&config, 8000, service.addr().port())
}

#[test]
fn the_readme_of_existing_envoy_has_every_line_that_was_added() {
    let readme = example("existing-envoy/README.md");
    let added = patch(&example("existing-envoy/envoy-before.yaml"), &readme, "diff");
    assert_eq!(added, example("existing-envoy/envoy-after.yaml"));
}

#[tokio::test]
async fn before_anyone_may_call_and_be_anyone() {
    let service = ModelServer::start().await.unwrap();
    let envoy = Envoy::start(&ports(&example("existing-envoy/envoy-before.yaml"), &service)).await;
    let request = envoy.client().post(CHAT).header("x-tollgate-org", "acme");
    request.json(body()).send().await.expect(200);
    assert_eq!(service.seen()[0].header("x-tollgate-org"), Some("acme"));
}

#[tokio::test]
async fn after_it_takes_a_key_and_the_service_sees_whose_it_is() {
    let (service, keys) = (ModelServer::start().await.unwrap(), Keys::mint());
    let config = keys.fill_in(&ports(&example("existing-envoy/envoy-after.yaml"), &service));
    let envoy = Envoy::start(&config).await;
    let client = envoy.client();

    let nobody = client.post(CHAT).json(body()).send().await;
    nobody.expect(401).code("missing_api_key");
    let path_of_nothing = client.get("/").send().await;
    path_of_nothing.expect(401).code("missing_api_key");
    assert_eq!(service.seen().len(), 0);

    let spoofing = client.post(CHAT).key(&keys.globex).header("x-request-id", "mine");
    let spoofing = spoofing
        .header("x-tollgate-org", "acme")
        .header("x_tollgate_org", "acme");
    let spoofing = spoofing
        .header("x-tollgate-tier", "pro")
        .header("x-tollgate-project", "search");
    spoofing.json(body()).send().await.expect(200);
    let seen = &service.seen()[0];
    let values = |name: &str| seen.headers.iter().filter(|(n, _)| n == name).count();
    for (name, value) in [("x-tollgate-org", "globex"), ("x-tollgate-tier", "free")] {
        assert_eq!((seen.header(name), values(name)), (Some(value), 1), "{name}");
    }
    assert_eq!(seen.header("x-tollgate-key-id"), Some(keys.globex.id()));
    for name in ["authorization", "x-tollgate-project", "x_tollgate_org"] {
        assert_eq!(seen.header(name), None, "{name}");
    }
    assert_ne!(seen.header("x-request-id"), Some("mine"));
}

#[tokio::test]
async fn after_images_are_for_one_tier() {
    let (service, keys) = (ModelServer::start().await.unwrap(), Keys::mint());
    let config = keys.fill_in(&ports(&example("existing-envoy/envoy-after.yaml"), &service));
    let envoy = Envoy::start(&config).await;
    let images = async |key: &ApiKey, path: &str| {
        let request = envoy
            .client()
            .post(path)
            .key(key)
            .header("x-tollgate-tier", "pro");
        let picture = json!({"model": "llama-8b", "prompt": "a gate"});
        request.json(picture).send().await
    };
    images(&keys.acme, IMAGES).await.expect(200);
    assert_eq!(
        images(&keys.globex, IMAGES).await.expect(403).text(),
        "RBAC: access denied"
    );
    // Other ways to write the same path.
    for path in [
        "/v1//images/generations",
        "/v1/chat%2F..%2Fimages/generations",
        "/v1/%69mages/generations",
    ] {
        images(&keys.globex, path).await.expect(403);
    }
    assert_eq!(service.seen().len(), 1);
}

#[tokio::test]
async fn the_filter_in_a_file_of_its_own_is_the_same_and_is_reloaded() {
    let (readme, after) = (
        example("existing-envoy/README.md"),
        example("existing-envoy/envoy-after.yaml"),
    );
    let filter = example("existing-envoy/key-auth.yaml");
    let manager =
        "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters/0/typed_config";
    assert_eq!(
        yaml(&filter).pointer("/resources/0/typed_config").unwrap(),
        yaml(&after).pointer(manager).unwrap()
    );

    let (service, mut keys) = (ModelServer::start().await.unwrap(), Keys::mint());
    let dir = stage(&ports(&patch(&after, &readme, "diff file"), &service));
    let place = dir.path().join("examples/existing-envoy/key-auth.yaml");
    fs::write(&place, keys.fill_in(&filter)).unwrap();
    let envoy = Envoy::start_in(dir).await;
    envoy.admits(&keys.acme).await;

    keys.directory.revoke(&keys.acme);
    let beside = place.with_extension("new");
    fs::write(&beside, keys.fill_in(&filter)).unwrap();
    fs::rename(&beside, &place).unwrap();
    envoy.refuses(&keys.acme).await;
    assert_eq!(envoy.chat(keys.globex.reveal()).await, 200);
}

#[tokio::test]
async fn keys_from_a_web_server_come_and_go() {
    let (readme, after) = (
        example("existing-envoy/README.md"),
        example("existing-envoy/envoy-after.yaml"),
    );
    let (service, mut keys) = (ModelServer::start().await.unwrap(), Keys::mint());
    let documents = Documents::start(&keys.directory.document()).await.unwrap();
    let config = ports(&patch(&after, &readme, "diff http"), &service);
    let envoy = Envoy::start(&put_port(&config, 11080, documents.addr().port())).await;
    envoy.admits(&keys.acme).await;
    assert!(
        documents
            .fetches()
            .iter()
            .all(|fetch| fetch.path == "/directory.json")
    );

    documents.set(&keys.directory.revoke(&keys.acme).document());
    let revoked = Instant::now();
    envoy.refuses(&keys.acme).await;
    assert!(
        revoked.elapsed() < Duration::from_secs(7),
        "{:?}",
        revoked.elapsed()
    );
    assert_eq!(envoy.chat(keys.globex.reveal()).await, 200);
}

/// A token signed as the test's identity provider signs them.
fn token(claims: &Value) -> String {
    const SIGN: &str = "
import base64, hashlib, hmac, json, sys
b64 = lambda data: base64.urlsafe_b64encode(data).rstrip(b'=')
head = b64(json.dumps({'alg': 'HS256', 'kid': 'test', 'typ': 'JWT'}).encode())
text = head + b'.' + b64(sys.argv[1].encode())
print((text + b'.' + b64(hmac.digest(b'a secret of the test, 32 bytes..', text, hashlib.sha256))).decode())
";
    let python = python().unwrap();
    let signed = Command::new(python)
        .args(["-c", SIGN, &claims.to_string()])
        .output()
        .unwrap();
    assert!(signed.status.success(), "{signed:?}");
    String::from_utf8(signed.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn a_verified_token_stands_for_a_key() {
    let (readme, after) = (
        example("existing-envoy/README.md"),
        example("existing-envoy/envoy-after.yaml"),
    );
    let (service, keys) = (ModelServer::start().await.unwrap(), Keys::mint());
    // `k` is the secret of `token` in base64url.
    let secret = "YSBzZWNyZXQgb2YgdGhlIHRlc3QsIDMyIGJ5dGVzLi4";
    let jwks = json!({"keys": [{"kty": "oct", "alg": "HS256", "kid": "test", "k": secret}]});
    let idp = Documents::start(&jwks).await.unwrap();
    let config = keys.fill_in(&ports(&patch(&after, &readme, "diff token"), &service));
    let envoy = Envoy::start(&put_port(&config, 8443, idp.addr().port())).await;

    let claims = |org: &str, audience: &str| {
        token(&json!({
            "iss": "https://idp.example.com", "aud": audience, "sub": "ada@example.com", "org": org, "exp": 4_000_000_000_u64,
        }))
    };
    assert_eq!(envoy.chat(&claims("globex", "models")).await, 200);
    let seen = &service.seen()[0];
    assert_eq!(seen.header("x-tollgate-org"), Some("globex"));
    assert_eq!(seen.header("authorization"), None);

    assert_eq!(envoy.chat(&claims("globex", "another")).await, 401);
    assert_eq!(envoy.chat(&claims("nobody", "models")).await, 401);
    let mut forged = claims("globex", "models");
    forged.replace_range(forged.len() - 8.., "AAAAAAAA");
    assert_eq!(envoy.chat(&forged).await, 401);
    assert_eq!(envoy.chat(keys.acme.reveal()).await, 200);
    envoy
        .client()
        .post(CHAT)
        .json(body())
        .send()
        .await
        .expect(401)
        .code("missing_api_key");
    assert_eq!(service.seen().len(), 2);
}

fn compose() -> Value {
    yaml(&example("docker-compose/docker-compose.yaml"))
}

/// Name and definition of each service.
fn services(compose: &Value) -> impl Iterator<Item = (&str, &Value)> {
    compose["services"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, service)| (name.as_str(), service))
}

#[test]
fn compose_hardens_every_service() {
    for (name, service) in services(&compose()) {
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(service["cap_drop"], json!(["ALL"]), "{name}");
        assert_eq!(
            service["security_opt"],
            json!(["no-new-privileges:true"]),
            "{name}"
        );
        let user = service["user"].as_str().unwrap();
        assert!(!user.starts_with("0") && user != "root", "{name}: {user}");
        assert!(service["healthcheck"]["test"].is_array(), "{name}");
        assert!(service.get("privileged").is_none(), "{name}");
    }
}

#[test]
fn compose_publishes_what_its_readme_says() {
    let (compose, readme) = (compose(), example("docker-compose/README.md"));
    for (name, service) in services(&compose) {
        let published = match service["ports"].as_array().map(Vec::as_slice) {
            None => "nothing".to_owned(),
            Some([port]) => format!("`{}`", port.as_str().unwrap().strip_suffix(":10000").unwrap()),
            Some(more) => panic!("{name}: {more:?}"),
        };
        let row = format!(
            "| `{name}` | `{}` | {published} |\n",
            service["image"].as_str().unwrap()
        );
        assert!(readme.contains(&row), "the README has not this row: {row}");
    }
    let rows = readme.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(rows, services(&compose).count());
}

#[test]
fn compose_mounts_what_is_there_or_what_make_makes() {
    let (root, readme) = (repository(), example("docker-compose/README.md"));
    let makefile = fs::read_to_string(root.join("Makefile")).unwrap();
    for (name, service) in services(&compose()) {
        for volume in service["volumes"].as_array().unwrap() {
            assert_eq!(volume["read_only"], true, "{name}: {volume}");
            let source = volume["source"].as_str().unwrap();
            if source == "../../dist" {
                assert!(
                    makefile.contains("\nwasm:") && readme.contains("    make wasm "),
                    "{name}"
                );
            } else {
                let path = root.join("examples/docker-compose").join(source);
                assert!(path.exists(), "{name}: {}", path.display());
            }
        }
    }
}

/// Where there is a `docker compose`, even without an engine, it reads the file too.
#[test]
fn compose_is_what_docker_compose_takes() {
    let docker = |arguments: &[&str]| {
        let mut command = Command::new("docker");
        command.current_dir(repository().join("examples/docker-compose"));
        command.arg("compose").args(arguments).output()
    };
    if docker(&["version"]).is_ok_and(|output| output.status.success()) {
        let read = docker(&["config", "--quiet"]).unwrap();
        assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    }
}

/// The gateway's Envoy configuration outside its container.
fn loopback(directory: SocketAddr, model: u16) -> String {
    let config = put(&example("docker-compose/envoy.yaml"), "/modules/", "dist/");
    let config = put_port(&config, 9901, 0);
    let socket = |address: &str, port: u16| format!("address: {address}, port_value: {port}}}");
    let config = put(&config, &socket("0.0.0.0", 10000), socket("127.0.0.1", 0));
    let config = put(&config, &socket("model", 8000), socket("127.0.0.1", model));
    put(
        &config,
        &socket("directory", 8080),
        socket("127.0.0.1", directory.port()),
    )
}

/// `model.py` on a free port.
async fn model(dir: &Path) -> (Process, u16) {
    let said = dir.join("model");
    let mut command = Command::new(python().unwrap());
    command.arg(repository().join("examples/docker-compose/model.py"));
    command.args(["--port", "0"]).stdout(File::create(&said).unwrap());
    let process = Process::spawn(command).unwrap();
    let port = net::eventually("the model server listens", async || {
        let said = fs::read_to_string(&said).ok()?;
        said.strip_suffix('\n')?.rsplit_once(':')?.1.parse().ok()
    });
    (process, port.await)
}

/// Runs a service's health check, with the port that it has here.
fn healthy(service: &str, program: &Path, from: u16, to: u16) -> bool {
    let compose = compose();
    let check = compose["services"][service]["healthcheck"]["test"]
        .as_array()
        .unwrap();
    assert_eq!(check[0], "CMD");
    let (option, script) = (check[2].as_str().unwrap(), check[3].as_str().unwrap());
    let script = put(script, &from.to_string(), to);
    Command::new(program)
        .args([option, &script])
        .output()
        .unwrap()
        .status
        .success()
}

#[tokio::test]
async fn compose_serves_customers_with_keys() {
    let document: Value = serde_json::from_str(&example("docker-compose/directory/directory.json")).unwrap();
    let mut directory = Directory::empty();
    *directory.document_mut() = document;
    let key = directory.project_key("acme", "search");
    // A directory is not emptied: another key stays.
    directory.project_key("acme", "search");
    let documents = Documents::start(&directory.document()).await.unwrap();
    let models = tempfile::tempdir().unwrap();
    let (_model, port) = model(models.path()).await;
    let config = loopback(documents.addr(), port);

    let dir = stage(&config);
    let validated = envoy(dir.path()).args(["--mode", "validate"]).output().unwrap();
    assert!(
        validated.status.success(),
        "{}",
        String::from_utf8_lossy(&validated.stderr)
    );

    let envoy = Envoy::start_in(dir).await;
    envoy.admits(&key).await;
    let answer = envoy.client().post(CHAT).key(&key).json(body()).send().await;
    assert_eq!(answer.json()["choices"][0]["message"]["content"], "Hello, acme.");
    let mut streamed = body();
    streamed["stream"] = json!(true);
    let answer = envoy.client().post(CHAT).key(&key).json(streamed).send().await;
    assert!(answer.expect(200).text().ends_with("data: [DONE]\n\n"));
    let nobody = envoy
        .client()
        .post(CHAT)
        .header("x-tollgate-org", "acme")
        .json(body())
        .send()
        .await;
    let nobody = nobody.expect(401).code("missing_api_key");
    assert!(nobody.request_id().is_some());

    // Whether the health checks tell the living from the dead.
    let nobody = net::Refusing::new().unwrap();
    let dead = nobody.addr().port();
    let (bash, python) = (Path::new("bash"), python().unwrap());
    assert!(healthy("gateway", bash, 9901, envoy.admin.port()) && !healthy("gateway", bash, 9901, dead));
    assert!(healthy("model", &python, 8000, port) && !healthy("model", &python, 8000, dead));

    documents.set(&directory.revoke(&key).document());
    envoy.refuses(&key).await;
    let log = net::eventually("the access log has the refusal", async || {
        Some(log_of(&envoy.dir)).filter(|log| log.contains("tollgate_missing_api_key"))
    });
    assert!(!log.await.contains(key.reveal()));
}

/// The commands of a README's block of the kind ```` ```{kind} ````.
fn commands<'a>(readme: &'a str, kind: &str) -> &'a str {
    let block = readme.split_once(&format!("\n```{kind}\n"));
    block.unwrap().1.split_once("\n```\n").unwrap().0
}

/// A folder with what `examples/fleet` makes of `envoy/`, in the place of the repository.
fn fleet_folder() -> TempDir {
    let dir = tempfile::Builder::new().prefix("tollgate-").tempdir().unwrap();
    let copied = Command::new("cp")
        .args(["-r", "envoy", "examples"])
        .arg(dir.path())
        .current_dir(repository())
        .status();
    assert!(copied.unwrap().success());
    std::os::unix::fs::symlink(repository().join("dist"), dir.path().join("dist")).unwrap();
    let made = Command::new("sh")
        .args(["-euc", commands(&example("fleet/README.md"), "sh")])
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    dir
}

/// One Envoy of the fleet, on ports of its own.
async fn fleet_envoy(control: &ControlPlane, model: &ModelServer) -> Envoy {
    let dir = fleet_folder();
    let folder = dir.path().join("target/fleet");
    let change = |file: &str, change: &dyn Fn(&str) -> String| {
        let path = folder.join(file);
        let changed = change(&fs::read_to_string(&path).unwrap());
        fs::write(&path, changed).unwrap();
    };
    change("envoy/listener.yaml", &|text| put_port(text, 10000, 0));
    change("envoy/clusters.yaml", &|text| {
        put_port(
            &put_port(text, 7700, control.addr().port()),
            8000,
            model.addr().port(),
        )
    });
    let token = control.gateway_token().await.unwrap();
    fs::write(
        folder.join("fleet-1.yaml"),
        put(&example("fleet/fleet.yaml"), "TOKEN", token),
    )
    .unwrap();
    let bootstrap = fs::read_to_string(folder.join("envoy/envoy.yaml")).unwrap();
    let mut command = program(dir.path(), &folder);
    command.args(["-c", "fleet-1.yaml", "--config-yaml"]);
    command.arg(put_port(&bootstrap, 9901, 0));
    Envoy::start_by(command, dir).await
}

#[tokio::test]
async fn a_fleet_keeps_one_limit() {
    let limits = yaml(&example("fleet/rate-limit.yaml"));
    let place = "/resources/0/typed_config/config/configuration/value/limits/0";
    let limit = limits.pointer(place).unwrap();
    assert_eq!(
        (&limit["rate"], &limit["burst"]),
        (&json!("600/minute"), &json!(60))
    );
    let limit = Bucket {
        rate: 10.0,
        burst: 60.0,
    };

    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", folder.path().join("tollgate.db").display());
    let control = ControlPlane::start(&database, ([127, 0, 0, 1], 0).into()).unwrap();
    let acme = json!({"id": "acme", "tier": "pro", "models": ["*"]});
    control.post("/v1/orgs", &acme).await.unwrap();
    let (_, key) = control.key("acme").await.unwrap();
    let model = ModelServer::start().await.unwrap();
    let envoys = tokio::join!(fleet_envoy(&control, &model), fleet_envoy(&control, &model));
    let envoys = [envoys.0, envoys.1];
    for envoy in &envoys {
        net::eventually("the key is known", async || {
            let listed = envoy.client().get("/v1/models").key(&key).send().await;
            (listed.status == 200).then_some(())
        })
        .await;
    }

    // The burst first; then nearly all of the rate, where the parts that the two have unasked are half of it.
    let (begun, mut passed) = (Instant::now(), Vec::new());
    let window = Duration::from_secs(4);
    for envoy in envoys.iter().cycle() {
        let sent = Instant::now();
        let reply = envoy.client().post(CHAT).key(&key).json(body()).send().await;
        if reply.status == 200 {
            let answered = Instant::now();
            passed.push(Passed { sent, answered });
        }
        let recent = passed.iter().filter(|one| one.sent.elapsed() < window).count() as f64;
        if begun.elapsed() > 2 * window && recent >= 0.75 * limit.rate * window.as_secs_f64() {
            break;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(40),
            "{recent} in {window:?}"
        );
    }
    assert_eq!(limit.holds(&passed), Ok(()));
    assert_eq!(model.seen().len(), passed.len());
}

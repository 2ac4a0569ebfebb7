//! `stack run`, `stack demo` and the quickstart, as a newcomer meets them.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails by panicking"
)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};
use tollgate_harness::config::repository;
use tollgate_harness::tools::python;
use tollgate_harness::{Cast, Client, Options, net};
use tollgate_models::ModelServer;

/// What takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(90);

fn stack(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stack"));
    command
        .args(arguments)
        .env_remove("GATEWAY_PORT")
        .env_remove("ADMIN_PORT")
        .env_remove("CONTROL_PORT");
    command
}

fn on_free_ports() -> Command {
    stack(&[
        "run",
        "--gateway-port",
        "0",
        "--admin-port",
        "0",
        "--control-port",
        "0",
    ])
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// It failed, and said why in one sentence on one line.
fn sentence(output: &Output) -> String {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let line = said
        .strip_suffix('\n')
        .and_then(|line| line.strip_prefix("error: "));
    line.filter(|line| !line.contains('\n'))
        .unwrap_or_else(|| panic!("not one line: {said}"))
        .to_owned()
}

/// `stack run`, and what it prints.
struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
    gateway: String,
    control: String,
    key: String,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || {
            output
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| send.send(line))
        });
        let mut running = Self {
            child,
            lines,
            gateway: String::new(),
            control: String::new(),
            key: String::new(),
        };
        running.gateway = running
            .field("  gateway   http://")
            .trim_end_matches("/v1")
            .to_owned();
        running.control = running.field("  control   http://");
        running.key = running.field("  key       ");
        running
    }

    /// The first line from now on that has `words`.
    fn line(&self, words: &str) -> String {
        let deadline = std::time::Instant::now() + PATIENCE;
        let mut passed = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line.contains(words) => return line,
                Ok(line) => passed.push(line),
                Err(error) => panic!("no line with {words:?} ({error}) among {passed:#?}"),
            }
        }
    }

    fn field(&self, label: &str) -> String {
        self.line(label).trim_start_matches(label).to_owned()
    }

    fn client(&self) -> Client {
        Client::new(self.gateway.parse().unwrap())
    }

    async fn status(&self) -> u16 {
        self.client().get("/v1/models").key(&self.key).send().await.status
    }

    /// Its key-auth file, among those of all runs.
    fn file(&self) -> PathBuf {
        let (_, port) = self.control.rsplit_once(':').unwrap();
        let port = format!("port_value: {port}}}");
        let runs = fs::read_dir(repository().join("target/run")).unwrap();
        let mut folders = runs.map(|run| run.unwrap().path().join("envoy"));
        let own = folders.find(|folder| {
            let clusters = fs::read_to_string(folder.join("clusters.yaml"));
            clusters.is_ok_and(|text| text.contains(&port))
        });
        own.expect("the run has its files").join("filters/key-auth.yaml")
    }

    fn end(mut self, signal: rustix::process::Signal) -> ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
        let status = self.child.wait().unwrap();
        for addr in [&self.gateway, &self.control] {
            assert!(TcpStream::connect(addr).is_err(), "{addr} is still listened on");
        }
        status
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A test that failed: Envoy ends with its parent.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[tokio::test]
async fn run_prints_what_works_and_ends_when_told() {
    let run = Running::start(on_free_ports());
    let curl = run.line("curl -N ");
    assert!(
        curl.contains(&format!("http://{}/v1/chat/completions", run.gateway)),
        "{curl}"
    );
    let header = run.line("Authorization");
    assert!(
        header.contains(&format!("'Authorization: Bearer {}'", run.key)),
        "{header}"
    );
    let body = run.line("    -d '");
    let body: Value =
        serde_json::from_str(body.trim().trim_start_matches("-d '").trim_end_matches('\'')).unwrap();
    let answer = run
        .client()
        .post("/v1/chat/completions")
        .key(&run.key)
        .json(body)
        .send()
        .await;
    assert!(answer.expect(200).text().contains("data: [DONE]"));

    let mut snippet = run.line("from openai import");
    loop {
        let line = run.line("");
        if line.is_empty() {
            break;
        }
        snippet = format!("{snippet}\n{line}");
    }
    let program = snippet
        .lines()
        .map(|line| line.strip_prefix("  ").unwrap())
        .collect::<Vec<_>>()
        .join("\n");
    let python = Command::new(python().unwrap())
        .args(["-c", &program])
        .output()
        .unwrap();
    assert_eq!(
        text(&python.stdout),
        "llama-70b heard: Say hello",
        "{}",
        text(&python.stderr)
    );

    let line = run.line("acme/search key");
    assert!(line.contains("  200  POST /v1/chat/completions  "), "{line}");
    assert_eq!(run.end(rustix::process::Signal::INT).code(), Some(0));
}

#[tokio::test]
async fn run_serves_in_each_form() {
    for form in ["gateway", "native"] {
        let mut command = on_free_ports();
        command.env("TOLLGATE_FORM", form);
        let run = Running::start(command);
        assert_eq!(run.status().await, 200, "{form}");
        assert_eq!(run.end(rustix::process::Signal::INT).code(), Some(0));
    }
}

#[tokio::test]
async fn run_says_what_became_of_an_edit() {
    let run = Running::start(on_free_ports());
    run.line("Requests:");
    // Another `stack run` may have pointed the link at its own files by now.
    let file = run.file();
    let good = fs::read_to_string(&file).unwrap();
    assert!(
        good.contains("# The last good document serves"),
        "comments are kept"
    );

    // In place, as many editors write.
    fs::write(&file, good.replace("on_stale: deny", "on_stale: maybe")).unwrap();
    run.line("key-auth.yaml: refused, and the old one goes on serving");
    let reason = run.line("directory.http.on_stale");
    assert!(reason.contains("maybe"), "{reason}");
    assert_eq!(run.status().await, 200);

    fs::write(&file, good.replace("max_stale: 10m", "max_stale: 20m")).unwrap();
    run.line("key-auth.yaml: taken");
    assert_eq!(run.status().await, 200);
    // Any other one too, in place and by rename, and none is named that was not edited.
    for name in [
        "filters/tenant-router.yaml",
        "filters/rate-limit.yaml",
        "routes.yaml",
        "clusters.yaml",
    ] {
        let file = file.parent().unwrap().parent().unwrap().join(name);
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, format!("{text}\n# in place\n")).unwrap();
        assert_eq!(run.line(": taken"), format!("{name}: taken"));
        let beside = file.with_extension("new");
        fs::write(&beside, format!("{text}\n# by rename\n")).unwrap();
        fs::rename(&beside, &file).unwrap();
        assert_eq!(run.line(": taken"), format!("{name}: taken"));
    }
    let unused = file.with_file_name("key-auth-http.yaml");
    fs::write(&unused, "resources: []\n").unwrap();
    run.line("filters/key-auth-http.yaml: no part of this run");
    assert_eq!(run.end(rustix::process::Signal::TERM).code(), Some(0));
    assert!(!file.exists(), "the files of a run go with it");
}

#[tokio::test]
async fn run_prints_commands_for_its_control_plane() {
    let run = Running::start(on_free_ports());
    let variables = run.field("  export ");
    let commands = ["key create", "freeze key", "audit show"].map(|words| run.line(words));
    let shell = |command: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("export {variables}\n{command}")]);
        let output = shell.current_dir(repository()).output().unwrap();
        assert!(output.status.success(), "{command}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    let [create, freeze, show] = &commands;
    let another = shell(create).trim().to_owned();
    net::eventually("the new key is known", async || {
        let reply = run.client().get("/v1/models").key(&another).send().await;
        (reply.status == 200).then_some(())
    })
    .await;
    shell(freeze);
    // Each worker gets to it by itself.
    net::eventually("the key is frozen", async || {
        (run.status().await == 403).then_some(())
    })
    .await;
    let trail = shell(show);
    assert!(trail.contains("to see it"), "{trail}");
    assert_eq!(run.end(rustix::process::Signal::TERM).code(), Some(0));
}

#[test]
fn a_busy_port_is_one_sentence() {
    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = busy.local_addr().unwrap().port().to_string();
    let gateway = stack(&["run", "--admin-port", "0", "--control-port", "0"])
        .env("GATEWAY_PORT", &port)
        .output()
        .unwrap();
    let expected = format!("port {port} is in use: stop what listens there, or choose another with");
    assert_eq!(sentence(&gateway), format!("{expected} GATEWAY_PORT=PORT"));
    let admin = stack(&["run", "--gateway-port", "0", "--control-port", "0"])
        .env("ADMIN_PORT", &port)
        .output()
        .unwrap();
    assert_eq!(sentence(&admin), format!("{expected} ADMIN_PORT=PORT"));
    let control = stack(&["run", "--gateway-port", "0", "--admin-port", "0"])
        .env("CONTROL_PORT", &port)
        .output()
        .unwrap();
    assert_eq!(sentence(&control), format!("{expected} CONTROL_PORT=PORT"));
}

#[test]
fn a_missing_envoy_is_one_sentence() {
    let output = on_free_ports()
        .env("ENVOY_BIN", "/nowhere/envoy")
        .env_remove("ENVOY_RUNTIME")
        .output()
        .unwrap();
    let said = sentence(&output);
    assert!(
        said.starts_with("/nowhere/envoy is missing: ") && said.contains("ENVOY_BIN"),
        "{said}"
    );
}

/// A `docker` that notes its command line and runs the container's program right here: the image, its Envoy and its
/// mounts are the host's own.
fn stand_in_for_docker(dir: &Path) {
    let script = "#!/bin/sh\n\
                  printf '%s\\n' \"$@\" > \"$NOTES\"\n\
                  while [ \"$1\" != envoyproxy/envoy:v1.40.0 ]; do\n\
                      [ \"$1\" = --workdir ] && cd \"$2\"\n\
                      shift\n\
                  done\n\
                  shift\n\
                  exec \"$ENVOY\" \"$@\"\n";
    let path = dir.join("docker");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn with_docker_the_official_image_runs() {
    let dir = tempfile::tempdir().unwrap();
    stand_in_for_docker(dir.path());
    let notes = dir.path().join("notes");
    let envoy = std::env::var("ENVOY_BIN").unwrap_or_else(|_| "target/tools/envoy".to_owned());
    let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap());
    let mut command = on_free_ports();
    command
        .env("PATH", path)
        .env("NOTES", &notes)
        .env("ENVOY", repository().join(envoy));
    command.env("ENVOY_RUNTIME", "docker").env_remove("ENVOY_BIN");
    let run = Running::start(command);
    assert_eq!(run.status().await, 200);
    let line = fs::read_to_string(notes).unwrap();
    let arguments: Vec<&str> = line.lines().collect();
    assert_eq!(arguments[..3], ["run", "--rm", "--network"], "{arguments:?}");
    let image = arguments
        .iter()
        .position(|argument| *argument == "envoyproxy/envoy:v1.40.0")
        .unwrap();
    let mounts: Vec<&str> = arguments[..image]
        .windows(2)
        .filter(|pair| pair[0] == "--volume" || pair[0] == "-v")
        .filter_map(|pair| pair[1].split(':').next())
        .collect();
    // Whatever Envoy is told to read lies under a mount, at the same path as here.
    let wasm = repository().join("dist/tollgate-key-auth.wasm");
    let files = run.file();
    for needed in [&wasm, &files] {
        assert!(
            mounts.iter().any(|mount| needed.starts_with(mount)),
            "{needed:?} is in none of {mounts:?}"
        );
    }
    assert_eq!(run.end(rustix::process::Signal::INT).code(), Some(0));
}

#[test]
fn the_demo_keeps_its_promises() {
    let output = stack(&["demo"]).output().unwrap();
    let shown = text(&output.stdout);
    println!("{shown}");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(shown.contains(" exchanges, all as promised."));
    assert!(shown.contains(" steps, all as promised."));
    assert!(shown.matches(" ok  ").count() >= 45);
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    let quoted: Vec<&str> = readme.lines().filter(|line| line.contains(" ok  ")).collect();
    assert!(!quoted.is_empty());
    for line in quoted {
        assert!(
            shown.contains(&format!("\n{line}\n")),
            "the README quotes {line:?}"
        );
    }
    let address = shown
        .split("against http://")
        .nth(1)
        .and_then(|rest| rest.split("/v1").next())
        .unwrap();
    assert!(TcpStream::connect(address).is_err(), "the gateway still listens");
}

#[test]
fn the_demo_of_a_fleet_keeps_its_promises() {
    let output = stack(&["demo-fleet", "--short"]).output().unwrap();
    let shown = text(&output.stdout);
    println!("{shown}");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(shown.contains("\n6 steps, all as promised.\n"));
}

#[tokio::test]
async fn the_tour_tells_of_a_broken_promise() {
    let llama = ModelServer::start().await.unwrap();
    let cast = Cast::all();
    let options = Options::new().chain().llama(llama.addr());
    let gateway = cast.write(options).start().await;
    let mut keys = cast.json();
    // A key that is not frozen after all.
    keys["frozen_key"] = keys["good"].clone();
    let facts = json!({
        "gateway": gateway.url(),
        "models": llama.url(),
        "key_auth": gateway.directory().join("envoy/filters/key-auth.yaml"),
        "keys": keys,
    });
    let mut tour = Command::new(python().unwrap());
    tour.arg(repository().join("examples/quickstart/tour.py"))
        .env("TOLLGATE_TOUR", facts.to_string());
    let output = tour.env("PYTHONDONTWRITEBYTECODE", "1").output().unwrap();
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{shown}");
    assert!(text(&output.stderr).contains(" exchanges, 1 not as promised."));
    assert_eq!(shown.matches(" NO  ").count(), 1, "{shown}");
    assert!(
        shown.contains("promised was: 403 key_suspended (PermissionDeniedError)"),
        "{shown}"
    );
}

#[tokio::test]
async fn the_quickstarts_program_runs() {
    let llama = ModelServer::start().await.unwrap();
    let cast = Cast::all();
    // The tour edits the file of one of three modules.
    let options = Options::new().chain().llama(llama.addr());
    let gateway = cast.write(options).start().await;
    let chat = |key: &str| {
        let mut program = Command::new(python().unwrap());
        program.arg(repository().join("examples/quickstart/chat.py"));
        program
            .env("OPENAI_BASE_URL", format!("{}/v1", gateway.url()))
            .env("OPENAI_API_KEY", key);
        program.output().unwrap()
    };
    let good = chat(cast.key("good"));
    assert_eq!(
        text(&good.stdout),
        "llama-70b heard: Say hello\n",
        "{}",
        text(&good.stderr)
    );
    let refused = chat(cast.key("frozen_key"));
    assert_eq!(refused.status.code(), Some(1));
    let said = text(&refused.stderr);
    assert!(
        said.starts_with("key_suspended: This API key has been suspended."),
        "{said}"
    );
}

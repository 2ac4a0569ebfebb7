//! docs/operating.md as an operator follows it: each of its commands, as it stands there, in its order.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// An operator's shell, in a folder of its own.
struct Shell {
    folder: tempfile::TempDir,
    path: String,
    variables: Vec<(String, String)>,
}

impl Shell {
    fn new() -> Self {
        let program = PathBuf::from(env!("CARGO_BIN_EXE_tollgate"));
        let own = program.parent().unwrap().display();
        Self {
            folder: tempfile::tempdir().unwrap(),
            path: format!("{own}:{}", std::env::var("PATH").unwrap()),
            variables: vec![("TOLLGATE_AUDIT_KEY".to_owned(), "audit.key".to_owned())],
        }
    }

    fn run(&self, line: &str) -> Output {
        let mut command = Command::new("sh");
        command
            .args(["-c", line])
            .current_dir(self.folder.path())
            .env("PATH", &self.path);
        command
            .envs(self.variables.iter().cloned())
            .env_remove("TOLLGATE_SERVER");
        command.output().unwrap()
    }

    /// Its standard output.
    #[track_caller]
    fn must(&self, line: &str) -> String {
        let output = self.run(line);
        assert!(
            output.status.success(),
            "{line}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// A command that strikes slices out of a budget, of which no gateway has any here.
    #[track_caller]
    fn finds_no_slice(&self, line: &str) {
        let output = self.run(line);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && told.contains("there is no slice of the"),
            "{line}: {told}"
        );
    }

    /// A gateway's token, and a name that a holder could have.
    fn make_holder(&mut self) {
        let token = self.must("tollgate token create --role gateway 2>/dev/null");
        self.set("TOKEN", id_of(token.trim()));
        self.set("HOLDER", "eb151f79a1a73f35f95ae053ed02b816");
    }

    fn set(&mut self, name: &str, value: &str) {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.folder.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

/// A gateway that has the directory fetched.
const GATEWAY: &str = r#"
key_auth: {directory: {http: {max_stale: 1h, on_stale: deny}}}
tenant_router:
  catalogue:
    models:
      llama-70b: {endpoints: [chat], targets: [{cluster: llama}]}
rate_limit:
  limits:
  - {name: key-tpm, per: [key], count: tokens, rate: 20000/minute}
"#;
/// Of a key that the control plane has not.
const RECORD: &str = r#"{"event":"usage","v":1,"id":"62fa46b2-e61d-411a-a906-90e4ff475fa8","time":"2026-11-24T08:42:42.144Z","status":429,"flags":"-","cluster":"llama","attempts":0,"bytes_in":178,"bytes_out":218,"duration_ms":0,"org":"globex","key":"2mzd47f3kq9x","tier":"free","endpoint":"chat","model":"llama-70b","stream":false,"reserved_tokens":131,"outcome":"limited","input_tokens":0,"output_tokens":0,"cached_tokens":0,"reasoning_tokens":0,"source":"nothing","limit":"key-tpm"}"#;

fn id_of(secret: &str) -> &str {
    secret.rsplit_once('-').unwrap().0.rsplit('-').next().unwrap()
}

#[test]
fn every_command_of_the_page_works_as_it_stands_there() {
    let page = include_str!("../../docs/operating.md");
    let commands: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with("tollgate ") && !line.starts_with("tollgate serve"))
        .collect();
    assert!(commands.len() > 25, "{commands:?}");

    let mut shell = Shell::new();
    let minted = shell.must("tollgate key mint --org globex 2>/dev/null");
    let (secret, row) = minted.trim().split_once('\n').unwrap();
    shell.write(
        "directory.yaml",
        &format!("version: 1\norgs:\n  globex:\n    models: ['*']\nkeys:\n{row}\n"),
    );
    shell.write("repository/settings.py", &format!("KEY = '{secret}'\n"));
    shell.write("envoy/gateway.yaml", GATEWAY);
    shell.write("found-key.txt", secret);
    shell.write("usage.jsonl", &format!("{RECORD}\n"));
    shell.set("REQUEST", "62fa46b2-e61d-411a-a906-90e4ff475fa8");
    for line in commands {
        if line.starts_with("tollgate scan") {
            let output = shell.run(line);
            let told = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(
                !output.status.success() && told.contains("settings.py:1"),
                "{told}"
            );
            assert!(told.contains(id_of(secret)) && !told.contains(secret), "{told}");
            continue;
        }
        if line.starts_with("tollgate budget strike") {
            shell.make_holder();
            shell.finds_no_slice(line);
            continue;
        }
        // A key that is revoked, or rotated, is not what the next command is about.
        let over = ["freeze key", "key show", "explain envoy --key"];
        let over = over.iter().any(|part| line.contains(part));
        if over {
            let key = shell.must("tollgate key create --org acme 2>/dev/null");
            shell.set("KEY", id_of(key.trim()));
        }
        let said = shell.must(line);
        if line.starts_with("tollgate key identify") {
            let (id, told) = (id_of(secret), !said.contains(secret));
            assert!(told && said.contains(id) && said.contains("globex"), "{said}");
        }
        if line.starts_with("tollgate explain") {
            // The directory is the control plane's.
            let last = said.lines().rfind(|line| line.starts_with("result")).unwrap();
            let wanted = if line.contains("--key") {
                "passes"
            } else {
                "invalid_api_key"
            };
            assert!(last.contains(wanted), "{said}");
        }
        if line.starts_with("tollgate token create") {
            shell.set("TOKEN", id_of(said.trim()));
        }
        if line.starts_with("tollgate freeze") {
            shell.set("FREEZE", said.trim().rsplit(' ').next().unwrap());
        }
        if line.starts_with("tollgate cap") {
            shell.set("CAP", said.trim().rsplit(' ').next().unwrap());
        }
    }
    let trail = shell.must("tollgate audit show");
    for part in [
        "key.create",
        "freeze.begin",
        "cap.begin",
        "cap.end",
        "contract 17",
        "+ models: llama-*, whisper-1, kokoro",
    ] {
        assert!(trail.contains(part), "{part}: {trail}");
    }
    assert!(!trail.contains(secret));
}

/// The commands of docs/budgets.md too, and what they show of a budget that is spent from.
#[test]
fn budgets_are_made_shown_and_raised_as_their_page_says() {
    let page = include_str!("../../docs/budgets.md");
    let commands: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with("tollgate "))
        .collect();
    assert!(commands.len() >= 9, "{commands:?}");
    let mut shell = Shell::new();
    shell.must("tollgate init");
    shell.must("tollgate org create acme --models '*'");
    shell.must("tollgate org create globex --models '*'");
    shell.must("tollgate project create acme/search");
    let key = shell.must("tollgate key create --org acme 2>/dev/null");
    shell.set("KEY", id_of(key.trim()));
    shell.make_holder();
    for line in commands {
        if line.starts_with("tollgate budget strike") {
            shell.finds_no_slice(line);
            continue;
        }
        let said = shell.must(line);
        if line.starts_with("tollgate budget raise") && line.contains("--by") {
            assert!(
                said.contains("Raised budget acme-monthly by 500 until 20"),
                "{said}"
            );
            let shown = shell.must("tollgate budget show acme-monthly");
            let shown = shown.split_whitespace().collect::<Vec<_>>().join(" ");
            for part in [
                "amount 2500.00",
                "amount_now 3000.00",
                "left 3000.00",
                "raise by 500.00 until 20",
            ] {
                assert!(shown.contains(part), "{part}: {shown}");
            }
        }
    }
    let listed = shell.must("tollgate budget list");
    for part in [
        "research",
        "label cost_center=42",
        "cost",
        "90000.00",
        "pool acme, globex",
        "trial",
    ] {
        assert!(listed.contains(part), "{part}: {listed}");
    }
    shell.must("tollgate budget set research --amount 80000.50 --slow 95=1/second --thresholds 90");
    let json = shell.must("tollgate budget show research --json");
    for part in ["\"amount\": 80000500000", "\"slow\": {", "\"spending\": {"] {
        assert!(json.contains(part), "{part}: {json}");
    }
    assert!(!json.contains("downgrade"), "{json}");
    shell.must("tollgate budget set research --clear policy,thresholds");
    shell.must("tollgate budget remove research");
    for (line, says) in [
        (
            "tollgate budget set shared --amount 1.5",
            "a whole number of tokens",
        ),
        ("tollgate budget set acme-monthly --amount x", "is no cost"),
        ("tollgate budget raise acme-monthly --by 5 --for 1h", "say why"),
        ("tollgate budget raise acme-monthly --by 5 --reason x", "--for"),
        ("tollgate budget create x --org acme --per day", "--requests"),
        ("tollgate budget create x --tokens 1 --per day", "--org"),
        (
            "tollgate budget create x --org acme --tokens 1 --per day --time-zone Mars",
            "Europe/Berlin",
        ),
        ("tollgate budget set shared", "nothing to change"),
    ] {
        let output = shell.run(line);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && told.contains(says), "{line}: {told}");
    }
}

#[test]
fn a_key_is_identified_by_itself() {
    let shell = Shell::new();
    shell.must("tollgate init");
    shell.must("tollgate org create acme");
    let key = shell.must("tollgate key create --org acme --name ci 2>/dev/null");
    let secret = key.trim();
    let said = shell.must(&format!("echo {secret} | tollgate key identify"));
    for part in [id_of(secret), "acme", "ci", "active"] {
        assert!(said.contains(part), "{said}");
    }
    assert!(!said.contains(secret) && !said.contains("sha256"), "{said}");
    shell.must(&format!("tollgate key revoke {}", id_of(secret)));
    let said = shell.must(&format!("echo {secret} | tollgate key identify"));
    assert!(said.contains("revoked"), "{said}");

    // One of another system, by its hash.
    let foreign = "somebody-elses-key-0123456789";
    let row = shell.must(&format!(
        "echo {foreign} | tollgate key row --id theirs --org acme"
    ));
    shell.write(
        "directory.yaml",
        &format!("version: 1\norgs: {{acme: {{}}}}\nkeys:\n{row}\n"),
    );
    shell.must("tollgate import directory.yaml");
    let said = shell.must(&format!("echo {foreign} | tollgate key identify --json"));
    assert!(said.contains("theirs") && !said.contains(foreign), "{said}");

    let mistyped = format!("{}x", &secret[..secret.len() - 1]);
    let minted = shell.must("tollgate key mint --org acme 2>/dev/null");
    for (key, says) in [
        (mistyped.as_str(), "its checksum does not hold"),
        (minted.lines().next().unwrap(), "has no such key"),
        ("no-key", "has no such key"),
    ] {
        let output = shell.run(&format!("echo {key} | tollgate key identify"));
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && told.contains(says), "{told}");
        assert!(!told.contains(key), "{told}");
    }
}

#[test]
fn the_directory_is_exported_as_gateways_read_it() {
    let shell = Shell::new();
    shell.must("tollgate init");
    shell.must("tollgate org create acme --models '*'");
    shell.must("tollgate key create --org acme");
    shell.must("tollgate directory export out.json");
    let said = shell.must("tollgate directory check out.json");
    assert!(said.contains("1 keys of 1 organizations"), "{said}");
    assert_eq!(
        shell.must("tollgate directory export"),
        shell.must("cat out.json; echo")
    );
    assert_eq!(shell.must("ls *.new 2>/dev/null || true"), "");
    let output = shell.run("tollgate directory export nowhere/out.json");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn the_newest_of_the_trail_are_shown() {
    let shell = Shell::new();
    shell.must("tollgate init");
    for org in ["one", "two", "three"] {
        shell.must(&format!("tollgate org create {org}"));
    }
    let shown = |options: &str| {
        let all = shell.must(&format!("tollgate audit show --json {options}"));
        all.lines().filter(|line| line.contains("org.create")).count()
    };
    assert_eq!([shown(""), shown("--limit 2"), shown("--limit 9")], [3, 2, 3]);
    assert_eq!(shown("--since 1h --limit 1"), 1);
    assert!(shell.must("tollgate audit show --limit 1").contains("three"));
    std::thread::sleep(core::time::Duration::from_millis(1_100));
    assert_eq!(shown("--since 1s"), 0);
}

#[test]
fn a_trail_that_was_tampered_with_is_found() {
    let shell = Shell::new();
    shell.must("tollgate init");
    shell.must("tollgate org create acme --models '*'");
    shell.must("tollgate audit checkpoint > kept.json");
    shell.must("tollgate audit verify kept.json");
    shell.must("tollgate org set acme --tier pro");
    shell.must("tollgate audit checkpoint > kept.json");
    let file = shell.folder.path().join("tollgate.db");
    edit(&file);
    let output = shell.run("tollgate audit verify kept.json");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("is not what the trail says"), "{told}");
}

/// Changes a stored document outside the server.
fn edit(file: &Path) {
    let edit = async {
        sqlx::any::install_default_drivers();
        let pool = sqlx::AnyPool::connect(&format!("sqlite://{}", file.display())).await?;
        let sql = "UPDATE objects SET document = replace(document, '\"pro\"', '\"free\"') WHERE kind = 'org'";
        let edited = sqlx::query(sql).execute(&pool).await?.rows_affected();
        pool.close().await;
        Ok::<u64, sqlx::Error>(edited)
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    assert_eq!(runtime.block_on(edit).unwrap(), 1);
}

#[test]
fn mistakes_are_told_in_words() {
    let shell = Shell::new();
    let output = shell.run("tollgate status");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("there is no database `tollgate.db`"), "{told}");
    shell.must("tollgate init");
    let key = shell.must("tollgate key mint --org acme 2>/dev/null");
    let show = format!("tollgate key show {}", key.lines().next().unwrap());
    let id = format!("its id is {}", id_of(key.lines().next().unwrap()));
    for (line, says) in [
        (show.as_str(), id.as_str()),
        ("tollgate org set acme", "nothing to change"),
        ("tollgate gateway list", "only a running server knows"),
        (
            "tollgate token create --role god",
            "gateway, viewer, support, operator, owner",
        ),
        ("tollgate org create acme --status on", "active, suspended"),
        ("tollgate org create 'a b'", "1 to 64 characters"),
        ("tollgate org show nobody", "there is no organization `nobody`"),
        ("tollgate key create --org nobody", "an organization that exists"),
        ("tollgate project create acme", "expected `ORG/PROJECT`"),
        ("tollgate freeze org acme", "say why"),
        ("tollgate cap org acme --rate 1/second", "say why"),
        ("tollgate org create acme --limit key-rpm", "expected `NAME=RATE`"),
        (
            "tollgate org create acme --limit key-rpm=60",
            "limits.key-rpm.rate: found `60`",
        ),
        ("tollgate --server http://example.com org list", "in clear"),
        ("tollgate --server http://127.0.0.1:1 org list", "wants a token"),
        (
            "TOLLGATE_TOKEN=x tollgate --server http://127.0.0.1:1 org list",
            "cannot reach",
        ),
        ("tollgate --database mysql://x org list", "is no database"),
        (
            "tollgate --database sqlite:/nowhere/x.db org list",
            "there is no database `/nowhere/x.db`",
        ),
        ("tollgate serve --database sqlite:/nowhere/x.db", "cannot be made"),
        ("tollgate serve --listen 0.0.0.0:0", "in clear"),
        ("tollgate init --database 'sqlite:x?mode=memory'", "names no file"),
        ("tollgate serve --database sqlite::memory:", "names no file"),
        (
            "printf 'tg-token-x\\ntg-token-y\\n' >two; tollgate --server http://127.0.0.1:1 --token-file two org list",
            "two does not hold a token and nothing else",
        ),
    ] {
        let output = shell.run(line);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.code() == Some(2) && told.contains(says),
            "{line}: {told}"
        );
    }
    let files = shell.must("ls");
    assert!(!files.contains("memory"), "{files}");
}

#[test]
fn files_that_others_can_read_are_told() {
    let shell = Shell::new();
    shell.must("tollgate init");
    assert_eq!(shell.must("stat -c %a tollgate.db"), "600\n");
    shell.write("token", "tg-token-x");
    let status = "tollgate --audit-key audit.key status";
    let remote = "tollgate --server http://127.0.0.1:1 --token-file token status";
    let told = |line: &str| String::from_utf8(shell.run(line).stderr).unwrap();
    assert_eq!(told(status), "");
    for (file, line, what) in [
        ("tollgate.db", status, "the database"),
        ("audit.key", status, "the key that signs checkpoints"),
        ("token", remote, "the token"),
    ] {
        for mode in ["640", "604"] {
            shell.must(&format!("chmod {mode} {file}"));
            let told = told(line);
            let says = format!("others than its owner can read or write {what}: chmod 600 {file}");
            assert!(told.contains(&says), "{told}");
        }
        shell.must(&format!("chmod 600 {file}"));
        assert!(!told(line).contains("warning"));
    }
}

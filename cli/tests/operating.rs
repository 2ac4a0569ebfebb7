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
    let record = r#"{"event":"usage","time":"2026-11-30T00:00:00Z","key":"b2k7q0x9w1m4"}"#;
    shell.write("usage.jsonl", &format!("{record}\n"));
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
        // A key that is revoked, or rotated, is not what the next command is about.
        let over = line.contains("freeze key") || line.contains("key show");
        if over {
            let key = shell.must("tollgate key create --org acme 2>/dev/null");
            shell.set("KEY", id_of(key.trim()));
        }
        let said = shell.must(line);
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
    ] {
        let output = shell.run(line);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.code() == Some(2) && told.contains(says),
            "{line}: {told}"
        );
    }
}

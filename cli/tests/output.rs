//! Output that cannot be written: nothing panics, and no secret is lost without a word.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails by panicking")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A line of bash in a folder with a database, and how the last command ended.
fn bash(folder: &Path, line: &str) -> Output {
    let program = Path::new(env!("CARGO_BIN_EXE_tollgate"));
    let path = format!(
        "{}:{}",
        program.parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let mut command = Command::new("bash");
    command
        .args(["-o", "pipefail", "-c", line])
        .current_dir(folder)
        .env("PATH", path);
    command.env_remove("TOLLGATE_SERVER").output().unwrap()
}

/// A command whose reader has gone.
fn unread(folder: &Path, arguments: &str) -> Output {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.args(arguments.split(' ')).current_dir(folder);
    command.env_remove("TOLLGATE_SERVER").stdout(writer);
    command
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
        .wait_with_output()
        .unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn database() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let made = bash(
        folder.path(),
        "tollgate init && tollgate org create acme --models '*'",
    );
    assert!(made.status.success(), "{}", told(&made));
    folder
}

#[test]
fn a_secret_that_cannot_be_printed_is_told_with_what_to_do() {
    let folder = database();
    let at = folder.path();
    let full = |line: &str| bash(at, &format!("{line} >/dev/full"));
    for output in [
        full("tollgate key create --org acme"),
        full("tollgate key create --org acme --json"),
        unread(at, "key create --org acme"),
    ] {
        let told = told(&output);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(
            told.contains("is lost: cannot write to standard output"),
            "{told}"
        );
        // What it says to do works.
        let another = told.split("place: ").nth(1).unwrap().split(';').next().unwrap();
        let made = bash(at, another);
        assert!(made.status.success(), "{another}: {}", self::told(&made));
    }
    let output = bash(at, "tollgate token create --role viewer >/dev/full");
    let said = told(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    let revoke = said.rsplit(": ").next().unwrap();
    assert!(bash(at, revoke).status.success(), "{said}");

    // A rotation's key can be had again in the same way.
    let key = bash(at, "tollgate key create --org acme");
    let secret = String::from_utf8(key.stdout).unwrap();
    let id = secret.split('-').nth(2).unwrap();
    let said = told(&bash(at, &format!("tollgate key rotate {id} >/dev/full")));
    let another = said.split("place: ").nth(1).unwrap().split(';').next().unwrap();
    let made = bash(at, another);
    assert!(made.status.success(), "{another}: {}", told(&made));

    let output = bash(at, "tollgate key mint --org acme >/dev/full");
    assert_eq!(output.status.code(), Some(2));
    assert!(told(&output).contains("mint another"), "{}", told(&output));
}

#[test]
fn a_secret_is_printed_where_nobody_can_be_told_of_it() {
    let folder = database();
    let output = bash(folder.path(), "tollgate key create --org acme 2>/dev/full");
    assert!(output.status.success());
    assert!(output.stdout.starts_with(b"sk-tg-"));
}

#[test]
fn a_reader_that_has_enough_is_no_error_to_tell() {
    let folder = database();
    let at = folder.path();
    for arguments in [
        "audit export",
        "audit show",
        "audit verify",
        "org list",
        "org show acme",
        "org set acme --tier pro --dry-run",
        "status",
        "completions bash",
        "openapi",
        "schema directory",
    ] {
        let output = unread(at, arguments);
        assert_eq!(told(&output), "", "{arguments}");
        assert_eq!(output.status.code(), Some(2), "{arguments}");
    }
    let output = bash(at, "tollgate completions bash | head -n1");
    assert_eq!((told(&output).as_str(), output.stdout.is_empty()), ("", false));
    let output = bash(at, "tollgate audit export >/dev/full");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        told(&output).contains("cannot write to standard output"),
        "{}",
        told(&output)
    );
}

#[test]
fn a_first_token_that_cannot_be_printed_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let output = bash(at, "tollgate init >/dev/full");
    assert_eq!(output.status.code(), Some(2));
    let said = told(&output);
    assert!(
        said.contains("tollgate token create --role owner --name NAME"),
        "{said}"
    );
    let made = bash(at, "tollgate token create --role owner --name NAME");
    assert!(made.status.success(), "{}", told(&made));

    // `serve` says so too, and serves.
    let mut serve = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    serve.args(["serve", "--listen", "127.0.0.1:0", "--database", "sqlite:new.db"]);
    serve
        .current_dir(at)
        .stdout(std::fs::File::options().write(true).open("/dev/full").unwrap());
    let mut serving = serve.stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(serving.stderr.take().unwrap()).lines();
    let mut said = Vec::new();
    for line in lines {
        said.push(line.unwrap());
        if said.last().unwrap().contains("serving at") {
            break;
        }
    }
    serving.kill().unwrap();
    serving.wait().unwrap();
    let said = said.join("\n");
    assert!(
        said.contains("tollgate token create --role owner") && said.contains("serving at"),
        "{said}"
    );
}

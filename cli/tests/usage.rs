//! `tollgate usage recover`, on what a process left that was killed.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails by panicking")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tollgate_journal::{Journal, Known};

fn recover(folder: &Path, log: &Path) -> Output {
    let mut tool = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    tool.args(["usage", "recover", "--journal"])
        .arg(folder)
        .arg("--file")
        .arg(log);
    tool.output().unwrap()
}

#[test]
fn what_a_killed_process_left_is_brought_to_the_log_once() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, log) = (dir.path().join("journal"), dir.path().join("usage.jsonl"));
    let missing = recover(&folder, &log);
    assert!(!missing.status.success());
    assert!(String::from_utf8_lossy(&missing.stderr).contains("is not a directory"));

    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "is_killed", "--ignored", "--nocapture"])
        .env("JOURNAL_TEST", dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("begun")));
    let said = |output: Output| String::from_utf8(output.stdout).unwrap();
    assert!(
        said(recover(&folder, &log)).ends_with("; 0 journals of killed gateways, 1 of gateways that run\n"),
        "it is alive"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    let told = said(recover(&folder, &log));
    assert!(
        told.starts_with("1 record written to")
            && told.contains(", 1 of them")
            && told.contains("; 1 journal of"),
        "{told}"
    );
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(text.contains(r#""id":"one""#) && text.contains(r#""outcome":"crashed","output_tokens":7}"#));
    assert!(said(recover(&folder, &log)).starts_with("0 records"));
    assert_eq!(text, std::fs::read_to_string(&log).unwrap());
}

#[test]
#[ignore = "is started by another"]
fn is_killed() {
    let dir = std::env::var("JOURNAL_TEST").unwrap();
    let dir = Path::new(&dir);
    let journal = Journal::begin(&dir.join("journal"), &dir.join("usage.jsonl"), true, |_| ()).unwrap();
    let mut slot = journal.take(b"one", 1).unwrap();
    let known = Known {
        at_ms: 2,
        status: 200,
        members: r#","outcome":"crashed","output_tokens":7"#,
    };
    assert!(journal.keep(&mut slot, known));
    println!("begun");
    loop {
        std::thread::park();
    }
}

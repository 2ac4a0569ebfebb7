//! `tollgate scan` looks where it is told to, and says where it did not look.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails by panicking")]

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use tollgate_core::key::ApiKey;

/// A shell in this folder, which has `$KEY` and `tollgate`.
fn bash(folder: &Path, line: &str) -> Output {
    let program = Path::new(env!("CARGO_BIN_EXE_tollgate"));
    let path = format!(
        "{}:{}",
        program.parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let mut command = Command::new("bash");
    command.args(["-c", line]).current_dir(folder).env("PATH", path);
    command.env("KEY", ApiKey::mint(&[7; 40]).reveal());
    command.output().unwrap()
}

fn id(seed: u8) -> String {
    ApiKey::mint(&[seed; 40]).id().to_owned()
}

#[track_caller]
fn expect(output: &Output, status: i32, last: &str) {
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(status), "{told}");
    assert!(told.lines().last().unwrap().contains(last), "{told}");
}

#[test]
fn what_is_named_is_read_whatever_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    std::fs::create_dir(at.join("real")).unwrap();
    bash(at, "echo \"$KEY\" > real/file");
    symlink("real/file", at.join("link")).unwrap();
    symlink("real", at.join("linked")).unwrap();
    let revoke = format!("1 key. Revoke it: tollgate key revoke {}", id(7));
    for line in [
        "tollgate scan link",
        "tollgate scan linked",
        "echo \"$KEY\" | tollgate scan /dev/stdin",
        "echo \"$KEY\" | tollgate scan",
        "tollgate scan <(echo \"$KEY\")",
        "mkfifo pipe; (echo \"$KEY\" > pipe &); tollgate scan pipe",
    ] {
        expect(&bash(at, line), 1, &revoke);
    }
}

#[test]
fn what_is_skipped_within_a_folder_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    bash(
        at,
        "mkdir -p in/it; echo \"$KEY\" > key; ln -s ../key in/key; ln -s .. in/it/round; mkfifo in/it/pipe",
    );
    let output = bash(at, "tollgate scan in");
    expect(&output, 0, "Links and special files skipped: 3. No keys.");
}

#[test]
fn what_cannot_be_read_is_told_and_the_rest_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    bash(at, "echo \"$KEY\" > key; echo > nothing");
    let long = "n".repeat(300);
    let output = bash(at, &format!("tollgate scan absent {long} nothing"));
    expect(&output, 2, "Paths that could not be read: 2. No keys.");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        told.contains("cannot read absent: ") && told.contains(&long),
        "{told}"
    );
    let output = bash(at, "tollgate scan absent key");
    expect(&output, 1, "Paths that could not be read: 1. 1 key.");
}

#[test]
fn paths_deeper_than_the_system_takes_do_not_hide_what_is_beside_them() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let deep = "mkdir tree; echo \"$KEY\" > tree/z; cd tree; d=$(printf 'd%.0s' {1..200}); \
                for i in {1..25}; do mkdir $d; cd $d || exit 1; done";
    assert!(bash(at, deep).status.success());
    let output = bash(at, "tollgate scan tree");
    expect(&output, 1, "Paths that could not be read: 1. 1 key.");
    // The folder's own removal need not manage it.
    bash(at, "rm -rf tree");
}

#[test]
fn names_cannot_speak_to_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    std::fs::create_dir(at.join("in")).unwrap();
    let name = at.join("in").join("a\u{1b}[2J\nNo keys.");
    std::fs::write(&name, ApiKey::mint(&[7; 40]).reveal()).unwrap();
    let output = bash(at, "tollgate scan in; tollgate scan $'absent\\e[2J'");
    for shown in [&output.stdout, &output.stderr] {
        let shown = String::from_utf8_lossy(shown);
        assert!(
            shown.contains("\u{fffd}[2J") && !shown.contains('\u{1b}'),
            "{shown}"
        );
    }
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 1);
}

#[test]
fn up_to_five_keys_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    for seed in 0..6 {
        std::fs::write(at.join(seed.to_string()), ApiKey::mint(&[seed; 40]).reveal()).unwrap();
    }
    let told = String::from_utf8(bash(at, "tollgate scan 0 1 2 3 4 4").stderr).unwrap();
    assert!(told.starts_with("5 keys."), "{told}");
    for seed in 0..5 {
        assert!(
            told.contains(&format!("tollgate key revoke {}", id(seed))),
            "{told}"
        );
    }
    let output = bash(at, "tollgate scan .");
    expect(&output, 1, "6 keys. Revoke them: tollgate key revoke ID");
}

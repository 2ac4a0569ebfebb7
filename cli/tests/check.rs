//! `tollgate check`: mistakes of operators, each told at its line; and nothing about what ships.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn check(folder: &Path, arguments: &[&str]) -> Output {
    let mut tool = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    tool.current_dir(folder).arg("check").args(arguments);
    tool.env_remove("ENVOY_BIN").output().unwrap()
}

/// What is said of a file, without its name.
fn said(output: &Output, name: &str) -> String {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let lines = text
        .lines()
        .filter_map(|line| line.strip_prefix(&format!("{name}:")));
    lines.map(|line| format!("{line}\n")).collect()
}

/// What is said of one file with this in it.
fn said_of(bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("x.yaml"), bytes).unwrap();
    said(&check(folder.path(), &["--no-envoy", "x.yaml"]), "x.yaml")
}

#[test]
fn each_mistake_is_told_at_its_line() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/check");
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|path| path.extension().unwrap() == "yaml");
    assert!(files.len() >= 60, "{} files", files.len());
    let mut wrong = Vec::new();
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap();
        let output = check(&folder, &["--no-envoy", "--strict", name]);
        let expected = fs::read_to_string(path.with_extension("expected")).unwrap();
        let told = said(&output, name);
        if told != expected || expected.is_empty() || output.status.code() != Some(1) {
            wrong.push(format!(
                "{name} ({}):\n{told}instead of\n{expected}",
                output.status
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nothing_is_wrong_with_what_ships() {
    for paths in [
        &["envoy", "examples"][..],
        &[],
        &["envoy/filters"],
        &["examples/docker-compose"],
    ] {
        let arguments = [&["--no-envoy", "--strict"], paths].concat();
        let output = check(&repository(), &arguments);
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{told}");
        assert!(told.ends_with(" files: nothing is wrong\n"), "{told}");
    }
}

#[test]
fn it_does_not_matter_where_one_stands() {
    let envoy = repository().join("envoy");
    let full = envoy.canonicalize().unwrap();
    for (folder, path) in [
        (&envoy, "."),
        (&envoy, "./filters"),
        (&envoy, full.to_str().unwrap()),
    ] {
        let output = check(folder, &["--no-envoy", "--strict", path]);
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{path}: {told}");
    }
}

/// One mistake is no reason to tell more that is none.
#[test]
fn what_depends_on_a_mistake_is_not_told() {
    let folder = tempfile::tempdir().unwrap();
    let copy = |name: &str| {
        let text = fs::read_to_string(repository().join("envoy").join(name)).unwrap();
        let path = folder.path().join("envoy").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(
            path,
            text.replace("fallback: [llama-70b]", "fallback: [llama-7b]"),
        )
        .unwrap();
    };
    for name in ["envoy.yaml", "listener.yaml", "clusters.yaml", "routes.yaml"] {
        copy(name);
    }
    for name in [
        "key-auth",
        "tenant-router",
        "rate-limit",
        "gateway",
        "upstream-adapter",
    ] {
        copy(&format!("filters/{name}.yaml"));
    }
    let output = check(folder.path(), &["--no-envoy", "--strict"]);
    let told = String::from_utf8(output.stdout).unwrap();
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(told.contains("fallback[0]: found `llama-7b`"), "{told}");
}

#[test]
fn warnings_fail_only_where_they_are_asked_to() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/check");
    let status = |arguments: &[&str]| check(&folder, arguments).status.code();
    assert_eq!(status(&["--no-envoy", "expired_key.yaml"]), Some(0));
    assert_eq!(status(&["--no-envoy", "--strict", "expired_key.yaml"]), Some(1));
    assert_eq!(status(&["--no-envoy", "misspelt_field.yaml"]), Some(1));
}

#[test]
fn a_key_is_never_repeated() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/check");
    for (name, secret) in [
        ("key_in_place_of_its_hash.yaml", "sk-tg-"),
        ("key_in_a_comment.yaml", "sk-tg-"),
        ("foreign_key_in_place_of_its_hash.yaml", "IjKlMnOp"),
        ("foreign_key_as_an_id.yaml", "IjKlMnOp"),
        ("secret_in_clear.yaml", "8fK2mQ9x"),
        ("authorization_as_a_header.yaml", "hunter2"),
    ] {
        assert!(
            fs::read_to_string(folder.join(name)).unwrap().contains(secret),
            "{name}"
        );
        let output = check(&folder, &["--no-envoy", name]);
        let all = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(!all.contains(secret), "{all}");
    }
}

#[test]
fn line_ends_and_byte_order_marks_move_nothing() {
    let text = "limits:\r\n- name: key-rpm\r\n  rate: 60/min\r\n";
    let rate = "limits[0].rate: found `60/min`";
    assert!(said_of(text.as_bytes()).starts_with(&format!("3:9: {rate}")));
    let marked = "\u{feff}limits: [{name: key-rpm, rate: 60/min}]\n";
    assert!(said_of(marked.as_bytes()).starts_with(&format!("1:32: {rate}")));
    let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let wide = [&[0xff, 0xfe][..], &wide].concat();
    assert_eq!(said_of(&wide), "1:1: is UTF-16: save it as UTF-8\n");
}

#[test]
fn what_is_served_as_it_is_has_to_be_json() {
    let folder = tempfile::tempdir().unwrap();
    for (text, told) in [
        ("{\n\t\"version\": 1,\n\t\"orgs\": {}, \"keys\": []\n}\n", ""),
        (
            "{\"version\": 1,\n \"orgs\": {}, \"keys\": [],}\n",
            "2:25: is not JSON: key must be a string\n",
        ),
        (
            "\u{feff}{\"version\": 1, \"orgs\": {}, \"keys\": []}\n",
            "1:1: begins with a byte order mark, which is no JSON: save it without\n",
        ),
    ] {
        fs::write(folder.path().join("x.json"), text).unwrap();
        let output = check(folder.path(), &["--no-envoy", "x.json"]);
        let output = said(&output, "x.json");
        assert!(
            output.starts_with(told) && output.is_empty() == told.is_empty(),
            "{output}"
        );
    }
}

#[test]
fn what_is_no_text_is_told_where_it_begins() {
    assert_eq!(
        said_of(b"limits: []\n# M\xc3\xa4rz\nabandoned_hold: 6\xff0s\n"),
        "3:18: is not UTF-8 from this byte on: save the file as UTF-8\n"
    );
    assert_eq!(said_of(b""), "1:1: is empty\n");
    assert!(
        said_of(b"limits: []\n\0\n").starts_with("2:1: is not YAML"),
        "{}",
        said_of(b"limits: []\n\0\n")
    );
}

#[test]
fn what_would_take_all_memory_is_refused_at_once() {
    let since = Instant::now();
    let deep = |open: &str, close: &str, n: usize| format!("limits: {}{}\n", open.repeat(n), close.repeat(n));
    for (text, told) in [
        (deep("[", "]", 200), "nested deeper than 100 levels"),
        (deep("[", "]", 100_000), "is not YAML"),
        (deep("{a: ", "}", 100_000), "is not YAML"),
        (bomb(9), "stand for more than 1000000 values"),
        (ladder(), "nested deeper than 100 levels"),
    ] {
        let said = said_of(text.as_bytes());
        assert!(said.contains(told) && said.lines().count() == 1, "{said}");
    }
    assert!(since.elapsed() < Duration::from_secs(20), "{:?}", since.elapsed());
}

/// Ten times as many values with each line.
fn bomb(lines: usize) -> String {
    let line = |at: usize| {
        let before = if at == 0 {
            "lol".to_owned()
        } else {
            format!("*a{}", at - 1)
        };
        format!("a{at}: &a{at} [{}]\n", vec![before; 10].join(", "))
    };
    (0..lines).map(line).collect()
}

/// One level deeper with each line.
fn ladder() -> String {
    let line = |at: usize| match at {
        0 => "a0: &a0 [x]\n".to_owned(),
        at => format!("a{at}: &a{at} [*a{}]\n", at - 1),
    };
    (0..1_000).map(line).collect()
}

#[test]
fn what_is_no_file_to_read_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("folder.yaml")).unwrap();
    std::os::unix::fs::symlink(path("two.yaml"), path("one.yaml")).unwrap();
    std::os::unix::fs::symlink(path("one.yaml"), path("two.yaml")).unwrap();
    std::os::unix::fs::symlink(folder.path(), path("round")).unwrap();
    fs::File::create(path("large.yaml"))
        .unwrap()
        .set_len(100 << 20)
        .unwrap();
    let since = Instant::now();
    let output = check(folder.path(), &["--no-envoy", "."]);
    assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
    for (name, told) in [
        (
            "./folder.yaml",
            "1:1: is a folder, and Envoy would look for a file of this name",
        ),
        (
            "./one.yaml",
            "1:1: can't be read: Too many levels of symbolic links",
        ),
        (
            "./two.yaml",
            "1:1: can't be read: Too many levels of symbolic links",
        ),
        (
            "./large.yaml",
            "1:1: has 100 MiB, and files of up to 32 MiB are read",
        ),
    ] {
        let said = said(&output, name);
        assert!(said.starts_with(told), "{name}: {said}");
    }
    let missing = said(&check(folder.path(), &["--no-envoy", "no.yaml"]), "no.yaml");
    assert!(
        missing.starts_with("1:1: can't be read: No such file"),
        "{missing}"
    );
}

#[test]
fn what_envoy_ignores_is_ignored() {
    let text = "resources:\n- \"@type\": type.googleapis.com/envoy.config.cluster.v3.Cluster\n  name: one\n  !ignore common: {http_filters: [{name: tollgate.rate-limit}]}\n";
    assert_eq!(said_of(text.as_bytes()), "");
}

/// An Envoy of a shell: how old it is, and what it says of a bootstrap.
fn envoy(folder: &Path, version: &str, complaint: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let (path, told) = (folder.join("envoy"), folder.join("told"));
    let line = format!("[1][critical][main] [x.cc:76] error initializing configuration 'x': {complaint}\n");
    fs::write(&told, if complaint.is_empty() { "" } else { &line }).unwrap();
    let told = told.display();
    let script = format!(
        "#!/bin/sh\nif [ \"$1\" = --version ]; then echo 'envoy  version: 1a2b/{version}/Clean/RELEASE/BoringSSL'; exit; fi\n\
         [ -s {told} ] || exit 0\ncat {told} >&2\nexit 1\n"
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn envoy_is_asked_about_bootstraps_and_for_its_age() {
    let folder = tempfile::tempdir().unwrap();
    let ask = |binary: &Path| {
        let binary = binary.to_str().unwrap();
        check(&repository(), &["--envoy", binary, "envoy"])
    };
    let good = ask(&envoy(folder.path(), "1.40.0", ""));
    assert!(good.status.success(), "{}", String::from_utf8_lossy(&good.stdout));

    let refuses = ask(&envoy(folder.path(), "1.40.0", "no such field"));
    assert_eq!(
        said(&refuses, "envoy/envoy.yaml"),
        "1:1: Envoy refuses it: no such field\n"
    );
    let placed = ask(&envoy(
        folder.path(),
        "1.40.0",
        "Protobuf message (reason INVALID_ARGUMENT: invalid JSON in T @ static_resources.listeners[0].filter_chains[0]\
         .filters[0].typed_config.<any>: message M, near 1:9 (offset 8): no such field: 'codec_type') has unknown fields",
    ));
    let listener = fs::read_to_string(repository().join("envoy/listener.yaml")).unwrap();
    let line = listener
        .lines()
        .position(|line| line.contains("codec_type"))
        .unwrap()
        + 1;
    let told = said(&placed, "envoy/listener.yaml");
    assert!(
        told.starts_with(&format!(
            "{line}:9: Envoy refuses it: no such field: 'codec_type'"
        )),
        "{told}"
    );

    let elsewhere = ask(&envoy(folder.path(), "1.40.0", "Invalid path: /modules/x.wasm"));
    assert!(
        said(&elsewhere, "envoy/envoy.yaml").starts_with("1:1: warning: Envoy could not look at all of it")
    );
    assert!(elsewhere.status.success());

    let old = ask(&envoy(folder.path(), "1.38.2", ""));
    assert!(said(&old, "envoy/filters/gateway-native.yaml").contains("the native library is for Envoy 1.39"));
    assert!(said(&old, "envoy/routes.yaml").contains("a model with several targets is for Envoy 1.40"));
    assert_eq!(old.status.code(), Some(1));
}

#[test]
fn without_an_envoy_that_is_said_and_no_mistake() {
    let mut tool = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    let folder = tempfile::tempdir().unwrap();
    tool.current_dir(folder.path())
        .arg("check")
        .arg(repository().join("envoy"));
    let output = tool
        .env_remove("ENVOY_BIN")
        .env("PATH", folder.path())
        .output()
        .unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("No Envoy was found"));
}

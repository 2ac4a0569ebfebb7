//! One file a mistake, in `tests/bad_config/filter` and `tests/bad_config/fetcher`: a configuration as an operator
//! writes it, and beside it all that is said about it.
//!
//! `$KEY` stands for a real key, `$HASH` for a good hash: neither is written into a file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tollgate_vm::{World, module};

use crate::stage::{VM_ID, key, secret};

fn files(role: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/bad_config")
        .join(role);
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries
        .filter(|path| path.extension().is_some_and(|end| end == "yaml"))
        .collect();
    files.sort();
    files
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The configuration that the YAML is, as Envoy reads it.
fn configuration(path: &Path) -> Value {
    let key = key(1);
    let yaml = text(path)
        .replace("$KEY", key.reveal())
        .replace("$HASH", &key.sha256_hex());
    serde_saphyr::from_str(&yaml).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Loads each file as `root_id`; what is said must be what is expected, all of it and no more.
fn each_is_refused(role: &str, root_id: &str) -> usize {
    let world = World::new();
    let vm = world.vm(&module("key-auth"), VM_ID);
    let files = files(role);
    let mut wrong = String::new();
    for file in &files {
        let said = match vm.configure(root_id, configuration(file)) {
            Ok(_) => "it was accepted".to_owned(),
            Err(refused) => refused.text().replace("key-auth: configuration refused: ", ""),
        };
        let expected = text(&file.with_extension("expected"));
        // In any order: a map of JSON has none, and which one serde_json keeps depends on what else is built.
        let lines = |text: &str| {
            text.trim_end()
                .lines()
                .map(str::to_owned)
                .collect::<BTreeSet<_>>()
        };
        if lines(&said) != lines(&expected) {
            wrong += &format!(
                "{}:\n  expected: {}\n  said:     {said}\n",
                file.display(),
                expected.trim_end()
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    world.expect_never_logged(secret(&key(1)));
    files.len()
}

#[test]
fn the_filter_says_where_and_why() {
    assert!(each_is_refused("filter", "key-auth") >= 30);
}

#[test]
fn the_fetcher_says_where_and_why() {
    assert!(each_is_refused("fetcher", "directory") >= 10);
}

#[test]
fn a_role_that_does_not_exist_is_named() {
    let vm = World::new().vm(&module("key-auth"), VM_ID);
    let good = crate::stage::inline(&crate::stage::directory([]));
    for root_id in ["", "key_auth", "Directory", "tollgate.key-auth"] {
        let said = vm.configure(root_id, good.clone()).err().unwrap().text();
        let expected = "root_id: expected `key-auth` (the filter) or `directory` (the fetcher)";
        assert!(said.ends_with(expected), "{said}");
    }
}

#[test]
fn what_is_no_configuration_at_all_is_refused() {
    let vm = World::new().vm(&module("key-auth"), VM_ID);
    for bytes in [
        &b""[..],
        b"{",
        b"{}x",
        b"null",
        b"[]",
        b"\x00",
        b"\xff\xff\xff\xff\xff",
        b"\n\x05hello",
        b"{\"a\":\xff}",
    ] {
        for role in ["key-auth", "directory"] {
            let refused = vm.configure_bytes(role, bytes).err().unwrap();
            assert!(refused.text().contains("configuration refused: "), "{bytes:?}");
        }
    }
}

/// Every worker asks, and Envoy needs one answer: it does not depend on who asks, or when.
#[test]
fn every_worker_gives_the_same_answer() {
    let world = World::new();
    let vms = [0, 1, 2].map(|_| world.vm(&module("key-auth"), VM_ID));
    for file in files("filter") {
        let configuration = configuration(&file);
        let said = vms.each_ref().map(|vm| {
            world.advance(std::time::Duration::from_secs(1));
            vm.configure("key-auth", configuration.clone())
                .err()
                .map(|refused| refused.text())
        });
        assert!(said.iter().all(|one| *one == said[0]), "{said:?}");
    }
}

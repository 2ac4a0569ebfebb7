//! One file a mistake, in `tests/bad_config`: a configuration as an operator writes it, and beside it all that is said
//! about it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tollgate_vm::{Vm, World, module};

use super::vm_id;

/// Loads each of the at least `least` files for `root_id`, on two workers, since Envoy needs one answer of all; what is
/// said must be what is expected, all of it and no more. `fill` puts in what is not written into files.
#[track_caller]
pub(crate) fn each_is_refused(
    filter: &str,
    root_id: &str,
    least: usize,
    fill: impl Fn(String) -> String,
) -> World {
    let world = World::new();
    let vms = [0, 1].map(|_| world.vm(&module(filter), &vm_id(filter)));
    let files = files(root_id);
    assert!(files.len() >= least, "{} files for {root_id}", files.len());
    let mut wrong = String::new();
    for file in &files {
        let configuration: Value = serde_saphyr::from_str(&fill(text(file)))
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let expected = text(&file.with_extension("expected"));
        for vm in &vms {
            // Nor does it depend on when it is asked.
            world.advance(Duration::from_secs(1));
            let said = said(vm, filter, root_id, &configuration);
            if lines(&said) != lines(&expected) {
                let expected = expected.trim_end();
                wrong += &format!(
                    "{}:\n  expected: {expected}\n  said:     {said}\n",
                    file.display()
                );
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    world
}

/// What is no configuration at all is refused too, with a reason.
#[track_caller]
pub(crate) fn nonsense_is_refused(filter: &str, root_id: &str) {
    let vm = World::new().vm(&module(filter), &vm_id(filter));
    for bytes in [
        &b"{"[..],
        b"{}x",
        b"null",
        b"[]",
        b"\x00",
        b"\"\"",
        b"\xff\xff\xff\xff\xff",
        b"\n\x05hello",
        b"{\"a\":\xff}",
    ] {
        let refused = vm.configure_bytes(root_id, bytes);
        let Err(refused) = refused else {
            panic!("{bytes:?} was accepted")
        };
        assert!(refused.text().contains("configuration refused: "), "{bytes:?}");
    }
}

fn said(vm: &Vm, filter: &str, root_id: &str, configuration: &Value) -> String {
    match vm.configure(root_id, configuration.clone()) {
        Ok(_) => "it was accepted".to_owned(),
        Err(refused) => refused
            .text()
            .replace(&format!("{filter}: configuration refused: "), ""),
    }
}

/// In any order: a map of JSON has none, and which one serde_json keeps depends on what else is built.
fn lines(text: &str) -> BTreeSet<&str> {
    text.trim_end().lines().collect()
}

#[track_caller]
fn files(root_id: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/bad_config")
        .join(root_id);
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries
        .filter(|path| path.extension().is_some_and(|end| end == "yaml"))
        .collect();
    files.sort();
    files
}

#[track_caller]
fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

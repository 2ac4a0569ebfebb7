//! One file a mistake, in `bad_config/`: a configuration as an operator writes it, and beside it all that is said
//! about it.

use std::path::{Path, PathBuf};

use tollgate_vm::{World, module};

use crate::stage::VM_ID;

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/upstream_adapter/bad_config");
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries
        .filter(|path| path.extension().is_some_and(|end| end == "yaml"))
        .collect();
    files.sort();
    files
}

#[test]
fn the_filter_says_where_and_why() {
    let world = World::new();
    let vm = world.vm(&module("upstream-adapter"), VM_ID);
    let files = files();
    assert!(files.len() >= 15);
    let mut wrong = String::new();
    for file in &files {
        let configuration = serde_saphyr::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        let said = match vm.configure("upstream-adapter", configuration) {
            Ok(_) => "it was accepted".to_owned(),
            Err(refused) => refused
                .text()
                .replace("upstream-adapter: configuration refused: ", ""),
        };
        let expected = std::fs::read_to_string(file.with_extension("expected")).unwrap();
        if said != expected.trim_end() {
            wrong += &format!(
                "{}:\n  expected: {}\n  said:     {said}\n",
                file.display(),
                expected.trim_end()
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn what_is_no_configuration_at_all_is_refused() {
    let vm = World::new().vm(&module("upstream-adapter"), VM_ID);
    for bytes in [
        &b""[..],
        b"{",
        b"{}x",
        b"null",
        b"[]",
        b"\x00",
        b"\xff\xff\xff",
        b"{\"a\":\xff}",
    ] {
        let refused = vm.configure_bytes("upstream-adapter", bytes).err().unwrap();
        assert!(refused.text().contains("configuration refused: "), "{bytes:?}");
    }
}

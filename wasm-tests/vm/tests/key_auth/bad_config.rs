//! What is wrong with a configuration is said, all of it, with its path.
//!
//! In the files `$KEY` stands for a real key, `$HASH` for a good hash: neither is written into a file.

use tollgate_vm::{World, module};

use crate::stage::{VM_ID, key, secret};
use crate::support::bad_config::{each_is_refused, nonsense_is_refused};

fn filled(yaml: String) -> String {
    let key = key(1);
    yaml.replace("$KEY", key.reveal())
        .replace("$HASH", &key.sha256_hex())
}

#[test]
fn the_filter_says_where_and_why() {
    let world = each_is_refused("key-auth", "key-auth", 30, filled);
    world.expect_never_logged(secret(&key(1)));
}

#[test]
fn the_fetcher_says_where_and_why() {
    let world = each_is_refused("key-auth", "directory", 10, filled);
    world.expect_never_logged(secret(&key(1)));
}

#[test]
fn what_is_no_configuration_at_all_is_refused() {
    for role in ["key-auth", "directory"] {
        nonsense_is_refused("key-auth", role);
    }
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

//! What is wrong with a configuration is said, all of it, with its path.

use serde_json::json;
use tollgate_vm::{World, module};

use crate::stage::VM_ID;
use crate::support::bad_config::{each_is_refused, nonsense_is_refused};

#[test]
fn the_filter_says_where_and_why() {
    each_is_refused("tenant-router", "tenant-router", 25, |yaml| yaml);
}

#[test]
fn what_is_no_configuration_at_all_is_refused() {
    nonsense_is_refused("tenant-router", "tenant-router");
}

#[test]
fn a_role_that_does_not_exist_is_named() {
    let vm = World::new().vm(&module("tenant-router"), VM_ID);
    for root_id in ["", "attempt", "router"] {
        let said = vm.configure(root_id, json!({})).err().unwrap().text();
        let expected = "root_id: expected `tenant-router` (the filter) or `attempts` (the access logger)";
        assert!(said.ends_with(expected), "{said}");
    }
}

#[test]
fn the_access_logger_has_nothing_to_configure() {
    let vm = World::new().vm(&module("tenant-router"), VM_ID);
    vm.configure("attempts", json!({})).unwrap();
    let said = vm
        .configure("attempts", json!({"longest": "60s"}))
        .err()
        .unwrap()
        .text();
    assert!(said.contains("longest: unknown field"), "{said}");
}

/// Of two values, readers differ on which one counts. (As text: a YAML file with such a map can't be read at all.)
#[test]
fn a_name_that_is_given_twice_is_named() {
    let vm = World::new().vm(&module("tenant-router"), VM_ID);
    for (more, problem) in [
        (
            r#""priorities": {"pro": "high", "pro": "default"}"#,
            "priorities: `pro` is given twice",
        ),
        (
            r#""allow_fallback": {"label": {"a": "1", "a": "2"}}"#,
            "allow_fallback.label: `a` is given twice",
        ),
    ] {
        let configuration = format!(r#"{{"catalogue": {{"models": {{}}}}, {more}}}"#);
        let refused = vm.configure_bytes("tenant-router", configuration).err();
        let said = refused.unwrap().text();
        assert!(said.ends_with(problem), "{said}");
    }
}

#[test]
fn one_name_is_a_list_of_one() {
    let vm = World::new().vm(&module("tenant-router"), VM_ID);
    let target = json!([{"cluster": "a"}]);
    let rules = json!([{"when": {"tier": "trial", "endpoint": "chat"}, "targets": ["a"]}]);
    let models = json!({"m": {"endpoints": ["chat"], "targets": target, "rules": rules}});
    let configuration = json!({"catalogue": {"models": models}, "allow_fallback": {"org": "acme"}});
    vm.configure("tenant-router", configuration).unwrap();
}

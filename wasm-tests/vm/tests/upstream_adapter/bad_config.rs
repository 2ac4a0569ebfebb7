//! What is wrong with a configuration is said, all of it, with its path.

use tollgate_vm::{World, module};

use crate::support::bad_config::{each_is_refused, nonsense_is_refused};

#[test]
fn the_filter_says_where_and_why() {
    each_is_refused("upstream-adapter", "upstream-adapter", 15, |yaml| yaml);
}

#[test]
fn what_is_no_configuration_at_all_is_refused() {
    nonsense_is_refused("upstream-adapter", "upstream-adapter");
}

/// Of two values, readers differ on which one counts. (As text: a YAML file with such a map can't be read at all.)
#[test]
fn a_name_that_is_given_twice_is_named() {
    let vm = World::new().vm(&module("upstream-adapter"), "tollgate.upstream-adapter");
    for (providers, problem) in [
        (r#"{"a": {}, "a": {}}"#, "providers: `a` is given twice"),
        (
            r#"{"a": {"models": {"m": "x", "m": "y"}}}"#,
            "providers.a.models: `m` is given twice",
        ),
        (
            r#"{"a": {"headers": {"x-b": "1", "x-b": "2"}}}"#,
            "providers.a.headers: `x-b` is given twice",
        ),
    ] {
        let configuration = format!(r#"{{"providers": {providers}}}"#);
        let refused = vm.configure_bytes("upstream-adapter", configuration).err();
        let said = refused.unwrap().text();
        assert!(said.ends_with(problem), "{said}");
    }
}

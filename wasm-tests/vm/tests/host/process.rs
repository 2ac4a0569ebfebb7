//! What belongs to the whole process: configuration, properties, the clock, metrics, the log.

use std::time::Duration;

use serde_json::json;
use tollgate_vm::{Level, World};

use crate::wat::{filter, wat};

#[test]
fn a_configuration_is_taken_or_refused_with_what_was_logged() {
    let module = wat(r#"
        (func (export "proxy_on_configure") (param $root i32) (param $size i32) (result i32)
          (drop (call $buffer (i32.const 7) (i32.const 0) (local.get $size) (i32.const 16) (i32.const 20)))
          (drop (call $log (i32.const 4) (i32.load (i32.const 16)) (i32.load (i32.const 20))))
          ;; An empty object is refused.
          (i32.ne (local.get $size) (i32.const 2)))
        "#);
    let vm = World::new().vm(&module, "any");
    let Err(refused) = vm.configure("test", json!({})) else {
        panic!("it was taken")
    };
    assert_eq!(refused.text(), "{}");
    assert_eq!(refused.log[0].level, Level::Error);
    // A reload: the next one is a plugin of its own. Each number is a double, as in a Struct.
    let plugin = vm.configure("test", json!({"a": 1, "b": 0.5})).unwrap();
    assert!(vm.world().logged(r#"{"a":1.0,"b":0.5}"#));
    plugin.get("/").send().expect_forwarded();
}

/// Reads the property at 1000 (its length at 990) and keeps it as the filter state `p`.
fn property(path: &str, length: usize) -> String {
    format!(
        r#"
        (data (i32.const 990) "p")
        (data (i32.const 1000) "{path}")
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (call $note (call $get_property
            (i32.const 1000) (i32.const {length}) (i32.const 16) (i32.const 20)))
          (drop (call $set_property
            (i32.const 990) (i32.const 1) (i32.load (i32.const 16)) (i32.load (i32.const 20))))
          (i32.const 0))
        "#
    )
}

#[test]
fn properties_come_from_the_request_the_test_and_the_plugin() {
    let read = |parts: &[&str]| {
        let (world, plugin) = filter(&property(&parts.join("\\00"), parts.join("0").len()));
        world.property(&["node", "id"], "gateway-1");
        let claims = json!({"tollgate": {"org": "acme", "tries": 2, "none": null}});
        let request = plugin
            .get("/v1/models?x=1")
            .from("10.1.2.3")
            .metadata("jwt", claims);
        let outcome = request.send();
        let status = outcome.filter_state("notes").unwrap()[0] - b'0';
        (status, outcome.filter_state("p").unwrap().to_vec())
    };
    let ok = |value: &[u8]| (0, value.to_vec());
    assert_eq!(read(&["source", "address"]), ok(b"10.1.2.3:40000"));
    assert_eq!(read(&["request", "url_path"]), ok(b"/v1/models"));
    assert_eq!(read(&["request", "headers", ":method"]), ok(b"GET"));
    assert_eq!(read(&["node", "id"]), ok(b"gateway-1"));
    assert_eq!(read(&["plugin_root_id"]), ok(b"test"));
    let claim = |name| read(&["metadata", "filter_metadata", "jwt", "tollgate", name]);
    assert_eq!(claim("org"), ok(b"acme"));
    assert_eq!(claim("tries"), ok(&2f64.to_le_bytes()));
    assert_eq!(claim("none").0, 3, "null cannot be serialised");
    assert_eq!(claim("other").0, 1);
    assert_eq!(read(&["never", "set"]).0, 1);
    let whole = read(&["metadata", "filter_metadata", "jwt"]);
    assert_eq!(whole.0, 3, "for a null inside");
}

#[test]
fn an_address_may_be_ipv6_and_may_have_a_port() {
    let (_, plugin) = filter(&property("source\\00address", 14));
    for (given, seen) in [
        ("10.0.0.1:99", "10.0.0.1:99"),
        ("2001:db8::1", "[2001:db8::1]:40000"),
        ("[::1]:5", "[::1]:5"),
    ] {
        let outcome = plugin.get("/").from(given).send();
        assert_eq!(outcome.filter_state("p"), Some(seen.as_bytes()));
    }
}

#[test]
fn the_clock_is_the_tests() {
    let (world, plugin) = filter(
        r#"
        (data (i32.const 1000) "t")
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (drop (call $now (i32.const 16)))
          (call $set_property (i32.const 1000) (i32.const 1) (i32.const 16) (i32.const 8)))
        "#,
    );
    let world = world.at("1970-01-01T00:00:01Z");
    world.advance(Duration::from_nanos(5));
    let outcome = plugin.get("/").send();
    assert_eq!(
        outcome.filter_state("t"),
        Some(&1_000_000_005_u64.to_le_bytes()[..])
    );
}

#[test]
fn metrics_are_the_processs_and_by_name() {
    let body = r#"
        (data (i32.const 1000) "count")
        (data (i32.const 1010) "level")
        (data (i32.const 1020) "spread")
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
          (drop (call $define (i32.const 0) (i32.const 1000) (i32.const 5) (i32.const 40)))
          (drop (call $define (i32.const 1) (i32.const 1010) (i32.const 5) (i32.const 44)))
          (drop (call $define (i32.const 2) (i32.const 1020) (i32.const 6) (i32.const 48)))
          (i32.const 1))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (call $note (call $increment (i32.load (i32.const 40)) (i64.const 2)))
          (call $note (call $increment (i32.load (i32.const 40)) (i64.const -1)))
          (call $note (call $record (i32.load (i32.const 44)) (i64.const 9)))
          (call $note (call $increment (i32.load (i32.const 44)) (i64.const -4)))
          (call $note (call $record (i32.load (i32.const 48)) (i64.const 7)))
          (call $note (call $metric (i32.load (i32.const 48)) (i32.const 16)))
          (call $note (call $increment (i32.const 999) (i64.const 1)))
          (i32.const 0))
    "#;
    let world = World::new();
    for _worker in 0..2 {
        let outcome = crate::wat::load(&world, body).get("/").send();
        assert_eq!(outcome.filter_state("notes"), Some(&b"0200021"[..]));
    }
    assert_eq!((world.counter("count"), world.gauge("level")), (4, Some(5)));
    assert_eq!(world.histogram("spread"), [7, 7]);
}

#[test]
fn a_secret_in_the_log_is_found_at_any_level() {
    let (world, plugin) = filter(
        r#"
        (data (i32.const 1000) "key=hunter2")
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (call $log (i32.const 0) (i32.const 1000) (i32.const 11)))
        "#,
    );
    world.expect_never_logged("hunter2");
    plugin.get("/").send().expect_forwarded();
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        world.expect_never_logged("hunter2")
    }));
    assert!(found.is_err());
}

#[test]
fn clearing_the_route_cache_is_seen_and_other_foreign_functions_are_not_there() {
    let (_, plugin) = filter(
        r#"
        (data (i32.const 1000) "clear_route_cache")
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (call $note (call $foreign (i32.const 1000) (i32.const 17)
            (i32.const 0) (i32.const 0) (i32.const 16) (i32.const 20)))
          (call $note (call $foreign (i32.const 1000) (i32.const 5)
            (i32.const 0) (i32.const 0) (i32.const 16) (i32.const 20)))
          (i32.const 0))
        "#,
    );
    let outcome = plugin.get("/").send();
    assert_eq!(outcome.route_cache_cleared(), 1);
    assert_eq!(outcome.filter_state("notes"), Some(&b"01"[..]));
}

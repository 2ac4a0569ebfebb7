//! Every way a stream can end, and that a filter hears of it once.

use tollgate_vm::{Response, Vm, World};

use crate::wat::{filter, wat};

/// Logs each callback of a stream's end.
const WITNESS: &str = r#"
  (data (i32.const 1000) "logged")
  (data (i32.const 1010) "done")
  (data (i32.const 1020) "deleted")
  (func (export "proxy_on_log") (param i32) (drop (call $log (i32.const 2) (i32.const 1000) (i32.const 6))))
  (func (export "proxy_on_done") (param i32) (result i32)
    (drop (call $log (i32.const 2) (i32.const 1010) (i32.const 4)))
    (i32.const 1))
  (func (export "proxy_on_delete") (param i32)
    (drop (call $log (i32.const 2) (i32.const 1020) (i32.const 7))))
"#;

fn lines(world: &World) -> Vec<String> {
    world.log().into_iter().map(|line| line.text).collect()
}

#[test]
fn complete() {
    let (world, plugin) = filter(WITNESS);
    plugin.get("/").send().expect_response(200);
    assert_eq!(lines(&world), ["logged", "done", "deleted"]);
}

#[test]
fn the_client_leaves_in_the_middle_of_the_response() {
    let (world, plugin) = filter(WITNESS);
    let stream = plugin.get("/").start();
    stream.respond_headers(Response::new(200));
    stream.respond_chunk("half");
    assert_eq!(stream.received(), b"half");
    assert!(lines(&world).is_empty());
    stream.abort().expect_broken();
    assert_eq!(lines(&world), ["logged", "done", "deleted"]);
}

#[test]
fn the_client_leaves_before_the_body_is_sent() {
    let (world, plugin) = filter(WITNESS);
    let stream = plugin.post("/").body("never sent").open();
    drop(stream);
    assert_eq!(lines(&world), ["logged", "done", "deleted"]);
}

#[test]
fn the_upstream_breaks_before_and_after_the_response_began() {
    let (world, plugin) = filter(WITNESS);
    let stream = plugin.get("/").start();
    stream.upstream_reset();
    stream.finish().expect_response(503);

    let stream = plugin.get("/").start();
    stream.respond_headers(Response::new(200));
    stream.upstream_reset();
    stream.finish().expect_broken();
    assert_eq!(lines(&world), ["logged", "done", "deleted"].repeat(2));
}

#[test]
fn a_filter_closes_the_stream() {
    let (_, plugin) = filter(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (drop (call $close (i32.const 0)))
          (i32.const 1))"#,
    );
    plugin.get("/").send().expect_broken();
}

#[test]
fn callbacks_that_are_not_exported_are_skipped() {
    let world = World::new();
    let vm = world.vm(&tollgate_vm::Module::new("empty", "(module)"), "empty");
    let plugin = vm.configure("any", serde_json::json!({})).unwrap();
    let outcome = plugin
        .post("/")
        .body("abc")
        .in_chunks(1)
        .upstream(Response::new(204))
        .send();
    outcome.expect_forwarded().body("abc");
    outcome.expect_response(204);
    assert_eq!(outcome.crossings(), 0);
}

#[test]
fn a_replaced_plugin_is_done_and_deleted_while_the_new_one_serves() {
    let (world, old) = filter(WITNESS);
    let new = old.vm().configure_bytes("test", "").unwrap();
    let in_flight = old.get("/").start();
    old.retire();
    assert_eq!(lines(&world), ["done", "deleted"]);
    in_flight.finish().expect_response(200);
    new.get("/").send().expect_response(200);
}

#[test]
fn a_plugin_may_ask_for_time_before_it_ends() {
    let (world, plugin) = filter(
        r#"
        (data (i32.const 1000) "deleted")
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
          (drop (call $tick_period (i32.const 10)))
          (i32.const 1))
        (func (export "proxy_on_done") (param i32) (result i32) (i32.const 0))
        (func (export "proxy_on_tick") (param i32) (drop (call $finished)))
        (func (export "proxy_on_delete") (param i32)
          (drop (call $log (i32.const 2) (i32.const 1000) (i32.const 7))))
        "#,
    );
    plugin.tick();
    plugin.clone().retire();
    assert!(lines(&world).is_empty(), "it has not said it is done");
    plugin.tick();
    assert_eq!(lines(&world), ["deleted"]);
}

fn fragile(world: &World) -> Vm {
    let body = r#"(func (export "proxy_on_request_body") (param i32 i32 i32) (result i32) unreachable)"#;
    world.vm(&wat(body), "fragile")
}

#[test]
fn a_trap_is_an_outcome_where_it_is_allowed_and_the_vm_is_gone() {
    let world = World::new();
    let plugin = fragile(&world).allow_traps().configure_bytes("test", "").unwrap();
    plugin.get("/").send().expect_forwarded();

    let outcome = plugin.post("/").body("x").send();
    assert_eq!(outcome.expect_trap().callback, "proxy_on_request_body");
    outcome.expect_response(503).details("wasm_fail_stream");

    plugin.get("/").send().expect_refused(503);
}

#[test]
#[should_panic(expected = "the module trapped in proxy_on_request_body")]
fn a_trap_fails_the_test_by_default() {
    let plugin = fragile(&World::new()).configure_bytes("test", "").unwrap();
    let _ = plugin.post("/").body("x").send();
}

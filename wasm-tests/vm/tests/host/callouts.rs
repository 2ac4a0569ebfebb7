//! Callouts, ticks, and requests that wait for them.

use std::time::Duration;

use tollgate_vm::{Hostcall, Status};

use crate::wat::filter;

/// Asks a cluster about each request and holds it: forwards with the answer's body as `answer`, refuses when
/// the call broke, and notes the status when there was no call.
const ASKER: &str = r#"
  (global $stream (mut i32) (i32.const 0))
  (data (i32.const 1000) "asked")
  (data (i32.const 1100) "\03\00\00\00\07\00\00\00\03\00\00\00\05\00\00\00\02\00\00\00\0a\00\00\00\01\00\00\00")
  (data (i32.const 1128) ":method\00GET\00:path\00/q\00:authority\00a\00")
  (data (i32.const 1200) "answer")
  (func (export "proxy_on_request_headers") (param $ctx i32) (param i32 i32) (result i32)
    (local $status i32)
    (global.set $stream (local.get $ctx))
    (local.set $status (call $http (i32.const 1000) (i32.const 5) (i32.const 1100) (i32.const 62)
      (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 5000) (i32.const 32)))
    (if (local.get $status) (then (call $note (local.get $status)) (return (i32.const 0))))
    (i32.const 1))
  (func (export "proxy_on_http_call_response")
      (param $root i32) (param $token i32) (param $headers i32) (param $size i32) (param i32)
    (drop (call $effective (global.get $stream)))
    (if (i32.eqz (local.get $headers))
      (then
        (drop (call $status (i32.const 40) (i32.const 44) (i32.const 48)))
        (drop (call $reply (i32.const 502) (i32.load (i32.const 44)) (i32.load (i32.const 48))
          (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const -1)))
        (return)))
    (drop (call $buffer (i32.const 4) (i32.const 0) (local.get $size) (i32.const 16) (i32.const 20)))
    (drop (call $set (i32.const 0) (i32.const 1200) (i32.const 6)
      (i32.load (i32.const 16)) (i32.load (i32.const 20))))
    (drop (call $continue (i32.const 0))))
"#;

#[test]
fn a_held_request_goes_on_with_the_answer() {
    let (_, plugin) = filter(ASKER);
    let stream = plugin.get("/").start();
    assert!(stream.is_held() && !stream.is_forwarded());
    let call = plugin.call();
    assert_eq!(
        (call.cluster.as_str(), call.timeout),
        ("asked", Duration::from_secs(5))
    );
    assert_eq!(call.headers.text(":path").as_deref(), Some("/q"));
    call.answer(200, &[], "yes");
    assert!(plugin.calls().is_empty());
    stream.finish().expect_forwarded().header("answer", "yes");
}

#[test]
fn its_body_waits_and_follows() {
    let (_, plugin) = filter(ASKER);
    let mut stream = plugin.post("/").body("abcd").in_chunks(2).open();
    assert!(stream.send_chunk());
    plugin.call().answer(200, &[], "yes");
    stream.finish().expect_forwarded().body("abcd");
}

#[test]
fn a_broken_call_can_be_told_from_an_answer() {
    let (_, plugin) = filter(ASKER);
    let stream = plugin.get("/").start();
    plugin.call().fail();
    stream.finish().expect_refused(502).details("reset");
}

#[test]
fn a_call_can_fail_to_begin() {
    let (world, plugin) = filter(ASKER);
    let _ = world.fault(Hostcall::HttpCall, Status::BadArgument).of("asked");
    let outcome = plugin.get("/").send();
    outcome.expect_forwarded();
    assert_eq!(outcome.filter_state("notes"), Some(&b"2"[..]));
}

#[test]
fn an_answer_after_the_client_left_is_no_trouble() {
    let (_, plugin) = filter(ASKER);
    let stream = plugin.get("/").start();
    let call = plugin.call();
    stream.abort().expect_broken();
    call.answer(200, &[], "too late");
}

#[test]
fn a_unary_grpc_call_is_answered_or_closed() {
    let (world, plugin) = filter(
        r#"
        (data (i32.const 1000) "limits")
        (data (i32.const 1010) "Service")
        (data (i32.const 1020) "Should")
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (call $note (call $grpc (i32.const 1000) (i32.const 6) (i32.const 1010) (i32.const 7)
            (i32.const 1020) (i32.const 6) (i32.const 0) (i32.const 0)
            (i32.const 1000) (i32.const 3) (i32.const 20) (i32.const 32)))
          (i32.const 0))
        (func (export "proxy_on_grpc_receive") (param i32 i32) (param $size i32)
          (drop (call $buffer (i32.const 5) (i32.const 0) (local.get $size) (i32.const 16) (i32.const 20)))
          (drop (call $log (i32.const 2) (i32.load (i32.const 16)) (i32.load (i32.const 20)))))
        (func (export "proxy_on_grpc_close") (param i32 i32) (param $code i32)
          (drop (call $status (i32.const 40) (i32.const 44) (i32.const 48)))
          (drop (call $log (i32.const 3) (i32.load (i32.const 44)) (i32.load (i32.const 48)))))
        "#,
    );
    plugin.get("/").send().expect_forwarded();
    plugin.get("/").send().expect_forwarded();
    let [first, second] = <[_; 2]>::try_from(plugin.grpc_calls()).ok().unwrap();
    assert_eq!(
        (first.method.as_str(), first.message.as_slice()),
        ("Should", &b"lim"[..])
    );
    first.answer("granted");
    second.fail(14, "nobody there");
    assert!(world.logged("granted") && world.logged("nobody there"));
    assert!(plugin.grpc_calls().is_empty());
}

#[test]
fn ticks_come_as_time_passes() {
    let (world, plugin) = filter(
        r#"
        (data (i32.const 1000) "tick")
        (func (export "proxy_on_vm_start") (param i32 i32) (result i32)
          (drop (call $tick_period (i32.const 250)))
          (i32.const 1))
        (func (export "proxy_on_tick") (param i32)
          (drop (call $log (i32.const 2) (i32.const 1000) (i32.const 4))))
        "#,
    );
    assert_eq!(plugin.tick_period(), Some(Duration::from_millis(250)));
    let before = world.now();
    world.run_for(Duration::from_millis(999));
    assert_eq!(world.log().len(), 3);
    assert_eq!(world.now(), before + Duration::from_millis(999));
    plugin.tick();
    assert_eq!(world.log().len(), 4);
}

#[test]
fn a_tick_can_release_a_held_request() {
    let (_, plugin) = filter(
        r#"
        (global $stream (mut i32) (i32.const 0))
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
          (drop (call $tick_period (i32.const 10)))
          (i32.const 1))
        (func (export "proxy_on_request_headers") (param $ctx i32) (param i32 i32) (result i32)
          (global.set $stream (local.get $ctx))
          (i32.const 1))
        (func (export "proxy_on_tick") (param i32)
          (drop (call $effective (global.get $stream)))
          (drop (call $continue (i32.const 0))))
        "#,
    );
    let stream = plugin.get("/").start();
    assert!(stream.is_held());
    plugin.tick();
    assert!(stream.is_forwarded());
    stream.finish().expect_response(200);
}

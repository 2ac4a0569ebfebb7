//! Bodies in any chunking: seen as they come, held, replaced.

use tollgate_vm::Response;

use crate::wat::filter;

/// Holds the request's body to its end, then puts `<` before it and `>` after it.
const HOLDER: &str = r#"
  (data (i32.const 1000) "<>")
  (func (export "proxy_on_request_body") (param $ctx i32) (param $size i32) (param $end i32) (result i32)
    (if (i32.eqz (local.get $end)) (then (return (i32.const 1))))
    (drop (call $set_buffer (i32.const 0) (local.get $size) (i32.const 0) (i32.const 1001) (i32.const 1)))
    (drop (call $set_buffer (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1000) (i32.const 1)))
    (i32.const 0))
"#;

#[test]
fn a_held_body_is_whole_at_its_end() {
    let (_, plugin) = filter(HOLDER);
    let text = "a body of some length";
    for size in 1..=text.len() {
        let outcome = plugin.post("/").body(text).in_chunks(size).send();
        outcome.expect_forwarded().body(format!("<{text}>"));
    }
    let outcome = plugin.post("/").chunks([text, ""]).send();
    outcome.expect_forwarded().body(format!("<{text}>"));
}

#[test]
fn trailers_end_a_body_that_is_held() {
    let (_, plugin) = filter(HOLDER);
    // The filter never sees an end in the body, and lets the trailers pass: what it held goes on unchanged.
    let outcome = plugin.post("/").chunks(["a", "b"]).trailer("t", "1").send();
    outcome.expect_forwarded().body("ab").trailer("t", "1");
}

#[test]
fn a_response_passes_chunk_by_chunk() {
    let (_, plugin) = filter(
        r#"
        (data (i32.const 1000) "!")
        (func (export "proxy_on_response_body") (param i32) (param $size i32) (param i32) (result i32)
          (drop (call $set_buffer
            (i32.const 1) (local.get $size) (i32.const 0) (i32.const 1000) (i32.const 1)))
          (i32.const 0))
        "#,
    );
    let upstream = Response::new(200).chunks(["one", "two"]);
    let outcome = plugin.get("/").upstream(upstream).send();
    outcome.expect_response(200);
    assert_eq!(outcome.received_chunks(), [b"one!", b"two!"]);
}

#[test]
fn parts_of_a_body_can_be_read_and_only_its_ends_changed() {
    let (_, plugin) = filter(
        r#"
        (data (i32.const 1000) "part")
        (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
          (call $note (call $buffer
            (i32.const 0) (i32.const 2) (i32.const 3) (i32.const 16) (i32.const 20)))
          (drop (call $set_property
            (i32.const 1000) (i32.const 4) (i32.load (i32.const 16)) (i32.load (i32.const 20))))
          ;; In the middle: no.
          (call $note (call $set_buffer
            (i32.const 0) (i32.const 2) (i32.const 1) (i32.const 1000) (i32.const 1)))
          ;; In its place: yes.
          (call $note (call $set_buffer
            (i32.const 0) (i32.const 0) (i32.const 999) (i32.const 1000) (i32.const 4)))
          ;; Where nothing is, from the plugin's configuration: none in this phase.
          (call $note (call $buffer
            (i32.const 7) (i32.const 0) (i32.const 9) (i32.const 16) (i32.const 20)))
          (i32.const 0))
        "#,
    );
    let outcome = plugin.post("/").body("abcdefgh").send();
    outcome.expect_forwarded().body("part");
    assert_eq!(outcome.filter_state("part"), Some(&b"cde"[..]));
    assert_eq!(outcome.filter_state("notes"), Some(&b"0201"[..]));
}

#[test]
fn the_beginning_of_a_body_can_be_replaced() {
    let (_, plugin) = filter(
        r#"
        (data (i32.const 1000) "part")
        (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
          (call $note (call $set_buffer
            (i32.const 0) (i32.const 0) (i32.const 7) (i32.const 1000) (i32.const 4)))
          (i32.const 0))
        "#,
    );
    let outcome = plugin.post("/").body("abcdefgh").send();
    outcome.expect_forwarded().body("parth");
    assert_eq!(outcome.filter_state("notes"), Some(&b"0"[..]));
}

/// Pauses in the headers; lets go at the end of the body.
const PAUSER: &str = r#"
  (func (export "proxy_on_request_headers") (param i32 i32) (param $end i32) (result i32)
    (i32.eqz (local.get $end)))
  (data (i32.const 1000) "x-late")
  (func (export "proxy_on_request_body") (param i32 i32) (param $end i32) (result i32)
    (if (i32.eqz (local.get $end)) (then (return (i32.const 1))))
    (call $note (call $set
      (i32.const 0) (i32.const 1000) (i32.const 6) (i32.const 1000) (i32.const 6)))
    (i32.const 0))
"#;

#[test]
fn a_pause_in_the_headers_holds_the_body_too() {
    let (_, plugin) = filter(PAUSER);
    plugin.post("/").body("abc").in_chunks(1).send().expect_held();
}

#[test]
fn unless_the_plugin_is_allowed_to_stop_the_headers_alone() {
    let (_, plugin) = filter(PAUSER);
    let plugin = plugin.allow_on_headers_stop_iteration();
    let outcome = plugin.post("/").body("abc").in_chunks(1).send();
    outcome.expect_forwarded().header("x-late", "x-late").body("abc");
}

#[test]
fn a_response_can_be_held_whole_and_rewritten() {
    let (_, plugin) = filter(
        r#"
        (data (i32.const 1000) "content-length")
        (data (i32.const 1020) "other")
        (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
          (call $remove (i32.const 2) (i32.const 1000) (i32.const 14)))
        (func (export "proxy_on_response_body") (param i32 i32) (param $end i32) (result i32)
          (if (i32.eqz (local.get $end)) (then (return (i32.const 1))))
          (call $set_buffer (i32.const 1) (i32.const 0) (i32.const 999) (i32.const 1020) (i32.const 5)))
        "#,
    );
    let upstream = Response::new(200).body("something").in_chunks(2);
    let outcome = plugin.get("/").upstream(upstream).send();
    outcome
        .expect_response(200)
        .body("other")
        .no_header("content-length");
    assert_eq!(outcome.received_chunks().len(), 1);
}

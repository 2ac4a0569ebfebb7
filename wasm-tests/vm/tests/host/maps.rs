//! Header maps: how they are written, and when they are there.

use crate::wat::filter;

#[test]
fn pairs_are_lengths_first_and_zero_ended() {
    let (world, plugin) = filter(
        r#"
        (data (i32.const 1000) "pairs")
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (call $note (call $pairs (i32.const 0) (i32.const 16) (i32.const 20)))
          (call $note (call $set_shared (i32.const 1000) (i32.const 5)
            (i32.load (i32.const 16)) (i32.load (i32.const 20)) (i32.const 0)))
          (i32.const 0))
        "#,
    );
    let request = plugin.get("/").header("X-Name", b"\xff");
    let request = [":authority", ":scheme", "x-forwarded-proto", "x-request-id"]
        .iter()
        .fold(request, |request, name| request.without_header(name));
    request.send().expect_forwarded();
    let expected = b"\x03\0\0\0\
        \x07\0\0\0\x03\0\0\0\x05\0\0\0\x01\0\0\0\x06\0\0\0\x01\0\0\0\
        :method\0GET\0:path\0/\0x-name\0\xff\0";
    assert_eq!(world.shared("shared", "pairs").unwrap().0, expected);
}

#[test]
fn a_written_map_replaces_all() {
    let (_, plugin) = filter(
        r#"
        (data (i32.const 1000)
          "\02\00\00\00\01\00\00\00\01\00\00\00\01\00\00\00\02\00\00\00A\001\00b\0022\00")
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (call $note (call $set_pairs (i32.const 0) (i32.const 1000) (i32.const 29)))
          (i32.const 0))
        "#,
    );
    let outcome = plugin.get("/").header("gone", "1").send();
    let forwarded = outcome.expect_forwarded();
    assert_eq!(
        forwarded.headers().iter().collect::<Vec<_>>(),
        [("a", &b"1"[..]), ("b", b"22")]
    );
}

#[test]
fn one_header_at_a_time() {
    let (_, plugin) = filter(
        r#"
        (data (i32.const 1000) "X-Add")
        (data (i32.const 1010) "x-set")
        (data (i32.const 1020) "x-gone")
        (data (i32.const 1030) "new")
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (call $note (call $add
            (i32.const 0) (i32.const 1000) (i32.const 5) (i32.const 1030) (i32.const 3)))
          (call $note (call $set
            (i32.const 0) (i32.const 1010) (i32.const 5) (i32.const 1030) (i32.const 3)))
          (call $note (call $remove (i32.const 0) (i32.const 1020) (i32.const 6)))
          (call $note (call $header
            (i32.const 0) (i32.const 1020) (i32.const 6) (i32.const 16) (i32.const 20)))
          ;; No such map type.
          (call $note (call $remove (i32.const 9) (i32.const 1020) (i32.const 6)))
          (i32.const 0))
        "#,
    );
    let request = plugin
        .get("/")
        .header("x-add", "old")
        .header("x-set", "1")
        .header("x-set", "2");
    let outcome = request.header("x-gone", "1").send();
    let forwarded = outcome.expect_forwarded();
    forwarded.header("x-set", "new").no_header("x-gone");
    assert_eq!(
        forwarded.headers().all("x-add").collect::<Vec<_>>(),
        [b"old", b"new"]
    );
    assert_eq!(
        outcome.filter_state("notes"),
        Some(&b"00012"[..]),
        "1 is NotFound, 2 is BadArgument"
    );
}

/// Looks at a request header in every phase, and lets everything pass.
const LOOKER: &str = r#"
  (data (i32.const 1000) ":path")
  (func $look
    (call $note (call $header (i32.const 0) (i32.const 1000) (i32.const 5) (i32.const 16) (i32.const 20)))
    (call $note (call $set (i32.const 0) (i32.const 1000) (i32.const 5) (i32.const 1000) (i32.const 5))))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (call $look) (i32.const 0))
  (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32) (call $look) (i32.const 0))
  (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) (call $look) (i32.const 0))
  (func (export "proxy_on_log") (param i32) (call $look))
"#;

#[test]
fn headers_are_out_of_reach_once_let_go_and_can_be_read_in_the_log() {
    let (_, plugin) = filter(LOOKER);
    let outcome = plugin.post("/").body("x").send();
    outcome.expect_forwarded();
    // Read, written; then BadArgument for both in two phases; then read, and not written.
    assert_eq!(outcome.filter_state("notes"), Some(&b"00222202"[..]));
}

#[test]
fn trailers_of_both_directions() {
    let (_, plugin) = filter(
        r#"
        (data (i32.const 1000) "x-t")
        (func $mark (param $map i32) (result i32)
          (call $set (local.get $map) (i32.const 1000) (i32.const 3) (i32.const 1000) (i32.const 3)))
        (func (export "proxy_on_request_trailers") (param i32 i32) (result i32) (call $mark (i32.const 1)))
        (func (export "proxy_on_response_trailers") (param i32 i32) (result i32) (call $mark (i32.const 3)))
        "#,
    );
    let upstream = tollgate_vm::Response::new(200).body("b").trailer("x-t", "2");
    let outcome = plugin
        .post("/")
        .body("a")
        .trailer("x-t", "1")
        .upstream(upstream)
        .send();
    outcome.expect_forwarded().trailer("x-t", "x-t").body("a");
    outcome.expect_response(200).trailer("x-t", "x-t").body("b");
}

//! Several filters of several VMs: filter state goes with the request, the response comes back in reverse.

use tollgate_vm::World;

use crate::wat::load;

/// Sets the filter state `who`, and adds itself to `x-way` of the response.
fn named(name: &str) -> String {
    format!(
        r#"
        (data (i32.const 1000) "who")
        (data (i32.const 1010) "x-way")
        (data (i32.const 1020) "{name}")
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (drop (call $get_property (i32.const 1000) (i32.const 3) (i32.const 16) (i32.const 20)))
          (drop (call $add (i32.const 0) (i32.const 1010) (i32.const 5)
            (i32.load (i32.const 16)) (i32.load (i32.const 20))))
          (drop (call $set_property (i32.const 1000) (i32.const 3) (i32.const 1020) (i32.const 1)))
          (i32.const 0))
        (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
          (drop (call $add
            (i32.const 2) (i32.const 1010) (i32.const 5) (i32.const 1020) (i32.const 1)))
          (i32.const 0))
        (func (export "proxy_on_log") (param i32)
          (drop (call $log (i32.const 2) (i32.const 1020) (i32.const 1))))
        "#
    )
}

const REFUSER: &str = r#"
  (data (i32.const 1000) "no way")
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (call $reply (i32.const 403) (i32.const 1000) (i32.const 6) (i32.const 1000) (i32.const 6)
      (i32.const 0) (i32.const 0) (i32.const 7)))
"#;

#[test]
fn filter_state_is_read_by_later_filters() {
    let world = World::new();
    let (a, b) = (load(&world, &named("a")), load(&world, &named("b")));
    let outcome = world.chain(&[&a, &b]).get("/").send();
    let forwarded = outcome.expect_forwarded();
    assert_eq!(
        forwarded.headers().all("x-way").collect::<Vec<_>>(),
        [&b""[..], b"a"]
    );
    let answer = outcome.expect_response(200);
    assert_eq!(answer.headers().all("x-way").collect::<Vec<_>>(), [b"b", b"a"]);
    assert_eq!(outcome.filter_state("who"), Some(&b"b"[..]));
}

#[test]
fn a_refusal_goes_back_through_the_filters_that_saw_the_request() {
    let world = World::new();
    let (a, refuser, b) = (
        load(&world, &named("a")),
        load(&world, REFUSER),
        load(&world, &named("b")),
    );
    let outcome = world.chain(&[&a, &refuser, &b]).post("/").body("x").send();
    let answer = outcome.expect_refused(403);
    answer
        .body("no way")
        .details("no_way")
        .header("content-length", "6")
        .header("content-type", "text/plain");
    assert_eq!(answer.grpc_status(), Some(7));
    answer.header("x-way", "a");
    // Envoy logs through all filters, also those the request never reached.
    assert_eq!(
        world
            .log()
            .iter()
            .map(|line| line.text.as_str())
            .collect::<Vec<_>>(),
        ["a", "b"]
    );
}

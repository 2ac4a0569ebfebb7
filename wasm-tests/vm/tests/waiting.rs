//! A filter may ask somebody about a request and let it wait: what `tollgate_host::Step::Wait` promises, with a filter that
//! does so.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's helpers fail as its own lines do: loudly"
)]

use std::path::Path;

use serde_json::json;
use tollgate_vm::{Hostcall, Module, Plugin, Response, Status, World};

struct Stage {
    world: World,
    filter: Plugin,
}

fn stage() -> Stage {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tests/tollgate-vm-waiter.wasm");
    let wasm = std::fs::read(&path).unwrap_or_else(|error| {
        panic!(
            "{}: {error}: run `scripts/wasm.sh --into target/tests tollgate-vm-waiter` first",
            path.display()
        )
    });
    let world = World::new();
    let vm = world.vm(&Module::new("waiter", wasm), "waiter");
    let filter = vm.configure("waiter", json!({})).unwrap();
    Stage {
        filter: filter.allow_on_headers_stop_iteration(),
        world,
    }
}

#[test]
fn a_request_without_a_body_goes_on_once_its_answer_is_there() {
    let Stage { filter, .. } = stage();
    let stream = filter.get("/one").open();
    assert!(stream.is_held() && !stream.is_forwarded());
    filter.call().answer(200, &[], "yes");
    assert!(stream.is_forwarded());
    stream.finish().expect_forwarded().header("x-judge", "yes");
}

#[test]
fn a_body_that_came_meanwhile_is_shown_whole_and_once() {
    let Stage { filter, .. } = stage();
    let mut stream = filter.post("/one").body("abcdefghij").in_chunks(3).open();
    stream.send_rest();
    assert!(stream.is_held());
    filter.call().answer(200, &[], "yes");
    let outcome = stream.finish();
    outcome.expect_forwarded().header("x-judge", "yes");
    assert_eq!(outcome.forwarded_body(), b"seen:abcdefghij");
}

#[test]
fn a_body_that_comes_later_is_shown_as_ever() {
    let Stage { filter, .. } = stage();
    let mut stream = filter.post("/one").body("abcdefghij").in_chunks(3).open();
    stream.send_chunk();
    filter.call().answer(200, &[], "yes");
    stream.send_rest();
    assert_eq!(stream.finish().forwarded_body(), b"seen:abcdefghij");
}

#[test]
fn trailers_end_a_body_while_it_waits() {
    let Stage { filter, .. } = stage();
    let mut stream = filter.post("/one").body("abc").trailer("x", "y").open();
    stream.send_rest();
    assert!(stream.is_held());
    filter.call().answer(200, &[], "yes");
    assert_eq!(stream.finish().forwarded_body(), b"seen:abc");
}

#[test]
fn an_answer_in_the_requests_place_ends_the_wait() {
    let Stage { filter, .. } = stage();
    let stream = filter.post("/one").body("abc").open();
    filter.call().answer(402, &[], "");
    stream.finish().expect_refused(403).details("refused");
    let stream = filter.get("/two").open();
    filter.call().fail();
    stream.finish().expect_refused(403).details("refused");
}

#[test]
fn each_waits_for_its_own_answer() {
    let Stage { filter, .. } = stage();
    let streams = ["/one", "/two", "/three"].map(|path| filter.get(path).open());
    // The last first.
    for call in filter.calls().into_iter().rev() {
        let path = call.headers.text(":path").unwrap();
        call.answer(200, &[], path);
    }
    for (stream, path) in streams.into_iter().zip(["/one", "/two", "/three"]) {
        stream.finish().expect_forwarded().header("x-judge", path);
    }
}

#[test]
fn a_tick_wakes_those_that_wait_and_a_late_answer_is_nobodys() {
    let Stage { filter, .. } = stage();
    let stream = filter.get("/one").open();
    let call = filter.call();
    filter.tick();
    filter.tick();
    assert!(stream.is_held());
    filter.tick();
    stream.finish().expect_refused(504).details("late");
    call.answer(200, &[], "yes");
    let next = filter.get("/two").open();
    filter.call().answer(200, &[], "again");
    next.finish().expect_forwarded().header("x-judge", "again");
}

#[test]
fn a_client_that_leaves_waits_no_more() {
    let Stage { filter, .. } = stage();
    let stream = filter.get("/one").open();
    let call = filter.call();
    let _ = stream.abort();
    filter.tick();
    call.answer(200, &[], "yes");
}

#[test]
fn where_the_proxy_does_not_let_it_go_on_the_log_says_so() {
    let Stage { filter, world } = stage();
    let fault = world.fault(Hostcall::ContinueStream, Status::InternalFailure);
    let stream = filter.get("/one").upstream(Response::new(200)).open();
    filter.call().answer(200, &[], "yes");
    assert!(stream.is_held());
    assert!(world.logged("waiter: cannot let a request go on"));
    fault.clear();
    stream.finish().expect_held();
}

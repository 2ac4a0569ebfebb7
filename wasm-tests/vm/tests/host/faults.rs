//! Statuses of the test's choice.

use tollgate_vm::{Hostcall, Status};

use crate::wat::filter;

/// Notes how reading the client's address and two headers went.
const READER: &str = r#"
  (data (i32.const 1000) "source\00address")
  (data (i32.const 1020) ":path")
  (data (i32.const 1030) "a")
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (call $note (call $get_property (i32.const 1000) (i32.const 14) (i32.const 16) (i32.const 20)))
    (call $note (call $header (i32.const 0) (i32.const 1020) (i32.const 5) (i32.const 16) (i32.const 20)))
    (call $note (call $header (i32.const 0) (i32.const 1030) (i32.const 1) (i32.const 16) (i32.const 20)))
    (i32.const 0))
"#;

#[test]
fn a_fault_holds_until_cleared() {
    let (world, plugin) = filter(READER);
    let notes = || {
        let outcome = plugin.get("/").header("a", "1").send();
        let all = outcome.filter_state("notes").unwrap();
        all[all.len() - 3..].to_vec()
    };
    assert_eq!(notes(), b"000");

    let fault = world
        .fault(Hostcall::GetProperty, Status::SerializationFailure)
        .of("source.address");
    assert_eq!(notes(), b"300");
    assert_eq!(notes(), b"300");
    fault.clear();
    assert_eq!(notes(), b"000");

    let _ = world
        .fault(Hostcall::GetProperty, Status::SerializationFailure)
        .of("source.port");
    let _ = world
        .fault(Hostcall::GetHeaderMapValue, Status::InternalFailure)
        .of("a");
    assert_eq!(notes(), [b'0', b'0', b'0' + 10]);
    world.clear_faults();

    let _ = world
        .fault(Hostcall::GetHeaderMapValue, Status::Unimplemented)
        .nth(2);
    assert_eq!(notes(), [b'0', b'0', b'0' + 12]);
    assert_eq!(notes(), b"000");
}

#[test]
fn host_calls_are_counted_by_name() {
    let (_, plugin) = filter(READER);
    let outcome = plugin.get("/").send();
    assert_eq!(outcome.hostcalls(Hostcall::GetHeaderMapValue), 2);
    assert_eq!(outcome.hostcalls(Hostcall::GetProperty), 1);
    assert_eq!(outcome.hostcalls(Hostcall::SetHeaderMapPairs), 0);
    // Each note is one more.
    assert_eq!(outcome.crossings(), 6);
}

//! Shared data and queues between workers.

use std::cell::RefCell;
use std::rc::Rc;

use tollgate_vm::{Hostcall, World};

use crate::wat::{filter, load};

/// Reads `n`, writes it one higher with the compare-and-swap number it read, and notes how that went.
const COUNTER: &str = r#"
  (data (i32.const 1000) "n")
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (local $n i32)
    (i32.store (i32.const 24) (i32.const 0))
    (if (i32.eqz (call $get_shared
          (i32.const 1000) (i32.const 1) (i32.const 16) (i32.const 20) (i32.const 24)))
      (then (local.set $n (i32.load8_u (i32.load (i32.const 16))))))
    (i32.store8 (i32.const 32) (i32.add (local.get $n) (i32.const 1)))
    (call $note (call $set_shared
      (i32.const 1000) (i32.const 1) (i32.const 32) (i32.const 1) (i32.load (i32.const 24))))
    (i32.const 0))
"#;

#[test]
fn workers_count_together() {
    let world = World::new();
    let (one, two) = (load(&world, COUNTER), load(&world, COUNTER));
    for worker in [&one, &two, &one] {
        worker.get("/").send().expect_forwarded();
    }
    assert_eq!(world.shared("shared", "n").unwrap().0, [3]);
    assert_eq!(world.shared_keys("shared"), ["n"]);
}

#[test]
fn a_write_between_anothers_read_and_write_is_a_mismatch() {
    let world = World::new();
    let (one, two) = (load(&world, COUNTER), load(&world, COUNTER));
    one.get("/").send().expect_forwarded();

    let inner = Rc::new(RefCell::new(None));
    let (seen, other) = (inner.clone(), two.clone());
    let _ = world.before(Hostcall::SetSharedData, move || {
        *seen.borrow_mut() = other.get("/").send().filter_state("notes").map(<[u8]>::to_vec);
    });
    let outer = one.get("/").send();

    assert_eq!(
        inner.borrow().as_deref(),
        Some(&b"0"[..]),
        "the worker in between wrote"
    );
    assert_eq!(outer.filter_state("notes"), Some(&b"08"[..]), "8 is CasMismatch");
    assert_eq!(world.shared("shared", "n").unwrap().0, [2]);
}

#[test]
fn two_that_create_one_key_both_succeed() {
    let world = World::new();
    let (one, two) = (load(&world, COUNTER), load(&world, COUNTER));
    let _ = world.before(Hostcall::SetSharedData, move || {
        two.get("/").send().expect_forwarded();
    });
    assert_eq!(one.get("/").send().filter_state("notes"), Some(&b"0"[..]));
    assert_eq!(
        world.shared("shared", "n").unwrap().0,
        [1],
        "one of the two counts is lost"
    );
}

#[test]
fn another_vm_id_has_other_data() {
    let world = World::new();
    load(&world, COUNTER).get("/").send().expect_forwarded();
    let vm = world.vm(&crate::wat::wat(COUNTER), "other");
    vm.configure_bytes("test", "")
        .unwrap()
        .get("/")
        .send()
        .expect_forwarded();
    assert_eq!(world.shared("shared", "n").unwrap().0, [1]);
    assert_eq!(world.shared("other", "n").unwrap().0, [1]);
}

#[test]
fn a_queue_tells_its_owner() {
    let (world, plugin) = filter(
        r#"
        (data (i32.const 1000) "jobs")
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
          (drop (call $queue (i32.const 1000) (i32.const 4) (i32.const 40)))
          (i32.const 1))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (call $note (call $enqueue (i32.load (i32.const 40)) (i32.const 1000) (i32.const 3)))
          (i32.const 0))
        (func (export "proxy_on_queue_ready") (param $root i32) (param $queue i32)
          (if (i32.eqz (call $dequeue (local.get $queue) (i32.const 16) (i32.const 20)))
            (then (drop (call $log (i32.const 2) (i32.load (i32.const 16)) (i32.load (i32.const 20)))))))
        "#,
    );
    assert_eq!(plugin.get("/").send().filter_state("notes"), Some(&b"0"[..]));
    assert!(!world.logged("job"));
    world.deliver_queues();
    assert!(world.logged("job"));
}

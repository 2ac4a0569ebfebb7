//! Modules in WAT: imports and memory written once, the rest with each test.
//!
//! Memory: a host call's answers go to 16..64, `$note` collects statuses from 200 on, each test's own data
//! begins at 1000, and what the host allocates at 65536.

use tollgate_vm::{Module, Plugin, World};

const COMMON: &str = r#"
  (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
  (import "env" "proxy_get_current_time_nanoseconds" (func $now (param i32) (result i32)))
  (import "env" "proxy_set_tick_period_milliseconds" (func $tick_period (param i32) (result i32)))
  (import "env" "proxy_get_property" (func $get_property (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_property" (func $set_property (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_header_map_pairs" (func $pairs (param i32 i32 i32) (result i32)))
  (import "env" "proxy_set_header_map_pairs" (func $set_pairs (param i32 i32 i32) (result i32)))
  (import "env" "proxy_get_header_map_value" (func $header (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_replace_header_map_value" (func $set (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_remove_header_map_value" (func $remove (param i32 i32 i32) (result i32)))
  (import "env" "proxy_get_buffer_bytes" (func $buffer (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_buffer_bytes" (func $set_buffer (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_continue_stream" (func $continue (param i32) (result i32)))
  (import "env" "proxy_close_stream" (func $close (param i32) (result i32)))
  (import "env" "proxy_send_local_response"
    (func $reply (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_shared_data" (func $get_shared (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_shared_data" (func $set_shared (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_register_shared_queue" (func $queue (param i32 i32 i32) (result i32)))
  (import "env" "proxy_enqueue_shared_queue" (func $enqueue (param i32 i32 i32) (result i32)))
  (import "env" "proxy_dequeue_shared_queue" (func $dequeue (param i32 i32 i32) (result i32)))
  (import "env" "proxy_define_metric" (func $define (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_increment_metric" (func $increment (param i32 i64) (result i32)))
  (import "env" "proxy_record_metric" (func $record (param i32 i64) (result i32)))
  (import "env" "proxy_get_metric" (func $metric (param i32 i32) (result i32)))
  (import "env" "proxy_http_call"
    (func $http (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_grpc_call"
    (func $grpc (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_status" (func $status (param i32 i32 i32) (result i32)))
  (import "env" "proxy_set_effective_context" (func $effective (param i32) (result i32)))
  (import "env" "proxy_call_foreign_function" (func $foreign (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_done" (func $finished (result i32)))
  (memory (export "memory") 4)
  (global $free (mut i32) (i32.const 65536))
  (global $noted (mut i32) (i32.const 0))
  (data (i32.const 100) "notes")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_memory_allocate") (param $size i32) (result i32)
    (global.get $free)
    (global.set $free (i32.add (global.get $free) (local.get $size))))
  ;; Adds a status, as a digit, to the filter state `notes`.
  (func $note (param $status i32)
    (i32.store8 (i32.add (i32.const 200) (global.get $noted)) (i32.add (i32.const 48) (local.get $status)))
    (global.set $noted (i32.add (global.get $noted) (i32.const 1)))
    (drop (call $set_property (i32.const 100) (i32.const 5) (i32.const 200) (global.get $noted))))
"#;

/// A module of these functions and data.
pub(crate) fn wat(body: &str) -> Module {
    Module::new("test", format!("(module {COMMON} {body})"))
}

/// It, loaded as the only plugin of a world of its own.
pub(crate) fn filter(body: &str) -> (World, Plugin) {
    let world = World::new();
    let plugin = load(&world, body);
    (world, plugin)
}

#[expect(
    clippy::unwrap_used,
    reason = "a test module that does not load fails its test"
)]
/// It, loaded on a new worker of `world`; all with one `vm_id`.
pub(crate) fn load(world: &World, body: &str) -> Plugin {
    world
        .vm(&wat(body), "shared")
        .configure_bytes("test", "")
        .unwrap()
}

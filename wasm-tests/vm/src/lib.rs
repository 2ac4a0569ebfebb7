//! A proxy-wasm 0.2.1 host for tests. It runs the real modules on wasmtime, does what Envoy's host does, and
//! does nothing by itself: time, ticks, callout answers, chunks and faults are the test's.
//!
//! A test tells a story and looks at its outcome. What a module calls in the host, and in what order, is
//! nobody's business.
//!
//! ```
//! use serde_json::json;
//! use tollgate_vm::{Hostcall, Response, Status, World, module};
//!
//! # fn main() -> Result<(), tollgate_vm::Refused> {
//! // One Envoy process, and two of its workers. They share what has one `vm_id`.
//! let world = World::new().at("2026-11-24T00:00:00Z");
//! let directory = json!({"directory": {"inline": {"version": 1, "orgs": {}, "keys": []}}});
//! let one = world.vm(&module("key-auth"), "tollgate.key-auth").configure("key-auth", directory.clone())?;
//! let two = world.vm(&module("key-auth"), "tollgate.key-auth").configure("key-auth", directory)?;
//!
//! // A request and its end.
//! let outcome = one.get("/v1/models").bearer("sk-nobody").from("10.1.2.3").send();
//! outcome.expect_refused(401).code("invalid_api_key");
//! world.expect_never_logged("sk-nobody");
//!
//! // A body in chunks, and an upstream that would stream.
//! let request = two.post("/v1/chat/completions").json(&json!({"model": "llama-70b"})).in_chunks(7);
//! let outcome = request.upstream(Response::events(["data: {}", "data: [DONE]"])).send();
//! outcome.expect_response(401).no_header("x-tollgate-org");
//!
//! // The host fails where the test says so, until told otherwise.
//! let fault = world.fault(Hostcall::GetProperty, Status::SerializationFailure).of("source.address");
//! one.get("/v1/models").send().expect_refused(401);
//! fault.clear();
//!
//! // One worker's step between two host calls of another.
//! let other = two.clone();
//! let _ = world.before(Hostcall::SendLocalResponse, move || {
//!     other.get("/v1/models").send().expect_refused(401);
//! });
//! one.get("/v1/models").send().expect_refused(401);
//!
//! // Ticks and callouts, as of the singleton on the main thread.
//! let main = world.vm(&module("key-auth"), "tollgate.key-auth");
//! let fetching = json!({
//!     "cluster": "directory", "authority": "directory", "path": "/directory.json",
//!     "refresh": "5s", "timeout": "30s",
//! });
//! let singleton = main.configure("directory", fetching)?;
//! world.run_for(std::time::Duration::from_secs(5));
//! let call = singleton.calls().remove(0);
//! assert_eq!(call.headers.text(":path").as_deref(), Some("/directory.json"));
//! call.answer(200, &[("etag", "\"1\"")], r#"{"version": 1, "orgs": {}, "keys": []}"#);
//!
//! // A request in flight, left by its client.
//! let stream = one.get("/v1/models").open();
//! assert!(!stream.is_held());
//! stream.abort().expect_response(401);
//! # Ok(())
//! # }
//! ```
//!
//! # What it takes from Envoy
//! Maps and bodies are in reach in the phases where Envoy has them, with the statuses Envoy gives elsewhere;
//! pausing, buffering, local replies and their way back through the filters, `on_log`, `on_done` and
//! `on_delete` come as Envoy's filter manager makes them; callbacks that a module does not export are
//! skipped. A module that traps is gone: its streams get Envoy's 503.
//!
//! # What it leaves out
//! TCP filters, gRPC streams, WASI, limits on buffers, and trailers that a filter adds by itself. Every cluster
//! exists. Header names and values are not validated.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test host: where something is not as promised, failing loudly is what it is for"
)]

mod callouts;
mod calls;
mod derived;
mod exchange;
mod faults;
mod flow;
mod guest;
mod headers;
mod host;
mod hostcall;
mod hostcalls;
mod metrics;
mod module;
mod outcome;
mod pairs;
mod plugin;
mod properties;
mod request;
mod response;
mod shared;
mod status;
mod stream;
mod vm;
mod world;

pub use callouts::{GrpcCall, HttpCall};
pub use calls::{GrpcRequest, HttpRequest};
pub use faults::Fault;
pub use headers::Headers;
pub use host::Counts;
pub use hostcall::Hostcall;
pub use module::{Module, metered, module, modules};
pub use outcome::{Answer, Forwarded, Outcome};
pub use plugin::{Plugin, Refused};
pub use request::{Chain, Request};
pub use response::Response;
pub use status::Status;
pub use stream::Stream;
pub use vm::{Trap, Vm};
pub use world::{Level, LogLine, World};

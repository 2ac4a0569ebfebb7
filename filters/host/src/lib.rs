//! The one crate that touches proxy-wasm's host calls (ABI 0.2.1, as Envoy speaks it).
//!
//! It is our own and small for three reasons. The usual SDK panics on a status that it does not list, and a
//! panic ends the VM with every stream of its worker; here each status is a value. It exports every callback,
//! and Envoy then enters the VM for each of them (1 µs or more apiece); here a module exports those it has
//! ([`export!`]). And it hides what we need: the details of a local reply, header maps without a copy a header.
//!
//! Nothing here decides anything.

mod abi;
mod buffer;
mod clock;
mod context;
mod filter;
mod headers;
mod http;
mod log;
mod memory;
mod metric;
pub mod runtime;
mod shared;
mod status;
mod step;

pub use buffer::{Body, CallBody, RequestBody, ResponseBody};
pub use context::{
    CallContext, LogContext, RequestContext, ResponseContext, RootContext, StreamContext, SweepContext,
};
pub use filter::{Absent, AccessLogger, CallAnswer, HttpFilter, Singleton, Sweep, Wake};
pub use headers::{
    CallHeaders, HeaderMap, Headers, RequestHeaders, RequestTrailers, ResponseHeaders, ResponseTrailers,
};
pub use http::HttpCall;
pub use log::{Level, log};
pub use metric::{Counter, Gauge, Histogram};
pub use runtime::Module;
pub use status::{Result, Status};
pub use step::Step;

// What `export!` needs in the module's own crate.
#[doc(hidden)]
pub use memory::allocate;
#[doc(hidden)]
pub use tollgate_pool::Pool;

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
mod headers;
mod http;
mod log;
mod memory;
mod metric;
mod property;
mod reply;
pub mod runtime;
mod shared;
mod status;

pub use buffer::{Buffer, read_buffer, replace_in_buffer};
pub use clock::{now_nanos, set_tick_period};
pub use headers::{HeaderMap, Map, add_header, header, remove_header, set_header};
pub use http::{HttpCall, call_http};
pub use log::{Level, accepted, log};
pub use metric::{Counter, Gauge, Histogram};
pub use property::{clear_route_cache, client_address, number, property, set_property};
pub use reply::{answer, close_response};
pub use runtime::{Action, Module, Sweep};
pub use shared::{Cas, Host, create_shared, set_shared, set_shared_if, shared};
pub use status::{Result, Status};

#[cfg(target_arch = "wasm32")]
#[global_allocator]
static ALLOCATOR: tollgate_pool::Pool = tollgate_pool::Pool::new();

// What `export!` needs in the module's own crate.
#[doc(hidden)]
pub use memory::allocate;

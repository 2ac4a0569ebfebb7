//! Over proxy-wasm (ABI 0.2.1, as Envoy speaks it).
//!
//! It is our own and small for three reasons. The usual SDK panics on a status that it does not list, and a
//! panic ends the VM with every stream of its worker; here each status is a value. It exports every callback,
//! and Envoy then enters the VM for each of them (1 µs or more apiece); here a module exports those it has
//! ([`export!`](crate::export!)). And it hides what we need: the details of a local reply, header maps without a copy a
//! header.

pub(crate) mod abi;
pub(crate) mod batched;
pub(crate) mod body;
pub(crate) mod clock;
pub(crate) mod headers;
pub(crate) mod http;
pub(crate) mod journal;
pub(crate) mod kept;
pub(crate) mod map;
mod memory;
pub(crate) mod metric;
pub(crate) mod shared;
pub(crate) mod status;
pub(crate) mod stream;

// What `export!` needs in the module's own crate.
#[doc(hidden)]
pub use memory::allocate;
#[doc(hidden)]
pub use tollgate_pool::Pool;

pub(crate) use clock::now;
pub(crate) use stream::*;

/// What a call is about: the proxy knows it by the callback that is under way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Handle;

pub(crate) fn log(level: u32, line: &str) {
    // SAFETY: the pointer and length are of a live slice. A line that can't be logged has nowhere to be reported.
    let _ = unsafe { abi::proxy_log(level, line.as_ptr(), line.len()) };
}

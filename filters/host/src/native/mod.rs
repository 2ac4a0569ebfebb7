//! Over Envoy's dynamic modules: a library in Envoy's own process.
//!
//! Workers share one address space. What a filter keeps for all of them is in this library's memory; what one worker
//! knows is on its thread. A panic ends the request that caused it, and nothing else.

pub mod abi;
pub(crate) mod answer;
pub(crate) mod batched;
pub(crate) mod body;
pub(crate) mod change;
pub(crate) mod clockwork;
pub(crate) mod headers;
pub(crate) mod http;
pub(crate) mod journal;
pub(crate) mod kept;
pub(crate) mod map;
pub(crate) mod metric;
pub(crate) mod persist;
pub(crate) mod shared;
mod stream;

use core::cell::Cell;
use core::hash::BuildHasher as _;
use std::hash::RandomState;

use answer::Answer;
use change::Change;
use clockwork::Clockwork;
use http::CallAnswer;

pub(crate) use stream::*;

/// The ABI that this speaks: Envoy 1.40's, and no more of it than 1.39 has. That one says in its log that it has another.
#[doc(hidden)]
pub const ABI_VERSION: &core::ffi::CStr = c"v0.2.0";

/// What a call is about. Its pointers are good for the callback that it is made in.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Handle {
    /// A stream.
    Stream(abi::Filter),
    /// A stream that this module answers: what is to be sent is here and not with Envoy yet.
    Answered(abi::Filter, *mut Answer),
    /// A stream that is being forgotten: its headers are out of reach, and what is to become of them is written here.
    Forgotten(*mut Vec<Change>),
    /// A stream, or an attempt, that an access logger is told of.
    Logger(abi::Logger),
    /// No stream; here is how often it wants to be woken, in milliseconds.
    Worker(*const Cell<u32>),
    /// The main thread's singleton.
    Extension(*const Clockwork),
    /// An answer to a call.
    Call(*const CallAnswer),
}

pub(crate) fn log(level: u32, line: &str) {
    // SAFETY: the bytes are there for as long as the call takes.
    unsafe { abi::log(level, abi::Buffer::of(line.as_bytes())) };
}

/// Random numbers.
pub(crate) fn origin() -> Vec<u8> {
    let random = || RandomState::new().hash_one(()).to_le_bytes();
    [random(), random()].concat()
}

/// Nanoseconds since 1970.
pub(crate) fn now() -> Option<u64> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    u64::try_from(now.ok()?.as_nanos()).ok()
}

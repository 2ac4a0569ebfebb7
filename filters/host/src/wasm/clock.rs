//! Time, ticks, and which stream the calls of a tick are for.

use super::abi;
use super::status::check;
use crate::status::Result;

/// Nanoseconds since 1970; 0.1 µs a call.
pub(crate) fn now() -> Option<u64> {
    let mut time = 0;
    // SAFETY: the pointer is to a live local.
    check(unsafe { abi::proxy_get_current_time_nanoseconds(&raw mut time) }).ok()?;
    Some(time)
}

/// Has `tick` called on the current root every so many milliseconds.
pub(crate) fn set_tick_period(millis: u32) -> Result<()> {
    // SAFETY: no pointers.
    check(unsafe { abi::proxy_set_tick_period_milliseconds(millis) })
}

/// Has the calls that follow be about a stream, in a callback that is of none. `Err` where it is gone.
pub(crate) fn set_effective_context(id: u32) -> Result<()> {
    // SAFETY: no pointers.
    check(unsafe { abi::proxy_set_effective_context(id) })
}

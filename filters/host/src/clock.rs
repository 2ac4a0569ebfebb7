//! Time and ticks.

use crate::abi;
use crate::status::{Result, check};

/// Nanoseconds since 1970; 0.1 µs a call.
pub fn now_nanos() -> Result<u64> {
    let mut time = 0;
    // SAFETY: the pointer is to a live local.
    check(unsafe { abi::proxy_get_current_time_nanoseconds(&raw mut time) })?;
    Ok(time)
}

/// Has `tick` called on the current root every so many milliseconds.
pub fn set_tick_period(millis: u32) -> Result<()> {
    // SAFETY: no pointers.
    check(unsafe { abi::proxy_set_tick_period_milliseconds(millis) })
}

//! Lines in the proxy's own log.

use crate::abi;

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Level {
    /// For the curious.
    Debug = 1,
    /// A change of state.
    Info = 2,
    /// Something to look into.
    Warn = 3,
    /// Something to act on.
    Error = 4,
}

/// Writes a line. Never give it a credential.
pub fn log(level: Level, line: &str) {
    // SAFETY: the pointer and length are of a live slice. A line that can't be logged has nowhere to be reported.
    let _ = unsafe { abi::proxy_log(level as u32, line.as_ptr(), line.len()) };
}

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

/// What a configuration made; `None`, after a line for each thing that is wrong with it.
pub fn accepted<T, E: core::fmt::Display>(filter: &str, made: Result<T, Vec<E>>) -> Option<T> {
    let refused = |errors: Vec<E>| {
        for error in errors {
            log(Level::Error, &format!("{filter}: configuration refused: {error}"));
        }
    };
    made.map_err(refused).ok()
}

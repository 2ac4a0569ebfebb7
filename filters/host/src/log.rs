//! Lines in the proxy's own log.

use crate::backend;

/// How much a line matters; the number is that of both ABIs.
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
    backend::log(level as u32, line);
}

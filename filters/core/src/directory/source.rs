//! Where a directory comes from.

use serde::Deserialize;

use super::table::Compiled;

/// A source of a directory.
pub enum Source {
    /// From the configuration itself.
    Inline(Compiled),
    /// From what the `directory` singleton put into shared data.
    Http {
        /// Age from which it is no longer trusted; nanoseconds.
        max_stale: u64,
        /// What is done from then on.
        on_stale: OnStale,
    },
}

/// What is done once the directory could not be confirmed for too long.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnStale {
    /// Requests are refused with `directory_unavailable`.
    Deny,
    /// The last good directory stays in force.
    Allow,
}

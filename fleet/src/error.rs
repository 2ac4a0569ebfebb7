//! What can be wrong with Redis, with its books, or with a message.

use core::time::Duration;

use tollgate_shares::Key;

/// Why a message has no answer. Whatever it is, the member asks again, and what it has goes on until its lease ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The address can't be used.
    #[error("the address of Redis: {0}")]
    Address(String),
    /// No connection, or it broke. What was sent may have been heard.
    #[error("Redis can't be reached: {0}")]
    Unreachable(String),
    /// What was sent may be heard yet.
    #[error("Redis did not answer within {0:?}")]
    TimedOut(Duration),
    /// Redis would not run the script, as when it has no memory left or is a replica.
    #[error("Redis refused: {0}")]
    Refused(String),
    /// Redis may drop books to make room.
    #[error("Redis evicts keys (maxmemory-policy {0}): set it to noeviction")]
    Evicts(String),
    /// Redis does not say who it is.
    #[error("Redis does not tell its {0} (INFO)")]
    Unknown(&'static str),
    /// The books were begun by a server with another timing or number of slots, or with another `survives`.
    #[error(
        "these books were begun with another timing, parts or `survives`: give all servers the same, or begin anew"
    )]
    OtherSetup,
    /// The books were written by another version of the script.
    #[error("these books are of another version (format {0}): begin anew")]
    OtherFormat(String),
    /// Numbers that are exact in the script are below 2^51.
    #[error("the limit of key {key:?} is {found}, expected {expected}")]
    Limit {
        /// Of which key.
        key: Key,
        /// What it is.
        found: String,
        /// What it may be.
        expected: &'static str,
    },
    /// A number of the configuration or of a message is too large.
    #[error("{what} is {found}, expected less than 2^51")]
    TooLarge {
        /// Which.
        what: &'static str,
        /// What it is.
        found: u64,
    },
    /// The script's answer can't be read.
    #[error("the script's answer has no {0} where one should be")]
    Garbled(&'static str),
}

//! How much a limit allows, and what replaces that for an organization or a key.

mod document;
mod overrides;

use core::num::NonZeroU32;

use serde::{Deserialize, Deserializer, Serialize};

pub use document::{RawBound, RawCap};
pub use overrides::{Bounds, Overrides};

use crate::gcra::Quota;

/// The limit that no table has: what `cap` of an organization or key sets in the directory.
pub const CAP: &str = "cap";
/// What a limit is called by.
pub const NAME: &str = "1 to 40 characters of `a-z 0-9 -`";

/// How much a limit allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Bound {
    /// So much at once, and so much in each unit of time.
    Rate(Quota),
    /// So many requests in flight.
    Max(#[serde(deserialize_with = "positive")] u32),
}

fn positive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    NonZeroU32::deserialize(deserializer).map(NonZeroU32::get)
}

/// Whether a limit may be called so: names go into headers and metrics as they are.
pub fn is_name(name: &str) -> bool {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    (1..=40).contains(&name.len()) && name.bytes().all(plain)
}

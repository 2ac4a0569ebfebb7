//! The coordinator of limits across the fleet, where its books are kept outside of a process.
//!
//! The rule is that of [`tollgate_shares`], and runs in Redis or Valkey as one script. So servers keep nothing, and any
//! number of them can stand beside one Redis. All times are microseconds here: that is what Redis counts.

mod codec;
mod error;
mod redis;

pub use error::Error;
pub use redis::{Books, Config};

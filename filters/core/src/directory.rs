//! The directory: which organizations, projects and keys exist, and what each may do.
//!
//! A document is read key by key ([`loader`]), so that a million of them never stall a thread, and compiled
//! into small self-contained records ([`record`]). A record is found by the hash of its key, in memory
//! ([`table`]) or in buckets that workers share ([`bucket`]).

pub mod bucket;
mod document;
pub mod loader;
pub mod record;
pub mod table;

pub use loader::{Loader, Progress};
pub use record::{Credential, KeyStatus, ProfileId, Tenant};
pub use table::Compiled;

#[cfg(test)]
mod tests;

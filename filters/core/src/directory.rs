//! The directory: which organizations, projects and keys exist, and what each may do.
//!
//! A document is read key by key ([`loader`]), so that a million of them never stall a thread, and compiled
//! into small self-contained records ([`record`]). A record is found by the hash of its key, in memory
//! ([`table`]) or in buckets that workers share ([`bucket`]): one of them fetches the document ([`fetch`]) and
//! publishes it ([`publication`]), all look up in it ([`lookup`]). Of a server that can say what changed it takes that
//! alone ([`delta`], [`patch`]).

pub mod bucket;
mod budgets;
mod cache;
mod census;
mod cursor;
pub mod delta;
mod document;
pub mod fetch;
pub mod loader;
pub mod lookup;
mod names;
pub mod patch;
pub mod publication;
pub mod record;
mod source;
pub mod table;
mod traffic;

pub use budgets::MAX_BUDGETS;
#[cfg(feature = "schema")]
pub use document::Document;
pub use loader::{Loader, Progress};
pub use record::{Credential, KeyStatus, ProfileId, Tenant};
pub use source::{OnStale, Source};
pub use table::Compiled;

#[cfg(test)]
mod tests;

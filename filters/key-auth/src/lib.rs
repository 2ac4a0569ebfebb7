//! Who is calling: the first filter of the chain.
//!
//! `root_id: key-auth` makes the HTTP filter ([`filter`]); `root_id: directory` makes the singleton that fetches
//! the directory for all workers of an Envoy ([`fetch`]).

pub mod fetch;
pub mod filter;
mod metrics;
pub mod module;
mod token;

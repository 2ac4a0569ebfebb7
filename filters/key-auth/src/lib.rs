//! Who is calling: the first filter of the chain, and the singleton that fetches the directory for all workers of an Envoy.

mod fetch;
mod filter;
mod metrics;

pub use fetch::Fetcher;
pub use filter::{KeyAuth, TICK_MILLIS};
pub use metrics::FAMILIES;

//! What is asked for, and where it goes: the second filter of the chain. It needs the identity that key-auth leaves.

mod attempts;
mod filter;
mod metrics;
pub mod spent;

pub use attempts::Attempts;
pub use filter::{Router, Stream, TICK_MILLIS};
pub use metrics::FAMILIES;

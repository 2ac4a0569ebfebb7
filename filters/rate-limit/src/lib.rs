//! May they, now? The third filter of the chain: reserves what a request may use, reads from the answer what it did
//! use, settles the difference, and leaves the usage record. It needs the identity that key-auth leaves and the
//! request that tenant-router leaves. Beside it this Envoy's member of the fleet.

mod budgets;
mod filter;
mod fleet;
mod kept;
mod metrics;
mod response;
mod send;

pub use filter::{RateLimit, Stream, TICK_MILLIS};
pub use fleet::Fleet;
pub use metrics::FAMILIES;

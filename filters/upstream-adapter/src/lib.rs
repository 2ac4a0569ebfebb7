//! How the chosen provider is asked: a filter of the model clusters' own chain, which Envoy runs once per attempt,
//! when the endpoint is known. Its configuration is [`tollgate_core::adapt::Providers`].
//!
//! Where it stands decides how it works:
//! - Envoy has one set of request headers for all attempts. What one attempt put there, the next would find, and the
//!   access log too. So each attempt gives back what it changed (`saved`): when its answer begins, or when it ends
//!   without one; and it tells the next by filter state what that should be, should the end have passed unseen.
//! - The body is Envoy's copy for this attempt: each one starts from the client's.
//! - Headers are held until the body is whole, so that its new length can be among them, and so that they are still in
//!   reach at the attempt's end: Envoy gives a filter no more access to headers that it has let go.
//! - What this filter answers is not retried.

mod filter;
mod metrics;
mod saved;

pub use filter::Adapter;
pub use metrics::FAMILIES;

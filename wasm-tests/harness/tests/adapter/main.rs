//! The upstream adapter on a real Envoy: two providers behind an aggregate cluster or
//! in clusters of their own, and a retry from one to the other.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test says what it expects by failing, in its helpers too"
)]

mod answers;
mod bodies;
mod clusters;
mod errors;
mod headers;
mod leaks;
mod retries;
mod stage;

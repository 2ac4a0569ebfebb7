//! `tollgate explain`: it says what the gateway does, of random requests, and where each rule stands.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails by panicking"
)]

mod agrees;
mod gateway;
mod places;
mod random;

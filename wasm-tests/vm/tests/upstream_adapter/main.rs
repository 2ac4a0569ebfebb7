//! The upstream adapter's stories, on the real module.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what it expects by failing, in its helpers too"
)]

mod attempts;
mod bad_config;
mod faults;
mod stage;
#[path = "../support/mod.rs"]
mod support;

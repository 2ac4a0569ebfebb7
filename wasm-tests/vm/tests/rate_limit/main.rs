//! The rate-limit filter's stories, on the real module.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers fail as its own lines do: loudly"
)]

mod bad_config;
mod chains;
mod clock;
mod directory;
mod endings;
mod faults;
#[path = "../support/identity.rs"]
mod identity;
mod metrics;
mod reload;
mod reserve;
mod stage;
mod streams;
#[path = "../support/mod.rs"]
mod support;
mod workers;

//! The tenant-router's stories, on the real module.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers fail as its own lines do: loudly"
)]

mod admission;
mod attempts;
mod bad_config;
mod bodies;
mod breakers;
mod faults;
#[path = "../support/identity.rs"]
mod identity;
mod refusals;
mod replaced;
mod stage;
#[path = "../support/mod.rs"]
mod support;
mod uploads;
mod work;

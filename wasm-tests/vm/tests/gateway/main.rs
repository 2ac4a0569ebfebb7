//! The one module's stories, on the real module: what is only its own. What its three filters do is told in their
//! folders.
#![expect(
    clippy::unwrap_used,
    reason = "a test's helpers fail as its own lines do: loudly"
)]

mod budget;
#[path = "../support/faults.rs"]
mod failing;
mod faults;
mod metrics;
mod stage;

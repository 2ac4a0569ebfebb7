//! key-auth as it is shipped: the real module, on the host that leaves time, faults and answers to the test.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers fail as its own lines do: loudly"
)]

mod admission;
mod bad_config;
mod binary;
mod budget;
mod clock;
mod directory;
mod documents;
mod endpoints;
mod failures;
mod faults;
mod fetching;
mod model;
mod outages;
mod refusals;
mod regressions;
mod reload;
mod stage;
#[path = "../support/mod.rs"]
mod support;
mod tokens;
mod watching;

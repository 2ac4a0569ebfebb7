//! Attackers: with a key, without one, and as a malicious model server. Each test is one thing that they would gain.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails by panicking"
)]

mod charges;
mod codings;
mod connections;
mod disks;
mod endings;
mod estimates;
mod faults;
mod floods;
mod frames;
mod grpc;
mod headers;
mod hosts;
mod identity;
mod queries;
mod reading;
mod scripted;
mod secrets;
mod stage;
mod uploads;
mod usages;

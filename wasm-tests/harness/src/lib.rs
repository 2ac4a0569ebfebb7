//! The Envoy harness: the repository's own `envoy/` files on a real Envoy, on free ports, for one test.
//!
//! A test starts a [`Gateway`], talks to it with [`client`] or any real SDK, and reads what happened from
//! [`stats`] and [`access_log`]. What was started is ended when the value is dropped, also when the test
//! fails (Envoy's log is then shown) or is killed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test support: a test that cannot go on fails by panicking, with a message that says why"
)]

pub mod access_log;
mod admin;
pub mod bucket;
mod cast;
pub mod catalogue;
pub mod client;
pub mod config;
pub mod control;
pub mod directory;
pub mod documents;
pub mod envoy;
mod form;
pub mod net;
mod options;
pub mod process;
pub mod raw;
mod staged;
pub mod stats;
pub mod tools;
pub mod usage_log;

pub use cast::{Cast, Role};
pub use catalogue::Catalogue;
pub use client::{Client, Reply, plain_http};
pub use directory::Directory;
pub use envoy::{Gateway, Reload};
pub use form::is_native;
pub use options::Options;
pub use tollgate_models as models;

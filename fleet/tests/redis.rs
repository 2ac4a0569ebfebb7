//! The script beside the Rust rule, on a Redis of the test's own: the same answers to the same messages, whatever is lost,
//! comes twice or late, and whoever restarts.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what it expects by failing"
)]

#[path = "redis/history.rs"]
mod history;
#[path = "redis/hostile.rs"]
mod hostile;
#[path = "redis/live.rs"]
mod live;
#[path = "redis/load.rs"]
mod load;
#[path = "redis/node.rs"]
mod node;
#[path = "redis/outages.rs"]
mod outages;
#[path = "redis/random.rs"]
mod random;
#[path = "redis/rare.rs"]
mod rare;
#[path = "redis/server.rs"]
mod server;
#[path = "redis/twin.rs"]
mod twin;

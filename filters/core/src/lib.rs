//! Every decision Tollgate makes, in pure Rust: no proxy, no clock and no I/O. Time and state come in as
//! arguments, so each rule is tested here on its own; the filters around it only carry bytes.

pub mod adapt;
pub mod address;
pub mod auth;
pub mod body;
pub mod catalogue;
pub mod config;
pub mod directory;
pub mod endpoint;
pub mod error;
pub mod exchange;
pub mod failed_auth;
pub mod fault;
pub mod flags;
pub mod gateway;
pub mod gcra;
pub mod glob;
pub mod headers;
pub mod identity;
mod inflate;
pub mod journal;
pub mod key;
pub mod limiter;
pub mod limits;
pub mod pipeline;
pub mod plugin_config;
pub mod price;
pub mod priority_groups;
pub mod progress;
pub mod query;
mod reasons;
pub mod refusals;
pub mod reply;
pub mod request;
pub mod retry_after;
pub mod route;
#[cfg(feature = "schema")]
pub mod schema;
pub mod settlement;
pub mod silence;
pub mod spent;
pub mod state;
pub mod targets;
pub mod trace;
pub mod uploads;
pub mod usage;
pub mod workers;

//! The control plane: organizations, projects, keys and who may change them, in a database, with a trail of every
//! change, behind an HTTP API. Gateways fetch the directory from it.
//!
//! ```text
//! api ──▶ access    may this token do that?
//!     ──▶ documents is it well-formed, and would the filters take it?
//!     ──▶ store     one transaction: the change, its entry in the trail, the end of the trail
//! directory ◀── store    the document for gateways, or what changed in it
//! fleet ──▶ store        the books of limits that gateways keep together, or Redis for them
//! ```

pub mod access;
mod actors;
pub mod api;
pub mod audit;
mod authenticator;
mod budget;
mod calendar;
mod check;
pub mod checkpoint;
pub mod connections;
pub mod directory;
pub mod documents;
pub mod entry;
mod file;
pub mod fleet;
mod log;
mod network;
mod objects;
mod places;
mod problem;
mod queue;
mod reads;
pub mod replay;
pub mod restore;
mod schema;
pub mod secret;
pub mod serve;
mod spending;
mod spool;
pub mod store;
pub mod text;
mod time;
mod timer;
mod turns;
mod unique;
pub mod webhook;
mod write_quota;

pub use problem::Problem;
pub use store::Store;
pub use write_quota::WriteQuota;

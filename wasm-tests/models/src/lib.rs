//! Stand-in model servers: they answer as OpenAI's and Anthropic's APIs do, and fail as told.
//!
//! What they say and count follows from the request alone, so a test knows both beforehand; and each keeps
//! its own [`Ledger`] of what it saw and produced, so a test can ask the other side of the gateway.
//!
//! ```no_run
//! # use tollgate_models::{Ending, Fault, ModelServer};
//! # async fn story() -> std::io::Result<()> {
//! let server = ModelServer::start().await?;
//! server.set_fault(Fault::parse("cut=3").unwrap());
//! // … a streamed request through the gateway to `server.addr()` …
//! let seen = server.seen();
//! assert_eq!(seen[0].header("authorization"), None);
//! assert_eq!((seen[0].ending, seen[0].output_tokens), (Ending::Cut, 3));
//! # Ok(()) }
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test support: a test that cannot go on fails by panicking, with a message that says why"
)]

mod answer;
mod api;
mod connection;
mod fault;
mod ledger;
pub mod random;
mod request;
mod serve;
mod server;
mod steps;
mod text;
mod wire;

pub use fault::{Chunking, Fault, FaultError, Usage};
pub use ledger::{Ending, Ledger, Seen};
pub use server::{Builder, ModelServer};
pub use text::tokens;

/// The header by which one request asks for a [`Fault`]: `x-model-fault: status=429, retry-after=2`.
/// Envoy forwards it as it does any header it does not know; it wins over the server's own setting.
pub const FAULT_HEADER: &str = "x-model-fault";

/// The response header that names the server that answered ([`Builder::name`]).
pub const SERVER_HEADER: &str = "x-model-server";

//! What a filter is, and what it may ask of the proxy. Two backends carry it out behind the same names: `wasm` over
//! proxy-wasm, and `native` over Envoy's dynamic modules. Which one is compiled follows from the target; no filter
//! knows.
//!
//! Nothing here decides anything.

mod attribute;
mod buffer;
mod context;
mod filter;
mod headers;
mod http;
mod log;
mod metric;
pub mod runtime;
mod status;
mod step;

#[cfg(not(target_arch = "wasm32"))]
pub mod native;
#[cfg(target_arch = "wasm32")]
pub mod wasm;

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use native as backend;
#[cfg(target_arch = "wasm32")]
pub(crate) use wasm as backend;

pub use attribute::Attribute;
pub use backend::batched::{BatchedCounter, BatchedGauge, BatchedHistogram};
pub use backend::http::CallAnswer;
pub use backend::kept::Kept;
pub use backend::metric::{Counter, Gauge, Histogram};
pub use buffer::{Body, CallBody, RequestBody, ResponseBody};
pub use context::{
    CallContext, LogContext, RequestContext, ResponseContext, RootContext, StreamContext, SweepContext,
};
pub use filter::{Absent, AccessLogger, HttpFilter, Singleton, Sweep, Wake};
pub use headers::{
    CallHeaders, HeaderMap, Headers, RequestHeaders, RequestTrailers, ResponseHeaders, ResponseTrailers,
};
pub use http::HttpCall;
pub use log::{Level, log};
pub use metric::Family;
#[cfg(not(target_arch = "wasm32"))]
pub use native::journal::{Journal, Settings as JournalSettings};
#[cfg(target_arch = "wasm32")]
pub use runtime::wasm::Module;
pub use status::{Result, Status};
pub use step::Step;

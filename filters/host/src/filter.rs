//! What a module is made of: an HTTP filter, and perhaps a singleton and an access logger beside it. Envoy says by its
//! `root_id`, or natively by its `filter_name` and the like, which of them a configuration is for.

use std::sync::Arc;

use tollgate_core::config::ConfigError;
use tollgate_core::reply::Reply;

use crate::backend::http::CallAnswer;
use crate::context::{CallContext, LogContext, RequestContext, ResponseContext, RootContext, SweepContext};
use crate::http::HttpCall;
use crate::metric::Family;
use crate::step::Step;

/// An HTTP filter. The value is what one worker knows under one configuration.
pub trait HttpFilter: Sized + 'static {
    /// Its `root_id`, and its name in the log.
    const NAME: &'static str;

    /// A configuration that was checked. It is the same for all workers, and never changes.
    type Config: Send + Sync + 'static;

    /// What is remembered of a stream from one callback to the next.
    type Stream: Default;

    /// What it counts.
    const METRICS: &'static [&'static [Family]] = &[];

    /// Whether it stands in a cluster's chain, where Envoy runs it once an attempt.
    const UPSTREAM: bool = false;

    /// Whether streams of it may [wait](Step::Wait).
    const WAITS: bool = false;

    /// Checks a configuration, as Envoy hands it over. `Err` refuses it: the one before stays in force. It depends on
    /// the configuration alone, because every worker of a module asks.
    fn check(configuration: Vec<u8>) -> Result<Self::Config, Vec<ConfigError>>;

    /// Begins to work by a configuration. `Err` where the proxy does not give what it needs.
    fn start(config: Arc<Self::Config>, host: &mut RootContext) -> Result<Self, ConfigError>;

    /// Request headers of a stream are there; `end` if no body follows.
    fn request_headers(&mut self, stream: &mut Self::Stream, host: &mut RequestContext, end: bool) -> Step;

    /// `len` bytes of the request's body are there, all that was held back included; `None` is as many as before. `end` if
    /// it is whole, as it is when trailers come.
    fn request_body(
        &mut self,
        _stream: &mut Self::Stream,
        _host: &mut RequestContext,
        _len: Option<usize>,
        _end: bool,
    ) -> Step {
        Step::Continue
    }

    /// A request [waits](Step::Wait), and something may have changed. What came of its body meanwhile is shown after it goes on.
    fn resume(&mut self, _stream: &mut Self::Stream, _host: &mut RequestContext, _wake: Wake<'_>) -> Step {
        Step::Continue
    }

    /// Response headers are there: the upstream's, or those of an answer that Envoy or a filter made; `end` if no body
    /// follows.
    fn response_headers(
        &mut self,
        _stream: &mut Self::Stream,
        _host: &mut ResponseContext,
        _end: bool,
    ) -> Step {
        Step::Continue
    }

    /// `len` more bytes of the response's body are there; `end` with the last of them.
    fn response_body(
        &mut self,
        _stream: &mut Self::Stream,
        _host: &mut ResponseContext,
        _len: usize,
        _end: bool,
    ) -> Step {
        Step::Continue
    }

    /// Response trailers are there: the body is whole, though no `response_body` said so.
    fn response_trailers(&mut self, _stream: &mut Self::Stream, _host: &mut ResponseContext) -> Step {
        Step::Continue
    }

    /// The stream is over, whatever its ending.
    fn log(&mut self, _stream: &mut Self::Stream, _host: &mut LogContext) {}

    /// The stream is over for this filter, or will be: what it changed in the request's headers for itself alone is undone.
    fn give_back(&mut self, _stream: &mut Self::Stream, _host: &mut RequestContext) {}

    /// What answers a stream whose configuration is unknown, as nothing can be checked.
    fn orphaned() -> Reply;

    /// The tick period has passed. Whether every stream is to be looked at now.
    fn tick(&mut self, _host: &mut RootContext) -> Sweep {
        Sweep::Nothing
    }

    /// Looks at a stream after a tick that asked for it.
    fn look(&mut self, _stream: &mut Self::Stream, _host: &mut SweepContext) -> Step {
        Step::Continue
    }

    /// Another configuration has taken the place of this one, and its last stream has ended.
    fn ended(&mut self, _host: &mut RootContext) {}
}

/// Why a stream that waits is looked at.
#[derive(Debug, Clone, Copy)]
pub enum Wake<'a> {
    /// A call of the filter's was answered; or failed, and then there are no headers.
    Answered(HttpCall, &'a CallAnswer),
    /// The tick period has passed, and [`HttpFilter::tick`] wants each stream looked at.
    Tick,
}

/// What follows a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sweep {
    /// Nothing.
    Nothing,
    /// Each stream of the filter is looked at.
    Streams,
}

/// Something of which an Envoy has one, on its main thread.
pub trait Singleton: Sized + 'static {
    /// Its `root_id`.
    const NAME: &'static str;
    /// What it is, to an operator.
    const WHAT: &'static str;
    /// What it counts.
    const METRICS: &'static [&'static [Family]] = &[];

    /// A configuration that was checked.
    type Config: Send + Sync + 'static;

    /// As in [`HttpFilter::check`].
    fn check(configuration: Vec<u8>) -> Result<Self::Config, Vec<ConfigError>>;

    /// As in [`HttpFilter::start`].
    fn start(config: Arc<Self::Config>, host: &mut RootContext) -> Result<Self, ConfigError>;

    /// The tick period has passed.
    fn tick(&mut self, host: &mut RootContext);

    /// An HTTP call was answered, or failed (then there are no headers).
    fn answered(&mut self, host: &mut CallContext, call: HttpCall);
}

/// An access logger.
pub trait AccessLogger: Sized + 'static {
    /// Its `root_id`.
    const NAME: &'static str;

    /// A configuration that was checked.
    type Config: Send + Sync + 'static;

    /// What it counts.
    const METRICS: &'static [&'static [Family]] = &[];

    /// As in [`HttpFilter::check`].
    fn check(configuration: Vec<u8>) -> Result<Self::Config, Vec<ConfigError>>;

    /// As in [`HttpFilter::start`].
    fn start(config: Arc<Self::Config>, host: &mut RootContext) -> Result<Self, ConfigError>;

    /// Something is to be logged.
    fn log(&mut self, host: &mut LogContext);
}

/// What a module does not have.
#[derive(Debug, Clone, Copy)]
pub enum Absent {}

impl Singleton for Absent {
    const NAME: &'static str = "";
    const WHAT: &'static str = "";
    type Config = Self;

    fn check(_configuration: Vec<u8>) -> Result<Self, Vec<ConfigError>> {
        Err(Vec::new())
    }

    fn start(config: Arc<Self>, _host: &mut RootContext) -> Result<Self, ConfigError> {
        match *config {}
    }

    fn tick(&mut self, _host: &mut RootContext) {
        match *self {}
    }

    fn answered(&mut self, _host: &mut CallContext, _call: HttpCall) {
        match *self {}
    }
}

impl AccessLogger for Absent {
    const NAME: &'static str = "";
    type Config = Self;

    fn check(_configuration: Vec<u8>) -> Result<Self, Vec<ConfigError>> {
        Err(Vec::new())
    }

    fn start(config: Arc<Self>, _host: &mut RootContext) -> Result<Self, ConfigError> {
        match *config {}
    }

    fn log(&mut self, _host: &mut LogContext) {
        match *self {}
    }
}

//! A native library of the tests' own: a filter that panics where a request tells it to, and the one that asks a server about
//! each request and waits.

#![allow(clippy::panic, reason = "it is what this filter is for")]

use std::sync::Arc;

use tollgate_core::config::ConfigError;
use tollgate_core::reply::Reply;
use tollgate_host::{
    Absent, HttpFilter, LogContext, RequestContext, ResponseContext, RootContext, Step, SweepContext,
};

/// Panics where the request's header `x-panic` says; answers say how many requests it has seen since it began.
pub struct Panicker {
    seen: u32,
}

/// What is remembered of a request.
#[derive(Default)]
pub struct Stream {
    place: String,
}

impl Stream {
    fn at(&self, place: &str) {
        assert!(self.place != place, "a secret");
    }
}

impl HttpFilter for Panicker {
    const NAME: &'static str = "panicker";
    type Config = ();
    type Stream = Stream;

    /// A configuration may say where as well.
    fn check(configuration: Vec<u8>) -> Result<(), Vec<ConfigError>> {
        assert!(!configuration.windows(5).any(|word| word == b"check"), "a secret");
        Ok(())
    }

    fn start(_config: Arc<()>, host: &mut RootContext) -> Result<Self, ConfigError> {
        host.tick_every(100).map_err(ConfigError::unusable)?;
        Ok(Self { seen: 0 })
    }

    fn request_headers(&mut self, stream: &mut Stream, host: &mut RequestContext, _end: bool) -> Step {
        self.seen += 1;
        stream.place = host.headers.text("x-panic").unwrap_or_default();
        stream.at("request headers");
        Step::Continue
    }

    fn request_body(
        &mut self,
        stream: &mut Stream,
        _host: &mut RequestContext,
        _len: Option<usize>,
        _end: bool,
    ) -> Step {
        stream.at("request body");
        Step::Continue
    }

    fn response_headers(&mut self, stream: &mut Stream, host: &mut ResponseContext, _end: bool) -> Step {
        stream.at("answer headers");
        let _ = host.headers.set("x-seen", &self.seen.to_string());
        Step::Continue
    }

    fn response_body(
        &mut self,
        stream: &mut Stream,
        _host: &mut ResponseContext,
        _len: usize,
        _end: bool,
    ) -> Step {
        stream.at("answer body");
        Step::Continue
    }

    fn log(&mut self, stream: &mut Stream, _host: &mut LogContext) {
        stream.at("log");
    }

    fn give_back(&mut self, stream: &mut Stream, _host: &mut RequestContext) {
        stream.at("end");
    }

    fn look(&mut self, stream: &mut Stream, _host: &mut SweepContext) -> Step {
        stream.at("tick");
        Step::Continue
    }

    fn tick(&mut self, _host: &mut RootContext) -> tollgate_host::Sweep {
        tollgate_host::Sweep::Streams
    }

    fn orphaned() -> Reply {
        Reply {
            status: 500,
            details: "orphaned".into(),
            headers: Vec::new(),
            body: b"orphaned".to_vec(),
        }
    }
}

tollgate_host::export_native! {
    filters: { Panicker = Panicker, Waiter = tollgate_vm_waiter::Waiter }
    loggers: { Absent = Absent }
    singletons: { Absent = Absent }
}

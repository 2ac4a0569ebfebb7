//! The module `tollgate-rate-limit.wasm`.

use tollgate_core::plugin_config::to_json;
use tollgate_host::{Action, Level, Module, log, set_tick_period};

use crate::config::Config;
use crate::filter::{RateLimit, Stream, misconfigured};

/// How often workers hear of each other, estimates are shared and metrics handed over.
pub const TICK_MILLIS: u32 = 1_000;

impl Module for RateLimit {
    type Stream = Stream;

    fn configure(configuration: Vec<u8>) -> Option<Self> {
        let config = to_json(configuration)
            .map_err(|error| vec![error])
            .and_then(|json| Config::parse(&json));
        match config {
            Ok(config) => set_tick_period(TICK_MILLIS)
                .and_then(|()| Self::new(config))
                .map_err(|status| {
                    log(
                        Level::Error,
                        &format!("rate-limit: the proxy refused it: {status:?}"),
                    );
                })
                .ok(),
            Err(errors) => {
                for error in errors {
                    log(
                        Level::Error,
                        &format!("rate-limit: configuration refused: {error}"),
                    );
                }
                None
            }
        }
    }

    fn request_headers(&mut self, stream: &mut Stream, _end: bool) -> Action {
        Self::request_headers(self, stream)
    }

    fn request_body(&mut self, stream: &mut Stream, len: usize, end: bool) -> Action {
        Self::request_body(stream, len, end)
    }

    fn request_trailers(&mut self, stream: &mut Stream) -> Action {
        Self::request_body(stream, usize::MAX, true)
    }

    fn response_headers(&mut self, stream: &mut Stream, end: bool) -> Action {
        Self::response_headers(stream, end)
    }

    fn response_body(&mut self, stream: &mut Stream, len: usize, end: bool) -> Action {
        Self::response_body(stream, len, end)
    }

    fn response_trailers(&mut self, stream: &mut Stream) -> Action {
        Self::response_trailers(stream)
    }

    fn log(&mut self, stream: &mut Stream) {
        Self::log(self, stream);
    }

    fn tick(&mut self) {
        Self::tick(self);
    }

    fn orphaned() -> Action {
        misconfigured()
    }
}

#[cfg(feature = "module")]
tollgate_host::export!(
    RateLimit: request_headers, request_body, request_trailers, response_headers, response_body, response_trailers,
    log, tick
);

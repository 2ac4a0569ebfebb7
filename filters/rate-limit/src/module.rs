//! The module `tollgate-rate-limit.wasm`.

use std::rc::Rc;

use tollgate_core::config::ConfigError;
use tollgate_core::identity::{Identity, PROPERTY as IDENTITY};
use tollgate_core::plugin_config::to_json;
use tollgate_core::route::{PROPERTY as REQUEST, Routed};
use tollgate_core::spent::{PROPERTY as SPENT, Spent};
use tollgate_host::{Action, HeaderMap, Map, Module, Sweep, accepted, property, set_tick_period};

use crate::filter::{RateLimit, Stream, misconfigured};

/// How often workers hear of each other, estimates are shared and metrics handed over.
pub const TICK_MILLIS: u32 = 1_000;

impl Module for RateLimit {
    type Stream = Stream;

    fn configure(configuration: Vec<u8>) -> Option<Self> {
        let json = to_json(configuration).map_err(|error| vec![error]);
        let filter = json.and_then(|json| {
            let filter = Self::configure(&json)?;
            set_tick_period(TICK_MILLIS).map_err(|status| vec![ConfigError::unusable(status)])?;
            Ok(filter)
        });
        accepted("rate-limit", filter)
    }

    fn request_headers(&mut self, stream: &mut Stream, _end: bool) -> Action {
        let (Ok(identity), Ok(request)) = (property(&[IDENTITY]), property(&[REQUEST])) else {
            return misconfigured();
        };
        match (Identity::decode(&identity), Routed::decode(&request)) {
            (Some(who), Some(routed)) => match self.judge(stream, Rc::new(who), &routed) {
                Action::Continue => Self::announce(stream),
                Action::Pause => Action::Pause,
            },
            _ => misconfigured(),
        }
    }

    fn request_body(&mut self, stream: &mut Stream, len: usize, end: bool) -> Action {
        Self::request_body(stream, len, end)
    }

    fn request_trailers(&mut self, stream: &mut Stream) -> Action {
        Self::request_body(stream, usize::MAX, true)
    }

    fn response_headers(&mut self, stream: &mut Stream, end: bool) -> Action {
        let headers = HeaderMap::read(Map::Response).ok();
        Self::response_headers(stream, headers.as_ref(), end)
    }

    fn response_body(&mut self, stream: &mut Stream, len: usize, end: bool) -> Action {
        Self::response_body(stream, len, end)
    }

    fn response_trailers(&mut self, stream: &mut Stream) -> Action {
        Self::response_trailers(stream)
    }

    fn log(&mut self, stream: &mut Stream) {
        // Only where an attempt that was begun on may have been repeated.
        let spent = stream.repeats().then(|| property(&[SPENT]).ok()).flatten();
        Self::log(self, stream, Spent::decode(&spent.unwrap_or_default()));
    }

    fn tick(&mut self) -> Sweep {
        Self::tick(self);
        Sweep::Nothing
    }

    fn ended(&mut self) {
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

//! The module `tollgate-tenant-router.wasm`.

use std::rc::Rc;

use tollgate_core::endpoint::Dialect;
use tollgate_core::identity::{Identity, PROPERTY as IDENTITY};
use tollgate_core::plugin_config::to_json;
use tollgate_core::route::{PROPERTY, Refusal, Routed};
use tollgate_host::{Action, HeaderMap, Map, Module, accepted, property, set_property};

use crate::filter::{Router, Stream, refuse};

impl Module for Router {
    type Stream = Stream;

    fn configure(configuration: Vec<u8>) -> Option<Self> {
        let json = to_json(configuration).map_err(|error| vec![error]);
        accepted("tenant-router", json.and_then(|json| Self::configure(&json)))
    }

    fn request_headers(&mut self, stream: &mut Stream, end: bool) -> Action {
        let who = property(&[IDENTITY])
            .ok()
            .and_then(|state| Identity::decode(&state));
        match (HeaderMap::read(Map::Request), who) {
            (Ok(headers), Some(who)) => Self::request_headers(self, stream, &headers, Rc::new(who), end),
            (headers, _) => self.misconfigured(headers.ok().as_ref()),
        }
    }

    fn request_body(&mut self, stream: &mut Stream, _len: usize, end: bool) -> Action {
        Self::request_body(self, stream, end, tell)
    }

    fn request_trailers(&mut self, stream: &mut Stream) -> Action {
        Self::request_body(self, stream, true, tell)
    }

    fn response_headers(&mut self, stream: &mut Stream, _end: bool) -> Action {
        let headers = HeaderMap::read(Map::Response).ok();
        Self::response_headers(self, stream, headers.as_ref())
    }

    fn log(&mut self, stream: &mut Stream) {
        Self::log(self, stream, false);
    }

    fn orphaned() -> Action {
        refuse(&Refusal::Misconfigured, Dialect::OpenAi, None)
    }
}

/// Tells the filters behind what is asked for.
fn tell(routed: &Routed<'_>) -> Action {
    match set_property(PROPERTY, &routed.encode()) {
        Ok(()) => Action::Continue,
        Err(_) => refuse(&Refusal::Misconfigured, Dialect::OpenAi, None),
    }
}

#[cfg(feature = "module")]
tollgate_host::export!(Router: request_headers, request_body, request_trailers, response_headers, log);

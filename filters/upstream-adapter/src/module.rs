//! The module `tollgate-upstream-adapter.wasm`.

use tollgate_core::adapt::{Providers, Refusal};
use tollgate_core::config::ConfigError;
use tollgate_core::plugin_config::to_json;
use tollgate_core::reply::Reader;
use tollgate_host::{Action, Module, accepted};

use crate::filter::{Adapter, Stream, refuse};

impl Module for Adapter {
    type Stream = Stream;

    fn configure(configuration: Vec<u8>) -> Option<Self> {
        let json = to_json(configuration).map_err(|error| vec![error]);
        let adapter = json.and_then(|json| {
            let providers = Providers::parse(&json)?;
            Self::new(providers).map_err(|status| vec![ConfigError::unusable(status)])
        });
        accepted("upstream-adapter", adapter)
    }

    fn request_headers(&mut self, stream: &mut Stream, end: bool) -> Action {
        Self::request_headers(self, stream, end)
    }

    fn request_body(&mut self, stream: &mut Stream, _len: usize, end: bool) -> Action {
        Self::request_body(self, stream, end)
    }

    fn request_trailers(&mut self, stream: &mut Stream) -> Action {
        Self::request_body(self, stream, true)
    }

    fn response_headers(&mut self, stream: &mut Stream, end: bool) -> Action {
        Self::response_headers(self, stream, end)
    }

    fn response_body(&mut self, stream: &mut Stream, len: usize, end: bool) -> Action {
        Self::response_body(stream, len, end)
    }

    fn response_trailers(&mut self, stream: &mut Stream) -> Action {
        Self::response_trailers(stream)
    }

    fn orphaned() -> Action {
        refuse(&Refusal::Misconfigured, &Reader::default())
    }
}

#[cfg(feature = "module")]
tollgate_host::export!(
    Adapter: request_headers, request_body, request_trailers, response_headers, response_body, response_trailers
);

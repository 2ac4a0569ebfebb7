//! The module `tollgate-upstream-adapter.wasm`.

use tollgate_core::adapt::{Providers, Refusal};
use tollgate_core::plugin_config::to_json;
use tollgate_host::{Action, Level, Module, log};

use crate::filter::{Adapter, Stream, refuse_unknown};

impl Module for Adapter {
    type Stream = Stream;

    fn configure(configuration: Vec<u8>) -> Option<Self> {
        let providers = to_json(configuration)
            .map_err(|error| vec![error])
            .and_then(|json| Providers::parse(&json));
        match providers {
            Ok(providers) => Self::new(providers)
                .map_err(|status| {
                    log(
                        Level::Error,
                        &format!("upstream-adapter: the proxy refused it: {status:?}"),
                    );
                })
                .ok(),
            Err(errors) => {
                for error in errors {
                    log(
                        Level::Error,
                        &format!("upstream-adapter: configuration refused: {error}"),
                    );
                }
                None
            }
        }
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

    fn response_headers(&mut self, stream: &mut Stream, _end: bool) -> Action {
        Self::response_headers(stream);
        Action::Continue
    }

    fn orphaned() -> Action {
        refuse_unknown(&Refusal::Misconfigured)
    }
}

#[cfg(feature = "module")]
tollgate_host::export!(Adapter: request_headers, request_body, request_trailers, response_headers);

//! The module `tollgate-tenant-router.wasm`.

use tollgate_core::endpoint::Dialect;
use tollgate_core::plugin_config::to_json;
use tollgate_core::route::Refusal;
use tollgate_host::{Action, Level, Module, log};

use crate::config::Config;
use crate::filter::{Router, Stream, refuse};

impl Module for Router {
    type Stream = Stream;

    fn configure(configuration: Vec<u8>) -> Option<Self> {
        let config = to_json(configuration)
            .map_err(|error| vec![error])
            .and_then(|json| Config::parse(&json));
        match config {
            Ok(config) => Self::new(config)
                .map_err(|status| {
                    log(
                        Level::Error,
                        &format!("tenant-router: the proxy refused it: {status:?}"),
                    )
                })
                .ok(),
            Err(errors) => {
                for error in errors {
                    log(
                        Level::Error,
                        &format!("tenant-router: configuration refused: {error}"),
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
        Self::response_headers(self, stream)
    }

    fn log(&mut self, stream: &mut Stream) {
        Self::log(self, stream);
    }

    fn orphaned() -> Action {
        refuse(&Refusal::Misconfigured, Dialect::OpenAi, None)
    }
}

#[cfg(feature = "module")]
tollgate_host::export!(Router: request_headers, request_body, request_trailers, response_headers, log);

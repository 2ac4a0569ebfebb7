//! The module `tollgate-gateway.wasm`: which root a configuration makes.

use tollgate_core::config::ConfigError;
use tollgate_core::plugin_config::to_json;
use tollgate_host::{Action, HttpCall, Module, Sweep, accepted, property, set_tick_period};
use tollgate_key_auth::fetch::Fetcher;
use tollgate_tenant_router::attempts::Attempts;

use crate::filter::{Gateway, Stream, TICK_MILLIS};

/// What a configuration of this module is for.
pub enum Root {
    /// The HTTP filter.
    Gateway(Box<Gateway>),
    /// The singleton that fetches the directory, as in `tollgate-key-auth.wasm`.
    Fetcher(Box<Fetcher>),
    /// The access logger of attempts, as in `tollgate-tenant-router.wasm`.
    Attempts(Attempts),
}

impl Module for Root {
    type Stream = Stream;

    fn configure(configuration: Vec<u8>) -> Option<Self> {
        let json = to_json(configuration).map_err(|error| vec![error]);
        let root = json.and_then(|json| match property(&["plugin_root_id"]).as_deref() {
            Ok(b"directory") => Fetcher::configure(&json).map(|fetcher| Self::Fetcher(Box::new(fetcher))),
            Ok(b"attempts") => Attempts::configure(&json).map(Self::Attempts),
            Ok(b"gateway") => gateway(&json),
            _ => Err(vec![ConfigError::new(
                "root_id",
                "expected `gateway` (the filter), `directory` (the fetcher) or `attempts` (the access logger)",
            )]),
        });
        accepted("gateway", root)
    }

    fn request_headers(&mut self, stream: &mut Stream, end: bool) -> Action {
        match self {
            Self::Gateway(gateway) => gateway.request_headers(stream, end),
            Self::Fetcher(_) | Self::Attempts(_) => Self::orphaned(),
        }
    }

    fn request_body(&mut self, stream: &mut Stream, len: usize, end: bool) -> Action {
        match self {
            Self::Gateway(gateway) => gateway.request_body(stream, Some(len), end),
            Self::Fetcher(_) | Self::Attempts(_) => Self::orphaned(),
        }
    }

    fn request_trailers(&mut self, stream: &mut Stream) -> Action {
        match self {
            Self::Gateway(gateway) => gateway.request_body(stream, None, true),
            Self::Fetcher(_) | Self::Attempts(_) => Self::orphaned(),
        }
    }

    fn response_headers(&mut self, stream: &mut Stream, end: bool) -> Action {
        match self {
            Self::Gateway(gateway) => gateway.response_headers(stream, end),
            Self::Fetcher(_) | Self::Attempts(_) => Action::Continue,
        }
    }

    fn response_body(&mut self, stream: &mut Stream, len: usize, end: bool) -> Action {
        match self {
            Self::Gateway(gateway) => gateway.response_body(stream, len, end),
            Self::Fetcher(_) | Self::Attempts(_) => Action::Continue,
        }
    }

    fn response_trailers(&mut self, stream: &mut Stream) -> Action {
        match self {
            Self::Gateway(gateway) => gateway.response_trailers(stream),
            Self::Fetcher(_) | Self::Attempts(_) => Action::Continue,
        }
    }

    fn log(&mut self, stream: &mut Stream) {
        if let Self::Gateway(gateway) = self {
            gateway.log(stream);
        }
    }

    fn logged(&mut self) {
        if let Self::Attempts(attempts) = self {
            attempts.logged();
        }
    }

    fn orphaned() -> Action {
        tollgate_rate_limit::filter::misconfigured()
    }

    fn tick(&mut self) -> Sweep {
        match self {
            Self::Gateway(gateway) => return gateway.tick(),
            Self::Fetcher(fetcher) => fetcher.tick(),
            Self::Attempts(_) => {}
        }
        Sweep::Nothing
    }

    fn look(&mut self, stream: &mut Stream, enter: impl FnOnce() -> bool) {
        if let Self::Gateway(gateway) = self {
            gateway.look(stream, enter);
        }
    }

    fn ended(&mut self) {
        if let Self::Gateway(gateway) = self {
            gateway.ended();
        }
    }

    fn http_call_response(&mut self, call: HttpCall) {
        if let Self::Fetcher(fetcher) = self {
            fetcher.http_call_response(call);
        }
    }
}

fn gateway(json: &[u8]) -> Result<Root, Vec<ConfigError>> {
    let gateway = Gateway::configure(json)?;
    gateway.announce()?;
    set_tick_period(TICK_MILLIS).map_err(|status| vec![ConfigError::unusable(status)])?;
    Ok(Root::Gateway(Box::new(gateway)))
}

#[cfg(feature = "module")]
tollgate_host::export!(
    Root: request_headers, request_body, request_trailers, response_headers, response_body, response_trailers, log,
    tick, http_call_response
);

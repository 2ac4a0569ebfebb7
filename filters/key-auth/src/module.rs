//! The module `tollgate-key-auth.wasm`: which root a configuration makes.

use tollgate_core::auth::Refusal;
use tollgate_core::config::ConfigError;
use tollgate_core::plugin_config::to_json;
use tollgate_core::request::Request;
use tollgate_host::{Action, HeaderMap, HttpCall, Map, Module, Sweep, accepted, property, set_tick_period};

use crate::fetch::Fetcher;
use crate::filter::{KeyAuth, refuse};

/// How often a worker looks for a changed directory.
pub const TICK_MILLIS: u32 = 250;

/// What a configuration of this module is for.
pub enum Root {
    /// The HTTP filter.
    Filter(Box<KeyAuth>),
    /// The singleton that fetches the directory.
    Fetcher(Box<Fetcher>),
}

impl Module for Root {
    type Stream = ();

    fn configure(configuration: Vec<u8>) -> Option<Self> {
        let json = to_json(configuration).map_err(|error| vec![error]);
        let root = json.and_then(|json| match property(&["plugin_root_id"]).as_deref() {
            Ok(b"directory") => Fetcher::configure(&json).map(|fetcher| Self::Fetcher(Box::new(fetcher))),
            Ok(b"key-auth") => filter(&json),
            _ => Err(vec![ConfigError::new(
                "root_id",
                "expected `key-auth` (the filter) or `directory` (the fetcher)",
            )]),
        });
        accepted("key-auth", root)
    }

    fn request_headers(&mut self, _stream: &mut (), _end: bool) -> Action {
        match self {
            Self::Filter(filter) => match HeaderMap::read(Map::Request) {
                Ok(headers) => filter.request_headers(&headers),
                Err(_) => filter.unreadable(),
            },
            Self::Fetcher(_) => Self::orphaned(),
        }
    }

    fn orphaned() -> Action {
        refuse(&Request::default(), &Refusal::Misconfigured)
    }

    fn tick(&mut self) -> Sweep {
        match self {
            Self::Filter(filter) => filter.tick(),
            Self::Fetcher(fetcher) => fetcher.tick(),
        }
        Sweep::Nothing
    }

    fn http_call_response(&mut self, call: HttpCall) {
        if let Self::Fetcher(fetcher) = self {
            fetcher.http_call_response(call);
        }
    }
}

fn filter(configuration: &[u8]) -> Result<Root, Vec<ConfigError>> {
    let filter = KeyAuth::configure(configuration)?;
    if filter.ticks() {
        set_tick_period(TICK_MILLIS).map_err(|status| vec![ConfigError::unusable(status)])?;
    }
    Ok(Root::Filter(Box::new(filter)))
}

#[cfg(feature = "module")]
tollgate_host::export!(Root: request_headers, tick, http_call_response);

//! The module `tollgate-tenant-router.wasm`: which root a configuration makes.

use std::rc::Rc;

use tollgate_core::config::ConfigError;
use tollgate_core::identity::{Identity, PROPERTY as IDENTITY};
use tollgate_core::plugin_config::to_json;
use tollgate_core::reply::Reader;
use tollgate_core::route::{ERRORED, Heard, PROPERTY, Refusal, Routed};
use tollgate_core::spent::{PROPERTY as SPENT, Spent};
use tollgate_host::{
    Action, HeaderMap, Map, Module, Sweep, accepted, property, set_property, set_tick_period,
};

use crate::attempts::Attempts;
use crate::filter::{Router, Stream, refuse};
use crate::spent;

/// How often bodies that are still to come are looked at.
pub const TICK_MILLIS: u32 = 1_000;

/// What a configuration of this module is for.
pub enum Root {
    /// The HTTP filter.
    Router(Box<Router>),
    /// The access logger of attempts.
    Attempts(Attempts),
}

impl Module for Root {
    type Stream = Stream;

    fn configure(configuration: Vec<u8>) -> Option<Self> {
        let json = to_json(configuration).map_err(|error| vec![error]);
        let root = json.and_then(|json| match property(&["plugin_root_id"]).as_deref() {
            Ok(b"attempts") => Attempts::configure(&json).map(Self::Attempts),
            Ok(b"tenant-router") => router(&json),
            _ => Err(vec![ConfigError::new(
                "root_id",
                "expected `tenant-router` (the filter) or `attempts` (the access logger)",
            )]),
        });
        accepted("tenant-router", root)
    }

    fn request_headers(&mut self, stream: &mut Stream, end: bool) -> Action {
        let Self::Router(router) = self else {
            return Self::orphaned();
        };
        let who = property(&[IDENTITY])
            .ok()
            .and_then(|state| Identity::decode(&state));
        match (HeaderMap::read(Map::Request), who) {
            (Ok(headers), Some(who)) => router.request_headers(stream, &headers, Rc::new(who), end),
            (headers, _) => router.misconfigured(headers.ok().as_ref()),
        }
    }

    fn request_body(&mut self, stream: &mut Stream, len: usize, end: bool) -> Action {
        match self {
            Self::Router(router) => router.request_body(stream, Some(len), end, tell),
            Self::Attempts(_) => Self::orphaned(),
        }
    }

    fn request_trailers(&mut self, stream: &mut Stream) -> Action {
        match self {
            Self::Router(router) => router.request_body(stream, None, true, tell),
            Self::Attempts(_) => Self::orphaned(),
        }
    }

    fn response_headers(&mut self, stream: &mut Stream, end: bool) -> Action {
        match self {
            Self::Router(router) => {
                router.response_headers(stream, HeaderMap::read(Map::Response).ok().as_ref(), end)
            }
            Self::Attempts(_) => Action::Continue,
        }
    }

    fn response_body(&mut self, stream: &mut Stream, len: usize, end: bool) -> Action {
        match self {
            Self::Router(router) => router.response_body(stream, len, end),
            Self::Attempts(_) => Action::Continue,
        }
    }

    fn response_trailers(&mut self, stream: &mut Stream) -> Action {
        match self {
            Self::Router(router) => router.response_trailers(stream),
            Self::Attempts(_) => Action::Continue,
        }
    }

    fn log(&mut self, stream: &mut Stream) {
        if let Self::Router(router) = self {
            router.log(stream, || match property(&[ERRORED]) {
                Ok(_) => Heard::Errored,
                Err(_) => Heard::Unknown,
            });
            let spent = spent::take();
            if spent != Spent::default() {
                // Not charged at worst.
                let _ = set_property(SPENT, &spent.encode());
            }
        }
    }

    fn logged(&mut self) {
        if let Self::Attempts(attempts) = self {
            attempts.logged();
        }
    }

    fn tick(&mut self) -> Sweep {
        match self {
            Self::Router(router) => {
                router.tick();
                Sweep::Streams
            }
            Self::Attempts(_) => Sweep::Nothing,
        }
    }

    fn look(&mut self, stream: &mut Stream, enter: impl FnOnce() -> bool) {
        if let Self::Router(router) = self {
            router.look(stream, enter);
        }
    }

    fn orphaned() -> Action {
        refuse(&Refusal::Misconfigured, &Reader::default())
    }
}

fn router(json: &[u8]) -> Result<Root, Vec<ConfigError>> {
    let router = Router::configure(json)?;
    router.announce()?;
    set_tick_period(TICK_MILLIS).map_err(|status| vec![ConfigError::unusable(status)])?;
    Ok(Root::Router(Box::new(router)))
}

/// Tells the filters behind what is asked for.
fn tell(routed: &Routed<'_>) -> Action {
    match set_property(PROPERTY, &routed.encode()) {
        Ok(()) => Action::Continue,
        Err(_) => refuse(&Refusal::Misconfigured, &Reader::default()),
    }
}

#[cfg(feature = "module")]
tollgate_host::export!(
    Root: request_headers, request_body, request_trailers, response_headers, response_body, response_trailers, log, tick
);

//! The three filters on one stream, in the order of a chain: forth on the request's way, back on the answer's.

use std::rc::Rc;

use tollgate_core::config::ConfigError;
use tollgate_core::identity::Identity;
use tollgate_core::route::Heard;
use tollgate_host::{Action, HeaderMap, Map, Sweep};
use tollgate_key_auth::filter::KeyAuth;
use tollgate_key_auth::module::TICK_MILLIS as KEY_AUTH_TICK;
use tollgate_rate_limit::filter::{RateLimit, Stream as Limited};
use tollgate_rate_limit::module::TICK_MILLIS as RATE_LIMIT_TICK;
use tollgate_tenant_router::filter::{Router, Stream as Routed};
use tollgate_tenant_router::module::TICK_MILLIS as ROUTER_TICK;
use tollgate_tenant_router::spent;

use crate::config::filters;

/// From one tick to the next: as often as the filter asks for that asks most.
pub const TICK_MILLIS: u32 = KEY_AUTH_TICK;
/// Of so many ticks one is the limits' and the router's.
const TICKS_A_LIMIT: u32 = RATE_LIMIT_TICK / KEY_AUTH_TICK;
const _: () = assert!(RATE_LIMIT_TICK == ROUTER_TICK, "one tick in so many is for both");

/// One configuration of all three.
pub struct Gateway {
    key_auth: KeyAuth,
    router: Router,
    rate_limit: RateLimit,
    ticks: u32,
}

/// What is remembered of a request.
#[derive(Default)]
pub struct Stream {
    who: Option<Rc<Identity>>,
    routed: Routed,
    limited: Limited,
}

impl Gateway {
    /// Makes one of its configuration; all that is wrong with it is reported.
    pub fn configure(json: &[u8]) -> Result<Self, Vec<ConfigError>> {
        let (key_auth, router, rate_limit) = filters(json)?;
        Ok(Self {
            key_auth,
            router,
            rate_limit,
            ticks: 0,
        })
    }

    /// Says that this configuration is in force, to the access logger of attempts.
    pub fn announce(&self) -> Result<(), Vec<ConfigError>> {
        self.router.announce()
    }

    /// Called every [`TICK_MILLIS`].
    pub fn tick(&mut self) -> Sweep {
        self.key_auth.tick();
        self.ticks = self.ticks.wrapping_add(1);
        if !self.ticks.is_multiple_of(TICKS_A_LIMIT) {
            return Sweep::Nothing;
        }
        self.rate_limit.tick();
        self.router.tick();
        Sweep::Streams
    }

    /// Ends a stream whose body comes too slowly, or whose answer is silent for too long.
    pub fn look(&mut self, stream: &mut Stream, enter: impl FnOnce() -> bool) {
        self.router.look(&mut stream.routed, enter);
    }

    /// Nothing more comes: hands over what was counted.
    pub fn ended(&mut self) {
        self.rate_limit.tick();
    }

    /// Who is calling, and what they ask for.
    pub fn request_headers(&mut self, stream: &mut Stream, end: bool) -> Action {
        let Ok(headers) = HeaderMap::read(Map::Request) else {
            return self.router.misconfigured(None);
        };
        let credential = match self.key_auth.authenticate(&headers) {
            Ok(credential) => credential,
            Err(answered) => return answered,
        };
        let Some(who) = credential.identity() else {
            return self.router.misconfigured(Some(&headers));
        };
        stream.who = Some(Rc::clone(&who));
        self.router
            .request_headers(&mut stream.routed, &headers, who, end)
    }

    /// Where it goes, and whether it may now. `None` bytes are as many as before.
    pub fn request_body(&mut self, stream: &mut Stream, len: Option<usize>, end: bool) -> Action {
        let Self {
            router, rate_limit, ..
        } = self;
        let Stream { who, routed, limited } = stream;
        let admitted = router.request_body(routed, len, end, |routed| match who.take() {
            Some(who) => rate_limit.judge(limited, who, routed),
            None => tollgate_rate_limit::filter::misconfigured(),
        });
        if admitted == Action::Pause || RateLimit::announce(limited) == Action::Pause {
            return Action::Pause;
        }
        // All of it is there.
        RateLimit::request_body(limited, usize::MAX, end)
    }

    /// How the limits stand and who served.
    pub fn response_headers(&mut self, stream: &mut Stream, end: bool) -> Action {
        let headers = HeaderMap::read(Map::Response).ok();
        RateLimit::response_headers(&mut stream.limited, headers.as_ref(), end);
        self.router
            .response_headers(&mut stream.routed, headers.as_ref(), end)
    }

    /// Reads what was used.
    pub fn response_body(&mut self, stream: &mut Stream, len: usize, end: bool) -> Action {
        match RateLimit::response_body(&mut stream.limited, len, end) {
            Action::Continue => self.router.response_body(&mut stream.routed, len, end),
            Action::Pause => Action::Pause,
        }
    }

    /// The answer is whole.
    pub fn response_trailers(&mut self, stream: &mut Stream) -> Action {
        match RateLimit::response_trailers(&mut stream.limited) {
            Action::Continue => self.router.response_trailers(&mut stream.routed),
            Action::Pause => Action::Pause,
        }
    }

    /// Notes how the target did; settles, and leaves the record.
    pub fn log(&mut self, stream: &mut Stream) {
        let limited = &stream.limited;
        self.router.log(&mut stream.routed, || match () {
            () if limited.is_errored() => Heard::Errored,
            () if limited.is_whole() => Heard::Whole,
            () => Heard::Unknown,
        });
        self.rate_limit.log(&mut stream.limited, spent::take());
    }
}

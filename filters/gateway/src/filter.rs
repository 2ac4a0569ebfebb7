//! The three filters on one stream, in the order of a chain: forth on the request's way, back on the answer's.

use std::rc::Rc;
use std::sync::Arc;

use tollgate_core::config::ConfigError;
use tollgate_core::gateway::Config;
use tollgate_core::identity::Identity;
use tollgate_core::plugin_config::to_json;
use tollgate_core::reply::Reply;
use tollgate_core::route::Heard;
use tollgate_host::{
    Family, HttpFilter, LogContext, RequestContext, ResponseContext, RootContext, Step, Sweep, SweepContext,
};
use tollgate_key_auth::{KeyAuth, TICK_MILLIS};
use tollgate_rate_limit::{RateLimit, Stream as Limited, TICK_MILLIS as RATE_LIMIT_TICK};
use tollgate_tenant_router::{Router, Stream as Routed, TICK_MILLIS as ROUTER_TICK, spent};

/// Of so many ticks of key-auth, which asks for most, one is the limits' and the router's.
const TICKS_A_LIMIT: u32 = RATE_LIMIT_TICK / TICK_MILLIS;
const _: () = assert!(RATE_LIMIT_TICK == ROUTER_TICK, "one tick in so many is for both");

/// What one worker knows under one configuration of all three.
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

impl HttpFilter for Gateway {
    const NAME: &'static str = "gateway";
    type Config = Config;
    type Stream = Stream;
    const METRICS: &'static [&'static [Family]] = &[
        tollgate_key_auth::FAMILIES,
        tollgate_tenant_router::FAMILIES,
        tollgate_rate_limit::FAMILIES,
    ];

    fn check(configuration: Vec<u8>) -> Result<Config, Vec<ConfigError>> {
        Config::parse(&to_json(configuration)?)
    }

    fn start(config: Arc<Config>, host: &mut RootContext) -> Result<Self, ConfigError> {
        let gateway = Self {
            key_auth: KeyAuth::start(Arc::clone(&config.key_auth), host)?,
            rate_limit: RateLimit::start(Arc::clone(&config.rate_limit), host)?,
            // The last: it says that this configuration is in force.
            router: Router::start(Arc::clone(&config.tenant_router), host)?,
            ticks: 0,
        };
        host.tick_every(TICK_MILLIS).map_err(ConfigError::unusable)?;
        Ok(gateway)
    }

    /// Who is calling, and what they ask for.
    fn request_headers(&mut self, stream: &mut Stream, host: &mut RequestContext, end: bool) -> Step {
        let Ok(headers) = host.headers.read() else {
            return self.router.misconfigured(None).into();
        };
        let credential = match self.key_auth.authenticate(host, &headers) {
            Ok(credential) => credential,
            Err(reply) => return reply.into(),
        };
        let Some(who) = credential.identity() else {
            return self.router.misconfigured(Some(&headers)).into();
        };
        stream.who = Some(Rc::clone(&who));
        self.router.begin(&mut stream.routed, host, &headers, who, end)
    }

    /// Where it goes, and whether it may now.
    fn request_body(
        &mut self,
        stream: &mut Stream,
        host: &mut RequestContext,
        len: Option<usize>,
        end: bool,
    ) -> Step {
        let Self {
            router, rate_limit, ..
        } = self;
        let Stream { who, routed, limited } = stream;
        let admitted = router.hold(routed, host, len, end, |host, routed| match who.take() {
            Some(who) => rate_limit.admit(limited, host, who, routed),
            None => Err(Self::orphaned()),
        });
        if admitted != Step::Continue {
            return admitted;
        }
        match limited.announce(host) {
            // All of it is there.
            Ok(()) => limited.edit(host, None, end),
            Err(reply) => reply.into(),
        }
    }

    /// How the limits stand and who served.
    fn response_headers(&mut self, stream: &mut Stream, host: &mut ResponseContext, end: bool) -> Step {
        let headers = host.headers.read().ok();
        stream.limited.answer_headers(host, headers.as_ref(), end);
        self.router
            .answer_headers(&mut stream.routed, host, headers.as_ref(), end)
    }

    /// Reads what was used.
    fn response_body(
        &mut self,
        stream: &mut Stream,
        host: &mut ResponseContext,
        len: usize,
        end: bool,
    ) -> Step {
        stream.limited.answer_body(host, len, end);
        self.router.answer_body(&mut stream.routed, host, Some(len), end)
    }

    /// The answer is whole.
    fn response_trailers(&mut self, stream: &mut Stream, host: &mut ResponseContext) -> Step {
        stream.limited.answer_trailers();
        self.router.answer_trailers(&mut stream.routed, host)
    }

    /// Notes how the target did; settles, and leaves the record.
    fn log(&mut self, stream: &mut Stream, host: &mut LogContext) {
        let limited = &stream.limited;
        self.router.end(&mut stream.routed, host, |_| match () {
            () if limited.is_errored() => Heard::Errored,
            () if limited.is_whole() => Heard::Whole,
            () => Heard::Unknown,
        });
        let spent = spent::take(host);
        self.rate_limit.end(&mut stream.limited, host, spent);
    }

    fn orphaned() -> Reply {
        RateLimit::orphaned()
    }

    fn tick(&mut self, host: &mut RootContext) -> Sweep {
        self.key_auth.tick(host);
        self.ticks = self.ticks.wrapping_add(1);
        if !self.ticks.is_multiple_of(TICKS_A_LIMIT) {
            return Sweep::Nothing;
        }
        self.rate_limit.tick(host);
        self.router.tick(host)
    }

    /// Ends a stream whose body comes too slowly, or whose answer is silent for too long.
    fn look(&mut self, stream: &mut Stream, host: &mut SweepContext) -> Step {
        self.router.look(&mut stream.routed, host)
    }

    /// Hands over what was counted.
    fn ended(&mut self, host: &mut RootContext) {
        self.rate_limit.ended(host);
    }
}

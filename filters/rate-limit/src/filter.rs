//! The HTTP filter on the request's way: reserves what the request may use, or refuses it.

use std::rc::Rc;
use std::sync::Arc;

use tollgate_core::config::ConfigError;
use tollgate_core::exchange::Exchange as _;
use tollgate_core::identity::{Identity, PROPERTY as IDENTITY};
use tollgate_core::journal::Journal as _;
use tollgate_core::limiter::{Config, InFlight, Limiter, Rejection, Request};
use tollgate_core::plugin_config::to_json;
use tollgate_core::reply::{Reader, Reply};
use tollgate_core::route::{PROPERTY as REQUEST, Refusal as Misrouted, Routed};
use tollgate_core::settlement::Answer;
use tollgate_core::spent::{PROPERTY as SPENT, Spent};
use tollgate_core::state::Clock as _;
use tollgate_host::{
    Family, HttpFilter, Level, LogContext, RequestContext, RequestHeaders, ResponseContext, RootContext,
    Status, Step, Sweep, log,
};

use crate::kept::{holding, join};
use crate::metrics::{FAMILIES, Metrics};

/// How often workers hear of each other, estimates are shared and metrics handed over.
pub const TICK_MILLIS: u32 = 1_000;

/// What one worker knows under one configuration.
pub struct RateLimit {
    pub(crate) limiter: Limiter,
    pub(crate) metrics: Metrics,
}

/// What is remembered of a request.
#[derive(Default)]
pub struct Stream(pub(crate) State);

impl Stream {
    /// Whether an attempt that a model server has begun on may have been given up and repeated.
    pub fn repeats(&self) -> bool {
        matches!(&self.0, State::Open(request) if request.terms().repeats)
    }

    /// Whether an answer that began with success said that something went wrong: its target has failed.
    pub fn is_errored(&self) -> bool {
        self.answer().is_some_and(Answer::is_errored)
    }

    /// Whether an answer of a model server came to its end.
    pub fn is_whole(&self) -> bool {
        self.answer().is_some_and(Answer::is_whole)
    }

    fn answer(&self) -> Option<&Answer> {
        match &self.0 {
            State::Open(request) => request.answer.as_ref(),
            State::Unseen | State::Refused(_) => None,
        }
    }
}

#[derive(Default)]
pub(crate) enum State {
    /// It did not come here yet; if it never does, another filter refused it.
    #[default]
    Unseen,
    /// It passed, and is settled when it ends.
    Open(Box<InFlight>),
    /// It was refused here: nothing is left but the record.
    Refused(Box<Rejection>),
}

impl HttpFilter for RateLimit {
    const NAME: &'static str = "rate-limit";
    type Config = Config;
    type Stream = Stream;
    const METRICS: &'static [&'static [Family]] = &[FAMILIES];

    fn check(configuration: Vec<u8>) -> Result<Config, Vec<ConfigError>> {
        Config::parse(&to_json(configuration)?)
    }

    fn start(config: Arc<Config>, host: &mut RootContext) -> Result<Self, ConfigError> {
        let metrics = Metrics::define(&config.limits).map_err(ConfigError::unusable)?;
        // Without an id of its own a worker can't be told from others.
        let workers = join(host).map_err(ConfigError::unusable)?;
        host.tick_every(TICK_MILLIS).map_err(ConfigError::unusable)?;
        Ok(Self {
            limiter: Limiter::new(config, workers),
            metrics,
        })
    }

    fn request_headers(&mut self, stream: &mut Stream, host: &mut RequestContext, _end: bool) -> Step {
        let identity = host.stream.state(IDENTITY).unwrap_or_default();
        let request = host.stream.state(REQUEST).unwrap_or_default();
        let admitted = match (Identity::decode(&identity), Routed::decode(&request)) {
            (Some(who), Some(routed)) => self
                .admit(stream, host, Rc::new(who), &routed)
                .and_then(|()| stream.announce(host)),
            _ => Err(misconfigured(&host.headers)),
        };
        admitted.map_or_else(Step::from, |()| Step::Continue)
    }

    fn request_body(
        &mut self,
        stream: &mut Stream,
        host: &mut RequestContext,
        len: Option<usize>,
        end: bool,
    ) -> Step {
        stream.edit(host, len, end)
    }

    fn response_headers(&mut self, stream: &mut Stream, host: &mut ResponseContext, end: bool) -> Step {
        let headers = host.headers.read().ok();
        stream.answer_headers(host, headers.as_ref(), end);
        Step::Continue
    }

    fn response_body(
        &mut self,
        stream: &mut Stream,
        host: &mut ResponseContext,
        len: usize,
        end: bool,
    ) -> Step {
        stream.answer_body(host, len, end);
        Step::Continue
    }

    fn response_trailers(&mut self, stream: &mut Stream, _host: &mut ResponseContext) -> Step {
        stream.answer_trailers();
        Step::Continue
    }

    fn log(&mut self, stream: &mut Stream, host: &mut LogContext) {
        // Only where an attempt that was begun on may have been repeated.
        let spent = stream.repeats().then(|| host.stream.state(SPENT).ok());
        self.end(stream, host, Spent::decode(&spent.flatten().unwrap_or_default()));
    }

    fn orphaned() -> Reply {
        Misrouted::Misconfigured.reply(&Reader::default())
    }

    fn tick(&mut self, host: &mut RootContext) -> Sweep {
        if holding(|holds| self.limiter.tick(host, holds)).is_err() {
            log(Level::Error, "rate-limit: the shared data cannot be written");
        }
        self.metrics.tick();
        Sweep::Nothing
    }

    fn ended(&mut self, host: &mut RootContext) {
        self.tick(host);
    }
}

impl RateLimit {
    /// Judges a request that the router has read. `Err` answers what may not pass.
    pub fn admit(
        &mut self,
        stream: &mut Stream,
        host: &mut RequestContext,
        who: Rc<Identity>,
        routed: &Routed<'_>,
    ) -> Result<(), Reply> {
        let Some(now) = host.stream.now() else {
            return Err(misconfigured(&host.headers));
        };
        let by_address = self.limiter.config().by_address;
        let request = Request {
            who,
            routed,
            address: by_address.then(|| host.stream.client()).flatten(),
            now,
        };
        match self.limiter.admit(&mut host.stream, request) {
            Ok(request) => {
                self.metrics.would_refuse(request.would_refuse());
                let now = host.stream.now().unwrap_or(now);
                self.metrics.began(now.saturating_sub(routed.whole_at));
                host.stream.keep(|| request.so_far());
                stream.0 = State::Open(request);
                Ok(())
            }
            Err(rejection) => {
                self.metrics.would_refuse(rejection.would_refuse());
                self.metrics.refused(rejection.refusal());
                let reply = rejection.reply(host.headers.text("x-request-id"));
                stream.0 = State::Refused(rejection);
                Err(reply)
            }
        }
    }
}

impl Stream {
    /// Says how long the body of a request that was admitted will be, once its headers are what they are without that.
    pub fn announce(&self, host: &mut RequestContext) -> Result<(), Reply> {
        let State::Open(request) = &self.0 else {
            return Err(misconfigured(&host.headers));
        };
        let Some(edit) = &request.edit else {
            return Ok(());
        };
        // The router has seen that it is one.
        let announced = host.headers.resize(edit);
        announced.map_err(|_| misconfigured(&host.headers))
    }

    /// Makes the change of the body as soon as it has come so far. `None` bytes are as many as before, or all of it.
    pub fn edit(&mut self, host: &mut RequestContext, len: Option<usize>, end: bool) -> Step {
        // What may not pass does not, even if its answer could not be sent.
        let State::Open(request) = &mut self.0 else {
            return Step::Hold;
        };
        let Some(edit) = &request.edit else {
            return Step::Continue;
        };
        if !end && len.is_some_and(|len| len < edit.end()) {
            return Step::Hold;
        }
        // Envoy can only put bytes in the place of a body's beginning.
        let made = host.body.read_to(edit.end()).and_then(|beginning| {
            let changed = edit.apply(&beginning).ok_or(Status::BadArgument)?;
            host.body.replace_beginning(edit.end(), &changed)
        });
        match made {
            Ok(()) => {
                request.edit = None;
                Step::Continue
            }
            Err(_) => misconfigured(&host.headers).into(),
        }
    }
}

/// What answers a request that cannot be checked: there is no identity or no request in front, or the proxy refuses.
fn misconfigured(headers: &RequestHeaders) -> Reply {
    let (path, request_id) = (headers.text(":path"), headers.text("x-request-id"));
    let path = path.as_deref().map(str::as_bytes);
    Misrouted::Misconfigured.reply(&Reader::of(path, request_id.as_deref()))
}

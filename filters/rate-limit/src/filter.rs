//! The HTTP filter on the request's way: reserves what the request may use, or refuses it.

use std::rc::Rc;

use tollgate_core::body::Edit;
use tollgate_core::config::ConfigError;
use tollgate_core::identity::Identity;
use tollgate_core::limiter::{Config, InFlight, Limiter, Rejection, Request};
use tollgate_core::reply::{Reader, Reply};
use tollgate_core::route::{Refusal as Misrouted, Routed};
use tollgate_core::settlement::Answer;
use tollgate_host::{
    Action, Buffer, Host, Level, Map, Status, answer, client_address, header, log, now_nanos, read_buffer,
    replace_in_buffer, set_header,
};

use crate::kept::{holding, join};
use crate::metrics::Metrics;

const NAME: &str = "rate-limit";

/// One configuration of the filter.
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

impl RateLimit {
    /// Makes one of its configuration; all that is wrong with it is reported.
    pub fn configure(json: &[u8]) -> Result<Self, Vec<ConfigError>> {
        let config = Config::parse(json)?;
        Self::new(config).map_err(|status| vec![ConfigError::unusable(status)])
    }

    /// Sets the filter up. `Err` where its metrics can't be defined or workers can't be told apart.
    pub fn new(config: Config) -> Result<Self, Status> {
        let metrics = Metrics::define(&config.limits)?;
        let workers = join().map_err(|_| Status::CasMismatch)?;
        Ok(Self {
            limiter: Limiter::new(config, workers),
            metrics,
        })
    }

    /// Called every [`crate::module::TICK_MILLIS`], and when nothing more comes.
    pub fn tick(&mut self) {
        if holding(|holds| self.limiter.tick(&mut Host, holds)).is_err() {
            log(Level::Error, "rate-limit: the shared data cannot be written");
        }
        self.metrics.tick();
    }

    /// Judges a request that the router has read.
    pub fn judge(&mut self, stream: &mut Stream, who: Rc<Identity>, routed: &Routed<'_>) -> Action {
        let Ok(now) = now_nanos() else {
            return misconfigured();
        };
        let by_address = self.limiter.config().by_address;
        let request = Request {
            who,
            routed,
            address: by_address.then(client_address).flatten(),
            now,
        };
        match self.limiter.admit(&mut Host, request) {
            Ok(request) => {
                self.metrics.would_refuse(request.would_refuse());
                self.metrics
                    .began(now_nanos().unwrap_or(now).saturating_sub(routed.whole_at));
                stream.0 = State::Open(request);
                Action::Continue
            }
            Err(rejection) => {
                self.metrics.would_refuse(rejection.would_refuse());
                self.metrics.refused(rejection.refusal());
                let reply = rejection.reply(text("x-request-id"));
                stream.0 = State::Refused(rejection);
                answer(NAME, &reply)
            }
        }
    }

    /// Says how long the body of a request that was admitted will be, once its headers are what they are without that.
    pub fn announce(stream: &Stream) -> Action {
        match &stream.0 {
            State::Open(request)
                if request
                    .edit
                    .as_ref()
                    .is_none_or(|edit| announce_length(edit).is_ok()) =>
            {
                Action::Continue
            }
            _ => misconfigured(),
        }
    }

    /// Makes the change of the body as soon as it has come so far.
    pub fn request_body(stream: &mut Stream, len: usize, end: bool) -> Action {
        // What may not pass does not, even if its answer could not be sent.
        let State::Open(request) = &mut stream.0 else {
            return Action::Pause;
        };
        let Some(edit) = &request.edit else {
            return Action::Continue;
        };
        if !end && len < edit.at as usize + edit.len as usize {
            return Action::Pause;
        }
        match make(edit) {
            Ok(()) => {
                request.edit = None;
                Action::Continue
            }
            Err(_) => misconfigured(),
        }
    }
}

/// Says how long the body will be; the router has seen that it is JSON, and where its client said how long.
fn announce_length(edit: &Edit<'_>) -> Result<(), Status> {
    let Some(length) = header(Map::Request, "content-length")? else {
        return Ok(());
    };
    let length = core::str::from_utf8(&length)
        .ok()
        .and_then(|text| text.parse::<usize>().ok())
        .and_then(|length| length.checked_sub(edit.len as usize))
        .ok_or(Status::BadArgument)?;
    let length = length.saturating_add(edit.text.len());
    set_header(Map::Request, "content-length", &length.to_string())
}

/// Envoy can only put bytes in the place of a body's beginning.
fn make(edit: &Edit<'_>) -> Result<(), Status> {
    let (at, len) = (edit.at as usize, edit.len as usize);
    let body = read_buffer(Buffer::RequestBody)?;
    let mut head = body.get(..at).ok_or(Status::BadArgument)?.to_vec();
    body.get(at..at + len).ok_or(Status::BadArgument)?;
    head.extend_from_slice(edit.text.as_bytes());
    replace_in_buffer(Buffer::RequestBody, 0, at + len, &head)
}

/// A header of the current request.
fn text(name: &str) -> Option<String> {
    String::from_utf8(header(Map::Request, name).ok()??).ok()
}

/// Answers what cannot be checked: there is no identity or no request in front, or the proxy refuses.
pub fn misconfigured() -> Action {
    let reader = Reader::of(
        text(":path").as_deref().map(str::as_bytes),
        text("x-request-id").as_deref(),
    );
    let error = Misrouted::Misconfigured.answer();
    answer(NAME, &Reply::error(&error, error.code, &reader))
}

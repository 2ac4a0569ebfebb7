//! The HTTP filter: holds a request until its body is whole, reads it once, and sends it on its way.

use core::time::Duration;
use std::borrow::Cow;
use std::rc::Rc;

use tollgate_core::body::{Body, Coding, Unmetered, ask_usage, read_json, read_multipart};
use tollgate_core::catalogue::{Model, Route, listing};
use tollgate_core::config::ConfigError;
use tollgate_core::endpoint::Endpoint;
use tollgate_core::fault::{ANOTHER_TARGET, Fault, of_attempt};
use tollgate_core::flags::Flags;
use tollgate_core::headers::is_not_a_models;
use tollgate_core::identity::Identity;
use tollgate_core::query::as_served;
use tollgate_core::refusals::TOO_LARGE;
use tollgate_core::reply::{Reader, Reply};
use tollgate_core::retry_after;
use tollgate_core::route::{Asked, Refusal, Routed, asked, body_kind};
use tollgate_core::silence::{FirstByte, Silence};
use tollgate_core::state::Clock as _;
use tollgate_core::targets::{self, Ending, Order, Wanted, tag};
use tollgate_core::uploads::{Upload, Uploads};
use tollgate_core::usage::Kind;
use tollgate_host::{
    Action, Buffer, HeaderMap, Host, Level, Map, Status, answer, clear_route_cache, client_address,
    close_response, header, log, now_nanos, number, property, read_buffer, remove_header, replace_in_buffer,
    set_header,
};

use crate::config::Config;
use crate::metrics::Metrics;
use crate::replaced::{self, Answer, Found};

/// The filter's, in the log.
pub(crate) const NAME: &str = "tenant-router";
/// The header that says how a body is coded.
const CODING: &[u8] = b"content-encoding";

/// One configuration of the filter.
pub struct Router {
    config: Config,
    metrics: Metrics,
    uploads: Uploads,
    /// State of a xorshift generator for the weights: it needs to be even, not secret.
    draw: u64,
}

/// What is remembered of a request.
#[derive(Default)]
pub struct Stream {
    held: Option<Held>,
    routed: Option<Visited>,
    upload: Upload,
    /// Whether it may go on. What may not does not, even if its answer could not be sent.
    passed: bool,
}

/// A request whose body is still coming.
struct Held {
    who: Rc<Identity>,
    endpoint: Endpoint,
    boundary: Option<String>,
    /// How the body is coded; `None` for one that is as it stands, whether a header says so or not.
    coding: Option<Coding>,
    /// Whether a header says how.
    says_coding: bool,
    reader: Reader,
    /// Whether there are headers that Envoy obeys, and that only this filter may set.
    controlled: bool,
}

/// A request that went to a target.
struct Visited {
    order: Order,
    model: String,
    who: Rc<Identity>,
    reader: Reader,
    route: Route,
    /// Whether a stream is asked for.
    streamed: bool,
    answer: Answer,
    /// How long its answer may take to begin, until it has.
    first_byte: Option<FirstByte>,
    /// How long its answer may be silent.
    silence: Option<Silence>,
    /// For the answer's headers: seconds since 1970.
    deprecated_at: Option<i64>,
    sunset_at: Option<i64>,
    /// Whether it went out as a probe of which nothing was heard yet.
    probe: bool,
    /// For how long its target is to be left alone, should this not be for its organization's sake alone.
    busy: Option<Duration>,
    /// Whether a good answer has begun, whose ending is to be noted.
    begun: bool,
    /// When it went out; nanoseconds since 1970.
    since: u64,
}

impl Visited {
    fn new(chosen: Chosen<'_>, held: &Held, streamed: bool, whole_at: u64) -> Self {
        Self {
            model: chosen.model.name.clone(),
            who: Rc::clone(&held.who),
            reader: held.reader.clone(),
            route: chosen.route,
            streamed,
            answer: Answer::Passes,
            first_byte: FirstByte::of(chosen.model, whole_at).filter(|_| streamed),
            silence: None,
            deprecated_at: chosen.model.deprecated_at,
            sunset_at: chosen.model.sunset_at,
            probe: false,
            busy: None,
            begun: false,
            since: whole_at,
            order: chosen.order,
        }
    }

    fn wanted(&self) -> Wanted<'_> {
        Wanted {
            model: &self.model,
            org: &self.who.org,
        }
    }
}

/// What the filter that reads answers knows of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// Nothing.
    Unknown,
    /// It came to its end.
    Whole,
    /// It began with success, and then said that something went wrong.
    Errored,
}

/// Targets that may be visited.
struct Chosen<'c> {
    model: &'c Model,
    order: Order,
    route: Route,
}

impl Router {
    /// Makes one of its configuration; all that is wrong with it is reported.
    pub fn configure(json: &[u8]) -> Result<Self, Vec<ConfigError>> {
        let config = Config::parse(json)?;
        Self::new(config).map_err(|error| vec![error])
    }

    /// Sets the filter up. `Err` where its metrics can't be defined.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        Ok(Self {
            uploads: Uploads::join(&mut Host, config.uploads).map_err(ConfigError::unusable)?,
            config,
            metrics: Metrics::define().map_err(ConfigError::unusable)?,
            draw: now_nanos().map_err(ConfigError::unusable)? | 1,
        })
    }

    /// Says that this configuration is in force, to the access logger of attempts.
    pub fn announce(&self) -> Result<(), Vec<ConfigError>> {
        targets::publish(&mut Host, &self.config.breaker)
            .map_err(|status| vec![ConfigError::unusable(status)])
    }

    /// Reads what `who` asks for. What has no body is answered here; the rest waits for it.
    pub fn request_headers(
        &mut self,
        stream: &mut Stream,
        headers: &HeaderMap,
        who: Rc<Identity>,
        end: bool,
    ) -> Action {
        let path = headers.get(b":path").unwrap_or_default();
        let reader = Reader::of(Some(path), headers.text(b"x-request-id"));
        match self.begin(headers, path, &who, end) {
            Ok(Begun::Answered(body)) => {
                self.metrics.listed();
                answer(NAME, &Reply::document("models", body))
            }
            Ok(Begun::Held(endpoint, boundary, coding)) => {
                let length = headers.text(b"content-length");
                stream.upload = Upload::announced(length.and_then(|length| length.parse().ok()));
                stream.held = Some(Held {
                    who,
                    endpoint,
                    boundary,
                    coding,
                    says_coding: headers.get(CODING).is_some(),
                    reader,
                    controlled: headers.iter().any(|(name, _)| controls(name)),
                });
                Action::Pause
            }
            Err(refusal) => self.refuse(&refusal, Some(&who), &reader),
        }
    }

    /// Answers a request without an identity, or one whose headers can't be read.
    pub fn misconfigured(&self, headers: Option<&HeaderMap>) -> Action {
        let get = |name: &[u8]| headers.and_then(|headers| headers.get(name));
        let request_id = headers.and_then(|headers| headers.text(b"x-request-id"));
        self.refuse(
            &Refusal::Misconfigured,
            None,
            &Reader::of(get(b":path"), request_id),
        )
    }

    fn begin(&self, headers: &HeaderMap, path: &[u8], who: &Identity, end: bool) -> Result<Begun, Refusal> {
        let catalogue = &self.config.catalogue;
        let refusals = &self.config.refusals;
        refusals
            .admit(&mut Host, who, client_address)
            .map_err(Refusal::TooManyRefused)?;
        match asked(headers.get(b":method").unwrap_or_default(), path)? {
            Asked::Models => Ok(Begun::Answered(listing::list(catalogue.granted(who)))),
            Asked::ModelEntry(name) => {
                let model = catalogue.granted(who).find(|model| model.name == name);
                let unknown = || tollgate_core::catalogue::Refusal::unknown(name);
                Ok(Begun::Answered(listing::entry(model.ok_or_else(unknown)?)))
            }
            Asked::Model(endpoint) => {
                let values = |wanted: &'static [u8]| {
                    let named = headers.iter().filter(move |(name, _)| *name == wanted);
                    named.map(|(_, value)| value)
                };
                let boundary = body_kind(endpoint, values(b"content-type"))?.map(str::to_owned);
                let coding = Coding::read(values(CODING)).map_err(Refusal::ContentEncoding)?;
                if end {
                    // Read as what it is: an empty body, and refused with the reason that a reader gives.
                    read_json(endpoint, b"")?;
                }
                self.narrow(headers, path).map_err(unroutable)?;
                Ok(Begun::Held(endpoint, boundary, coding))
            }
        }
    }

    /// Takes out of a request to a model what no model server needs: headers by which one may take its client for somebody
    /// else, and what it may read in the query in place of what the body says.
    fn narrow(&self, headers: &HeaderMap, path: &[u8]) -> Result<(), Status> {
        for (name, _) in headers
            .iter()
            .filter(|(name, _)| !self.config.to_models.pass(name))
        {
            remove_header(Map::Request, name)?;
        }
        match as_served(path) {
            Some(path) => set_header(Map::Request, ":path", &String::from_utf8_lossy(&path)),
            None => Ok(()),
        }
    }

    /// Called every [`crate::module::TICK_MILLIS`], before each stream is [looked at](Self::look).
    pub fn tick(&mut self) {
        self.uploads.tick(&mut Host);
    }

    /// Ends a stream whose body comes too slowly or may not come at all, or whose answer is silent for too long.
    pub fn look(&mut self, stream: &mut Stream, enter: impl FnOnce() -> bool) {
        if let Some(visited) = &mut stream.routed {
            if visited.first_byte.is_some() {
                if is_stuck(visited, enter) {
                    replaced::answer(Fault::Silent, &visited.reader);
                    self.fell_silent(visited);
                    stream.routed = None;
                }
                return;
            }
            return self.listen(visited, enter);
        }
        let Some(held) = &stream.held else { return };
        if let Err(refusal) = self.uploads.look(&mut Host, &mut stream.upload, &held.who)
            && enter()
        {
            self.refuse(&refusal.into(), Some(&held.who), &held.reader);
            stream.held = None;
        }
    }

    fn listen(&mut self, visited: &mut Visited, enter: impl FnOnce() -> bool) {
        let Some(silence) = &mut visited.silence else {
            return;
        };
        let Ok(now) = now_nanos() else { return };
        if !silence.is_over(now) || !enter() {
            return;
        }
        let held = silence.is_held();
        visited.silence = None;
        visited.begun = false;
        if held {
            replaced::answer(Fault::Silent, &visited.reader);
            visited.answer = Answer::Answered;
        } else if let Err(status) = close_response() {
            log(
                Level::Error,
                &format!("tenant-router: cannot end a silent answer: {status:?}"),
            );
        }
        self.fell_silent(visited);
    }

    fn fell_silent(&mut self, visited: &mut Visited) {
        let attempts = attempts();
        self.metrics
            .fault(Fault::Silent.name(), visited.order.at(attempts));
        let ending = Ending::Suspect(tag(&visited.who.org));
        visited.order.ended(
            &mut Host,
            &self.config.breaker,
            visited.wanted(),
            attempts,
            ending,
        );
    }

    /// Holds the body, of which `len` bytes have come, until it is whole, then routes it, if `admit` lets a request pass
    /// that has a target. `None` is as many as before.
    pub fn request_body(
        &mut self,
        stream: &mut Stream,
        len: Option<usize>,
        end: bool,
        admit: impl FnOnce(&Routed<'_>) -> Action,
    ) -> Action {
        if stream.passed {
            return Action::Continue;
        }
        let Some(held) = stream.held.take() else {
            return Action::Pause;
        };
        if let Err(refusal) = self
            .uploads
            .came(&mut Host, &mut stream.upload, &held.who, len, end)
        {
            return self.refuse(&refusal.into(), Some(&held.who), &held.reader);
        }
        if !end {
            stream.held = Some(held);
            return Action::Pause;
        }
        let routed = match len {
            Some(_) => Ok(()),
            None => drop_trailers(),
        };
        let routed = routed
            .and_then(|()| read_buffer(Buffer::RequestBody))
            .map_err(|_| Refusal::Misconfigured)
            .and_then(|body| match held.coding {
                None => self.route(stream, &held, &body, None, admit),
                Some(coding) => {
                    let decoded = self.decode(&mut stream.upload, &held, coding, &body)?;
                    self.route(stream, &held, &decoded, Some(body.len()), admit)
                }
            });
        match routed {
            Ok(action) => {
                self.metrics.routed();
                stream.passed = action == Action::Continue;
                action
            }
            Err(refusal) => self.refuse(&refusal, Some(&held.who), &held.reader),
        }
    }

    /// A body as it is once it is decoded: it takes as much from here on.
    fn decode(
        &mut self,
        upload: &mut Upload,
        held: &Held,
        coding: Coding,
        body: &[u8],
    ) -> Result<Vec<u8>, Refusal> {
        let decoded = coding.decode(body, self.uploads.most())?;
        self.uploads
            .decoded(&mut Host, upload, &held.who, decoded.len())?;
        Ok(decoded)
    }

    /// Plans where a request goes, and sends it there once it is admitted; what is not leaves everything as it was. `coded`
    /// is how many bytes `whole` had before it was decoded.
    fn route(
        &mut self,
        stream: &mut Stream,
        held: &Held,
        whole: &[u8],
        coded: Option<usize>,
        admit: impl FnOnce(&Routed<'_>) -> Action,
    ) -> Result<Action, Refusal> {
        // For a histogram alone: as if no time had passed where the clock can't be read.
        let whole_at = now_nanos().unwrap_or(u64::MAX);
        let body = match &held.boundary {
            Some(boundary) => read_multipart(held.endpoint, whole, boundary)?,
            None => read_json(held.endpoint, whole)?,
        };
        let name = body
            .model
            .as_deref()
            .filter(|name| !name.is_empty())
            .ok_or(Refusal::MissingModel)?;
        let draw = self.draw();
        let model = self.config.catalogue.find(name, held.endpoint, &held.who)?;
        model.accepts(held.endpoint, &body)?;
        let chosen = self.choose(model, held, &body, draw)?;
        let routed = Routed {
            endpoint: held.endpoint,
            model: Cow::Borrowed(&chosen.model.name),
            target: Cow::Borrowed(chosen.order.first()),
            stream: body.stream,
            input: body.input,
            max_output: body.caps.at(
                held.endpoint,
                chosen.model.max_output,
                chosen.model.context_window,
            ),
            answers: body.answers,
            background: body.unmetered.contains(&Unmetered::Background),
            price: chosen.model.price,
            // A retry sends the same body, so all its targets have to take it.
            ask_usage: ask_usage(held.endpoint, whole, &body)
                .filter(|_| chosen.model.tell_usage(chosen.order.clusters())),
            whole_at,
            repeats: chosen.model.first_byte.is_some(),
            context_window: chosen.model.context_window,
            plain: body.plain,
        };
        let action = admit(&routed);
        let (model, visited) = (chosen.model, Visited::new(chosen, held, body.stream, whole_at));
        let visited = stream.routed.insert(visited);
        match action {
            Action::Continue => {
                visited.probe = visited.order.is_probe();
                uncoded(held, whole, coded)
                    .and_then(|()| forward(&self.config, model, &visited.order, held, body.stream))
                    .map_err(unroutable)?;
            }
            Action::Pause => visited.order.release(&mut Host, visited.wanted()),
        }
        Ok(action)
    }

    /// The first target that works, of the model or of those that may stand in for it, and the model's further ones
    /// for its retries. Where that is a probe, it is claimed, so that no other request becomes one meanwhile.
    fn choose<'c>(
        &'c self,
        model: &'c Model,
        held: &Held,
        body: &Body<'_>,
        draw: u64,
    ) -> Result<Chosen<'c>, Refusal> {
        let (who, endpoint) = (&held.who, held.endpoint);
        let allowed = self
            .config
            .allow_fallback
            .as_ref()
            .is_some_and(|when| when.holds(who, endpoint));
        let others = model.fallback.iter().filter(|_| allowed);
        // One that the caller has no grant for, that is not served here or can't give as much can't stand in.
        let others = others.filter_map(|name| self.config.catalogue.find(name, endpoint, who).ok());
        let others = others.filter(|other| other.accepts(endpoint, body).is_ok());
        let others = others.map(|other| (other, true));
        let mut soonest = u64::MAX;
        for (model, stands_in) in core::iter::once((model, false)).chain(others) {
            match Order::choose(&mut Host, &self.config.breaker, model, (who, endpoint), draw) {
                Ok((order, route)) => {
                    let route = if stands_in { Route::Fallback } else { route };
                    return Ok(Chosen { model, order, route });
                }
                Err(millis) => soonest = soonest.min(millis),
            }
        }
        Err(Refusal::Unavailable(soonest.min(3_600_000)))
    }

    /// Says who served and why, notes how the target did, and keeps back what is no answer to the request; `end` if no
    /// body follows.
    pub fn response_headers(
        &mut self,
        stream: &mut Stream,
        headers: Option<&HeaderMap>,
        end: bool,
    ) -> Action {
        self.uploads.release(&mut Host, &mut stream.upload);
        let Some(visited) = &mut stream.routed else {
            return Action::Continue;
        };
        if let Some(headers) = headers {
            withhold(headers, Map::Response, |name, _| is_not_a_models(name));
            if is_a_models(headers) {
                withhold(headers, Map::Response, |name, value| {
                    !retry_after::passes(name, value, || Host.seconds())
                });
            }
        }
        visited.first_byte = None;
        // Where there is one target that never failed of late, its answer tells nothing new.
        let plain = visited.order.is_plain();
        let attempts = if plain { 1 } else { attempts() };
        introduce(visited, attempts);
        let Some(headers) = headers else {
            return Action::Continue;
        };
        if status(headers) == 429 && is_too_large() {
            self.config
                .refusals
                .count(&mut Host, &visited.who, client_address);
        }
        let ending = ending(headers, &visited.who.org);
        if let Ending::Busy(pause, _) = ending {
            visited.busy = Some(pause);
        }
        if visited.streamed && !end && status(headers) == 200 {
            visited.silence = self.silence(&visited.model, headers.get(b"content-type"));
        }
        if plain && ending == Ending::Success {
            visited.begun = true;
        } else {
            self.judge(visited, attempts, ending);
        }
        if let Some(found) = visited.answer.headers(headers, end, &visited.reader) {
            self.faulty(visited, attempts, found);
        }
        match &visited.silence {
            Some(silence) if silence.is_held() => Action::Pause,
            _ => visited.answer.action(),
        }
    }

    fn silence(&self, model: &str, content_type: Option<&[u8]>) -> Option<Silence> {
        let model = self.config.catalogue.get(model)?;
        Silence::of(model, Kind::of(content_type).is_some(), || now_nanos().ok())
    }

    /// Notes how the target did, by the head of its answer.
    fn judge(&self, visited: &mut Visited, attempts: usize, ending: Ending) {
        if !is_sent(flags()) {
            return;
        }
        visited.probe = false;
        visited.order.answered(
            &mut Host,
            &self.config.breaker,
            visited.wanted(),
            attempts,
            ending,
            visited.since,
        );
        visited.begun = ending == Ending::Success;
    }

    /// Counts a fault that the answer's status alone does not tell. What its customer wrote may have made the target say
    /// so.
    fn faulty(&mut self, visited: &mut Visited, attempts: usize, (status, fault): Found) {
        if of_attempt(status).is_none() {
            self.metrics.fault(fault.name(), visited.order.at(attempts));
        }
        // A quota that is spent is spent for everybody.
        let spent = visited.busy.take().filter(|_| fault == Fault::Quota);
        if spent.is_some() || (core::mem::take(&mut visited.begun) && fault.is_the_targets()) {
            let ending = spent.map_or(Ending::Suspect(tag(&visited.who.org)), Ending::BackOff);
            visited.order.ended(
                &mut Host,
                &self.config.breaker,
                visited.wanted(),
                attempts,
                ending,
            );
        }
    }

    /// A piece of the answer's body: `len` bytes are here, those that were held back included.
    pub fn response_body(&mut self, stream: &mut Stream, len: usize, end: bool) -> Action {
        self.answer_body(stream, Some(len), end)
    }

    /// The answer's body is whole. No API has trailers; a model server's could only say what its headers may not.
    pub fn response_trailers(&mut self, stream: &mut Stream) -> Action {
        if stream.routed.is_some()
            && let Ok(trailers) = HeaderMap::read(Map::ResponseTrailers)
        {
            withhold(&trailers, Map::ResponseTrailers, |_, _| true);
        }
        self.answer_body(stream, None, true)
    }

    fn answer_body(&mut self, stream: &mut Stream, len: Option<usize>, end: bool) -> Action {
        let Some(visited) = &mut stream.routed else {
            return Action::Continue;
        };
        if end {
            // It is whole, however slowly its client takes it.
            visited.silence = None;
        } else if let Some(silence) = &mut visited.silence {
            silence.came(|| read_buffer(Buffer::ResponseBody).ok());
        }
        if visited.answer.passes() {
            return Action::Continue;
        }
        let (action, found) = visited.answer.body(len, end, &visited.reader);
        if let Some(found) = found {
            self.faulty(visited, attempts(), found);
        }
        action
    }

    /// An answer that broke off is a failure too, as is one that said that something went wrong, and one that is whole a
    /// success.
    pub fn log(&mut self, stream: &mut Stream, heard: impl FnOnce() -> Heard) {
        self.uploads.release(&mut Host, &mut stream.upload);
        let Some(visited) = stream.routed.take() else {
            return;
        };
        if visited.probe && !is_sent(flags()) {
            visited.order.release(&mut Host, visited.wanted());
        }
        if !visited.begun {
            return;
        }
        let heard = heard();
        if heard == Heard::Whole && visited.order.is_plain() {
            return;
        }
        let Some(ending) = Ending::of_end(heard == Heard::Errored, flags(), &visited.who.org) else {
            return;
        };
        visited.order.ended(
            &mut Host,
            &self.config.breaker,
            visited.wanted(),
            attempts(),
            ending,
        );
    }

    fn refuse(&self, refusal: &Refusal, who: Option<&Identity>, reader: &Reader) -> Action {
        self.metrics.refused(refusal);
        if let Some(who) = who.filter(|_| refusal.is_the_requests()) {
            self.config.refusals.count(&mut Host, who, client_address);
        }
        refuse(refusal, reader)
    }

    fn draw(&mut self) -> u64 {
        self.draw ^= self.draw << 13;
        self.draw ^= self.draw >> 7;
        self.draw ^= self.draw << 17;
        self.draw
    }
}

/// What an answer with these headers says of the target that gave it, to a request of this organization.
pub(crate) fn ending(headers: &HeaderMap, org: &str) -> Ending {
    Ending::of_answer(status(headers), headers.get(b"retry-after"), org, || {
        Host.seconds()
    })
}

/// An answer's status; zero where it has none.
pub(crate) fn status(headers: &HeaderMap) -> u16 {
    let status = headers.text(b":status").and_then(|status| status.parse().ok());
    status.unwrap_or(0)
}

/// Whether a model server says when to come back. What the gateway itself says of that is not bounded.
fn is_a_models(headers: &HeaderMap) -> bool {
    let says = [&b"retry-after"[..], b"retry-after-ms", b"x-should-retry"];
    says.iter().any(|name| headers.get(name).is_some())
        && property(&["response", "code_details"]).is_ok_and(|details| details == b"via_upstream")
}

/// Whether the limits refused a request that they never let pass.
fn is_too_large() -> bool {
    property(&["response", "code_details"]).is_ok_and(|details| details == TOO_LARGE)
}

/// Takes headers away from an answer.
fn withhold(headers: &HeaderMap, map: Map, unwanted: impl Fn(&[u8], &[u8]) -> bool) {
    for (name, _) in headers.iter().filter(|(name, value)| unwanted(name, value)) {
        if let Err(status) = remove_header(map, name) {
            log(
                Level::Error,
                &format!("tenant-router: cannot remove a header of an answer: {status:?}"),
            );
        }
    }
}

/// Envoy's response flags so far.
fn flags() -> Flags {
    Flags(number(&["response", "flags"]))
}

/// How often Envoy's router has tried.
fn tried() -> u64 {
    number(&["upstream", "request_attempt_count"])
}

/// Whether a target was asked. Where nobody was (the limits or a body that is too large), or one of Envoy's circuit
/// breakers is full, nothing is said of the target.
fn is_sent(flags: Flags) -> bool {
    !flags.overflow() && (tried() > 0 || flags.no_cluster())
}

/// Whether an attempt took too long that Envoy does not end. One that waits for a connection has not begun.
fn is_stuck(visited: &mut Visited, enter: impl FnOnce() -> bool) -> bool {
    let (Some(first_byte), Ok(now)) = (&mut visited.first_byte, now_nanos()) else {
        return false;
    };
    first_byte.is_over(now)
        && enter()
        && first_byte.is_stuck(tried(), now)
        && property(&["upstream", "local_address"]).is_ok_and(|address| !address.is_empty())
}

/// The number of the last attempt; the first where there was none.
fn attempts() -> usize {
    usize::try_from(tried()).unwrap_or(1).max(1)
}

fn controls(name: &[u8]) -> bool {
    (name.starts_with(b"x-envoy-") && name != b"x-envoy-external-address") || name == b"x-tollgate-targets"
}

enum Begun {
    Answered(Vec<u8>),
    Held(Endpoint, Option<String>, Option<Coding>),
}

/// No API has trailers; a client's could only say what its headers may not.
fn drop_trailers() -> Result<(), Status> {
    let trailers = HeaderMap::read(Map::RequestTrailers)?;
    trailers
        .iter()
        .try_for_each(|(name, _)| remove_header(Map::RequestTrailers, name))
}

fn unroutable(status: Status) -> Refusal {
    log(
        Level::Error,
        &format!("tenant-router: cannot route a request: {status:?}"),
    );
    Refusal::Misconfigured
}

/// Puts a decoded body in the place of the coded one.
fn uncoded(held: &Held, whole: &[u8], coded: Option<usize>) -> Result<(), Status> {
    if held.says_coding {
        remove_header(Map::Request, CODING)?;
    }
    let Some(coded) = coded else { return Ok(()) };
    if header(Map::Request, "content-length")?.is_some() {
        set_header(Map::Request, "content-length", &whole.len().to_string())?;
    }
    replace_in_buffer(Buffer::RequestBody, 0, coded, whole)
}

/// Tells the customer who served, and why.
fn introduce(visited: &Visited, attempts: usize) {
    let route = match visited.route {
        Route::Fallback => Route::Fallback,
        _ if visited.order.last(attempts) > 0 => Route::BreakerOpen,
        route => route,
    };
    // An answer without these headers is still the answer.
    let _ = set_header(Map::Response, "x-tollgate-model", &visited.model);
    let _ = set_header(Map::Response, "x-tollgate-route", route.name());
    if let Some(since) = visited.deprecated_at {
        // RFC 9745: a date as a structured field.
        let _ = set_header(Map::Response, "deprecation", &format!("@{since}"));
    }
    if let Some(end) = visited.sunset_at.and_then(tollgate_core::config::http_date) {
        let _ = set_header(Map::Response, "sunset", &end);
    }
}

/// Sets what Envoy's router, the adapter and later filters go by.
fn forward(config: &Config, model: &Model, order: &Order, held: &Held, streamed: bool) -> Result<(), Status> {
    // Without a value it must not be there; that it is not was seen when the headers were read.
    let put = |name: &str, value: Option<&str>| match value {
        Some(value) => set_header(Map::Request, name, value),
        None if held.controlled => remove_header(Map::Request, name.as_bytes()),
        None => Ok(()),
    };
    set_header(Map::Request, "x-tollgate-model", &model.name)?;
    set_header(Map::Request, "x-tollgate-target", order.first())?;
    let others = order.header();
    put("x-tollgate-targets", others.as_deref())?;
    let high = config.high_priority.contains(&held.who.tier);
    set_header(
        Map::Request,
        "x-tollgate-priority",
        if high { "high" } else { "default" },
    )?;
    // Envoy's router obeys these; a client's own were removed before.
    let digits = |value: Option<u64>| value.map(|value| value.to_string());
    // The first byte of an answer that is not streamed is its last one.
    let first_byte = model.first_byte.filter(|_| streamed);
    let first_byte = first_byte.map(tollgate_core::config::Span::millis);
    let longest = model.whole.map(tollgate_core::config::Span::millis);
    put("x-envoy-upstream-rq-timeout-ms", digits(longest).as_deref())?;
    put(
        "x-envoy-upstream-rq-per-try-timeout-ms",
        digits(first_byte).as_deref(),
    )?;
    put(
        "x-envoy-max-retries",
        digits(model.retries.map(u64::from)).as_deref(),
    )?;
    // To Envoy an attempt that took too long was reset: it is tried again only where resets are.
    put("x-envoy-retry-on", model.first_byte.map(|_| "reset"))?;
    // That one target has had enough, or does not take our credential, is a reason to ask another, and none to ask it
    // again.
    put("x-envoy-retriable-status-codes", others.map(|_| ANOTHER_TARGET))?;
    clear_route_cache()
}

/// Answers in place of the upstream.
pub(crate) fn refuse(refusal: &Refusal, reader: &Reader) -> Action {
    answer(NAME, &refusal.reply(reader))
}

//! The HTTP filter: holds a request until its body is whole, reads it once, and sends it on its way.

use std::rc::Rc;

use tollgate_core::body::Coding;
use tollgate_core::config::ConfigError;
use tollgate_core::exchange::Exchange as _;
use tollgate_core::fault::{Effect, Fault, Finding, Head as AnswerHead, Piece, Replacement};
use tollgate_core::headers::{Passage, withheld};
use tollgate_core::identity::Identity;
use tollgate_core::key::shown;
use tollgate_core::query::as_served;
use tollgate_core::refusals::TOO_LARGE;
use tollgate_core::reply::{Reader, Reply};
use tollgate_core::route::{Begun, CODING, Config, Head, Heard, InFlight, Plan, Refusal, Routed};
use tollgate_core::silence::{FirstByte, Silence};
use tollgate_core::state::Clock as _;
use tollgate_core::targets::{self, Ending};
use tollgate_core::uploads::{Upload, Uploads};
use tollgate_core::usage::Kind;
use tollgate_host::{
    Action, Buffer, HeaderMap, Host, Level, Map, Status, answer, clear_route_cache, client_address,
    close_response, header, log, now_nanos, read_buffer, remove_header, replace_in_buffer, set_header,
};

use crate::metrics::Metrics;

/// The filter's, in the log.
const NAME: &str = "tenant-router";

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
    sent: Option<Sent>,
    upload: Upload,
    /// Whether it may go on. What may not does not, even if its answer could not be sent.
    passed: bool,
}

/// A request whose body is still coming.
struct Held {
    who: Rc<Identity>,
    head: Head,
    reader: Reader,
}

/// A request that has a target.
struct Sent {
    request: InFlight,
    reader: Reader,
    /// Whether a stream is asked for.
    streamed: bool,
    answer: Replacement,
    /// How long its answer may take to begin, until it has.
    first_byte: Option<FirstByte>,
    /// How long its answer may be silent.
    silence: Option<Silence>,
}

impl Sent {
    fn new(plan: Plan<'_, '_>, held: &Held, whole_at: u64) -> Self {
        let streamed = plan.body.stream;
        Self {
            reader: held.reader.clone(),
            streamed,
            answer: Replacement::default(),
            first_byte: FirstByte::of(plan.model, whole_at).filter(|_| streamed),
            silence: None,
            request: InFlight::new(
                plan.model,
                (plan.order, plan.route),
                Rc::clone(&held.who),
                whole_at,
            ),
        }
    }
}

impl Router {
    /// Makes one of its configuration; all that is wrong with it is reported.
    pub fn configure(json: &[u8]) -> Result<Self, Vec<ConfigError>> {
        let config = Config::parse(json)?;
        Self::new(config).map_err(|error| vec![error])
    }

    /// Sets the filter up. `Err` where the proxy does not give what it needs.
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
        targets::publish(&mut Host, &self.config.breaker).map_err(|error| vec![ConfigError::unusable(error)])
    }

    /// Reads what `who` asks for. What has no body is answered here; the rest waits for it.
    pub fn request_headers(
        &mut self,
        stream: &mut Stream,
        headers: &HeaderMap,
        who: Rc<Identity>,
        end: bool,
    ) -> Action {
        let path = headers.get(b":path");
        let reader = Reader::of(path, headers.text(b"x-request-id"));
        let begun = self.config.begin(&mut Host, headers, &who, client_address, end);
        let head = begun.and_then(|begun| match begun {
            Begun::Held(head) => self.narrow(headers, path).map(|()| Ok(head)),
            Begun::Answered(body) => Ok(Err(body)),
        });
        match head {
            Ok(Ok(head)) => {
                stream.upload = Upload::announced(head.length);
                stream.held = Some(Held { who, head, reader });
                Action::Pause
            }
            Ok(Err(body)) => {
                self.metrics.listed();
                answer(NAME, &Reply::document("models", body))
            }
            Err(refusal) => self.refuse(&refusal, Some(&who), &reader),
        }
    }

    /// Answers a request without an identity, or one whose headers can't be read.
    pub fn misconfigured(&self, headers: Option<&HeaderMap>) -> Action {
        let path = headers.and_then(|headers| headers.get(b":path"));
        let request_id = headers.and_then(|headers| headers.text(b"x-request-id"));
        self.refuse(&Refusal::Misconfigured, None, &Reader::of(path, request_id))
    }

    /// Takes out of a request to a model what no model server needs: headers by which one may take its client for somebody
    /// else, and what it may read in the query in place of what the body says.
    fn narrow(&self, headers: &HeaderMap, path: Option<&[u8]>) -> Result<(), Refusal> {
        for (name, value) in headers.iter() {
            match self.config.to_models.judge(name, value) {
                Passage::Passes => {}
                Passage::Ends => remove_header(Map::Request, name).map_err(unroutable)?,
                Passage::TrustedAddress => {
                    let address = client_address().map(|address| address.to_string());
                    set_header(Map::Request, "x-forwarded-for", &address.unwrap_or_default())
                        .map_err(unroutable)?;
                }
                Passage::Dear(beta) => return Err(Refusal::DearBeta(shown(beta, 64))),
            }
        }
        match path.and_then(as_served) {
            Some(path) => {
                set_header(Map::Request, ":path", &String::from_utf8_lossy(&path)).map_err(unroutable)
            }
            None => Ok(()),
        }
    }

    /// Called every [`crate::module::TICK_MILLIS`], before each stream is [looked at](Self::look).
    pub fn tick(&mut self) {
        self.uploads.tick(&mut Host);
    }

    /// Ends a stream whose body comes too slowly or may not come at all, or whose answer is silent for too long.
    pub fn look(&mut self, stream: &mut Stream, enter: impl FnOnce() -> bool) {
        if let Some(sent) = &mut stream.sent {
            let Some(first_byte) = &mut sent.first_byte else {
                return self.listen(sent, enter);
            };
            if first_byte.is_stuck_now(&Host, enter) {
                answer(NAME, &Fault::Silent.in_place(&sent.reader));
                self.fell_silent(&mut sent.request);
                stream.sent = None;
            }
            return;
        }
        let Some(held) = &stream.held else { return };
        if let Err(refused) = self.uploads.look(&mut Host, &mut stream.upload, &held.who)
            && enter()
        {
            self.refuse(&refused.into(), Some(&held.who), &held.reader);
            stream.held = None;
        }
    }

    fn listen(&mut self, sent: &mut Sent, enter: impl FnOnce() -> bool) {
        let Some(silence) = &mut sent.silence else {
            return;
        };
        let Ok(now) = now_nanos() else { return };
        if !silence.is_over(now) || !enter() {
            return;
        }
        let held = silence.is_held();
        sent.silence = None;
        if held {
            answer(NAME, &Fault::Silent.in_place(&sent.reader));
            sent.answer = Replacement::Answered;
        } else {
            or_log("end a silent answer", close_response());
        }
        self.fell_silent(&mut sent.request);
    }

    fn fell_silent(&mut self, request: &mut InFlight) {
        self.metrics.fault(Fault::Silent.name(), request.target(&Host));
        request.fell_silent(&mut Host, &self.config.breaker);
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
        let came = self
            .uploads
            .came(&mut Host, &mut stream.upload, &held.who, len, end);
        if let Err(refused) = came {
            return self.refuse(&refused.into(), Some(&held.who), &held.reader);
        }
        if !end {
            stream.held = Some(held);
            return Action::Pause;
        }
        match self.whole(stream, &held, len.is_none(), admit) {
            Ok(action) => {
                self.metrics.routed();
                stream.passed = action == Action::Continue;
                action
            }
            Err(refusal) => self.refuse(&refusal, Some(&held.who), &held.reader),
        }
    }

    /// Routes a request that is whole.
    fn whole(
        &mut self,
        stream: &mut Stream,
        held: &Held,
        trailers: bool,
        admit: impl FnOnce(&Routed<'_>) -> Action,
    ) -> Result<Action, Refusal> {
        if trailers {
            drop_trailers().map_err(|_| Refusal::Misconfigured)?;
        }
        let body = read_buffer(Buffer::RequestBody).map_err(|_| Refusal::Misconfigured)?;
        match held.head.coding {
            None => self.route(stream, held, &body, None, admit),
            Some(coding) => {
                let decoded = self.decode(&mut stream.upload, held, coding, &body)?;
                self.route(stream, held, &decoded, Some(body.len()), admit)
            }
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
        let decoded = coding.decode(body, self.uploads.max_body())?;
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
        let draw = self.draw();
        let plan = self.config.plan(&mut Host, &held.head, &held.who, whole, draw)?;
        let action = admit(&plan.routed(whole_at));
        let sent = match action {
            Action::Continue => {
                uncoded(&held.head, whole, coded).and_then(|()| forward(&plan, &self.config, held))
            }
            Action::Pause => Ok(()),
        };
        let request = &mut stream.sent.insert(Sent::new(plan, held, whole_at)).request;
        if action == Action::Pause {
            request.withdraw(&mut Host);
        }
        sent.map(|()| action).map_err(unroutable)
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
        let Some(sent) = &mut stream.sent else {
            return Action::Continue;
        };
        for name in headers.into_iter().flat_map(|headers| withheld(headers, &Host)) {
            or_log("remove a header of an answer", remove_header(Map::Response, name));
        }
        sent.first_byte = None;
        for (name, value) in sent.request.introduction(&Host) {
            if let Some(value) = value {
                // An answer without these headers is still the answer.
                let _ = set_header(Map::Response, name, &value);
            }
        }
        match headers {
            Some(headers) => self.answered(sent, headers, end),
            None => Action::Continue,
        }
    }

    /// The head of an answer is there.
    fn answered(&mut self, sent: &mut Sent, headers: &HeaderMap, end: bool) -> Action {
        let Sent { request, reader, .. } = sent;
        let status = status(headers);
        if status == 429 && Host.details().as_deref() == Some(TOO_LARGE) {
            // The limits refused a request that they never let pass.
            self.config
                .refusals
                .count(&mut Host, request.who(), client_address);
        }
        if sent.streamed && !end && status == 200 {
            let model = self.config.catalogue.get(&request.model);
            let text = Kind::of(headers.get(b"content-type")).is_some();
            sent.silence = model.and_then(|model| Silence::of(model, text, || Host.now()));
        }
        let ending = ending(status, headers, &request.who().org);
        request.answered(&mut Host, &self.config.breaker, ending);
        let head = AnswerHead { status, headers, end };
        let finding = sent.answer.head(&head, || Host.is_answered(), reader);
        if let Some(finding) = finding {
            self.carry_out(request, finding);
        }
        match &sent.silence {
            Some(silence) if silence.is_held() => Action::Pause,
            _ if sent.answer.is_held() => Action::Pause,
            _ => Action::Continue,
        }
    }

    /// Counts a fault that the answer's status alone does not tell, and does what is to be done with the answer.
    fn carry_out(&mut self, request: &mut InFlight, Finding { fault, effect }: Finding) {
        match effect {
            Effect::Answer(reply) => {
                answer(NAME, &reply);
            }
            Effect::Headers(removed, set) => {
                let mut removed = removed
                    .iter()
                    .map(|name| remove_header(Map::Response, name.as_bytes()));
                let mut set = set
                    .iter()
                    .map(|(name, value)| set_header(Map::Response, name, value));
                let done = removed
                    .try_for_each(|done| done)
                    .and_then(|()| set.try_for_each(|done| done));
                or_log("replace an answer", done);
            }
        }
        let Some(found) = fault else { return };
        if found.is_counted() {
            self.metrics.fault(found.fault.name(), request.target(&Host));
        }
        request.faulty(&mut Host, &self.config.breaker, found.fault);
    }

    /// A piece of the answer's body: `len` bytes are here, those that were held back included.
    pub fn response_body(&mut self, stream: &mut Stream, len: usize, end: bool) -> Action {
        self.answer_body(stream, Some(len), end)
    }

    /// The answer's body is whole. No API has trailers; a model server's could only say what its headers may not.
    pub fn response_trailers(&mut self, stream: &mut Stream) -> Action {
        if stream.sent.is_some()
            && let Ok(trailers) = HeaderMap::read(Map::ResponseTrailers)
        {
            for (name, _) in trailers.iter() {
                let removed = remove_header(Map::ResponseTrailers, name);
                or_log("remove a header of an answer", removed);
            }
        }
        self.answer_body(stream, None, true)
    }

    fn answer_body(&mut self, stream: &mut Stream, len: Option<usize>, end: bool) -> Action {
        let Some(sent) = &mut stream.sent else {
            return Action::Continue;
        };
        if end {
            // It is whole, however slowly its client takes it.
            sent.silence = None;
        } else if let Some(silence) = &mut sent.silence {
            silence.came(|| read_buffer(Buffer::ResponseBody).ok());
        }
        match sent.answer.piece(len, end) {
            Piece::Passes => {}
            Piece::Waits => return Action::Pause,
            Piece::Replaced(bytes) => replace_body(&bytes),
            Piece::Unread => {
                let body = read_buffer(Buffer::ResponseBody).ok();
                let finding = sent.answer.read(body.as_deref(), end, &sent.reader);
                if let Some(finding) = finding {
                    self.carry_out(&mut sent.request, finding);
                }
                if let Piece::Replaced(bytes) = sent.answer.piece(len, end) {
                    replace_body(&bytes);
                }
            }
        }
        Action::Continue
    }

    /// A request is over; `heard` is what the filter that reads answers knows of its.
    pub fn log(&mut self, stream: &mut Stream, heard: impl FnOnce() -> Heard) {
        self.uploads.release(&mut Host, &mut stream.upload);
        if let Some(sent) = stream.sent.take() {
            sent.request.ended(&mut Host, &self.config.breaker, heard);
        }
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

/// What an answer with this status and these headers says of the target that gave it, to a request of this organization.
pub(crate) fn ending(status: u16, headers: &HeaderMap, org: &str) -> Ending {
    Ending::of_answer(status, headers.get(b"retry-after"), org, || Host.seconds())
}

/// An answer's status; zero where it has none.
pub(crate) fn status(headers: &HeaderMap) -> u16 {
    let status = headers.text(b":status").and_then(|status| status.parse().ok());
    status.unwrap_or(0)
}

/// No API has trailers; a client's could only say what its headers may not.
fn drop_trailers() -> Result<(), Status> {
    let trailers = HeaderMap::read(Map::RequestTrailers)?;
    trailers
        .iter()
        .try_for_each(|(name, _)| remove_header(Map::RequestTrailers, name))
}

fn unroutable(status: Status) -> Refusal {
    or_log("route a request", Err(status));
    Refusal::Misconfigured
}

/// Tells operators what the proxy refused to do.
fn or_log(what: &str, done: Result<(), Status>) {
    if let Err(status) = done {
        log(Level::Error, &format!("{NAME}: cannot {what}: {status:?}"));
    }
}

/// Puts a decoded body in the place of the coded one.
fn uncoded(head: &Head, whole: &[u8], coded: Option<usize>) -> Result<(), Status> {
    if head.says_coding {
        remove_header(Map::Request, CODING.as_bytes())?;
    }
    let Some(coded) = coded else { return Ok(()) };
    if header(Map::Request, "content-length")?.is_some() {
        set_header(Map::Request, "content-length", &whole.len().to_string())?;
    }
    replace_in_buffer(Buffer::RequestBody, 0, coded, whole)
}

/// Sets what Envoy's router, the adapter and later filters go by, and has the route chosen by it.
fn forward(plan: &Plan<'_, '_>, config: &Config, held: &Held) -> Result<(), Status> {
    for (name, value) in plan.headers(config, &held.who) {
        match value {
            Some(value) => set_header(Map::Request, name, &value)?,
            // That it is not there was seen when the headers were read.
            None if held.head.controlled => remove_header(Map::Request, name.as_bytes())?,
            None => {}
        }
    }
    clear_route_cache()
}

/// Answers in place of the upstream.
pub(crate) fn refuse(refusal: &Refusal, reader: &Reader) -> Action {
    answer(NAME, &refusal.reply(reader))
}

/// Puts these bytes in the place of those that are here.
fn replace_body(bytes: &[u8]) {
    let len = read_buffer(Buffer::ResponseBody).map_or(0, |body| body.len());
    let _ = replace_in_buffer(Buffer::ResponseBody, 0, len, bytes);
}

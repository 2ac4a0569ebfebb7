//! The HTTP filter: holds a request until its body is whole, reads it once, and sends it on its way.

use std::rc::Rc;
use std::sync::Arc;

use tollgate_core::body::Coding;
use tollgate_core::config::ConfigError;
use tollgate_core::exchange::Exchange as _;
use tollgate_core::fault::{Effect, Fault, Finding, Head as AnswerHead, Piece, Replacement};
use tollgate_core::headers::{Passage, withheld};
use tollgate_core::identity::{Identity, PROPERTY as IDENTITY};
use tollgate_core::key::shown;
use tollgate_core::plugin_config::to_json;
use tollgate_core::query::as_served;
use tollgate_core::refusals::TOO_LARGE;
use tollgate_core::reply::{Reader, Reply};
use tollgate_core::route::{
    Begun, CODING, Config, ERRORED, Head, Heard, InFlight, PROPERTY, Plan, Refusal, Routed,
};
use tollgate_core::silence::{FirstByte, Silence};
use tollgate_core::spent::{PROPERTY as SPENT, Spent};
use tollgate_core::state::Clock as _;
use tollgate_core::targets::{self, Ending};
use tollgate_core::uploads::{Upload, Uploads};
use tollgate_core::usage::Kind;
use tollgate_host::{
    Family, HeaderMap, HttpFilter, Level, LogContext, RequestContext, ResponseContext, RootContext, Status,
    Step, StreamContext, Sweep, SweepContext, log,
};

use crate::metrics::{FAMILIES, Metrics};
use crate::spent;

/// The filter's, in the log.
const NAME: &str = "tenant-router";
/// How often bodies that are still to come are looked at.
pub const TICK_MILLIS: u32 = 1_000;

/// What one worker knows under one configuration.
pub struct Router {
    config: Arc<Config>,
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

impl HttpFilter for Router {
    const NAME: &'static str = NAME;
    const METRICS: &'static [&'static [Family]] = &[FAMILIES];
    type Config = Config;
    type Stream = Stream;

    fn check(configuration: Vec<u8>) -> Result<Config, Vec<ConfigError>> {
        Config::parse(&to_json(configuration)?)
    }

    fn start(config: Arc<Config>, host: &mut RootContext) -> Result<Self, ConfigError> {
        let router = Self {
            uploads: Uploads::join(host, config.uploads).map_err(ConfigError::unusable)?,
            config,
            metrics: Metrics::define().map_err(ConfigError::unusable)?,
            draw: host.now().ok_or_else(|| ConfigError::unusable("no clock"))? | 1,
        };
        host.tick_every(TICK_MILLIS).map_err(ConfigError::unusable)?;
        // The access logger of attempts hears which configuration is in force.
        targets::publish(host, &router.config.breaker).map_err(ConfigError::unusable)?;
        Ok(router)
    }

    fn request_headers(&mut self, stream: &mut Stream, host: &mut RequestContext, end: bool) -> Step {
        let state = host.stream.state(IDENTITY).ok();
        let who = state.and_then(|state| Identity::decode(&state));
        match (host.headers.read(), who) {
            (Ok(headers), Some(who)) => self.begin(stream, host, &headers, Rc::new(who), end),
            (headers, _) => self.misconfigured(headers.ok().as_ref()).into(),
        }
    }

    fn request_body(
        &mut self,
        stream: &mut Stream,
        host: &mut RequestContext,
        len: Option<usize>,
        end: bool,
    ) -> Step {
        self.hold(stream, host, len, end, |host, routed| {
            // Tells the filters behind what is asked for.
            host.stream
                .set_state(PROPERTY, &routed.encode())
                .map_err(|_| Refusal::Misconfigured.reply(&Reader::default()))
        })
    }

    fn response_headers(&mut self, stream: &mut Stream, host: &mut ResponseContext, end: bool) -> Step {
        let headers = host.headers.read().ok();
        self.answer_headers(stream, host, headers.as_ref(), end)
    }

    fn response_body(
        &mut self,
        stream: &mut Stream,
        host: &mut ResponseContext,
        len: usize,
        end: bool,
    ) -> Step {
        self.answer_body(stream, host, Some(len), end)
    }

    fn response_trailers(&mut self, stream: &mut Stream, host: &mut ResponseContext) -> Step {
        self.answer_trailers(stream, host)
    }

    fn log(&mut self, stream: &mut Stream, host: &mut LogContext) {
        self.end(stream, host, |host| match host.state(ERRORED) {
            Ok(_) => Heard::Errored,
            Err(_) => Heard::Unknown,
        });
        let spent = spent::take(host);
        if spent != Spent::default() {
            // Not charged at worst.
            let _ = host.stream.set_state(SPENT, &spent.encode());
        }
    }

    fn orphaned() -> Reply {
        Refusal::Misconfigured.reply(&Reader::default())
    }

    /// Each stream is [looked at](Self::look) after it.
    fn tick(&mut self, host: &mut RootContext) -> Sweep {
        self.uploads.tick(host);
        Sweep::Streams
    }

    /// Ends a stream whose body comes too slowly or may not come at all, or whose answer is silent for too long.
    fn look(&mut self, stream: &mut Stream, host: &mut SweepContext) -> Step {
        if let Some(sent) = &mut stream.sent {
            let Some(first_byte) = &mut sent.first_byte else {
                return self.listen(sent, host);
            };
            let over = host.root.now().filter(|now| first_byte.is_over(*now));
            let (Some(now), Some(host)) = (over, over.and_then(|_| host.enter())) else {
                return Step::Continue;
            };
            if !first_byte.is_stuck_now(host, now) {
                return Step::Continue;
            }
            let reply = Fault::Silent.in_place(&sent.reader);
            self.fell_silent(host, &mut sent.request);
            stream.sent = None;
            return reply.into();
        }
        let Some(held) = &stream.held else {
            return Step::Continue;
        };
        if let Err(refused) = self.uploads.look(&mut host.root, &mut stream.upload, &held.who)
            && let Some(host) = host.enter()
        {
            let reply = self.refuse(host, &refused.into(), Some(&held.who), &held.reader);
            stream.held = None;
            return reply.into();
        }
        Step::Continue
    }
}

impl Router {
    /// Reads what `who` asks for. What has no body is answered here; the rest waits for it.
    pub fn begin(
        &mut self,
        stream: &mut Stream,
        host: &mut RequestContext,
        headers: &HeaderMap,
        who: Rc<Identity>,
        end: bool,
    ) -> Step {
        let path = headers.get(b":path");
        let reader = Reader::of(path, headers.text(b"x-request-id"));
        let begun = self.config.begin(&mut host.stream, headers, &who, end);
        let head = begun.and_then(|begun| match begun {
            Begun::Held(head) => self.narrow(host, headers, path).map(|()| Ok(head)),
            Begun::Answered(body) => Ok(Err(body)),
        });
        match head {
            Ok(Ok(head)) => {
                stream.upload = Upload::announced(head.length);
                stream.held = Some(Held { who, head, reader });
                Step::Hold
            }
            Ok(Err(body)) => {
                self.metrics.listed();
                Reply::document("models", body).into()
            }
            Err(refusal) => self
                .refuse(&mut host.stream, &refusal, Some(&who), &reader)
                .into(),
        }
    }

    /// What answers a request without an identity, or one whose headers can't be read.
    pub fn misconfigured(&self, headers: Option<&HeaderMap>) -> Reply {
        let path = headers.and_then(|headers| headers.get(b":path"));
        let request_id = headers.and_then(|headers| headers.text(b"x-request-id"));
        self.metrics.refused(&Refusal::Misconfigured);
        Refusal::Misconfigured.reply(&Reader::of(path, request_id))
    }

    /// Takes out of a request to a model what no model server needs: headers by which one may take its client for somebody
    /// else, and what it may read in the query in place of what the body says.
    fn narrow(
        &self,
        host: &mut RequestContext,
        headers: &HeaderMap,
        path: Option<&[u8]>,
    ) -> Result<(), Refusal> {
        for (name, value) in headers.iter() {
            match self.config.to_models.judge(name, value) {
                Passage::Passes => {}
                Passage::Ends => host.headers.remove(name).map_err(unroutable)?,
                Passage::TrustedAddress => {
                    let address = host.stream.client().map(|address| address.to_string());
                    host.headers
                        .set("x-forwarded-for", &address.unwrap_or_default())
                        .map_err(unroutable)?;
                }
                Passage::Dear(beta) => return Err(Refusal::DearBeta(shown(beta, 64))),
            }
        }
        match path.and_then(as_served) {
            Some(path) => host
                .headers
                .set(":path", &String::from_utf8_lossy(&path))
                .map_err(unroutable),
            None => Ok(()),
        }
    }

    fn listen(&mut self, sent: &mut Sent, host: &mut SweepContext) -> Step {
        let Some(silence) = &mut sent.silence else {
            return Step::Continue;
        };
        if !host.root.now().is_some_and(|now| silence.is_over(now)) {
            return Step::Continue;
        }
        let Some(host) = host.enter() else {
            return Step::Continue;
        };
        let step = if silence.is_held() {
            sent.answer = Replacement::Answered;
            Fault::Silent.in_place(&sent.reader).into()
        } else {
            Step::Break
        };
        sent.silence = None;
        self.fell_silent(host, &mut sent.request);
        step
    }

    fn fell_silent(&mut self, host: &mut StreamContext, request: &mut InFlight) {
        self.metrics.fault(Fault::Silent.name(), request.target(host));
        request.fell_silent(host, &self.config.breaker);
    }

    /// Holds the body, of which `len` bytes have come, until it is whole, then routes it, if `admit` lets a request pass
    /// that has a target. `None` is as many as before.
    pub fn hold(
        &mut self,
        stream: &mut Stream,
        host: &mut RequestContext,
        len: Option<usize>,
        end: bool,
        admit: impl FnOnce(&mut RequestContext, &Routed<'_>) -> Result<(), Reply>,
    ) -> Step {
        if stream.passed {
            return Step::Continue;
        }
        let Some(held) = stream.held.take() else {
            return Step::Hold;
        };
        let came = self
            .uploads
            .came(&mut host.stream, &mut stream.upload, &held.who, len, end);
        let routed = match came {
            Err(refused) => Err(refused.into()),
            Ok(()) if !end => {
                stream.held = Some(held);
                return Step::Hold;
            }
            Ok(()) => self.whole(stream, host, &held, len.is_none(), admit),
        };
        match routed {
            Ok(admitted) => {
                self.metrics.routed();
                stream.passed = admitted.is_ok();
                admitted.map_or_else(Step::from, |()| Step::Continue)
            }
            Err(refusal) => self
                .refuse(&mut host.stream, &refusal, Some(&held.who), &held.reader)
                .into(),
        }
    }

    /// Routes a request that is whole.
    fn whole(
        &mut self,
        stream: &mut Stream,
        host: &mut RequestContext,
        held: &Held,
        trailers: bool,
        admit: impl FnOnce(&mut RequestContext, &Routed<'_>) -> Result<(), Reply>,
    ) -> Result<Result<(), Reply>, Refusal> {
        if trailers {
            drop_trailers(host).map_err(|_| Refusal::Misconfigured)?;
        }
        let body = host.body.read().map_err(|_| Refusal::Misconfigured)?;
        match held.head.coding {
            None => self.route(stream, host, held, &body, false, admit),
            Some(coding) => {
                let decoded = self.decode(&mut host.stream, &mut stream.upload, held, coding, &body)?;
                self.route(stream, host, held, &decoded, true, admit)
            }
        }
    }

    /// A body as it is once it is decoded: it takes as much from here on.
    fn decode(
        &mut self,
        host: &mut StreamContext,
        upload: &mut Upload,
        held: &Held,
        coding: Coding,
        body: &[u8],
    ) -> Result<Vec<u8>, Refusal> {
        let decoded = coding.decode(body, self.uploads.max_body())?;
        self.uploads.decoded(host, upload, &held.who, decoded.len())?;
        Ok(decoded)
    }

    /// Plans where a request goes, and sends it there once it is admitted; what is not leaves everything as it was. `decoded`
    /// if `whole` is not as it came.
    fn route(
        &mut self,
        stream: &mut Stream,
        host: &mut RequestContext,
        held: &Held,
        whole: &[u8],
        decoded: bool,
        admit: impl FnOnce(&mut RequestContext, &Routed<'_>) -> Result<(), Reply>,
    ) -> Result<Result<(), Reply>, Refusal> {
        // For a histogram alone: as if no time had passed where the clock can't be read.
        let whole_at = host.stream.now().unwrap_or(u64::MAX);
        let draw = self.draw();
        let plan = self
            .config
            .plan(&mut host.stream, &held.head, &held.who, whole, draw)?;
        let admitted = admit(host, &plan.routed(whole_at));
        let sent = match admitted {
            Ok(()) => uncoded(host, &held.head, whole, decoded)
                .and_then(|()| named(host, &plan, whole))
                .and_then(|()| forward(host, &plan, &self.config, held)),
            Err(_) => Ok(()),
        };
        let request = &mut stream.sent.insert(Sent::new(plan, held, whole_at)).request;
        if admitted.is_err() {
            request.withdraw(&mut host.stream);
        }
        sent.map(|()| admitted).map_err(unroutable)
    }

    /// Says who served and why, notes how the target did, and keeps back what is no answer to the request; `end` if no
    /// body follows.
    pub fn answer_headers(
        &mut self,
        stream: &mut Stream,
        host: &mut ResponseContext,
        headers: Option<&HeaderMap>,
        end: bool,
    ) -> Step {
        self.uploads.release(&mut host.stream, &mut stream.upload);
        let Some(sent) = &mut stream.sent else {
            return Step::Continue;
        };
        for name in headers
            .into_iter()
            .flat_map(|headers| withheld(headers, &host.stream))
        {
            or_log("remove a header of an answer", host.headers.remove(name));
        }
        sent.first_byte = None;
        for (name, value) in sent.request.introduction(&host.stream) {
            if let Some(value) = value {
                // An answer without these headers is still the answer.
                let _ = host.headers.set_beside(headers, name, &value);
            }
        }
        match headers {
            Some(headers) => self.answered(sent, host, headers, end),
            None => Step::Continue,
        }
    }

    /// The head of an answer is there.
    fn answered(
        &mut self,
        sent: &mut Sent,
        host: &mut ResponseContext,
        headers: &HeaderMap,
        end: bool,
    ) -> Step {
        let Sent { request, reader, .. } = sent;
        let status = status(headers);
        if status == 429 && host.stream.details().as_deref() == Some(TOO_LARGE) {
            // The limits refused a request that they never let pass.
            self.config.refusals.count(&mut host.stream, request.who());
        }
        if sent.streamed && !end && status == 200 {
            let model = self.config.catalogue.get(&request.model);
            let text = Kind::of(headers.get(b"content-type")).is_some();
            sent.silence = model.and_then(|model| Silence::of(model, text, || host.stream.now()));
        }
        let ending = Ending::of_answer(status, headers.get(b"retry-after"), &request.who().org, || {
            host.stream.seconds()
        });
        request.answered(&mut host.stream, &self.config.breaker, ending);
        let head = AnswerHead { status, headers, end };
        let finding = sent.answer.head(&head, || host.stream.is_answered(), reader);
        match finding.map(|finding| self.carry_out(host, request, finding)) {
            Some(Step::Continue) | None => {}
            Some(answered) => return answered,
        }
        match &sent.silence {
            Some(silence) if silence.is_held() => Step::Hold,
            _ if sent.answer.is_held() => Step::Hold,
            _ => Step::Continue,
        }
    }

    /// Counts a fault that the answer's status alone does not tell, and does what is to be done with the answer.
    fn carry_out(
        &mut self,
        host: &mut ResponseContext,
        request: &mut InFlight,
        Finding { fault, effect }: Finding,
    ) -> Step {
        let step = match effect {
            Effect::Answer(reply) => reply.into(),
            Effect::Headers(removed, set) => {
                let headers = &mut host.headers;
                let removed = removed
                    .iter()
                    .try_for_each(|name| headers.remove(name.as_bytes()));
                let done =
                    removed.and_then(|()| set.iter().try_for_each(|(name, value)| headers.set(name, value)));
                or_log("replace an answer", done);
                Step::Continue
            }
        };
        if let Some(found) = fault {
            if found.is_counted() {
                self.metrics
                    .fault(found.fault.name(), request.target(&host.stream));
            }
            request.faulty(&mut host.stream, &self.config.breaker, found.fault);
        }
        step
    }

    /// The answer's body is whole. No API has trailers; a model server's could only say what its headers may not.
    pub fn answer_trailers(&mut self, stream: &mut Stream, host: &mut ResponseContext) -> Step {
        if stream.sent.is_some()
            && let Ok(trailers) = host.trailers.read()
        {
            for (name, _) in trailers.iter() {
                let removed = host.trailers.remove(name);
                or_log("remove a header of an answer", removed);
            }
        }
        self.answer_body(stream, host, None, true)
    }

    /// A piece of the answer's body: `len` bytes are here, those that were held back included.
    pub fn answer_body(
        &mut self,
        stream: &mut Stream,
        host: &mut ResponseContext,
        len: Option<usize>,
        end: bool,
    ) -> Step {
        let Some(sent) = &mut stream.sent else {
            return Step::Continue;
        };
        if end {
            // It is whole, however slowly its client takes it.
            sent.silence = None;
        } else if let Some(silence) = &mut sent.silence {
            silence.came(|| host.body.read().ok());
        }
        match sent.answer.piece(len, end) {
            Piece::Passes => {}
            Piece::Waits => return Step::Hold,
            Piece::Replaced(bytes) => replace_body(host, &bytes),
            Piece::Unread => {
                let body = host.body.read().ok();
                let finding = sent.answer.read(body.as_deref(), end, &sent.reader);
                if let Some(finding) = finding {
                    match self.carry_out(host, &mut sent.request, finding) {
                        Step::Continue => {}
                        answered => return answered,
                    }
                }
                if let Piece::Replaced(bytes) = sent.answer.piece(len, end) {
                    replace_body(host, &bytes);
                }
            }
        }
        Step::Continue
    }

    /// A request is over. `heard` is what is known of its answer.
    pub fn end(
        &mut self,
        stream: &mut Stream,
        host: &mut LogContext,
        heard: impl FnOnce(&StreamContext) -> Heard,
    ) {
        self.uploads.release(&mut host.stream, &mut stream.upload);
        if let Some(sent) = stream.sent.take() {
            sent.request.ended(&mut host.stream, &self.config.breaker, heard);
        }
    }

    fn refuse(
        &self,
        host: &mut StreamContext,
        refusal: &Refusal,
        who: Option<&Identity>,
        reader: &Reader,
    ) -> Reply {
        self.metrics.refused(refusal);
        if let Some(who) = who.filter(|_| refusal.is_the_requests()) {
            self.config.refusals.count(host, who);
        }
        refusal.reply(reader)
    }

    fn draw(&mut self) -> u64 {
        self.draw ^= self.draw << 13;
        self.draw ^= self.draw >> 7;
        self.draw ^= self.draw << 17;
        self.draw
    }
}

/// An answer's status; zero where it has none.
pub(crate) fn status(headers: &HeaderMap) -> u16 {
    let status = headers.text(b":status").and_then(|status| status.parse().ok());
    status.unwrap_or(0)
}

/// No API has trailers; a client's could only say what its headers may not.
fn drop_trailers(host: &mut RequestContext) -> Result<(), Status> {
    let trailers = host.trailers.read()?;
    trailers
        .iter()
        .try_for_each(|(name, _)| host.trailers.remove(name))
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
fn uncoded(host: &mut RequestContext, head: &Head, whole: &[u8], decoded: bool) -> Result<(), Status> {
    if head.says_coding {
        host.headers.remove(CODING.as_bytes())?;
    }
    if !decoded {
        return Ok(());
    }
    if host.headers.get("content-length")?.is_some() {
        host.headers.set("content-length", &whole.len().to_string())?;
    }
    host.body.replace(&[whole])
}

/// Puts the model's own name in the place of another by which it was asked.
fn named(host: &mut RequestContext, plan: &Plan<'_, '_>, whole: &[u8]) -> Result<(), Status> {
    let Some(edit) = &plan.rename else {
        return Ok(());
    };
    let changed = edit.apply(whole.get(..edit.end()).unwrap_or_default());
    let changed = changed.ok_or(Status::BadArgument)?;
    host.headers.resize(edit)?;
    host.body.replace_beginning(edit.end(), &changed)
}

/// Sets what Envoy's router, the adapter and later filters go by, and has the route chosen by it.
fn forward(
    host: &mut RequestContext,
    plan: &Plan<'_, '_>,
    config: &Config,
    held: &Held,
) -> Result<(), Status> {
    for (name, value) in plan.headers(config, &held.who) {
        match value {
            Some(value) if held.head.controlled => host.headers.set(name, &value)?,
            None if held.head.controlled => host.headers.remove(name.as_bytes())?,
            // That none of them is there was seen when the headers were read.
            Some(value) => host.headers.add(name, &value)?,
            None => {}
        }
    }
    host.clear_route_cache()
}

/// Puts these bytes in the place of those that are here.
fn replace_body(host: &mut ResponseContext, bytes: &[u8]) {
    let _ = host.body.replace(&[bytes]);
}

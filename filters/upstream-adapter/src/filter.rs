//! The HTTP filter: reads the headers once, has core plan the attempt, and carries the plan out when the body is whole.

use core::cell::Cell;
use std::sync::Arc;

use tollgate_core::adapt::{
    Attempt, PROPERTY, Providers, Refusal, Renamer, SavedHeaders, Screen, Screened, Secret,
};
use tollgate_core::config::ConfigError;
use tollgate_core::fault::Fault;
use tollgate_core::plugin_config::to_json;
use tollgate_core::reply::{Reader, Reply};
use tollgate_host::{
    Attribute, Family, HeaderMap, HttpFilter, Level, RequestContext, ResponseContext, RootContext, Status,
    Step, StreamContext, log,
};

use crate::metrics::{FAMILIES, Metrics};
use crate::saved::{apply, give_back};

/// What one worker knows under one configuration.
pub struct Adapter {
    providers: Arc<Providers>,
    metrics: Metrics,
    /// Providers whose secret was missing when last asked, so that the log says it once.
    complained: Vec<Cell<bool>>,
}

/// What is remembered of an attempt.
#[derive(Default)]
pub struct Stream {
    waiting: Option<Waiting>,
    /// The place of the provider that is asked.
    asked: Option<usize>,
    /// The name of the model in the answer, where the provider has another one.
    answers_as: Option<String>,
    renamer: Option<Renamer>,
    /// The secret that was used, until the answer begins.
    used: Option<(Secret, Reader)>,
    screen: Option<Screen>,
    /// What this attempt has changed in the headers that all attempts of a request share, as it was.
    saved: Option<SavedHeaders>,
}

/// An attempt whose body is still coming.
struct Waiting {
    attempt: Attempt,
    reader: Reader,
}

/// An attempt that is not made, and at which provider.
struct Failed {
    provider: Option<usize>,
    refusal: Refusal,
}

impl HttpFilter for Adapter {
    const NAME: &'static str = "upstream-adapter";
    const UPSTREAM: bool = true;
    type Config = Providers;
    const METRICS: &'static [&'static [Family]] = &[FAMILIES];
    type Stream = Stream;

    fn check(configuration: Vec<u8>) -> Result<Providers, Vec<ConfigError>> {
        Providers::parse(&to_json(configuration)?)
    }

    fn start(providers: Arc<Providers>, _host: &mut RootContext) -> Result<Self, ConfigError> {
        Ok(Self {
            metrics: Metrics::define(&providers).map_err(ConfigError::unusable)?,
            complained: providers.iter().map(|_| Cell::new(false)).collect(),
            providers,
        })
    }

    /// Plans the attempt. Without a body it goes on at once.
    fn request_headers(&mut self, stream: &mut Stream, host: &mut RequestContext, end: bool) -> Step {
        let mut reader = Reader::default();
        match self.plan(host, &mut reader) {
            Ok(attempt) if end => self.go(stream, host, attempt, reader, None),
            Ok(attempt) => {
                stream.waiting = Some(Waiting { attempt, reader });
                Step::Hold
            }
            Err(failed) => self.refuse(stream, host, &failed, &reader),
        }
    }

    /// Waits until the body is whole.
    fn request_body(
        &mut self,
        stream: &mut Stream,
        host: &mut RequestContext,
        _len: Option<usize>,
        end: bool,
    ) -> Step {
        // A body that nobody has to look at goes on as it comes.
        let ready = |waiting: &mut Waiting| end || !waiting.attempt.looks_at_body();
        match stream.waiting.take_if(ready) {
            Some(Waiting { attempt, reader }) => {
                let body = attempt.looks_at_body().then(|| host.body.read());
                match body.transpose() {
                    Ok(body) => self.go(stream, host, attempt, reader, body),
                    Err(_) => {
                        let failed = Failed {
                            provider: Some(attempt.provider()),
                            refusal: Refusal::Misconfigured,
                        };
                        self.refuse(stream, host, &failed, &reader)
                    }
                }
            }
            None if stream.waiting.is_some() => Step::Hold,
            None => Step::Continue,
        }
    }

    /// The answer begins: what is made of the request's headers from here on (the answer's own headers, the access
    /// log) is about the client's request. Of the provider's headers those go on that it may say. `end` if there is no body.
    fn response_headers(&mut self, stream: &mut Stream, host: &mut ResponseContext, end: bool) -> Step {
        give_back(&mut stream.saved, &mut host.request);
        let asked = stream.asked.and_then(|at| self.providers.iter().nth(at));
        let asked = asked.filter(|provider| provider.credential.is_some());
        if asked.is_none() && stream.answers_as.is_none() {
            return Step::Continue;
        }
        let adapted = host.headers.read().and_then(|headers| {
            let mut screen = stream
                .used
                .take()
                .map(|(secret, reader)| screen(secret, reader, &headers));
            let mut tells = |value: &[u8]| screen.as_mut().is_some_and(|screen| screen.is_in_header(value));
            if let Some(provider) = asked {
                let mut unwanted = headers.iter().filter(|(name, value)| {
                    !provider.says(name) || (!name.starts_with(b":") && tells(value))
                });
                unwanted.try_for_each(|(name, _)| host.headers.remove(name))?;
            }
            let renamer = stream
                .answers_as
                .as_deref()
                .and_then(|name| renamer(name, &headers));
            // Its length will be another. Where that can't be said the answer stays as it is.
            let resized =
                |len| renamer.is_some() || screen.as_ref().is_some_and(|screen| screen.may_resize(len));
            let length = headers.text(b"content-length");
            let length = length.map(|length| length.parse().unwrap_or(usize::MAX));
            if length.is_some_and(resized) {
                host.headers.remove(b"content-length")?;
            }
            stream.renamer = renamer;
            let holds = !end && screen.as_ref().is_some_and(Screen::holds_headers);
            stream.screen = screen.filter(|screen| !end && !screen.is_done());
            Ok(if holds { Step::Hold } else { Step::Continue })
        });
        adapted.unwrap_or_else(|status| {
            log(
                Level::Error,
                &format!("upstream-adapter: cannot change the headers of an answer: {status:?}"),
            );
            Step::Continue
        })
    }

    /// Lets nothing pass that tells of our credential, and puts the catalogue's name of the model in the place of the
    /// provider's.
    fn response_body(
        &mut self,
        stream: &mut Stream,
        host: &mut ResponseContext,
        len: usize,
        end: bool,
    ) -> Step {
        if stream
            .screen
            .as_ref()
            .is_some_and(|screen| screen.waits(len, end))
        {
            return Step::Hold;
        }
        if stream.screen.is_none() && (stream.renamer.is_none() || len == 0) {
            return Step::Continue;
        }
        let waited = stream
            .screen
            .as_ref()
            .is_some_and(|screen| screen.waits(0, false));
        let changed = change_body(stream, host, len, end);
        changed.unwrap_or_else(|status| {
            // What follows can't be told from what is in the middle of something.
            (stream.renamer, stream.screen) = (None, None);
            if waited {
                let _ = host.body.replace(&[]);
            }
            log(
                Level::Error,
                &format!("upstream-adapter: cannot change an answer: {status:?}"),
            );
            Step::Continue
        })
    }

    /// The answer's body is whole.
    fn response_trailers(&mut self, stream: &mut Stream, host: &mut ResponseContext) -> Step {
        match &stream.screen {
            // It waited.
            Some(screen) if screen.waits(0, false) || screen.holds_headers() => {
                let len = host.body.read().map_or(0, |body| body.len());
                self.response_body(stream, host, len, true)
            }
            _ => Step::Continue,
        }
    }

    /// Undoes what this attempt has changed: Envoy forgets a stream before it begins another attempt, answers by itself, or
    /// logs the request.
    fn give_back(&mut self, stream: &mut Stream, host: &mut RequestContext) {
        give_back(&mut stream.saved, &mut host.headers);
    }

    fn orphaned() -> Reply {
        Refusal::Misconfigured.reply(&Reader::default())
    }
}

impl Adapter {
    fn plan(&self, host: &mut RequestContext, reader: &mut Reader) -> Result<Attempt, Failed> {
        let nowhere = |refusal| Failed {
            provider: None,
            refusal,
        };
        give_back_for_another(host).map_err(|_| nowhere(Refusal::Misconfigured))?;
        let headers = host.headers.read().map_err(|_| nowhere(Refusal::Misconfigured))?;
        *reader = Reader::of(headers.get(b":path"), headers.text(b"x-request-id"));
        let provider = self.provider(&host.stream).map_err(nowhere)?;
        let at = |refusal| Failed {
            provider: Some(provider),
            refusal,
        };
        let headers: Vec<_> = headers.iter().collect();
        let attempt = self.providers.attempt(provider, &headers).map_err(at)?;
        // Now, and not with the rest: nothing that happens to this attempt may let them through.
        for name in attempt.stripped() {
            host.headers
                .remove(name)
                .map_err(|_| at(Refusal::Misconfigured))?;
        }
        if let Some(complained) = self.complained.get(provider) {
            complained.set(false);
        }
        Ok(attempt)
    }

    fn provider(&self, host: &StreamContext) -> Result<usize, Refusal> {
        let name = host
            .attribute(Attribute::Provider)
            .map_err(|_| Refusal::NoProvider)?;
        let name = core::str::from_utf8(&name).map_err(|_| Refusal::UnknownProvider)?;
        self.providers.find(name).ok_or(Refusal::UnknownProvider)
    }

    fn go(
        &self,
        stream: &mut Stream,
        host: &mut RequestContext,
        mut attempt: Attempt,
        reader: Reader,
        body: Option<Vec<u8>>,
    ) -> Step {
        let provider = attempt.provider();
        match self.carry_out(stream, host, &mut attempt, body) {
            Ok(()) => {
                self.metrics.adapted(provider);
                stream.asked = Some(provider);
                stream.answers_as = self.providers.answers_as(&attempt).map(str::to_owned);
                stream.used = attempt.take_secret().map(|secret| (secret, reader));
                Step::Continue
            }
            Err(refusal) => {
                let failed = Failed {
                    provider: Some(provider),
                    refusal,
                };
                self.refuse(stream, host, &failed, &reader)
            }
        }
    }

    fn carry_out(
        &self,
        stream: &mut Stream,
        host: &mut RequestContext,
        attempt: &mut Attempt,
        body: Option<Vec<u8>>,
    ) -> Result<(), Refusal> {
        if let Some(body) = body.filter(|body| !body.is_empty())
            && let Some(rename) = self.providers.rename(attempt, &body)?
        {
            let (before, behind) = rename.around(&body);
            host.body
                .replace(&[before, &rename.text, behind])
                .map_err(failed)?;
            attempt.resized(before.len() + rename.text.len() + behind.len());
        }
        if !attempt.saved().is_empty() {
            // The next attempt finds it, should this one be unable to give back.
            host.stream
                .set_state(PROPERTY, &attempt.saved().encode())
                .map_err(failed)?;
            // From here on it is given back, however far the changes get.
            stream.saved = Some(attempt.saved().clone());
        }
        for change in attempt.changes() {
            apply(&mut host.headers, change).map_err(failed)?;
        }
        Ok(())
    }

    fn refuse(
        &self,
        stream: &mut Stream,
        host: &mut RequestContext,
        failed: &Failed,
        reader: &Reader,
    ) -> Step {
        self.metrics.refused(failed.provider, &failed.refusal);
        self.complain(failed);
        (stream.waiting, stream.asked) = (None, None);
        give_back(&mut stream.saved, &mut host.headers);
        failed.refusal.reply(reader).into()
    }

    fn complain(&self, failed: &Failed) {
        let (Some(at), Refusal::MissingSecret) = (failed.provider, &failed.refusal) else {
            return;
        };
        let credential = self
            .providers
            .iter()
            .nth(at)
            .and_then(|provider| provider.credential.as_ref());
        let before = self.complained.get(at).map(|complained| complained.replace(true));
        if let (Some(credential), Some(false)) = (credential, before) {
            log(
                Level::Error,
                &format!(
                    "upstream-adapter: no usable secret {} (header {} in front of this filter): requests are refused",
                    credential.secret, credential.from
                ),
            );
        }
    }
}

/// What screens an answer for which this secret was used.
fn screen(secret: Secret, reader: Reader, headers: &HeaderMap) -> Screen {
    let status = headers.text(b":status").and_then(|status| status.parse().ok());
    let coding = headers.get(b"content-encoding");
    Screen::new(
        secret,
        reader,
        status.unwrap_or(0),
        headers.get(b"content-type").unwrap_or_default(),
        coding.unwrap_or_default(),
    )
}

/// Changes the piece of an answer that is here.
fn change_body(
    stream: &mut Stream,
    host: &mut ResponseContext,
    len: usize,
    end: bool,
) -> Result<Step, Status> {
    let piece = match len {
        0 => Vec::new(),
        _ => host.body.read()?,
    };
    let mut changed = None;
    if let Some(screen) = &mut stream.screen {
        let held = screen.holds_headers();
        match screen.push(&piece, end) {
            Screened::Waits => return Ok(Step::Hold),
            Screened::Whole => {}
            Screened::Changed(new) => changed = Some(new),
            Screened::Failed(status, new) => {
                host.headers.set(":status", &status.to_string())?;
                host.headers.set("content-type", "application/json")?;
                // An error names its model as the provider has it.
                stream.renamer = None;
                changed = Some(new);
            }
        }
        let resized = screen.may_resize(len) || changed.as_ref().is_some_and(|new| new.len() != len);
        if held && resized {
            host.headers.remove(b"content-length")?;
        }
        if held && screen.is_decoded() {
            host.headers.remove(b"content-encoding")?;
        }
        for fault in screen.faults() {
            count(&host.stream, fault);
        }
    }
    if let Some(renamer) = &mut stream.renamer {
        changed = renamer.push(changed.as_ref().unwrap_or(&piece)).or(changed);
    }
    if let Some(new) = changed {
        host.body.replace(&[&new])?;
    }
    Ok(Step::Continue)
}

/// Counts a fault of the cluster that is asked.
fn count(host: &StreamContext, fault: Fault) {
    let cluster = host.attribute(Attribute::Cluster).unwrap_or_default();
    Metrics::fault(fault, core::str::from_utf8(&cluster).unwrap_or_default());
}

/// What renames an answer; `None` for an error, which passes as the model server has it.
fn renamer(name: &str, headers: &HeaderMap) -> Option<Renamer> {
    let good = headers.get(b":status")?.starts_with(b"2");
    good.then(|| {
        Renamer::new(
            name,
            headers.get(b"content-type"),
            headers.get(b"content-encoding"),
        )
    })?
}

/// Undoes what an earlier attempt of this request changed and could not give back.
fn give_back_for_another(host: &mut RequestContext) -> Result<(), Status> {
    match host.stream.state(PROPERTY) {
        Ok(state) => {
            let saved = SavedHeaders::decode(&state).ok_or(Status::BadArgument)?;
            saved
                .changes()
                .try_for_each(|change| apply(&mut host.headers, change))
        }
        Err(Status::NotFound) => Ok(()),
        Err(status) => Err(status),
    }
}

fn failed(status: Status) -> Refusal {
    log(
        Level::Error,
        &format!("upstream-adapter: cannot change a request: {status:?}"),
    );
    Refusal::Misconfigured
}

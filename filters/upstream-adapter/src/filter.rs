//! The HTTP filter: reads the headers once, has core plan the attempt, and carries the plan out when the body is whole.

use core::cell::Cell;

use tollgate_core::adapt::{Attempt, Kept, PROPERTY, Providers, Refusal, Renamer, Screen, Screened, Secret};
use tollgate_core::fault::Fault;
use tollgate_core::reply::{Reader, Reply};
use tollgate_host::{
    Action, Buffer, HeaderMap, Level, Map, Status, answer, log, property, read_buffer, remove_header,
    replace_in_buffer, set_header, set_property,
};

use crate::lent::{Lent, apply};
use crate::metrics::Metrics;

/// Where the chosen endpoint's metadata has the provider's name.
const PROVIDER: [&str; 5] = [
    "xds",
    "upstream_host_metadata",
    "filter_metadata",
    "tollgate",
    "provider",
];

/// One configuration of the filter.
pub struct Adapter {
    providers: Providers,
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
    lent: Option<Lent>,
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

impl Adapter {
    /// Sets the filter up. `Err` where its metrics can't be defined.
    pub fn new(providers: Providers) -> Result<Self, Status> {
        Ok(Self {
            metrics: Metrics::define(&providers)?,
            complained: providers.iter().map(|_| Cell::new(false)).collect(),
            providers,
        })
    }

    /// Plans the attempt. Without a body it goes on at once.
    pub fn request_headers(&mut self, stream: &mut Stream, end: bool) -> Action {
        let mut reader = Reader::default();
        let planned = self.plan(&mut reader);
        match planned {
            Ok(attempt) if end => self.go(stream, attempt, reader, None),
            Ok(attempt) => {
                stream.waiting = Some(Waiting { attempt, reader });
                Action::Pause
            }
            Err(failed) => self.refuse(stream, &failed, &reader),
        }
    }

    fn plan(&self, reader: &mut Reader) -> Result<Attempt, Failed> {
        let nowhere = |refusal| Failed {
            provider: None,
            refusal,
        };
        give_back_for_another().map_err(|_| nowhere(Refusal::Misconfigured))?;
        let headers = HeaderMap::read(Map::Request).map_err(|_| nowhere(Refusal::Misconfigured))?;
        *reader = Reader::of(headers.get(b":path"), headers.text(b"x-request-id"));
        let provider = self.provider().map_err(nowhere)?;
        let at = |refusal| Failed {
            provider: Some(provider),
            refusal,
        };
        let headers: Vec<_> = headers.iter().collect();
        let attempt = self.providers.attempt(provider, &headers).map_err(at)?;
        // Now, and not with the rest: nothing that happens to this attempt may let them through.
        for name in attempt.gone() {
            remove_header(Map::Request, name).map_err(|_| at(Refusal::Misconfigured))?;
        }
        if let Some(complained) = self.complained.get(provider) {
            complained.set(false);
        }
        Ok(attempt)
    }

    fn provider(&self) -> Result<usize, Refusal> {
        let name = property(&PROVIDER).map_err(|_| Refusal::NoProvider)?;
        let name = core::str::from_utf8(&name).map_err(|_| Refusal::UnknownProvider)?;
        self.providers.find(name).ok_or(Refusal::UnknownProvider)
    }

    /// Waits until the body is whole.
    pub fn request_body(&mut self, stream: &mut Stream, end: bool) -> Action {
        // A body that nobody has to look at goes on as it comes.
        let ready = |waiting: &mut Waiting| end || !waiting.attempt.looks_at_body();
        match stream.waiting.take_if(ready) {
            Some(Waiting { attempt, reader }) => {
                let body = attempt.looks_at_body().then(|| read_buffer(Buffer::RequestBody));
                match body.transpose() {
                    Ok(body) => self.go(stream, attempt, reader, body),
                    Err(_) => {
                        let failed = Failed {
                            provider: Some(attempt.provider()),
                            refusal: Refusal::Misconfigured,
                        };
                        self.refuse(stream, &failed, &reader)
                    }
                }
            }
            None if stream.waiting.is_some() => Action::Pause,
            None => Action::Continue,
        }
    }

    fn go(&self, stream: &mut Stream, mut attempt: Attempt, reader: Reader, body: Option<Vec<u8>>) -> Action {
        let provider = attempt.provider();
        match self.carry_out(stream, &mut attempt, body) {
            Ok(()) => {
                self.metrics.adapted(provider);
                stream.asked = Some(provider);
                stream.answers_as = self.providers.answers_as(&attempt).map(str::to_owned);
                stream.used = attempt.take_secret().map(|secret| (secret, reader));
                Action::Continue
            }
            Err(refusal) => {
                let failed = Failed {
                    provider: Some(provider),
                    refusal,
                };
                self.refuse(stream, &failed, &reader)
            }
        }
    }

    fn carry_out(
        &self,
        stream: &mut Stream,
        attempt: &mut Attempt,
        body: Option<Vec<u8>>,
    ) -> Result<(), Refusal> {
        if let Some(body) = body.filter(|body| !body.is_empty())
            && let Some(rename) = self.providers.rename(attempt, &body)?
        {
            let (before, behind) = rename.around(&body);
            replace_body([before, &rename.text, behind], body.len()).map_err(failed)?;
            attempt.resized(before.len() + rename.text.len() + behind.len());
        }
        if !attempt.kept().is_empty() {
            // The next attempt finds it, should this one be unable to give back.
            set_property(PROPERTY, &attempt.kept().encode()).map_err(failed)?;
            stream.lent = Some(Lent::new(attempt.kept().clone()));
        }
        for change in attempt.changes() {
            apply(change).map_err(failed)?;
        }
        Ok(())
    }

    /// The answer begins: what is made of the request's headers from here on (the answer's own headers, the access
    /// log) is about the client's request. Of the provider's headers those go on that it may say. `end` if there is no body.
    pub fn response_headers(&self, stream: &mut Stream, end: bool) -> Action {
        stream.lent = None;
        let asked = stream.asked.and_then(|at| self.providers.iter().nth(at));
        let asked = asked.filter(|provider| provider.credential.is_some());
        if asked.is_none() && stream.answers_as.is_none() {
            return Action::Continue;
        }
        let adapted = HeaderMap::read(Map::Response).and_then(|headers| {
            let mut screen = stream
                .used
                .take()
                .map(|(secret, reader)| screen(secret, reader, &headers));
            let mut tells = |value: &[u8]| screen.as_mut().is_some_and(|screen| screen.is_in_header(value));
            if let Some(provider) = asked {
                let mut unwanted = headers.iter().filter(|(name, value)| {
                    !provider.says(name) || (!name.starts_with(b":") && tells(value))
                });
                unwanted.try_for_each(|(name, _)| remove_header(Map::Response, name))?;
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
                remove_header(Map::Response, b"content-length")?;
            }
            stream.renamer = renamer;
            let holds = !end && screen.as_ref().is_some_and(Screen::holds_headers);
            stream.screen = screen.filter(|screen| !end && !screen.is_done());
            Ok(if holds { Action::Pause } else { Action::Continue })
        });
        adapted.unwrap_or_else(|status| {
            log(
                Level::Error,
                &format!("upstream-adapter: cannot change the headers of an answer: {status:?}"),
            );
            Action::Continue
        })
    }

    /// Lets nothing pass that tells of our credential, and puts the catalogue's name of the model in the place of the
    /// provider's.
    pub fn response_body(stream: &mut Stream, len: usize, end: bool) -> Action {
        if stream
            .screen
            .as_ref()
            .is_some_and(|screen| screen.waits(len, end))
        {
            return Action::Pause;
        }
        if stream.screen.is_none() && (stream.renamer.is_none() || len == 0) {
            return Action::Continue;
        }
        let waited = stream
            .screen
            .as_ref()
            .is_some_and(|screen| screen.waits(0, false));
        let changed = change_body(stream, len, end);
        changed.unwrap_or_else(|status| {
            // What follows can't be told from what is in the middle of something.
            (stream.renamer, stream.screen) = (None, None);
            if waited {
                let _ = replace_in_buffer(Buffer::ResponseBody, 0, len, b"");
            }
            log(
                Level::Error,
                &format!("upstream-adapter: cannot change an answer: {status:?}"),
            );
            Action::Continue
        })
    }

    /// The answer's body is whole.
    pub fn response_trailers(stream: &mut Stream) -> Action {
        match &stream.screen {
            // It waited.
            Some(screen) if screen.waits(0, false) || screen.holds_headers() => {
                let len = read_buffer(Buffer::ResponseBody).map_or(0, |body| body.len());
                Self::response_body(stream, len, true)
            }
            _ => Action::Continue,
        }
    }

    fn refuse(&self, stream: &mut Stream, failed: &Failed, reader: &Reader) -> Action {
        self.metrics.refused(failed.provider, &failed.refusal);
        self.complain(failed);
        (stream.waiting, stream.asked, stream.lent) = (None, None, None);
        refuse(&failed.refusal, reader)
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
fn change_body(stream: &mut Stream, len: usize, end: bool) -> Result<Action, Status> {
    let piece = match len {
        0 => Vec::new(),
        _ => read_buffer(Buffer::ResponseBody)?,
    };
    let mut changed = None;
    if let Some(screen) = &mut stream.screen {
        let held = screen.holds_headers();
        match screen.push(&piece, end) {
            Screened::Waits => return Ok(Action::Pause),
            Screened::Whole => {}
            Screened::Changed(new) => changed = Some(new),
            Screened::Failed(status, new) => {
                set_header(Map::Response, ":status", &status.to_string())?;
                set_header(Map::Response, "content-type", "application/json")?;
                // An error names its model as the provider has it.
                stream.renamer = None;
                changed = Some(new);
            }
        }
        let resized = screen.may_resize(len) || changed.as_ref().is_some_and(|new| new.len() != len);
        if held && resized {
            remove_header(Map::Response, b"content-length")?;
        }
        if held && screen.is_decoded() {
            remove_header(Map::Response, b"content-encoding")?;
        }
        for fault in screen.faults() {
            count(fault);
        }
    }
    if let Some(renamer) = &mut stream.renamer {
        changed = renamer.push(changed.as_ref().unwrap_or(&piece)).or(changed);
    }
    if let Some(new) = changed {
        replace_in_buffer(Buffer::ResponseBody, 0, len, &new)?;
    }
    Ok(Action::Continue)
}

/// Counts a fault of the cluster that is asked.
fn count(fault: Fault) {
    let cluster = property(&["xds", "cluster_name"]).unwrap_or_default();
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
fn give_back_for_another() -> Result<(), Status> {
    match property(&[PROPERTY]) {
        Ok(state) => {
            let kept = Kept::decode(&state).ok_or(Status::BadArgument)?;
            kept.changes().try_for_each(apply)
        }
        Err(Status::NotFound) => Ok(()),
        Err(status) => Err(status),
    }
}

/// Envoy can put bytes in the place of a body, before it, and behind it; so nothing is joined here first.
fn replace_body([before, name, behind]: [&[u8]; 3], len: usize) -> Result<(), Status> {
    const END: usize = u32::MAX as usize;
    replace_in_buffer(Buffer::RequestBody, 0, len, name)?;
    replace_in_buffer(Buffer::RequestBody, 0, 0, before)?;
    replace_in_buffer(Buffer::RequestBody, END, 0, behind)
}

fn failed(status: Status) -> Refusal {
    log(
        Level::Error,
        &format!("upstream-adapter: cannot change a request: {status:?}"),
    );
    Refusal::Misconfigured
}

/// Answers in place of the provider.
pub(crate) fn refuse(refusal: &Refusal, reader: &Reader) -> Action {
    answer(
        "upstream-adapter",
        &Reply::error(&refusal.answer(), refusal.reason(), reader),
    )
}

//! The HTTP filter on the request's way: reserves what the request may use, or refuses it.

use std::rc::Rc;

use tollgate_core::body::Edit;
use tollgate_core::config::ConfigError;
use tollgate_core::endpoint::{Dialect, Endpoint};
use tollgate_core::error::ApiError;
use tollgate_core::identity::{Identity, PROPERTY as IDENTITY};
use tollgate_core::limits::estimates::Estimates;
use tollgate_core::limits::fair::{self, CapacitySlot};
use tollgate_core::limits::{Admitted, Amounts, Ask, Backlog, Reason, Reservation, Subject, unavailable};
use tollgate_core::reply::{Reader, Reply};
use tollgate_core::route::{Refusal as Misrouted, Routed};
use tollgate_core::settlement::{Answer, Pending, Terms};
use tollgate_core::usage::{UsageEvent, record};
use tollgate_core::workers::Workers;
use tollgate_host::{
    Action, Buffer, Host, Level, Map, Status, answer, client_address, header, log, now_nanos, number,
    property, read_buffer, replace_in_buffer, set_header,
};

use crate::config::Config;
use crate::kept::{holding, join};
use crate::metrics::Metrics;

/// One configuration of the filter.
pub struct RateLimit {
    pub(crate) config: Config,
    pub(crate) workers: Workers,
    pub(crate) estimates: Estimates,
    pub(crate) metrics: Metrics,
    /// Settlements that the store did not take; tried again with every tick.
    pub(crate) backlog: Backlog,
}

/// What is remembered of a request.
#[derive(Default)]
pub struct Stream(pub(crate) State);

impl Stream {
    /// Whether an attempt that a model server has begun on may have been given up and repeated.
    pub fn repeats(&self) -> bool {
        matches!(&self.0, State::Open(open) if open.terms.repeats)
    }

    /// Whether an answer that began with success said that something went wrong: its target has failed.
    pub fn is_errored(&self) -> bool {
        matches!(&self.0, State::Open(open) if open.answer.as_ref().is_some_and(Answer::is_errored))
    }

    /// Whether an answer of a model server came to its end.
    pub fn is_whole(&self) -> bool {
        matches!(&self.0, State::Open(open) if open.answer.as_ref().is_some_and(Answer::is_whole))
    }
}

#[derive(Default)]
pub(crate) enum State {
    /// It did not come here yet; if it never does, another filter refused it.
    #[default]
    Unseen,
    /// It passed, and is settled when it ends.
    Open(Box<Open>),
    /// It was refused here, or is settled already: nothing is left but the record.
    Refused(Box<Refused>),
}

/// A request in flight.
pub(crate) struct Open {
    pub(crate) names: Names,
    pub(crate) terms: Terms,
    pub(crate) reservation: Reservation,
    pub(crate) slot: Option<CapacitySlot>,
    pub(crate) would_limit: Vec<String>,
    /// What the answer's headers tell of the limits.
    pub(crate) headers: Vec<(&'static str, String)>,
    /// A change of the body that is still to be made.
    edit: Option<Edit<'static>>,
    /// Whether the event with the usage is there for us alone.
    pub(crate) usage_event: UsageEvent,
    pub(crate) began: u64,
    pub(crate) answer: Option<Answer>,
}

/// A request that was refused here.
pub(crate) struct Refused {
    pub(crate) names: Names,
    pub(crate) stream: bool,
    pub(crate) reserved: Amounts,
    /// The limit; `None` for the model's capacity or a failed store.
    pub(crate) limit: Option<String>,
    pub(crate) would_limit: Vec<String>,
}

/// Whose request it is, and for what.
pub(crate) struct Names {
    pub(crate) who: Rc<Identity>,
    pub(crate) endpoint: Endpoint,
    pub(crate) model: String,
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
            config,
            workers,
            estimates: Estimates::default(),
            metrics,
            backlog: Backlog::default(),
        })
    }

    /// Called every [`crate::module::TICK_MILLIS`], and when nothing more comes.
    pub fn tick(&mut self) {
        if self.workers.tick(&mut Host).is_err() {
            log(Level::Error, "rate-limit: the shared data cannot be written");
        }
        let now = now_nanos();
        self.estimates.tick(&mut Host, now.unwrap_or(0) / 1_000_000_000);
        self.metrics.tick();
        if let Ok(now) = now {
            self.pending(|pending| pending.tick(&mut Host, now));
        }
    }

    /// Where settlements go that are not done yet.
    pub(crate) fn pending<T>(&mut self, then: impl FnOnce(&mut Pending<'_>) -> T) -> T {
        holding(|holds| {
            then(&mut Pending {
                backlog: &mut self.backlog,
                holds,
                hold_for: self.config.abandoned_hold.nanos(),
            })
        })
    }

    /// Judges a request that the router has read.
    pub fn judge(&mut self, stream: &mut Stream, who: Rc<Identity>, routed: &Routed<'_>) -> Action {
        let Ok(now) = now_nanos() else {
            return misconfigured();
        };
        let estimator = self.estimates.of(&mut Host, &who.org, &routed.model);
        let (terms, certain) = Terms::of(routed, &estimator);
        let names = Names {
            who,
            endpoint: routed.endpoint,
            model: routed.model.clone().into_owned(),
        };
        let caller = names.who.caller();
        let subject = Subject {
            key: caller.key_id,
            org: caller.org,
            project: caller.project,
            tier: caller.tier,
            model: &names.model,
            endpoint: names.endpoint,
            address: self.config.by_address.then(client_address).flatten(),
        };
        match self.reserve(&subject, terms.reserved, certain, now) {
            Ok((admitted, slot)) => {
                let dialect = dialect(routed.endpoint);
                let open = Open {
                    headers: admitted.headers(&self.config.limits, dialect, now),
                    would_limit: self.shadowed(&admitted.would_refuse),
                    reservation: admitted.reservation,
                    slot,
                    terms,
                    edit: routed.ask_usage.as_ref().map(owned),
                    usage_event: if routed.ask_usage.is_some() {
                        UsageEvent::Strip
                    } else {
                        UsageEvent::Pass
                    },
                    began: now,
                    answer: None,
                    names,
                };
                self.metrics
                    .began(now_nanos().unwrap_or(now).saturating_sub(routed.whole_at));
                stream.0 = State::Open(Box::new(open));
                Action::Continue
            }
            Err(refusal) => {
                stream.0 = State::Refused(Box::new(Refused {
                    limit: refusal.limit.clone(),
                    would_limit: refusal.would_limit.clone(),
                    stream: routed.stream,
                    reserved: terms.reserved,
                    names,
                }));
                let reader = Reader {
                    dialect: dialect(routed.endpoint),
                    endpoint: Some(routed.endpoint),
                    request_id: text("x-request-id"),
                };
                refuse(*refusal, &reader)
            }
        }
    }

    /// Reserves with every limit, and a slot of the model. What is refused holds nothing.
    fn reserve(
        &mut self,
        subject: &Subject<'_>,
        amounts: Amounts,
        certain: Amounts,
        now: u64,
    ) -> Result<(Admitted, Option<CapacitySlot>), Box<Refusal>> {
        let table = &self.config.limits;
        let ask = Ask {
            subject,
            now,
            amounts,
            certain,
            workers: &self.workers,
        };
        let admitted = match table.reserve(&mut Host, &ask) {
            Ok(admitted) => admitted,
            Err(refused) => {
                let mut refusal = Refusal {
                    error: refused.answer(table, subject),
                    headers: refused.headers(table, dialect(subject.endpoint), now),
                    limit: None,
                    would_limit: Vec::new(),
                };
                if let Reason::Limited(denied) = &refused.reason {
                    refusal.limit = table.row(denied.status.row).map(|row| row.name.clone());
                    refusal.would_limit = self.shadowed(&denied.would_refuse);
                    self.metrics.limited(denied.status.row);
                }
                self.backlog.keep(refused.unreturned.map_or(Ok(()), Err));
                return Err(Box::new(refusal));
            }
        };
        let Some(capacity) = self.config.capacities.of(subject.model) else {
            return Ok((admitted, None));
        };
        let whose = (subject.model, subject.org, subject.tier);
        let error = match capacity.take(&mut Host, &self.workers, whose, now) {
            Ok(Some(slot)) => return Ok((admitted, Some(slot))),
            Ok(None) => fair::slow_down(subject.model),
            Err(_) => unavailable(),
        };
        let refusal = Refusal {
            error,
            headers: admitted.headers(table, dialect(subject.endpoint), now),
            limit: None,
            would_limit: self.shadowed(&admitted.would_refuse),
        };
        self.metrics.slowed_down();
        self.backlog.keep(admitted.reservation.cancel(&mut Host, now));
        Err(Box::new(refusal))
    }

    /// The names of limits in shadow mode that would have refused, which are counted.
    fn shadowed(&self, rows: &[usize]) -> Vec<String> {
        rows.iter()
            .filter_map(|row| {
                self.metrics.would_limit(*row);
                Some(self.config.limits.row(*row)?.name.clone())
            })
            .collect()
    }

    /// Says how long the body of a request that was admitted will be, once its headers are what they are without that.
    pub fn announce(stream: &Stream) -> Action {
        match &stream.0 {
            State::Open(open)
                if open
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
        let State::Open(open) = &mut stream.0 else {
            return Action::Pause;
        };
        let Some(edit) = &open.edit else {
            return Action::Continue;
        };
        if !end && len < edit.at as usize + edit.len as usize {
            return Action::Pause;
        }
        match make(edit) {
            Ok(()) => {
                open.edit = None;
                Action::Continue
            }
            Err(_) => misconfigured(),
        }
    }
}

/// Why a request may not pass, and what its client is told.
struct Refusal {
    error: ApiError,
    headers: Vec<(&'static str, String)>,
    limit: Option<String>,
    would_limit: Vec<String>,
}

fn dialect(endpoint: Endpoint) -> Dialect {
    match endpoint {
        Endpoint::Messages => Dialect::Anthropic,
        _ => Dialect::OpenAi,
    }
}

fn owned(edit: &Edit<'_>) -> Edit<'static> {
    Edit {
        at: edit.at,
        len: edit.len,
        text: edit.text.clone().into_owned().into(),
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

fn refuse(refusal: Refusal, reader: &Reader) -> Action {
    let Refusal { error, headers, .. } = refusal;
    let told = headers.into_iter().map(|(name, value)| (name, value.into()));
    answer("rate-limit", &Reply::error(&error, error.code, reader).with(told))
}

/// A header of the current request.
fn text(name: &str) -> Option<String> {
    String::from_utf8(header(Map::Request, name).ok()??).ok()
}

/// Answers what cannot be checked: there is no identity or no request in front, or the proxy refuses.
pub fn misconfigured() -> Action {
    let refusal = Refusal {
        error: Misrouted::Misconfigured.answer(),
        headers: Vec::new(),
        limit: None,
        would_limit: Vec::new(),
    };
    let reader = Reader::of(
        text(":path").as_deref().map(str::as_bytes),
        text("x-request-id").as_deref(),
    );
    refuse(refusal, &reader)
}

/// The members of a record of a request that another filter answered; `None` if nobody knows whose it is.
pub(crate) fn answered_elsewhere() -> Option<String> {
    let who = Identity::decode(&property(&[IDENTITY]).ok()?)?;
    let outcome = match number(&["response", "code"]) {
        // The list of models.
        200..400 => record::Outcome::Complete,
        _ => record::Outcome::Refused,
    };
    let record = record::Record {
        caller: who.caller(),
        request: None,
        outcome,
        used: record::Used::NOTHING,
        first_byte_ms: None,
        limit: None,
        would_limit: &[],
    };
    Some(record.members())
}

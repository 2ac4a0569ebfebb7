//! Whether a request may pass.

use std::net::IpAddr;
use std::rc::Rc;

use super::Limiter;
use crate::body::Edit;
use crate::budget::Terms as Budget;
use crate::endpoint::Endpoint;
use crate::error::ApiError;
use crate::exchange::Host;
use crate::identity::Identity;
use crate::journal::Known;
use crate::limits::estimate::Estimator;
use crate::limits::fair::{CapacitySlot, slow_down};
use crate::limits::{
    Admitted, Amounts, Ask, LimitStatus, Reason, Refusal, Refused, Reservation, Subject, unavailable,
};
use crate::reply::{Reader, Reply};
use crate::route::Routed;
use crate::settlement::{self, Answer, Terms};
use crate::spending::{self, Claim, Expense};
use crate::trace::{LimitOutcome, Note, Trace};
use crate::usage::UsageEvent;
use crate::usage::record::{Outcome, Record};

type Header = (&'static str, String);

/// A request that the router has read.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// Whose.
    pub who: Rc<Identity>,
    /// For what.
    pub routed: &'a Routed<'a>,
    /// Its client's address, where a limit tells addresses apart.
    pub address: Option<IpAddr>,
    /// Nanoseconds since 1970.
    pub now: u64,
}

/// A request that was let through.
#[must_use = "what it holds must be settled"]
#[derive(Debug)]
pub struct InFlight {
    pub(super) who: Rc<Identity>,
    pub(super) model: String,
    pub(super) terms: Terms,
    pub(super) reservation: Reservation,
    pub(super) spending: spending::Reservation,
    pub(super) slot: Option<CapacitySlot>,
    /// Rows in shadow mode that would have refused it.
    pub(super) would_refuse: Vec<usize>,
    pub(super) began: u64,
    /// What was known of others like it.
    estimator: Estimator,
    /// What the answer's headers tell of the limits.
    pub headers: Vec<Header>,
    /// A change of the body that is still to be made: the usage is asked for.
    pub edit: Option<Edit<'static>>,
    /// What becomes of the event with the usage.
    pub usage_event: UsageEvent,
    /// The answer, once it has begun.
    pub answer: Option<Answer>,
}

impl InFlight {
    /// What it was let through on.
    pub const fn terms(&self) -> &Terms {
        &self.terms
    }

    /// When it was let through, in nanoseconds since 1970.
    pub const fn began(&self) -> u64 {
        self.began
    }

    /// Rows in shadow mode that would have refused it, by their places in the table.
    pub fn would_refuse(&self) -> &[usize] {
        &self.would_refuse
    }

    /// What its record says if nothing more is heard of it.
    pub fn so_far(&self) -> Known {
        let answer = self.answer.as_ref();
        let record = Record {
            caller: self.who.caller(),
            request: Some(self.terms.request(&self.model)),
            outcome: Outcome::Crashed,
            used: settlement::so_far(&self.terms, answer, &self.estimator),
            first_byte_ms: answer.map(Answer::first_byte_ms),
            limit: None,
            budget: None,
            would_limit: &[],
        };
        Known {
            status: answer.map_or(0, Answer::status),
            members: record.members(),
        }
    }
}

/// A request that was refused. It holds nothing.
#[derive(Debug)]
pub struct Rejection {
    grounds: Grounds,
    pub(super) who: Rc<Identity>,
    pub(super) model: String,
    pub(super) endpoint: Endpoint,
    pub(super) stream: bool,
    pub(super) reserved_tokens: u64,
}

impl Rejection {
    /// Why.
    pub const fn refusal(&self) -> Refusal {
        self.grounds.refusal
    }

    /// The operators' name of it.
    pub const fn code(&self) -> &'static str {
        self.grounds.error.code
    }

    /// Rows in shadow mode that would have refused it as well, by their places in the table.
    pub fn would_refuse(&self) -> &[usize] {
        &self.grounds.would_refuse
    }

    /// The budget that refused it.
    pub(super) fn budget(&self) -> Option<&str> {
        self.grounds.budget.as_deref()
    }

    /// What its client is told.
    pub fn reply(&self, request_id: Option<String>) -> Reply {
        let reader = Reader {
            dialect: self.endpoint.dialect(),
            endpoint: Some(self.endpoint),
            request_id,
        };
        let Grounds { error, headers, .. } = &self.grounds;
        let told = headers.iter();
        let told = told.map(|(name, value)| (*name, value.clone().into()));
        Reply::error(error, error.code, &reader).with(told)
    }
}

/// On what grounds a request is refused.
#[derive(Debug)]
struct Grounds {
    refusal: Refusal,
    error: ApiError,
    headers: Vec<Header>,
    would_refuse: Vec<usize>,
    budget: Option<String>,
}

/// What a request that passes holds.
struct Held {
    limits: Admitted,
    spending: spending::Reservation,
    slot: Option<CapacitySlot>,
}

impl Limiter {
    /// Reserves with every limit that covers the request, and takes a slot of its model; or refuses it, and it holds
    /// nothing.
    pub fn admit(
        &mut self,
        host: &mut impl Host,
        request: Request<'_>,
    ) -> Result<Box<InFlight>, Box<Rejection>> {
        let Request {
            who,
            routed,
            address,
            now,
        } = request;
        let estimator = self.estimates.of(host, &who.org, &routed.model);
        let (terms, certain) = Terms::of(routed, &estimator);
        let caller = who.caller();
        let subject = Subject {
            key: caller.key_id,
            org: caller.org,
            project: caller.project,
            tier: caller.tier,
            model: &routed.model,
            endpoint: routed.endpoint,
            address,
            overrides: &who.overrides,
        };
        host.note(|| Note::Reserved {
            amounts: terms.reserved,
            cap: terms.demand.max_output,
        });
        let model = routed.model.clone().into_owned();
        match self.reserve(host, &subject, &who.budgets, (terms.reserved, certain), now) {
            Ok(held) => Ok(Box::new(InFlight {
                headers: match self.config.limit_headers {
                    true => held
                        .limits
                        .headers(&self.config.limits, routed.endpoint.dialect(), now),
                    false => Vec::new(),
                },
                who,
                model,
                terms,
                reservation: held.limits.reservation,
                spending: held.spending,
                slot: held.slot,
                would_refuse: held.limits.would_refuse,
                began: now,
                edit: routed.ask_usage.as_ref().map(owned),
                usage_event: match routed.ask_usage {
                    Some(_) => UsageEvent::Strip,
                    None => UsageEvent::Pass,
                },
                answer: None,
                estimator,
            })),
            Err(grounds) => Err(Box::new(Rejection {
                grounds: *grounds,
                who,
                model,
                endpoint: routed.endpoint,
                stream: routed.stream,
                reserved_tokens: terms.reserved_tokens(),
            })),
        }
    }

    fn reserve(
        &mut self,
        host: &mut impl Host,
        subject: &Subject<'_>,
        budgets: &[Budget],
        (amounts, certain): (Amounts, Amounts),
        now: u64,
    ) -> Result<Held, Box<Grounds>> {
        let ask = Ask {
            subject,
            now,
            amounts,
            certain,
            workers: &self.workers,
        };
        host.note(|| Note::Rows(self.config.limits.covers(&ask)));
        let admitted = match self.config.limits.reserve(host, &ask) {
            Ok(admitted) => admitted,
            Err(refused) => return Err(self.limited(host, refused, subject, now)),
        };
        self.note(host, &admitted.statuses, |row| {
            match admitted.would_refuse.contains(&row) {
                true => LimitOutcome::WouldRefuse,
                false => LimitOutcome::Passes,
            }
        });
        for row in &admitted.unchecked {
            self.note_unchecked(host, *row);
        }
        let (admitted, spending) = self.spend(host, admitted, subject, (budgets, amounts), now)?;
        let Some(capacity) = self.config.capacities.of(subject.model) else {
            return Ok(Held {
                limits: admitted,
                spending,
                slot: None,
            });
        };
        let whose = (subject.model, subject.org, subject.tier);
        let taken = capacity.take(host, &self.workers, whose, now);
        host.note(|| Note::Capacity {
            model: subject.model.to_owned(),
            row: self.config.capacities.place(subject.model).unwrap_or_default(),
            room: matches!(taken, Ok(Some(_))),
        });
        let (refusal, error) = match taken {
            Ok(Some(slot)) => {
                return Ok(Held {
                    limits: admitted,
                    spending,
                    slot: Some(slot),
                });
            }
            Ok(None) => (Refusal::Capacity, slow_down(subject.model)),
            Err(_) => (Refusal::Unavailable, unavailable()),
        };
        let headers = admitted.headers(&self.config.limits, subject.endpoint.dialect(), now);
        self.backlog.keep(admitted.reservation.cancel(host, now));
        self.spending
            .keep(spending.settle(&Expense::default()).carry_out(host));
        Err(Box::new(Grounds {
            refusal,
            error,
            headers,
            would_refuse: admitted.would_refuse,
            budget: None,
        }))
    }

    /// Reserves from every budget that covers the request, or gives its limits back what it holds of them.
    fn spend(
        &mut self,
        host: &mut impl Host,
        admitted: Admitted,
        subject: &Subject<'_>,
        (budgets, amounts): (&[Budget], Amounts),
        now: u64,
    ) -> Result<(Admitted, spending::Reservation), Box<Grounds>> {
        let claim = Claim {
            budgets,
            most: Expense::reserved(&amounts),
            now,
            on_error: self.config.budgets_on_error,
        };
        for budget in claim.covering() {
            host.note(|| Note::Budget {
                name: budget.id.clone(),
                unit: budget.unit,
                amount: claim.most.of(budget.unit),
            });
        }
        let refused = match spending::reserve(host, &claim) {
            Ok(spending) => return Ok((admitted, spending)),
            Err(refused) => *refused,
        };
        let spending::Refused { denied, unreturned } = refused;
        self.spending.keep(unreturned.map_or(Ok(()), Err));
        let mut headers = admitted.headers(&self.config.limits, subject.endpoint.dialect(), now);
        denied.tell(&mut headers, now);
        self.backlog.keep(admitted.reservation.cancel(host, now));
        Err(Box::new(Grounds {
            refusal: Refusal::Budget,
            error: denied.answer(now),
            headers,
            would_refuse: admitted.would_refuse,
            budget: Some(denied.budget.id),
        }))
    }

    fn limited(
        &mut self,
        host: &mut impl Host,
        refused: Refused,
        subject: &Subject<'_>,
        now: u64,
    ) -> Box<Grounds> {
        let table = &self.config.limits;
        let error = refused.answer(table, subject);
        let headers = refused.headers(table, subject.endpoint.dialect(), now);
        self.backlog.keep(refused.unreturned.map_or(Ok(()), Err));
        let (refusal, would_refuse) = match refused.reason {
            Reason::Limited(denied) => {
                self.note(host, &denied.statuses, |row| match row {
                    _ if denied.refuses.contains(&row) => LimitOutcome::Refuses,
                    _ if denied.would_refuse.contains(&row) => LimitOutcome::WouldRefuse,
                    _ => LimitOutcome::Passes,
                });
                (Refusal::Limit(denied.status.row), denied.would_refuse)
            }
            Reason::Store(_) => (Refusal::Unavailable, Vec::new()),
        };
        Box::new(Grounds {
            refusal,
            error,
            headers,
            would_refuse,
            budget: None,
        })
    }

    /// Notes how each row stands.
    fn note(&self, host: &mut impl Trace, statuses: &[LimitStatus], outcome: impl Fn(usize) -> LimitOutcome) {
        for status in statuses {
            host.note(|| Note::Limit {
                name: self.name(status.row),
                used: status.used,
                remaining: status.remaining,
                outcome: outcome(status.row),
            });
        }
    }

    fn note_unchecked(&self, host: &mut impl Trace, row: usize) {
        host.note(|| Note::Limit {
            name: self.name(row),
            used: 0,
            remaining: 0,
            outcome: LimitOutcome::Unchecked,
        });
    }

    fn name(&self, row: usize) -> String {
        let row = self.config.limits.row(row);
        row.map(|row| row.name.clone()).unwrap_or_default()
    }
}

fn owned(edit: &Edit<'_>) -> Edit<'static> {
    Edit {
        at: edit.at,
        len: edit.len,
        text: edit.text.clone().into_owned().into(),
    }
}

//! Why a request went the way it did: each decision with the rule that made it, for whoever asks. A filter's host asks for
//! none, and nothing is made for it.

use core::fmt::{Display, Formatter, Result};
use core::time::Duration;

use crate::bound::Overrides;
use crate::budget::Unit;
use crate::catalogue::{Granted, Level, Pool, Route};
use crate::limits::{Amounts, Cover};

/// Where decisions are noted.
pub trait Trace {
    /// Notes one. It is only made where somebody wants it.
    fn note(&mut self, _note: impl FnOnce() -> Note) {}
}

/// One decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// Who is calling.
    Caller {
        /// The key's id, or the token's.
        key: String,
        /// Its organization.
        org: String,
        /// Its project.
        project: Option<String>,
        /// Its tier.
        tier: String,
        /// What the directory has in place of limits' own bounds.
        overrides: Overrides,
    },
    /// A check that the caller passes.
    Passed(Check),
    /// Which model is asked for.
    Model {
        /// The name that the request says.
        asked: String,
        /// The model of the catalogue; `None` where it has none of this name.
        found: Option<Found>,
    },
    /// Who may serve where no target of the model works.
    Fallback {
        /// Whether the caller may be served by another model.
        allowed: bool,
        /// Each model that may stand in, and why it can't for this request.
        models: Vec<(String, Option<&'static str>)>,
    },
    /// Another model may stand in, as no target of the one before works.
    StandIn(String),
    /// The model is not served to the caller's tier for now.
    Shed(String),
    /// What decides the order of a model's targets.
    Targets(Pool),
    /// Whether a target is asked.
    Target {
        /// Envoy's cluster.
        cluster: String,
        /// How it stands.
        state: TargetState,
    },
    /// What is reserved for the request.
    Reserved {
        /// What it may take.
        amounts: Amounts,
        /// Most tokens of one answer; `None` where nobody says, and the output is what is expected.
        cap: Option<u64>,
    },
    /// Each row of the limits: whether it covers the request, and what it takes.
    Rows(Vec<Cover>),
    /// How a limit stands for the request, with it if it passes.
    Limit {
        /// Its name.
        name: String,
        /// What of it is used: tokens, requests or millionths.
        used: u64,
        /// How much may still come at once.
        remaining: u64,
        /// What it does.
        outcome: LimitOutcome,
    },
    /// A budget covers the request.
    Budget {
        /// Its name.
        name: String,
        /// What it counts.
        unit: Unit,
        /// How much of it the request may spend.
        amount: u64,
    },
    /// Whether a model with a capacity has room.
    Capacity {
        /// The model.
        model: String,
        /// The place of its row.
        row: usize,
        /// Whether it has.
        room: bool,
    },
    /// It is refused.
    Refused {
        /// By whom.
        room: Room,
        /// The operators' name of the reason.
        reason: &'static str,
        /// The place of the limit that its client is told of.
        limit: Option<usize>,
    },
}

/// What is checked of a caller, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// The directory has it, and it is not revoked.
    Known,
    /// It is within its time.
    Time,
    /// It is used from one of its networks, at this place of the list.
    Network(usize),
    /// Its organization is not frozen.
    Organization,
    /// Its project is not.
    Project,
    /// The key itself is not.
    Status,
    /// It may be used for this endpoint.
    Scope,
}

/// A model of the catalogue, as a caller finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its own name.
    pub name: String,
    /// By which patterns it is granted, or by whom it is not.
    pub granted: core::result::Result<Granted, Level>,
}

/// Who decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// Who is calling.
    Auth,
    /// What they ask for, and where it goes.
    Route,
    /// Whether they may now.
    Limits,
}

/// How a target stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetState {
    /// It is asked first, and why.
    First(Route),
    /// It is asked if those before it fail.
    Standby,
    /// Its breaker is open for so many milliseconds.
    Open(u64),
}

/// What a limit does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitOutcome {
    /// It lets it pass.
    Passes,
    /// It refuses it.
    Refuses,
    /// It would refuse it, and only tells the operator.
    WouldRefuse,
    /// It could not be asked, and lets it pass then.
    Unchecked,
}

impl Display for Note {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Caller {
                key,
                org,
                project,
                tier,
                ..
            } => {
                write!(f, "caller: key {key} of organization {org}")?;
                if let Some(project) = project {
                    write!(f, ", project {project}")?;
                }
                write!(f, ", tier {tier}")
            }
            Self::Passed(check) => write!(f, "check: {check:?} holds"),
            Self::Model { asked, found: None } => write!(f, "model: {asked} is not in the catalogue"),
            Self::Model {
                asked,
                found: Some(found),
            } => {
                match *asked == found.name {
                    true => write!(f, "model: {asked}")?,
                    false => write!(f, "model: {asked} is {}", found.name)?,
                }
                match found.granted {
                    Ok(_) => Ok(()),
                    Err(level) => write!(f, ", not granted ({level:?})"),
                }
            }
            Self::Fallback { allowed, models } => {
                let names: Vec<&str> = models.iter().map(|(name, _)| name.as_str()).collect();
                let may = if *allowed { "may" } else { "may not" };
                write!(f, "fallback: {} {may} stand in", names.join(", "))
            }
            Self::StandIn(model) => write!(f, "model: {model} stands in"),
            Self::Shed(model) => write!(f, "model: {model} is shed"),
            Self::Targets(Pool { rule: Some(at), .. }) => write!(f, "targets: by rules[{at}]"),
            Self::Targets(Pool { .. }) => write!(f, "targets: by weight"),
            Self::Target { cluster, state } => match state {
                TargetState::First(route) => write!(f, "target {cluster}: asked first ({})", route.name()),
                TargetState::Standby => write!(f, "target {cluster}: asked if those before it fail"),
                TargetState::Open(millis) => {
                    let left = Duration::from_millis(*millis);
                    write!(f, "target {cluster}: its breaker is open, for {left:?} more")
                }
            },
            Self::Reserved { amounts, .. } => {
                write!(f, "reserved: {} input, {} output", amounts.input, amounts.output)
            }
            Self::Rows(rows) => {
                let covering = rows.iter().filter(|row| matches!(row, Cover::Takes { .. }));
                let all = rows.iter().filter(|row| **row != Cover::Uncapped);
                write!(f, "limits: {} of {} cover it", covering.count(), all.count())
            }
            Self::Limit {
                name,
                used,
                remaining,
                outcome,
            } => {
                let outcome = match outcome {
                    LimitOutcome::Passes => "passes",
                    LimitOutcome::Refuses => "refuses",
                    LimitOutcome::WouldRefuse => "would refuse",
                    LimitOutcome::Unchecked => {
                        return write!(f, "limit {name}: not checked, as the store failed");
                    }
                };
                write!(f, "limit {name}: {outcome}, {used} used, {remaining} left")
            }
            Self::Budget { name, unit, amount } => write!(f, "budget {name}: {amount} {}", unit.name()),
            Self::Capacity {
                model, room: true, ..
            } => write!(f, "capacity of {model}: a slot is taken"),
            Self::Capacity { model, .. } => write!(f, "capacity of {model}: full"),
            Self::Refused { room, reason, .. } => write!(f, "refused: {reason} ({room:?})"),
        }
    }
}

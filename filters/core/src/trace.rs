//! Why a request went the way it did: each decision with the rule that made it, for whoever asks. A filter's host asks for
//! none, and nothing is made for it.

use core::fmt::{Display, Formatter, Result};
use core::time::Duration;

use crate::catalogue::Route;

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
    },
    /// Which model is asked for.
    Model {
        /// The name that the request says.
        asked: String,
        /// The name in the catalogue.
        found: String,
    },
    /// Another model may stand in, as no target of the one before works.
    StandIn(String),
    /// What decides the order of a model's targets: the place of its rule; `None` where it is the weights.
    Rule(Option<usize>),
    /// Whether a target is asked.
    Target {
        /// Envoy's cluster.
        cluster: String,
        /// How it stands.
        state: TargetState,
    },
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
    /// Whether a model with a capacity has room.
    Capacity {
        /// The model.
        model: String,
        /// Whether it has.
        room: bool,
    },
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
            } => {
                write!(f, "caller: key {key} of organization {org}")?;
                if let Some(project) = project {
                    write!(f, ", project {project}")?;
                }
                write!(f, ", tier {tier}")
            }
            Self::Model { asked, found } if asked == found => write!(f, "model: {found}"),
            Self::Model { asked, found } => write!(f, "model: {asked} is {found}"),
            Self::StandIn(model) => write!(f, "model: {model} stands in"),
            Self::Rule(Some(at)) => write!(f, "targets: by rules[{at}]"),
            Self::Rule(None) => write!(f, "targets: by weight"),
            Self::Target { cluster, state } => match state {
                TargetState::First(route) => write!(f, "target {cluster}: asked first ({})", route.name()),
                TargetState::Standby => write!(f, "target {cluster}: asked if those before it fail"),
                TargetState::Open(millis) => {
                    let left = Duration::from_millis(*millis);
                    write!(f, "target {cluster}: its breaker is open, for {left:?} more")
                }
            },
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
            Self::Capacity { model, room: true } => write!(f, "capacity of {model}: a slot is taken"),
            Self::Capacity { model, .. } => write!(f, "capacity of {model}: full"),
        }
    }
}

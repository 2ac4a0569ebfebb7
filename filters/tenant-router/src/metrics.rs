//! What is counted. Models and targets are the operator's names, so their number is bounded; a name that a client
//! made up is never part of one.

use tollgate_core::route::Refusal;
use tollgate_host::{Counter, Result};

/// Requests by decision and reason.
pub(crate) struct Metrics {
    routed: Counter,
    listed: Counter,
    refused: Vec<(&'static str, Counter)>,
}

impl Metrics {
    pub(crate) fn define() -> Result<Self> {
        let requests = |decision: &str, reason: &str| {
            Counter::define(&format!(
                "tollgate_router_requests.decision.{decision}.reason.{reason}"
            ))
        };
        let refused = Refusal::REASONS
            .iter()
            .map(|reason| Ok((*reason, requests("deny", reason)?)));
        Ok(Self {
            routed: requests("allow", "routed")?,
            listed: requests("allow", "listed")?,
            refused: refused.collect::<Result<_>>()?,
        })
    }

    pub(crate) fn routed(&self) {
        self.routed.increment();
    }

    pub(crate) fn listed(&self) {
        self.listed.increment();
    }

    pub(crate) fn refused(&self, refusal: &Refusal) {
        let reason = refusal.reason();
        if let Some((_, counter)) = self.refused.iter().find(|(name, _)| *name == reason) {
            counter.increment();
        }
    }
}

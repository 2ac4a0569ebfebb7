//! What is counted. Models and targets are the operator's names, so their number is bounded; a name that a client
//! made up is never part of one.

use std::collections::BTreeMap;

use tollgate_core::fault::METRIC as FAULT_METRIC;
use tollgate_core::route::{Reason, Refusal};
use tollgate_host::{Counter, Family, Result};

/// All of them.
pub static FAMILIES: &[Family] = &[REQUESTS, FAULTS];
const REQUESTS: Family = Family::counters("tollgate_router_requests", &["decision", "reason"]);
const FAULTS: Family = Family::counters(FAULT_METRIC, &["reason", "target"]);

/// Requests by decision and reason.
pub(crate) struct Metrics {
    routed: Counter,
    listed: Counter,
    /// By the order of [`Reason::ALL`].
    refused: Vec<Counter>,
    faults: Faults,
}

/// Faults of targets, by reason and target.
#[derive(Default)]
pub(crate) struct Faults(BTreeMap<(&'static str, String), Counter>);

impl Faults {
    /// Counts one. A target that the counter can't be defined for goes uncounted.
    pub(crate) fn count(&mut self, reason: &'static str, cluster: &str) {
        let key = (reason, cluster.to_owned());
        if let Some(counter) = self.0.get(&key) {
            return counter.increment();
        }
        if let Ok(counter) = Counter::define(&FAULTS, &[reason, cluster]) {
            counter.increment();
            self.0.insert(key, counter);
        }
    }
}

impl Metrics {
    pub(crate) fn define() -> Result<Self> {
        let requests = |decision: &str, reason: &str| Counter::define(&REQUESTS, &[decision, reason]);
        let refused = Reason::ALL.iter().map(|reason| requests("deny", reason.name()));
        Ok(Self {
            routed: requests("allow", "routed")?,
            listed: requests("allow", "listed")?,
            refused: refused.collect::<Result<_>>()?,
            faults: Faults::default(),
        })
    }

    pub(crate) fn routed(&self) {
        self.routed.increment();
    }

    pub(crate) fn listed(&self) {
        self.listed.increment();
    }

    pub(crate) fn fault(&mut self, reason: &'static str, cluster: &str) {
        self.faults.count(reason, cluster);
    }

    pub(crate) fn refused(&self, refusal: &Refusal) {
        if let Some(counter) = self.refused.get(refusal.reason() as usize) {
            counter.increment();
        }
    }
}

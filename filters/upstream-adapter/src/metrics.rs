//! What is counted. Providers are the operator's names, so their number is bounded.

use tollgate_core::adapt::{Providers, Reason, Refusal};
use tollgate_core::fault::{self, Fault};
use tollgate_host::{Counter, Family, Result};

/// All of them.
pub static FAMILIES: &[Family] = &[ATTEMPTS, FAULTS];
const ATTEMPTS: Family = Family::counters("tollgate_adapter_attempts", &["provider", "outcome"]);
const FAULTS: Family = Family::counters(fault::METRIC, &["reason", "target"]);

/// Attempts by provider and outcome.
pub(crate) struct Metrics {
    /// In the order of the providers; the last is for attempts that have none.
    providers: Vec<Outcomes>,
}

struct Outcomes {
    adapted: Counter,
    /// By the order of [`Reason::ALL`].
    refused: Vec<Counter>,
}

impl Metrics {
    pub(crate) fn define(providers: &Providers) -> Result<Self> {
        let names = providers.iter().map(|provider| provider.name.as_str());
        let providers = names.chain(["none"]).map(Outcomes::define);
        Ok(Self {
            providers: providers.collect::<Result<_>>()?,
        })
    }

    pub(crate) fn adapted(&self, provider: usize) {
        if let Some(outcomes) = self.providers.get(provider) {
            outcomes.adapted.increment();
        }
    }

    /// Counts a fault that only an event of an answer told. It is rare, so the counter is looked up each time.
    pub(crate) fn fault(fault: Fault, cluster: &str) {
        if let Ok(counter) = Counter::define(&FAULTS, &[fault.name(), cluster]) {
            counter.increment();
        }
    }

    pub(crate) fn refused(&self, provider: Option<usize>, refusal: &Refusal) {
        let outcomes = match provider {
            Some(provider) => self.providers.get(provider),
            None => self.providers.last(),
        };
        let refused = outcomes.and_then(|outcomes| outcomes.refused.get(refusal.reason() as usize));
        if let Some(counter) = refused {
            counter.increment();
        }
    }
}

impl Outcomes {
    fn define(provider: &str) -> Result<Self> {
        let counter = |outcome: &str| Counter::define(&ATTEMPTS, &[provider, outcome]);
        let refused = Reason::ALL.iter().map(|reason| counter(reason.name()));
        Ok(Self {
            adapted: counter("adapted")?,
            refused: refused.collect::<Result<_>>()?,
        })
    }
}

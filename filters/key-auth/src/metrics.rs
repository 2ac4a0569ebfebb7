//! What is counted. No key, tenant or address is part of a name.

use tollgate_core::auth::{Reason, Refusal};
use tollgate_host::{Counter, Family, Result};

/// All of them.
pub static FAMILIES: &[Family] = &[REQUESTS];
const REQUESTS: Family = Family::counters("tollgate_key_auth_requests", &["decision", "reason"]);

/// Requests by decision and reason.
pub(crate) struct Metrics {
    key: Counter,
    token: Counter,
    /// By the order of [`Reason::ALL`].
    refused: Vec<Counter>,
}

impl Metrics {
    pub(crate) fn define() -> Result<Self> {
        let requests = |decision: &str, reason: &str| Counter::define(&REQUESTS, &[decision, reason]);
        let refused = Reason::ALL.iter().map(|reason| requests("deny", reason.name()));
        Ok(Self {
            key: requests("allow", "api_key")?,
            token: requests("allow", "token")?,
            refused: refused.collect::<Result<_>>()?,
        })
    }

    pub(crate) fn allowed(&self, by_token: bool) {
        if by_token { self.token } else { self.key }.increment();
    }

    pub(crate) fn refused(&self, refusal: &Refusal) {
        if let Some(counter) = self.refused.get(refusal.reason() as usize) {
            counter.increment();
        }
    }
}

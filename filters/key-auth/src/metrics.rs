//! What is counted. No key, tenant or address is part of a name.

use tollgate_core::auth::Refusal;
use tollgate_host::{Counter, Result};

/// Requests by decision and reason.
pub(crate) struct Metrics {
    key: Counter,
    token: Counter,
    refused: Vec<(&'static str, Counter)>,
}

impl Metrics {
    pub(crate) fn define() -> Result<Self> {
        let requests = |decision: &str, reason: &str| {
            Counter::define(&format!(
                "tollgate_key_auth_requests.decision.{decision}.reason.{reason}"
            ))
        };
        let refused = Refusal::REASONS
            .iter()
            .map(|reason| Ok((*reason, requests("deny", reason)?)));
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
        let reason = refusal.reason();
        if let Some((_, counter)) = self.refused.iter().find(|(name, _)| *name == reason) {
            counter.increment();
        }
    }
}

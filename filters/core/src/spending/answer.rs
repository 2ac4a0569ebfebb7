//! What a customer is told where a budget refuses.

use super::purse::Standing;
use super::reserve::{Denied, Verdict};
use super::{MILLI, millis};
use crate::budget::Unit;
use crate::error::{ApiError, Retry};
use crate::limits::{Code, duration, moment};

/// More was asked for with the request that is refused, and is there by then, mostly; milliseconds.
const SOON: u64 = 1_000;

impl Denied {
    /// The answer to the customer, at `now` (nanoseconds since 1970). Of a budget that organizations share it is told
    /// neither how much there is, nor its name, which may say who the others are.
    pub fn answer(&self, now: u64) -> ApiError {
        let name = match self.budget.is_shared {
            true => "A budget that organizations share".to_owned(),
            false => format!("Budget {}", self.budget.id),
        };
        match &self.verdict {
            Verdict::Spent(standing) => {
                let message = format!(
                    "{name} is spent{}.{}",
                    self.numbers(standing),
                    resets(standing, now)
                );
                Code::QuotaSpent.error("insufficient_quota", message, Retry::Never)
            }
            Verdict::Short => {
                let message = format!("{name} is shared out anew at the moment. Please try again in 1s.");
                Code::RateLimited.error(self.kind(), message, Retry::AfterMillis(SOON))
            }
            Verdict::Unknown => {
                let message = format!("{name} can't be checked at the moment. Please try again later.");
                Code::Unavailable.error("service_unavailable_error", message, Retry::AfterMillis(SOON))
            }
        }
    }

    /// Adds the budget to the headers that tell how the limits stand, where it is spent.
    pub fn tell(&self, headers: &mut Vec<(&'static str, String)>, now: u64) {
        let Verdict::Spent(standing) = &self.verdict else {
            return;
        };
        if self.budget.is_shared {
            return;
        }
        let id = &self.budget.id;
        let left = standing.amount.saturating_sub(standing.spent);
        let mut state = format!("\"{id}\";r={left}");
        if let Some(resets_at) = standing.resets_at {
            let millis = u64::try_from(resets_at.saturating_sub(millis(now))).unwrap_or(0);
            state.push_str(&format!(";t={}", millis.div_ceil(1_000)));
        }
        let policy = format!("\"{id}\";q={}", standing.amount);
        for (name, item) in [("ratelimit-policy", policy), ("ratelimit", state)] {
            match headers.iter_mut().find(|(known, _)| *known == name) {
                Some((_, list)) => list.push_str(&format!(", {item}")),
                None => headers.push((name, item)),
            }
        }
    }

    const fn kind(&self) -> &'static str {
        match self.budget.unit {
            Unit::Requests => "requests",
            Unit::Tokens | Unit::CostMicros => "tokens",
        }
    }

    fn numbers(&self, standing: &Standing) -> String {
        if self.budget.is_shared {
            return String::new();
        }
        let Standing { amount, spent, .. } = standing;
        let (unit, requested) = (self.budget.unit.name(), self.requested);
        format!(": Limit {amount} {unit}, Used {spent}, Requested {requested}")
    }
}

/// When there is more.
fn resets(standing: &Standing, now: u64) -> String {
    let Some(resets_at) = standing.resets_at.and_then(|at| u64::try_from(at).ok()) else {
        return String::new();
    };
    let nanos = resets_at.saturating_mul(MILLI);
    let again = duration(nanos.saturating_sub(now));
    format!(" It resets at {}, in {again}.", moment(nanos))
}

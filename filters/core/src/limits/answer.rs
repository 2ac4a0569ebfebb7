//! What a customer is told when a limit refuses: which limit, whose, its numbers, and when to come back.

use super::amounts::Count;
use super::ask::Wait;
use super::headers::{duration, rounded};
use super::refusal::Code;
use super::reserve::{Denied, Reason, Refused};
use super::share::SOON;
use super::subject::{Dimension, Subject};
use super::table::{Place, Row, Table};
use crate::bound::Bound;
use crate::error::{ApiError, Retry};

const DAY: u64 = 86_400_000_000_000;

impl Refused {
    /// The answer to the customer.
    pub fn answer(&self, table: &Table, subject: &Subject<'_>) -> ApiError {
        match &self.reason {
            Reason::Limited(denied) => match table.row(denied.status.row) {
                Some(row) => denied.answer(row, subject),
                // A refusal of another table.
                None => unavailable(),
            },
            Reason::Store(_) => unavailable(),
        }
    }
}

/// What a customer gets where the limits can't be checked.
pub fn unavailable() -> ApiError {
    let message = "The rate limit can't be checked at the moment. Please try again later.";
    Code::Unavailable.error("service_unavailable_error", message, Retry::Unsaid)
}

impl Denied {
    fn answer(&self, row: &Row, subject: &Subject<'_>) -> ApiError {
        let kind = match row.count {
            Count::Requests => "requests",
            Count::Concurrent => "concurrent_requests",
            Count::Tokens | Count::InputTokens | Count::OutputTokens | Count::Cost => "tokens",
        };
        let place = format!(
            "{} on {}",
            scope(row, subject),
            unit(row.count, self.status.bound)
        );
        let numbers = self.numbers(row);
        let nanos = match self.wait {
            Wait::Never => {
                let message = format!("Request too large for {place}: {numbers}.");
                return Code::TooLarge.error(kind, message, Retry::Never);
            }
            Wait::Nanos(nanos) if row.per.is_shared() => rounded(nanos),
            Wait::Nanos(nanos) => nanos,
        };
        let again = duration(nanos);
        let is_fleet = row.place == Place::Fleet;
        // Of a share that is short more has been asked for.
        let is_soon = is_fleet && nanos <= SOON;
        if is_quota(self.status.bound) && !is_soon {
            // Clients would wait for it in vain, and most give up within minutes.
            let message =
                format!("Quota spent for {place}: {numbers}. It has room for this request in {again}.");
            return Code::QuotaSpent.error("insufficient_quota", message, Retry::Never);
        }
        let message = format!("Rate limit reached for {place}: {numbers}. Please try again in {again}.");
        let retry = Retry::AfterMillis(nanos.div_ceil(1_000_000));
        Code::RateLimited.error(kind, message, retry)
    }

    /// What of the limit is used is told to those alone whose own it is. Of one of the fleet no Envoy knows.
    fn numbers(&self, row: &Row) -> String {
        let limit = match self.status.bound {
            Bound::Rate(quota) if quota.amount() == quota.burst() => quota.amount().to_string(),
            Bound::Rate(quota) => format!("{} (at once {})", quota.amount(), quota.burst()),
            Bound::Max(max) => max.to_string(),
        };
        let is_untold = row.per.is_shared() || row.place == Place::Fleet;
        let used = if is_untold || self.wait == Wait::Never {
            String::new()
        } else {
            format!(", Used {}", self.status.used)
        };
        format!("Limit {limit}{used}, Requested {}", self.requested)
    }
}

/// What is granted by the day is a quota.
fn is_quota(bound: Bound) -> bool {
    matches!(bound, Bound::Rate(quota) if quota.period() == DAY)
}

/// The model and whom the limit is for: the narrowest that it tells apart.
fn scope(row: &Row, subject: &Subject<'_>) -> String {
    let per = row.per;
    let whose = if per.has(Dimension::Key) {
        format!("for key {}", subject.key)
    } else if per.has(Dimension::Project) {
        match subject.project {
            Some(project) => format!("in project {project}"),
            None => format!("in organization {} (no project)", subject.org),
        }
    } else if per.has(Dimension::Org) {
        format!("in organization {}", subject.org)
    } else if per.has(Dimension::Ip) {
        "for this address".to_owned()
    } else if per.has(Dimension::Tier) {
        format!("for tier {}", subject.tier)
    } else {
        "for all organizations together".to_owned()
    };
    match subject.model {
        "" => format!("requests {whose}"),
        model => format!("{model} {whose}"),
    }
}

/// Such as `tokens per min (TPM)`.
fn unit(count: Count, bound: Bound) -> String {
    let Bound::Rate(quota) = bound else {
        return "concurrent requests".to_owned();
    };
    let (long, short) = match quota.period() / 1_000_000_000 {
        1 => ("sec", 'S'),
        60 => ("min", 'M'),
        3_600 => ("hour", 'H'),
        _ => ("day", 'D'),
    };
    match count {
        Count::Requests | Count::Concurrent => format!("requests per {long} (RP{short})"),
        Count::Tokens => format!("tokens per {long} (TP{short})"),
        Count::InputTokens => format!("input tokens per {long} (ITP{short})"),
        Count::OutputTokens => format!("output tokens per {long} (OTP{short})"),
        Count::Cost => format!("cost in millionths per {long}"),
    }
}

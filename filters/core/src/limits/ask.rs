//! A request that asks to pass, and how a row stands for it.

use super::amounts::{Amounts, Count};
use super::subject::Subject;
use crate::bound::Bound;
use crate::gcra::Quota;
use crate::workers::Workers;

/// A request that asks to pass.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    /// Whose, and for what.
    pub subject: &'a Subject<'a>,
    /// Nanoseconds since 1970.
    pub now: u64,
    /// What it is estimated to take.
    pub amounts: Amounts,
    /// The part of that which is no mere expectation: what is beyond it makes no request wait for more than a row's
    /// whole burst.
    pub certain: Amounts,
    /// The worker that serves it, and who else lives.
    pub workers: &'a Workers,
}

impl Ask<'_> {
    /// What it takes of a row. An expectation may be wrong: it makes no request one that can never pass.
    pub(super) fn amount(&self, count: Count, quota: Quota) -> u64 {
        let max = self.certain.of(count).max(quota.burst());
        self.amounts.of(count).min(max)
    }
}

/// When a request would pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wait {
    /// In so many nanoseconds, if nobody else comes; for requests in flight a pause, since nobody knows their end.
    Nanos(u64),
    /// Never: it is more than the burst.
    Never,
}

/// How a row stands for a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitStatus {
    /// The row's place in the table.
    pub row: usize,
    /// What it allows this subject.
    pub bound: Bound,
    /// How much is used; in debt more than the bound.
    pub used: u64,
    /// How much may come at once.
    pub remaining: u64,
    /// Nanoseconds until all of it may; zero for requests in flight.
    pub reset: u64,
}

//! A model's capacity, shared among organizations by weight. Time and state are arguments; nothing here reads a clock
//! or stores anything.
//!
//! Of `C` requests that a model serves well at once, an organization's *share* is `C` by its weight among the active
//! ones: those with a request in flight or one within the last seconds. It is *hungry* while it is refused. With `F` in
//! flight in all, `f` of them of the one that asks, it is admitted if one of these holds, in this order:
//!
//! 1. `F` is below saturation: a tenth of `C` below `C`, and one tenth more for each tier further down. Nobody is
//!    refused there.
//! 2. `F < C`, and `f` is below its part of what the others leave. That goes to the highest tier with anybody hungry,
//!    by weight: so what one doesn't use isn't lost, and one that is alone gets all of `C`.
//! 3. `f` is below its share (which is at least one), whatever its tier: the others are over theirs, and are refused
//!    until they are back. This ends where `F` is `C` beyond saturation, for lower tiers earlier.
//! 4. It has nothing in flight and is not hungry: one that sends little is never refused.
//!
//! So those above their share are shed first, lower tiers before higher, and a tier can't take from another's share.
//! A share is a whole number of requests: below ten of them, rounding alone can cost more than a tenth of it.
//!
//! `F` never passes `2C` by more than the number of organizations in flight: beyond `2C` only those are admitted that
//! have nothing in flight, and each of them once. It is back at `C` when those who are above their share have
//! finished what they had.

mod document;
mod record;
mod slot;
#[cfg(test)]
mod tests;

use core::hash::Hasher;
use std::collections::BTreeMap;

use siphasher::sip::SipHasher13;

pub use document::RawCapacity;
use record::{CapacityRecord, Entry};
pub use slot::CapacitySlot;

use super::refusal::Code;
use crate::error::{ApiError, Retry};
use crate::glob::fits;
use crate::state::Keyspace;
use crate::workers::Workers;

/// How long an organization stays active after its last request: long enough that one request a second is enough.
const ACTIVE: u64 = 5_000_000_000;
/// How long it stays hungry after a refusal: longer than it is told to wait, so that those who do as told count.
const HUNGRY: u64 = 3_000_000_000;
/// A mark of a refusal is written again only when it is older than this: a flood of refused requests does not become
/// a flood of writes.
const FRESH: u64 = 500_000_000;
/// When a refused client should ask again. Any request that ends may make room, so no time can be promised; a second
/// is the least that `Retry-After` can say.
const RETRY_MILLIS: u64 = 1_000;

/// The capacity of each model that has one.
#[derive(Debug, Default)]
pub struct Capacities(Vec<Capacity>);

impl Capacities {
    /// The capacity of `model`: the first whose pattern fits. Every model has its own, also where one pattern fits
    /// several.
    pub fn of(&self, model: &str) -> Option<&Capacity> {
        self.0.get(self.place(model)?)
    }

    /// The place of that row.
    pub fn place(&self, model: &str) -> Option<usize> {
        self.0.iter().position(|capacity| fits(&capacity.model, model))
    }
}

/// How much a model serves at once, and how that is shared.
#[derive(Debug)]
pub struct Capacity {
    /// Pattern of the models it holds for.
    model: String,
    /// Requests in flight, over all workers of this Envoy; 1 to a million.
    concurrent: u64,
    /// By organization, 1 to a million; for others one.
    weights: BTreeMap<Org, u64>,
    /// First is shed last; at most [`document::MAX_TIERS`].
    tiers: Vec<String>,
}

/// An organization, by a hash of its name that is the same in every worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Org(u64);

impl Org {
    /// Names come from the operator's directory, not from strangers: two with the same hash would be chance, and
    /// would share one share.
    pub(crate) fn named(name: &str) -> Self {
        let mut hasher = SipHasher13::new();
        hasher.write(name.as_bytes());
        Self(hasher.finish())
    }

    /// As it was written.
    pub(crate) const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(u64::from_le_bytes(bytes))
    }

    /// To be written.
    pub(crate) const fn to_bytes(self) -> [u8; 8] {
        self.0.to_le_bytes()
    }
}

/// What a request is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Admission {
    /// Go on, once the record that comes with it is stored; [`release`] it at its end.
    Admit,
    /// Not now: [`slow_down`].
    SlowDown,
}

/// The shared-store key of a model's record.
fn store_key(model: &str) -> Vec<u8> {
    Keyspace::CAPACITY.key(model)
}

/// The answer to a request that is shed.
pub fn slow_down(model: &str) -> ApiError {
    let message = format!(
        "The model `{model}` is at its capacity, and requests of your organization have to slow down for a while. \
         Please try again in 1s."
    );
    Code::SlowDown.error("rate_limit_error", message, Retry::AfterMillis(RETRY_MILLIS))
}

impl Capacity {
    /// Whether a request of `org` (with its tier) may go to the model at `now` (nanoseconds since 1970), and the
    /// record to store in place of `record`, by compare-and-swap; `None` where nothing changes.
    ///
    /// If the swap is lost, ask again with the new record. After a refusal that is not needed: another refusal
    /// makes the same mark.
    fn admit(
        &self,
        record: Option<&[u8]>,
        org: Org,
        tier: &str,
        workers: &Workers,
        now: u64,
    ) -> (Admission, Option<Vec<u8>>) {
        let mut record = CapacityRecord::read(record, workers, now);
        let rank = self.rank(tier);
        let admitted = self.admits(&record, org, rank, now);
        let Some(entry) = record.entry(org, workers.id()) else {
            return (Admission::SlowDown, None);
        };
        if admitted {
            entry.in_flight = entry.in_flight.saturating_add(1);
            entry.asked = now;
            return (Admission::Admit, Some(record.to_bytes()));
        }
        let marked = within(entry.refused, now, FRESH) && entry.rank == rank;
        (entry.asked, entry.refused, entry.rank) = (now, now, rank);
        (Admission::SlowDown, (!marked).then(|| record.to_bytes()))
    }

    fn admits(&self, record: &CapacityRecord, org: Org, rank: u8, now: u64) -> bool {
        let all = self.tally(record, org, now);
        let asks = all.iter().find(|one| one.org == org);
        let (own, hungry) = asks.map_or((0, false), |one| (one.in_flight, one.hungry));
        let sum: u64 = all.iter().fold(0, |sum, one| sum.saturating_add(one.in_flight));
        let saturated = self.saturated(rank);
        sum < saturated
            || (sum < self.concurrent && own < self.part(&all, org, rank))
            || (sum < self.concurrent + saturated && own < self.share(&all, org).max(1))
            || (own == 0 && !hungry)
    }

    /// Requests in flight from which on a tier is shed.
    fn saturated(&self, rank: u8) -> u64 {
        let tenths = u64::from(rank) + 1;
        self.concurrent
            .saturating_sub((self.concurrent * tenths).div_ceil(10))
    }

    /// How far down a tier is: one that is not named, below all.
    fn rank(&self, tier: &str) -> u8 {
        let rank = self.tiers.iter().position(|other| other == tier);
        u8::try_from(rank.unwrap_or(self.tiers.len())).unwrap_or(u8::MAX)
    }

    fn weight(&self, org: Org) -> u64 {
        self.weights.get(&org).copied().unwrap_or(1)
    }

    /// The active organizations, and `org` in any case.
    fn tally(&self, record: &CapacityRecord, org: Org, now: u64) -> Vec<Active> {
        let mut all: Vec<Active> = record
            .by_org()
            .filter_map(|entries| {
                let first = entries.first()?;
                let hungry = entries.iter().filter(|entry| within(entry.refused, now, HUNGRY));
                let rank = hungry.map(|entry| entry.rank).min();
                Some(Active {
                    org: first.org,
                    weight: self.weight(first.org),
                    in_flight: entries.iter().map(|entry| u64::from(entry.in_flight)).sum(),
                    hungry: rank.is_some(),
                    rank: rank.unwrap_or(0),
                })
            })
            .collect();
        if all.iter().all(|one| one.org != org) {
            all.push(Active {
                org,
                weight: self.weight(org),
                in_flight: 0,
                hungry: false,
                rank: 0,
            });
        }
        all
    }

    /// What an organization has for certain.
    fn share(&self, all: &[Active], org: Org) -> u64 {
        let weights: u64 = all.iter().map(|one| one.weight).sum();
        self.concurrent * self.weight(org) / weights.max(1)
    }

    /// The part of `org` in what the others leave: those who aren't hungry leave all but what they have in flight, a
    /// hungry one of a lower tier all but its share, and one of a higher tier nothing.
    fn part(&self, all: &[Active], org: Org, rank: u8) -> u64 {
        let mut left = self.concurrent;
        let mut weights = self.weight(org);
        for other in all.iter().filter(|one| one.org != org) {
            match (other.hungry, other.rank.cmp(&rank)) {
                (false, _) => left = left.saturating_sub(other.in_flight),
                (true, core::cmp::Ordering::Greater) => {
                    left = left.saturating_sub(self.share(all, other.org));
                }
                (true, core::cmp::Ordering::Equal) => weights = weights.saturating_add(other.weight),
                (true, core::cmp::Ordering::Less) => return 0,
            }
        }
        left * self.weight(org) / weights
    }
}

/// An active organization.
struct Active {
    org: Org,
    weight: u64,
    in_flight: u64,
    hungry: bool,
    /// The highest tier it was refused in; of meaning only while it is hungry.
    rank: u8,
}

/// Notes the end of a request that was admitted for `org` by this worker: the record to store in place of
/// `record`; `None` where nothing changes. Needs no configuration, which may have changed meanwhile.
fn release(record: Option<&[u8]>, org: Org, workers: &Workers, now: u64) -> Option<Vec<u8>> {
    let mut record = CapacityRecord::read(record, workers, now);
    let entry = record.find(org, workers.id())?;
    entry.in_flight = entry.in_flight.checked_sub(1)?;
    Some(record.to_bytes())
}

/// Whether `then` is less than `span` away from `now`, on either side: clocks are set back.
fn within(then: u64, now: u64, span: u64) -> bool {
    now.abs_diff(then) < span
}

fn is_active(entry: &Entry, now: u64) -> bool {
    entry.in_flight > 0 || within(entry.asked, now, ACTIVE)
}

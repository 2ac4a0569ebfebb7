//! One key in the books: who holds how much, and what is free.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::limit::{Limit, Share, Time};
use crate::message::{Incarnation, Version};

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Subject {
    pub(super) limit: Limit,
    /// The version that activated it; `None` where the limit is too small for implicit parts.
    pub(super) activated: Option<Version>,
    pub(super) holders: BTreeMap<Incarnation, Holder>,
    pub(super) pool: Pool,
}

/// What a member may hold, by the books, and what it asks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub(super) struct Holder {
    /// The most that it may still be using.
    pub(super) held: Share,
    pub(super) demand: u64,
    pub(super) need: u64,
}

/// What nobody holds: a bucket too, so that tokens that one member gave up go to the next.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Pool {
    /// No more than what is free, as of when the key was last touched: from then on it only grows.
    share: Share,
    #[serde(with = "crate::text::units")]
    units: u128,
    /// It fills from then on: `skew` after each change, so that a clock that is ahead adds nothing before its time.
    from: Time,
}

impl Subject {
    /// What members may hold of it by explicit shares; of those that are alive.
    pub(super) fn held(&self, lives: impl Fn(Incarnation) -> bool) -> Share {
        let living = self.holders.iter().filter(|(who, _)| lives(**who));
        living.fold(Share::default(), |sum, (_, holder)| sum.plus(holder.held))
    }
}

impl Holder {
    /// Whether there is nothing to keep.
    pub(super) fn is_over(&self) -> bool {
        self.held.is_nothing() && self.demand == 0 && self.need == 0
    }
}

impl Pool {
    /// Of a key that is not in the books and has no implicit parts: nobody has used it `since`.
    pub(super) fn since(limit: Limit, since: Time, now: Time) -> Self {
        let mut pool = Self {
            share: limit.whole(),
            units: 0,
            from: since,
        };
        pool.fill(limit, now);
        pool
    }

    /// Of a key that is activated: what slots have of it that nobody has.
    pub(super) const fn of_free_slots((share, units): (Share, u128), now: Time) -> Self {
        Self {
            share,
            units,
            from: now,
        }
    }

    /// Brings it to `now`.
    pub(super) fn fill(&mut self, limit: Limit, now: Time) {
        if let Some(passed) = now.checked_sub(self.from) {
            self.units += u128::from(passed) * u128::from(self.share.rate);
            self.from = now;
            self.fit(limit);
        }
    }

    fn fit(&mut self, limit: Limit) {
        self.units = self.units.min(limit.units(self.share.burst));
    }

    /// Whether this is what was free as the key was last touched.
    pub(super) fn has(&self, share: Share) -> bool {
        self.share == share
    }

    /// Another share is free.
    pub(super) fn change(&mut self, limit: Limit, share: Share, now: Time, skew: Time) {
        if self.share != share {
            self.share = share;
            self.from = now.saturating_add(skew);
        }
        self.fit(limit);
    }

    /// What a member gave up. It is kept as far as the burst that it gave up with it is free.
    pub(super) const fn put(&mut self, units: u128) {
        self.units = self.units.saturating_add(units);
    }

    /// Takes out up to so many units.
    pub(super) fn take(&mut self, most: u128) -> u128 {
        let units = self.units.min(most);
        self.units -= units;
        units
    }

    /// Whether it is the whole bucket and full: then nobody is owed anything, and nobody owes.
    pub(super) fn is_full(&self, limit: Limit) -> bool {
        limit.counts_in_use() || self.units >= limit.units(self.share.burst)
    }
}

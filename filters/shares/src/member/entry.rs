//! What a member has and wants of one key.

use crate::bucket::Allowance;
use crate::limit::{Limit, Share};
use crate::message::{Grant, Key, Want};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Entry {
    pub(super) limit: Limit,
    pub(super) demand: u64,
    pub(super) need: u64,
    pub(super) in_use: u64,
    pub(super) returned: u128,
    /// The explicit share; `None` until the first answer.
    explicit: Option<Allowance>,
    /// The share changed, and the coordinator doesn't know that it is in force.
    unconfirmed: bool,
    /// Said in the last message: the demand, and what it had.
    told: (u64, Share),
    /// It was in the last message.
    mentioned: bool,
    /// The demand that was answered last.
    answered: u64,
    /// More is due.
    waiting: bool,
}

impl Entry {
    pub(super) fn new(limit: Limit) -> Self {
        Self {
            limit,
            demand: 0,
            need: 0,
            in_use: 0,
            returned: 0,
            explicit: None,
            unconfirmed: false,
            told: (0, Share::default()),
            mentioned: false,
            answered: 0,
            waiting: false,
        }
    }

    /// The same wants, of one that has nothing.
    pub(super) fn anew(self) -> Self {
        Self {
            demand: self.demand,
            need: self.need,
            in_use: self.in_use,
            ..Self::new(self.limit)
        }
    }

    pub(super) const fn is_explicit(&self) -> bool {
        self.explicit.is_some()
    }

    pub(super) fn allowance(&self) -> Allowance {
        self.explicit.unwrap_or_default()
    }

    /// The most that it uses: what is in use stays in use while it is more than the share.
    fn have(&self) -> Share {
        let mut share = self.allowance().share;
        if self.limit.counts_in_use() {
            share.burst = share.burst.max(self.in_use);
        }
        share
    }

    /// Whether it has to be in the next message: a thirty-second more or less demand than was said is.
    pub(super) fn has_news(&self) -> bool {
        let moved = self.demand_moved_by(self.answered / 32);
        moved || self.unconfirmed || self.waiting || self.need > 0 || self.have() != self.told.1
    }

    /// Whether the next message should not wait: somebody is short of it, or has to be let in.
    pub(super) fn is_urgent(&self) -> bool {
        let (have, (_, told)) = (self.have(), self.told);
        let much = (self.answered / 4).max(self.scale() / 16);
        let short = self.demand_moved_by(much) && self.demand > have.rate;
        let spare = self.answered.saturating_sub(self.demand) > self.scale() / 8;
        let gave_up = self.unconfirmed && have.is_short_of(told, self.limit);
        self.waiting || self.need > 0 || short || spare || gave_up
    }

    /// By more than so much since it was answered; the first and the last always are.
    const fn demand_moved_by(&self, much: u64) -> bool {
        self.demand.abs_diff(self.answered) > much || (self.demand == 0) != (self.answered == 0)
    }

    const fn scale(&self) -> u64 {
        match self.limit.counts_in_use() {
            true => self.limit.burst,
            false => self.limit.rate,
        }
    }

    /// A message goes out; [`Self::tell`] says if this is in it.
    pub(super) const fn pass_over(&mut self) {
        self.mentioned = false;
    }

    pub(super) fn tell(&mut self, key: Key) -> Want {
        let have = self.have();
        self.told = (self.demand, have);
        self.mentioned = true;
        Want {
            key,
            limit: self.limit,
            have,
            returned: self.returned,
            demand: self.demand,
            need: self.need,
        }
    }

    /// Takes a grant over; whether the bucket changes.
    pub(super) fn take(&mut self, grant: &Grant, begins: Allowance) -> bool {
        let changes = self
            .explicit
            .is_none_or(|allowance| allowance.share != grant.share);
        if self.mentioned {
            self.answered = self.told.0;
            self.need = 0;
        }
        self.waiting = grant.waiting;
        // What it was told without having asked is confirmed even where it changed nothing.
        self.unconfirmed = changes || !self.mentioned;
        self.explicit = Some(begins);
        changes || grant.units > 0
    }

    /// Whether nothing is left of it, and the coordinator knows.
    pub(super) fn is_over(&self) -> bool {
        let nothing = self.explicit.is_some() && self.have().is_nothing() && self.told.1.is_nothing();
        nothing && self.demand == 0 && self.answered == 0 && self.need == 0 && !self.waiting
    }
}

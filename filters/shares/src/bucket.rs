//! The token bucket in which a member spends its share. Exact: a unit of time adds a whole number of units.

use crate::limit::{Limit, Share, Time};

/// What a member may use of a key now: from [`Member::allowance`](crate::Member::allowance).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Allowance {
    /// Its share.
    pub share: Share,
    /// It was empty then, and nobody has used it since.
    pub since: Time,
    /// When the member got it: a bucket that is older is void, as its tokens were of something else.
    pub got: Time,
}

/// Tokens of one key at one member.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Bucket {
    units: u128,
    at: Time,
}

impl Bucket {
    /// What a member has that has used none of this allowance: it was empty when it came, and filled since.
    pub const fn new(allowance: Allowance) -> Self {
        Self {
            units: 0,
            at: allowance.since,
        }
    }

    /// Brings it to `now`.
    pub fn advance(&mut self, limit: Limit, allowance: Allowance, now: Time) {
        if self.at < allowance.got {
            *self = Self::new(allowance);
        }
        let passed = now.saturating_sub(self.at);
        self.units += u128::from(passed) * u128::from(allowance.share.rate);
        self.units = self.units.min(limit.units(allowance.share.burst));
        self.at = self.at.max(now);
    }

    /// Takes so many tokens if they are there.
    pub fn take(&mut self, limit: Limit, allowance: Allowance, tokens: u64, now: Time) -> bool {
        self.advance(limit, allowance, now);
        match self.units.checked_sub(limit.units(tokens)) {
            Some(left) => {
                self.units = left;
                true
            }
            None => false,
        }
    }

    /// Another share in place of what was allowed `before`, with units that came with it. What it holds above a smaller
    /// burst is taken out and returned, in units, to be told to the coordinator. A larger burst adds nothing.
    pub fn change(&mut self, limit: Limit, before: Allowance, after: Share, units: u128, now: Time) -> u128 {
        self.advance(limit, before, now);
        let above = self.units.saturating_sub(limit.units(after.burst));
        self.units -= above;
        self.units = (self.units + units).min(limit.units(after.burst));
        above
    }

    /// Whole tokens in it, as of when it was last brought up to date.
    pub fn tokens(&self, limit: Limit) -> u64 {
        limit.tokens(self.units)
    }

    /// The same in units, of which a token is as many as its period has units of time: nothing is rounded.
    pub const fn units(&self) -> u128 {
        self.units
    }
}

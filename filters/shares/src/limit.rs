//! A limit, a share of it, and the part that a slot has without asking.

use serde::{Deserialize, Serialize};

/// Moments and spans of one clock. A fleet counts microseconds, on the wire and at its members ([`micros`]); the model
/// counts ticks.
pub type Time = u64;

/// The moment or span of a fleet's clock that so many nanoseconds are, as filters count them. Rounded down: a clock that
/// steps once a microsecond. This is the one place where the one becomes the other.
pub const fn micros(nanoseconds: u64) -> Time {
    nanoseconds / 1_000
}

/// What a key allows the whole fleet. It never changes: another limit has another key. In JSON a list: rate, period, burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "(u64, u64, u64)", into = "(u64, u64, u64)")]
pub struct Limit {
    /// How much in each `period`; zero for a limit on what is in use at once, which has no period.
    pub rate: u64,
    /// In the unit of [`Time`]; at least 1.
    pub period: u64,
    /// How much at once.
    pub burst: u64,
}

/// What one member may use of a limit: integers, so that shares add up exactly. In JSON a list: rate, burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(from = "(u64, u64)", into = "(u64, u64)")]
pub struct Share {
    /// How much in each of the limit's periods.
    pub rate: u64,
    /// How much at once.
    pub burst: u64,
}

impl From<(u64, u64, u64)> for Limit {
    fn from((rate, period, burst): (u64, u64, u64)) -> Self {
        Self { rate, period, burst }
    }
}

impl From<Limit> for (u64, u64, u64) {
    fn from(limit: Limit) -> Self {
        (limit.rate, limit.period, limit.burst)
    }
}

impl From<(u64, u64)> for Share {
    fn from((rate, burst): (u64, u64)) -> Self {
        Self { rate, burst }
    }
}

impl From<Share> for (u64, u64) {
    fn from(share: Share) -> Self {
        (share.rate, share.burst)
    }
}

impl Limit {
    /// So much at once, and nothing by time.
    pub const fn in_use(burst: u64) -> Self {
        Self {
            rate: 0,
            period: 1,
            burst,
        }
    }

    /// The whole of it.
    pub const fn whole(&self) -> Share {
        Share {
            rate: self.rate,
            burst: self.burst,
        }
    }

    /// Whether it limits what is in use at once.
    pub const fn counts_in_use(&self) -> bool {
        self.rate == 0
    }

    /// What each of `parts` slots has of it without asking, rounded down. A part without rate would never fill, so it is
    /// none at all: whoever wants some of a limit that small has to ask.
    pub fn part(&self, parts: u32) -> Share {
        let part = |of: u64| of.checked_div(u64::from(parts)).unwrap_or(0);
        let share = Share {
            rate: part(self.rate),
            burst: part(self.burst),
        };
        let fills = share.burst > 0 && (share.rate > 0 || self.counts_in_use());
        if fills { share } else { Share::default() }
    }

    /// How long the whole of it takes from empty to full.
    pub fn fills_in(&self) -> Time {
        self.units(self.burst)
            .checked_div(u128::from(self.rate))
            .map_or(0, |time| {
                u64::try_from(time).unwrap_or(u64::MAX).saturating_add(1)
            })
    }

    /// Tokens in the unit of buckets, in which what a unit of time adds is whole too.
    pub(crate) fn units(&self, tokens: u64) -> u128 {
        u128::from(tokens) * u128::from(self.period)
    }

    /// Whole tokens of so many units.
    pub(crate) fn tokens(&self, units: u128) -> u64 {
        u64::try_from(units / u128::from(self.period.max(1))).unwrap_or(u64::MAX)
    }
}

impl Share {
    /// The larger of each.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        self.each(other, u64::max)
    }

    /// The smaller of each.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        self.each(other, u64::min)
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        self.each(other, u64::saturating_add)
    }

    /// What is left without `other`, and never less than nothing.
    #[must_use]
    pub fn less(self, other: Self) -> Self {
        self.each(other, u64::saturating_sub)
    }

    /// So many of it.
    #[must_use]
    pub fn times(self, count: u64) -> Self {
        self.each(Self::default(), |of, _| of.saturating_mul(count))
    }

    /// Whether it allows nothing.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Whether neither is above the other's.
    pub const fn fits(&self, other: Self) -> bool {
        self.rate <= other.rate && self.burst <= other.burst
    }

    /// Whether it is above the other's by too little to move: a rate that nobody uses is lost, a burst is not.
    pub(crate) fn is_near(&self, target: Self) -> bool {
        self.fits(target.with_slack())
    }

    fn with_slack(self) -> Self {
        Self {
            rate: self.rate.saturating_add(self.rate / 64),
            burst: self.burst.saturating_add(self.burst / 8),
        }
    }

    /// Whether it is short of `target` by more than a sixteenth of the limit, or has nothing: worth a message of its own.
    pub(crate) fn is_short_of(&self, target: Self, limit: Limit) -> bool {
        let missing = target.less(*self);
        let much = missing.rate > limit.rate / 16 || missing.burst > limit.burst / 16;
        much || (self.is_nothing() && !target.is_nothing())
    }

    /// The next share on the way to `target`: up by what is free, and down unless it is near.
    pub(crate) fn toward(self, target: Self, free: Self) -> Self {
        let up = target.min(self.plus(free));
        let slack = target.with_slack();
        let down = |held: u64, target: u64, slack: u64| if held <= slack { held } else { target };
        up.max(Self {
            rate: down(self.rate, target.rate, slack.rate),
            burst: down(self.burst, target.burst, slack.burst),
        })
    }

    fn each(self, other: Self, of: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            rate: of(self.rate, other.rate),
            burst: of(self.burst, other.burst),
        }
    }
}

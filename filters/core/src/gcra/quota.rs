//! The one arithmetic of all rates: a level that leaks, in whole numbers.
//!
//! GCRA keeps the moment at which a cell will be empty again; a level is the same, kept as what has not leaked yet. Its
//! unit is a count times the nanoseconds of the rate's unit of time: a count of `n` adds `n × period` and a nanosecond
//! leaks `amount`. Both are whole, so nothing is ever rounded and a limit of 10⁹ a minute is as exact as one of 1 a day.

use core::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use crate::config::Rate;

/// A rate and a burst whose arithmetic is known to fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "(u64, u64, u64)", into = "(u64, u64, u64)")]
pub struct Quota {
    amount: u64,
    period: u64,
    burst: u64,
}

const DAY: u64 = 86_400_000_000_000;
/// No level passes this, whatever is charged, so that sums fit. At the slowest unit it is a debt of 10¹⁴.
pub(crate) const MAX_LEVEL: u128 = 1 << 95;

impl Quota {
    /// The largest burst.
    pub const MAX_BURST: u64 = 1_000_000_000_000;

    /// `burst` at once, then `rate`; `None` for a burst of zero or above [`Self::MAX_BURST`].
    pub fn new(rate: Rate, burst: u64) -> Option<Self> {
        Self::from_parts(rate.amount(), rate.unit_nanos(), burst)
    }

    /// One in each interval of so many nanoseconds, up to a day, and `burst` at once.
    pub(super) fn every(interval: u64, burst: NonZeroU32) -> Self {
        Self {
            amount: 1,
            period: interval,
            burst: u64::from(burst.get()),
        }
    }

    /// A part of a quota, which may have no amount or no burst: then nothing leaks, or nothing passes.
    pub(crate) const fn part(self, amount: u64, burst: u64) -> Self {
        Self {
            amount,
            burst,
            ..self
        }
    }

    /// From what [`Self::parts`] gave; `None` for anything that no quota has.
    pub fn from_parts(amount: u64, period: u64, burst: u64) -> Option<Self> {
        let fits = (1..=Self::MAX_BURST).contains(&amount)
            && (1..=DAY).contains(&period)
            && (1..=Self::MAX_BURST).contains(&burst);
        fits.then_some(Self {
            amount,
            period,
            burst,
        })
    }

    /// Its amount, period and burst.
    pub const fn parts(&self) -> (u64, u64, u64) {
        (self.amount, self.period, self.burst)
    }

    /// How many in each unit of time.
    pub const fn amount(&self) -> u64 {
        self.amount
    }

    /// Nanoseconds of the unit of time.
    pub const fn period(&self) -> u64 {
        self.period
    }

    /// How many at once.
    pub const fn burst(&self) -> u64 {
        self.burst
    }

    /// The level of a whole burst: at most 2⁸⁷.
    pub(crate) const fn capacity(&self) -> u128 {
        self.units(self.burst)
    }

    /// What a count adds to a level.
    pub(crate) const fn units(&self, count: u64) -> u128 {
        product(count, self.period)
    }

    /// What leaks of a level in so many nanoseconds.
    pub(crate) const fn leaked(&self, nanos: u64) -> u128 {
        product(nanos, self.amount())
    }

    /// Nanoseconds in which so much leaks; the most there are where nothing does.
    pub(crate) fn leaks_in(&self, units: u128) -> u64 {
        match self.amount {
            0 => u64::MAX,
            amount => up(units, amount),
        }
    }

    /// Whether `count` may be charged at this level. While in debt, even a zero charge is refused.
    pub(crate) fn judge(&self, level: u128, count: u64) -> Verdict {
        if count > self.burst {
            return Verdict::Never;
        }
        match (level + self.units(count)).saturating_sub(self.capacity()) {
            0 => Verdict::Admit,
            over => Verdict::Wait(self.leaks_in(over)),
        }
    }
}

impl From<Quota> for (u64, u64, u64) {
    fn from(quota: Quota) -> Self {
        quota.parts()
    }
}

impl TryFrom<(u64, u64, u64)> for Quota {
    type Error = &'static str;

    fn try_from((amount, period, burst): (u64, u64, u64)) -> Result<Self, Self::Error> {
        Self::from_parts(amount, period, burst).ok_or("no quota has these parts")
    }
}

/// `a × b`. Few products are wide, and a wide multiplication is slow in wasm.
pub(crate) const fn product(a: u64, b: u64) -> u128 {
    if a.leading_zeros() + b.leading_zeros() >= 64 {
        (a * b) as u128
    } else {
        a as u128 * b as u128
    }
}

/// `units ÷ by`, rounded up. Few levels are wide, and a wide division is slow in wasm.
pub(crate) fn up(units: u128, by: u64) -> u64 {
    match u64::try_from(units) {
        Ok(units) => units.div_ceil(by),
        Err(_) => u64::try_from(units.div_ceil(u128::from(by))).unwrap_or(u64::MAX),
    }
}

/// `units × to ÷ from`, rounded down, and whether there is a rest, for units up to [`MAX_LEVEL`]. As on paper, in digits of 32
/// bits: each step fits 128.
pub(crate) fn scaled(units: u128, from: u128, to: u128) -> (u128, bool) {
    if from == to {
        return (units.min(MAX_LEVEL), false);
    }
    let (mut quotient, mut rest) = (0_u128, 0_u128);
    for shift in [64, 32, 0] {
        let digit = units >> shift & u128::from(u32::MAX);
        let value = (rest << 32) + digit * to;
        quotient = quotient.min(MAX_LEVEL) << 32;
        quotient += value / from;
        rest = value % from;
    }
    (quotient.min(MAX_LEVEL), rest > 0)
}

/// What a level says to a charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It may be charged.
    Admit,
    /// In so many nanoseconds.
    Wait(u64),
    /// It is more than the burst.
    Never,
}

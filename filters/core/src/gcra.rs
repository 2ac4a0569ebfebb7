//! GCRA, the generic cell rate algorithm, as one pure step. Time and state are arguments; nothing here reads
//! a clock or stores anything.
//!
//! The state of a cell is one number: its theoretical arrival time (TAT), the moment at which it will be as
//! good as unused.

use core::num::NonZeroU32;

use crate::config::Rate;

/// A rate, and how many may come at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    interval: u64,
    tolerance: u64,
}

impl Quota {
    /// `burst` at once, then `rate`.
    pub fn new(rate: Rate, burst: NonZeroU32) -> Self {
        let interval = rate.interval_nanos();
        // A day times 2^32 is below 2^64 nanoseconds only after dividing; saturating errs on the generous
        // side of 584 years.
        let tolerance = interval.saturating_mul(u64::from(burst.get() - 1));
        Self { interval, tolerance }
    }

    /// Takes one at time `now` (nanoseconds) from a cell at `tat`: its new TAT, or how many nanoseconds to wait.
    pub fn take(&self, tat: u64, now: u64) -> Result<u64, u64> {
        // No cell in use is further ahead than this: one that is comes from before the clock was set back, and
        // starts with the one that is asked for.
        let furthest = now.saturating_add(self.tolerance).saturating_add(self.interval);
        let tat = if tat > furthest {
            now.saturating_add(self.tolerance)
        } else {
            tat
        };
        let early = tat.saturating_sub(now);
        if early > self.tolerance {
            return Err(early - self.tolerance);
        }
        Ok(tat.max(now).saturating_add(self.interval))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Never over: in any history, what passes within any window is at most burst + rate × window.
        #[test]
        fn never_over(amount in 1_u32..50, burst in 1_u32..20, steps in proptest::collection::vec(0_u64..3_000_000_000, 1..200)) {
            let rate: Rate = format!("{amount}/second").parse().unwrap();
            let quota = Quota::new(rate, NonZeroU32::new(burst).unwrap());
            let (mut tat, mut now, mut passed) = (0, 1_u64, Vec::new());
            for step in steps {
                now += step / u64::from(amount);
                match quota.take(tat, now) {
                    Ok(next) => { tat = next; passed.push(now); }
                    Err(wait) => prop_assert!(wait > 0 && quota.take(tat, now + wait).is_ok() && quota.take(tat, now + wait - 1).is_err()),
                }
            }
            for (i, from) in passed.iter().enumerate() {
                for (j, to) in passed.iter().enumerate().skip(i) {
                    let allowed = u64::from(burst) + (to - from) / rate.interval_nanos();
                    prop_assert!((j - i + 1) as u64 <= allowed);
                }
            }
        }
    }
}

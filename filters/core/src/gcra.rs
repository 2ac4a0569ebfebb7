//! GCRA, the generic cell rate algorithm. Time and state are arguments; nothing here reads a clock or stores anything.
//!
//! A [`Quota`] is the arithmetic of every rate. A [`Throttle`] is what is made of it where one number is all the state
//! there is: the theoretical arrival time (TAT), the moment at which a cell will be as good as unused.

mod quota;

use core::num::NonZeroU32;

pub use quota::Quota;
pub(crate) use quota::{MAX_LEVEL, Verdict, product, scaled, up};

use crate::config::Rate;

/// A rate, and how many may come at once, one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Throttle(Quota);

impl Throttle {
    /// `burst` at once, then `rate`.
    pub fn new(rate: Rate, burst: NonZeroU32) -> Self {
        // One in each interval: of its level a nanosecond leaks in a nanosecond, so that a TAT is a level.
        let interval = rate.interval_nanos();
        Self(Quota::every(interval, burst))
    }

    /// Takes one at time `now` (nanoseconds) from a cell at `tat`: its new TAT, or how many nanoseconds to wait.
    pub fn take(&self, tat: u64, now: u64) -> Result<u64, u64> {
        let Self(quota) = self;
        let (one, capacity) = (quota.units(1), quota.capacity());
        let level = u128::from(tat.saturating_sub(now));
        // No cell in use is fuller than its burst: one that is comes from before the clock was set back, and starts with
        // the one that is asked for.
        let level = if level > capacity { capacity - one } else { level };
        match quota.judge(level, 1) {
            Verdict::Admit => {
                let level = u64::try_from(level + one).unwrap_or(u64::MAX);
                Ok(now.saturating_add(level))
            }
            Verdict::Wait(nanos) => Err(nanos),
            // A burst is one at least.
            Verdict::Never => Err(u64::MAX),
        }
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
            let quota = Throttle::new(rate, NonZeroU32::new(burst).unwrap());
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

        /// The same by GCRA as it is told in textbooks, on moments in place of levels.
        #[test]
        fn a_level_is_a_moment(amount in 1_u32..5_000, unit in 0_usize..4, burst in 1_u32..5_000, ahead in 0_u64..1 << 58, now in 0_u64..1 << 62) {
            let unit = ["second", "minute", "hour", "day"][unit];
            let rate: Rate = format!("{amount}/{unit}").parse().unwrap();
            let throttle = Throttle::new(rate, NonZeroU32::new(burst).unwrap());
            let interval = rate.interval_nanos();
            let tolerance = interval * u64::from(burst - 1);
            // Within what a cell in use can be, on its edges, and beyond.
            for ahead in [ahead % (tolerance + 2 * interval), tolerance, tolerance + 1, tolerance + interval, tolerance + interval + 1, ahead] {
                let tat = if ahead > tolerance + interval { now + tolerance } else { now + ahead };
                let early = tat - now;
                let wanted = if early > tolerance { Err(early - tolerance) } else { Ok(tat + interval) };
                prop_assert_eq!(throttle.take(now + ahead, now), wanted);
            }
            if let Some(passed) = now.checked_sub(ahead) {
                prop_assert_eq!(throttle.take(passed, now), Ok(now + interval));
            }
        }
    }
}

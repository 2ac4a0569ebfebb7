//! The table against two others: governor's limiter in memory, and a bucket of exact fractions.

use core::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, FakeRelativeClock};
use governor::{InsufficientCapacity, RateLimiter};
use proptest::prelude::*;

use super::*;

/// A bucket that fills by `amount / period` tokens a nanosecond, in tokens times `period`. It looks at each moment from
/// the one before and knows nothing of levels or waits.
struct Bucket {
    amount: i128,
    period: i128,
    most: i128,
    tokens: i128,
    at: u64,
}

impl Bucket {
    fn new(amount: u32, period: u64, burst: u64) -> Self {
        let most = i128::from(burst) * i128::from(period);
        Self {
            amount: i128::from(amount),
            period: i128::from(period),
            most,
            tokens: most,
            at: START,
        }
    }

    fn take(&mut self, count: u64, now: u64) -> bool {
        self.tokens = (self.tokens + i128::from(now - self.at) * self.amount).min(self.most);
        self.at = now;
        let wanted = i128::from(count) * self.period;
        let fits = wanted <= self.tokens;
        if fits {
            self.tokens -= wanted;
        }
        fits
    }
}

fn steps(longest: u64) -> impl Strategy<Value = Vec<(u64, u64)>> {
    proptest::collection::vec((prop_oneof![Just(0), 0..=longest], 1..60_u64), 1..150)
}

proptest! {
    /// The same requests pass, to the last one.
    #[test]
    fn agrees_with_an_exact_bucket(amount in 1..4_000_000_000_u32, unit in 0..4_usize, burst in 1..50_u64, steps in steps(2_000)) {
        let (unit, seconds) = [("second", 1), ("minute", 60), ("hour", 3_600), ("day", 86_400)][unit];
        let period = seconds * SECOND;
        let table = table(&format!(r#"[{{"name": "x", "per": ["key"], "count": "tokens", "rate": "{amount}/{unit}", "burst": {burst}}}]"#));
        let (mut store, mut bucket, mut now) = (Memory::default(), Bucket::new(amount, period, burst), START);
        for (step, count) in steps {
            // A thousandth of the time of one, up to two.
            now += step * (period / u64::from(amount) / 1_000).max(1);
            let passed = table.go(&mut store, &acme(), now, tokens(count, 0)).is_ok();
            prop_assert_eq!(passed, bucket.take(count, now));
        }
    }

    /// The same requests pass, where governor's whole nanoseconds are exact.
    #[test]
    fn agrees_with_governor(amount in prop::sample::select(vec![1_u32, 2, 5, 10, 50, 1_000, 1_000_000]), burst in 1..50_u32, steps in steps(2_000)) {
        let table = table(&format!(r#"[{{"name": "x", "per": ["key"], "count": "tokens", "rate": "{amount}/second", "burst": {burst}}}]"#));
        let quota = governor::Quota::per_second(NonZeroU32::new(amount).unwrap()).allow_burst(NonZeroU32::new(burst).unwrap());
        let clock = FakeRelativeClock::default();
        let theirs = RateLimiter::direct_with_clock(quota, clock.clone());
        let (mut store, mut now) = (Memory::default(), START);
        for (step, count) in steps {
            let nanos = step * (SECOND / u64::from(amount) / 1_000).max(1);
            now += nanos;
            clock.advance(Duration::from_nanos(nanos));
            let ours = table.go(&mut store, &acme(), now, tokens(count, 0)).map_err(Refused::denied);
            match theirs.check_n(NonZeroU32::new(count as u32).unwrap()) {
                Err(InsufficientCapacity(_)) => prop_assert_eq!(ours.unwrap_err().wait, Wait::Never),
                Ok(Ok(())) => prop_assert!(ours.is_ok()),
                Ok(Err(not_until)) => {
                    let wait = not_until.wait_time_from(clock.now()).as_nanos();
                    prop_assert_eq!(u128::from(ours.unwrap_err().nanos()), wait);
                }
            }
        }
    }

    /// All that the limit allows passes: a client that always asks again when it was told to leaves nothing unused.
    #[test]
    fn who_waits_as_told_gets_it_all(amount in 1..5_000_u32, unit in 0..3_usize, burst in 20..500_u64, counts in proptest::collection::vec(1..20_u64, 200)) {
        let (unit, seconds) = [("second", 1), ("minute", 60), ("hour", 3_600)][unit];
        let table = table(&format!(r#"[{{"name": "x", "per": ["key"], "count": "tokens", "rate": "{amount}/{unit}", "burst": {burst}}}]"#));
        let (mut store, mut now, mut passed) = (Memory::default(), START, 0_u64);
        for count in counts {
            if let Err(refused) = table.go(&mut store, &acme(), now, tokens(count, 0)) {
                now += refused.denied().nanos();
                prop_assert!(table.go(&mut store, &acme(), now, tokens(count, 0)).is_ok());
            }
            passed += count;
        }
        let period = u128::from(seconds * SECOND);
        let allowed = u128::from(burst) * period + u128::from(now - START) * u128::from(amount);
        let passed = u128::from(passed) * period;
        prop_assert!(passed <= allowed);
        // Each wait ends on a whole nanosecond: up to one is lost at each, which only a bucket that never fills sees.
        prop_assert!(now == START || allowed - passed <= 200 * u128::from(amount), "{} {}", allowed, passed);
    }
}

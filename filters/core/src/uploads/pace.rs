//! How fast an upload comes.

use super::Policy;

/// The span over which an upload is measured now: when it began, and what had come by then.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pace {
    /// Nanoseconds since 1970; zero before the upload was looked at.
    since: u64,
    came: u64,
}

impl Pace {
    /// Looks at an upload of which `len` bytes have come by `now`: whether it is too slow.
    ///
    /// Spans follow each other, so one that came fast and then falls silent is found at the end of the next span.
    pub fn is_too_slow(&mut self, policy: &Policy, len: u64, now: u64) -> bool {
        let took = now.saturating_sub(self.since);
        // Also where the clock was set back.
        if self.since == 0 || now < self.since {
            self.restart(len, now);
            return false;
        }
        if took < policy.grace {
            return false;
        }
        let needed = u128::from(policy.least_rate) * u128::from(took) / 1_000_000_000;
        let slow = u128::from(len.saturating_sub(self.came)) < needed;
        self.restart(len, now);
        slow
    }

    /// Measures from here.
    pub fn restart(&mut self, len: u64, now: u64) {
        (self.since, self.came) = (now, len);
    }
}

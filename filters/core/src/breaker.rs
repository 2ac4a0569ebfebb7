//! A breaker for one target: closed while it works, open once it failed often enough, and then closed again by a few
//! probes. Time and state are arguments; nothing here reads a clock or stores anything.
//!
//! ```text
//! closed ──failures in a row──▶ open ──its time is over──▶ half open ──a probe succeeds──▶ closed
//!                                 ▲                           │
//!                                 └──────a probe fails────────┘   (each time for twice as long)
//! ```

use core::time::Duration;

/// When a breaker opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Failures in a row that open it; at least one.
    pub failures: u16,
    /// How long it stays open at first.
    pub open: Duration,
    /// The longest that it stays open, however often probes fail.
    pub longest: Duration,
}

/// How a request to the target ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It answered.
    Success,
    /// A status of 5xx, a reset or a timeout.
    Failure,
    /// It asked to be left alone for so long (429 or 503 with Retry-After).
    Leave(Duration),
    /// Another attempt followed, so it failed, at some time since then (nanoseconds since 1970). If it asked to be left
    /// alone, that was told already, by whoever saw it.
    Followed(u64),
}

/// The state of a breaker. `Default` is closed. Times are nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Breaker {
    /// Failures in a row while closed.
    failures: u16,
    /// How often it opened without closing since.
    openings: u16,
    /// Until when it lets nobody through; zero while it is closed.
    open_until: u64,
    /// When it was last asked to leave the target alone.
    left_at: u64,
}

/// What a breaker says to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Pass,
    /// Go on, as the probe: the state that comes with it says that one is under way, and must be stored first.
    Probe(Breaker),
    /// Not now, but in so many nanoseconds.
    Wait(u64),
}

impl Breaker {
    /// Bytes of a stored state.
    pub const SIZE: usize = 20;

    /// Whether there is nothing that a success would have to make up for.
    pub fn is_untroubled(self) -> bool {
        let left_at = self.left_at;
        self == Self {
            left_at,
            ..Self::default()
        }
    }

    /// Whether a request may go to the target now.
    pub fn ask(self, policy: &Policy, now: u64) -> Verdict {
        if self.open_until == 0 {
            return Verdict::Pass;
        }
        match self.open_until.checked_sub(now) {
            // Longer than ever said: the clock was set back since.
            Some(wait @ 1..) if wait <= nanos(policy.longest) => Verdict::Wait(wait),
            // One probe at a time. If its ending is never told, the next comes after another pause.
            _ => Verdict::Probe(Self {
                open_until: now.saturating_add(self.pause(policy)),
                ..self
            }),
        }
    }

    /// The state after a request to the target ended; `probe` if it went there as one.
    ///
    /// While it is open only the probe counts: the others were under way already when it opened.
    #[must_use]
    pub fn after(self, policy: &Policy, ending: Ending, probe: bool, now: u64) -> Self {
        let open = self.open_until != 0;
        match ending {
            Ending::Leave(pause) => {
                let pause = nanos(pause).min(nanos(policy.longest)).max(1);
                Self {
                    open_until: self.open_until.max(now.saturating_add(pause)),
                    left_at: now,
                    ..self
                }
            }
            Ending::Success if probe || !open => Self {
                left_at: self.left_at,
                ..Self::default()
            },
            Ending::Followed(since) if self.left_at >= since => self,
            Ending::Failure | Ending::Followed(_) if probe => self.opened(policy, now),
            Ending::Failure | Ending::Followed(_) if !open => {
                let failed = Self {
                    failures: self.failures.saturating_add(1),
                    ..self
                };
                if failed.failures < policy.failures {
                    failed
                } else {
                    failed.opened(policy, now)
                }
            }
            Ending::Success | Ending::Failure | Ending::Followed(_) => self,
        }
    }

    fn opened(self, policy: &Policy, now: u64) -> Self {
        let opened = Self {
            openings: self.openings.saturating_add(1),
            ..self
        };
        Self {
            open_until: now.saturating_add(opened.pause(policy)),
            ..opened
        }
    }

    /// How long it is open: twice as long after each opening without a success.
    fn pause(self, policy: &Policy) -> u64 {
        let doubled = self.openings.saturating_sub(1).min(20);
        nanos(policy.open)
            .saturating_mul(1 << doubled)
            .min(nanos(policy.longest))
            .max(1)
    }

    /// The state as it is stored.
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        let (failures, rest) = bytes.split_at_mut(2);
        let (openings, rest) = rest.split_at_mut(2);
        let (until, left_at) = rest.split_at_mut(8);
        failures.copy_from_slice(&self.failures.to_le_bytes());
        openings.copy_from_slice(&self.openings.to_le_bytes());
        until.copy_from_slice(&self.open_until.to_le_bytes());
        left_at.copy_from_slice(&self.left_at.to_le_bytes());
        bytes
    }

    /// Reads a stored state; closed for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let read = || {
            let (failures, rest) = bytes.split_first_chunk()?;
            let (openings, rest) = rest.split_first_chunk()?;
            let (until, rest) = rest.split_first_chunk()?;
            let (left_at, rest) = rest.split_first_chunk()?;
            rest.is_empty().then_some(Self {
                failures: u16::from_le_bytes(*failures),
                openings: u16::from_le_bytes(*openings),
                open_until: u64::from_le_bytes(*until),
                left_at: u64::from_le_bytes(*left_at),
            })
        };
        read().unwrap_or_default()
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;
    const POLICY: Policy = Policy {
        failures: 3,
        open: Duration::from_secs(2),
        longest: Duration::from_secs(10),
    };

    fn fail(breaker: Breaker, times: u16, now: u64) -> Breaker {
        (0..times).fold(breaker, |breaker, _| {
            breaker.after(&POLICY, Ending::Failure, false, now)
        })
    }

    fn probe(breaker: Breaker, now: u64) -> Breaker {
        match breaker.ask(&POLICY, now) {
            Verdict::Probe(breaker) => breaker,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn failures_in_a_row_open_it() {
        let breaker = fail(Breaker::default(), 2, SECOND);
        assert_eq!(breaker.ask(&POLICY, SECOND), Verdict::Pass);
        let mended = breaker.after(&POLICY, Ending::Success, false, SECOND);
        assert_eq!(fail(mended, 2, SECOND).ask(&POLICY, SECOND), Verdict::Pass);
        assert_eq!(
            fail(breaker, 1, SECOND).ask(&POLICY, SECOND),
            Verdict::Wait(2 * SECOND)
        );
    }

    #[test]
    fn a_clock_set_back_does_not_keep_it_open() {
        let open = fail(Breaker::default(), 3, 3_600 * SECOND);
        let probing = probe(open, SECOND);
        assert_eq!(probing.ask(&POLICY, SECOND), Verdict::Wait(2 * SECOND));
    }

    #[test]
    fn one_probe_closes_it_or_opens_it_for_longer() {
        let open = fail(Breaker::default(), 3, SECOND);
        let probing = probe(open, 3 * SECOND);
        assert_eq!(
            probing.ask(&POLICY, 3 * SECOND),
            Verdict::Wait(2 * SECOND),
            "one at a time"
        );
        assert_eq!(
            probing.after(&POLICY, Ending::Success, true, 4 * SECOND),
            Breaker::default()
        );
        let again = probing.after(&POLICY, Ending::Failure, true, 4 * SECOND);
        assert_eq!(again.ask(&POLICY, 4 * SECOND), Verdict::Wait(4 * SECOND));
        let mut now = 8 * SECOND;
        let mut breaker = again;
        for _ in 0..10 {
            breaker = probe(breaker, now).after(&POLICY, Ending::Failure, true, now);
            now += 10 * SECOND;
        }
        assert_eq!(
            breaker.ask(&POLICY, now - 10 * SECOND),
            Verdict::Wait(10 * SECOND),
            "never longer than that"
        );
    }

    #[test]
    fn who_was_under_way_changes_nothing() {
        let open = fail(Breaker::default(), 3, SECOND);
        assert_eq!(fail(open, 100, 2 * SECOND), open);
        assert_eq!(open.after(&POLICY, Ending::Success, false, 2 * SECOND), open);
    }

    #[test]
    fn a_lost_probe_is_followed_by_another() {
        let probing = probe(fail(Breaker::default(), 3, SECOND), 3 * SECOND);
        assert!(matches!(probing.ask(&POLICY, 5 * SECOND), Verdict::Probe(_)));
    }

    #[test]
    fn a_target_that_asks_for_it_is_left_alone() {
        let left = Breaker::default().after(&POLICY, Ending::Leave(Duration::from_secs(7)), false, SECOND);
        assert_eq!(left.ask(&POLICY, SECOND), Verdict::Wait(7 * SECOND));
        let long =
            Breaker::default().after(&POLICY, Ending::Leave(Duration::from_secs(7_000)), false, SECOND);
        assert_eq!(
            long.ask(&POLICY, SECOND),
            Verdict::Wait(10 * SECOND),
            "within the operator's bound"
        );
    }

    /// By its own answer when that came, and as one that was followed by another when the request was answered.
    #[test]
    fn an_attempt_that_is_told_of_twice_counts_once() {
        let followed = |breaker: Breaker, probe: bool, now: u64| {
            breaker.after(&POLICY, Ending::Followed(SECOND), probe, now * SECOND)
        };
        let seconds = |seconds| Ending::Leave(Duration::from_secs(seconds));
        let left = Breaker::default().after(&POLICY, seconds(1), false, 2 * SECOND);
        assert_eq!(followed(left, false, 3), left);
        // Also where it works again by then.
        let works = probe(left, 4 * SECOND).after(&POLICY, Ending::Success, true, 4 * SECOND);
        assert!(works.is_untroubled());
        assert_eq!(followed(works, false, 5), works);
        // A probe that was asked to leave did not fail.
        let probing = probe(fail(Breaker::default(), 3, 0), 3 * SECOND);
        let left = probing.after(&POLICY, seconds(9), false, 4 * SECOND);
        assert_eq!(
            followed(left, true, 5).ask(&POLICY, 5 * SECOND),
            Verdict::Wait(8 * SECOND)
        );
        // One that nobody saw failed.
        assert!(!followed(Breaker::default(), false, 3).is_untroubled());
    }

    proptest! {
        #[test]
        fn survives_storage(failures: u16, openings: u16, open_until: u64, left_at: u64, junk: Vec<u8>) {
            let breaker = Breaker { failures, openings, open_until, left_at };
            prop_assert_eq!(Breaker::from_bytes(&breaker.to_bytes()), breaker);
            if junk.len() != Breaker::SIZE {
                prop_assert_eq!(Breaker::from_bytes(&junk), Breaker::default());
            }
        }

        /// However it came to be, it lets somebody through again within the longest pause.
        #[test]
        fn never_open_for_ever(failures: u16, openings: u16, now in 0..u64::MAX / 4, probes: bool) {
            let breaker = Breaker { failures, openings, open_until: 0, left_at: 0 };
            let after = breaker.after(&POLICY, Ending::Failure, probes, now);
            let later = now + 10 * SECOND;
            prop_assert!(!matches!(after.ask(&POLICY, later), Verdict::Wait(_)));
        }
    }
}

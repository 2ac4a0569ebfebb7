//! A breaker for one model at one target: closed while it works, open once it failed often enough, and then closed again
//! by a few probes. Time and state are arguments; nothing here reads a clock or stores anything.
//!
//! Some failures one organization can cause by what it asks for: a time-out, a limit of the target's that it has used up
//! (429), or an attempt of which nobody saw why it failed. They open the organization's own breaker. For everybody's they count once in a row from one organization, so
//! that it takes two of them to open it.
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
    /// What its target alone is to blame for: 401, 402, 407, 502, 503, 529, no connection, an answer that broke off.
    Failure,
    /// A failure that the organization of this [`tag`] may have caused.
    Suspect(u64),
    /// It asked to be left alone for so long (503 or 529 with Retry-After, or 429 for the sake of our quota).
    Leave(Duration),
    /// It asked for that of too many requests (429), which may all have been those of the organization of this [`tag`].
    Busy(Duration, u64),
    /// Another attempt followed, so it failed, nobody saw why. If it asked to be left alone, that was told already, by
    /// whoever saw it.
    Followed {
        /// Earliest time at which it did; nanoseconds since 1970.
        since: u64,
        /// The [`tag`] of its organization, where that may have caused it.
        suspect: Option<u64>,
    },
}

/// A number for an organization, never zero: FNV-1a.
pub fn tag(org: &str) -> u64 {
    let hash = org.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash.max(1)
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
    /// Whose failure was the last that an organization may have caused; zero after a success.
    suspect: u64,
    /// When there was one last. Until it is long ago organizations may have breakers of their own.
    suspected_at: u64,
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
    pub const SIZE: usize = 36;

    /// Whether there is nothing that a success would have to make up for.
    pub fn is_untroubled(self) -> bool {
        (self.failures, self.openings, self.open_until, self.suspect) == (0, 0, 0, 0)
    }

    /// Whether an organization may have been suspected, ever.
    pub fn had_suspects(self) -> bool {
        self.suspected_at != 0
    }

    /// Whether an organization's own breaker can still be open.
    pub fn has_suspects(self, policy: &Policy, now: u64) -> bool {
        let longest = nanos(policy.longest).saturating_mul(2);
        self.suspected_at != 0 && now.saturating_sub(self.suspected_at) <= longest
    }

    /// Whether the target asked to be left alone at that time or later.
    pub fn left_since(self, since: u64) -> bool {
        self.left_at >= since
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

    /// The state after a probe that was not sent: the next may go at once. Unchanged where another one was let through
    /// since, which shows in another time.
    #[must_use]
    pub fn released(self, probing: Self, now: u64) -> Self {
        if self.open_until == probing.open_until {
            Self {
                open_until: now.max(1),
                ..self
            }
        } else {
            self
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
            // Two of them: it has had enough of everybody.
            Ending::Busy(pause, tag)
                if self.has_suspects(policy, now) && ![0, tag].contains(&self.suspect) =>
            {
                self.suspecting(tag, now)
                    .after(policy, Ending::Leave(pause), probe, now)
            }
            // A probe by another organization may come at once.
            Ending::Busy(_, tag) => Self {
                open_until: if probe { now.max(1) } else { self.open_until },
                left_at: now,
                ..self.suspecting(tag, now)
            },
            Ending::Success if probe || !open => Self {
                left_at: self.left_at,
                suspected_at: self.suspected_at,
                ..Self::default()
            },
            Ending::Followed { since, .. } if self.left_since(since) => self,
            Ending::Failure | Ending::Followed { suspect: None, .. } if probe || !open => {
                self.failed(policy, probe, now)
            }
            Ending::Followed {
                suspect: Some(tag), ..
            } if probe => self.suspecting(tag, now).failed(policy, probe, now),
            // A second organization's probe failed as well: it is the target.
            Ending::Suspect(tag) if probe && ![0, tag].contains(&self.suspect) => {
                self.suspecting(tag, now).failed(policy, probe, now)
            }
            // It may have been this organization's probe alone: the next one may come at once.
            Ending::Suspect(tag) if probe => Self {
                open_until: now.max(1),
                ..self.suspecting(tag, now)
            },
            Ending::Suspect(tag)
            | Ending::Followed {
                suspect: Some(tag), ..
            } => {
                let suspecting = self.suspecting(tag, now);
                match self.suspect {
                    _ if open => suspecting,
                    last if last == tag => suspecting,
                    // One organization alone is never what opens it.
                    0 => Self {
                        failures: self
                            .failures
                            .saturating_add(1)
                            .min(policy.failures.saturating_sub(1)),
                        ..suspecting
                    },
                    _ => suspecting.failed(policy, false, now),
                }
            }
            Ending::Success | Ending::Failure | Ending::Followed { suspect: None, .. } => self,
        }
    }

    fn suspecting(self, tag: u64, now: u64) -> Self {
        Self {
            suspect: tag,
            suspected_at: now,
            ..self
        }
    }

    fn failed(self, policy: &Policy, probe: bool, now: u64) -> Self {
        let failed = Self {
            failures: self.failures.saturating_add(u16::from(!probe)),
            ..self
        };
        if probe || failed.failures >= policy.failures {
            failed.opened(policy, now)
        } else {
            failed
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
        let (openings, times) = rest.split_at_mut(2);
        failures.copy_from_slice(&self.failures.to_le_bytes());
        openings.copy_from_slice(&self.openings.to_le_bytes());
        let numbers = [self.open_until, self.left_at, self.suspect, self.suspected_at];
        for (place, number) in times.chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// Reads a stored state; closed for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let read = || {
            let (failures, rest) = bytes.split_first_chunk()?;
            let (openings, rest) = rest.split_first_chunk()?;
            let (numbers, rest) = rest.as_chunks::<8>();
            let [open_until, left_at, suspect, suspected_at] = *numbers.first_chunk()?;
            let rest = numbers.get(4..)?.as_flattened().iter().chain(rest).next();
            rest.is_none().then_some(Self {
                failures: u16::from_le_bytes(*failures),
                openings: u16::from_le_bytes(*openings),
                open_until: u64::from_le_bytes(open_until),
                left_at: u64::from_le_bytes(left_at),
                suspect: u64::from_le_bytes(suspect),
                suspected_at: u64::from_le_bytes(suspected_at),
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
            let ending = Ending::Followed {
                since: SECOND,
                suspect: Some(tag("acme")),
            };
            breaker.after(&POLICY, ending, probe, now * SECOND)
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

    #[test]
    fn one_organization_does_not_open_it_for_others() {
        let suspect = |breaker: Breaker, org: &str, times: usize| {
            (0..times).fold(breaker, |breaker, _| {
                breaker.after(&POLICY, Ending::Suspect(tag(org)), false, SECOND)
            })
        };
        let acme = suspect(Breaker::default(), "acme", 100);
        assert_eq!(acme.ask(&POLICY, SECOND), Verdict::Pass);
        assert!(!acme.is_untroubled() && acme.has_suspects(&POLICY, SECOND));
        let two = suspect(suspect(acme, "globex", 100), "acme", 1);
        assert!(matches!(two.ask(&POLICY, SECOND), Verdict::Wait(_)));
        // Not even where one failure is enough, or one more.
        let one = Policy {
            failures: 1,
            ..POLICY
        };
        let suspected = Breaker::default().after(&one, Ending::Suspect(tag("acme")), false, SECOND);
        assert_eq!(suspected.ask(&one, SECOND), Verdict::Pass);
        let failed = suspect(fail(Breaker::default(), 2, SECOND), "acme", 1);
        assert_eq!(failed.ask(&POLICY, SECOND), Verdict::Pass);
        // What anybody else's success mends, and until when own breakers are asked for.
        let mended = acme.after(&POLICY, Ending::Success, false, SECOND);
        assert!(mended.is_untroubled() && mended.had_suspects());
        assert!(!mended.has_suspects(&POLICY, 22 * SECOND));
    }

    #[test]
    fn one_organization_has_no_target_left_alone_for_others() {
        let busy = |breaker: Breaker, org: &str, now: u64| {
            let ending = Ending::Busy(Duration::from_secs(7), tag(org));
            breaker.after(&POLICY, ending, false, now * SECOND)
        };
        let mut acme = Breaker::default();
        for now in 1..100 {
            acme = busy(acme, "acme", now);
        }
        assert_eq!(acme.ask(&POLICY, 99 * SECOND), Verdict::Pass);
        assert!(acme.has_suspects(&POLICY, 99 * SECOND) && acme.left_since(99 * SECOND));
        let two = busy(acme, "globex", 100);
        assert_eq!(two.ask(&POLICY, 100 * SECOND), Verdict::Wait(7 * SECOND));
        // What anybody's success mends, or is long ago.
        let mended = acme.after(&POLICY, Ending::Success, false, 99 * SECOND);
        assert_eq!(
            busy(mended, "globex", 100).ask(&POLICY, 100 * SECOND),
            Verdict::Pass
        );
        assert_eq!(
            busy(acme, "globex", 200).ask(&POLICY, 200 * SECOND),
            Verdict::Pass
        );
        // A probe that was told so: the next one may come at once.
        let probing = probe(fail(Breaker::default(), 3, SECOND), 3 * SECOND);
        let ending = Ending::Busy(Duration::from_secs(7), tag("acme"));
        let told = probing.after(&POLICY, ending, true, 4 * SECOND);
        assert!(matches!(told.ask(&POLICY, 4 * SECOND), Verdict::Probe(_)));
    }

    #[test]
    fn a_probe_that_its_sender_may_have_spoiled_is_followed_by_another_at_once() {
        let probing = probe(fail(Breaker::default(), 3, SECOND), 3 * SECOND);
        let spoiled = probing.after(&POLICY, Ending::Suspect(tag("acme")), true, 4 * SECOND);
        assert!(matches!(spoiled.ask(&POLICY, 4 * SECOND), Verdict::Probe(_)));
        // Two of them, and it is the target.
        let again =
            probe(spoiled, 4 * SECOND).after(&POLICY, Ending::Suspect(tag("globex")), true, 4 * SECOND);
        assert_eq!(again.ask(&POLICY, 4 * SECOND), Verdict::Wait(4 * SECOND));
    }

    proptest! {
        #[test]
        fn survives_storage(failures: u16, openings: u16, numbers: [u64; 4], junk: Vec<u8>) {
            let [open_until, left_at, suspect, suspected_at] = numbers;
            let breaker = Breaker { failures, openings, open_until, left_at, suspect, suspected_at };
            prop_assert_eq!(Breaker::from_bytes(&breaker.to_bytes()), breaker);
            if junk.len() != Breaker::SIZE {
                prop_assert_eq!(Breaker::from_bytes(&junk), Breaker::default());
            }
        }

        /// However it came to be, it lets somebody through again within the longest pause.
        #[test]
        fn never_open_for_ever(failures: u16, openings: u16, now in 0..u64::MAX / 4, probes: bool) {
            let breaker = Breaker { failures, openings, ..Breaker::default() };
            let after = breaker.after(&POLICY, Ending::Failure, probes, now);
            let later = now + 10 * SECOND;
            prop_assert!(!matches!(after.ask(&POLICY, later), Verdict::Wait(_)));
        }
    }
}

//! A breaker for one model at one target: closed while it works, open once it failed often enough, and then closed again
//! by a few probes. Time and state are arguments; nothing here reads a clock or stores anything.
//!
//! Some failures one organization can cause by what it asks for: a time-out, a limit of the target's that it has used up
//! (429), or an attempt of which nobody saw why it failed. They open the organization's own breaker. For everybody's they
//! count once in a row from one organization, so that it takes two of them to open it.
//!
//! ```text
//! closed ──failures in a row──▶ open ──its time is over──▶ half open ──a probe succeeds──▶ closed
//!                                 ▲                           │
//!                                 └──────a probe fails────────┘   (each time for twice as long)
//! ```

use core::time::Duration;

use super::ending::Ending;
use crate::state::{Keyspace, Value};

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

/// The state of a breaker. `Default` is closed. Times are nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Breaker {
    /// Failures in a row while closed.
    failures: u16,
    /// How often it opened without closing since.
    openings: u16,
    /// Until when it lets nobody through; zero while it is closed.
    open_until: u64,
    /// When the target last asked to be left alone.
    backed_off_at: u64,
    /// Whose failure was the last that an organization may have caused; zero after a success.
    suspect: u64,
    /// When there was one last. Until it is long ago organizations may have breakers of their own.
    suspected_at: u64,
    /// Whose probe is in flight; zero where none is.
    probed_by: u64,
    /// When that was let through.
    probed_at: u64,
}

/// From one organization's probe to another's while the first has no ending: nobody keeps a target that works again from
/// the others by a probe that takes long. Nanoseconds.
const NEXT_PROBE: u64 = 1_000_000_000;

/// Whether a breaker lets a request through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Go on.
    Pass,
    /// Go on, as the probe: the state that comes with it says that one is in flight, and must be stored first.
    Probe(Breaker),
    /// Not now, but in so many nanoseconds.
    Wait(u64),
}

impl Breaker {
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
    pub fn backed_off_since(self, since: u64) -> bool {
        self.backed_off_at >= since
    }

    /// Whether a request of this organization may go to the target now.
    pub fn admit(self, policy: &Policy, tag: u64, now: u64) -> Admission {
        if self.is_closed() {
            return Admission::Pass;
        }
        let probe = Admission::Probe(Self {
            open_until: now.saturating_add(self.pause(policy)),
            probed_by: tag,
            probed_at: now,
            ..self
        });
        match self.open_until.checked_sub(now) {
            // Longer than ever said: the clock was set back since.
            Some(wait @ 1..) if wait <= nanos(policy.longest) => {
                let next = self.probed_at.saturating_add(NEXT_PROBE);
                match next.checked_sub(now) {
                    _ if [0, tag].contains(&self.probed_by) => Admission::Wait(wait),
                    None | Some(0) => probe,
                    Some(next) => Admission::Wait(wait.min(next)),
                }
            }
            // One probe of an organization at a time. If its ending is never told, the next comes after another pause.
            _ => probe,
        }
    }

    /// The state after a probe that was not sent: the next may go at once. Unchanged where another one was let through
    /// since, which shows in another time.
    #[must_use]
    pub fn released(self, probing: Self, now: u64) -> Self {
        if self.open_until == probing.open_until {
            Self {
                open_until: now.max(1),
                probed_by: 0,
                ..self
            }
        } else {
            self
        }
    }

    /// The state after a request to the target ended; `probe` if it went there as one.
    ///
    /// While it is open only the probe counts: the others were in flight already when it opened.
    #[must_use]
    pub fn after(self, policy: &Policy, ending: Ending, probe: bool, now: u64) -> Self {
        let counts = probe || self.is_closed();
        match ending {
            Ending::BackOff(pause) => self.backed_off(policy, pause, now),
            Ending::Busy(pause, tag) => self.busy(policy, pause, tag, probe, now),
            Ending::Followed { since, .. } if self.backed_off_since(since) => self,
            Ending::Success if counts => self.mended(),
            Ending::Failure | Ending::Followed { suspect: None, .. } if counts => {
                self.failed(policy, probe, now)
            }
            Ending::Success | Ending::Failure | Ending::Followed { suspect: None, .. } => self,
            Ending::Followed {
                suspect: Some(tag), ..
            } if probe => self.suspecting(tag, now).failed(policy, probe, now),
            Ending::Suspect(tag) if probe => self.probe_suspected(policy, tag, now),
            Ending::Suspect(tag)
            | Ending::Followed {
                suspect: Some(tag), ..
            } => self.suspected(policy, tag, now),
        }
    }

    /// Whether anybody may go to the target at any time.
    pub const fn is_closed(self) -> bool {
        self.open_until == 0
    }

    /// Whether the last failure that an organization may have caused was another one's.
    fn suspects_another(self, tag: u64) -> bool {
        ![0, tag].contains(&self.suspect)
    }

    fn mended(self) -> Self {
        Self {
            backed_off_at: self.backed_off_at,
            suspected_at: self.suspected_at,
            ..Self::default()
        }
    }

    fn backed_off(self, policy: &Policy, pause: Duration, now: u64) -> Self {
        let pause = nanos(pause).min(nanos(policy.longest)).max(1);
        Self {
            open_until: self.open_until.max(now.saturating_add(pause)),
            backed_off_at: now,
            probed_by: 0,
            ..self
        }
    }

    /// It had enough of one organization, or, where that happens to two of them, of everybody.
    fn busy(self, policy: &Policy, pause: Duration, tag: u64, probe: bool, now: u64) -> Self {
        let suspecting = self.suspecting(tag, now);
        if self.has_suspects(policy, now) && self.suspects_another(tag) {
            return suspecting.backed_off(policy, pause, now);
        }
        Self {
            // A probe by another organization may come at once.
            open_until: if probe { now.max(1) } else { self.open_until },
            probed_by: if probe { 0 } else { self.probed_by },
            backed_off_at: now,
            ..suspecting
        }
    }

    /// A probe failed for which its organization may be to blame. A second one's, and it is the target.
    fn probe_suspected(self, policy: &Policy, tag: u64, now: u64) -> Self {
        let suspecting = self.suspecting(tag, now);
        if self.suspects_another(tag) {
            return suspecting.failed(policy, true, now);
        }
        // It may have been this organization's probe alone: the next one may come at once.
        Self {
            open_until: now.max(1),
            probed_by: 0,
            ..suspecting
        }
    }

    /// A request failed that was no probe, for which its organization may be to blame.
    fn suspected(self, policy: &Policy, tag: u64, now: u64) -> Self {
        let suspecting = self.suspecting(tag, now);
        match self.suspect {
            _ if !self.is_closed() => suspecting,
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

    fn suspecting(self, tag: u64, now: u64) -> Self {
        Self {
            suspect: tag,
            suspected_at: now,
            ..self
        }
    }

    fn failed(self, policy: &Policy, probe: bool, now: u64) -> Self {
        if probe && self.probed_by == 0 {
            // Another probe failed before it: that it is open is known.
            return self;
        }
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
            probed_by: 0,
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
}

/// Little-endian: failures and openings (2 bytes each), then the six times and tags (8 each), in the order of the fields.
impl Value for Breaker {
    const KEYSPACE: Keyspace = Keyspace::BREAKER;

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (failures, rest) = bytes.split_first_chunk()?;
        let (openings, rest) = rest.split_first_chunk()?;
        let (numbers, rest) = rest.as_chunks::<8>();
        let [
            open_until,
            backed_off_at,
            suspect,
            suspected_at,
            probed_by,
            probed_at,
        ] = *<&[_; 6]>::try_from(numbers).ok()?;
        rest.is_empty().then_some(Self {
            failures: u16::from_le_bytes(*failures),
            openings: u16::from_le_bytes(*openings),
            open_until: u64::from_le_bytes(open_until),
            backed_off_at: u64::from_le_bytes(backed_off_at),
            suspect: u64::from_le_bytes(suspect),
            suspected_at: u64::from_le_bytes(suspected_at),
            probed_by: u64::from_le_bytes(probed_by),
            probed_at: u64::from_le_bytes(probed_at),
        })
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(52);
        for count in [self.failures, self.openings] {
            bytes.extend(count.to_le_bytes());
        }
        for number in [
            self.open_until,
            self.backed_off_at,
            self.suspect,
            self.suspected_at,
            self.probed_by,
            self.probed_at,
        ] {
            bytes.extend(number.to_le_bytes());
        }
        bytes
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::ending::tag;
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
        match breaker.admit(&POLICY, 1, now) {
            Admission::Probe(breaker) => breaker,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn failures_in_a_row_open_it() {
        let breaker = fail(Breaker::default(), 2, SECOND);
        assert_eq!(breaker.admit(&POLICY, 1, SECOND), Admission::Pass);
        let mended = breaker.after(&POLICY, Ending::Success, false, SECOND);
        assert_eq!(fail(mended, 2, SECOND).admit(&POLICY, 1, SECOND), Admission::Pass);
        assert_eq!(
            fail(breaker, 1, SECOND).admit(&POLICY, 1, SECOND),
            Admission::Wait(2 * SECOND)
        );
    }

    #[test]
    fn a_clock_set_back_does_not_keep_it_open() {
        let open = fail(Breaker::default(), 3, 3_600 * SECOND);
        let probing = probe(open, SECOND);
        assert_eq!(probing.admit(&POLICY, 1, SECOND), Admission::Wait(2 * SECOND));
    }

    #[test]
    fn one_probe_closes_it_or_opens_it_for_longer() {
        let open = fail(Breaker::default(), 3, SECOND);
        let probing = probe(open, 3 * SECOND);
        assert_eq!(
            probing.admit(&POLICY, 1, 3 * SECOND),
            Admission::Wait(2 * SECOND),
            "one at a time"
        );
        assert_eq!(
            probing.after(&POLICY, Ending::Success, true, 4 * SECOND),
            Breaker::default()
        );
        let again = probing.after(&POLICY, Ending::Failure, true, 4 * SECOND);
        assert_eq!(again.admit(&POLICY, 1, 4 * SECOND), Admission::Wait(4 * SECOND));
        let mut now = 8 * SECOND;
        let mut breaker = again;
        for _ in 0..10 {
            breaker = probe(breaker, now).after(&POLICY, Ending::Failure, true, now);
            now += 10 * SECOND;
        }
        assert_eq!(
            breaker.admit(&POLICY, 1, now - 10 * SECOND),
            Admission::Wait(10 * SECOND),
            "never longer than that"
        );
    }

    #[test]
    fn who_was_in_flight_changes_nothing() {
        let open = fail(Breaker::default(), 3, SECOND);
        assert_eq!(fail(open, 100, 2 * SECOND), open);
        assert_eq!(open.after(&POLICY, Ending::Success, false, 2 * SECOND), open);
    }

    #[test]
    fn nobody_keeps_a_target_from_others_by_a_probe_that_takes_long() {
        let (one, two, three) = (1, 2, 3);
        let open = fail(Breaker::default(), 3, SECOND);
        let first = probe(open, 3 * SECOND);
        let half = SECOND / 2;
        let wait = |org, now| match first.admit(&POLICY, org, now) {
            Admission::Wait(nanos) => Some(nanos),
            _ => None,
        };
        // Its own organization waits for its ending, another one for a second.
        assert_eq!(wait(one, 4 * SECOND), Some(SECOND));
        assert_eq!(wait(two, 3 * SECOND + half), Some(half));
        let Admission::Probe(second) = first.admit(&POLICY, two, 4 * SECOND) else {
            panic!("nothing is known of the first")
        };
        assert_eq!(second.admit(&POLICY, three, 4 * SECOND), Admission::Wait(SECOND));
        assert!(
            second
                .after(&POLICY, Ending::Success, true, 4 * SECOND)
                .is_untroubled()
        );
        // Both fail: it is open once more, and not twice as long for each.
        let failed = second.after(&POLICY, Ending::Failure, true, 4 * SECOND);
        assert_eq!(failed.after(&POLICY, Ending::Failure, true, 5 * SECOND), failed);
        assert_eq!(
            failed.admit(&POLICY, one, 4 * SECOND),
            Admission::Wait(4 * SECOND)
        );
        // The first one does well after all.
        assert!(
            failed
                .after(&POLICY, Ending::Success, true, 5 * SECOND)
                .is_untroubled()
        );
    }

    #[test]
    fn a_lost_probe_is_followed_by_another() {
        let probing = probe(fail(Breaker::default(), 3, SECOND), 3 * SECOND);
        assert!(matches!(
            probing.admit(&POLICY, 1, 5 * SECOND),
            Admission::Probe(_)
        ));
    }

    #[test]
    fn a_target_that_asks_for_it_is_left_alone() {
        let left = Breaker::default().after(&POLICY, Ending::BackOff(Duration::from_secs(7)), false, SECOND);
        assert_eq!(left.admit(&POLICY, 1, SECOND), Admission::Wait(7 * SECOND));
        let long = Breaker::default().after(
            &POLICY,
            Ending::BackOff(Duration::from_secs(7_000)),
            false,
            SECOND,
        );
        assert_eq!(
            long.admit(&POLICY, 1, SECOND),
            Admission::Wait(10 * SECOND),
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
        let seconds = |seconds| Ending::BackOff(Duration::from_secs(seconds));
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
            followed(left, true, 5).admit(&POLICY, 1, 5 * SECOND),
            Admission::Wait(8 * SECOND)
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
        assert_eq!(acme.admit(&POLICY, 1, SECOND), Admission::Pass);
        assert!(!acme.is_untroubled() && acme.has_suspects(&POLICY, SECOND));
        let two = suspect(suspect(acme, "globex", 100), "acme", 1);
        assert!(matches!(two.admit(&POLICY, 1, SECOND), Admission::Wait(_)));
        // Not even where one failure is enough, or one more.
        let one = Policy {
            failures: 1,
            ..POLICY
        };
        let suspected = Breaker::default().after(&one, Ending::Suspect(tag("acme")), false, SECOND);
        assert_eq!(suspected.admit(&one, 1, SECOND), Admission::Pass);
        let failed = suspect(fail(Breaker::default(), 2, SECOND), "acme", 1);
        assert_eq!(failed.admit(&POLICY, 1, SECOND), Admission::Pass);
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
        assert_eq!(acme.admit(&POLICY, 1, 99 * SECOND), Admission::Pass);
        assert!(acme.has_suspects(&POLICY, 99 * SECOND) && acme.backed_off_since(99 * SECOND));
        let two = busy(acme, "globex", 100);
        assert_eq!(two.admit(&POLICY, 1, 100 * SECOND), Admission::Wait(7 * SECOND));
        // What anybody's success mends, or is long ago.
        let mended = acme.after(&POLICY, Ending::Success, false, 99 * SECOND);
        assert_eq!(
            busy(mended, "globex", 100).admit(&POLICY, 1, 100 * SECOND),
            Admission::Pass
        );
        assert_eq!(
            busy(acme, "globex", 200).admit(&POLICY, 1, 200 * SECOND),
            Admission::Pass
        );
        // A probe that was told so: the next one may come at once.
        let probing = probe(fail(Breaker::default(), 3, SECOND), 3 * SECOND);
        let ending = Ending::Busy(Duration::from_secs(7), tag("acme"));
        let told = probing.after(&POLICY, ending, true, 4 * SECOND);
        assert!(matches!(told.admit(&POLICY, 1, 4 * SECOND), Admission::Probe(_)));
    }

    #[test]
    fn a_probe_that_its_sender_may_have_spoiled_is_followed_by_another_at_once() {
        let probing = probe(fail(Breaker::default(), 3, SECOND), 3 * SECOND);
        let spoiled = probing.after(&POLICY, Ending::Suspect(tag("acme")), true, 4 * SECOND);
        assert!(matches!(
            spoiled.admit(&POLICY, 1, 4 * SECOND),
            Admission::Probe(_)
        ));
        // Two of them, and it is the target.
        let again =
            probe(spoiled, 4 * SECOND).after(&POLICY, Ending::Suspect(tag("globex")), true, 4 * SECOND);
        assert_eq!(again.admit(&POLICY, 1, 4 * SECOND), Admission::Wait(4 * SECOND));
    }

    proptest! {
        #[test]
        fn survives_storage(failures: u16, openings: u16, numbers: [u64; 6], junk: Vec<u8>) {
            let [open_until, backed_off_at, suspect, suspected_at, probed_by, probed_at] = numbers;
            let breaker = Breaker { failures, openings, open_until, backed_off_at, suspect, suspected_at, probed_by, probed_at };
            prop_assert_eq!(Breaker::decode(&breaker.encode()), Some(breaker));
            if junk.len() != 52 {
                prop_assert_eq!(Breaker::decode(&junk), None);
            }
        }

        /// However it came to be, it lets somebody through again within the longest pause.
        #[test]
        fn never_open_for_ever(failures: u16, openings: u16, now in 0..u64::MAX / 4, probes: bool) {
            let breaker = Breaker { failures, openings, ..Breaker::default() };
            let after = breaker.after(&POLICY, Ending::Failure, probes, now);
            let later = now + 10 * SECOND;
            prop_assert!(!matches!(after.admit(&POLICY, 1, later), Admission::Wait(_)));
        }
    }
}

//! What the ending of an attempt says of its target: who is to blame, and for how long the target is left alone.

use core::time::Duration;

use crate::flags::Flags;
use crate::retry_after;

/// How a request to a target ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It answered.
    Success,
    /// What its target alone is to blame for: 401, 402, 407, 502, 503, 529, no connection, an answer that broke off.
    Failure,
    /// A failure that the organization of this [`tag`] may have caused.
    Suspect(u64),
    /// It asked to be left alone for so long (503 or 529 with Retry-After, or 429 for the sake of our quota).
    BackOff(Duration),
    /// It asked for that of too many requests (429), which may all have been those of the organization of this [`tag`].
    Busy(Duration, u64),
    /// It failed, as another attempt followed; nobody saw why. If it asked to be left alone, that was told already, by
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

impl Ending {
    /// What the head of an answer to a request of `org` says of its target: its status, zero where it has none, and its
    /// `retry-after`. `now` is in seconds since 1970, and only asked for where that is a date.
    pub fn of_answer(
        status: u16,
        retry_after: Option<&[u8]>,
        org: &str,
        now: impl FnOnce() -> Option<u64>,
    ) -> Self {
        let pause = retry_after.and_then(|value| retry_after::seconds(value.trim_ascii(), now));
        match (status, pause.map(Duration::from_secs)) {
            (503 | 529, Some(pause)) => Self::BackOff(pause),
            (429, Some(pause)) => Self::Busy(pause, tag(org)),
            // Too busy, and not saying for how long: that is not broken.
            (429, None) => Self::Success,
            // No credential of a client's goes there, so it is ours that is refused, whoever asks.
            (401 | 402 | 407, _) => Self::Failure,
            // Not 500: a request that a model server chokes on would take the model from everybody.
            (502 | 503 | 529, _) => Self::Failure,
            // A request that takes too long, or one that a firewall in between does not like.
            (403 | 504, _) => Self::Suspect(tag(org)),
            // No status at all, but an answer.
            (1..200 | 600.., _) => Self::Suspect(tag(org)),
            _ => Self::Success,
        }
    }

    /// Whether its target asked to be left alone, of an attempt that another one may have followed. A 429 to a request
    /// of no known organization does not count.
    pub const fn asks_for_a_pause(self, org: &str) -> bool {
        match self {
            Self::BackOff(_) => true,
            Self::Busy(..) => !org.is_empty(),
            Self::Success | Self::Failure | Self::Suspect(_) | Self::Followed { .. } => false,
        }
    }

    /// What the end of an answer that began well says; `None` where nobody knows how it would have ended. `errored`: it
    /// said itself that something went wrong.
    pub fn of_end(errored: bool, flags: Flags, org: &str) -> Option<Self> {
        match flags {
            // What was asked for may have made it go wrong.
            _ if errored => Some(Self::Suspect(tag(org))),
            flags if flags.upstream_broke() => Some(Self::Failure),
            flags if flags.client_left() => None,
            _ => Some(Self::Success),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, retry_after: Option<&str>) -> Ending {
        Ending::of_answer(status, retry_after.map(str::as_bytes), "acme", || {
            Some(784_111_777)
        })
    }

    #[test]
    fn who_is_to_blame_for_a_status() {
        let suspect = Ending::Suspect(tag("acme"));
        for (statuses, ending) in [
            (
                &[0, 200, 201, 299, 302, 400, 404, 413, 422, 429, 500, 501][..],
                Ending::Success,
            ),
            (&[401, 402, 407, 502, 503, 529], Ending::Failure),
            (&[403, 504, 1, 101, 199, 600, 999], suspect),
        ] {
            for status in statuses {
                assert_eq!(of(*status, None), ending, "{status}");
            }
        }
    }

    #[test]
    fn who_says_how_long_is_left_alone_for_that() {
        let seven = Duration::from_secs(7);
        for said in ["7", " 7 ", "Sun, 06 Nov 1994 08:49:44 GMT"] {
            assert_eq!(of(503, Some(said)), Ending::BackOff(seven));
            assert_eq!(of(529, Some(said)), Ending::BackOff(seven));
            assert_eq!(of(429, Some(said)), Ending::Busy(seven, tag("acme")));
            let heeded = |status, org| of(status, Some(said)).asks_for_a_pause(org);
            assert!(heeded(503, "") && heeded(429, "acme") && !heeded(429, "") && !heeded(504, "acme"));
        }
        assert_eq!(of(503, Some("soon")), Ending::Failure);
        assert_eq!(of(429, Some("soon")), Ending::Success);
        for (status, ending) in [
            (200, Ending::Success),
            (401, Ending::Failure),
            (502, Ending::Failure),
            (504, Ending::Suspect(tag("acme"))),
        ] {
            assert_eq!(of(status, Some("7")), ending, "{status}");
        }
    }

    #[test]
    fn how_an_answer_that_began_well_ended() {
        let (broke, left) = (Flags(1 << 6), Flags(1 << 14));
        let suspect = Some(Ending::Suspect(tag("acme")));
        for (errored, flags, ending) in [
            (false, Flags(0), Some(Ending::Success)),
            (false, broke, Some(Ending::Failure)),
            (false, left, None),
            (false, Flags(broke.0 | left.0), Some(Ending::Failure)),
            (true, Flags(0), suspect),
            (true, broke, suspect),
            (true, left, suspect),
        ] {
            assert_eq!(Ending::of_end(errored, flags, "acme"), ending);
        }
    }
}

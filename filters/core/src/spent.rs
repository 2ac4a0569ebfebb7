//! Attempts of a request that a model server began on and that came to nothing: the router, which hears of each, tells
//! the limits, which charge them.
//!
//! Envoy's router tells a filter of the last attempt alone; an access logger sees each as it ends, and
//! [`Attempts`] holds them until their request ends.

use std::collections::VecDeque;

/// The name of the filter state that carries an encoded [`Spent`].
pub const PROPERTY: &str = "tollgate.spent";

/// Attempts of one request that ended without an answer although a model server had received them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// How many.
    pub attempts: u8,
    /// Whether the last attempt seems to be among them.
    pub last: bool,
}

impl Spent {
    /// The bytes of the filter state.
    pub const fn encode(self) -> [u8; 2] {
        [self.attempts, self.last as u8]
    }

    /// Reads the filter state; nothing was spent for anything else.
    pub const fn decode(state: &[u8]) -> Self {
        match state {
            [attempts, last @ (0 | 1)] => Self {
                attempts: *attempts,
                last: *last == 1,
            },
            _ => Self {
                attempts: 0,
                last: false,
            },
        }
    }

    /// Those before the last attempt, of which it is known apart what became of it. `answered`: its answer is whole, so
    /// that none of these is it.
    pub fn before_last(self, answered: bool) -> u64 {
        u64::from(self.attempts).saturating_sub(u64::from(self.last && !answered))
    }
}

/// An attempt is logged before its request is; what is left over is of requests that nobody asks about any more.
const MAX_KEPT: usize = 4_096;

/// An attempt that a model server received and did not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unanswered {
    /// The id of its request.
    request: Vec<u8>,
    /// Our end of its connection.
    local_address: Vec<u8>,
}

impl Unanswered {
    /// An attempt that is over: `None` where it was answered, or where nobody received it, as there was no connection.
    pub fn of(
        answered: bool,
        local_address: impl FnOnce() -> Option<Vec<u8>>,
        request: impl FnOnce() -> Option<Vec<u8>>,
    ) -> Option<Self> {
        if answered {
            return None;
        }
        Some(Self {
            local_address: local_address()?,
            request: request()?,
        })
    }
}

/// Attempts that came to nothing, of requests that have not ended.
#[derive(Debug, Default)]
pub struct Attempts(VecDeque<Unanswered>);

impl Attempts {
    /// None.
    pub const fn new() -> Self {
        Self(VecDeque::new())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keeps one until its request ends.
    pub fn note(&mut self, attempt: Unanswered) {
        if self.0.len() >= MAX_KEPT {
            self.0.pop_front();
        }
        self.0.push_back(attempt);
    }

    /// Takes out those of a request that ends; `local_address` is our end of the connection of its last attempt, where
    /// there was one.
    pub fn take(&mut self, request: &[u8], local_address: Option<&[u8]>) -> Spent {
        let mut spent = Spent::default();
        self.0.retain(|attempt| {
            let own = attempt.request == request;
            if own {
                spent.attempts = spent.attempts.saturating_add(1);
                spent.last |= Some(&attempt.local_address[..]) == local_address;
            }
            !own
        });
        spent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unanswered(request: &str, address: &str) -> Unanswered {
        Unanswered::of(false, || Some(address.into()), || Some(request.into())).unwrap()
    }

    #[test]
    fn attempts_are_found_by_their_request_once() {
        let mut attempts = Attempts::new();
        for (request, address) in [("r1", "a:1"), ("r2", "a:2"), ("r1", "a:3")] {
            attempts.note(unanswered(request, address));
        }
        let two = Spent {
            attempts: 2,
            last: true,
        };
        assert_eq!(attempts.take(b"r1", Some(b"a:3")), two);
        assert_eq!(attempts.take(b"r1", Some(b"a:3")), Spent::default());
        assert_eq!(
            attempts.take(b"r2", None),
            Spent {
                attempts: 1,
                last: false
            }
        );
        assert!(attempts.is_empty());
    }

    #[test]
    fn what_was_answered_or_not_received_is_none() {
        let some = || Some(b"x".to_vec());
        assert_eq!(Unanswered::of(true, some, some), None);
        assert_eq!(Unanswered::of(false, || None, some), None);
        assert_eq!(Unanswered::of(false, some, || None), None);
    }

    #[test]
    fn what_nobody_asks_about_is_forgotten() {
        let mut attempts = Attempts::new();
        for number in 0..MAX_KEPT + 2 {
            attempts.note(unanswered(&number.to_string(), "a"));
        }
        assert_eq!(attempts.take(b"1", None), Spent::default());
        assert_eq!(attempts.take(b"2", None).attempts, 1);
    }

    #[test]
    fn what_is_encoded_is_decoded_and_nothing_else() {
        for spent in [
            Spent::default(),
            Spent {
                attempts: 255,
                last: true,
            },
        ] {
            assert_eq!(Spent::decode(&spent.encode()), spent);
        }
        for other in [&b""[..], b"\x01", b"\x01\x02", b"\x01\x01\x01"] {
            assert_eq!(Spent::decode(other), Spent::default());
        }
    }

    #[test]
    fn the_last_attempt_is_counted_once() {
        let two = Spent {
            attempts: 2,
            last: true,
        };
        assert_eq!((two.before_last(false), two.before_last(true)), (1, 2));
        assert_eq!(Spent { last: false, ..two }.before_last(false), 2);
        assert_eq!(Spent::default().before_last(false), 0);
    }
}

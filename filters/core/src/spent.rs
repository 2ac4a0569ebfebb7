//! Attempts of a request that a model server began on and that came to nothing: the router, which hears of each, tells
//! the limits, which charge them.

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

#[cfg(test)]
mod tests {
    use super::*;

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

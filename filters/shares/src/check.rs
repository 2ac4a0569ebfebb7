//! What a message may say at all. Whoever runs a coordinator asks this of each message that came over a network, before it
//! comes into the books: sums of numbers like these are exact, in Rust and in a script that has doubles.

use std::collections::BTreeSet;

use crate::limit::Limit;
use crate::message::{MAX_WANTS, Message};

/// Rates, bursts, periods and spans of time are less than this.
pub const BOUND: u64 = 1 << 51;
/// The number of a message, and the version of a log, are no larger than this.
pub const EXACT: u64 = 1 << 53;

/// A number of a message that none may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// Where it stands, such as `wants[3].limit`.
    pub path: String,
    /// What is there.
    pub found: String,
    /// What may be.
    pub expected: &'static str,
}

impl Message {
    /// Fails at the first number that is out of bounds. What a member has, asks for and returns may be anything: it is taken
    /// for what the limit allows where it is more.
    pub fn check(&self) -> Result<(), Invalid> {
        let within = |path: &str, found: u64, is_right: bool, expected| match is_right {
            true => Ok(()),
            false => Err(Invalid {
                path: path.to_owned(),
                found: found.to_string(),
                expected,
            }),
        };
        within("seq", self.seq, (1..=EXACT).contains(&self.seq), "1 to 2^53")?;
        within(
            "answered",
            self.answered,
            self.answered < self.seq,
            "less than `seq`",
        )?;
        within("version", self.version, self.version <= EXACT, "2^53 or less")?;
        let count = self.wants.len();
        let few = count <= MAX_WANTS;
        within("wants", count as u64, few, "512 entries or fewer")?;
        let mut keys = BTreeSet::new();
        for (at, want) in self.wants.iter().enumerate() {
            want.limit.check().map_err(|invalid| Invalid {
                path: format!("wants[{at}].limit"),
                ..invalid
            })?;
            if !keys.insert(want.key) {
                return Err(Invalid {
                    path: format!("wants[{at}].key"),
                    found: "a key that was named before".to_owned(),
                    expected: "each key once",
                });
            }
        }
        Ok(())
    }
}

impl Limit {
    /// Fails where the sums of its shares might not be exact.
    pub fn check(&self) -> Result<(), Invalid> {
        let fits = self.rate < BOUND && self.burst < BOUND && (1..BOUND).contains(&self.period);
        match fits {
            true => Ok(()),
            false => Err(Invalid {
                path: "limit".to_owned(),
                found: format!("rate {}, period {}, burst {}", self.rate, self.period, self.burst),
                expected: "numbers less than 2^51, and a period of 1 or more",
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::Share;
    use crate::message::{Incarnation, Key, Want};

    fn message(limits: impl IntoIterator<Item = Limit>) -> Message {
        let want = |(at, limit): (u8, Limit)| Want {
            key: Key([at; 16]),
            limit,
            have: Share::default(),
            returned: u128::MAX,
            demand: u64::MAX,
            need: u64::MAX,
        };
        Message {
            incarnation: Incarnation(u64::MAX),
            seq: 2,
            answered: 1,
            epoch: None,
            version: 0,
            parts: 0,
            leaves: false,
            wants: (0..).zip(limits).map(want).collect(),
        }
    }

    fn refused(message: &Message) -> String {
        message.check().expect_err("it is wrong").path
    }

    #[test]
    fn what_is_exact_passes() {
        let limit = Limit {
            rate: BOUND - 1,
            period: BOUND - 1,
            burst: BOUND - 1,
        };
        assert_eq!(message([limit, Limit::in_use(5)]).check(), Ok(()));
    }

    #[test]
    fn each_number_has_its_bounds() {
        let good = message([Limit::in_use(1)]);
        let head = |seq, answered, version| {
            refused(&Message {
                seq,
                answered,
                version,
                ..good.clone()
            })
        };
        assert_eq!(head(0, 0, 0), "seq");
        assert_eq!(head(EXACT + 1, 0, 0), "seq");
        assert_eq!(head(3, 3, 0), "answered");
        assert_eq!(head(3, 2, EXACT + 1), "version");
        for (rate, period, burst) in [(BOUND, 1, 1), (1, BOUND, 1), (1, 0, 1), (1, 1, BOUND)] {
            let limit = Limit { rate, period, burst };
            assert_eq!(refused(&message([Limit::in_use(1), limit])), "wants[1].limit");
        }
    }

    #[test]
    fn a_key_stands_once_and_there_are_not_too_many() {
        let mut twice = message([Limit::in_use(1), Limit::in_use(1)]);
        twice.wants[1].key = twice.wants[0].key;
        assert_eq!(refused(&twice), "wants[1].key");

        let mut many = message([]);
        let want = message([Limit::in_use(1)]).wants[0];
        let wants = (0..=MAX_WANTS as u128).map(|at| Want {
            key: Key(at.to_be_bytes()),
            ..want
        });
        many.wants = wants.collect();
        assert_eq!(refused(&many), "wants");
        many.wants.pop();
        assert_eq!(many.check(), Ok(()));
    }
}

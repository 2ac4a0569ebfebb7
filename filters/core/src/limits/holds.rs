//! What requests hold that were given up while a model server may still be working on them, until it can't be any more.

use std::collections::VecDeque;

use super::settle::Hold;

/// Holds of one worker, each with the moment of its end, the earliest first.
#[derive(Debug, Default)]
pub struct Holds(VecDeque<(u64, Hold)>);

impl Holds {
    /// Beyond this a hold is not kept: its slots are free at once, and what else it holds leaks away at the rate of its
    /// limits.
    pub const MAX: usize = 16_384;

    /// None yet.
    pub const fn new() -> Self {
        Self(VecDeque::new())
    }

    /// Holds until then; gives back what there is no room for.
    pub fn keep(&mut self, until: u64, hold: Hold) -> Option<Hold> {
        if self.0.len() >= Self::MAX {
            return Some(hold);
        }
        // Mostly the last: only a shorter hold after a reload comes before others.
        let at = self.0.partition_point(|(end, _)| *end <= until);
        self.0.insert(at, (until, hold));
        None
    }

    /// The next one that is over at `now`.
    pub fn over(&mut self, now: u64) -> Option<Hold> {
        self.0.front().filter(|(until, _)| *until <= now)?;
        self.0.pop_front().map(|(_, hold)| hold)
    }
}

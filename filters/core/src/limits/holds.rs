//! What requests hold that were given up while a model server may still be working on them, until it can't be any more.

use std::collections::{BTreeMap, VecDeque};

use super::fair::Org;
use super::settle::Hold;

/// Holds of one worker.
#[derive(Debug, Default)]
pub struct Holds {
    /// Each with the moment of its end, the earliest first.
    held: VecDeque<(u64, Org, Hold)>,
    /// How many each organization has of them.
    of: BTreeMap<Org, usize>,
}

impl Holds {
    /// Beyond this a hold is not kept: its slots are free at once, and what else it holds leaks away at the rate of its
    /// limits.
    pub const MAX: usize = 16_384;
    /// The same for each organization, so that none takes the others' room: for them its limits hold on.
    pub const MAX_OF_ONE: usize = Self::MAX / 8;

    /// None yet.
    pub const fn new() -> Self {
        Self {
            held: VecDeque::new(),
            of: BTreeMap::new(),
        }
    }

    /// Holds for an organization until then; gives back what there is no room for.
    pub(crate) fn keep(&mut self, until: u64, org: Org, hold: Hold) -> Option<Hold> {
        let of_one = self.of.get(&org).copied().unwrap_or(0);
        if self.held.len() >= Self::MAX || of_one >= Self::MAX_OF_ONE {
            return Some(hold);
        }
        self.of.insert(org, of_one + 1);
        // Mostly the last: only a shorter hold after a reload comes before others.
        let at = self.held.partition_point(|(end, ..)| *end <= until);
        self.held.insert(at, (until, org, hold));
        None
    }

    /// The next one that is over at `now`.
    pub fn over(&mut self, now: u64) -> Option<Hold> {
        self.held.front().filter(|(until, ..)| *until <= now)?;
        let (_, org, hold) = self.held.pop_front()?;
        if let Some(of_one) = self.of.get_mut(&org) {
            *of_one = of_one.saturating_sub(1);
            if *of_one == 0 {
                self.of.remove(&org);
            }
        }
        Some(hold)
    }
}

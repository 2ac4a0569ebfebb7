//! The coordinator's clock: made from one that may jump, by steps that can't be large.

use serde::{Deserialize, Serialize};

use crate::limit::Time;
use crate::timing::{Mutation, Timing};

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Clock {
    wall: Time,
    now: Time,
    /// Before that nothing is granted.
    ready: Time,
}

impl Clock {
    pub(super) const fn new(wall: Time, ready: Time) -> Self {
        Self { wall, now: 0, ready }
    }

    /// The time now: a jump forward counts as one step, and one back as none.
    pub(super) fn read(&mut self, wall: Time, timing: &Timing) -> Time {
        let most = match timing.breaks(Mutation::ClockJumps) {
            true => Time::MAX,
            false => timing.max_step,
        };
        self.now = self.now.saturating_add(wall.saturating_sub(self.wall).min(most));
        self.wall = wall;
        self.now
    }

    /// What the place's clock said last.
    pub(super) const fn wall(&self) -> Time {
        self.wall
    }

    pub(super) const fn ready_at(&self) -> Time {
        self.ready
    }

    pub(super) const fn is_ready(&self) -> bool {
        self.now >= self.ready
    }
}

//! One instance of the model: who takes part, and what may happen how often.

use tollgate_shares::{Key, Limit, Mutation, Time, Timing};

/// An instance. Every order of what may happen is explored, up to these bounds.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) members: usize,
    pub(crate) limits: Vec<Limit>,
    pub(crate) parts: u32,
    pub(crate) timing: Timing,
    /// Ticks after the coordinator was ready.
    pub(crate) horizon: Time,
    /// Messages that each member sends.
    pub(crate) sends: u64,
    /// How many members want something of the first limit from the beginning.
    pub(crate) wanting: usize,
    /// Requests that pass.
    pub(crate) requests: u8,
    /// Times that a member begins or ceases to want something, altogether.
    pub(crate) turns: u8,
    /// Members that crash and start again.
    pub(crate) crashes: u8,
    /// Members that leave, and start again.
    pub(crate) leaves: u8,
    /// Times that the coordinator loses its data.
    pub(crate) losses: u8,
    /// Jumps of its clock by an hour.
    pub(crate) jumps: u8,
    /// Ticks that each member's clock misses.
    pub(crate) lag: Time,
    /// Keeps messages that would be ignored whenever they came.
    pub(crate) keeps_all: bool,
}

/// Two at once, and two in eight ticks: what was used is missed for a while.
pub(crate) const TWO: Limit = Limit {
    rate: 2,
    period: 8,
    burst: 2,
};

impl Setup {
    /// Two members that want all of a limit so small that its implicit parts are nothing.
    pub(crate) fn explicit() -> Self {
        Self {
            members: 2,
            limits: vec![TWO],
            parts: 8,
            timing: Timing::new(2, 1, 1),
            horizon: 3,
            sends: 2,
            wanting: 2,
            requests: 1,
            turns: 0,
            crashes: 0,
            leaves: 0,
            losses: 0,
            jumps: 0,
            lag: 0,
            keeps_all: false,
        }
    }

    /// Two members that have half of it each, and one that wants more.
    pub(crate) fn implicit() -> Self {
        Self {
            parts: 2,
            wanting: 1,
            horizon: 2,
            ..Self::explicit()
        }
    }

    /// Two members and one slot, which is halved for the second.
    pub(crate) fn halving() -> Self {
        let mut setup = Self {
            parts: 1,
            wanting: 0,
            sends: 3,
            horizon: 1,
            ..Self::explicit()
        };
        setup.timing.patience = 0;
        setup
    }

    /// Three members, two limits, and all that can happen: too much to go through, and good for random walks.
    pub(crate) fn everything() -> Self {
        let other = Limit {
            rate: 4,
            period: 8,
            burst: 4,
        };
        Self {
            members: 3,
            limits: vec![TWO, other],
            parts: 2,
            timing: Timing {
                patience: 1,
                ..Timing::new(3, 2, 1)
            },
            horizon: 30,
            sends: 30,
            wanting: 2,
            requests: 20,
            turns: 8,
            crashes: 2,
            leaves: 1,
            losses: 1,
            jumps: 1,
            lag: 1,
            keeps_all: false,
        }
    }

    /// Keys that are activated and leave the books soon, and a log of which each answer has one entry.
    pub(crate) fn pages() -> Self {
        let soon = Limit {
            rate: 2,
            period: 2,
            burst: 4,
        };
        let mut setup = Self {
            members: 2,
            limits: vec![soon; 2],
            wanting: 0,
            turns: 12,
            crashes: 0,
            leaves: 0,
            losses: 0,
            jumps: 0,
            lag: 0,
            horizon: 40,
            sends: 60,
            requests: 40,
            ..Self::everything()
        };
        setup.timing = Timing::new(6, 1, 1);
        setup.timing.page = Some(1);
        setup
    }

    /// Slots are halved until there is no part of the limit any more.
    pub(crate) fn halved_away() -> Self {
        Self {
            limits: vec![TWO],
            wanting: 0,
            turns: 4,
            crashes: 0,
            leaves: 0,
            losses: 0,
            jumps: 0,
            lag: 0,
            ..Self::everything()
        }
    }

    pub(crate) fn broken(mut self, mutation: Mutation) -> Self {
        self.timing.broken = Some(mutation);
        self
    }

    pub(crate) fn key(at: usize) -> Key {
        Key([at as u8 + 1; 16])
    }
}

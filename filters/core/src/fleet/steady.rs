//! A clock that goes on where the one of the host is set back.

/// By so much it goes on when the host's clock is found to be set back: the time between two looks at it; nanoseconds.
const STEP: u64 = 250_000_000;

/// Counts nanoseconds. It is never slower than the host's clock, so that no lease is taken for longer than it is.
#[derive(Debug, Default)]
pub(super) struct Steady {
    last: u64,
    /// How far it is ahead of the host's clock.
    ahead: u64,
}

impl Steady {
    /// Its time where the host's clock says `wall`, and whether that was set back.
    pub(super) const fn read(&mut self, wall: u64) -> (u64, bool) {
        let set_back = wall < self.last;
        if set_back {
            self.ahead = self.ahead.saturating_add(self.last - wall).saturating_add(STEP);
        }
        self.last = wall;
        (wall.saturating_add(self.ahead), set_back)
    }

    /// What the host's clock says at this time.
    pub(super) const fn wall(&self, time: u64) -> u64 {
        time.saturating_sub(self.ahead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_goes_back() {
        let mut clock = Steady::default();
        assert_eq!(clock.read(9_000_000_000), (9_000_000_000, false));
        assert_eq!(clock.read(3_000_000_000), (9_250_000_000, true));
        assert_eq!(clock.read(4_000_000_000), (10_250_000_000, false));
        assert_eq!(clock.wall(10_250_000_000), 4_000_000_000);
    }
}

//! Xorshift, so that a history is the same each time.

pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 8) % bound.max(1)
    }

    /// Once in so many times.
    pub(crate) fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// Small, middling, or as large as may be.
    pub(crate) fn any_below(&mut self, bound: u64) -> u64 {
        let most = match self.below(4) {
            0 => 4,
            1 => 100,
            2 => 1_000_000,
            _ => bound,
        };
        self.below(most.min(bound))
    }
}

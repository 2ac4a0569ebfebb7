//! Xorshift.

pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) const fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) % bound
    }

    /// How many come, where `mean` do on average.
    pub(super) fn around(&mut self, mean: f64) -> u64 {
        let mut count = 0;
        let mut product = self.unit();
        while product > (-mean).exp() {
            count += 1;
            product *= self.unit();
        }
        count
    }

    fn unit(&mut self) -> f64 {
        (self.below(1 << 40) as f64 + 1.0) / (1_u64 << 40) as f64
    }
}

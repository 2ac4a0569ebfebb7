//! Xorshift, and subjects by Zipf's law.

pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed * 2 + 1)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) % bound
    }

    /// How many of a step's requests come, where `mean` is how many on average.
    pub(crate) fn around(&mut self, mean: f64) -> u64 {
        let mut count = 0;
        let mut left = (-mean.min(500.0)).exp();
        let mut product = self.unit();
        while product > left {
            count += 1;
            product *= self.unit();
            if product < 1e-280 {
                product *= 1e280;
                left *= 1e280;
            }
        }
        count
    }

    fn unit(&mut self) -> f64 {
        (self.below(1 << 40) as f64 + 1.0) / (1_u64 << 40) as f64
    }
}

/// The subject of rank `k` is asked for in proportion to `1 / k`.
pub(crate) struct Zipf(Vec<f64>);

impl Zipf {
    pub(crate) fn new(subjects: usize) -> Self {
        let sums = (1..=subjects).scan(0.0, |sum, rank| {
            *sum += 1.0 / rank as f64;
            Some(*sum)
        });
        Self(sums.collect())
    }

    pub(crate) fn subject(&self, random: &mut Random) -> usize {
        let at = random.unit() * self.0.last().copied().unwrap_or(1.0);
        self.0.partition_point(|sum| *sum < at).min(self.0.len() - 1)
    }
}

//! Random numbers from a seed: the same seed, the same story.

/// SplitMix64.
pub(in crate::limits) struct Random(pub(in crate::limits) u64);

impl Random {
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(in crate::limits) fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound
    }

    /// In `0.0..1.0`.
    pub(in crate::limits) fn unit(&mut self) -> f64 {
        (self.draw() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// From `least` to `most`, every order of magnitude as often as another.
    pub(in crate::limits) fn size(&mut self, least: f64, most: f64) -> u64 {
        (least * (most / least).powf(self.unit())) as u64
    }
}

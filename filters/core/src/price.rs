//! What tokens cost. Whole numbers throughout, so that sums of costs are exact.

use serde::{Deserialize, Serialize};

use crate::usage::Usage;

/// Prices of one model, in millionths of a currency unit for a million of each: `0.6` for a million tokens in the
/// catalogue is 600,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Price {
    /// Of what the model reads.
    pub input: u64,
    /// Of that part of the input that came from the model server's cache.
    pub cached_input: u64,
    /// Of that part of the input that was written to the cache.
    pub cache_write_input: u64,
    /// Of that part of the input that was written to the cache to stay for an hour.
    pub cache_write_1h_input: u64,
    /// Of what the model writes.
    pub output: u64,
    /// Of a second of sound, where a model server counts by seconds.
    pub audio_second: u64,
    /// Of a picture that was made.
    pub picture: u64,
}

impl Price {
    /// Cost in millionths of the currency unit, rounded up. Parts are no more than their whole.
    pub fn cost(&self, usage: &Usage) -> u64 {
        let cached = usage.cached.min(usage.input);
        let written = usage.cache_written.min(usage.input - cached);
        let hour = usage.cache_written_1h.min(written);
        sum(&[
            (usage.input - cached - written, self.input),
            (cached, self.cached_input),
            (written - hour, self.cache_write_input),
            (hour, self.cache_write_1h_input),
            (usage.output, self.output),
            (usage.audio_seconds, self.audio_second),
            (usage.pictures, self.picture),
        ])
    }

    /// What so many tokens, pictures and seconds of sound may cost, in the same unit: the input may all be written to a
    /// cache.
    pub fn max_cost(&self, input: u64, output: u64, pictures: u64, seconds: u64) -> u64 {
        let dearest = self
            .input
            .max(self.cache_write_input)
            .max(self.cache_write_1h_input);
        sum(&[
            (input, dearest),
            (output, self.output),
            (pictures, self.picture),
            (seconds, self.audio_second),
        ])
    }
}

fn sum(parts: &[(u64, u64)]) -> u64 {
    let products = parts
        .iter()
        .map(|(count, price)| u128::from(*count) * u128::from(*price));
    let sum = products.fold(0_u128, u128::saturating_add);
    u64::try_from(sum.div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cost_is_the_sum_of_its_parts() {
        let price = Price {
            input: 600_000,
            cached_input: 60_000,
            output: 2_400_000,
            ..Price::default()
        };
        let cost = |input, cached, output| {
            price.cost(&Usage {
                input,
                output,
                cached,
                ..Usage::default()
            })
        };
        // 900 × 0.6 + 100 × 0.06 + 50 × 2.4 = 666 millionths.
        assert_eq!(cost(1_000, 100, 50), 666);
        assert_eq!(cost(1, 0, 0), 1);
        assert_eq!(cost(0, 0, 0), 0);
        assert_eq!(cost(1, 5, 0), 1, "no more is cached than was read");
        let most = Price {
            input: u64::MAX,
            cached_input: u64::MAX,
            output: u64::MAX,
            ..price
        };
        let all = Usage {
            input: u64::MAX,
            output: u64::MAX,
            ..Usage::default()
        };
        assert_eq!(most.cost(&all), u64::MAX);
    }

    #[test]
    fn what_is_written_to_a_cache_and_what_is_no_token_has_its_price() {
        let price = Price {
            input: 3_000_000,
            cached_input: 300_000,
            cache_write_input: 3_750_000,
            cache_write_1h_input: 6_000_000,
            output: 15_000_000,
            audio_second: 100_000_000,
            picture: 40_000_000_000,
        };
        let usage = Usage {
            input: 1_105,
            output: 12,
            cached: 1_000,
            cache_written: 100,
            cache_written_1h: 40,
            ..Usage::default()
        };
        // 5 × 3 + 1,000 × 0.3 + 60 × 3.75 + 40 × 6 + 12 × 15.
        assert_eq!(price.cost(&usage), 15 + 300 + 225 + 240 + 180);
        let more = Usage {
            cached: 9_999,
            cache_written: 9_999,
            ..usage
        };
        assert_eq!(price.cost(&more), 332 + 180, "no part is more than the whole");
        let sound = Usage {
            audio_seconds: 30,
            ..Usage::default()
        };
        assert_eq!(price.cost(&sound), 3_000, "0.0001 a second");
        let pictures = Usage {
            pictures: 2,
            ..Usage::default()
        };
        assert_eq!(price.cost(&pictures), 80_000, "0.04 each");
        assert_eq!(price.max_cost(1_105, 12, 2, 30), 1_105 * 6 + 180 + 80_000 + 3_000);
        assert!(price.max_cost(1_105, 12, 0, 0) >= price.cost(&usage));
    }
}

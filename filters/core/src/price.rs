//! What tokens cost. Whole numbers throughout, so that sums of costs are exact.

use serde::{Deserialize, Serialize};

/// Prices of one model, in millionths of a currency unit for a million tokens: `0.6` in the catalogue is 600,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// Of what the model reads.
    pub input: u64,
    /// Of that part of the input that came from the model server's cache.
    pub cached_input: u64,
    /// Of what the model writes.
    pub output: u64,
}

impl Price {
    /// Cost in millionths of the currency unit, rounded up. `cached` is a part of `input`.
    pub fn cost(&self, input: u64, cached: u64, output: u64) -> u64 {
        let cached = cached.min(input);
        let part = |tokens: u64, price: u64| u128::from(tokens) * u128::from(price);
        let sum = part(input - cached, self.input)
            .saturating_add(part(cached, self.cached_input))
            .saturating_add(part(output, self.output));
        u64::try_from(sum.div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }
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
        };
        // 900 × 0.6 + 100 × 0.06 + 50 × 2.4 = 666 millionths.
        assert_eq!(price.cost(1_000, 100, 50), 666);
        assert_eq!(price.cost(1, 0, 0), 1);
        assert_eq!(price.cost(0, 0, 0), 0);
        assert_eq!(price.cost(1, 5, 0), 1, "no more is cached than was read");
        let most = Price {
            input: u64::MAX,
            cached_input: u64::MAX,
            output: u64::MAX,
        };
        assert_eq!(most.cost(u64::MAX, 0, u64::MAX), u64::MAX);
    }
}

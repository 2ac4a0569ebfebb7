//! Who should have how much of a limit, by what each asks for.

use crate::limit::{Limit, Share};

/// What one member asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Demand {
    /// In each period; for a limit on what is in use, at once.
    pub rate: u64,
    /// At once, for a single request.
    pub need: u64,
}

/// The shares that these demands should have, in their order. They add up to no more than the limit.
///
/// Max-min fair: whoever asks for less than an equal share of what is left gets what it asks for and a little more, so
/// that noise is no refusal. While there is enough for all of them each gets up to twice its demand, and the rest stays
/// with the coordinator, where the next who asks finds it.
pub fn apportion(limit: Limit, demands: &[Demand]) -> Vec<Share> {
    if limit.counts_in_use() {
        let wanted: Vec<_> = demands
            .iter()
            .map(|demand| demand.rate.max(demand.need))
            .collect();
        let counts = fill(limit.burst, &roomy(limit.burst, &wanted));
        return counts.into_iter().map(|burst| Share { rate: 0, burst }).collect();
    }
    let wanted: Vec<_> = demands.iter().map(|demand| demand.rate).collect();
    let rates = fill(limit.rate, &roomy(limit.rate, &wanted));
    let needs: Vec<_> = demands.iter().map(|demand| demand.need).collect();
    let needed = fill(limit.burst, &needs);
    let left = limit.burst - needed.iter().sum::<u64>();
    let bursts = spread(left, limit.rate, &rates);
    rates
        .into_iter()
        .zip(needed.into_iter().zip(bursts))
        .map(|(rate, (need, burst))| Share {
            rate,
            burst: need + burst,
        })
        .collect()
}

/// Demands with room for noise: twice as much where that fits, else a 128th: what noise exceeds, the
/// burst has room for.
fn roomy(limit: u64, demands: &[u64]) -> Vec<u64> {
    let sum = demands.iter().fold(0_u64, |sum, one| sum.saturating_add(*one));
    let room = |demand: u64| match sum.checked_mul(2) {
        Some(twice) if twice <= limit => demand.saturating_mul(2),
        _ if sum <= limit && sum > 0 => scale(demand, limit, sum),
        _ => demand.saturating_add(demand / 128),
    };
    demands.iter().copied().map(room).collect()
}

/// Max-min fair: equal shares, and nobody gets more than it wants. What rounding leaves goes one by one to the first.
fn fill(limit: u64, wanted: &[u64]) -> Vec<u64> {
    let mut order: Vec<_> = wanted.iter().copied().enumerate().collect();
    order.sort_by_key(|(_, want)| *want);
    let (mut left, mut members) = (limit, wanted.len() as u64);
    let mut shares = vec![0; wanted.len()];
    for (at, want) in order {
        let share = want.min(left.div_ceil(members.max(1)));
        if let Some(slot) = shares.get_mut(at) {
            *slot = share;
        }
        left -= share;
        members -= 1;
    }
    shares
}

/// `limit` in the proportion of `rates` to `whole`, of which they are parts; at least one where there is a rate and one is left.
fn spread(limit: u64, whole: u64, rates: &[u64]) -> Vec<u64> {
    let mut shares: Vec<_> = rates.iter().map(|rate| scale(*rate, limit, whole)).collect();
    let mut left = limit - shares.iter().sum::<u64>();
    for (share, rate) in shares.iter_mut().zip(rates) {
        if *share == 0 && *rate > 0 && left > 0 {
            *share = 1;
            left -= 1;
        }
    }
    shares
}

/// `of × to ÷ from`, rounded down.
fn scale(of: u64, to: u64, from: u64) -> u64 {
    let scaled = u128::from(of) * u128::from(to) / u128::from(from.max(1));
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(limit: u64, demands: &[u64]) -> Vec<u64> {
        let limit = Limit {
            rate: limit,
            period: 1,
            burst: limit,
        };
        let demands: Vec<_> = demands
            .iter()
            .map(|rate| Demand { rate: *rate, need: 0 })
            .collect();
        apportion(limit, &demands)
            .iter()
            .map(|share| share.rate)
            .collect()
    }

    #[test]
    fn enough_for_all_leaves_the_rest_free() {
        assert_eq!(rates(100, &[10, 20]), [20, 40]);
        assert_eq!(rates(100, &[20, 60]), [25, 75]);
        assert_eq!(rates(100, &[0]), [0]);
    }

    #[test]
    fn too_little_is_max_min_fair() {
        assert_eq!(rates(100, &[8, 200, 300]), [8, 46, 46]);
        assert_eq!(rates(3, &[5, 5, 5, 5]), [1, 1, 1, 0]);
    }

    #[test]
    fn a_large_request_has_its_burst() {
        let limit = Limit {
            rate: 10,
            period: 1,
            burst: 100,
        };
        let demands = [Demand { rate: 10, need: 0 }, Demand { rate: 10, need: 60 }];
        let bursts: Vec<_> = apportion(limit, &demands)
            .iter()
            .map(|share| share.burst)
            .collect();
        assert_eq!(bursts, [20, 80]);
    }

    #[test]
    fn shares_never_add_up_to_more() {
        for limit in [1, 2, 7, 1000, u64::MAX] {
            for demands in [&[1, 1, 1][..], &[u64::MAX, u64::MAX, 5], &[0, 3, 900]] {
                let sum: u128 = rates(limit, demands).into_iter().map(u128::from).sum();
                assert!(sum <= u128::from(limit), "{limit} {demands:?}");
            }
        }
    }
}

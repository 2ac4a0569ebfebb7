//! One bucket of the whole limit, for what all Envoys let pass.

/// A request that passed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Passed {
    pub(super) time: u64,
    /// What it was charged: as reserved, and once it is over as used.
    pub(super) amount: u64,
}

/// By how much the requests pass the limit in any span of time, in parts of a nanosecond's worth; `None` where they don't.
/// `(amount, period)` is the rate.
pub(super) fn over(all: &[Passed], (amount, period): (u64, u64), burst: u64) -> Option<(u64, u128)> {
    let (mut level, mut at) = (0_u128, 0);
    for passed in all {
        level = level.saturating_sub(u128::from(passed.time - at) * u128::from(amount));
        level += u128::from(passed.amount) * u128::from(period);
        at = passed.time;
        if let Some(more @ 1..) = level.checked_sub(u128::from(burst) * u128::from(period)) {
            return Some((at, more));
        }
    }
    None
}

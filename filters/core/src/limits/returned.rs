//! What was taken back of a cell's charges, and where it stood among them.
//!
//! A cell leaks in the order of its charges. How much of one has leaked shows in how much was charged after it, less what
//! of that was taken back; a position is the sum of all charges up to and with one.

/// Parts that were taken back: position and amount, the oldest position first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Returned(pub(super) Vec<(u64, u64)>);

/// Beyond so many, two become one.
pub(super) const MAX: usize = 16;

impl Returned {
    /// How much was taken back of charges behind `position`, where `end` is the position of the last. Positions wrap.
    pub(super) fn behind(&self, position: u64, end: u64) -> u64 {
        let distance = end.wrapping_sub(position);
        let behind = |(other, _): &&(u64, u64)| end.wrapping_sub(*other) < distance;
        let amounts = self.0.iter().filter(behind).map(|(_, amount)| *amount);
        amounts.fold(0, u64::saturating_add)
    }

    /// Keeps the parts of which `keep` says so, by how much is charged after each, less what of that was taken back.
    pub(super) fn retain(&mut self, end: u64, keep: impl Fn(u64) -> bool) {
        let (mut behind, mut here, mut at) = (0_u64, 0_u64, end);
        // From the newest on, so that each sum is the one before and a part more.
        let mut kept = self.0.len();
        for index in (0..self.0.len()).rev() {
            let Some((position, amount)) = self.0.get(index).copied() else {
                continue;
            };
            if position != at {
                behind = behind.saturating_add(core::mem::take(&mut here));
                at = position;
            }
            here = here.saturating_add(amount);
            if keep(end.wrapping_sub(position).saturating_sub(behind)) {
                kept -= 1;
                if let Some(place) = self.0.get_mut(kept) {
                    *place = (position, amount);
                }
            }
        }
        self.0.drain(..kept);
    }

    /// Adds what was taken back at `position`.
    pub(super) fn add(&mut self, position: u64, amount: u64, end: u64) {
        if amount == 0 {
            return;
        }
        let older = |(other, _): &(u64, u64)| end.wrapping_sub(*other) >= end.wrapping_sub(position);
        let at = self.0.partition_point(older);
        self.0.insert(at, (position, amount));
        if self.0.len() > MAX {
            self.merge();
        }
    }

    /// Moves the least amount to the position before it. For charges between the two it counts no longer, so that less
    /// of them is taken back than could be, never more. Of the newest half, as it is the oldest charges that leak: of newer
    /// ones all is there still, whatever was charged behind them.
    fn merge(&mut self) {
        let newer = self.0.len().div_ceil(2);
        let amounts = self.0.iter().map(|(_, amount)| *amount).enumerate().skip(newer);
        let Some((at, amount)) = amounts.rev().min_by_key(|(_, amount)| *amount) else {
            return;
        };
        self.0.remove(at);
        if let Some((_, before)) = self.0.get_mut(at - 1) {
            *before = before.saturating_add(amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_part_is_kept_by_what_is_charged_after_it(
            charges in proptest::collection::vec((0..100_u64, any::<proptest::sample::Index>(), 0..100_u64), 0..40),
            begin: u64,
            most in 0..4_000_u64,
        ) {
            let (mut returned, mut positions) = (Returned::default(), vec![begin]);
            for (charge, at, amount) in charges {
                let end = positions.last().map_or(begin, |last| last.wrapping_add(charge));
                positions.push(end);
                returned.add(*at.get(&positions), amount, end);
            }
            let end = positions.last().copied().unwrap_or(begin);
            let later = |position: u64| end.wrapping_sub(position).saturating_sub(returned.behind(position, end));
            let kept: Vec<_> = returned.0.iter().copied().filter(|(position, _)| later(*position) < most).collect();
            let mut all = returned.clone();
            all.retain(end, |later| later < most);
            prop_assert_eq!(all.0, kept);
        }
    }
}

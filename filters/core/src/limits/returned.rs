//! What was taken back of a cell's charges, and where it stood among them.
//!
//! A cell leaks in the order of its charges. How much of one has leaked shows in how much was charged after it, less what
//! of that was taken back; a position is the sum of all charges up to and with one.

/// Parts that were taken back: position and amount, the oldest position first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Returned(pub(super) Vec<(u64, u64)>);

/// Beyond so many, two become one.
pub(super) const MOST: usize = 16;

impl Returned {
    /// How much was taken back of charges behind `position`, where `end` is the position of the last. Positions wrap.
    pub(super) fn behind(&self, position: u64, end: u64) -> u64 {
        let distance = end.wrapping_sub(position);
        let behind = |(other, _): &&(u64, u64)| end.wrapping_sub(*other) < distance;
        let amounts = self.0.iter().filter(behind).map(|(_, amount)| *amount);
        amounts.fold(0, u64::saturating_add)
    }

    /// Adds what was taken back at `position`.
    pub(super) fn add(&mut self, position: u64, amount: u64, end: u64) {
        if amount == 0 {
            return;
        }
        let older = |(other, _): &(u64, u64)| end.wrapping_sub(*other) >= end.wrapping_sub(position);
        let at = self.0.partition_point(older);
        self.0.insert(at, (position, amount));
        if self.0.len() > MOST {
            self.merge();
        }
    }

    /// Moves the least amount to the position before it. For charges between the two it counts no longer, so that less
    /// of them is taken back than could be, never more.
    fn merge(&mut self) {
        let amounts = self.0.iter().map(|(_, amount)| *amount).enumerate().skip(1);
        let Some((at, amount)) = amounts.min_by_key(|(_, amount)| *amount) else {
            return;
        };
        self.0.remove(at);
        if let Some((_, before)) = self.0.get_mut(at - 1) {
            *before = before.saturating_add(amount);
        }
    }
}

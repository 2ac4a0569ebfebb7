//! What was taken back of a cell's charges, and where it stood among them.
//!
//! A cell leaks in the order of its charges. How much of one has leaked shows in how much was charged after it, less what
//! of that was taken back; a position is the sum of all charges up to one.

/// Charges that follow one another, and what was taken back of them: the oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Returned(pub(super) Vec<Run>);

/// What was taken back of the charges from one position to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) begin: u64,
    pub(super) end: u64,
    pub(super) amount: u64,
}

/// Beyond so many, two become one. Charges between them may then count as leaked though they have not: in a bucket that
/// holds less than is under way, which is far from its limit.
pub(super) const MAX: usize = 16;

impl Returned {
    /// How much was taken back of charges behind `position`, where `now` is the position of the last. Positions wrap.
    pub(super) fn behind(&self, position: u64, now: u64) -> u64 {
        let distance = now.wrapping_sub(position);
        let behind = |run: &&Run| now.wrapping_sub(run.begin) <= distance;
        let amounts = self.0.iter().filter(behind).map(|run| run.amount);
        amounts.fold(0, u64::saturating_add)
    }

    /// Keeps the runs of which `keep` says so, by how much is charged after the beginning of each, less what of that was
    /// taken back.
    pub(super) fn retain(&mut self, now: u64, keep: impl Fn(u64) -> bool) {
        // From the newest on, so that each sum is the one before and a run more.
        let mut behind = 0_u64;
        let mut kept = self.0.len();
        for index in (0..self.0.len()).rev() {
            let Some(run) = self.0.get(index).copied() else {
                continue;
            };
            behind = behind.saturating_add(run.amount);
            if keep(now.wrapping_sub(run.begin).saturating_sub(behind)) {
                kept -= 1;
                if let Some(place) = self.0.get_mut(kept) {
                    *place = run;
                }
            }
        }
        self.0.drain(..kept);
    }

    /// Adds what was taken back of one charge; one run with those right before and after it, as nothing is between them
    /// that would have to know them apart. Only a charge within it of which a part is still held gets less back, as with
    /// [`join`](Self::join).
    pub(super) fn add(&mut self, charge: Run, now: u64) {
        if charge.amount == 0 {
            return;
        }
        let age = |position: u64| now.wrapping_sub(position);
        let next = self.0.partition_point(|run| age(run.begin) >= age(charge.begin));
        let at = match next.checked_sub(1).and_then(|before| self.0.get_mut(before)) {
            // It is within that run, or right after it.
            Some(before) if age(before.end) <= age(charge.begin) => {
                if age(before.end) > age(charge.end) {
                    before.end = charge.end;
                }
                before.amount = before.amount.saturating_add(charge.amount);
                next - 1
            }
            _ => {
                self.0.insert(next, charge);
                next
            }
        };
        if let (Some(run), Some(after)) = (self.0.get(at), self.0.get(at + 1))
            && run.end == after.begin
        {
            self.join(at);
        }
        if self.0.len() > MAX {
            self.join_nearest();
        }
    }

    /// Joins a run and the one after it. For charges between the two what was taken back of the later counts no longer, so
    /// that less of them is taken back than could be, never more.
    fn join(&mut self, at: usize) {
        let after = self.0.remove(at + 1);
        if let Some(run) = self.0.get_mut(at) {
            run.end = after.end;
            run.amount = run.amount.saturating_add(after.amount);
        }
    }

    /// Joins the two for which that means least, by what stands between them and was taken back of the later. Of the newest
    /// half, as it is the oldest charges that leak: of newer ones all is there still, whatever was charged behind them.
    fn join_nearest(&mut self) {
        let older = self.0.len() / 2;
        let pairs = self.0.windows(2).enumerate().skip(older);
        let costs = pairs.filter_map(|(at, pair)| match pair {
            [run, after] => {
                let between = after.begin.wrapping_sub(run.end);
                Some((at, u128::from(between) * u128::from(after.amount)))
            }
            _ => None,
        });
        if let Some((at, _)) = costs.min_by_key(|(_, cost)| *cost) {
            self.join(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::Index;

    /// Charges of these sizes from `begin` on, without a part that is taken back.
    fn charges(begin: u64, sizes: &[u64]) -> Vec<Run> {
        let mut end = begin;
        let charges = sizes.iter().map(|size| {
            let begin = end;
            end = begin.wrapping_add(*size);
            Run {
                begin,
                end,
                amount: 0,
            }
        });
        charges.collect()
    }

    proptest! {
        #[test]
        fn a_run_is_kept_by_what_is_charged_after_it(
            begin: u64,
            sizes in proptest::collection::vec(1..100_u64, 1..60),
            parts in proptest::collection::vec((any::<Index>(), 1..100_u64), 0..60),
            most in 0..4_000_u64,
        ) {
            let charges = charges(begin, &sizes);
            let now = charges.last().unwrap().end;
            let mut all = Returned::default();
            for (at, part) in parts {
                let charge = at.get(&charges);
                all.add(Run { amount: part.min(charge.end.wrapping_sub(charge.begin)), ..*charge }, now);
            }
            let later = |run: &Run| now.wrapping_sub(run.begin).saturating_sub(all.behind(run.begin, now));
            let expected: Vec<_> = all.0.iter().copied().filter(|run| later(run) < most).collect();
            all.retain(now, |later| later < most);
            prop_assert_eq!(all.0, expected);
        }

        /// Of whatever is taken back, in whichever order, never more is known than there was; with few gaps all of it, and
        /// at the end it is one run.
        #[test]
        fn never_more_and_mostly_all(
            begin: u64,
            sizes in proptest::collection::vec(2..100_u64, 1..80),
            order in proptest::collection::vec(any::<u32>(), 80),
        ) {
            let charges = charges(begin, &sizes);
            let now = charges.last().unwrap().end;
            let mut returned = Returned::default();
            let mut turns: Vec<_> = charges.iter().zip(&order).collect();
            turns.sort_by_key(|(_, turn)| **turn);
            let (mut gaps_were_few, mut back) = (true, Vec::new());
            for (charge, _) in turns {
                let half = Run { amount: charge.end.wrapping_sub(charge.begin) / 2, ..*charge };
                returned.add(half, now);
                back.push(half);
                prop_assert!(returned.0.len() <= MAX);
                gaps_were_few &= returned.0.len() < MAX;
                for open in charges.iter().filter(|charge| back.iter().all(|run| run.begin != charge.begin)) {
                    let age = now.wrapping_sub(open.end);
                    let behind = back.iter().filter(|run| now.wrapping_sub(run.begin) <= age);
                    let behind: u64 = behind.map(|run| run.amount).sum();
                    let known = returned.behind(open.end, now);
                    prop_assert!(known <= behind && (known == behind || !gaps_were_few));
                }
            }
            let amount = back.iter().map(|run| run.amount).sum();
            prop_assert_eq!(returned.0, [Run { begin, end: now, amount }]);
        }
    }
}

//! One row's state for one subject: a level that leaks, with returns and debt. Time is an argument.

use super::returned::{Returned, Run};
use crate::gcra::{MAX_LEVEL, Quota, Verdict, scaled, up};

/// A charge, as far as it must be known to take some of it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    quota: Quota,
    born: u64,
    begin: u64,
    end: u64,
}

/// The state of one row for one subject. It is as of the time of the record it stands in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) quota: Quota,
    pub(super) level: u128,
    /// All that was ever charged, by which later charges are told from earlier ones. It wraps.
    pub(super) charged: u64,
    /// What was taken back of charges that have not leaked yet.
    pub(super) returned: Returned,
    /// When it began: another cell that took its place has another.
    pub(super) born: u64,
}

impl Cell {
    pub(super) fn new(quota: Quota, now: u64) -> Self {
        Self::used_by(quota, 0, now)
    }

    /// One of which so much is used.
    pub(super) fn used_by(quota: Quota, level: u128, now: u64) -> Self {
        Self {
            quota,
            level: level.min(MAX_LEVEL),
            charged: 0,
            returned: Returned::default(),
            born: now,
        }
    }

    /// A level that was stored; `None` for one that no cell has.
    pub(super) fn level_within(level: u128) -> Option<u128> {
        (level <= MAX_LEVEL).then_some(level)
    }

    /// Lets it leak for so many nanoseconds.
    pub(super) fn leak(&mut self, nanos: u64) {
        self.level = self.level.saturating_sub(self.quota.leaked(nanos));
        self.forget();
    }

    /// Forgets what was taken back of charges that have leaked, or of none before which any is left.
    fn forget(&mut self) {
        if self.level == 0 {
            return self.returned.0.clear();
        }
        let Self {
            quota,
            level,
            charged,
            returned,
            ..
        } = self;
        returned.retain(*charged, |later| quota.units(later) < *level);
    }

    /// What is charged after `position`, less what of that was taken back.
    fn later_than(&self, position: u64) -> u64 {
        let behind = self.returned.behind(position, self.charged);
        self.charged.wrapping_sub(position).saturating_sub(behind)
    }

    /// Takes over another quota. What is used stays the same part of the burst: a change gives nobody a full burst, and
    /// locks nobody out.
    pub(super) fn adopt(&mut self, quota: Quota) {
        if self.quota != quota {
            let (level, rest) = scaled(self.level, self.quota.capacity(), quota.capacity());
            self.level = (level + u128::from(rest)).min(MAX_LEVEL);
            self.quota = quota;
        }
    }

    /// Another share in place of this one, with `units` that come with it: tokens are moved, never made. What it holds above
    /// a smaller burst is taken out and returned, in units. A larger burst adds nothing: what it lacks is used elsewhere, so
    /// it counts as charged now, and no charge before it can have it back.
    pub(super) fn change_share(&mut self, quota: Quota, units: u128) -> u128 {
        #[cfg(test)]
        if let Some(above) = super::broken::change_share(self, quota) {
            return above;
        }
        let (before, after) = (self.quota.capacity(), quota.capacity());
        let above = before.saturating_sub(self.level).saturating_sub(after);
        self.quota = quota;
        // The oldest charges go with a burst that goes: they are what others lack of it.
        self.level = self.level.saturating_sub(before.saturating_sub(after));
        let lacks = after.saturating_sub(before);
        self.level = self.level.saturating_sub(units.saturating_sub(lacks));
        let lacks = lacks.saturating_sub(units);
        self.level = (self.level + lacks).min(MAX_LEVEL);
        #[cfg(test)]
        let lacks = super::broken::counted(lacks);
        self.charged = self.charged.wrapping_add(up(lacks, quota.period()));
        self.forget();
        above
    }

    /// What is left is used elsewhere: it counts as charged now, and no charge before it can have it back.
    pub(super) fn empty(&mut self) {
        let left = self.quota.capacity().saturating_sub(self.level);
        self.level = (self.level + left).min(MAX_LEVEL);
        self.charged = self.charged.wrapping_add(up(left, self.quota.period()));
    }

    /// So many more are left.
    pub(super) fn add(&mut self, count: u64) {
        self.level = self.level.saturating_sub(self.quota.units(count));
        self.forget();
    }

    /// What is used beyond the burst, in units.
    pub(super) fn debt(&self) -> u128 {
        self.level.saturating_sub(self.quota.capacity())
    }

    /// Whether `count` may be charged.
    pub(super) fn judge(&self, count: u64) -> Verdict {
        self.quota.judge(self.level, count)
    }

    /// Charges `count`, over the burst as well.
    pub(super) fn charge(&mut self, count: u64) -> Mark {
        self.level = (self.level + self.quota.units(count)).min(MAX_LEVEL);
        let begin = self.charged;
        self.charged = begin.wrapping_add(count);
        Mark {
            quota: self.quota,
            born: self.born,
            begin,
            end: self.charged,
        }
    }

    /// Takes back `count` of the charge with this mark.
    ///
    /// A cell leaks in the order of the charges, and what has leaked already is not taken back: it has made room for
    /// others, and a second time would let more pass than the rate.
    pub(super) fn give_back(&mut self, count: u64, mark: &Mark) {
        // Where the quota was changed since, the same part of the burst.
        let units = mark.quota.units(count).min(MAX_LEVEL);
        let (units, _) = scaled(units, mark.quota.capacity(), self.quota.capacity());
        self.take_back(units, mark);
    }

    /// The same of a share, which was moved and not scaled.
    pub(super) fn give_back_of_share(&mut self, count: u64, mark: &Mark) {
        self.take_back(self.quota.units(count).min(MAX_LEVEL), mark);
    }

    fn take_back(&mut self, units: u128, mark: &Mark) {
        if mark.born != self.born {
            return;
        }
        let later = self.quota.units(self.later_than(mark.end));
        let left = self.level.saturating_sub(later);
        let back = left.min(units);
        self.level -= back;
        let amount = match u64::try_from(back) {
            Ok(back) => back / self.quota.period(),
            Err(_) => u64::try_from(back / u128::from(self.quota.period())).unwrap_or(u64::MAX),
        };
        let Mark { begin, end, .. } = *mark;
        self.returned.add(Run { begin, end, amount }, self.charged);
        self.forget();
    }

    /// How many could be charged at once.
    pub(super) fn remaining(&self) -> u64 {
        // What is used is rounded up, so what is left is rounded down.
        self.quota.burst().saturating_sub(self.used())
    }

    /// How many are charged and have not leaked yet, rounded up; more than the burst in debt.
    pub(super) fn used(&self) -> u64 {
        up(self.level, self.quota.period())
    }

    /// Nanoseconds until it is as good as unused.
    pub(super) fn reset(&self) -> u64 {
        self.quota.leaks_in(self.level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn quota(rate: &str, burst: u64) -> Quota {
        Quota::new(rate.parse().unwrap(), burst).unwrap()
    }

    fn run(begin: u64, end: u64, amount: u64) -> Run {
        Run { begin, end, amount }
    }

    #[test]
    fn a_burst_and_not_one_more() {
        let mut cell = Cell::new(quota("60/minute", 60), 0);
        assert_eq!(cell.judge(60), Verdict::Admit);
        assert_eq!(cell.judge(61), Verdict::Never);
        cell.charge(60);
        assert_eq!(cell.judge(1), Verdict::Wait(1_000_000_000));
        cell.leak(999_999_999);
        assert_eq!(cell.judge(1), Verdict::Wait(1));
        cell.leak(1);
        assert_eq!(cell.judge(1), Verdict::Admit);
    }

    #[test]
    fn fast_rates_are_not_rounded() {
        let mut cell = Cell::new(quota("1000000000000/second", 1), 0);
        cell.charge(1);
        assert_eq!(cell.judge(1), Verdict::Wait(1));
        let mut cell = Cell::new(quota("1000000000/minute", 1_000_000_000), 0);
        cell.charge(1_000_000_000);
        cell.leak(60_000_000_000 - 1);
        assert_eq!((cell.remaining(), cell.reset()), (999_999_999, 1));
    }

    #[test]
    fn debt_waits() {
        let mut cell = Cell::new(quota("10/second", 10), 0);
        cell.charge(10);
        cell.charge(20);
        assert_eq!((cell.used(), cell.remaining()), (30, 0));
        assert_eq!(cell.judge(0), Verdict::Wait(2_000_000_000));
        cell.leak(2_000_000_000);
        assert_eq!(cell.judge(0), Verdict::Admit);
    }

    #[test]
    fn a_changed_rate_keeps_the_part_that_is_used() {
        let mut cell = Cell::new(quota("60/minute", 60), 0);
        cell.charge(30);
        cell.adopt(quota("600/hour", 600));
        assert_eq!((cell.used(), cell.remaining()), (300, 300));
        cell.adopt(quota("1/second", 1));
        assert_eq!(
            (cell.judge(1), cell.reset()),
            (Verdict::Wait(500_000_000), 500_000_000)
        );
    }

    #[test]
    fn what_has_leaked_is_not_taken_back() {
        let mut cell = Cell::new(quota("10/second", 10), 0);
        let first = cell.charge(10);
        cell.leak(1_000_000_000);
        cell.charge(10);
        cell.give_back(10, &first);
        assert_eq!(cell.remaining(), 0);
        let mut cell = Cell::new(quota("10/second", 10), 0);
        let first = cell.charge(10);
        cell.leak(400_000_000);
        cell.charge(4);
        cell.give_back(10, &first);
        assert_eq!(cell.used(), 4);
    }

    #[test]
    fn a_changed_quota_takes_back_the_same_part() {
        let mut cell = Cell::new(quota("60/minute", 60), 0);
        let mark = cell.charge(50);
        cell.adopt(quota("6/minute", 6));
        cell.give_back(40, &mark);
        assert_eq!((cell.used(), cell.remaining()), (1, 5));
    }

    #[test]
    fn what_is_taken_back_out_of_order_leaves_the_others_theirs() {
        let mut cell = Cell::new(quota("10/second", 40), 0);
        cell.charge(5);
        let marks = [10, 10, 10].map(|count| cell.charge(count));
        for at in [2, 1, 0] {
            cell.give_back(9, &marks[at]);
        }
        assert_eq!(
            (cell.used(), &cell.returned),
            (8, &Returned(vec![run(5, 35, 27)]))
        );
        cell.leak(500_000_000);
        assert_eq!(cell.used(), 3);
        assert_eq!(cell.returned, Returned::default(), "none is left before it");
    }

    #[test]
    fn one_that_ends_long_after_later_ones_gets_its_part_back() {
        let mut cell = Cell::new(quota("10/second", 1_000), 0);
        let mut marks: Vec<_> = (0..100).map(|_| cell.charge(10)).collect();
        marks[40..].rotate_left(1);
        for mark in &marks {
            cell.give_back(9, mark);
        }
        assert_eq!(cell.used(), 100);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Pass(u64),
        /// Reserve so many, use this part of them (in percent).
        Reserve(u64, u64),
        Settle(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0..3_000_000_000_u64).prop_map(Step::Pass),
            (0..300_000_000_u64).prop_map(Step::Pass),
            (1..12_u64, 0..=100_u64).prop_map(|(count, part)| Step::Reserve(count, part)),
            (0..8_usize).prop_map(Step::Settle),
        ];
        proptest::collection::vec(step, 1..120)
    }

    proptest! {
        /// Never over: whatever is reserved, used and returned, and in which order, what was used of the requests
        /// admitted in any span of time, and all of those still under way, is at most burst + rate × span.
        #[test]
        fn never_over_in_any_span(amount in 1..9_u32, burst in 1..12_u64, steps in steps()) {
            let quota = quota(&format!("{amount}/second"), burst);
            let mut cell = Cell::new(quota, 0);
            let mut now = 0_u64;
            let mut counted: Vec<(u64, u64)> = Vec::new();
            let mut open: Vec<(usize, u64, u64, Mark)> = Vec::new();
            for step in steps {
                match step {
                    Step::Pass(nanos) => {
                        now += nanos;
                        cell.leak(nanos);
                    }
                    Step::Reserve(count, part) => match cell.judge(count) {
                        Verdict::Admit => {
                            let mark = cell.charge(count);
                            open.push((counted.len(), count, count * part / 100, mark));
                            counted.push((now, count));
                        }
                        Verdict::Never => prop_assert!(count > burst),
                        Verdict::Wait(wait) => {
                            let mut later = cell.clone();
                            later.leak(wait - 1);
                            prop_assert_eq!(later.judge(count), Verdict::Wait(1));
                            later.leak(1);
                            prop_assert_eq!(later.judge(count), Verdict::Admit);
                        }
                    },
                    Step::Settle(at) if at < open.len() => {
                        let (entry, count, used, mark) = open.remove(at);
                        cell.give_back(count - used, &mark);
                        counted[entry].1 = used;
                    }
                    Step::Settle(_) => {}
                }
                for (at, (from, _)) in counted.iter().enumerate() {
                    let mut sum = 0_u128;
                    for (to, count) in counted.iter().skip(at) {
                        sum += u128::from(*count) * 1_000_000_000;
                        let most = u128::from(burst) * 1_000_000_000 + u128::from(to - from) * u128::from(amount);
                        prop_assert!(sum <= most, "{sum} {most} {counted:?}");
                    }
                }
            }
        }

        /// While no time passes all that was not used is there again, in whichever order it is taken back.
        #[test]
        fn nothing_is_lost(charges in proptest::collection::vec((1..50_u64, 0..=100_u64, any::<u32>()), 0..=crate::limits::returned::MAX)) {
            let mut cell = Cell::new(quota("10/second", 10), 0);
            let mut open: Vec<_> = charges.iter().map(|(count, part, order)| (order, count - count * part / 100, cell.charge(*count))).collect();
            open.sort_by_key(|(order, ..)| *order);
            for (_, unused, mark) in &open {
                cell.give_back(*unused, mark);
            }
            let used: u64 = charges.iter().map(|(count, part, _)| count * part / 100).sum();
            prop_assert_eq!(cell.used(), used);
        }

        /// No quota and no level overflows.
        #[test]
        fn fits(amount in 1..=1_000_000_000_000_u64, unit in 0..4_usize, burst in 1..=Quota::MAX_BURST, other in 1..=Quota::MAX_BURST, counts: [u64; 4], nanos: u64) {
            let unit = ["second", "minute", "hour", "day"][unit];
            let mut cell = Cell::new(quota(&format!("{amount}/{unit}"), burst), nanos);
            for count in counts {
                let mark = cell.charge(count);
                cell.judge(count);
                cell.give_back(count / 2, &mark);
                cell.adopt(quota("1/day", other));
                cell.give_back(count / 4, &mark);
                cell.leak(nanos);
                cell.adopt(quota("1000000000000/second", 1));
                let _ = (cell.remaining(), cell.used(), cell.reset());
            }
        }
    }
}

//! The holder's side: what an Envoy may spend without asking.

use serde::{Deserialize, Serialize};

use crate::message::{Answer, Report};
use crate::rules::{Mutation, Rules};

/// One holder's slice of one window of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Slice {
    granted: u64,
    returned: u64,
    spent: u64,
    reserved: u64,
    #[serde(skip)]
    rules: Rules,
}

/// The slice has too little.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Short {
    /// What it has that nothing is reserved of.
    pub available: u64,
}

impl Slice {
    /// An empty one.
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            ..Self::default()
        }
    }

    /// What it has that nothing is reserved of.
    pub fn available(&self) -> u64 {
        let used = self
            .returned
            .saturating_add(self.spent)
            .saturating_add(self.reserved);
        self.granted.saturating_sub(used)
    }

    /// All that was spent so far: what the usage records of this holder in this window add up to.
    pub fn spent(&self) -> u64 {
        self.spent
    }

    /// What requests under way have reserved.
    pub const fn reserved(&self) -> u64 {
        self.reserved
    }

    /// Reserves the most that a request can use.
    pub fn reserve(&mut self, most: u64) -> Result<(), Short> {
        let available = self.available();
        if most > available {
            return Err(Short { available });
        }
        self.reserved = self.reserved.saturating_add(most);
        Ok(())
    }

    /// A request that reserved so much has ended. It may have used more, which is spent as well.
    pub fn settle(&mut self, reserved: u64, used: u64) {
        self.reserved = self.reserved.saturating_sub(reserved);
        self.spent = self.spent.saturating_add(used);
    }

    /// What to tell the ledger: to have `ahead` available, and at least `waiting`, which a request waits for.
    pub fn report(&self, ahead: u64, waiting: u64) -> Report {
        let need = match waiting {
            0 => 0,
            waiting => self.reserved.saturating_add(waiting),
        };
        Report {
            granted: self.granted,
            returned: self.returned,
            spent: self.spent,
            want: self.reserved.saturating_add(ahead),
            need,
            done: false,
        }
    }

    /// Takes what the ledger answered: to any report of this holder, at any time, however often.
    pub fn take(&mut self, answer: &Answer) {
        if self.rules.breaks(Mutation::AddGrants) {
            self.granted = self.granted.saturating_add(answer.granted);
        } else {
            self.granted = self.granted.max(answer.granted);
        }
        let unspent = self
            .granted
            .saturating_sub(self.returned)
            .saturating_sub(self.spent);
        let free = match self.rules.breaks(Mutation::ReturnReserved) {
            true => unspent,
            false => self.available(),
        };
        let surplus = unspent.saturating_sub(answer.keep).min(free);
        self.returned = self.returned.saturating_add(surplus);
    }

    /// The last report of a holder that is over. One that died is reported by whoever reads what it has left: `spent` is the
    /// sum of its usage records, those of requests that were under way included.
    pub fn last(spent: u64) -> Report {
        Report {
            spent,
            done: true,
            ..Report::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(granted: u64, keep: u64) -> Answer {
        Answer {
            granted,
            keep,
            amount: 100,
            spent: 0,
        }
    }

    #[test]
    fn what_is_reserved_is_not_given_back() {
        let mut slice = Slice::default();
        assert_eq!(slice.reserve(1), Err(Short { available: 0 }));
        slice.take(&granted(10, 10));
        slice.reserve(4).unwrap();
        slice.take(&granted(10, 0));
        assert_eq!((slice.available(), slice.reserved()), (0, 4));
        assert_eq!(slice.report(0, 0).returned, 6);
        // It used less than it had reserved, and what is left goes back next.
        slice.settle(4, 3);
        assert_eq!((slice.available(), slice.spent()), (1, 3));
        slice.take(&granted(10, 0));
        assert_eq!(slice.report(0, 0).returned, 7);
    }

    #[test]
    fn an_answer_that_comes_again_or_late_changes_nothing() {
        let mut slice = Slice::default();
        slice.take(&granted(10, 10));
        slice.take(&granted(10, 10));
        slice.take(&granted(4, 10));
        assert_eq!(slice.available(), 10);
    }

    #[test]
    fn what_was_used_beyond_is_missing_later() {
        let mut slice = Slice::default();
        slice.take(&granted(10, 10));
        slice.reserve(2).unwrap();
        slice.settle(2, 9);
        assert_eq!((slice.spent(), slice.available()), (9, 1));
        slice.reserve(1).unwrap();
        slice.settle(1, 3);
        assert_eq!((slice.spent(), slice.available()), (12, 0));
    }
}

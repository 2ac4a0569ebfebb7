//! The ledger's side: what each holder has, and what it may have.

use crate::message::{Answer, Report};
use crate::rules::{Mutation, Rules};

/// What the ledger keeps of a holder, for one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Account {
    /// All that it was granted so far.
    pub granted: u64,
    /// All that it gave back so far.
    pub returned: u64,
    /// All that it spent so far.
    pub spent: u64,
    /// By how much it is believed beyond what the ledger granted it: all told, and never less.
    pub claimed: u64,
    /// What became of the holder.
    pub state: State,
}

/// What became of a holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum State {
    /// It spends, or may.
    #[default]
    Open,
    /// It was not heard for too long: others may have what it has not said to be spent. If it is heard again, it is as before.
    WrittenOff,
    /// It is over, and what it spent is final.
    Done,
}

impl Account {
    /// What of the amount nobody else can have.
    pub fn held(&self) -> u64 {
        match self.state {
            State::Open => self.reach(),
            State::WrittenOff | State::Done => self.spent,
        }
    }

    /// The most that it may have spent, as far as is known.
    fn reach(&self) -> u64 {
        // Who used more than it had reserved has spent more than its slice.
        self.granted.saturating_sub(self.returned).max(self.spent)
    }

    /// Whether a report says more than is known of it. Only then it matters how far it is believed.
    pub fn is_passed_by(&self, report: &Report) -> bool {
        report.granted > self.granted || report.spent > self.reach()
    }

    /// What it may still spend.
    pub fn escrowed(&self) -> u64 {
        self.held().saturating_sub(self.spent)
    }
}

/// The sums of all accounts of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Totals {
    /// What nobody else can have.
    pub held: u64,
    /// What was spent.
    pub spent: u64,
}

impl Totals {
    /// The same with one account changed; `None` where a sum does not fit.
    fn with(self, before: &Account, after: &Account) -> Option<Self> {
        // As a database keeps it.
        let fits = |sum: &u64| i64::try_from(*sum).is_ok();
        let moved =
            |sum: u64, before: u64, after: u64| sum.saturating_sub(before).checked_add(after).filter(fits);
        Some(Self {
            held: moved(self.held, before.held(), after.held())?,
            spent: moved(self.spent, before.spent, after.spent)?,
        })
    }
}

/// What a window may give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Terms {
    /// How much may be spent.
    pub amount: u64,
    /// How many holders share it now, this one included.
    pub holders: u64,
    /// Whether anything is granted: not in a window that is over, or has not begun.
    pub grants: bool,
    /// By how much more the holder is believed beyond what it was granted: requests may use more than they reserved, and the
    /// ledger may have come back with older data.
    pub believes: u64,
    /// How the rule is broken, for tests.
    pub rules: Rules,
}

/// A number that can't be so; nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge;

/// A window's book. Whoever has it is alone with it, and makes what [`exchange`](Self::exchange) changed last before anybody
/// sees the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Book {
    /// What it may give.
    pub terms: Terms,
    /// The sums of all accounts.
    pub totals: Totals,
}

impl Book {
    /// Takes a report into its holder's account, and grants what it may have.
    ///
    /// A holder keeps at most its part of half of what is not spent, so slices shrink as the budget does: whoever is refused,
    /// others have no more than what was spent meanwhile. Only what a request waits for is granted beyond that.
    pub fn exchange(&mut self, account: &mut Account, report: &Report) -> Result<Answer, TooLarge> {
        if !report.is_plausible() {
            return Err(TooLarge);
        }
        let mut after = self.heard(account, report);
        let mut totals = self.totals.with(account, &after).ok_or(TooLarge)?;
        let terms = &self.terms;
        let remaining = terms.amount.saturating_sub(totals.spent);
        let mut keep = 0;
        if terms.grants && after.state != State::Done {
            let fair = remaining / terms.holders.max(1).saturating_mul(2);
            let taken = match terms.rules.breaks(Mutation::GrantUnspent) {
                true => totals.spent,
                false => totals.held,
            };
            let most = after.held().saturating_add(terms.amount.saturating_sub(taken));
            // Less than what a request waits for is of no use to it, and others may wait for that.
            let need = match after.spent.saturating_add(report.need) <= most {
                true => report.need,
                false => 0,
            };
            let target = after.spent.saturating_add(report.want.min(fair).max(need));
            let slice = after.granted.saturating_sub(after.returned);
            let more = target.min(most).saturating_sub(slice);
            let before = after;
            after.granted = after.granted.checked_add(more).ok_or(TooLarge)?;
            totals = totals.with(&before, &after).ok_or(TooLarge)?;
            keep = fair.max(need);
        }
        *account = after;
        self.totals = totals;
        Ok(Answer {
            granted: after.granted,
            keep,
            amount: terms.amount,
            spent: totals.spent,
        })
    }

    /// The account as its holder says that it is, as far as it is believed. `granted` is in the report for a ledger that came
    /// back with older data.
    fn heard(&self, known: &Account, report: &Report) -> Account {
        let rules = self.terms.rules;
        let larger = |known: u64, said: u64| match rules.breaks(Mutation::LatestReport) {
            true => said,
            false => known.max(said),
        };
        let granted = known.granted.max(report.granted);
        // Nobody gives back what it was not given.
        let returned = larger(known.returned, report.returned.min(granted));
        let most = known.reach().saturating_add(self.terms.believes);
        let state = match known.state {
            State::Done => State::Done,
            _ if report.done => State::Done,
            State::WrittenOff if rules.breaks(Mutation::StaysWrittenOff) => State::WrittenOff,
            State::Open | State::WrittenOff => State::Open,
        };
        let heard = Account {
            granted: granted.min(returned.saturating_add(most)),
            returned,
            spent: larger(known.spent, report.spent).min(most),
            claimed: known.claimed,
            state,
        };
        let claim = heard.reach().saturating_sub(known.reach());
        Account {
            claimed: known.claimed.saturating_add(claim),
            ..heard
        }
    }

    /// Lets others have what a holder has not said to be spent. If it spent it after all, the budget is passed by that much.
    pub fn write_off(&mut self, account: &mut Account) {
        let after = Account {
            state: match account.state {
                State::Open => State::WrittenOff,
                other => other,
            },
            ..*account
        };
        // Less is held than before, so it fits.
        self.totals = self.totals.with(account, &after).unwrap_or(self.totals);
        *account = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(amount: u64, holders: u64) -> Book {
        Book {
            terms: Terms {
                amount,
                holders,
                grants: true,
                believes: amount,
                rules: Rules::default(),
            },
            totals: Totals::default(),
        }
    }

    fn wants(want: u64, need: u64) -> Report {
        Report {
            want,
            need,
            ..Report::default()
        }
    }

    #[test]
    fn a_slice_is_a_part_of_half_of_what_is_left() {
        let (mut book, mut account) = (book(1_000, 5), Account::default());
        assert_eq!(book.exchange(&mut account, &wants(40, 0)).unwrap().granted, 40);
        assert_eq!(
            book.exchange(&mut account, &wants(9_999, 0)).unwrap().granted,
            100
        );
        assert_eq!(book.totals, Totals { held: 100, spent: 0 });
        // A request that waits gets more, as far as there is.
        assert_eq!(book.exchange(&mut account, &wants(0, 900)).unwrap().granted, 900);
        let answer = book.exchange(&mut Account::default(), &wants(0, 101)).unwrap();
        assert_eq!((answer.granted, answer.keep), (0, 100));
        assert_eq!(
            book.exchange(&mut Account::default(), &wants(0, 100))
                .unwrap()
                .granted,
            100
        );
    }

    #[test]
    fn a_lower_amount_grants_nothing_and_asks_for_what_is_out() {
        let (mut book, mut account) = (book(1_000, 1), Account::default());
        book.exchange(&mut account, &wants(500, 0)).unwrap();
        book.terms.amount = 300;
        let answer = book.exchange(&mut account, &wants(500, 600)).unwrap();
        assert_eq!((answer.granted, answer.amount), (500, 300));
        let answer = book.exchange(&mut account, &wants(500, 0)).unwrap();
        assert_eq!((answer.granted, answer.keep), (500, 150));
    }

    #[test]
    fn what_is_spent_beyond_the_amount_is_counted() {
        let (mut book, mut account) = (book(10, 1), Account::default());
        book.terms.believes = 25;
        let report = Report {
            spent: 25,
            need: 1,
            ..Report::default()
        };
        let answer = book.exchange(&mut account, &report).unwrap();
        // Granted after the fact, and nothing beyond.
        assert_eq!((answer.granted, answer.spent), (25, 25));
        assert_eq!(book.totals, Totals { held: 25, spent: 25 });
        book.terms.amount = 30;
        assert_eq!(book.exchange(&mut account, &report).unwrap().granted, 26);
    }

    #[test]
    fn nothing_is_granted_in_a_window_that_is_over_and_all_is_counted() {
        let (mut book, mut account) = (book(100, 1), Account::default());
        book.exchange(&mut account, &wants(50, 0)).unwrap();
        book.terms.grants = false;
        let report = Report {
            granted: 50,
            spent: 20,
            want: 50,
            need: 40,
            ..Report::default()
        };
        let answer = book.exchange(&mut account, &report).unwrap();
        assert_eq!((answer.granted, answer.keep), (50, 0));
        assert_eq!(book.totals.spent, 20);
    }

    #[test]
    fn a_holder_that_is_over_holds_nothing_and_may_still_have_spent_more() {
        let (mut book, mut account) = (book(100, 1), Account::default());
        book.exchange(&mut account, &wants(50, 0)).unwrap();
        book.exchange(&mut account, &crate::Slice::last(20)).unwrap();
        assert_eq!(book.totals, Totals { held: 20, spent: 20 });
        // An older report, late.
        assert_eq!(book.exchange(&mut account, &wants(50, 50)).unwrap().granted, 50);
        assert_eq!(book.totals, Totals { held: 20, spent: 20 });
        // A record that was found later.
        book.exchange(&mut account, &crate::Slice::last(21)).unwrap();
        assert_eq!(book.totals, Totals { held: 21, spent: 21 });
    }

    #[test]
    fn a_ledger_with_older_data_learns_what_it_had_granted() {
        let (mut book, mut account) = (book(100, 1), Account::default());
        let report = Report {
            granted: 60,
            spent: 10,
            ..Report::default()
        };
        book.exchange(&mut account, &report).unwrap();
        assert_eq!(book.totals, Totals { held: 60, spent: 10 });
    }

    /// Whatever it says, and however often.
    #[test]
    fn a_holder_is_believed_so_far_and_no_further() {
        let (mut book, mut account) = (book(100, 1), Account::default());
        book.exchange(&mut account, &wants(30, 0)).unwrap();
        book.terms.grants = false;
        for (granted, returned, spent) in [
            (30, 0, crate::MOST),
            (crate::MOST, 0, 0),
            (crate::MOST, crate::MOST - 1_000, 1_000),
        ] {
            let (mut book, mut account) = (book, account);
            let report = Report {
                granted,
                returned,
                spent,
                ..Report::default()
            };
            for _ in 0..3 {
                book.exchange(&mut account, &report).unwrap();
                assert_eq!((book.totals.held, account.claimed), (130, 100), "{report:?}");
                assert_eq!(book.totals.spent, spent.min(130), "{report:?}");
                book.terms.believes = 100 - account.claimed;
            }
        }
        // What it had and gave back before is no claim.
        let report = Report {
            granted: 5_000,
            returned: 4_970,
            spent: 10,
            ..Report::default()
        };
        book.exchange(&mut account, &report).unwrap();
        assert_eq!(
            (book.totals, account.claimed),
            (Totals { held: 30, spent: 10 }, 0)
        );
    }

    #[test]
    fn numbers_that_cannot_be_change_nothing() {
        let (mut book, mut account) = (book(100, 1), Account::default());
        let too_large = wants(crate::MOST + 1, 0);
        assert_eq!(book.exchange(&mut account, &too_large), Err(TooLarge));
        book.totals.spent = i64::MAX as u64;
        let report = Report {
            spent: 1,
            ..Report::default()
        };
        let before = book;
        assert_eq!(book.exchange(&mut account, &report), Err(TooLarge));
        assert_eq!((book, account), (before, Account::default()));
        let mut odd = Account::default();
        book.totals = Totals::default();
        let report = Report {
            returned: 50,
            ..Report::default()
        };
        book.exchange(&mut odd, &report).unwrap();
        assert_eq!(odd.returned, 0, "more than it was given");
    }
}

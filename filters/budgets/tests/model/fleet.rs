//! Holders, the ledger, and all messages that were ever sent.

use std::collections::{BTreeMap, BTreeSet};

use stateright::{Model, Property};
use tollgate_budgets::{Account, Answer, Book, Mutation, Report, Rules, Slice, State, Terms, Totals};

const NEVER_OVER: &str = "no more can be spent than the amount";
const COVERED: &str = "the ledger counts all that a holder can spend";
const SUMS: &str = "the totals are the sums of the accounts";
const NOTHING_MADE_UP: &str = "no more is counted as spent than was";
const FINAL_IS_EXACT: &str = "what a holder that is over had spent is counted to the unit";
pub(crate) const ALL_SPENT: &str = "all of it can be spent and settled";

/// An instance: what may happen how often.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    amount: u64,
    holders: u8,
    /// Reports that each life of a holder sends.
    sends: u8,
    /// Requests, of one unit each, altogether.
    requests: u8,
    /// Holders that die and start again.
    crashes: u8,
    /// Times that a holder is written off.
    write_offs: u8,
    rules: Rules,
}

impl Setup {
    /// Two holders that want all of a budget of two.
    pub(crate) fn two() -> Self {
        Self {
            amount: 2,
            holders: 2,
            sends: 3,
            requests: 3,
            crashes: 0,
            write_offs: 0,
            rules: Rules::default(),
        }
    }

    /// One that dies, and its next life.
    pub(crate) fn crash() -> Self {
        Self {
            holders: 1,
            sends: 2,
            crashes: 1,
            ..Self::two()
        }
    }

    /// The same with a message more.
    pub(crate) fn long_crash() -> Self {
        Self {
            sends: 3,
            ..Self::crash()
        }
    }

    /// One that is taken for dead.
    pub(crate) fn written_off() -> Self {
        Self {
            sends: 2,
            write_offs: 1,
            ..Self::two()
        }
    }

    pub(crate) fn broken(mut self, mutation: Mutation) -> Self {
        self.rules.broken = Some(mutation);
        self
    }
}

/// One life of a holder.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Life {
    slice: Slice,
    sent: u8,
    /// What it said last that it had spent.
    said: u64,
    is_alive: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Fleet {
    /// By a number for each life.
    lives: BTreeMap<u8, Life>,
    accounts: BTreeMap<u8, Account>,
    totals: Totals,
    reports: BTreeSet<(u8, Report)>,
    answers: BTreeSet<(u8, Answer)>,
    /// Those that were written off and not heard since.
    written_off: BTreeSet<u8>,
    requests: u8,
    crashes: u8,
    write_offs: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    /// A request is let in by this life.
    Reserve(u8),
    /// One that was let in ends, and used what it had reserved, or nothing.
    Settle(u8, u64),
    /// It reports: that a request waits, or that it wants nothing.
    Send(u8, bool),
    /// A report reaches the ledger, for the first time or again.
    Deliver(u8, Report),
    /// An answer reaches its holder, for the first time or again.
    Take(u8, Answer),
    Crash(u8),
    WriteOff(u8),
}

impl Life {
    fn new(rules: Rules) -> Self {
        Self {
            slice: Slice::new(rules),
            sent: 0,
            said: 0,
            is_alive: true,
        }
    }

    /// The most that it can have spent in the end.
    fn can_spend(&self) -> u64 {
        let left = if self.is_alive { self.slice.available() } else { 0 };
        self.slice.spent() + self.slice.reserved() + left
    }
}

impl Fleet {
    fn book(&self, setup: &Setup) -> Book {
        Book {
            terms: Terms {
                amount: setup.amount,
                holders: setup.holders.into(),
                grants: true,
                believes: setup.amount,
                rules: setup.rules,
            },
            totals: self.totals,
        }
    }
}

impl Model for Setup {
    type State = Fleet;
    type Action = Action;

    fn init_states(&self) -> Vec<Fleet> {
        vec![Fleet {
            lives: (0..self.holders)
                .map(|holder| (holder, Life::new(self.rules)))
                .collect(),
            accounts: BTreeMap::new(),
            totals: Totals::default(),
            reports: BTreeSet::new(),
            answers: BTreeSet::new(),
            written_off: BTreeSet::new(),
            requests: self.requests,
            crashes: self.crashes,
            write_offs: self.write_offs,
        }]
    }

    fn actions(&self, fleet: &Fleet, actions: &mut Vec<Action>) {
        for (&id, life) in &fleet.lives {
            if life.is_alive {
                if fleet.requests > 0 && life.slice.available() > 0 {
                    actions.push(Action::Reserve(id));
                }
                if life.slice.reserved() > 0 {
                    actions.extend([Action::Settle(id, 0), Action::Settle(id, 1)]);
                }
                if fleet.crashes > 0 {
                    actions.push(Action::Crash(id));
                }
            }
            if life.sent < self.sends {
                actions.push(Action::Send(id, true));
                if life.is_alive {
                    actions.push(Action::Send(id, false));
                }
            }
        }
        if fleet.write_offs > 0 {
            actions.extend(fleet.accounts.keys().map(|&id| Action::WriteOff(id)));
        }
        actions.extend(
            fleet
                .reports
                .iter()
                .map(|&(id, report)| Action::Deliver(id, report)),
        );
        let alive = |id: &u8| fleet.lives.get(id).is_some_and(|life| life.is_alive);
        let answers = fleet.answers.iter().filter(|(id, _)| alive(id));
        actions.extend(answers.map(|&(id, answer)| Action::Take(id, answer)));
    }

    fn next_state(&self, before: &Fleet, action: Action) -> Option<Fleet> {
        let mut fleet = before.clone();
        match action {
            Action::Reserve(id) => {
                fleet.lives.get_mut(&id)?.slice.reserve(1).ok()?;
                fleet.requests -= 1;
            }
            Action::Settle(id, used) => fleet.lives.get_mut(&id)?.slice.settle(1, used),
            Action::Send(id, waits) => {
                let life = fleet.lives.get_mut(&id)?;
                life.sent += 1;
                let report = if !life.is_alive {
                    let broken = self.rules.broken == Some(Mutation::FinalAsReported);
                    Slice::last(if broken { life.said } else { life.slice.spent() })
                } else {
                    life.said = life.slice.spent();
                    life.slice.report(u64::from(waits), u64::from(waits))
                };
                fleet.reports.insert((id, report));
            }
            Action::Deliver(id, report) => {
                let mut book = fleet.book(self);
                let account = fleet.accounts.entry(id).or_default();
                let answer = book.exchange(account, &report).ok()?;
                fleet.totals = book.totals;
                fleet.answers.insert((id, answer));
                fleet.written_off.remove(&id);
            }
            Action::Take(id, answer) => fleet.lives.get_mut(&id)?.slice.take(&answer),
            Action::Crash(id) => {
                let life = fleet.lives.get_mut(&id)?;
                // What was under way has a record, which says that all was used.
                let reserved = life.slice.reserved();
                life.slice.settle(reserved, reserved);
                life.is_alive = false;
                life.sent = 0;
                fleet.crashes -= 1;
                let next = fleet.lives.len() as u8;
                fleet.lives.insert(next, Life::new(self.rules));
            }
            Action::WriteOff(id) => {
                let mut book = fleet.book(self);
                book.write_off(fleet.accounts.get_mut(&id)?);
                fleet.totals = book.totals;
                fleet.written_off.insert(id);
                fleet.write_offs -= 1;
            }
        }
        (fleet != *before).then_some(fleet)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(NEVER_OVER, |setup: &Setup, fleet: &Fleet| {
                let all: u64 = fleet.lives.values().map(Life::can_spend).sum();
                // Once somebody was written off, what it spent after that comes on top.
                all <= setup.amount || fleet.write_offs < setup.write_offs
            }),
            Property::always(COVERED, |_: &Setup, fleet: &Fleet| {
                fleet.lives.iter().all(|(id, life)| {
                    let account = fleet.accounts.get(id).copied().unwrap_or_default();
                    let is_out = fleet.written_off.contains(id) || account.state == State::Done;
                    is_out || account.held() >= life.can_spend()
                })
            }),
            Property::always(SUMS, |_: &Setup, fleet: &Fleet| {
                let held: u64 = fleet.accounts.values().map(Account::held).sum();
                let spent: u64 = fleet.accounts.values().map(|account| account.spent).sum();
                fleet.totals == Totals { held, spent }
            }),
            Property::always(NOTHING_MADE_UP, |_: &Setup, fleet: &Fleet| {
                fleet.accounts.iter().all(|(id, account)| {
                    let life = fleet.lives.get(id);
                    life.is_some_and(|life| account.spent <= life.slice.spent())
                })
            }),
            Property::always(FINAL_IS_EXACT, |_: &Setup, fleet: &Fleet| {
                fleet.accounts.iter().all(|(id, account)| {
                    let life = fleet.lives.get(id);
                    account.state != State::Done
                        || life.is_some_and(|life| account.spent == life.slice.spent())
                })
            }),
            Property::sometimes(ALL_SPENT, |setup: &Setup, fleet: &Fleet| {
                fleet.totals.spent == setup.amount
            }),
        ]
    }
}

//! What this Envoy may spend of a budget, and has spent.

use serde::{Deserialize, Serialize};
use tollgate_budgets::{Answer, Report, Slice};

use super::{millis, since};
use crate::budget::{Terms, Unit};
use crate::state::{Keyspace, Store, StoreError, Value, write};

/// After so long without an answer nobody knows how a budget stands; nanoseconds.
const STALE: u64 = 30_000_000_000;
/// A client is told to come back after a second; nanoseconds.
const KEPT: u64 = 3_000_000_000;
/// What is reserved in a window that ended so long ago, nobody settles any more; milliseconds.
const ABANDONED: i64 = 48 * 3_600_000;

/// This Envoy's part of a budget. A window of it stays as long as the control plane grants anything of it, since what was
/// granted and returned is told as it is in all.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Purse {
    /// The earliest first.
    windows: Vec<Window>,
    /// The largest request that there was.
    largest: u64,
    /// How much a request takes, of late.
    usual: u64,
    /// What it may keep is less than that: it asks for what requests wait for alone.
    is_scarce: bool,
    /// So much was granted for a request that waits, and is kept for it until then; nanoseconds since 1970.
    kept: (u64, u64),
    /// A request came for so much, and there was less; zero for none since the last answer.
    need: u64,
    /// A request was refused as it is spent, since the last answer: there may be more by now.
    is_doubted: bool,
    /// When it was answered last; nanoseconds since 1970.
    heard: u64,
    /// Whether the exchanger knows that something is spent of it here.
    is_known: bool,
}

/// One window. Times are milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Window {
    pub(super) from: i64,
    /// `i64::MAX` where it never ends.
    pub(super) until: i64,
    pub(super) slice: Slice,
    amount: u64,
    /// What other Envoys have spent of it.
    others: u64,
}

/// How a budget stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// How much there is of it in this window.
    pub amount: u64,
    /// How much of that was spent, as far as it is known here.
    pub spent: u64,
    /// When there is as much again; milliseconds since 1970. `None` where that is never.
    pub resets_at: Option<i64>,
}

/// Why nothing can be reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lack {
    /// There is less left of the budget than the request may use.
    Spent(Standing),
    /// This Envoy has too little of what is left.
    Short,
    /// Nobody knows how the budget stands. The window, where it is known.
    Unknown(Option<i64>),
}

impl Window {
    const fn has(&self, now: i64) -> bool {
        self.from <= now && now < self.until
    }

    /// Whether nothing is spent of it any more.
    pub(super) const fn is_over(&self, now: i64) -> bool {
        let ended = now.saturating_sub(self.until);
        (ended >= 0 && self.slice.reserved() == 0) || ended > ABANDONED
    }

    fn standing(&self) -> Standing {
        Standing {
            amount: self.amount,
            spent: self.others.saturating_add(self.slice.spent()),
            resets_at: (self.until != i64::MAX).then_some(self.until),
        }
    }
}

impl Purse {
    pub(super) fn key(budget: &str) -> Vec<u8> {
        Keyspace::SPENDING.key(budget)
    }

    /// Reserves so much in the window that is `now` (nanoseconds since 1970), which it names.
    pub(super) fn reserve(&mut self, amount: u64, now: u64) -> Result<i64, Lack> {
        let at = millis(now);
        let is_stale = since(self.heard, now) > STALE;
        let window = self.windows.iter_mut().find(|window| window.has(at));
        let window = window.ok_or(Lack::Unknown(None))?;
        if window.slice.reserve(amount).is_ok() {
            self.largest = self.largest.max(amount);
            self.usual = match self.usual {
                0 => amount,
                // An eighth of it, rounded up, so that it gets there.
                usual => (usual - usual / 8).saturating_add(amount.div_ceil(8)),
            };
            return Ok(window.from);
        }
        let standing = window.standing();
        let left = standing.amount.saturating_sub(standing.spent);
        Err(match is_stale {
            // What is spent stays so.
            _ if amount > left => Lack::Spent(standing),
            true => Lack::Unknown(Some(window.from)),
            false => Lack::Short,
        })
    }

    /// Notes that there was too little for so much. `false` where that was known.
    pub(super) fn lacks(&mut self, amount: u64) -> bool {
        let is_news = amount > self.need;
        self.need = self.need.max(amount);
        self.largest = self.largest.max(amount);
        is_news
    }

    /// Notes that a request is refused as it is spent. `false` where that was known.
    pub(super) const fn doubt(&mut self) -> bool {
        !core::mem::replace(&mut self.is_doubted, true)
    }

    /// A request that reserved so much in a window has ended, and spent so much.
    pub(super) fn settle(&mut self, from: i64, reserved: u64, spent: u64) {
        if let Some(window) = self.windows.iter_mut().find(|window| window.from == from) {
            window.slice.settle(reserved, spent);
        }
    }

    /// Whether the exchanger is to be told that something is spent of it.
    pub(super) const fn is_known(&self) -> bool {
        self.is_known
    }

    /// The exchanger was told.
    pub(super) const fn know(&mut self) {
        self.is_known = true;
    }

    /// It is a budget of which something may be spent here before anything was.
    pub(super) fn expect(&mut self, unit: Unit) {
        let (largest, usual) = match unit {
            Unit::Requests => (1, 1),
            Unit::Tokens | Unit::CostMicros => (1_000, 100),
        };
        self.largest = self.largest.max(largest);
        self.usual = self.usual.max(usual);
    }

    pub(super) fn windows(&self) -> &[Window] {
        &self.windows
    }

    pub(super) const fn largest(&self) -> u64 {
        self.largest
    }

    pub(super) const fn need(&self) -> u64 {
        self.need
    }

    pub(super) const fn is_scarce(&self) -> bool {
        self.is_scarce
    }

    pub(super) const fn is_doubted(&self) -> bool {
        self.is_doubted
    }

    /// The window that is `now` (milliseconds since 1970).
    pub(super) fn current(&self, now: i64) -> Option<&Window> {
        self.windows.iter().find(|window| window.has(now))
    }

    /// Takes what was answered to a report about the window from then until then.
    pub(super) fn take(&mut self, (from, until): (i64, i64), report: &Report, answer: &Answer, now: u64) {
        self.heard = now;
        let is_current = from <= millis(now);
        if is_current {
            (self.need, self.is_doubted) = (0, false);
        }
        if report.done {
            self.windows.retain(|window| {
                let is_told = window.is_over(millis(now)) && window.slice.spent() == report.spent;
                window.from != from || !is_told
            });
            return;
        }
        let at = self.windows.partition_point(|window| window.from < from);
        if self.windows.get(at).is_none_or(|window| window.from != from) {
            let new = Window {
                from,
                until,
                slice: Slice::default(),
                amount: 0,
                others: 0,
            };
            self.windows.insert(at, new);
        }
        if let Some(window) = self.windows.get_mut(at) {
            window.until = until;
            let unspent = answer.granted.saturating_sub(report.returned);
            let is_met = report.need > 0 && unspent.saturating_sub(window.slice.spent()) >= report.need;
            if is_met {
                self.kept = (report.need, now.saturating_add(KEPT));
            } else if is_current {
                self.is_scarce = answer.keep < self.usual;
            }
            let keep = match self.kept {
                (kept, until) if now < until => answer.keep.max(kept),
                // What no request fits in is of more use elsewhere.
                _ if answer.keep < self.usual => 0,
                _ => answer.keep,
            };
            window.slice.take(&Answer { keep, ..*answer });
            window.amount = answer.amount;
            window.others = answer.spent.saturating_sub(report.spent);
        }
    }
}

/// Has a tool that plays the only Envoy that there is have all of a budget, whatever was spent of it.
pub fn lend(store: &mut impl Store, budget: &Terms) -> Result<(), StoreError> {
    let mut slice = Slice::default();
    slice.take(&Answer {
        granted: tollgate_budgets::MOST,
        keep: tollgate_budgets::MOST,
        amount: tollgate_budgets::MOST,
        spent: 0,
    });
    let all = Window {
        from: 0,
        until: i64::MAX,
        slice,
        amount: tollgate_budgets::MOST,
        others: 0,
    };
    let purse = Purse {
        windows: vec![all],
        ..Purse::default()
    };
    write(store, &budget.id, purse)
}

impl Value for Purse {
    const KEYSPACE: Keyspace = Keyspace::SPENDING;

    fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }

    fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(self).unwrap_or_default()
    }
}

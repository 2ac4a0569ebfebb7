//! Reserving: a request is charged to every row that covers it, or to none.
//!
//! All records are read and judged before the first is written. A write that another worker overtook is read and judged
//! again; if the row refuses by then, what was written to other records is given back.

use super::amounts::{Amounts, Count};
use super::record::LimitRecord;
use super::settle::{Held, Reservation, Taken, Unsettled};
use super::subject::Subject;
use super::table::{Hit, Mode, OnError, Table};
use crate::bound::Bound;
use crate::gcra::Quota;
use crate::state::{ATTEMPTS, Store, StoreError};
use crate::workers::Workers;

/// A request that asks to pass.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    /// Whose, and for what.
    pub subject: &'a Subject<'a>,
    /// Nanoseconds since 1970.
    pub now: u64,
    /// What it is estimated to take.
    pub amounts: Amounts,
    /// The part of that which is no mere expectation: what is beyond it makes no request wait for more than a row's
    /// whole burst.
    pub certain: Amounts,
    /// The worker that serves it, and who else lives.
    pub workers: &'a Workers,
}

impl Ask<'_> {
    /// What it takes of a row. An expectation may be wrong: it makes no request one that can never pass.
    pub(super) fn amount(&self, count: Count, quota: Quota) -> u64 {
        let max = self.certain.of(count).max(quota.burst());
        self.amounts.of(count).min(max)
    }
}

/// A request that may pass.
#[derive(Debug)]
pub struct Admitted {
    /// What it holds.
    pub reservation: Reservation,
    /// How each row that covers it stands, with it.
    pub statuses: Vec<LimitStatus>,
    /// Rows in shadow mode that would have refused it, by their places in the table; it is not charged to them.
    pub would_refuse: Vec<usize>,
    /// Limits skipped because the store failed and `on_error: allow`.
    pub unchecked: Vec<usize>,
}

/// A request that may not pass. Nothing is charged for it.
#[derive(Debug)]
pub struct Refused {
    /// Why.
    pub reason: Reason,
    /// What could not be given back yet.
    pub unreturned: Option<Unsettled>,
}

/// Why a request may not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// A limit is reached.
    Limited(Box<Denied>),
    /// The store failed, and a row denies then.
    Store(StoreError),
}

/// The limit that is reached; of several, the one to wait for longest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// How it stands.
    pub status: LimitStatus,
    /// What the request takes of it.
    pub requested: u64,
    /// When the same request would pass.
    pub wait: Wait,
    /// How each row that covers the request stands, without it.
    pub statuses: Vec<LimitStatus>,
    /// All rows that refuse it, by their places in the table.
    pub refuses: Vec<usize>,
    /// Rows in shadow mode that would have refused it as well.
    pub would_refuse: Vec<usize>,
}

/// When a request would pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wait {
    /// In so many nanoseconds, if nobody else comes; for requests in flight a pause, since nobody knows their end.
    Nanos(u64),
    /// Never: it is more than the burst.
    Never,
}

/// How a row stands for a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitStatus {
    /// The row's place in the table.
    pub row: usize,
    /// What it allows this subject.
    pub bound: Bound,
    /// How much is used; in debt more than the bound.
    pub used: u64,
    /// How much may come at once.
    pub remaining: u64,
    /// Nanoseconds until all of it may; zero for requests in flight.
    pub reset: u64,
}

/// A record, read and judged.
struct Open<'t> {
    key: Vec<u8>,
    hits: Vec<Hit<'t>>,
    version: Option<u32>,
    record: LimitRecord,
    /// Of each row, the wait if it is over.
    verdicts: Vec<Option<Wait>>,
}

/// What came of a request in one record.
struct Charged {
    held: Vec<Held>,
    statuses: Vec<LimitStatus>,
    /// Shadow rows that are over.
    over: Vec<usize>,
}

impl Admitted {
    fn add(&mut self, key: Vec<u8>, charged: Charged) {
        let held = charged.held;
        self.reservation.groups.push(Taken { key, held });
        self.statuses.extend(charged.statuses);
        self.would_refuse.extend(charged.over);
    }
}

enum Failure {
    Limited,
    Store(StoreError),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Table {
    /// Charges a request to every row that covers it, or refuses it and charges nothing.
    pub fn reserve(&self, store: &mut impl Store, ask: &Ask<'_>) -> Result<Admitted, Refused> {
        let mut unchecked = Vec::new();
        let mut open = self.open(store, ask, &mut unchecked)?;
        if open.iter().any(Open::refuses) {
            for one in &mut open {
                one.keep_new_rates(store);
            }
            return Err(denied(&open, ask, None));
        }
        let mut admitted = Admitted {
            reservation: Reservation::default(),
            statuses: Vec::with_capacity(self.rows.len()),
            would_refuse: Vec::new(),
            unchecked,
        };
        let taken = open.iter_mut().try_for_each(|one| {
            match one.take(self, store, ask) {
                Ok(charged) => admitted.add(core::mem::take(&mut one.key), charged),
                Err(Failure::Store(error)) => {
                    excuse(&one.hits, error, &mut admitted.unchecked)?;
                    one.hits.clear();
                }
                Err(limited @ Failure::Limited) => return Err(limited),
            }
            Ok(())
        });
        match taken {
            Ok(()) => Ok(admitted),
            Err(failure) => {
                let unreturned = admitted.reservation.cancel(store, ask.now).err();
                Err(match failure {
                    Failure::Limited => denied(&open, ask, unreturned),
                    Failure::Store(error) => Refused {
                        reason: Reason::Store(error),
                        unreturned,
                    },
                })
            }
        }
    }

    fn open(
        &self,
        store: &mut impl Store,
        ask: &Ask<'_>,
        unchecked: &mut Vec<usize>,
    ) -> Result<Vec<Open<'_>>, Refused> {
        let mut all = Vec::with_capacity(self.groups.len());
        for group in &self.groups {
            let hits = self.hits(group, ask.subject);
            if hits.is_empty() {
                continue;
            }
            let mut open = Open {
                key: group.per.store_key(ask.subject),
                hits,
                version: None,
                record: LimitRecord::as_of(None, ask.now),
                verdicts: Vec::new(),
            };
            match open.read(store, ask) {
                Ok(()) => all.push(open),
                Err(error) => excuse(&open.hits, error, unchecked).map_err(|error| Refused {
                    reason: Reason::Store(error),
                    unreturned: None,
                })?,
            }
        }
        Ok(all)
    }
}

/// Lets a request pass unchecked where every row allows that; shadow rows always do.
fn excuse(hits: &[Hit<'_>], error: StoreError, unchecked: &mut Vec<usize>) -> Result<(), StoreError> {
    let denies = |hit: &Hit<'_>| hit.row.mode == Mode::Enforce && hit.row.on_error == OnError::Deny;
    if hits.iter().any(denies) {
        return Err(error);
    }
    unchecked.extend(hits.iter().map(|hit| hit.at));
    Ok(())
}

/// The refusal by the row that is to be waited for longest.
fn denied(open: &[Open<'_>], ask: &Ask<'_>, unreturned: Option<Unsettled>) -> Refused {
    let judged = || open.iter().flat_map(Open::judged);
    let enforced = judged().filter(|(hit, _)| hit.row.mode == Mode::Enforce);
    let longest = enforced.max_by_key(|(_, wait)| *wait);
    let statuses = statuses(open, ask);
    let over = |mode: Mode| {
        let over = judged().filter(|(hit, wait)| hit.row.mode == mode && wait.is_some());
        over.map(|(hit, _)| hit.at).collect()
    };
    let status_of = |at: usize| statuses.iter().find(|status| status.row == at).copied();
    let found = longest.and_then(|(hit, wait)| Some((hit, wait?, status_of(hit.at)?)));
    let reason = match found {
        Some((hit, wait, status)) => Reason::Limited(Box::new(Denied {
            status,
            requested: hit.takes(ask),
            wait,
            refuses: over(Mode::Enforce),
            would_refuse: over(Mode::Shadow),
            statuses,
        })),
        // Only asked for when a row refuses.
        None => Reason::Store(StoreError::Contended),
    };
    Refused { reason, unreturned }
}

fn statuses(open: &[Open<'_>], ask: &Ask<'_>) -> Vec<LimitStatus> {
    open.iter()
        .flat_map(|one| one.hits.iter().map(|hit| hit.status(&one.record, ask)))
        .collect()
}

impl<'t> Open<'t> {
    fn read(&mut self, store: &mut impl Store, ask: &Ask<'_>) -> Result<(), StoreError> {
        let (stored, version) = store.load(&self.key)?;
        self.version = version;
        self.record = LimitRecord::as_of(stored, ask.now);
        self.verdicts = self.hits.iter().map(|hit| hit.judge(&self.record, ask)).collect();
        Ok(())
    }

    /// The rows, each with the wait if it is over.
    fn judged(&self) -> impl Iterator<Item = (&Hit<'t>, Option<Wait>)> {
        self.hits.iter().zip(self.verdicts.iter().copied())
    }

    fn refuses(&self) -> bool {
        self.judged()
            .any(|(hit, wait)| hit.row.mode == Mode::Enforce && wait.is_some())
    }

    /// Charges every row that is not over, and stores that.
    fn take(&mut self, table: &Table, store: &mut impl Store, ask: &Ask<'_>) -> Result<Charged, Failure> {
        for _ in 0..ATTEMPTS {
            if self.refuses() {
                return Err(Failure::Limited);
            }
            let charged = self.charge(ask);
            let own = |id| self.hits.iter().any(|hit| hit.row.id == id);
            self.record.tidy(|id| own(id) || table.knows(id), ask.workers);
            if store.exchange(&self.key, self.record.clone(), self.version)? {
                return Ok(charged);
            }
            self.read(store, ask)?;
        }
        Err(Failure::Store(StoreError::Contended))
    }

    /// Stores what is used of rows whose rate has changed, so that it leaks by the new one from now on, also where all
    /// that comes is refused. If another worker is quicker, the next request does it.
    fn keep_new_rates(&mut self, store: &mut impl Store) {
        let mut changed = false;
        for hit in &self.hits {
            changed |= hit.keep_new_rate(&mut self.record);
        }
        if changed {
            let _ = store.exchange(&self.key, self.record.clone(), self.version);
        }
    }

    /// Charges every row that is not over.
    fn charge(&mut self, ask: &Ask<'_>) -> Charged {
        let rows = self.hits.len();
        let (mut held, mut statuses) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        let mut over = Vec::new();
        for (hit, wait) in self.hits.iter().zip(&self.verdicts) {
            if wait.is_some() {
                over.push(hit.at);
                statuses.push(hit.status(&self.record, ask));
                continue;
            }
            let (one, status) = hit.charge(&mut self.record, ask);
            held.push(one);
            statuses.push(status);
        }
        Charged { held, statuses, over }
    }
}

//! What was reserved, and its correction by what was used.
//!
//! A reservation is settled once: settling consumes it. One whose worker died is never settled: its tokens stay charged
//! as estimated and leak away at the row's rate, which is their expiry; its slot among the requests in flight ends
//! with its worker. What a model server may still be working on is held for a time, and settled then, its slot among the
//! requests in flight too: a [`Hold`].

use super::amounts::{Amounts, Count};
use super::cell::Mark;
use super::record::LimitRecord;
use super::share::{ShareRecord, key_of, leave};
use super::short::Note;
use crate::gcra::Quota;
use crate::state::{Keyspace, Store, StoreError};

/// What one request holds of all rows that cover it.
#[must_use = "what is reserved must be settled or cancelled"]
#[derive(Debug, Default)]
pub struct Reservation {
    pub(super) groups: Vec<Taken>,
}

/// What it holds in one record.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) key: Vec<u8>,
    pub(super) held: Vec<Held>,
}

#[derive(Debug)]
pub(super) enum Held {
    /// So much of a rate.
    Amount {
        id: u64,
        count: Count,
        amount: u64,
        quota: Quota,
        mark: Mark,
    },
    /// A slot among the requests in flight.
    Slot { id: u64, worker: u32 },
}

/// What could not be settled, because the store failed. It may be tried again.
#[must_use = "what is not settled stays charged, and its slots stay taken"]
#[derive(Debug)]
pub struct Unsettled {
    /// What the store said at last.
    pub error: StoreError,
    left: Vec<Correction>,
}

/// What is still held of a request that was settled, for work that may go on.
#[must_use = "what is held and not released stays charged"]
#[derive(Debug)]
pub struct Hold {
    left: Vec<Correction>,
}

/// What is to be changed in one record.
#[derive(Debug)]
struct Correction {
    key: Vec<u8>,
    changes: Vec<Change>,
}

#[derive(Debug)]
enum Change {
    GiveBack { id: u64, amount: u64, mark: Mark },
    Charge { id: u64, amount: u64, quota: Quota },
    Free { id: u64, worker: u32 },
}

impl Reservation {
    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Corrects what was estimated by what was `used`: less is returned, as far as it has not leaked away; more is
    /// charged, over the limit if need be, so that later requests wait. A request stays one request, and its slot
    /// among those in flight is free again. A request that the upstream refused has used [`Amounts::default`].
    pub fn settle(self, store: &mut impl Store, now: u64, used: &Amounts) -> Result<(), Unsettled> {
        self.correct(store, now, |count, amount| match count {
            Count::Requests => amount,
            _ => used.of(count),
        })
    }

    /// Settles what was `used` so far, and goes on holding of what was reserved as much as `max` says, which is what it
    /// may come to. `None` where nothing is held. Never is more held than was reserved or used. Its slots among the
    /// requests in flight stay taken too if `in_flight`.
    pub fn settle_in_part(
        mut self,
        store: &mut impl Store,
        now: u64,
        used: &Amounts,
        max: &Amounts,
        in_flight: bool,
    ) -> (Result<(), Unsettled>, Option<Hold>) {
        let mut left = Vec::new();
        for taken in &mut self.groups {
            let mut changes: Vec<_> = taken
                .held
                .iter()
                .filter_map(|held| held.later(used, max))
                .collect();
            if in_flight {
                let slots = taken
                    .held
                    .extract_if(.., |held| matches!(held, Held::Slot { .. }));
                changes.extend(slots.filter_map(|slot| slot.change(|_, _| 0)));
            }
            if !changes.is_empty() {
                left.push(Correction {
                    key: taken.key.clone(),
                    changes,
                });
            }
        }
        let settled = self.correct(store, now, |count, amount| match count {
            Count::Requests => amount,
            _ => kept(count, amount, used, max),
        });
        (settled, (!left.is_empty()).then_some(Hold { left }))
    }

    /// Returns everything, the request as well: it was never sent.
    pub fn cancel(self, store: &mut impl Store, now: u64) -> Result<(), Unsettled> {
        self.correct(store, now, |_, _| 0)
    }

    fn correct(
        self,
        store: &mut impl Store,
        now: u64,
        used: impl Fn(Count, u64) -> u64,
    ) -> Result<(), Unsettled> {
        let corrections = self.groups.into_iter().map(|taken| Correction {
            key: taken.key,
            changes: taken.held.iter().filter_map(|held| held.change(&used)).collect(),
        });
        let corrections = corrections.filter(|correction| !correction.changes.is_empty());
        store_all(corrections.collect(), store, now)
    }
}

impl Hold {
    /// Gives up what it holds of rates, which leaks away, and leaves its slots among the requests in flight; `None` where
    /// it has none.
    pub fn slots(mut self) -> Option<Self> {
        for correction in &mut self.left {
            let is_slot = |change: &Change| matches!(change, Change::Free { .. });
            correction.changes.retain(is_slot);
        }
        self.left.retain(|correction| !correction.changes.is_empty());
        (!self.left.is_empty()).then_some(self)
    }

    /// Gives back what was held beyond what was used, as far as it has not leaked away, and its slots.
    pub fn release(self, store: &mut impl Store, now: u64) -> Result<(), Unsettled> {
        store_all(self.left, store, now)
    }
}

/// What stays charged for now: what was used, or what it may come to, as far as that was reserved.
fn kept(count: Count, reserved: u64, used: &Amounts, max: &Amounts) -> u64 {
    let used = used.of(count);
    let beyond = max.of(count).saturating_sub(used).min(reserved);
    used.saturating_add(beyond)
}

impl Unsettled {
    /// Tries again.
    pub fn retry(self, store: &mut impl Store, now: u64) -> Result<(), Self> {
        store_all(self.left, store, now)
    }
}

/// Every correction is tried, whatever becomes of the others.
fn store_all(corrections: Vec<Correction>, store: &mut impl Store, now: u64) -> Result<(), Unsettled> {
    let mut failed = None;
    for correction in corrections {
        if let Err(error) = correction.apply(store, now) {
            let unsettled = failed.get_or_insert(Unsettled {
                error,
                left: Vec::new(),
            });
            unsettled.error = error;
            unsettled.left.push(correction);
        }
    }
    failed.map_or(Ok(()), Err)
}

impl Held {
    /// What is given back at the end of a hold.
    fn later(&self, used: &Amounts, max: &Amounts) -> Option<Change> {
        match *self {
            Self::Amount {
                id,
                count,
                amount,
                mark,
                ..
            } if count != Count::Requests => {
                let beyond = kept(count, amount, used, max) - used.of(count);
                (beyond > 0).then_some(Change::GiveBack {
                    id,
                    amount: beyond,
                    mark,
                })
            }
            _ => None,
        }
    }

    fn change(&self, used: impl Fn(Count, u64) -> u64) -> Option<Change> {
        match *self {
            Self::Slot { id, worker } => Some(Change::Free { id, worker }),
            Self::Amount {
                id,
                count,
                amount,
                quota,
                mark,
            } => {
                let used = used(count, amount);
                match used.checked_sub(amount) {
                    Some(0) => None,
                    Some(more) => Some(Change::Charge {
                        id,
                        amount: more,
                        quota,
                    }),
                    None => Some(Change::GiveBack {
                        id,
                        amount: amount - used,
                        mark,
                    }),
                }
            }
        }
    }
}

impl Correction {
    fn apply(&self, store: &mut impl Store, now: u64) -> Result<(), StoreError> {
        if self.key.starts_with(Keyspace::SHARES.prefix()) {
            return self.apply_to_share(store, now);
        }
        let corrected = store.modify(
            &self.key,
            &mut None,
            || LimitRecord::new(now),
            |record| {
                record.advance(now);
                self.changes.iter().for_each(|change| change.apply(record));
                Some(())
            },
        );
        corrected.map(drop)
    }

    /// By the share that it is now. One that is not there any more owes nothing and is owed nothing.
    fn apply_to_share(&self, store: &mut impl Store, now: u64) -> Result<(), StoreError> {
        let corrected = store.modify(&self.key, &mut None, ShareRecord::new, |share| {
            if share.is_new() {
                return None;
            }
            share.advance(now);
            self.changes
                .iter()
                .for_each(|change| change.apply_to_share(share));
            let owes = share.is_untold_debt();
            if owes {
                share.count_anew();
            }
            Some(owes.then_some((share.org(), share.life())))
        });
        if let (Some(Some((org, life))), Some(key)) = (corrected?, key_of(&self.key)) {
            // It is corrected already. The member looks again where a request is refused.
            let _ = leave(store, Note { key, org }, life);
        }
        Ok(())
    }
}

impl Change {
    fn apply(&self, record: &mut LimitRecord) {
        match self {
            Self::GiveBack { id, amount, mark } => {
                if let Some(cell) = record.cell_mut(*id) {
                    cell.give_back(*amount, mark);
                }
            }
            // By the quota that the cell has now, which may have changed since.
            Self::Charge { id, amount, quota } => {
                record.change_cell(*id, *quota, |cell| cell.charge(*amount));
            }
            Self::Free { id, worker } => record.change_slots(*id, |slots| slots.free(*worker)),
        }
    }

    fn apply_to_share(&self, share: &mut ShareRecord) {
        match self {
            Self::GiveBack { amount, mark, .. } => share.give_back(*amount, mark),
            Self::Charge { amount, .. } => share.charge_late(*amount),
            Self::Free { worker, .. } => share.free(*worker),
        }
    }
}

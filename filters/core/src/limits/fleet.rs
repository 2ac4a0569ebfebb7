//! A row of the fleet: a request is judged by this Envoy's share of it, and asks nobody. What the share is too small for is
//! left for the member, which asks for more.

use sha2::{Digest as _, Sha256};
use tollgate_shares::{Key, Limit};

use super::ask::{Ask, LimitStatus, Wait};
use super::fair::Org;
use super::lease::Lease;
use super::settle::Held;
use super::share::{SOON, ShareRecord, leave, limit_of, store_key};
use super::short::{Note, Notes};
use super::subject::Subject;
use super::table::Hit;
use crate::bound::Bound;
use crate::state::{Seen, Store, StoreError};
use crate::workers::Workers;

/// How often a lease is read again, where the one that was read has been replaced.
const LEASES: usize = 3;

/// What came of a charge.
enum Charging {
    Done(Held, LimitStatus),
    Refused(Wait),
    /// The member has to be told first.
    Unnoted,
}

/// What a request does with one share.
pub(super) struct Sharing {
    key: Key,
    org: Org,
    place: Vec<u8>,
    limit: Limit,
    lease: Lease,
    seen: Seen<ShareRecord>,
}

impl Sharing {
    /// The share of a row that covers the request, by this lease.
    pub(super) fn of(hit: &Hit<'_>, subject: &Subject<'_>, lease: Lease) -> Self {
        let limit = limit_of(hit.bound);
        let key = key(hit.row.id, &hit.row.per.store_key(subject), limit);
        Self {
            key,
            org: Org::named(subject.org),
            place: store_key(key),
            limit,
            lease,
            seen: None,
        }
    }

    /// Where it is in the store.
    pub(super) fn place(&self) -> &[u8] {
        &self.place
    }

    const fn note(&self) -> Note {
        Note {
            key: self.key,
            org: self.org,
        }
    }

    /// Changes the record, as of now; `None` leaves it as it is.
    fn modify<T>(
        &mut self,
        store: &mut impl Store,
        now: u64,
        mut change: impl FnMut(&mut ShareRecord) -> Option<T>,
    ) -> Result<Option<T>, StoreError> {
        self.modify_by(store, now, |record, _| change(record))
    }

    /// The same; `change` is told by which lease.
    fn modify_by<T>(
        &mut self,
        store: &mut impl Store,
        now: u64,
        mut change: impl FnMut(&mut ShareRecord, &Lease) -> Option<T>,
    ) -> Result<Option<T>, StoreError> {
        for _ in 0..LEASES {
            let (lease, limit) = (self.lease, self.limit);
            let mut is_current = true;
            let answer = store.modify(&self.place, &mut self.seen, ShareRecord::new, |record| {
                is_current = record.fit(limit, &lease, now);
                if is_current { change(record, &lease) } else { None }
            })?;
            if is_current {
                return Ok(answer);
            }
            self.seen = None;
            self.lease = Lease::valid(store, now)?;
        }
        Err(StoreError::Contended)
    }

    /// The wait, if the share has no room for the request, and how it stands.
    pub(super) fn judge(
        &mut self,
        store: &mut impl Store,
        hit: &Hit<'_>,
        ask: &Ask<'_>,
    ) -> Result<(Option<Wait>, LimitStatus), StoreError> {
        let (mut wait, mut status) = (None, None);
        self.modify(store, ask.now, |record| {
            wait = record.wait(hit.takes(ask), ask.now, ask.workers);
            status = Some(status_of(record, hit, ask));
            None::<()>
        })?;
        Ok((wait, status.ok_or(StoreError::Contended)?))
    }

    /// Charges the request; `Err` with the wait where there is no room by now.
    pub(super) fn charge(
        &mut self,
        store: &mut impl Store,
        hit: &Hit<'_>,
        ask: &Ask<'_>,
    ) -> Result<Result<(Held, LimitStatus), Wait>, StoreError> {
        let mut noted = 0;
        for _ in 0..LEASES {
            match self.charge_if(store, hit, ask, noted)? {
                Charging::Done(held, status) => return Ok(Ok((held, status))),
                Charging::Refused(wait) => return Ok(Err(wait)),
                Charging::Unnoted => {}
            }
            noted = self.lease.number;
            if !Notes::InUse.add(store, self.note())? {
                return Ok(Err(Wait::Nanos(SOON)));
            }
            // The member writes another lease before it takes the notes of the one before.
            self.lease = Lease::valid(store, ask.now)?;
        }
        Err(StoreError::Contended)
    }

    /// Charges the request if there is room, and if the member knows or `noted` is the lease by which it was told.
    fn charge_if(
        &mut self,
        store: &mut impl Store,
        hit: &Hit<'_>,
        ask: &Ask<'_>,
        noted: u64,
    ) -> Result<Charging, StoreError> {
        let (amount, org) = (hit.takes(ask), self.org);
        let mut refused = Charging::Unnoted;
        let charged = self.modify_by(store, ask.now, |record, lease| {
            if let Some(wait) = record.wait(amount, ask.now, ask.workers) {
                refused = Charging::Refused(wait);
                return None;
            }
            if record.is_unnoted(lease.number) {
                if noted != lease.number {
                    refused = Charging::Unnoted;
                    return None;
                }
                record.note(noted);
            }
            record.came(org);
            let mark = record.charge(amount, ask.workers);
            let held = match (mark, hit.bound) {
                (Some(mark), Bound::Rate(quota)) => Held::Amount {
                    id: hit.row.id,
                    count: hit.row.count,
                    amount,
                    quota,
                    mark,
                },
                _ => Held::Slot {
                    id: hit.row.id,
                    worker: ask.workers.id(),
                },
            };
            Some(Charging::Done(held, status_of(record, hit, ask)))
        })?;
        Ok(charged.unwrap_or(refused))
    }

    /// Has so much of it be in use.
    pub(super) fn assume(
        &mut self,
        store: &mut impl Store,
        (used, now): (u64, u64),
        workers: &Workers,
    ) -> Result<(), StoreError> {
        let assumed = self.modify(store, now, |record| {
            record.assume(used, workers);
            Some(())
        });
        assumed.map(drop)
    }

    /// Leaves it for the member that the share refused the request.
    pub(super) fn report(
        &mut self,
        store: &mut impl Store,
        hit: &Hit<'_>,
        ask: &Ask<'_>,
    ) -> Result<(), StoreError> {
        let (amount, life, org) = (hit.takes(ask), self.lease.life, self.org);
        // What the whole limit has no room for is not asked for.
        if amount > self.limit.burst {
            return Ok(());
        }
        let is_untold = self.modify(store, ask.now, |record| {
            let is_untold = record.is_untold(life);
            if is_untold {
                record.count_anew();
            }
            record.came(org);
            record.refuse(amount);
            Some(is_untold)
        })?;
        match is_untold {
            Some(true) => leave(store, self.note(), life),
            _ => Ok(()),
        }
    }
}

/// Names a row, a subject and the numbers of the limit.
fn key(row: u64, subject: &[u8], limit: Limit) -> Key {
    let numbers = [row, limit.rate, limit.period, limit.burst];
    let hash = numbers
        .into_iter()
        .fold(Sha256::new(), |hash, number| {
            hash.chain_update(number.to_le_bytes())
        })
        .chain_update(subject)
        .finalize();
    let mut key = [0; 16];
    key.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    Key(key)
}

fn status_of(record: &ShareRecord, hit: &Hit<'_>, ask: &Ask<'_>) -> LimitStatus {
    let standing = record.standing(ask.workers);
    LimitStatus {
        row: hit.at,
        bound: hit.bound,
        used: standing.used,
        remaining: standing.remaining,
        reset: standing.reset,
    }
}

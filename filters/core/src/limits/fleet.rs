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
use crate::state::{Keyspace, Seen, Store, StoreError, Value, read, write};
use crate::workers::Workers;

/// How often a lease is read again, where the one that was read has been replaced.
const LEASES: usize = 4;

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
    row: u64,
    /// As the row tells subjects apart.
    subject: Vec<u8>,
    place: Vec<u8>,
    limit: Limit,
    lease: Lease,
    seen: Seen<ShareRecord>,
}

impl Sharing {
    /// The share of a row that covers the request, by this lease.
    pub(super) fn of(hit: &Hit<'_>, subject: &Subject<'_>, lease: Lease) -> Self {
        let limit = limit_of(hit.bound);
        let org = Org::named(subject.org);
        let subject = hit.row.per.store_key(subject);
        let key = key(hit.row.id, &subject, limit);
        Self {
            key,
            org,
            row: hit.row.id,
            subject,
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
            let (mut is_current, mut is_apart) = (true, false);
            let answer = store.modify(&self.place, &mut self.seen, ShareRecord::new, |record| {
                is_apart = record.is_apart();
                if is_apart {
                    return None;
                }
                is_current = record.fit(limit, &lease, now);
                if is_current { change(record, &lease) } else { None }
            })?;
            self.seen = self.seen.take().filter(|_| is_current && !is_apart);
            if is_apart {
                self.put_in_force(store, now)?;
                continue;
            }
            if is_current {
                return Ok(answer);
            }
            self.lease = Lease::valid(store, now)?;
        }
        Err(StoreError::Contended)
    }

    /// Has this be the share of its row and subject that is in force. Where another was, as numbers have been changed, what is
    /// left of that is moved here, in proportion: a change fills nothing.
    fn put_in_force(&mut self, store: &mut impl Store, now: u64) -> Result<(), StoreError> {
        let (lease, limit, name) = (self.lease, self.limit, hash([self.row], &self.subject));
        let before = read::<InForce>(store, name)?.map(|InForce(key)| key);
        let mut tokens = None;
        if let Some(before) = before.filter(|before| *before != self.key) {
            let left = store.modify(&store_key(before), &mut None, ShareRecord::new, |record| {
                let burst = record.limit().burst;
                record.leave(&lease, now).map(|left| (left, burst))
            })?;
            tokens = left.map(|(left, burst)| {
                let scaled = u128::from(left) * u128::from(limit.burst) / u128::from(burst.max(1));
                u64::try_from(scaled).unwrap_or(u64::MAX)
            });
        }
        let begun = store.modify(&self.place, &mut None, ShareRecord::new, |record| {
            let was_new = record.is_new();
            record
                .fit(limit, &lease, now)
                .then(|| record.follow(tokens, was_new))
        })?;
        match begun {
            Some(()) => write(store, name, InForce(self.key)),
            // By another lease, of which the next look is; what was moved is lost.
            None => {
                self.lease = Lease::valid(store, now)?;
                Ok(())
            }
        }
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

/// Which share is in force for a row and a subject: as its 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct InForce(Key);

impl Value for InForce {
    const KEYSPACE: Keyspace = Keyspace::NUMBERS;

    fn decode(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(|key| Self(Key(key)))
    }

    fn encode(&self) -> Vec<u8> {
        self.0.0.to_vec()
    }
}

/// Names a row, a subject and the numbers of the limit.
fn key(row: u64, subject: &[u8], limit: Limit) -> Key {
    Key(hash([row, limit.rate, limit.period, limit.burst], subject))
}

fn hash<const N: usize>(numbers: [u64; N], subject: &[u8]) -> [u8; 16] {
    let hash = numbers
        .into_iter()
        .fold(Sha256::new(), |hash, number| {
            hash.chain_update(number.to_le_bytes())
        })
        .chain_update(subject)
        .finalize();
    let mut first = [0; 16];
    first.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    first
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

//! Reserving: a request is charged to every row that covers it, or to none.
//!
//! All records are judged before the first is changed, and each again when it is changed, as another worker may have come
//! in between; if a row refuses by then, what was charged to other records is given back.

use super::ask::{Ask, LimitStatus, Wait};
use super::fleet::Sharing;
use super::lease::Lease;
use super::record::LimitRecord;
use super::settle::{Held, Reservation, Taken, Unsettled};
use super::table::{Hit, Mode, OnError, Row, Table};
use crate::state::{Seen, Store, StoreError};

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

/// A record that was judged.
struct Open<'t> {
    key: Vec<u8>,
    /// Its rows.
    judged: Vec<Judged<'t>>,
    seen: Seen<LimitRecord>,
    /// Of a row of the fleet, which is alone in its record.
    sharing: Option<Box<Sharing>>,
}

/// A row that covers the request, and the wait if it is over.
type Judged<'t> = (Hit<'t>, Option<Wait>);

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
            let refused = denied(&mut open, store, ask, Vec::new(), None);
            for one in &mut open {
                one.keep_new_rates(store, ask);
            }
            return Err(refused);
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
                    one.excuse(error, &mut admitted.unchecked)?;
                    one.judged.clear();
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
                    Failure::Limited => denied(&mut open, store, ask, admitted.statuses, unreturned),
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
            let judged: Vec<_> = self.hits(group, ask.subject).map(|hit| (hit, None)).collect();
            if judged.is_empty() {
                continue;
            }
            let open = Open {
                key: group.per.store_key(ask.subject),
                judged,
                seen: None,
                sharing: None,
            };
            open.judged(store, ask, &mut all, unchecked)?;
        }
        self.open_fleet(store, ask, &mut all, unchecked)?;
        Ok(all)
    }

    /// Rows of the fleet, each of which has a record of its own.
    fn open_fleet<'t>(
        &'t self,
        store: &mut impl Store,
        ask: &Ask<'_>,
        all: &mut Vec<Open<'t>>,
        unchecked: &mut Vec<usize>,
    ) -> Result<(), Refused> {
        let mut lease = None;
        for hit in self.fleet_hits(ask.subject) {
            let lease = *lease.get_or_insert_with(|| Lease::valid(store, ask.now));
            let open = Open {
                key: Vec::new(),
                judged: vec![(hit, None)],
                seen: None,
                sharing: None,
            };
            match lease {
                Ok(lease) => {
                    let sharing = Sharing::of(&hit, ask.subject, lease);
                    let open = Open {
                        key: sharing.place().to_vec(),
                        sharing: Some(Box::new(sharing)),
                        ..open
                    };
                    open.judged(store, ask, all, unchecked)?;
                }
                Err(error) => open.excused(error, unchecked)?,
            }
        }
        Ok(())
    }
}

/// The refusal by the row that is to be waited for longest. `statuses` are of the records that were charged by then.
fn denied(
    open: &mut [Open<'_>],
    store: &mut impl Store,
    ask: &Ask<'_>,
    mut statuses: Vec<LimitStatus>,
    unreturned: Option<Unsettled>,
) -> Refused {
    // Those have given their keys away.
    for one in open.iter_mut().filter(|one| !one.key.is_empty()) {
        // Of a record that can't be read any more nothing is told.
        let _ = one.statuses(store, ask, &mut statuses);
    }
    let judged = || open.iter().flat_map(|one| &one.judged);
    let enforced = judged().filter(|(hit, _)| hit.row.mode == Mode::Enforce);
    let longest = enforced.max_by_key(|(_, wait)| *wait);
    let over = |mode: Mode| {
        let over = judged().filter(|(hit, wait)| hit.row.mode == mode && wait.is_some());
        over.map(|(hit, _)| hit.at).collect()
    };
    let status_of = |at: usize| statuses.iter().find(|status| status.row == at).copied();
    let found = longest.and_then(|(hit, wait)| Some((hit, (*wait)?, status_of(hit.at)?)));
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

/// Whether a row refuses, of a record that was judged.
fn refuses(judged: &[Judged<'_>]) -> bool {
    let mut judged = judged.iter();
    judged.any(|(hit, wait)| hit.row.mode == Mode::Enforce && wait.is_some())
}

fn judge(record: &LimitRecord, judged: &mut [Judged<'_>], ask: &Ask<'_>) {
    for (hit, wait) in judged {
        *wait = hit.judge(record, ask);
    }
}

impl<'t> Open<'t> {
    /// Changes the record, as of now; `None` leaves it as it is.
    fn modify<T>(
        &mut self,
        store: &mut impl Store,
        ask: &Ask<'_>,
        mut change: impl FnMut(&mut LimitRecord, &mut [Judged<'t>]) -> Option<T>,
    ) -> Result<Option<T>, StoreError> {
        let Self {
            key, judged, seen, ..
        } = self;
        let new = || LimitRecord::new(ask.now);
        store.modify(key, seen, new, |record| {
            record.advance(ask.now);
            change(record, judged)
        })
    }

    /// Judges it and adds it to the others, or lets the request pass unchecked where every row allows that.
    fn judged(
        mut self,
        store: &mut impl Store,
        ask: &Ask<'_>,
        all: &mut Vec<Self>,
        unchecked: &mut Vec<usize>,
    ) -> Result<(), Refused> {
        match self.judge(store, ask) {
            Ok(()) => all.push(self),
            Err(error) => self.excused(error, unchecked)?,
        }
        Ok(())
    }

    fn judge(&mut self, store: &mut impl Store, ask: &Ask<'_>) -> Result<(), StoreError> {
        if let (Some(sharing), Some((hit, wait))) = (&mut self.sharing, self.judged.first_mut()) {
            *wait = sharing.judge(store, hit, ask)?.0;
            return Ok(());
        }
        let looked = self.modify(store, ask, |record, judged| {
            judge(record, judged, ask);
            None::<()>
        });
        looked.map(drop)
    }

    /// How its rows stand.
    fn statuses(
        &mut self,
        store: &mut impl Store,
        ask: &Ask<'_>,
        statuses: &mut Vec<LimitStatus>,
    ) -> Result<(), StoreError> {
        if let (Some(sharing), Some((hit, _))) = (&mut self.sharing, self.judged.first()) {
            statuses.push(sharing.judge(store, hit, ask)?.1);
            return Ok(());
        }
        let looked = self.modify(store, ask, |record, judged| {
            statuses.extend(judged.iter().map(|(hit, _)| hit.status(record, ask)));
            None::<()>
        });
        looked.map(drop)
    }

    fn refuses(&self) -> bool {
        refuses(&self.judged)
    }

    fn excused(&self, error: StoreError, unchecked: &mut Vec<usize>) -> Result<(), Refused> {
        self.excuse(error, unchecked).map_err(|error| Refused {
            reason: Reason::Store(error),
            unreturned: None,
        })
    }

    /// Lets a request pass unchecked where every row allows that; shadow rows always do.
    fn excuse(&self, error: StoreError, unchecked: &mut Vec<usize>) -> Result<(), StoreError> {
        let denies = |row: &Row| row.mode == Mode::Enforce && row.on_error == OnError::Deny;
        if self.judged.iter().any(|(hit, _)| denies(hit.row)) {
            return Err(error);
        }
        unchecked.extend(self.judged.iter().map(|(hit, _)| hit.at));
        Ok(())
    }

    /// Charges every row that is not over, if none refuses.
    fn take(&mut self, table: &Table, store: &mut impl Store, ask: &Ask<'_>) -> Result<Charged, Failure> {
        if self.sharing.is_some() {
            return self.take_share(store, ask);
        }
        let charged = self.modify(store, ask, |record, judged| {
            judge(record, judged, ask);
            if refuses(judged) {
                return None;
            }
            let charged = charge(record, judged, ask);
            let own = |id| judged.iter().any(|(hit, _)| hit.row.id == id);
            record.tidy(|id| own(id) || table.knows(id), ask.workers);
            Some(charged)
        });
        charged?.ok_or(Failure::Limited)
    }

    fn take_share(&mut self, store: &mut impl Store, ask: &Ask<'_>) -> Result<Charged, Failure> {
        let (Some(sharing), Some((hit, wait))) = (&mut self.sharing, self.judged.first_mut()) else {
            return Err(Failure::Limited);
        };
        match sharing.charge(store, hit, ask)? {
            Ok((held, status)) => {
                *wait = None;
                Ok(Charged {
                    held: vec![held],
                    statuses: vec![status],
                    over: Vec::new(),
                })
            }
            Err(over) => {
                *wait = Some(over);
                // A member is told of what a row in shadow mode would have refused too.
                let _ = sharing.report(store, hit, ask);
                match hit.row.mode {
                    Mode::Enforce => Err(Failure::Limited),
                    Mode::Shadow => Ok(Charged {
                        held: Vec::new(),
                        statuses: vec![sharing.judge(store, hit, ask)?.1],
                        over: vec![hit.at],
                    }),
                }
            }
        }
    }

    /// Leaves it for the member that a share refused the request.
    fn report(&mut self, store: &mut impl Store, ask: &Ask<'_>) {
        if let (Some(sharing), Some((hit, Some(_)))) = (&mut self.sharing, self.judged.first()) {
            // The next refusal is another chance.
            let _ = sharing.report(store, hit, ask);
        }
    }

    /// Stores what is used of rows whose rate has changed, so that it leaks by the new one from now on, also where all
    /// that comes is refused.
    fn keep_new_rates(&mut self, store: &mut impl Store, ask: &Ask<'_>) {
        if self.sharing.is_some() {
            return self.report(store, ask);
        }
        // Where it fails the next request does it.
        let _ = self.modify(store, ask, |record, judged| {
            let mut changed = false;
            for (hit, _) in judged {
                changed |= hit.keep_new_rate(record);
            }
            changed.then_some(())
        });
    }
}

/// Charges every row that is not over.
fn charge(record: &mut LimitRecord, judged: &[Judged<'_>], ask: &Ask<'_>) -> Charged {
    let rows = judged.len();
    let (mut held, mut statuses) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
    let mut over = Vec::new();
    for (hit, wait) in judged {
        if wait.is_some() {
            over.push(hit.at);
            statuses.push(hit.status(record, ask));
            continue;
        }
        let (one, status) = hit.charge(record, ask);
        held.push(one);
        statuses.push(status);
    }
    Charged { held, statuses, over }
}

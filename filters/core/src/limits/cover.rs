//! What each row has to do with a request, for whoever asks why: by the same functions by which it is admitted.

use super::ask::{Ask, Wait};
use super::fleet::Sharing;
use super::lease::Lease;
use super::record::LimitRecord;
use super::subject::{Dimension, Subject};
use super::table::{Hit, Place, Row, Table};
use crate::bound::Bound;
use crate::state::{Store, StoreError};
use crate::workers::Workers;

/// What a row has to do with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cover {
    /// It does not cover it, as this does not fit its `when`.
    Spares(Dimension),
    /// It is a cap, and the caller has none.
    Uncapped,
    /// It covers it.
    Takes {
        /// What says how much it allows.
        by: By,
        /// What it allows.
        bound: Bound,
        /// How much the request takes.
        amount: u64,
        /// Whether it can't pass, however long it waits.
        never: bool,
    },
}

/// What says how much a row allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The row.
    Row,
    /// Its override at this place.
    Override(usize),
    /// The directory: the limits or the cap of the organization or key.
    Directory,
}

impl Table {
    /// What each row has to do with a request, in the order of the configuration.
    pub fn covers(&self, ask: &Ask<'_>) -> Vec<Cover> {
        let rows = self.rows.iter().enumerate();
        rows.map(|(at, row)| row.cover(at, ask)).collect()
    }

    /// Has so much of the row at this place be in use by `subject`, for whoever asks what would be then.
    pub fn assume(
        &self,
        store: &mut impl Store,
        (subject, now): (&Subject<'_>, u64),
        workers: &Workers,
        (at, used): (usize, u64),
    ) -> Result<(), StoreError> {
        let Some(row) = self.rows.get(at) else {
            return Ok(());
        };
        if let (Place::Fleet, Some(bound)) = (row.place, row.bound_for(subject)) {
            let hit = Hit { at, row, bound };
            return Sharing::of(&hit, subject, Lease::valid(store, now)?).assume(store, (used, now), workers);
        }
        let key = row.per.store_key(subject);
        let (stored, _) = store.load(&key)?;
        let mut record = LimitRecord::as_of(stored, now);
        match row.bound_for(subject) {
            None => return Ok(()),
            Some(Bound::Rate(quota)) => record.change_cell(row.id, quota, |cell| {
                cell.charge(used);
            }),
            Some(Bound::Max(max)) => record.change_slots(row.id, |slots| {
                (0..used.min(u64::from(max))).for_each(|_| slots.take(workers.id()));
            }),
        }
        store.write(&key, record)
    }
}

impl Row {
    fn cover(&self, at: usize, ask: &Ask<'_>) -> Cover {
        if let Some(dimension) = self.when.misfit(ask.subject) {
            return Cover::Spares(dimension);
        }
        let Some(bound) = self.bound_for(ask.subject) else {
            return Cover::Uncapped;
        };
        let by = match self.override_of(ask.subject) {
            _ if self.in_directory(ask.subject.overrides).is_some() => By::Directory,
            Some(at) => By::Override(at),
            None => By::Row,
        };
        let hit = Hit { at, row: self, bound };
        let unused = LimitRecord::as_of(None, ask.now);
        Cover::Takes {
            by,
            bound,
            amount: hit.takes(ask),
            never: hit.judge(&unused, ask) == Some(Wait::Never),
        }
    }
}

//! So much in each unit of time.

use std::borrow::Cow;

use super::super::cell::Cell;
use super::{Ask, Held, Hit, LimitRecord, Meter, Reading, Wait};
use crate::gcra::{Quota, Verdict};

impl Meter for Quota {
    fn takes(&self, hit: &Hit<'_>, ask: &Ask<'_>) -> u64 {
        ask.amount(hit.row.count, *self)
    }

    fn wait(&self, record: &LimitRecord, hit: &Hit<'_>, ask: &Ask<'_>) -> Option<Wait> {
        match cell(record, hit, *self).judge(self.takes(hit, ask)) {
            Verdict::Admit => None,
            // The record may be a little ahead of this worker's clock.
            Verdict::Wait(wait) => {
                let ahead = record.time.saturating_sub(ask.now);
                Some(Wait::Nanos(wait.saturating_add(ahead)))
            }
            Verdict::Never => Some(Wait::Never),
        }
    }

    fn charge(&self, record: &mut LimitRecord, hit: &Hit<'_>, ask: &Ask<'_>) -> (Held, Reading) {
        let (id, amount) = (hit.row.id, self.takes(hit, ask));
        let (mark, reading) = record.change_cell(id, *self, |cell| {
            cell.adopt(*self);
            (cell.charge(amount), read(cell))
        });
        let held = Held::Amount {
            id,
            count: hit.row.count,
            amount,
            quota: *self,
            mark,
        };
        (held, reading)
    }

    fn read(&self, record: &LimitRecord, hit: &Hit<'_>, _ask: &Ask<'_>) -> Reading {
        read(&cell(record, hit, *self))
    }

    fn adopt(&self, record: &mut LimitRecord, hit: &Hit<'_>) -> bool {
        match record.cell_mut(hit.row.id) {
            Some(cell) if cell.quota != *self => {
                cell.adopt(*self);
                true
            }
            _ => false,
        }
    }
}

/// The cell of a row as it is by this quota.
fn cell<'r>(record: &'r LimitRecord, hit: &Hit<'_>, quota: Quota) -> Cow<'r, Cell> {
    match record.cell(hit.row.id) {
        Some(cell) if cell.quota == quota => Cow::Borrowed(cell),
        Some(cell) => {
            let mut cell = cell.clone();
            cell.adopt(quota);
            Cow::Owned(cell)
        }
        None => Cow::Owned(Cell::new(quota, record.time)),
    }
}

fn read(cell: &Cell) -> Reading {
    Reading {
        used: cell.used(),
        remaining: cell.remaining(),
        reset: cell.reset(),
    }
}

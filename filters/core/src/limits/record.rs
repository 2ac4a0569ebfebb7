//! The states of all rows with one `per` for one subject, as one value of the store.
//!
//! Layout, little-endian: the time of the levels (8 bytes), the number of cells (2), then each: the row's id (8), amount
//! (8), period (8), burst (8), level (16), charged (8), born (8), in how many runs parts were taken back (2) and each
//! one's begin, end and amount (8 each); then to the end rows of requests in flight: the row's id (8), how many workers (2),
//! and each worker's number and count (4 and 4).
//!
//! A cell says itself by which quota it leaks, so that a worker whose configuration does not have the row, or has it with
//! another rate, reads it right.

use super::cell::Cell;
use super::returned::{Returned, Run};
use super::slots::Slots;
use crate::gcra::Quota;
use crate::state::{Keyspace, Value};
use crate::workers::Workers;

/// Rows that this configuration does not have, but another worker's may, while it is being replaced.
const MAX_UNKNOWN: usize = 64;
/// A clock that stands back by less has not been set: workers read it one after another.
pub(super) const SET_BACK: u64 = 1_000_000_000;

/// The states of one subject, as of one moment (nanoseconds since 1970), each with the id of its row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LimitRecord {
    pub(super) time: u64,
    cells: Vec<(u64, Cell)>,
    slots: Vec<(u64, Slots)>,
}

impl LimitRecord {
    /// One of which nothing is used yet.
    pub(super) const fn new(now: u64) -> Self {
        Self {
            time: now,
            cells: Vec::new(),
            slots: Vec::new(),
        }
    }

    /// What is stored, as of `now`. Nothing is an empty record.
    pub(super) fn as_of(stored: Option<Self>, now: u64) -> Self {
        let mut record = stored.unwrap_or_else(|| Self::new(now));
        record.advance(now);
        record
    }

    /// What it is by `now`: nobody has to know of it who asks later.
    pub(super) fn advance(&mut self, now: u64) {
        match now.checked_sub(self.time) {
            Some(passed) => {
                for (_, cell) in &mut self.cells {
                    cell.leak(passed);
                }
                self.time = now;
            }
            // The clock was set back: levels stay as they are, and leak from here on.
            None if self.time - now > SET_BACK => self.time = now,
            None => {}
        }
    }

    /// The cell of a row.
    pub(super) fn cell(&self, id: u64) -> Option<&Cell> {
        find(&self.cells, id)
    }

    /// The same, to be changed.
    pub(super) fn cell_mut(&mut self, id: u64) -> Option<&mut Cell> {
        find_mut(&mut self.cells, id)
    }

    /// Changes the cell of a row; a new one of this quota where there is none.
    pub(super) fn change_cell<T>(&mut self, id: u64, quota: Quota, change: impl FnOnce(&mut Cell) -> T) -> T {
        let time = self.time;
        change_in(&mut self.cells, id, || Cell::new(quota, time), change)
    }

    /// What a row has in flight.
    pub(super) fn slots(&self, id: u64) -> Option<&Slots> {
        find(&self.slots, id)
    }

    /// Changes what a row has in flight; where it has no entry, it gets one.
    pub(super) fn change_slots<T>(&mut self, id: u64, change: impl FnOnce(&mut Slots) -> T) -> T {
        change_in(&mut self.slots, id, Slots::default, change)
    }

    /// Drops entries of unknown rows that hold nothing, or are too many.
    pub(super) fn tidy(&mut self, knows: impl Fn(u64) -> bool, workers: &Workers) {
        let time = self.time;
        let mut unknown = 0;
        let mut few = |holds: bool| {
            unknown += usize::from(holds);
            holds && unknown <= MAX_UNKNOWN
        };
        // One that was made at this very moment stays, so that no two of one row are born at the same time.
        self.cells
            .retain(|(id, cell)| knows(*id) || few(cell.level > 0 || cell.born >= time));
        self.slots.retain_mut(|(id, slots)| {
            slots.keep(workers);
            slots.in_use() > 0 && (knows(*id) || few(true))
        });
    }

    fn encoded_len(&self) -> usize {
        let cells = self.cells.iter().map(|(_, cell)| 66 + 24 * cell.returned.0.len());
        let slots = self.slots.iter().map(|(_, slots)| 10 + 8 * slots.0.len());
        10 + cells.sum::<usize>() + slots.sum::<usize>()
    }
}

impl Value for LimitRecord {
    const KEYSPACE: Keyspace = Keyspace::LIMITS;

    fn decode(bytes: &[u8]) -> Option<Self> {
        decode(bytes)
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.encoded_len());
        bytes.extend_from_slice(&self.time.to_le_bytes());
        bytes.extend_from_slice(&(self.cells.len() as u16).to_le_bytes());
        for (id, cell) in &self.cells {
            let (amount, period, burst) = cell.quota.parts();
            bytes.extend_from_slice(&id.to_le_bytes());
            bytes.extend_from_slice(&amount.to_le_bytes());
            bytes.extend_from_slice(&period.to_le_bytes());
            bytes.extend_from_slice(&burst.to_le_bytes());
            bytes.extend_from_slice(&cell.level.to_le_bytes());
            bytes.extend_from_slice(&cell.charged.to_le_bytes());
            bytes.extend_from_slice(&cell.born.to_le_bytes());
            let Returned(runs) = &cell.returned;
            bytes.extend_from_slice(&(runs.len() as u16).to_le_bytes());
            for number in runs.iter().flat_map(|run| [run.begin, run.end, run.amount]) {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
        }
        for (id, Slots(workers)) in &self.slots {
            bytes.extend_from_slice(&id.to_le_bytes());
            bytes.extend_from_slice(&(workers.len() as u16).to_le_bytes());
            for (worker, count) in workers {
                bytes.extend_from_slice(&worker.to_le_bytes());
                bytes.extend_from_slice(&count.to_le_bytes());
            }
        }
        bytes
    }

    /// The levels. What is in flight ends with the process, and with it every reservation of which a part could be returned.
    fn persistent(&self) -> Option<Vec<u8>> {
        let levels = self.cells.iter().map(|(id, cell)| {
            let cell = Cell {
                returned: Returned::default(),
                ..*cell
            };
            (*id, cell)
        });
        let record = Self {
            time: self.time,
            cells: levels.collect(),
            slots: Vec::new(),
        };
        Some(record.encode())
    }
}

/// Whether a value that was [persistent](Value::persistent) says anything at `now`: nobody needs to keep one that has leaked.
pub fn still_counts(value: &[u8], now: u64) -> bool {
    let record = LimitRecord::decode(value).map(|record| LimitRecord::as_of(Some(record), now));
    record.is_some_and(|record| record.cells.iter().any(|(_, cell)| cell.level > 0))
}

fn find<T>(list: &[(u64, T)], id: u64) -> Option<&T> {
    list.iter()
        .find(|(other, _)| *other == id)
        .map(|(_, value)| value)
}

fn find_mut<T>(list: &mut [(u64, T)], id: u64) -> Option<&mut T> {
    list.iter_mut()
        .find(|(other, _)| *other == id)
        .map(|(_, value)| value)
}

fn change_in<T, R>(
    list: &mut Vec<(u64, T)>,
    id: u64,
    new: impl FnOnce() -> T,
    change: impl FnOnce(&mut T) -> R,
) -> R {
    if let Some(value) = find_mut(list, id) {
        return change(value);
    }
    let mut value = new();
    let result = change(&mut value);
    list.push((id, value));
    result
}

fn decode(bytes: &[u8]) -> Option<LimitRecord> {
    let mut rest = bytes;
    let time = u64::from_le_bytes(take(&mut rest)?);
    let cells = list(&mut rest, cell)?;
    let mut slots = Vec::new();
    while !rest.is_empty() {
        let id = u64::from_le_bytes(take(&mut rest)?);
        slots.push((id, Slots(list(&mut rest, worker)?)));
    }
    Some(LimitRecord { time, cells, slots })
}

fn cell(rest: &mut &[u8]) -> Option<(u64, Cell)> {
    let id = u64::from_le_bytes(take(rest)?);
    let amount = u64::from_le_bytes(take(rest)?);
    let period = u64::from_le_bytes(take(rest)?);
    let burst = u64::from_le_bytes(take(rest)?);
    let cell = Cell {
        quota: Quota::from_parts(amount, period, burst)?,
        level: Cell::level_within(u128::from_le_bytes(take(rest)?))?,
        charged: u64::from_le_bytes(take(rest)?),
        born: u64::from_le_bytes(take(rest)?),
        returned: Returned(list(rest, run)?),
    };
    Some((id, cell))
}

pub(super) fn run(rest: &mut &[u8]) -> Option<Run> {
    Some(Run {
        begin: u64::from_le_bytes(take(rest)?),
        end: u64::from_le_bytes(take(rest)?),
        amount: u64::from_le_bytes(take(rest)?),
    })
}

pub(super) fn worker(rest: &mut &[u8]) -> Option<(u32, u32)> {
    Some((u32::from_le_bytes(take(rest)?), u32::from_le_bytes(take(rest)?)))
}

/// How many there are, and then each one.
pub(super) fn list<T>(rest: &mut &[u8], one: impl Fn(&mut &[u8]) -> Option<T>) -> Option<Vec<T>> {
    let count = u16::from_le_bytes(take(rest)?);
    // A count that is junk asks for some times what follows at most.
    let mut list = Vec::with_capacity(usize::from(count).min(rest.len() / size_of::<u64>()));
    for _ in 0..count {
        list.push(one(rest)?);
    }
    Some(list)
}

pub(super) fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    fn quota() -> Quota {
        Quota::new("1/second".parse().unwrap(), 10).unwrap()
    }

    fn one(count: u64, now: u64) -> LimitRecord {
        let mut record = LimitRecord::as_of(None, now);
        record.change_cell(7, quota(), |cell| cell.charge(count));
        record
    }

    /// What is stored so, as of then.
    fn stored(bytes: &[u8], now: u64) -> LimitRecord {
        LimitRecord::as_of(LimitRecord::decode(bytes), now)
    }

    fn used(record: &LimitRecord) -> u64 {
        record.cell(7).unwrap().used()
    }

    #[test]
    fn levels_leak_while_nobody_looks() {
        let record = stored(&one(5, 3 * SECOND).encode(), 5 * SECOND);
        assert_eq!((used(&record), record.time), (3, 5 * SECOND));
    }

    #[test]
    fn a_clock_set_back_neither_frees_nor_locks() {
        let bytes = one(5, 9_000 * SECOND).encode();
        let mut record = stored(&bytes, 3 * SECOND);
        assert_eq!((used(&record), record.time), (5, 3 * SECOND));
        record.advance(5 * SECOND);
        assert_eq!(used(&record), 3);
    }

    #[test]
    fn a_clock_a_little_behind_is_not_set_back() {
        let record = stored(&one(5, 3 * SECOND).encode(), 3 * SECOND - 5);
        assert_eq!((used(&record), record.time), (5, 3 * SECOND));
    }

    #[test]
    fn unknown_rows_stay_while_they_hold_something() {
        let mut record = one(5, SECOND);
        record.change_slots(8, |slots| slots.take(1));
        record.change_slots(9, |slots| {
            slots.take(1);
            slots.take(2);
        });
        let workers = Workers::who_sees(2, &[], 3);
        record.tidy(|_| false, &workers);
        assert_eq!(used(&record), 5);
        assert_eq!(
            (
                record.slots(8).map_or(0, Slots::in_use),
                record.slots(9).map_or(0, Slots::in_use)
            ),
            (0, 1)
        );
        record.advance(6 * SECOND);
        record.tidy(|_| false, &workers);
        assert_eq!(record.cell(7), None);
        for id in 0..100 {
            record.change_cell(id, quota(), |cell| cell.charge(5));
        }
        record.tidy(|_| false, &workers);
        assert_eq!(record.cells.len(), MAX_UNKNOWN);
    }

    proptest! {
        #[test]
        fn survives_storage(time: u64, rows in proptest::collection::vec((any::<u64>(), 1..1_000_000_000_000_u64, 1..1_000_000_u64, 0..1_u128 << 95), 0..5), slots in proptest::collection::vec((any::<u64>(), any::<Vec<(u32, u32)>>()), 0..5)) {
            let quota = |amount: u64, burst| Quota::new(format!("{amount}/day").parse().unwrap(), burst).unwrap();
            let record = LimitRecord {
                time,
                cells: rows.iter().map(|(id, amount, burst, level)| (*id, Cell { quota: quota(*amount, *burst), level: *level, charged: *burst, born: time, returned: Returned(vec![Run { begin: 1, end: *burst, amount: 7 }]) })).collect(),
                slots: slots.into_iter().map(|(id, workers)| (id, Slots(workers))).collect(),
            };
            prop_assert_eq!(record.encode().len(), record.encoded_len());
            prop_assert_eq!(stored(&record.encode(), time), record);
        }

        /// What a restart begins with are the levels.
        #[test]
        fn levels_persist(used in 0..50_u64, back in 0..50_u64) {
            let mut record = LimitRecord::as_of(None, 7 * SECOND);
            let mark = record.change_cell(1, quota(), |cell| {
                cell.charge(20);
                cell.charge(used)
            });
            record.change_cell(1, quota(), |cell| cell.give_back(back.min(used), &mark));
            record.change_slots(2, |slots| slots.take(1));
            let bytes = record.persistent().unwrap();
            prop_assert!(bytes.len() <= 76, "13 rows fit into a cell of a journal");
            let found = stored(&bytes, 7 * SECOND);
            prop_assert_eq!(found.cell(1).map(|cell| cell.level), record.cell(1).map(|cell| cell.level));
            prop_assert!(found.slots(2).is_none() && found.cells.len() == 1);
            prop_assert!(still_counts(&bytes, 7 * SECOND) && !still_counts(&bytes, 7 * SECOND + 100 * SECOND));
        }

        /// Whatever stands in the store, and however it was cut short.
        #[test]
        fn junk_is_no_record(junk: Vec<u8>, count in 0..3_u16, now: u64) {
            let junk = [&7_u64.to_le_bytes()[..], &count.to_le_bytes(), &junk].concat();
            let _ = stored(&junk, now).encode();
            let whole = one(5, 1).encode();
            for cut in 0..whole.len() {
                prop_assert_eq!(stored(&whole[..cut], now), LimitRecord::as_of(None, now));
            }
        }
    }
}

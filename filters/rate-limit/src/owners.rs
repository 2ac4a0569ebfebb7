//! Which workers live, so that what a dead one had under way counts no more.
//!
//! Each VM has a number, and raises its count of beats in shared data with every tick. One whose count stood still for
//! [`PATIENCE`] of another's ticks is dead to it. No clock is read: one that is set forward would end everybody.

use core::cell::Cell;

use tollgate_core::state::{Keyspace, StoreError, update_bytes};
use tollgate_host::Host;

/// The shared record: the number of the next VM, then for each VM its number and its beats; 4 bytes each,
/// little-endian.
const KEY: &[u8] = Keyspace::WORKERS.prefix();
/// Ticks without a beat. A worker that stands still for so long answers nobody.
const PATIENCE: u32 = 30;

std::thread_local! {
    /// The number of this VM, which all of its configurations share; zero before it has one.
    static NUMBER: Cell<u32> = const { Cell::new(0) };
}

/// What one configuration of a VM knows of all.
pub(crate) struct Owners {
    number: u32,
    /// The first number that was not given yet at the last tick.
    next: u32,
    seen: Vec<Seen>,
}

struct Seen {
    number: u32,
    beats: u32,
    still: u32,
}

impl Owners {
    /// Takes a number for this VM, if it has none.
    pub(crate) fn join() -> Result<Self, StoreError> {
        let mut owners = Self {
            number: NUMBER.get(),
            next: 0,
            seen: Vec::new(),
        };
        update_bytes(&mut Host, KEY, |record| {
            let mut record = Record::read(record);
            if NUMBER.get() == 0 {
                owners.number = record.next;
                record.next = record.next.checked_add(1).unwrap_or(1);
                record.beats.push((owners.number, 0));
            }
            let written = record.write();
            // Whoever is there lives, until it stands still.
            owners.look(record);
            ((), Some(written))
        })?;
        NUMBER.set(owners.number);
        Ok(owners)
    }

    /// This VM's number.
    pub(crate) const fn number(&self) -> u32 {
        self.number
    }

    /// Whether a VM lives. One that is newer than the last tick does.
    pub(crate) fn lives(&self, number: u32) -> bool {
        number == self.number
            || number >= self.next
            || self
                .seen
                .iter()
                .any(|one| one.number == number && one.still < PATIENCE)
    }

    /// Says that this VM lives, and looks who else does.
    pub(crate) fn tick(&mut self) -> Result<(), StoreError> {
        let mut found = Record::read(None);
        update_bytes(&mut Host, KEY, |record| {
            let mut record = Record::read(record);
            record
                .beats
                .retain(|(number, beats)| *number == self.number || !self.is_dead(*number, *beats));
            match record.beats.iter_mut().find(|(number, _)| *number == self.number) {
                Some((_, beats)) => *beats = beats.wrapping_add(1),
                None => record.beats.push((self.number, 0)),
            }
            let written = record.write();
            found = record;
            ((), Some(written))
        })?;
        self.look(found);
        Ok(())
    }

    /// Notes who has a beat more than before, and who stood still.
    fn look(&mut self, found: Record) {
        let before = core::mem::take(&mut self.seen);
        self.next = found.next;
        self.seen = found
            .beats
            .into_iter()
            .map(|(number, beats)| {
                let before = before.iter().find(|one| one.number == number);
                let still = before
                    .filter(|one| one.beats == beats)
                    .map_or(0, |one| one.still.saturating_add(1));
                Seen { number, beats, still }
            })
            .collect();
    }

    fn is_dead(&self, number: u32, beats: u32) -> bool {
        self.seen
            .iter()
            .any(|one| one.number == number && one.beats == beats && one.still >= PATIENCE)
    }
}

struct Record {
    next: u32,
    beats: Vec<(u32, u32)>,
}

impl Record {
    fn read(record: Option<&[u8]>) -> Self {
        let mut numbers = record
            .unwrap_or_default()
            .chunks_exact(4)
            .map(|four| four.try_into().map_or(0, u32::from_le_bytes));
        let next = numbers.next().unwrap_or(1);
        let mut beats = Vec::new();
        while let (Some(number), Some(count)) = (numbers.next(), numbers.next()) {
            beats.push((number, count));
        }
        Self { next, beats }
    }

    fn write(&self) -> Vec<u8> {
        let beats = self.beats.iter().flat_map(|(number, count)| [*number, *count]);
        core::iter::once(self.next)
            .chain(beats)
            .flat_map(u32::to_le_bytes)
            .collect()
    }
}

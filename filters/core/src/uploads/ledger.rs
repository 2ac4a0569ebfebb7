//! The count that all workers share: one record, in which each worker has a section with its own uploads. A worker
//! writes all of its section anew from what it knows itself, so nothing leaks: what a lost write left behind goes with
//! the next one, and the section of a worker that is gone with its age.

use super::{Hold, Sums, Who};
use crate::state::{Keyspace, Value};

/// Nanoseconds after which a section that its worker did not write again counts no more. Workers write those that are
/// not empty with every tick.
const AGE: u64 = 60_000_000_000;

/// The uploads of one worker, by key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mine(Vec<(Who, Hold)>);

impl Mine {
    /// An upload takes `to` instead of `from`.
    pub fn change(&mut self, who: Who, from: Hold, to: Hold) {
        match self.0.iter_mut().find(|(other, _)| *other == who) {
            Some((_, held)) => *held = replaced(*held, from, to),
            None => self.0.push((who, to)),
        }
        self.0.retain(|(_, held)| *held != Hold::default());
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn replaced(held: Hold, from: Hold, to: Hold) -> Hold {
    Hold {
        requests: held
            .requests
            .saturating_sub(from.requests)
            .saturating_add(to.requests),
        bytes: held.bytes.saturating_sub(from.bytes).saturating_add(to.bytes),
    }
}

/// The shared record. Little-endian: the number of the next worker (4 bytes); then for each worker its number (4), when
/// it wrote (8, nanoseconds since 1970), how many rows follow (4), and these: organization, key (8 each), requests (4),
/// bytes (8).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    next: u32,
    sections: Vec<Section>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Section {
    worker: u32,
    written: u64,
    rows: Vec<(Who, Hold)>,
}

impl Ledger {
    /// Reads the record; one that can't be read is empty.
    pub fn read(record: &[u8]) -> Self {
        let mut rest = record;
        let next = u32_of(&mut rest).unwrap_or(0);
        let sections = core::iter::from_fn(|| Section::read(&mut rest)).collect();
        Self { next, sections }
    }

    /// The record's bytes.
    pub fn write(&self) -> Vec<u8> {
        let mut record = self.next.to_le_bytes().to_vec();
        for section in &self.sections {
            record.extend(section.worker.to_le_bytes());
            record.extend(section.written.to_le_bytes());
            record.extend((section.rows.len() as u32).to_le_bytes());
            for (who, held) in &section.rows {
                record.extend(who.org.to_le_bytes());
                record.extend(who.key.to_le_bytes());
                record.extend(held.requests.to_le_bytes());
                record.extend(held.bytes.to_le_bytes());
            }
        }
        record
    }

    /// A number for one more worker.
    pub fn join(&mut self) -> u32 {
        self.next = self.next.wrapping_add(1);
        self.next
    }

    /// Puts a worker's section in the place of its last one. What is too old goes.
    pub fn put(&mut self, worker: u32, mine: &Mine, now: u64) {
        self.sections
            .retain(|section| section.worker != worker && section.lives(now));
        if !mine.is_empty() {
            self.sections.push(Section {
                worker,
                written: now,
                rows: mine.0.clone(),
            });
        }
    }

    /// What is in upload, with `mine` in the place of what `worker` wrote last.
    pub fn sums(&self, worker: u32, mine: &Mine, who: Who, now: u64) -> Sums {
        let others = self.sections.iter();
        let others = others.filter(|section| section.worker != worker && section.lives(now));
        let mut sums = Sums::default();
        for (other, held) in others.flat_map(|section| &section.rows).chain(&mine.0) {
            let add = |sum: &mut Hold| *sum = replaced(*sum, Hold::default(), *held);
            add(&mut sums.total);
            if other.org == who.org {
                add(&mut sums.organization);
            }
            if *other == who {
                add(&mut sums.key);
            }
        }
        sums
    }
}

impl Value for Ledger {
    const KEYSPACE: Keyspace = Keyspace::UPLOADS;

    fn decode(record: &[u8]) -> Option<Self> {
        Some(Self::read(record))
    }

    fn encode(&self) -> Vec<u8> {
        self.write()
    }
}

impl Section {
    fn read(rest: &mut &[u8]) -> Option<Self> {
        let (worker, written, rows) = (u32_of(rest)?, u64_of(rest)?, u32_of(rest)?);
        let row = |rest: &mut &[u8]| {
            let who = Who {
                org: u64_of(rest)?,
                key: u64_of(rest)?,
            };
            let held = Hold {
                requests: u32_of(rest)?,
                bytes: u64_of(rest)?,
            };
            Some((who, held))
        };
        Some(Self {
            worker,
            written,
            rows: (0..rows).map_while(|_| row(rest)).collect(),
        })
    }

    /// In either direction: the clock may be set back.
    fn lives(&self, now: u64) -> bool {
        now.abs_diff(self.written) < AGE
    }
}

fn u32_of(rest: &mut &[u8]) -> Option<u32> {
    let (four, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(u32::from_le_bytes(*four))
}

fn u64_of(rest: &mut &[u8]) -> Option<u64> {
    let (eight, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(u64::from_le_bytes(*eight))
}

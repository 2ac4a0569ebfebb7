//! The bytes of a model's record: who has how much in flight, and who asked lately.
//!
//! Layout: entries of 33 bytes, ordered by organization and worker; numbers little-endian. A record is read and written
//! whole with each request: 2 kB for ten organizations on six workers, 132 kB at its bound.

use super::{Org, is_active};
use crate::workers::Workers;

/// The most entries that a record has. There is one for each organization and worker with something in flight, so this
/// is reached only by that many requests in flight at once; then organizations new to a worker are refused until one
/// of them ends.
const MAX: usize = 4096;

/// What one organization has in flight through one worker, and when it asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) org: Org,
    /// The worker.
    pub(super) worker: u32,
    pub(super) in_flight: u32,
    /// When it last asked; nanoseconds since 1970.
    pub(super) asked: u64,
    /// When a refusal was last noted; likewise, zero for never.
    pub(super) refused: u64,
    /// How far down the tier was that was refused.
    pub(super) rank: u8,
}

impl Entry {
    const SIZE: usize = 33;

    fn place(&self) -> (Org, u32) {
        (self.org, self.worker)
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.org.0.to_le_bytes());
        bytes.extend_from_slice(&self.worker.to_le_bytes());
        bytes.extend_from_slice(&self.in_flight.to_le_bytes());
        bytes.extend_from_slice(&self.asked.to_le_bytes());
        bytes.extend_from_slice(&self.refused.to_le_bytes());
        bytes.push(self.rank);
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (org, rest) = bytes.split_first_chunk()?;
        let (worker, rest) = rest.split_first_chunk()?;
        let (in_flight, rest) = rest.split_first_chunk()?;
        let (asked, rest) = rest.split_first_chunk()?;
        let (refused, rest) = rest.split_first_chunk()?;
        let [rank] = *rest else { return None };
        Some(Self {
            org: Org(u64::from_le_bytes(*org)),
            worker: u32::from_le_bytes(*worker),
            in_flight: u32::from_le_bytes(*in_flight),
            asked: u64::from_le_bytes(*asked),
            refused: u64::from_le_bytes(*refused),
            rank,
        })
    }
}

/// The entries that count, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct CapacityRecord(Vec<Entry>);

impl CapacityRecord {
    /// Reads a record; one that can't be read counts as none. Entries of dead workers and of organizations that are no
    /// longer active are left out.
    pub(super) fn read(bytes: Option<&[u8]>, workers: &Workers, now: u64) -> Self {
        let entries = bytes.and_then(Self::decode).unwrap_or_default();
        let counts = |entry: &Entry| is_active(entry, now) && workers.lives(entry.worker);
        Self(entries.into_iter().filter(counts).collect())
    }

    fn decode(bytes: &[u8]) -> Option<Vec<Entry>> {
        let entries: Vec<Entry> = bytes
            .chunks(Entry::SIZE)
            .map(Entry::read)
            .collect::<Option<_>>()?;
        let ordered = entries.is_sorted_by(|one, next| one.place() < next.place());
        ordered.then_some(entries)
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() * Entry::SIZE);
        self.0.iter().for_each(|entry| entry.write(&mut bytes));
        bytes
    }

    /// The entries of one organization after the other.
    pub(super) fn by_org(&self) -> impl Iterator<Item = &[Entry]> {
        self.0.chunk_by(|one, next| one.org == next.org)
    }

    pub(super) fn find(&mut self, org: Org, worker: u32) -> Option<&mut Entry> {
        let at = self.0.binary_search_by_key(&(org, worker), Entry::place).ok()?;
        self.0.get_mut(at)
    }

    /// The entry of an organization and a worker, made where there is none; `None` where the record is full.
    pub(super) fn entry(&mut self, org: Org, worker: u32) -> Option<&mut Entry> {
        if self.find(org, worker).is_none() {
            if self.0.len() >= MAX {
                self.0.retain(|entry| entry.in_flight > 0);
            }
            if self.0.len() >= MAX {
                return None;
            }
            let at = self.0.partition_point(|entry| entry.place() < (org, worker));
            let new = Entry {
                org,
                worker,
                in_flight: 0,
                asked: 0,
                refused: 0,
                rank: 0,
            };
            self.0.insert(at, new);
        }
        self.find(org, worker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn full() -> CapacityRecord {
        let mut record = CapacityRecord::default();
        for org in 0..MAX as u64 {
            record.entry(Org(org), 1).unwrap().in_flight = 1;
        }
        record
    }

    #[test]
    fn is_bounded() {
        let mut record = full();
        assert_eq!(record.to_bytes().len(), MAX * Entry::SIZE);
        assert_eq!(record.entry(Org(u64::MAX), 1), None);
        assert!(record.entry(Org(7), 1).is_some());
        record.find(Org(7), 1).unwrap().in_flight = 0;
        assert!(record.entry(Org(u64::MAX), 1).is_some(), "who is idle makes room");
        assert_eq!(record.find(Org(7), 1), None);
    }

    #[test]
    fn the_idle_and_the_dead_are_left_out() {
        let mut record = CapacityRecord::default();
        record.entry(Org(1), 1).unwrap().in_flight = 1;
        record.entry(Org(1), 2).unwrap().in_flight = 1;
        record.entry(Org(2), 1).unwrap().asked = 10_000_000_000;
        let left = |now| {
            CapacityRecord::read(Some(&record.to_bytes()), &Workers::who_sees(1, &[], 3), now)
                .0
                .len()
        };
        assert_eq!((left(10_000_000_000), left(20_000_000_000)), (2, 1));
    }

    proptest! {
        #[test]
        fn survives_storage(entries in proptest::collection::btree_map((0_u64..4, 0_u32..4), (1_u32.., any::<u64>(), any::<u64>(), any::<u8>()), 0..12)) {
            let entries = entries.into_iter().map(|((org, worker), (in_flight, asked, refused, rank))| Entry {
                org: Org(org), worker, in_flight, asked, refused, rank,
            });
            let record = CapacityRecord(entries.collect());
            prop_assert_eq!(CapacityRecord::read(Some(&record.to_bytes()), &Workers::who_sees_all(0), 0), record);
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, now: u64) {
            let mut record = CapacityRecord::read(Some(&bytes), &Workers::who_sees_all(0), now);
            if bytes.len() % Entry::SIZE != 0 {
                prop_assert_eq!(&record, &CapacityRecord::default());
            }
            prop_assert!(record.entry(Org(now), 1).is_some());
        }
    }
}

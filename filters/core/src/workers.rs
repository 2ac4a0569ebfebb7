//! Which workers live, so that what a dead one had in flight counts no more.
//!
//! Each has an id, and a count of heartbeats in the store that it raises with every tick. One whose count stood still for
//! thirty of another's ticks is dead to it. No clock is read: one that is set forward would end everybody.

#[cfg(test)]
mod tests;

use crate::state::{Keyspace, Store, StoreError, Value, update};

/// Ticks without a heartbeat. A worker that stands still for so long answers nobody.
const PATIENCE: u32 = 30;

/// A worker's id; none has zero.
pub type WorkerId = u32;

/// What one worker knows of all.
#[derive(Debug)]
pub struct Workers {
    id: WorkerId,
    /// The first id that was not given yet at the last tick.
    next: WorkerId,
    seen: Vec<Seen>,
}

#[derive(Debug)]
struct Seen {
    id: WorkerId,
    heartbeats: u32,
    /// Ticks for which they have been the same.
    still: u32,
}

impl Workers {
    /// Takes an id for a worker that has none yet.
    pub fn join(store: &mut impl Store, id: Option<WorkerId>) -> Result<Self, StoreError> {
        let (id, found) = update(store, "", |stored: Option<Heartbeats>| {
            let mut all = stored.unwrap_or_default();
            let id = id.unwrap_or_else(|| all.add());
            ((id, all.clone()), Some(all))
        })?;
        let mut workers = Self {
            id,
            next: 0,
            seen: Vec::new(),
        };
        // Whoever is there lives, until it stands still.
        workers.look(found);
        Ok(workers)
    }

    /// This worker's id.
    pub const fn id(&self) -> WorkerId {
        self.id
    }

    /// Whether a worker lives. One that is newer than the last tick does.
    pub fn lives(&self, id: WorkerId) -> bool {
        id == self.id || id >= self.next || self.seen.iter().any(|one| one.id == id && one.still < PATIENCE)
    }

    /// Says that this worker lives, and looks who else does.
    pub fn tick(&mut self, store: &mut impl Store) -> Result<(), StoreError> {
        let found = update(store, "", |stored: Option<Heartbeats>| {
            let mut all = stored.unwrap_or_default();
            all.counts
                .retain(|(id, heartbeats)| *id == self.id || !self.is_dead(*id, *heartbeats));
            all.beat(self.id);
            (all.clone(), Some(all))
        })?;
        self.look(found);
        Ok(())
    }

    /// Notes who has a heartbeat more than before, and who stood still.
    fn look(&mut self, found: Heartbeats) {
        let before = core::mem::take(&mut self.seen);
        self.next = found.next;
        self.seen = found
            .counts
            .into_iter()
            .map(|(id, heartbeats)| {
                let before = before.iter().find(|one| one.id == id);
                let still = before
                    .filter(|one| one.heartbeats == heartbeats)
                    .map_or(0, |one| one.still.saturating_add(1));
                Seen {
                    id,
                    heartbeats,
                    still,
                }
            })
            .collect();
    }

    fn is_dead(&self, id: WorkerId, heartbeats: u32) -> bool {
        self.seen
            .iter()
            .any(|one| one.id == id && one.heartbeats == heartbeats && one.still >= PATIENCE)
    }

    /// One to whom these alone live, beside itself and those it never heard of, from `next` on.
    #[cfg(test)]
    pub(crate) fn who_sees(id: WorkerId, living: &[WorkerId], next: WorkerId) -> Self {
        let seen = |id: &WorkerId| Seen {
            id: *id,
            heartbeats: 0,
            still: 0,
        };
        Self {
            id,
            next,
            seen: living.iter().map(seen).collect(),
        }
    }

    /// One to whom everybody lives.
    #[cfg(test)]
    pub(crate) const fn who_sees_all(id: WorkerId) -> Self {
        Self {
            id,
            next: 0,
            seen: Vec::new(),
        }
    }
}

/// What is stored: the id of the next worker, then each worker's id and its heartbeats; 4 bytes each, little-endian.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Heartbeats {
    next: WorkerId,
    counts: Vec<(WorkerId, u32)>,
}

impl Heartbeats {
    fn add(&mut self) -> WorkerId {
        let id = self.next;
        self.next = id.checked_add(1).unwrap_or(1);
        self.counts.push((id, 0));
        id
    }

    fn beat(&mut self, id: WorkerId) {
        match self.counts.iter_mut().find(|(other, _)| *other == id) {
            Some((_, heartbeats)) => *heartbeats = heartbeats.wrapping_add(1),
            None => self.counts.push((id, 0)),
        }
    }
}

impl Default for Heartbeats {
    fn default() -> Self {
        Self {
            next: 1,
            counts: Vec::new(),
        }
    }
}

impl Value for Heartbeats {
    const KEYSPACE: Keyspace = Keyspace::WORKERS;

    /// As much as can be read; each worker adds itself where it is missing.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (numbers, _) = bytes.as_chunks::<4>();
        let mut numbers = numbers.iter().map(|four| u32::from_le_bytes(*four));
        let next = numbers.next()?.max(1);
        let mut counts = Vec::new();
        while let (Some(id), Some(heartbeats)) = (numbers.next(), numbers.next()) {
            counts.push((id, heartbeats));
        }
        Some(Self { next, counts })
    }

    fn encode(&self) -> Vec<u8> {
        let counts = self.counts.iter().flat_map(|(id, heartbeats)| [*id, *heartbeats]);
        core::iter::once(self.next)
            .chain(counts)
            .flat_map(u32::to_le_bytes)
            .collect()
    }
}

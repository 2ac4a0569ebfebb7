//! Requests in flight, by the worker that serves them.
//!
//! A worker counts its own. When one dies its requests die with it, and its count no longer counts: nothing leaks.

use crate::workers::Workers;

/// How many requests each worker has in flight.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Slots(pub(super) Vec<(u32, u32)>);

impl Slots {
    /// Forgets workers that are dead.
    pub(super) fn keep(&mut self, workers: &Workers) {
        self.0.retain(|(worker, _)| workers.lives(*worker));
    }

    /// How many are in flight.
    pub(super) fn in_use(&self) -> u64 {
        self.0.iter().map(|(_, count)| u64::from(*count)).sum()
    }

    /// How many are in flight, of workers that live.
    pub(super) fn in_use_by(&self, workers: &Workers) -> u64 {
        let living = self.0.iter().filter(|(worker, _)| workers.lives(*worker));
        living.map(|(_, count)| u64::from(*count)).sum()
    }

    /// One more of `worker`.
    pub(super) fn take(&mut self, worker: u32) {
        match self.0.iter_mut().find(|(other, _)| *other == worker) {
            Some((_, count)) => *count = count.saturating_add(1),
            None => self.0.push((worker, 1)),
        }
    }

    /// One less of `worker`.
    pub(super) fn free(&mut self, worker: u32) {
        self.0.retain_mut(|(other, count)| {
            if *other == worker {
                *count = count.saturating_sub(1);
            }
            *count > 0
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_worker_counts_its_own() {
        let mut slots = Slots::default();
        for worker in [1, 2, 1] {
            slots.take(worker);
        }
        slots.free(1);
        assert_eq!((slots.in_use(), &slots), (2, &Slots(vec![(1, 1), (2, 1)])));
        slots.free(3);
        slots.keep(&Workers::who_sees(1, &[], 3));
        assert_eq!(slots, Slots(vec![(1, 1)]));
        slots.free(1);
        slots.free(1);
        assert_eq!(slots, Slots::default());
    }
}

//! Requests in flight, by the worker that serves them.
//!
//! A worker counts its own. When one dies its requests die with it, and its count no longer counts: nothing leaks.

/// How many requests each owner has in flight.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Slots(pub(super) Vec<(u32, u32)>);

impl Slots {
    /// Forgets owners that are dead.
    pub(super) fn keep(&mut self, alive: &dyn Fn(u32) -> bool) {
        self.0.retain(|(owner, _)| alive(*owner));
    }

    /// How many are in flight.
    pub(super) fn in_use(&self) -> u64 {
        self.0.iter().map(|(_, count)| u64::from(*count)).sum()
    }

    /// How many are in flight, of owners that live.
    pub(super) fn in_use_by(&self, alive: &dyn Fn(u32) -> bool) -> u64 {
        let living = self.0.iter().filter(|(owner, _)| alive(*owner));
        living.map(|(_, count)| u64::from(*count)).sum()
    }

    /// One more of `owner`.
    pub(super) fn take(&mut self, owner: u32) {
        match self.0.iter_mut().find(|(other, _)| *other == owner) {
            Some((_, count)) => *count = count.saturating_add(1),
            None => self.0.push((owner, 1)),
        }
    }

    /// One less of `owner`.
    pub(super) fn free(&mut self, owner: u32) {
        self.0.retain_mut(|(other, count)| {
            if *other == owner {
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
    fn each_owner_counts_its_own() {
        let mut slots = Slots::default();
        for owner in [1, 2, 1] {
            slots.take(owner);
        }
        slots.free(1);
        assert_eq!((slots.in_use(), &slots), (2, &Slots(vec![(1, 1), (2, 1)])));
        slots.free(3);
        slots.keep(&|owner| owner != 2);
        assert_eq!(slots, Slots(vec![(1, 1)]));
        slots.free(1);
        slots.free(1);
        assert_eq!(slots, Slots::default());
    }
}

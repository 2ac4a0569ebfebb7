//! What was looked up lately, in a fixed number of slots.

use std::rc::Rc;

use super::record::ProfileId;
use crate::key::KeyTag;

/// Places that one key may be in.
const WAYS: usize = 4;

/// A set-associative cache: a key has a few places, and the newest in them wins over the oldest. No stranger can fill
/// or aim at it: only what the directory holds gets in, at places that a hash chooses.
pub(super) struct Cache<K, V> {
    /// Sets of [`WAYS`] entries each.
    slots: Vec<Option<(K, Rc<V>)>>,
    /// Which place of a full set is given up next.
    turn: usize,
}

/// Where a key's places are.
pub(super) trait Slot: Copy + PartialEq {
    fn slot(&self) -> u16;
}

impl Slot for KeyTag {
    fn slot(&self) -> u16 {
        self.low_bits()
    }
}

impl Slot for ProfileId {
    fn slot(&self) -> u16 {
        self.0 as u16
    }
}

impl<K: Slot, V> Cache<K, V> {
    /// A cache of as many slots: about 0.5 kB for each that is filled with a key, 50 bytes for each that is not.
    pub(super) fn new(slots: usize) -> Self {
        let slots = slots.next_multiple_of(WAYS).max(WAYS);
        Self {
            slots: (0..slots).map(|_| None).collect(),
            turn: 0,
        }
    }

    /// What is known of a key, or else what `find` finds.
    pub(super) fn get<E>(
        &mut self,
        key: K,
        find: impl FnOnce() -> Result<Option<V>, E>,
    ) -> Result<Option<Rc<V>>, E> {
        let first = usize::from(key.slot()) % (self.slots.len() / WAYS) * WAYS;
        let set = self.slots.get_mut(first..first + WAYS).unwrap_or_default();
        if let Some((_, value)) = set.iter().flatten().find(|(found, _)| *found == key) {
            return Ok(Some(Rc::clone(value)));
        }
        let Some(value) = find()?.map(Rc::new) else {
            return Ok(None);
        };
        self.turn = self.turn.wrapping_add(1);
        let free = set.iter().position(Option::is_none).unwrap_or(self.turn % WAYS);
        if let Some(slot) = set.get_mut(free) {
            *slot = Some((key, Rc::clone(&value)));
        }
        Ok(Some(value))
    }

    pub(super) fn clear(&mut self) {
        self.slots.fill_with(|| None);
    }
}

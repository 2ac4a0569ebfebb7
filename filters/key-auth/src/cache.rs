//! What was looked up lately, in a fixed number of slots.

use std::rc::Rc;

use tollgate_core::directory::ProfileId;
use tollgate_core::key::KeyHash;

/// Slots of a cache. About 0.3 kB a filled one.
const SLOTS: usize = 1024;

/// A direct-mapped cache: a key has one slot, and the latest in it wins. No stranger can fill or aim at it: only
/// what the directory holds gets in, at a place that a hash chooses.
pub(crate) struct Cache<K, V>(Vec<Option<(K, Rc<V>)>>);

/// Where a key's slot is.
pub(crate) trait Slot: Copy + PartialEq {
    fn slot(&self) -> u16;
}

impl Slot for KeyHash {
    fn slot(&self) -> u16 {
        // The first bytes choose the bucket; the last ones are as random.
        let [.., last, end] = *self.as_bytes();
        u16::from_le_bytes([last, end])
    }
}

impl Slot for ProfileId {
    fn slot(&self) -> u16 {
        self.0 as u16
    }
}

impl<K: Slot, V> Cache<K, V> {
    pub(crate) fn new() -> Self {
        Self((0..SLOTS).map(|_| None).collect())
    }

    /// What is in the key's slot, or else what `find` finds.
    pub(crate) fn get<E>(
        &mut self,
        key: K,
        find: impl FnOnce() -> Result<Option<V>, E>,
    ) -> Result<Option<Rc<V>>, E> {
        let slot = self.0.get_mut(usize::from(key.slot()) % SLOTS);
        if let Some(Some((found, value))) = &slot
            && *found == key
        {
            return Ok(Some(Rc::clone(value)));
        }
        let Some(value) = find()?.map(Rc::new) else {
            return Ok(None);
        };
        if let Some(slot) = slot {
            *slot = Some((key, Rc::clone(&value)));
        }
        Ok(Some(value))
    }

    pub(crate) fn clear(&mut self) {
        self.0.fill_with(|| None);
    }
}

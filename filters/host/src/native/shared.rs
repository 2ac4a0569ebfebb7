//! What all workers share, in this process's memory: values as they are, and bytes where core asks for bytes.

use core::any::Any;
use core::hash::BuildHasher as _;
use std::hash::RandomState;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use hashbrown::HashTable;
use tollgate_core::key::KeyTag;
use tollgate_core::state::{StoreError, Value};

use super::persist::{Place, persist, persist_bytes};

/// So many locks that two workers seldom want one at a time.
const SHARDS: usize = 64;

/// Values by their keys. There is no expiry, so a key that a stranger can choose must map into a fixed number of slots.
struct Shards {
    /// Of the hashes that choose a shard and a place in it. It is secret, so nobody finds keys that collide.
    seed: u64,
    shards: [Mutex<HashTable<Stored>>; SHARDS],
}

/// A value, and how often it was written.
struct Stored {
    hash: u64,
    key: Box<[u8]>,
    value: Box<dyn Any + Send>,
    version: u32,
    /// Where it is kept for after this process.
    place: Option<Place>,
}

static SHARED: LazyLock<Shards> = LazyLock::new(|| Shards {
    seed: RandomState::new().hash_one(()),
    shards: core::array::from_fn(|_| Mutex::default()),
});

/// A shard, locked to look for a key.
struct Shard<'k> {
    table: MutexGuard<'static, HashTable<Stored>>,
    key: &'k [u8],
    hash: u64,
}

impl<'k> Shard<'k> {
    fn of(key: &'k [u8]) -> Result<Self, StoreError> {
        let shared = &*SHARED;
        let hash = KeyTag::of(key, shared.seed).number();
        // A table goes by the lowest bits and the highest.
        let at = (hash >> 32) as usize % SHARDS;
        let shard = shared.shards.get(at).ok_or(StoreError::Failed)?;
        Ok(Self {
            table: shard.lock().unwrap_or_else(PoisonError::into_inner),
            key,
            hash,
        })
    }

    fn get(&self) -> Option<&Stored> {
        self.table.find(self.hash, |stored| *stored.key == *self.key)
    }

    fn get_mut(&mut self) -> Option<&mut Stored> {
        let key = self.key;
        self.table.find_mut(self.hash, |stored| *stored.key == *key)
    }

    /// The version of what is there.
    fn version(&self) -> Option<u32> {
        self.get().map(|stored| stored.version)
    }

    /// Sets a value, and has it kept. A key is only copied where it is new.
    fn set<T: Any + Send>(&mut self, value: T, keep: impl FnOnce(&T, &mut Option<Place>)) {
        if let Some(stored) = self.get_mut() {
            keep(&value, &mut stored.place);
            stored.version = stored.version.wrapping_add(1);
            match stored.value.downcast_mut::<T>() {
                Some(place) => *place = value,
                None => stored.value = Box::new(value),
            }
            return;
        }
        let mut place = None;
        keep(&value, &mut place);
        let stored = Stored {
            hash: self.hash,
            key: self.key.into(),
            value: Box::new(value),
            version: 1,
            place,
        };
        self.table.insert_unique(self.hash, stored, |stored| stored.hash);
    }

    fn set_value<V: Value>(&mut self, value: V) {
        let key = self.key;
        self.set(value, |value, place| persist(key, value, place));
    }
}

/// A value and its version; neither where none was ever written.
pub(crate) fn load<V: Value>(key: &[u8]) -> Result<(Option<V>, Option<u32>), StoreError> {
    let shard = Shard::of(key)?;
    let found = shard.get();
    let value = found.and_then(|stored| match stored.value.downcast_ref::<V>() {
        Some(value) => Some(value.clone()),
        None => restored(stored),
    });
    Ok((value, found.map(|stored| stored.version)))
}

/// A value that a process before this one kept, as it was restored.
fn restored<V: Value>(stored: &Stored) -> Option<V> {
    V::decode(stored.value.downcast_ref::<Vec<u8>>()?)
}

/// Writes a value if it still has this version, or, for `None`, if there still is none.
pub(crate) fn exchange<V: Value>(key: &[u8], value: V, version: Option<u32>) -> Result<bool, StoreError> {
    let mut shard = Shard::of(key)?;
    let is_it = shard.version() == version;
    if is_it {
        shard.set_value(value);
    }
    Ok(is_it)
}

/// Writes a value, whatever is there.
pub(crate) fn write<V: Value>(key: &[u8], value: V) -> Result<(), StoreError> {
    Shard::of(key)?.set_value(value);
    Ok(())
}

/// Changes a value where it stands, or `new` where there is none. Where `change` gives `None` nothing that is new is kept.
/// Should it panic, the value stays as far as it was changed by then.
pub(crate) fn modify<V: Value, T>(
    key: &[u8],
    new: impl Fn() -> V,
    mut change: impl FnMut(&mut V) -> Option<T>,
) -> Result<Option<T>, StoreError> {
    let mut shard = Shard::of(key)?;
    let found = shard.get_mut();
    let mut value = match found {
        Some(stored) => match stored.value.downcast_mut::<V>() {
            Some(value) => {
                let answer = change(value);
                if answer.is_some() {
                    persist(key, value, &mut stored.place);
                    stored.version = stored.version.wrapping_add(1);
                }
                return Ok(answer);
            }
            None => restored(stored).unwrap_or_else(new),
        },
        None => new(),
    };
    let answer = change(&mut value);
    if answer.is_some() {
        shard.set_value(value);
    }
    Ok(answer)
}

/// Sets a value that a process before this one kept. What is there already is newer.
pub(crate) fn restore(key: &[u8], value: Vec<u8>) {
    if let Ok(mut shard) = Shard::of(key)
        && shard.get().is_none()
    {
        shard.set(value, |value, place| {
            persist_bytes(key, || Some(value.clone()), place);
        });
    }
}

/// [`load`] of bytes.
pub(crate) fn get(key: &[u8]) -> Result<Option<(Vec<u8>, u32)>, StoreError> {
    let shard = Shard::of(key)?;
    let found = shard.get();
    Ok(found.and_then(|stored| Some((stored.value.downcast_ref::<Vec<u8>>()?.clone(), stored.version))))
}

/// [`exchange`] of bytes.
pub(crate) fn swap(key: &[u8], value: &[u8], version: Option<u32>) -> Result<bool, StoreError> {
    let mut shard = Shard::of(key)?;
    let is_it = shard.version() == version;
    if is_it {
        shard.set(value.to_vec(), |_, _| ());
    }
    Ok(is_it)
}

/// Writes bytes, whatever is there.
pub(crate) fn put(key: &[u8], value: &[u8]) -> Result<(), StoreError> {
    Shard::of(key)?.set(value.to_vec(), |_, _| ());
    Ok(())
}

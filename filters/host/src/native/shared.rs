//! What all workers share, in this process's memory: values as they are, and bytes where core asks for bytes.

use core::any::Any;
use core::hash::BuildHasher as _;
use std::collections::HashMap;
use std::hash::RandomState;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use tollgate_core::state::{StoreError, Value};

use super::persist::{Place, persist, persist_bytes};

/// So many locks that two workers seldom want one at a time.
const SHARDS: usize = 64;

/// Values by their keys. There is no expiry, so a key that a stranger can choose must map into a fixed number of slots.
struct Shards {
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
}

type Shard = HashMap<Box<[u8]>, Stored, RandomState>;

/// A value, and how often it was written.
struct Stored {
    value: Box<dyn Any + Send>,
    version: u32,
    /// Where it is kept for after this process.
    place: Option<Place>,
}

static SHARED: LazyLock<Shards> = LazyLock::new(|| Shards {
    hasher: RandomState::new(),
    shards: core::array::from_fn(|_| Mutex::default()),
});

fn shard(key: &[u8]) -> Result<MutexGuard<'static, Shard>, StoreError> {
    let shared = &*SHARED;
    let at = shared.hasher.hash_one(key) as usize % SHARDS;
    let shard = shared.shards.get(at).ok_or(StoreError::Failed)?;
    Ok(shard.lock().unwrap_or_else(PoisonError::into_inner))
}

/// A value and its version; neither where none was ever written.
pub(crate) fn load<V: Value>(key: &[u8]) -> Result<(Option<V>, Option<u32>), StoreError> {
    let shard = shard(key)?;
    let found = shard.get(key);
    let value = found.and_then(|stored| match stored.value.downcast_ref::<V>() {
        Some(value) => Some(value.clone()),
        // As it was restored.
        None => V::decode(stored.value.downcast_ref::<Vec<u8>>()?),
    });
    Ok((value, found.map(|stored| stored.version)))
}

/// Writes a value if it still has this version, or, for `None`, if there still is none.
pub(crate) fn exchange<V: Value>(key: &[u8], value: V, version: Option<u32>) -> Result<bool, StoreError> {
    let mut shard = shard(key)?;
    let is_it = shard.get(key).map(|stored| stored.version) == version;
    if is_it {
        set_value(&mut shard, key, value);
    }
    Ok(is_it)
}

/// Writes a value, whatever is there.
pub(crate) fn write<V: Value>(key: &[u8], value: V) -> Result<(), StoreError> {
    set_value(&mut *shard(key)?, key, value);
    Ok(())
}

fn set_value<V: Value>(shard: &mut Shard, key: &[u8], value: V) {
    set(shard, key, value, |value, place| persist(key, value, place));
}

/// A value that a process before this one kept. What is there already is newer.
pub(crate) fn restore(key: &[u8], value: Vec<u8>) {
    if let Ok(mut shard) = shard(key)
        && !shard.contains_key(key)
    {
        set(&mut shard, key, value, |value, place| {
            persist_bytes(key, || Some(value.clone()), place);
        });
    }
}

/// Sets a value, and has it kept. A key is only copied where it is new.
fn set<T: Any + Send>(shard: &mut Shard, key: &[u8], value: T, keep: impl FnOnce(&T, &mut Option<Place>)) {
    if let Some(stored) = shard.get_mut(key) {
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
        value: Box::new(value),
        version: 1,
        place,
    };
    shard.insert(key.into(), stored);
}

/// [`load`] of bytes.
pub(crate) fn get(key: &[u8]) -> Result<Option<(Vec<u8>, u32)>, StoreError> {
    let shard = shard(key)?;
    let found = shard.get(key);
    Ok(found.and_then(|stored| Some((stored.value.downcast_ref::<Vec<u8>>()?.clone(), stored.version))))
}

/// [`exchange`] of bytes.
pub(crate) fn swap(key: &[u8], value: &[u8], version: Option<u32>) -> Result<bool, StoreError> {
    let mut shard = shard(key)?;
    let is_it = shard.get(key).map(|stored| stored.version) == version;
    if is_it {
        set(&mut shard, key, value.to_vec(), |_, _| ());
    }
    Ok(is_it)
}

/// Writes bytes, whatever is there.
pub(crate) fn put(key: &[u8], value: &[u8]) -> Result<(), StoreError> {
    set(&mut *shard(key)?, key, value.to_vec(), |_, _| ());
    Ok(())
}

//! What all workers share, in this process's memory: values as they are, and bytes where core asks for bytes.

use core::any::Any;
use core::hash::BuildHasher as _;
use std::collections::HashMap;
use std::hash::RandomState;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use tollgate_core::state::StoreError;

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
pub(crate) fn load<V: Clone + 'static>(key: &[u8]) -> Result<(Option<V>, Option<u32>), StoreError> {
    let shard = shard(key)?;
    let found = shard.get(key);
    let value = found.and_then(|stored| stored.value.downcast_ref::<V>());
    Ok((value.cloned(), found.map(|stored| stored.version)))
}

/// Writes a value if it still has this version, or, for `None`, if there still is none.
pub(crate) fn exchange<V: Send + 'static>(
    key: &[u8],
    value: V,
    version: Option<u32>,
) -> Result<bool, StoreError> {
    let mut shard = shard(key)?;
    if shard.get(key).map(|stored| stored.version) != version {
        return Ok(false);
    }
    set(&mut shard, key, value);
    Ok(true)
}

/// Writes a value, whatever is there.
pub(crate) fn write<V: Send + 'static>(key: &[u8], value: V) -> Result<(), StoreError> {
    let mut shard = shard(key)?;
    set(&mut shard, key, value);
    Ok(())
}

fn set<V: Send + 'static>(shard: &mut Shard, key: &[u8], value: V) {
    let Some(stored) = shard.get_mut(key) else {
        let value = Box::new(value);
        shard.insert(key.into(), Stored { value, version: 1 });
        return;
    };
    stored.version = stored.version.wrapping_add(1);
    match stored.value.downcast_mut::<V>() {
        Some(place) => *place = value,
        None => stored.value = Box::new(value),
    }
}

/// [`load`] of bytes.
pub(crate) fn get(key: &[u8]) -> Result<Option<(Vec<u8>, u32)>, StoreError> {
    let (value, version) = load::<Vec<u8>>(key)?;
    Ok(value.zip(version))
}

/// [`exchange`] of bytes.
pub(crate) fn swap(key: &[u8], value: &[u8], version: Option<u32>) -> Result<bool, StoreError> {
    exchange(key, value.to_vec(), version)
}

/// Writes bytes, whatever is there.
pub(crate) fn put(key: &[u8], value: &[u8]) -> Result<(), StoreError> {
    write(key, value.to_vec())
}

//! What all workers share, in this process's memory.

use core::hash::BuildHasher as _;
use std::collections::HashMap;
use std::hash::RandomState;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use tollgate_core::state::StoreError;

/// So many locks that two workers seldom want one at a time.
const SHARDS: usize = 64;

/// Values and their versions. There is no expiry, so a key that a stranger can choose must map into a fixed number of slots.
struct Shards {
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
}

type Shard = HashMap<Box<[u8]>, (Box<[u8]>, u32)>;

static SHARED: LazyLock<Shards> = LazyLock::new(|| Shards {
    hasher: RandomState::new(),
    shards: core::array::from_fn(|_| Mutex::default()),
});

fn shard(key: &[u8]) -> Option<MutexGuard<'static, Shard>> {
    let shared = &*SHARED;
    let at = shared.hasher.hash_one(key) as usize % SHARDS;
    let shard = shared.shards.get(at)?;
    Some(shard.lock().unwrap_or_else(PoisonError::into_inner))
}

/// A value and its version; `None` where none was ever written.
pub(crate) fn get(key: &[u8]) -> Result<Option<(Vec<u8>, u32)>, StoreError> {
    let shard = shard(key).ok_or(StoreError::Failed)?;
    Ok(shard.get(key).map(|(value, version)| (value.to_vec(), *version)))
}

/// Writes a value if it still has this version, or, for `None`, if there still is none.
pub(crate) fn swap(key: &[u8], value: &[u8], version: Option<u32>) -> Result<bool, StoreError> {
    let mut shard = shard(key).ok_or(StoreError::Failed)?;
    if shard.get(key).map(|(_, version)| *version) != version {
        return Ok(false);
    }
    write(&mut shard, key, value);
    Ok(true)
}

/// Writes a value, whatever is there.
pub(crate) fn put(key: &[u8], value: &[u8]) -> Result<(), StoreError> {
    let mut shard = shard(key).ok_or(StoreError::Failed)?;
    write(&mut shard, key, value);
    Ok(())
}

fn write(shard: &mut Shard, key: &[u8], value: &[u8]) {
    match shard.get_mut(key) {
        Some((stored, version)) => {
            *version = version.wrapping_add(1);
            if stored.len() == value.len() {
                stored.copy_from_slice(value);
            } else {
                *stored = value.into();
            }
        }
        None => {
            shard.insert(key.into(), (value.into(), 1));
        }
    }
}

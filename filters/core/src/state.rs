//! What all workers of an Envoy share: small values by key, each with a version. They outlive a configuration, and end
//! with the process.
//!
//! [`Keyspace`] lists every kind of value, [`Value`] is how one is written, and [`update`] is the one way to change one
//! that others may be changing.

#[cfg(test)]
pub(crate) mod fake;
mod keyspace;
mod store;

pub use keyspace::{KEYSPACES, Keyspace};
pub use store::{Clock, Memory, Seen, Store, StoreError, Value};

/// How often a lost write is tried again. Each one that is lost means that another worker got on.
pub const ATTEMPTS: usize = 64;

/// Reads a value; `None` where there is none, or none that can be read.
pub fn read<V: Value>(store: &mut impl Store, name: impl AsRef<[u8]>) -> Result<Option<V>, StoreError> {
    store.load(&V::KEYSPACE.key(name)).map(|(value, _)| value)
}

/// Writes a value, whatever is there.
pub fn write<V: Value>(store: &mut impl Store, name: impl AsRef<[u8]>, value: V) -> Result<(), StoreError> {
    store.write(&V::KEYSPACE.key(name), value)
}

/// Changes a value; `change` is asked again whenever another worker was quicker, and its last answer is returned. With
/// `None` as the new value, what is stored stays.
pub fn update<V: Value, T>(
    store: &mut impl Store,
    name: impl AsRef<[u8]>,
    mut change: impl FnMut(Option<V>) -> (T, Option<V>),
) -> Result<T, StoreError> {
    let key = V::KEYSPACE.key(name);
    for _ in 0..ATTEMPTS {
        let (stored, version) = store.load(&key)?;
        let (answer, value) = change(stored);
        let Some(value) = value else {
            return Ok(answer);
        };
        if store.exchange(&key, value, version)? {
            return Ok(answer);
        }
    }
    Err(StoreError::Contended)
}

/// [`update`] for a value that reads and writes itself.
pub fn update_bytes<T>(
    store: &mut impl Store,
    key: &[u8],
    mut change: impl FnMut(Option<&[u8]>) -> (T, Option<Vec<u8>>),
) -> Result<T, StoreError> {
    for _ in 0..ATTEMPTS {
        let (stored, version) = store.get(key)?.unzip();
        let (answer, value) = change(stored.as_deref());
        let Some(value) = value else {
            return Ok(answer);
        };
        if store.swap(key, &value, version)? {
            return Ok(answer);
        }
    }
    Err(StoreError::Contended)
}

#[cfg(test)]
mod tests;

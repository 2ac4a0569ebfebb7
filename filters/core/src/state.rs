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
pub use store::{Clock, Memory, Store, StoreError};

/// How often a lost write is tried again. Each one that is lost means that another worker got on.
pub const ATTEMPTS: usize = 64;

/// A value that workers share.
pub trait Value: Sized {
    /// Where values of this kind are.
    const KEYSPACE: Keyspace;

    /// Reads what [`Self::encode`] wrote; `None` for anything else.
    fn decode(bytes: &[u8]) -> Option<Self>;

    /// As it is stored.
    fn encode(&self) -> Vec<u8>;
}

/// Reads a value; `None` where there is none, or none that can be read.
pub fn read<V: Value>(store: &mut impl Store, name: impl AsRef<[u8]>) -> Result<Option<V>, StoreError> {
    let stored = store.get(&V::KEYSPACE.key(name))?;
    Ok(stored.and_then(|(bytes, _)| V::decode(&bytes)))
}

/// Writes a value, whatever is there.
pub fn write<V: Value>(store: &mut impl Store, name: impl AsRef<[u8]>, value: &V) -> Result<(), StoreError> {
    store.put(&V::KEYSPACE.key(name), &value.encode())
}

/// Changes a value; `change` is asked again whenever another worker was quicker, and its last answer is returned. With
/// `None` as the new value, what is stored stays.
pub fn update<V: Value, T>(
    store: &mut impl Store,
    name: impl AsRef<[u8]>,
    change: impl FnMut(Option<V>) -> (T, Option<V>),
) -> Result<T, StoreError> {
    update_bytes(store, &V::KEYSPACE.key(name), {
        let mut change = change;
        move |stored| {
            let (answer, value) = change(stored.and_then(V::decode));
            (answer, value.map(|value| value.encode()))
        }
    })
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

//! What core asks of whoever keeps shared values: to read one, and to replace it unless somebody else was quicker.

use std::collections::BTreeMap;

use super::ATTEMPTS;
use super::keyspace::Keyspace;

/// A value that workers share.
pub trait Value: Clone + Send + 'static {
    /// Where values of this kind are.
    const KEYSPACE: Keyspace;

    /// Reads what [`Self::encode`] wrote; `None` for anything else.
    fn decode(bytes: &[u8]) -> Option<Self>;

    /// As it is stored where bytes are.
    fn encode(&self) -> Vec<u8>;

    /// What of it a restart may begin with, encoded: a host that can keeps it. `None` for a value that ends with the process.
    fn persistent(&self) -> Option<Vec<u8>> {
        None
    }
}

/// A store of small values that workers share. One that holds values themselves has its own [`load`](Self::load),
/// [`exchange`](Self::exchange), [`write`](Self::write) and [`modify`](Self::modify); of one key it is asked either as
/// bytes or as values.
pub trait Store {
    /// The value of `key` and its version; `None` where there is none.
    fn get(&mut self, key: &[u8]) -> Result<Option<(Vec<u8>, u32)>, StoreError>;

    /// Stores `value` if the value of `key` still has this version, or, for `None`, if there still is none. `false`
    /// where somebody else was quicker, and nothing was stored.
    fn swap(&mut self, key: &[u8], value: &[u8], version: Option<u32>) -> Result<bool, StoreError>;

    /// Stores `value`, whatever is there.
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError>;

    /// [`get`](Self::get) of a value; no value with a version is one that can't be read.
    fn load<V: Value>(&mut self, key: &[u8]) -> Result<(Option<V>, Option<u32>), StoreError> {
        let (bytes, version) = self.get(key)?.unzip();
        Ok((bytes.and_then(|bytes| V::decode(&bytes)), version))
    }

    /// [`swap`](Self::swap) of a value.
    fn exchange<V: Value>(&mut self, key: &[u8], value: V, version: Option<u32>) -> Result<bool, StoreError> {
        self.swap(key, &value.encode(), version)
    }

    /// [`put`](Self::put) of a value.
    fn write<V: Value>(&mut self, key: &[u8], value: V) -> Result<(), StoreError> {
        self.put(key, &value.encode())
    }

    /// Changes a value, or `new` where there is none: one that is held is changed where it stands. `change` is asked again
    /// whenever another worker was quicker; where it gives `None` it has changed nothing that anybody has to know of, and
    /// nothing is written.
    ///
    /// `seen` is what a change that came to nothing was shown. The next one begins with it, if it is still that.
    fn modify<V: Value, T>(
        &mut self,
        key: &[u8],
        seen: &mut Seen<V>,
        new: impl Fn() -> V,
        mut change: impl FnMut(&mut V) -> Option<T>,
    ) -> Result<Option<T>, StoreError> {
        for _ in 0..ATTEMPTS {
            let (mut value, version) = match seen.take() {
                Some(seen) => seen,
                None => {
                    let (stored, version) = self.load(key)?;
                    (stored.unwrap_or_else(&new), version)
                }
            };
            let Some(answer) = change(&mut value) else {
                *seen = Some((value, version));
                return Ok(None);
            };
            if self.exchange(key, value, version)? {
                return Ok(Some(answer));
            }
        }
        Err(StoreError::Contended)
    }
}

/// A value as it was read, with its version, by a store that has to read it for each look.
pub type Seen<V> = Option<(V, Option<u32>)>;

/// Why a store did not serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreError {
    /// It did not answer, or refused.
    Failed,
    /// Others were quicker, again and again.
    Contended,
}

/// The time of day.
pub trait Clock {
    /// Nanoseconds since 1970; `None` where it can't be told.
    fn now(&self) -> Option<u64>;

    /// Seconds since 1970; `None` where they can't be told.
    fn seconds(&self) -> Option<u64> {
        self.now().map(|nanos| nanos / 1_000_000_000)
    }
}

/// A store in this process alone, for tools and tests.
#[derive(Debug, Default)]
pub struct Memory(BTreeMap<Vec<u8>, (Vec<u8>, u32)>);

#[cfg(test)]
impl Memory {
    /// Every value that is not empty.
    pub(crate) fn filled(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let filled = self.0.iter().filter(|(_, (value, _))| !value.is_empty());
        filled
            .map(|(key, (value, _))| (key.clone(), value.clone()))
            .collect()
    }
}

impl Store for Memory {
    fn get(&mut self, key: &[u8]) -> Result<Option<(Vec<u8>, u32)>, StoreError> {
        Ok(self.0.get(key).cloned())
    }

    fn swap(&mut self, key: &[u8], value: &[u8], version: Option<u32>) -> Result<bool, StoreError> {
        if self.0.get(key).map(|(_, version)| *version) != version {
            return Ok(false);
        }
        self.put(key, value)?;
        Ok(true)
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let version = self.0.get(key).map_or(1, |(_, version)| version.wrapping_add(1));
        self.0.insert(key.to_vec(), (value.to_vec(), version));
        Ok(())
    }
}

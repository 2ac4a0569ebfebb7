//! Of which limits this Envoy should ask for more: what workers leave for its member.

use tollgate_shares::Key;

use crate::state::{Keyspace, Store, StoreError, Value, update};

/// Keys of shares that were too small. One value of at most [`MAX`](Self::MAX).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Short(Vec<Key>);

impl Short {
    /// So many wait for the member at most. Others are left there when they are short again.
    pub(crate) const MAX: usize = 512;

    /// Leaves a key; whether there was room.
    pub(crate) fn add(store: &mut impl Store, key: Key) -> Result<bool, StoreError> {
        update(store, "", |stored: Option<Self>| {
            let mut all = stored.unwrap_or_default();
            if all.0.contains(&key) {
                return (true, None);
            }
            if all.0.len() >= Self::MAX {
                return (false, None);
            }
            all.0.push(key);
            (true, Some(all))
        })
    }

    /// Takes all of them out.
    pub(crate) fn take(store: &mut impl Store) -> Result<Vec<Key>, StoreError> {
        update(store, "", |stored: Option<Self>| match stored {
            Some(all) if !all.0.is_empty() => (all.0, Some(Self::default())),
            _ => (Vec::new(), None),
        })
    }
}

impl Value for Short {
    const KEYSPACE: Keyspace = Keyspace::SHORT;

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (keys, rest) = bytes.as_chunks();
        rest.is_empty()
            .then(|| Self(keys.iter().copied().map(Key).collect()))
    }

    fn encode(&self) -> Vec<u8> {
        self.0.iter().flat_map(|Key(key)| *key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Memory;

    #[test]
    fn each_is_there_once_until_it_is_taken_and_no_more_than_fit() {
        let mut store = Memory::default();
        let key = |at: usize| Key((at as u128).to_be_bytes());
        for at in [1, 2, 1] {
            assert_eq!(Short::add(&mut store, key(at)), Ok(true));
        }
        assert_eq!(Short::take(&mut store), Ok(vec![key(1), key(2)]));
        assert_eq!(Short::take(&mut store), Ok(vec![]));
        for at in 0..Short::MAX {
            assert_eq!(Short::add(&mut store, key(at)), Ok(true));
        }
        assert_eq!(Short::add(&mut store, key(Short::MAX)), Ok(false));
        assert_eq!(Short::take(&mut store).map(|all| all.len()), Ok(Short::MAX));
    }
}

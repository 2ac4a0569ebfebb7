//! What workers and the exchanger leave for one another.

use serde::{Deserialize, Serialize};

use crate::state::{Keyspace, Store, StoreError, Value, update};

/// Budgets that the exchanger should ask about soon, as a request had too little. One value of at most [`MAX`](Self::MAX).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AskSoon(Vec<String>);

impl AskSoon {
    /// So many wait at most. Others are left there with the next request that has too little.
    pub(super) const MAX: usize = 512;

    /// Leaves one; whether there was room.
    pub(super) fn add(store: &mut impl Store, budget: &str) -> Result<bool, StoreError> {
        update(store, "", |stored: Option<Self>| {
            let mut all = stored.unwrap_or_default();
            if all.0.iter().any(|known| known == budget) {
                return (true, None);
            }
            if all.0.len() >= Self::MAX {
                return (false, None);
            }
            all.0.push(budget.to_owned());
            (true, Some(all))
        })
    }

    /// Those that wait.
    pub(super) fn read(store: &mut impl Store) -> Result<Vec<String>, StoreError> {
        Ok(crate::state::read::<Self>(store, "")?.unwrap_or_default().0)
    }

    /// Takes these out.
    pub(super) fn remove(store: &mut impl Store, taken: &[String]) -> Result<(), StoreError> {
        update(store, "", |stored: Option<Self>| {
            let mut all = stored.unwrap_or_default();
            all.0.retain(|budget| !taken.contains(budget));
            ((), Some(all))
        })
    }
}

impl Value for AskSoon {
    const KEYSPACE: Keyspace = Keyspace::ASK_SOON;

    fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }

    fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(self).unwrap_or_default()
    }
}

/// Every budget of which something is spent here, for an exchanger that begins where another one ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SpentHere(pub(super) Vec<String>);

impl Value for SpentHere {
    const KEYSPACE: Keyspace = Keyspace::SPENT_HERE;

    fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }

    fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(self).unwrap_or_default()
    }
}

/// The name by which this Envoy holds slices. It is kept with them: an exchanger that begins anew is the same holder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Holder(String);

impl Holder {
    /// The name that there is, or else this one from now on.
    pub(super) fn named(store: &mut impl Store, new: &str) -> Result<String, StoreError> {
        update(store, "", |stored: Option<Self>| match stored {
            Some(Self(name)) => (name, None),
            None => (new.to_owned(), Some(Self(new.to_owned()))),
        })
    }
}

impl Value for Holder {
    const KEYSPACE: Keyspace = Keyspace::HOLDER;

    fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }

    fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(self).unwrap_or_default()
    }
}

//! Puts a directory into the store that workers share, for them to find.
//!
//! Tenants' profiles first, then the buckets of keys, then tenants that are gone, what is out of use and budgets; last the note
//! that says so.
//! What is the same already is left alone. Each value stands for itself, so workers read on while this writes. It
//! may end anywhere: whoever publishes next brings everything to one state, and has workers look anew in any case.

use serde::{Deserialize, Serialize};

use super::bucket;
use super::census::Census;
use super::record::ProfileId;
use super::table::Compiled;
use crate::config::ConfigError;
use crate::state::{self, Keyspace, Store, StoreError, Value};

/// The name of a value of which there is one.
pub(super) const ONE: &str = "";

/// The note about the directory in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Grows with each change.
    pub generation: u64,
    /// When the document's server last said that this is it; nanoseconds since 1970.
    pub confirmed_at: u64,
    /// How many keys it has.
    pub keys: u64,
}

impl Value for Published {
    const KEYSPACE: Keyspace = Keyspace::DIRECTORY;

    fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }

    fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(self).unwrap_or_default()
    }
}

impl Published {
    /// The note in force; `None` before the first directory, or where it can't be read.
    pub fn read(store: &mut impl Store) -> Option<Self> {
        state::read(store, ONE).ok()?
    }

    /// Puts this one into force.
    pub fn write(self, store: &mut impl Store) -> Result<(), StoreError> {
        state::write(store, ONE, self)
    }

    /// Whether one with so many keys would lock out everyone: that is more likely a broken export than a farewell to every
    /// customer.
    pub fn emptied_by(self, keys: u64) -> Option<ConfigError> {
        (keys == 0 && self.keys > 0).then(|| {
            let problem = format!(
                "is empty, and the directory in force has {}: nobody could call any more; set `allow_empty: true` of the \
                 fetcher if that is meant",
                self.keys
            );
            ConfigError::new("keys", problem)
        })
    }
}

/// The tenants that may have a profile.
#[derive(Clone)]
pub(super) struct Tenants(Vec<ProfileId>);

impl Value for Tenants {
    const KEYSPACE: Keyspace = Keyspace::TENANTS;

    fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok().map(Self)
    }

    fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(&self.0).unwrap_or_default()
    }
}

impl Tenants {
    pub(super) fn read(store: &mut impl Store) -> Result<Self, StoreError> {
        Ok(state::read(store, ONE)?.unwrap_or(Self(Vec::new())))
    }

    /// Adds some.
    pub(super) fn extend(&mut self, tenants: impl Iterator<Item = ProfileId>) {
        self.0.extend(tenants);
    }

    /// Strikes off the others.
    pub(super) fn retain(&mut self, is_kept: impl Fn(&ProfileId) -> bool) {
        self.0.retain(is_kept);
    }

    pub(super) fn write(mut self, store: &mut impl Store) -> Result<(), StoreError> {
        self.0.sort_unstable();
        self.0.dedup();
        state::write(store, ONE, self)
    }
}

/// A directory on its way to the workers.
pub struct Publication {
    directory: Compiled,
    next: Step,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Profiles,
    Keys(u8),
    Withdrawals,
    Rest,
    Done,
}

impl Publication {
    /// The publication of a directory, of which nothing is done yet.
    pub fn new(directory: Compiled) -> Self {
        Self {
            directory,
            next: Step::Profiles,
        }
    }

    /// Does a part of the work, about a millisecond of it; `true` when all is done.
    pub fn step(&mut self, store: &mut impl Store) -> Result<bool, StoreError> {
        self.next = match self.next {
            Step::Profiles => {
                self.profiles(store)?;
                Step::Keys(0)
            }
            Step::Keys(part) => {
                self.keys(part, store)?;
                part.checked_add(1).map_or(Step::Withdrawals, Step::Keys)
            }
            Step::Withdrawals => {
                self.withdrawals(store)?;
                Step::Rest
            }
            Step::Rest => {
                state::write(store, ONE, self.directory.traffic().clone())?;
                state::write(store, ONE, self.directory.budgets().clone())?;
                Step::Done
            }
            Step::Done => Step::Done,
        };
        Ok(self.next == Step::Done)
    }

    /// Tells the workers, as of `confirmed_at`; what is in force now.
    pub fn announce(self, confirmed_at: u64, store: &mut impl Store) -> Result<(u64, Census), StoreError> {
        let census = self.directory.census;
        let generation = announce(census.keys(), confirmed_at, store)?;
        Ok((generation, census))
    }

    fn profiles(&self, store: &mut impl Store) -> Result<(), StoreError> {
        // Listed before they are written, and struck off after they are emptied: none is ever there unlisted.
        let mut listed = Tenants::read(store)?;
        listed.extend(self.ids());
        listed.write(store)?;
        for (id, profile) in self.directory.profiles() {
            write_changed(&bucket::profile_store_key(*id), profile, store)?;
        }
        Ok(())
    }

    fn keys(&self, part: u8, store: &mut impl Store) -> Result<(), StoreError> {
        let filled = bucket::of_part(&self.directory, part);
        let mut filled = filled.iter().peekable();
        for low in 0..=u8::MAX {
            let number = u16::from_be_bytes([part, low]);
            let keys = filled
                .next_if(|(bucket, _)| *bucket == number)
                .map(|(_, keys)| keys.as_slice());
            write_changed(&bucket::store_key(number), keys.unwrap_or_default(), store)?;
        }
        Ok(())
    }

    /// Empties the profiles of tenants that were there before and are no more.
    fn withdrawals(&self, store: &mut impl Store) -> Result<(), StoreError> {
        for id in Tenants::read(store)?.0 {
            if self.directory.profile(id).is_none() {
                write_changed(&bucket::profile_store_key(id), &[], store)?;
            }
        }
        Tenants(self.ids().collect()).write(store)
    }

    fn ids(&self) -> impl Iterator<Item = ProfileId> {
        self.directory.profiles().iter().map(|(id, _)| *id)
    }
}

/// Tells the workers that a directory with so many keys is in force, as of `confirmed_at`; its generation. It grows also where
/// nothing was changed: an earlier attempt may have changed it all and got no further.
pub(super) fn announce(keys: u64, confirmed_at: u64, store: &mut impl Store) -> Result<u64, StoreError> {
    let generation = Published::read(store).map_or(0, |published| published.generation) + 1;
    let published = Published {
        generation,
        confirmed_at,
        keys,
    };
    published.write(store)?;
    Ok(generation)
}

/// Writes a value unless it is there already; an absent one is as good as an empty one.
pub(super) fn write_changed(key: &[u8], value: &[u8], store: &mut impl Store) -> Result<(), StoreError> {
    let same = store
        .get(key)?
        .map_or(value.is_empty(), |(current, _)| current == value);
    if same { Ok(()) } else { store.put(key, value) }
}

//! Puts a directory into shared data, for the workers to find.
//!
//! Tenants' profiles first, then the buckets of keys, then tenants that are gone; last the note that says so.
//! What is the same already is left alone. Each value stands for itself, so workers read on while this writes. It
//! may end anywhere: whoever publishes next brings everything to one state, and has workers look anew in any case.

use serde::{Deserialize, Serialize};
use tollgate_core::directory::{Compiled, ProfileId, bucket};
use tollgate_host::{Result, set_shared, shared};

const PUBLISHED: &[u8] = b"directory";
const TENANTS: &[u8] = b"tenants";
/// How many keys the directory in force has.
const KEYS: &[u8] = b"directory-keys";

/// The note about the directory in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Published {
    /// Grows with each change.
    pub(crate) generation: u64,
    /// When the document's server last said that this is it; nanoseconds since 1970.
    pub(crate) confirmed_at: u64,
}

impl Published {
    /// `None` before the first directory.
    pub(crate) fn read() -> Option<Self> {
        let (note, _) = shared(PUBLISHED).ok()??;
        postcard::from_bytes(&note).ok()
    }

    pub(crate) fn write(self) -> Result<()> {
        set_shared(PUBLISHED, &postcard::to_allocvec(&self).unwrap_or_default())
    }
}

/// A directory on its way into shared data.
pub(crate) struct Publication {
    directory: Compiled,
    next: Step,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Profiles,
    Keys(u8),
    Withdrawals,
    Done,
}

impl Publication {
    pub(crate) fn new(directory: Compiled) -> Self {
        Self {
            directory,
            next: Step::Profiles,
        }
    }

    pub(crate) fn directory(&self) -> &Compiled {
        &self.directory
    }

    /// Does a part of the work, about a millisecond of it; `true` when all is done.
    pub(crate) fn step(&mut self) -> Result<bool> {
        self.next = match self.next {
            Step::Profiles => {
                self.profiles()?;
                Step::Keys(0)
            }
            Step::Keys(part) => {
                self.keys(part)?;
                part.checked_add(1).map_or(Step::Withdrawals, Step::Keys)
            }
            Step::Withdrawals => {
                self.withdrawals()?;
                Step::Done
            }
            Step::Done => Step::Done,
        };
        Ok(self.next == Step::Done)
    }

    /// Tells the workers, as of `confirmed_at`. The generation grows also where nothing was changed: an earlier
    /// attempt may have changed it all and got no further.
    pub(crate) fn announce(&self, confirmed_at: u64) -> Result<()> {
        set_shared(KEYS, &(self.directory.keys() as u64).to_le_bytes())?;
        let generation = Published::read().map_or(0, |published| published.generation) + 1;
        Published {
            generation,
            confirmed_at,
        }
        .write()
    }

    fn profiles(&self) -> Result<()> {
        // Listed before they are written, and struck off after they are emptied: none is ever there unlisted.
        let mut listed: Vec<ProfileId> = listed()?;
        listed.extend(self.ids());
        list(listed)?;
        for (id, profile) in self.directory.profiles() {
            write_changed(&bucket::profile_store_key(*id), profile)?;
        }
        Ok(())
    }

    fn keys(&self, part: u8) -> Result<()> {
        let filled = bucket::of_part(&self.directory, part);
        let mut filled = filled.iter().peekable();
        for low in 0..=u8::MAX {
            let number = u16::from_be_bytes([part, low]);
            let keys = filled
                .next_if(|(bucket, _)| *bucket == number)
                .map(|(_, keys)| keys.as_slice());
            write_changed(&bucket::store_key(number), keys.unwrap_or_default())?;
        }
        Ok(())
    }

    /// Empties the profiles of tenants that were there before and are no more.
    fn withdrawals(&self) -> Result<()> {
        for id in listed()? {
            if self.directory.profile(id).is_none() {
                write_changed(&bucket::profile_store_key(id), &[])?;
            }
        }
        list(self.ids().collect())
    }

    fn ids(&self) -> impl Iterator<Item = ProfileId> {
        self.directory.profiles().iter().map(|(id, _)| *id)
    }
}

/// How many keys the directory in force has; none before the first.
pub(crate) fn keys_in_force() -> u64 {
    let number = shared(KEYS).ok().flatten();
    number
        .and_then(|(bytes, _)| bytes.first_chunk().map(|eight| u64::from_le_bytes(*eight)))
        .unwrap_or(0)
}

/// The tenants that may have a profile.
fn listed() -> Result<Vec<ProfileId>> {
    let list = shared(TENANTS)?.map(|(list, _)| list);
    Ok(list
        .and_then(|list| postcard::from_bytes(&list).ok())
        .unwrap_or_default())
}

fn list(mut tenants: Vec<ProfileId>) -> Result<()> {
    tenants.sort_unstable();
    tenants.dedup();
    set_shared(TENANTS, &postcard::to_allocvec(&tenants).unwrap_or_default())
}

/// Writes a value unless it is there already; an absent one is as good as an empty one.
fn write_changed(key: &[u8], value: &[u8]) -> Result<()> {
    let same = shared(key)?.map_or(value.is_empty(), |(current, _)| current == value);
    if same { Ok(()) } else { set_shared(key, value) }
}

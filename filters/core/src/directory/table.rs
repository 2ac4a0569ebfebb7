//! A whole directory in memory, found by binary search. Sorted flat arrays: 40 bytes a key besides its record,
//! and no allocation of its own for any of them.

use super::census::Census;
use super::record::ProfileId;
use crate::budget::Budgets;
use crate::config::ConfigError;
use crate::key::KeyHash;
use crate::traffic::Traffic;

/// Hashes are spread over this many parts by their first byte, so that sorting can be done in small steps.
pub(super) const PARTS: usize = 256;

/// Where a key's record begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) hash: KeyHash,
    pub(super) at: u32,
    pub(super) len: u16,
}

impl Entry {
    /// The record at the end of `records`, from `at` on.
    pub(super) fn behind(at: usize, records: &[u8], hash: KeyHash) -> Result<Self, ConfigError> {
        let (Ok(len), Ok(at)) = (u16::try_from(records.len().saturating_sub(at)), u32::try_from(at)) else {
            return Err(ConfigError::new(
                "",
                "more models and networks than one key can have (64 kB)",
            ));
        };
        Ok(Self { hash, at, len })
    }

    /// Its record.
    pub(super) fn record<'a>(&self, records: &'a [u8]) -> Option<&'a [u8]> {
        let at = self.at as usize;
        records.get(at..at + usize::from(self.len))
    }
}

/// A directory that passed every check.
#[derive(Debug, Default)]
pub struct Compiled {
    /// By the first byte of the hash; each part is sorted by hash.
    pub(super) parts: Vec<Vec<Entry>>,
    pub(super) records: Vec<u8>,
    /// Sorted by id.
    pub(super) profiles: Vec<(ProfileId, Vec<u8>)>,
    pub(super) census: Census,
    pub(super) traffic: Traffic,
    pub(super) budgets: Budgets,
}

impl Compiled {
    /// How many keys it holds.
    pub fn keys(&self) -> usize {
        self.census.keys() as usize
    }

    /// How many organizations.
    pub fn orgs(&self) -> usize {
        self.census.orgs()
    }

    /// The profiles of all tenants, sorted by id.
    pub fn profiles(&self) -> &[(ProfileId, Vec<u8>)] {
        &self.profiles
    }

    /// The profile of one tenant.
    pub fn profile(&self, id: ProfileId) -> Option<&[u8]> {
        let at = self.profiles.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        self.profiles.get(at).map(|(_, profile)| profile.as_slice())
    }

    /// What is out of use.
    pub const fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// The budgets.
    pub const fn budgets(&self) -> &Budgets {
        &self.budgets
    }

    /// The record of a key.
    pub fn record(&self, hash: &KeyHash) -> Option<&[u8]> {
        let [first, ..] = hash.as_bytes();
        let part = self.parts.get(usize::from(*first))?;
        let at = part.binary_search_by(|entry| entry.hash.cmp(hash)).ok()?;
        self.record_of(part.get(at)?)
    }

    pub(super) fn record_of(&self, entry: &Entry) -> Option<&[u8]> {
        entry.record(&self.records)
    }
}

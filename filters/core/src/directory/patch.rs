//! Makes changes to the directory that workers share, in the order in which a whole one is published: profiles, keys,
//! withdrawals, what is out of use, budgets, the note.
//!
//! All that can be wrong is looked at before anything is written. Each value stands for itself, as in
//! [`super::publication`]; where it ends half-way, only a whole document brings everything to one state again.

use std::collections::{BTreeMap, BTreeSet};

use super::bucket;
use super::census::{Census, Recount};
use super::delta::{Delta, Owner};
use super::loader::Progress;
use super::publication::{ONE, Published, Tenants, announce, write_changed};
use super::record::{Profile, ProfileId, profile_of};
use crate::config::ConfigError;
use crate::key::KeyHash;
use crate::state::{self, Store, StoreError};

/// Values that are read or written in one step: about a millisecond of work.
const A_STEP: usize = 64;
/// More errors than this are not collected.
const MAX_ERRORS: usize = 20;

/// Changes on their way to the workers.
pub struct Patch {
    delta: Delta,
    /// Of the directory that is changed.
    census: Census,
    allow_empty: bool,
    recount: Recount,
    profiles: Vec<(ProfileId, Vec<u8>)>,
    owners: Vec<(Owner, usize)>,
    buckets: Vec<u16>,
    newcomers: Vec<ProfileId>,
    withdrawn: Vec<ProfileId>,
    errors: Vec<ConfigError>,
    next: Step,
}

/// What is next, and from which value on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    CheckProfiles(usize),
    CheckOwners(usize),
    Count(usize),
    List,
    Profiles(usize),
    Keys(usize),
    Withdrawals(usize),
    Rest,
    Done,
}

impl Patch {
    /// Changes to the directory of this census, of which nothing is done yet.
    pub fn new(mut delta: Delta, census: Census, allow_empty: bool) -> Self {
        let mut recount = Recount::default();
        let mut given = Census::default();
        delta.tenants.count(&mut given);
        let gone = delta.gone.iter().map(|org| (ProfileId::of(org, None), None));
        recount.orgs.extend(gone);
        let given = given.into_orgs().into_iter();
        recount
            .orgs
            .extend(given.map(|(org, projects)| (org, Some(projects))));
        let hashes = delta.keys.keys().chain(&delta.removed);
        let buckets: BTreeSet<u16> = hashes.map(bucket::of).collect();
        let mut profiles = delta.tenants.profiles();
        profiles.sort_unstable_by_key(|(id, _)| *id);
        let same = |pair: &[(ProfileId, Vec<u8>)]| matches!(pair, [(a, _), (b, _)] if a == b);
        let shared = profiles.windows(2).any(same).then(|| {
            let problem = "two projects share an internal id; rename one of them";
            ConfigError::new("orgs", problem)
        });
        Self {
            profiles,
            owners: core::mem::take(&mut delta.owners).into_iter().collect(),
            buckets: buckets.into_iter().collect(),
            newcomers: census.newcomers(&recount),
            withdrawn: census.withdrawn(&recount).into_iter().collect(),
            delta,
            census,
            allow_empty,
            recount,
            errors: shared.into_iter().collect(),
            next: Step::CheckProfiles(0),
        }
    }

    /// Does a part of the work, about a millisecond of it. `Err` where the store failed: what is shared may be part of one
    /// version and part of another then.
    pub fn step(mut self, store: &mut impl Store) -> Result<Progress<Self, Self>, StoreError> {
        self.next = match self.next {
            Step::CheckProfiles(at) => self.check_profiles(at, store)?,
            Step::CheckOwners(at) => self.check_owners(at, store)?,
            Step::Count(at) => self.count(at, store)?,
            Step::List => self.list(store)?,
            Step::Profiles(at) => self.write_profiles(at, store)?,
            Step::Keys(at) => self.write_keys(at, store)?,
            Step::Withdrawals(at) => self.withdraw(at, store)?,
            Step::Rest => self.write_rest(store)?,
            Step::Done => Step::Done,
        };
        let checked = !matches!(
            self.next,
            Step::CheckProfiles(_) | Step::CheckOwners(_) | Step::Count(_)
        );
        if self.errors.len() >= MAX_ERRORS || (checked && !self.errors.is_empty()) {
            return Ok(Progress::Refused(self.errors));
        }
        Ok(match self.next {
            Step::Done => Progress::Done(self),
            _ => Progress::More(self),
        })
    }

    /// Tells the workers, as of `confirmed_at`; what is in force now.
    pub fn announce(self, confirmed_at: u64, store: &mut impl Store) -> Result<(u64, Census), StoreError> {
        let generation = announce(self.census.keys(), confirmed_at, store)?;
        Ok((generation, self.census))
    }

    /// A profile is known by a part of a hash, so a name that was made for it could take another tenant's place. And with
    /// the name of one that is gone may come back no key that it left.
    fn check_profiles(&mut self, at: usize, store: &mut impl Store) -> Result<Step, StoreError> {
        let Some(profiles) = chunk(&self.profiles, at) else {
            return Ok(Step::CheckOwners(0));
        };
        for (id, profile) in profiles {
            let Ok(given) = postcard::from_bytes::<Profile<'_>>(profile) else {
                continue;
            };
            let path = path_of(given.org, given.project);
            let stored = store.get(&bucket::profile_store_key(*id))?;
            let stored = stored.as_ref().and_then(|(stored, _)| read_profile(stored));
            if stored.is_some_and(|stored| names(&stored) != names(&given)) {
                self.errors.push(ConfigError::new(
                    path,
                    "shares an internal id with another one; rename it",
                ));
            } else if self.census.orphans(*id) > 0 {
                let problem = "is back, and keys of the one that was gone were never taken out";
                self.errors.push(ConfigError::new(path, problem));
            }
        }
        Ok(Step::CheckProfiles(at + A_STEP))
    }

    /// Keys are of organizations and projects that are given with them, or in force.
    fn check_owners(&mut self, at: usize, store: &mut impl Store) -> Result<Step, StoreError> {
        let Some(owners) = chunk(&self.owners, at) else {
            return Ok(Step::Count(0));
        };
        for ((org, project), row) in owners {
            let project = project.as_deref();
            let found = if self.delta.tenants.has(org) {
                self.delta.tenants.find(org, project).map(|_| ())
            } else if !self.delta.gone.contains(org) && in_force(org, project, store)? {
                Ok(())
            } else {
                let (place, name, kind) = match project {
                    Some(project) => ("project", project, "a project of its organization"),
                    None => ("org", org.as_str(), "an organization"),
                };
                let expected = format!("{kind}, among the changes or in force");
                Err(ConfigError::expected(place, name, &expected))
            };
            let path = format!("keys[{row}]");
            self.errors.extend(found.err().map(|error| error.under(&path)));
        }
        Ok(Step::CheckOwners(at + A_STEP))
    }

    /// How many keys each tenant has afterwards.
    fn count(&mut self, at: usize, store: &mut impl Store) -> Result<Step, StoreError> {
        let Some(buckets) = chunk(&self.buckets, at) else {
            self.census.apply(&self.recount);
            let emptied = Published::read(store).and_then(|before| before.emptied_by(self.census.keys()));
            self.errors.extend(emptied.filter(|_| !self.allow_empty));
            return Ok(Step::List);
        };
        for number in buckets {
            let bucket = read_bucket(*number, store)?;
            let before = rows(&bucket)?;
            for (hash, record) in changes(&self.delta, *number) {
                for (record, by) in [(before.get(&hash).copied(), -1), (record, 1)] {
                    let Some(record) = record else { continue };
                    let tenant = profile_of(record).ok_or(StoreError::Failed)?;
                    *self.recount.keys.entry(tenant).or_default() += by;
                }
            }
        }
        Ok(Step::Count(at + A_STEP))
    }

    /// Listed before they are written, as in a publication.
    fn list(&self, store: &mut impl Store) -> Result<Step, StoreError> {
        if !self.newcomers.is_empty() {
            let mut listed = Tenants::read(store)?;
            listed.extend(self.newcomers.iter().copied());
            listed.write(store)?;
        }
        Ok(Step::Profiles(0))
    }

    fn write_profiles(&self, at: usize, store: &mut impl Store) -> Result<Step, StoreError> {
        let Some(profiles) = chunk(&self.profiles, at) else {
            return Ok(Step::Keys(0));
        };
        for (id, profile) in profiles {
            write_changed(&bucket::profile_store_key(*id), profile, store)?;
        }
        Ok(Step::Profiles(at + A_STEP))
    }

    fn write_keys(&self, at: usize, store: &mut impl Store) -> Result<Step, StoreError> {
        let Some(buckets) = chunk(&self.buckets, at) else {
            return Ok(Step::Withdrawals(0));
        };
        for number in buckets {
            let bucket = read_bucket(*number, store)?;
            let mut rows = rows(&bucket)?;
            for (hash, record) in changes(&self.delta, *number) {
                match record {
                    Some(record) => rows.insert(hash, record),
                    None => rows.remove(&hash),
                };
            }
            let changed = bucket::of_rows(rows);
            if changed != bucket {
                store.put(&bucket::store_key(*number), &changed)?;
            }
        }
        Ok(Step::Keys(at + A_STEP))
    }

    /// Empties the profiles of tenants that are gone, and strikes them off.
    fn withdraw(&self, at: usize, store: &mut impl Store) -> Result<Step, StoreError> {
        if let Some(withdrawn) = chunk(&self.withdrawn, at) {
            for id in withdrawn {
                write_changed(&bucket::profile_store_key(*id), &[], store)?;
            }
            return Ok(Step::Withdrawals(at + A_STEP));
        }
        if !self.withdrawn.is_empty() {
            let mut listed = Tenants::read(store)?;
            listed.retain(|id| self.withdrawn.binary_search(id).is_err());
            listed.write(store)?;
        }
        Ok(Step::Rest)
    }

    fn write_rest(&mut self, store: &mut impl Store) -> Result<Step, StoreError> {
        if let Some(traffic) = self.delta.traffic.take() {
            state::write(store, ONE, traffic)?;
        }
        if let Some(budgets) = self.delta.budgets.take() {
            state::write(store, ONE, budgets)?;
        }
        Ok(Step::Done)
    }
}

/// The values of one step; `None` where there are no more.
fn chunk<T>(values: &[T], at: usize) -> Option<&[T]> {
    let rest = values.get(at..).filter(|rest| !rest.is_empty())?;
    rest.get(..A_STEP).or(Some(rest))
}

/// What is to become of the keys of a bucket; `None` for one that is gone.
fn changes(delta: &Delta, bucket: u16) -> impl Iterator<Item = (KeyHash, Option<&[u8]>)> {
    let given = delta.keys.range(bucket::bounds(bucket));
    let given = given.map(|(hash, entry)| (*hash, entry.record(&delta.records)));
    let removed = delta.removed.range(bucket::bounds(bucket));
    given.chain(removed.map(|hash| (*hash, None)))
}

fn read_bucket(number: u16, store: &mut impl Store) -> Result<Vec<u8>, StoreError> {
    let bucket = store.get(&bucket::store_key(number))?;
    Ok(bucket.map(|(bucket, _)| bucket).unwrap_or_default())
}

/// The keys of a bucket. One that can't be read is not changed.
fn rows(bucket: &[u8]) -> Result<BTreeMap<KeyHash, &[u8]>, StoreError> {
    bucket::rows(bucket)
        .collect::<Option<_>>()
        .ok_or(StoreError::Failed)
}

/// Whether the directory in force has a tenant of these names.
fn in_force(org: &str, project: Option<&str>, store: &mut impl Store) -> Result<bool, StoreError> {
    let id = ProfileId::of(org, project);
    let stored = store.get(&bucket::profile_store_key(id))?;
    let stored = stored.as_ref().and_then(|(stored, _)| read_profile(stored));
    Ok(stored.is_some_and(|stored| names(&stored) == (org, project)))
}

/// The profile of a tenant; `None` where it is gone.
fn read_profile(stored: &[u8]) -> Option<Profile<'_>> {
    postcard::from_bytes(stored).ok()
}

fn names<'a>(profile: &Profile<'a>) -> (&'a str, Option<&'a str>) {
    (profile.org, profile.project)
}

fn path_of(org: &str, project: Option<&str>) -> String {
    match project {
        Some(project) => format!("orgs.{org}.projects.{project}"),
        None => format!("orgs.{org}"),
    }
}

#[cfg(test)]
mod tests;

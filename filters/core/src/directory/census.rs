//! Who is in a directory, counted: what has to be known to change a part of it without reading all of it again.
//!
//! Costs about 60 bytes an organization or project, and nothing for a key.

use std::collections::{BTreeMap, BTreeSet};

use super::record::ProfileId;

/// The tenants of a directory in force, and how many keys each has.
#[derive(Debug, Default)]
pub struct Census {
    /// The projects of each organization.
    orgs: BTreeMap<ProfileId, Vec<ProfileId>>,
    /// How many keys each tenant has.
    keys: BTreeMap<ProfileId, u64>,
    /// How many each had that is gone, where they were not taken out with it. Nobody finds them, as their tenant is gone;
    /// they may not come back with another one of its name.
    orphans: BTreeMap<ProfileId, u64>,
    total: u64,
}

/// How a census differs after a change.
#[derive(Debug, Default)]
pub(super) struct Recount {
    /// Organizations that are new or replaced, with their projects; `None` for one that is gone.
    pub(super) orgs: BTreeMap<ProfileId, Option<Vec<ProfileId>>>,
    /// How many keys more, or fewer, a tenant has.
    pub(super) keys: BTreeMap<ProfileId, i64>,
}

impl Census {
    /// How many keys can be found.
    pub fn keys(&self) -> u64 {
        self.total
    }

    /// How many organizations there are.
    pub fn orgs(&self) -> usize {
        self.orgs.len()
    }

    /// There is one more key of this tenant.
    pub(super) fn add_key(&mut self, tenant: ProfileId) {
        *self.keys.entry(tenant).or_default() += 1;
        self.total += 1;
    }

    /// There is an organization with these projects, in the place of what it was.
    pub(super) fn set_org(&mut self, org: ProfileId, projects: Vec<ProfileId>) {
        self.orgs.insert(org, projects);
    }

    /// Its organizations, with their projects.
    pub(super) fn into_orgs(self) -> BTreeMap<ProfileId, Vec<ProfileId>> {
        self.orgs
    }

    /// How many keys are left of a tenant that is gone.
    pub(super) fn orphans(&self, tenant: ProfileId) -> u64 {
        self.orphans.get(&tenant).copied().unwrap_or_default()
    }

    /// The tenants that are gone after a change: organizations, and projects.
    pub(super) fn withdrawn(&self, recount: &Recount) -> BTreeSet<ProfileId> {
        let mut withdrawn = BTreeSet::new();
        for (org, projects) in &recount.orgs {
            let Some(before) = self.orgs.get(org) else {
                continue;
            };
            withdrawn.extend(before);
            match projects {
                Some(projects) => projects.iter().for_each(|project| {
                    withdrawn.remove(project);
                }),
                None => {
                    withdrawn.insert(*org);
                }
            }
        }
        withdrawn
    }

    /// The tenants that a change brings.
    pub(super) fn newcomers(&self, recount: &Recount) -> Vec<ProfileId> {
        let mut newcomers = Vec::new();
        for (org, projects) in &recount.orgs {
            let Some(projects) = projects else { continue };
            let before = self.orgs.get(org);
            let known: BTreeSet<&ProfileId> = before.into_iter().flatten().collect();
            newcomers.extend(before.is_none().then_some(*org));
            newcomers.extend(projects.iter().filter(|project| !known.contains(project)));
        }
        newcomers
    }

    /// What it is after a change.
    pub(super) fn apply(&mut self, recount: &Recount) {
        for tenant in self.withdrawn(recount) {
            if let Some(keys) = self.keys.remove(&tenant) {
                self.total = self.total.saturating_sub(keys);
                self.orphans.insert(tenant, keys);
            }
        }
        for (org, projects) in &recount.orgs {
            match projects {
                Some(projects) => self.set_org(*org, projects.clone()),
                None => {
                    self.orgs.remove(org);
                }
            }
        }
        for (tenant, change) in &recount.keys {
            self.change(*tenant, *change);
        }
    }

    fn change(&mut self, tenant: ProfileId, change: i64) {
        let orphaned = self.orphans.contains_key(&tenant);
        let counts = if orphaned {
            &mut self.orphans
        } else {
            &mut self.keys
        };
        let count = counts.entry(tenant).or_default();
        *count = count.saturating_add_signed(change);
        if *count == 0 {
            counts.remove(&tenant);
        }
        if !orphaned {
            self.total = self.total.saturating_add_signed(change);
        }
    }
}

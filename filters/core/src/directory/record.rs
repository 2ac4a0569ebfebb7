//! What is kept of a key and of its tenant, and the credential that both make together.
//!
//! A key's record names its tenant by a [`ProfileId`]; the profile holds all that keys of one organization and
//! project share. So a change to an organization touches one profile, not its hundred thousand keys.

use core::cell::OnceCell;
use core::convert::Infallible;
use std::net::IpAddr;
use std::rc::Rc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::bound::{Bounds, Overrides};
use crate::budget::{Budgets, Terms};
use crate::endpoint::Scopes;
use crate::identity::{Caller, Grants, Identity};
use crate::traffic::{Traffic, Withheld};

/// Names a profile: the first eight bytes of a SHA-256 over organization and project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProfileId(pub u64);

impl ProfileId {
    /// The profile of a project, or of an organization as a whole.
    pub fn of(org: &str, project: Option<&str>) -> Self {
        // Names hold no NUL, and a present project is never empty, so no two pairs give the same input.
        let digest = Sha256::new()
            .chain_update(org)
            .chain_update([0])
            .chain_update(project.unwrap_or_default());
        let digest: [u8; 32] = digest.finalize().into();
        Self(digest.first_chunk().map_or(0, |first| u64::from_be_bytes(*first)))
    }
}

/// What an operator made of a key.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum KeyStatus {
    /// In use.
    #[default]
    Active,
    /// Frozen for a while; its owner is told so.
    Suspended,
    /// Gone for good; answered like a key that never was.
    Revoked,
}

/// One key's record. Times are seconds since 1970.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyRecord<'a> {
    pub(crate) id: &'a str,
    /// The first of the keys that it was rotated from.
    pub(crate) rotation_root: Option<&'a str>,
    pub(crate) profile: ProfileId,
    pub(crate) status: KeyStatus,
    pub(crate) scopes: Scopes,
    pub(crate) not_before: Option<i64>,
    pub(crate) expires_at: Option<i64>,
    #[serde(borrow)]
    pub(crate) models: Option<Vec<&'a str>>,
    pub(crate) networks: Vec<IpNet>,
    pub(crate) bounds: Option<Bounds>,
}

/// Whose key a record is of; `None` where it can't be read.
pub(crate) fn profile_of(record: &[u8]) -> Option<ProfileId> {
    let key: KeyRecord<'_> = postcard::from_bytes(record).ok()?;
    Some(key.profile)
}

/// What all keys of one organization and project share.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Profile<'a> {
    pub(crate) org: &'a str,
    pub(crate) org_suspended: bool,
    pub(crate) project: Option<&'a str>,
    pub(crate) project_suspended: bool,
    pub(crate) tier: &'a str,
    #[serde(borrow)]
    pub(crate) org_models: Vec<&'a str>,
    pub(crate) project_models: Option<Vec<&'a str>>,
    pub(crate) labels: Vec<(&'a str, &'a str)>,
    /// Those of the organization alone, which its own administrators can't change.
    pub(crate) org_labels: Vec<(&'a str, &'a str)>,
    pub(crate) org_bounds: Option<Bounds>,
}

/// An organization, or a project of it, as all of its keys share it.
#[derive(Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Organization.
    pub org: String,
    /// Whether it is frozen.
    pub org_suspended: bool,
    /// Project; `None` for the organization as a whole.
    pub project: Option<String>,
    /// Whether that is frozen.
    pub project_suspended: bool,
    /// Class of service.
    pub tier: String,
    /// Its profile, and behind it what is withheld from it and its budgets.
    record: Vec<u8>,
}

impl Tenant {
    /// Reads a profile's record, with what is out of use and budgets. `None` where it can't be read: the caller refuses.
    pub fn from_record(record: &[u8], traffic: &Traffic, budgets: &Budgets) -> Option<Self> {
        let profile: Profile<'_> = postcard::from_bytes(record).ok()?;
        let withheld = traffic.withheld(profile.tier);
        let budgets = budgets.of_tenant(profile.org, profile.project, &profile.org_labels);
        Some(Self {
            org: profile.org.to_owned(),
            org_suspended: profile.org_suspended,
            project: profile.project.map(str::to_owned),
            project_suspended: profile.project_suspended,
            tier: profile.tier.to_owned(),
            record: postcard::to_extend(&(withheld, budgets), record.to_owned()).ok()?,
        })
    }
}

/// A key with all it inherits, ready to be judged.
#[derive(Debug, PartialEq, Eq)]
pub struct Credential {
    /// Public id of the key.
    pub id: String,
    /// Whose it is.
    pub tenant: Rc<Tenant>,
    /// What it may be used for.
    pub scopes: Scopes,
    /// The key's own status.
    pub status: KeyStatus,
    /// First second at which it is valid; seconds since 1970.
    pub not_before: Option<i64>,
    /// First second at which it is valid no longer.
    pub expires_at: Option<i64>,
    /// Where it may be used from; empty is anywhere.
    pub networks: Vec<IpNet>,
    /// What later filters read as [`crate::identity::Identity`]: both records as they are and the key's own budgets, so
    /// that nothing is encoded on the way of a request.
    pub state: Vec<u8>,
    identity: OnceCell<Option<Rc<Identity>>>,
}

impl Credential {
    /// Its names.
    pub fn caller(&self) -> Caller<'_> {
        Caller {
            key_id: &self.id,
            org: &self.tenant.org,
            project: self.tenant.project.as_deref(),
            tier: &self.tenant.tier,
        }
    }

    /// Joins a key's record with the tenant that `find` gives for it, and with the budgets of the key. `None` where
    /// either can't be read: the caller refuses.
    pub fn from_record<E>(
        record: &[u8],
        budgets: &Budgets,
        find: impl FnOnce(ProfileId) -> Result<Option<Rc<Tenant>>, E>,
    ) -> Result<Option<Self>, E> {
        let Ok(key) = postcard::from_bytes::<KeyRecord<'_>>(record) else {
            return Ok(None);
        };
        let Some(tenant) = find(key.profile)? else {
            return Ok(None);
        };
        let state = [record, &tenant.record].concat();
        let own = budgets.of_key(key.id, key.rotation_root);
        let Ok(state) = postcard::to_extend(&own, state) else {
            return Ok(None);
        };
        Ok(Some(Self {
            id: key.id.to_owned(),
            scopes: key.scopes,
            status: key.status,
            not_before: key.not_before,
            expires_at: key.expires_at,
            networks: key.networks,
            state,
            identity: OnceCell::new(),
            tenant,
        }))
    }

    /// The credential of a caller whose token was verified elsewhere.
    pub fn of_token(id: &str, tenant: Rc<Tenant>) -> Option<Self> {
        let key = KeyRecord {
            id,
            rotation_root: None,
            profile: ProfileId::of(&tenant.org, tenant.project.as_deref()),
            status: KeyStatus::Active,
            scopes: Scopes::UNRESTRICTED,
            not_before: None,
            expires_at: None,
            models: None,
            networks: Vec::new(),
            bounds: None,
        };
        let record = postcard::to_allocvec(&key).ok()?;
        Self::from_record(&record, &Budgets::default(), |_| {
            Ok::<_, Infallible>(Some(tenant))
        })
        .unwrap_or_else(|never| match never {})
    }

    /// What [`Self::state`] says, read once: for filters in the same module. `None` where it can't be read.
    pub fn identity(&self) -> Option<Rc<Identity>> {
        let read = || Identity::decode(&self.state).map(Rc::new);
        self.identity.get_or_init(read).clone()
    }

    /// Whether judging it needs the time.
    pub fn depends_on_time(&self) -> bool {
        self.not_before.is_some() || self.expires_at.is_some()
    }

    /// The place of the network that `address` is in; an unknown address is in none.
    pub fn network_of(&self, address: Option<IpAddr>) -> Option<usize> {
        // A client of a dual-stack listener shows up as ::ffff:10.1.2.3; the directory says 10.0.0.0/8.
        let address = address?.to_canonical();
        self.networks
            .iter()
            .position(|network| network.contains(&address))
    }
}

impl Identity {
    /// Reads the filter state: the key's record, its tenant's, what is withheld, and the budgets of both. `None` for anything
    /// else: a filter that can't read it refuses.
    pub fn decode(state: &[u8]) -> Option<Self> {
        let (key, rest) = postcard::take_from_bytes::<KeyRecord<'_>>(state).ok()?;
        let (tenant, rest) = postcard::take_from_bytes::<Profile<'_>>(rest).ok()?;
        let (withheld, rest) = postcard::take_from_bytes::<Withheld>(rest).ok()?;
        let (mut budgets, rest) = postcard::take_from_bytes::<Vec<Terms>>(rest).ok()?;
        let (of_key, rest) = postcard::take_from_bytes::<Vec<Terms>>(rest).ok()?;
        budgets.extend(of_key);
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        rest.is_empty().then(|| Self {
            key_id: key.id.to_owned(),
            org: tenant.org.to_owned(),
            project: tenant.project.map(str::to_owned),
            tier: tenant.tier.to_owned(),
            scopes: key.scopes,
            models: Grants {
                org: owned(&tenant.org_models),
                project: tenant.project_models.as_deref().map(owned),
                key: key.models.as_deref().map(owned),
            },
            labels: tenant
                .labels
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect(),
            overrides: Overrides {
                org: tenant.org_bounds,
                key: key.bounds,
            },
            withheld,
            budgets,
        })
    }
}

//! The document as an operator writes it, and the check of each part.

use std::borrow::Cow;
use std::collections::BTreeMap;

use ipnet::{IpNet, Ipv4Net};
use serde::Deserialize;

#[cfg(feature = "schema")]
use super::budgets::RawBudgets;
use super::census::Census;
use super::names::{check_globs, check_name};
use super::record::{KeyRecord, KeyStatus, Profile, ProfileId};
#[cfg(feature = "schema")]
use super::traffic::RawTraffic;
use crate::bound::{Bounds, RawBound, RawCap};
use crate::config::{ConfigError, Map, Object, given, moment};
use crate::endpoint::{Scope, Scopes};
use crate::key::KeyHash;

/// The tier of an organization that names none.
const DEFAULT_TIER: &str = "default";

#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an organization")]
pub(super) struct RawOrg {
    tier: Option<String>,
    #[serde(default)]
    status: TenantStatus,
    #[serde(default)]
    models: Vec<String>,
    #[serde(default)]
    labels: Map<String>,
    #[serde(default)]
    projects: Map<Object<RawProject>>,
    #[serde(default)]
    limits: Map<Object<RawBound>>,
    cap: Option<Object<RawCap>>,
}

#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a project")]
struct RawProject {
    #[serde(default)]
    status: TenantStatus,
    #[serde(default, deserialize_with = "given")]
    models: Option<Vec<String>>,
    #[serde(default)]
    labels: Map<String>,
}

#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum TenantStatus {
    #[default]
    Active,
    Suspended,
}

/// One row of `keys`. Borrows from the document where no escape stands in the way.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a key")]
pub(super) struct RawKey<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[0-9A-Fa-f]{64}$")))]
    sha256: Cow<'a, str>,
    #[serde(borrow)]
    org: Cow<'a, str>,
    #[serde(borrow)]
    project: Option<Cow<'a, str>>,
    /// The first of the keys that it was rotated from, one after the other: its budgets are this one's too.
    #[serde(borrow)]
    rotation_root: Option<Cow<'a, str>>,
    /// For people; the gateway makes no use of it.
    #[serde(borrow, rename = "name")]
    _name: Option<Cow<'a, str>>,
    #[serde(default)]
    status: KeyStatus,
    // A list that was emptied by hand is no wish to have all; other members may be null, as programs write them.
    #[serde(default, deserialize_with = "given")]
    scopes: Option<Vec<Scope>>,
    #[serde(default, deserialize_with = "given")]
    models: Option<Vec<String>>,
    #[serde(borrow)]
    not_before: Option<Cow<'a, str>>,
    #[serde(borrow)]
    expires_at: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "given")]
    networks: Option<Vec<String>>,
    #[serde(default)]
    limits: Map<Object<RawBound>>,
    cap: Option<Object<RawCap>>,
}

/// The number 1, so far. A front end may write every number as a double.
#[derive(Debug, Clone, Copy)]
pub(super) struct Version(f64);

impl Version {
    /// Whether it is what is read here.
    pub(super) fn check(self) -> Result<(), ConfigError> {
        if self.0 == 1.0 {
            return Ok(());
        }
        Err(ConfigError::expected("version", self.0, "1"))
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct One;
        impl serde::de::Visitor<'_> for One {
            type Value = Version;

            fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str("the number 1")
            }

            fn visit_f64<E>(self, number: f64) -> Result<Version, E> {
                Ok(Version(number))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Version, E> {
                Ok(Version(number as f64))
            }
        }
        deserializer.deserialize_any(One)
    }
}

/// The document as a whole; its reader takes it piece by piece.
#[cfg(feature = "schema")]
#[derive(schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "for its schema alone")]
pub struct Document<'a> {
    #[schemars(range(min = 1, max = 1))]
    version: u8,
    orgs: Map<Object<RawOrg>>,
    keys: Vec<RawKey<'a>>,
    traffic: Option<Object<RawTraffic>>,
    budgets: Option<RawBudgets>,
}

/// The organizations of a document, checked.
#[derive(Debug, Default)]
pub(super) struct Tenants(BTreeMap<String, Object<RawOrg>>);

impl Tenants {
    /// Checks every organization and project; all that is wrong is reported.
    pub(super) fn check(Map(orgs): Map<Object<RawOrg>>, errors: &mut Vec<ConfigError>) -> Self {
        for (name, Object(org)) in &orgs {
            let path = format!("orgs.{name}");
            check_name(name, &path, errors);
            if let Some(tier) = &org.tier {
                check_name(tier, &format!("{path}.tier"), errors);
            }
            check_globs(&org.models, &format!("{path}.models"), errors);
            check_labels(&org.labels, &format!("{path}.labels"), errors);
            let wrong = org.bounds().err().into_iter().flatten();
            errors.extend(wrong.map(|error| error.under(&path)));
            for (name, Object(project)) in &org.projects.0 {
                let path = format!("{path}.projects.{name}");
                check_name(name, &path, errors);
                check_globs(
                    project.models.as_deref().unwrap_or_default(),
                    &format!("{path}.models"),
                    errors,
                );
                check_labels(&project.labels, &format!("{path}.labels"), errors);
            }
        }
        Self(orgs)
    }

    /// Encodes the profile of every organization and of every project.
    pub(super) fn profiles(&self) -> Vec<(ProfileId, Vec<u8>)> {
        let mut profiles = Vec::new();
        for (name, Object(org)) in &self.0 {
            let projects = org
                .projects
                .0
                .iter()
                .map(|(name, project)| Some((name.as_str(), &project.0)));
            for project in projects.chain([None]) {
                let profile = org.profile(name, project);
                let id = ProfileId::of(profile.org, profile.project);
                profiles.push((id, postcard::to_allocvec(&profile).unwrap_or_default()));
            }
        }
        profiles
    }

    /// Has all of them be in `census`, in the place of what was known of them.
    pub(super) fn count(&self, census: &mut Census) {
        for (name, Object(org)) in &self.0 {
            let projects = org.projects.0.keys();
            let projects = projects.map(|project| ProfileId::of(name, Some(project)));
            census.set_org(ProfileId::of(name, None), projects.collect());
        }
    }

    /// Whether an organization of this name is among them.
    pub(super) fn has(&self, org: &str) -> bool {
        self.0.contains_key(org)
    }

    /// The profile of an organization or of a project of it.
    pub(super) fn find(&self, org: &str, project: Option<&str>) -> Result<ProfileId, ConfigError> {
        let Some(known) = self.0.get(org) else {
            return Err(ConfigError::expected("org", org, "an organization under `orgs`"));
        };
        match project {
            Some(project) if !known.0.projects.0.contains_key(project) => {
                let expected = format!("a project under `orgs.{org}.projects`");
                Err(ConfigError::expected("project", project, &expected))
            }
            _ => Ok(ProfileId::of(org, project)),
        }
    }
}

impl RawOrg {
    fn bounds(&self) -> Result<Option<Bounds>, Vec<ConfigError>> {
        Bounds::check(&self.limits, self.cap.as_ref().map(|Object(cap)| cap))
    }

    fn profile<'a>(&'a self, name: &'a str, project: Option<(&'a str, &'a RawProject)>) -> Profile<'a> {
        let mut labels: BTreeMap<&str, &str> = text(&self.labels).collect();
        let org_labels = labels.clone();
        if let Some((_, project)) = project {
            labels.extend(text(&project.labels));
        }
        Profile {
            org: name,
            org_suspended: self.status == TenantStatus::Suspended,
            project: project.map(|(name, _)| name),
            project_suspended: project.is_some_and(|(_, project)| project.status == TenantStatus::Suspended),
            tier: self.tier.as_deref().unwrap_or(DEFAULT_TIER),
            org_models: self.models.iter().map(String::as_str).collect(),
            project_models: project
                .and_then(|(_, project)| project.models.as_ref())
                .map(|models| models.iter().map(String::as_str).collect()),
            labels: labels.into_iter().collect(),
            org_labels: org_labels.into_iter().collect(),
            // Wrong ones were refused.
            org_bounds: self.bounds().ok().flatten(),
        }
    }
}

fn text(labels: &Map<String>) -> impl Iterator<Item = (&str, &str)> {
    labels
        .0
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
}

impl RawKey<'_> {
    /// The row's public id, for what is said about it.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Checks the row, of whose organization and project `find` tells the profile, and appends its record to `out`; its
    /// hash and its profile, or all that is wrong, with paths below the row.
    pub(super) fn compile(
        &self,
        find: impl FnOnce(&str, Option<&str>) -> Result<ProfileId, ConfigError>,
        out: &mut Vec<u8>,
    ) -> Result<(KeyHash, ProfileId), Vec<ConfigError>> {
        let mut errors = Vec::new();
        check_name(&self.id, "id", &mut errors);
        if self.id.starts_with("sk-") {
            errors.push(ConfigError::new(
                "id",
                "looks like the key itself; it is public, so choose another name",
            ));
        }
        if let Some(root) = &self.rotation_root {
            check_name(root, "rotation_root", &mut errors);
        }
        check_globs(self.models.as_deref().unwrap_or_default(), "models", &mut errors);
        let hash = kept(self.hash(), &mut errors);
        let profile = kept(find(&self.org, self.project.as_deref()), &mut errors);
        let not_before = kept(seconds("not_before", self.not_before.as_deref()), &mut errors).flatten();
        let expires_at = kept(seconds("expires_at", self.expires_at.as_deref()), &mut errors).flatten();
        if let (Some(from), Some(to)) = (not_before, expires_at)
            && from >= to
        {
            errors.push(ConfigError::new(
                "expires_at",
                "is not after not_before, so the key is never valid",
            ));
        }
        let networks = self.networks(&mut errors);
        if let Some(scopes) = &self.scopes
            && scopes.is_empty()
        {
            errors.push(ConfigError::new(
                "scopes",
                "is empty, so the key is good for nothing; leave it out for all, or set `status: suspended`",
            ));
        }
        let cap = self.cap.as_ref().map(|Object(cap)| cap);
        let bounds = Bounds::check(&self.limits, cap).unwrap_or_else(|wrong| {
            errors.extend(wrong);
            None
        });
        let (Some(hash), Some(profile), true) = (hash, profile, errors.is_empty()) else {
            return Err(errors);
        };
        let record = KeyRecord {
            id: &self.id,
            rotation_root: self.rotation_root.as_deref(),
            profile,
            status: self.status,
            scopes: self.scopes.as_deref().map_or(Scopes::UNRESTRICTED, Scopes::of),
            not_before,
            expires_at,
            models: self
                .models
                .as_ref()
                .map(|models| models.iter().map(String::as_str).collect()),
            networks,
            bounds,
        };
        match postcard::to_extend(&record, core::mem::take(out)) {
            Ok(extended) => *out = extended,
            Err(error) => return Err(vec![ConfigError::new("", format!("cannot be stored: {error}"))]),
        }
        Ok((hash, profile))
    }

    fn hash(&self) -> Result<KeyHash, ConfigError> {
        parse_hash(&self.sha256).map_err(|error| error.under("sha256"))
    }

    fn networks(&self, errors: &mut Vec<ConfigError>) -> Vec<IpNet> {
        let parse = |(at, text): (usize, &String)| {
            let network = text
                .parse::<IpNet>()
                .ok()
                .filter(|network| network.addr() == network.network());
            network.map(canonical).ok_or_else(|| {
                let expected =
                    "a network such as `10.0.0.0/8` or `2001:db8::/32`, with no bits set behind its length";
                ConfigError::expected(format!("networks[{at}]"), text, expected)
            })
        };
        if self.networks.as_ref().is_some_and(Vec::is_empty) {
            errors.push(ConfigError::new(
                "networks",
                "is empty: name the networks that the key is good from, or leave it out for any",
            ));
        }
        let networks = self.networks.iter().flatten();
        networks
            .enumerate()
            .map(parse)
            .filter_map(|network| kept(network, errors))
            .collect()
    }
}

/// The hash of a key as it is written.
pub(super) fn parse_hash(text: &str) -> Result<KeyHash, ConfigError> {
    // What was found is not repeated: someone may have pasted the key itself.
    KeyHash::parse(text)
        .ok_or_else(|| ConfigError::new("", "expected the SHA-256 of the key as 64 hexadecimal digits"))
}

/// `::ffff:10.0.0.0/104` as `10.0.0.0/8`, since addresses are compared in that form.
fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else { return network };
    let v4 = v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96));
    v4.and_then(|(addr, len)| Ipv4Net::new(addr, len).ok())
        .map_or(network, IpNet::V4)
}

fn kept<T>(result: Result<T, ConfigError>, errors: &mut Vec<ConfigError>) -> Option<T> {
    result.map_err(|error| errors.push(error)).ok()
}

fn seconds(field: &str, text: Option<&str>) -> Result<Option<i64>, ConfigError> {
    let Some(text) = text else { return Ok(None) };
    moment(text)
        .map(Some)
        .ok_or_else(|| ConfigError::expected(field, text, "a time such as `2026-12-31T23:59:59Z` (RFC 3339)"))
}

/// Names go into headers, logs and metrics as they are, so they are plain.
fn check_labels(labels: &Map<String>, path: &str, errors: &mut Vec<ConfigError>) {
    for (name, value) in &labels.0 {
        let path = format!("{path}.{name}");
        check_name(name, &path, errors);
        if value.len() > 128 || value.bytes().any(|c| c.is_ascii_control()) {
            errors.push(ConfigError::expected(
                path,
                value,
                "at most 128 bytes without control characters",
            ));
        }
    }
}

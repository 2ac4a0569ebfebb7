//! Whom a row tells apart, and where the state of each stands in the store.

use std::net::IpAddr;

use serde::Deserialize;

use crate::address::slot;
use crate::bound::Overrides;
use crate::endpoint::Endpoint;
use crate::state::Keyspace;

/// A request, as rows see it.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Public id of the key.
    pub key: &'a str,
    /// Organization.
    pub org: &'a str,
    /// Project; `None` for a key of the whole organization.
    pub project: Option<&'a str>,
    /// Class of service.
    pub tier: &'a str,
    /// Model, by its own name; empty where none is asked for.
    pub model: &'a str,
    /// What is asked for.
    pub endpoint: Endpoint,
    /// The client's address, where it is known.
    pub address: Option<IpAddr>,
    /// What the directory has in place of the rows' bounds.
    pub overrides: &'a Overrides,
}

/// What a row can tell apart.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dimension {
    /// Each key.
    Key,
    /// Each project.
    Project,
    /// Each organization.
    Org,
    /// Each model.
    Model,
    /// Each endpoint.
    Endpoint,
    /// Each class of service.
    Tier,
    /// Each slot of addresses.
    Ip,
}

impl Dimension {
    /// Its name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Project => "project",
            Self::Org => "org",
            Self::Model => "model",
            Self::Endpoint => "endpoint",
            Self::Tier => "tier",
            Self::Ip => "ip",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of dimensions: the `per` of a row. Empty is one for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Per(u8);

impl Per {
    /// With one more; `None` if it is there already.
    pub fn with(self, dimension: Dimension) -> Option<Self> {
        (!self.has(dimension)).then_some(Self(self.0 | dimension.bit()))
    }

    /// Whether it tells `dimension` apart by itself.
    pub const fn has(self, dimension: Dimension) -> bool {
        self.0 & dimension.bit() != 0
    }

    /// Whether all requests that share a state have the same value of `dimension`: a key belongs to one project and
    /// organization, a project to one organization, and an organization has one tier.
    pub const fn fixes(self, dimension: Dimension) -> bool {
        let above = match dimension {
            Dimension::Project => Dimension::Key.bit(),
            Dimension::Org => Dimension::Key.bit() | Dimension::Project.bit(),
            Dimension::Tier => Dimension::Key.bit() | Dimension::Project.bit() | Dimension::Org.bit(),
            Dimension::Key | Dimension::Model | Dimension::Endpoint | Dimension::Ip => 0,
        };
        self.0 & (above | dimension.bit()) != 0
    }

    /// Whether one state can serve several organizations, so that its numbers are nobody's own.
    pub const fn is_shared(self) -> bool {
        !self.fixes(Dimension::Org)
    }

    /// The store key of the state that `subject` has in the rows with this `per`. Lengths stand before names, so that
    /// no two subjects share one.
    pub(super) fn store_key(self, subject: &Subject<'_>) -> Vec<u8> {
        let mut key = Vec::with_capacity(64);
        key.extend_from_slice(Keyspace::LIMITS.prefix());
        key.push(self.0);
        if self.has(Dimension::Key) {
            push(&mut key, Some(subject.key));
        }
        if self.has(Dimension::Project) {
            // Two organizations may each have a project of one name.
            push(&mut key, Some(subject.org));
            push(&mut key, subject.project);
        }
        if self.has(Dimension::Org) {
            push(&mut key, Some(subject.org));
        }
        if self.has(Dimension::Model) {
            push(&mut key, Some(subject.model));
        }
        if self.has(Dimension::Endpoint) {
            key.push(subject.endpoint as u8);
        }
        if self.has(Dimension::Tier) {
            push(&mut key, Some(subject.tier));
        }
        if self.has(Dimension::Ip) {
            key.extend_from_slice(&subject.address.map_or(u16::MAX, slot).to_le_bytes());
        }
        key
    }
}

fn push(key: &mut Vec<u8>, name: Option<&str>) {
    let len = name.map_or(u32::MAX, |name| name.len() as u32);
    key.extend_from_slice(&len.to_le_bytes());
    key.extend_from_slice(name.unwrap_or_default().as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn subject<'a>(org: &'a str, project: Option<&'a str>, model: &'a str) -> Subject<'a> {
        Subject {
            key: "k",
            org,
            project,
            tier: "t",
            model,
            endpoint: Endpoint::Chat,
            address: None,
            overrides: &Overrides::NONE,
        }
    }

    fn per(dimensions: &[Dimension]) -> Per {
        dimensions
            .iter()
            .fold(Per::default(), |per, one| per.with(*one).unwrap())
    }

    #[test]
    fn a_dimension_given_twice_is_noticed() {
        assert_eq!(per(&[Dimension::Key]).with(Dimension::Key), None);
    }

    #[test]
    fn what_belongs_to_one_tenant() {
        assert!(per(&[Dimension::Key]).fixes(Dimension::Tier));
        assert!(!per(&[Dimension::Org]).fixes(Dimension::Project));
        assert!(!per(&[Dimension::Project]).is_shared());
        assert!(per(&[Dimension::Model, Dimension::Tier, Dimension::Ip]).is_shared());
    }

    #[test]
    fn addresses_fill_their_slots_and_no_more() {
        let per = per(&[Dimension::Ip]);
        let keys: std::collections::BTreeSet<_> = (0..100_000_u32)
            .map(|n| {
                let address = Some(IpAddr::V4((n * 7).into()));
                per.store_key(&Subject {
                    address,
                    ..subject("o", None, "m")
                })
            })
            .collect();
        assert_eq!(keys.len(), 4096);
    }

    proptest! {
        /// Whatever the names, two subjects that differ have two states.
        #[test]
        fn subjects_keep_apart(a in ("[ab]{0,3}", proptest::option::of("[ab]{0,3}"), "[ab]{0,3}"), b in ("[ab]{0,3}", proptest::option::of("[ab]{0,3}"), "[ab]{0,3}")) {
            let per = per(&[Dimension::Project, Dimension::Model]);
            let key = |(org, project, model): &(String, Option<String>, String)| per.store_key(&subject(org, project.as_deref(), model));
            prop_assert_eq!(key(&a) == key(&b), a == b);
        }
    }
}

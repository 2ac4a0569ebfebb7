//! The bounds that the directory has for an organization and a key, by the names of limits.

use serde::{Deserialize, Serialize};

use super::Bound;

/// Bounds of one organization or key, its cap among them. They are kept in its record, and few.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds(Vec<(String, Bound)>);

/// What replaces the bounds of the table for one caller.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Overrides {
    /// For its organization.
    pub org: Option<Bounds>,
    /// For its key.
    pub key: Option<Bounds>,
}

impl Bounds {
    pub(super) const fn new(bounds: Vec<(String, Bound)>) -> Self {
        Self(bounds)
    }

    /// The bound of the limit with this name.
    pub fn of(&self, limit: &str) -> Option<Bound> {
        let Self(bounds) = self;
        let found = bounds.iter().find(|(name, _)| name == limit);
        found.map(|(_, bound)| *bound)
    }
}

impl Overrides {
    /// None, as most callers have it.
    pub const NONE: Self = Self { org: None, key: None };
}

//! Who is calling, as it is known once it was authenticated: the filter state `tollgate.identity`.

use crate::bound::Overrides;
use crate::budget::Terms;
use crate::endpoint::Scopes;
use crate::traffic::Withheld;

/// The name of the filter state: [`crate::directory::Credential::state`].
pub const PROPERTY: &str = "tollgate.identity";

/// An authenticated caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Public id of the key, or `jwt-…` for a caller with a token.
    pub key_id: String,
    /// Organization.
    pub org: String,
    /// Project; `None` for a key of the whole organization.
    pub project: Option<String>,
    /// Class of service.
    pub tier: String,
    /// What the key may be used for.
    pub scopes: Scopes,
    /// Which models.
    pub models: Grants,
    /// Labels of the organization and, over them, of the project: name and value, sorted by name.
    pub labels: Vec<(String, String)>,
    /// What replaces the bounds of limits for it.
    pub overrides: Overrides,
    /// What operators took out of use, as far as it concerns this caller.
    pub withheld: Withheld,
    /// The budgets that cover its requests.
    pub budgets: Vec<Terms>,
}

impl Identity {
    /// Its names.
    pub fn caller(&self) -> Caller<'_> {
        Caller {
            key_id: &self.key_id,
            org: &self.org,
            project: self.project.as_deref(),
            tier: &self.tier,
        }
    }
}

/// The names of a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller<'a> {
    /// As [`Identity::key_id`].
    pub key_id: &'a str,
    /// Organization.
    pub org: &'a str,
    /// Project; `None` for a key of the whole organization.
    pub project: Option<&'a str>,
    /// Class of service.
    pub tier: &'a str,
}

/// Model grants of each level, as glob patterns; a model must be granted by every level that has a list.
///
/// They stay apart because the answer differs: what the organization lacks does not exist for it (404), what
/// only the project or key lacks is forbidden (403).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grants {
    /// The organization's; empty grants nothing.
    pub org: Vec<String>,
    /// The project's; `None` inherits.
    pub project: Option<Vec<String>>,
    /// The key's; `None` inherits.
    pub key: Option<Vec<String>>,
}

#[cfg(test)]
impl Identity {
    /// A caller of the tier `pro` who may use every model, for tests.
    pub(crate) fn sample(org: &str, key_id: &str) -> Self {
        Self {
            key_id: key_id.into(),
            org: org.into(),
            project: None,
            tier: "pro".into(),
            scopes: Scopes::UNRESTRICTED,
            models: Grants {
                org: vec!["*".into()],
                project: None,
                key: None,
            },
            labels: vec![],
            overrides: Overrides::NONE,
            withheld: Withheld::NOTHING,
            budgets: vec![],
        }
    }
}

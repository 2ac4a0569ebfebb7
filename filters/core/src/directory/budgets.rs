//! The member `budgets` of the document as an operator writes it, and its check.

use serde::Deserialize;

use super::names::check_name;
use crate::budget::{Budget, Budgets, Scope, Terms, Unit};
use crate::config::{ConfigError, Map, Object, moment};

/// Budgets of a document. Each worker has all of them in memory, and reads them anew where one changes.
pub const MAX_BUDGETS: usize = 10_000;
/// Organizations of a pool.
const MAX_POOL: usize = 1_000;

/// By the budgets' names.
pub(super) type RawBudgets = Map<Object<RawBudget>>;

#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a budget")]
pub(super) struct RawBudget {
    scope: RawScope,
    unit: Unit,
    begins_at: Option<String>,
    ends_at: Option<String>,
}

#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RawScope {
    Org(String),
    /// As `org/project`.
    Project(String),
    Key(String),
    Label(Object<RawLabel>),
    Pool(Vec<String>),
}

#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a label")]
struct RawLabel {
    name: String,
    value: String,
}

/// Checks each budget; all that is wrong is reported, with paths below the document.
pub(super) fn check(Map(raw): RawBudgets, errors: &mut Vec<ConfigError>) -> Budgets {
    if raw.len() > MAX_BUDGETS {
        let expected = format!("at most {MAX_BUDGETS}");
        errors.push(ConfigError::expected("budgets", raw.len(), &expected));
    }
    let all = raw.into_iter().map(|(id, Object(raw))| {
        let path = format!("budgets.{id}");
        if !is_id(&id) {
            let expected = "1 to 64 characters of `A-Z a-z 0-9 . _ -`, perhaps behind `ORG:`";
            errors.push(ConfigError::expected(&path, &id, expected));
        }
        raw.check(id, &path, errors)
    });
    Budgets::new(all.flatten().collect())
}

/// Whether a budget may be called so; a customer's own is behind the name of its organization.
fn is_id(id: &str) -> bool {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"._-".contains(&c);
    let fits = |name: &str| (1..=64).contains(&name.len()) && name.bytes().all(plain);
    id.split(':').count() <= 2 && id.split(':').all(fits)
}

impl RawBudget {
    /// `None` where it was reported.
    fn check(self, id: String, path: &str, errors: &mut Vec<ConfigError>) -> Option<Budget> {
        let mut time = |member: &str, text: Option<String>| {
            let text = text?;
            let read = moment(&text);
            if read.is_none() {
                let path = format!("{path}.{member}");
                errors.push(ConfigError::expected(path, text, "a time by RFC 3339"));
            }
            read
        };
        let (begins_at, ends_at) = (time("begins_at", self.begins_at), time("ends_at", self.ends_at));
        let is_shared = matches!(self.scope, RawScope::Label(_) | RawScope::Pool(_));
        Some(Budget {
            scope: self.scope.check(&format!("{path}.scope"), errors)?,
            terms: Terms {
                id,
                unit: self.unit,
                is_shared,
                begins_at,
                ends_at,
            },
        })
    }
}

impl RawScope {
    fn check(self, path: &str, errors: &mut Vec<ConfigError>) -> Option<Scope> {
        Some(match self {
            Self::Org(org) => {
                check_name(&org, &format!("{path}.org"), errors);
                Scope::Org(org)
            }
            Self::Project(both) => {
                let path = format!("{path}.project");
                let Some((org, project)) = both.split_once('/') else {
                    errors.push(ConfigError::expected(path, both, "`org/project`"));
                    return None;
                };
                check_name(org, &path, errors);
                check_name(project, &path, errors);
                Scope::Project(org.to_owned(), project.to_owned())
            }
            Self::Key(key) => Scope::Key(key),
            Self::Label(Object(RawLabel { name, value })) => Scope::Label(name, value),
            Self::Pool(orgs) => {
                let path = format!("{path}.pool");
                if orgs.len() > MAX_POOL {
                    let expected = format!("at most {MAX_POOL} organizations");
                    errors.push(ConfigError::expected(&path, orgs.len(), &expected));
                }
                for org in &orgs {
                    check_name(org, &path, errors);
                }
                Scope::Pool(orgs)
            }
        })
    }
}

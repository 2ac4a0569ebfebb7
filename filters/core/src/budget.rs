//! Budgets, as the directory has them: whose requests each covers, and what it counts. How much there is of one, the
//! control plane says ([`crate::spending`]).
//!
//! A tenant's budgets go with its identity, so that a request of one that has none looks for none.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::state::{Keyspace, Value};

/// What is counted.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Requests of which a model server used something.
    Requests,
    /// Tokens, read and written.
    Tokens,
    /// Cost, in millionths of the currency of the prices.
    CostMicros,
}

impl Unit {
    /// As people read it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::CostMicros => "millionths",
        }
    }
}

/// Whose requests a budget covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Scope {
    Org(String),
    /// Of an organization.
    Project(String, String),
    /// By its id, and by that of those it was rotated to.
    Key(String),
    /// Of organizations: name and value.
    Label(String, String),
    Pool(Vec<String>),
}

/// A budget of the directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Budget {
    pub(crate) scope: Scope,
    pub(crate) terms: Terms,
}

/// A budget as it goes with whom it covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// Its name.
    pub id: String,
    /// What it counts.
    pub unit: Unit,
    /// Whether others than one organization spend it too: nothing is told of what was spent then.
    pub is_shared: bool,
    /// From when on there is something to spend; seconds since 1970.
    pub begins_at: Option<i64>,
    /// Until when.
    pub ends_at: Option<i64>,
}

impl Terms {
    /// Whether it counts requests of this second. Before it begins and after its end it is as if there were none.
    pub fn is_in_force(&self, seconds: i64) -> bool {
        self.begins_at.is_none_or(|begins| begins <= seconds)
            && self.ends_at.is_none_or(|ends| seconds < ends)
    }
}

/// All budgets of a directory.
#[derive(Debug, Clone, Default)]
pub struct Budgets(Arc<Index>);

/// Budgets, and their places among all by whom they cover.
#[derive(Debug, Default)]
struct Index {
    all: Vec<Budget>,
    orgs: BTreeMap<String, Vec<usize>>,
    projects: BTreeMap<(String, String), Vec<usize>>,
    keys: BTreeMap<String, Vec<usize>>,
    labels: BTreeMap<(String, String), Vec<usize>>,
}

impl Budgets {
    pub(crate) fn new(all: Vec<Budget>) -> Self {
        let mut index = Index::default();
        for (at, Budget { scope, .. }) in all.iter().enumerate() {
            match scope.clone() {
                Scope::Org(org) => index.orgs.entry(org).or_default().push(at),
                Scope::Project(org, project) => index.projects.entry((org, project)).or_default().push(at),
                Scope::Key(key) => index.keys.entry(key).or_default().push(at),
                Scope::Label(name, value) => index.labels.entry((name, value)).or_default().push(at),
                Scope::Pool(orgs) => {
                    for org in orgs {
                        index.orgs.entry(org).or_default().push(at);
                    }
                }
            }
        }
        index.all = all;
        Self(Arc::new(index))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.all.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.all.is_empty()
    }

    /// All of them.
    pub fn terms(&self) -> impl Iterator<Item = &Terms> {
        self.0.all.iter().map(|budget| &budget.terms)
    }

    /// Those that cover every request of a tenant whose organization has these labels.
    pub fn of_tenant(&self, org: &str, project: Option<&str>, labels: &[(&str, &str)]) -> Vec<Terms> {
        if self.is_empty() {
            return Vec::new();
        }
        let index = &*self.0;
        let project = project.and_then(|project| index.projects.get(&(org.to_owned(), project.to_owned())));
        let labels = labels.iter().filter_map(|(name, value)| {
            let label = ((*name).to_owned(), (*value).to_owned());
            index.labels.get(&label)
        });
        let places = index.orgs.get(org).into_iter().chain(project).chain(labels);
        self.at(places.flatten())
    }

    /// Those that cover every request of a key, which may have been rotated from another one.
    pub fn of_key(&self, id: &str, rotation_root: Option<&str>) -> Vec<Terms> {
        let root = rotation_root.filter(|root| *root != id);
        let ids = [Some(id), root].into_iter().flatten();
        self.at(ids.filter_map(|id| self.0.keys.get(id)).flatten())
    }

    fn at<'a>(&self, places: impl Iterator<Item = &'a usize>) -> Vec<Terms> {
        let found = places.filter_map(|at| self.0.all.get(*at));
        found.map(|budget| budget.terms.clone()).collect()
    }
}

impl PartialEq for Budgets {
    fn eq(&self, other: &Self) -> bool {
        self.0.all == other.0.all
    }
}

impl Value for Budgets {
    const KEYSPACE: Keyspace = Keyspace::BUDGETS;

    fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok().map(Self::new)
    }

    fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(&self.0.all).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(id: &str, scope: Scope) -> Budget {
        let is_shared = matches!(scope, Scope::Pool(_) | Scope::Label(..));
        Budget {
            scope,
            terms: Terms {
                id: id.into(),
                unit: Unit::Tokens,
                is_shared,
                begins_at: None,
                ends_at: None,
            },
        }
    }

    fn budgets() -> Budgets {
        Budgets::new(vec![
            budget("org", Scope::Org("acme".into())),
            budget("project", Scope::Project("acme".into(), "search".into())),
            budget("key", Scope::Key("k1".into())),
            budget("label", Scope::Label("team".into(), "a".into())),
            budget("pool", Scope::Pool(vec!["acme".into(), "globex".into()])),
        ])
    }

    fn names(found: &[Terms]) -> Vec<&str> {
        found.iter().map(|terms| terms.id.as_str()).collect()
    }

    #[test]
    fn each_is_found_by_whom_it_covers_and_by_nobody_else() {
        let budgets = budgets();
        for (org, project, labels, expected) in [
            ("acme", None, &[][..], &["org", "pool"][..]),
            (
                "acme",
                Some("search"),
                &[("team", "a")],
                &["org", "pool", "project", "label"],
            ),
            ("acme", Some("other"), &[("team", "b")], &["org", "pool"]),
            ("globex", Some("search"), &[("a", "team")], &["pool"]),
            ("initech", None, &[("team", "a")], &["label"]),
        ] {
            assert_eq!(names(&budgets.of_tenant(org, project, labels)), expected, "{org}");
        }
        assert_eq!(names(&budgets.of_key("k1", None)), ["key"]);
        assert_eq!(names(&budgets.of_key("acme", None)), [""; 0]);
        assert_eq!(Budgets::default().of_tenant("acme", None, &[]), []);
    }

    #[test]
    fn they_are_read_as_they_were_written() {
        let read = Budgets::decode(&budgets().encode()).unwrap();
        assert_eq!(read, budgets());
        assert_eq!(names(&read.of_key("k2", Some("k1"))), ["key"]);
        assert_eq!(Budgets::decode(&[9, 9]), None);
    }

    #[test]
    fn before_it_begins_and_after_its_end_there_is_none() {
        let mut terms = budget("once", Scope::Org("acme".into())).terms;
        assert!(terms.is_in_force(0));
        (terms.begins_at, terms.ends_at) = (Some(10), Some(20));
        let in_force = [9, 10, 19, 20].map(|second| terms.is_in_force(second));
        assert_eq!(in_force, [false, true, true, false]);
    }
}

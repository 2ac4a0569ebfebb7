//! The rows of the table, compiled, and which of them cover a request.

use super::amounts::Count;
use super::subject::{Dimension, Per, Subject};
use crate::endpoint::Endpoint;
use crate::gcra::Quota;
use crate::glob;

/// All limits.
#[derive(Debug, Clone, Default)]
pub struct Table {
    pub(super) rows: Vec<Row>,
    /// Rows with one `per` share a record.
    pub(super) groups: Vec<Group>,
}

/// The rows with one `per`, by their places in the table.
#[derive(Debug, Clone)]
pub(super) struct Group {
    pub(super) per: Per,
    pub(super) rows: Vec<usize>,
}

/// One limit.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its name, of `a-z 0-9 -`.
    pub name: String,
    /// Whom it tells apart.
    pub per: Per,
    /// What it counts.
    pub count: Count,
    /// How much, but for whom an override names.
    pub bound: Bound,
    /// What it does with a request that is over.
    pub mode: Mode,
    /// What it does when the store fails.
    pub on_error: OnError,
    /// How it is announced to those whom no override names.
    pub(super) policy: String,
    /// In the store: a hash of name and count.
    pub(super) id: u64,
    pub(super) when: Selector,
    pub(super) overrides: Vec<(Selector, Bound)>,
}

/// How much a row allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// So much at once, and so much in each unit of time.
    Rate(Quota),
    /// So many requests in flight.
    Max(u32),
}

/// What a row does with a request that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It refuses.
    Enforce,
    /// It tells the operator.
    Shadow,
}

/// What a row does when the store fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// The request passes without being counted.
    Allow,
    /// The request is refused.
    Deny,
}

/// A condition on requests; an empty list is no condition.
#[derive(Debug, Clone, Default)]
pub(super) struct Selector {
    pub(super) key: Vec<String>,
    pub(super) project: Vec<String>,
    pub(super) org: Vec<String>,
    pub(super) tier: Vec<String>,
    /// Patterns.
    pub(super) model: Vec<String>,
    pub(super) endpoint: Vec<Endpoint>,
}

/// A row that covers a request, with its bound for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hit<'t> {
    pub(super) at: usize,
    pub(super) row: &'t Row,
    pub(super) bound: Bound,
}

impl Table {
    /// The row at this place in the configuration.
    pub fn row(&self, at: usize) -> Option<&Row> {
        self.rows.get(at)
    }

    /// All rows, in the order of the configuration.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    pub(super) fn new(rows: Vec<Row>) -> Self {
        let mut groups: Vec<Group> = Vec::new();
        for (at, row) in rows.iter().enumerate() {
            match groups.iter_mut().find(|group| group.per == row.per) {
                Some(group) => group.rows.push(at),
                None => groups.push(Group {
                    per: row.per,
                    rows: vec![at],
                }),
            }
        }
        Self { rows, groups }
    }

    /// The rows of a group that cover `subject`.
    pub(super) fn hits(&self, group: &Group, subject: &Subject<'_>) -> Vec<Hit<'_>> {
        let rows = group
            .rows
            .iter()
            .filter_map(|at| Some((*at, self.rows.get(*at)?)));
        rows.filter(|(_, row)| row.when.fits(subject))
            .map(|(at, row)| Hit {
                at,
                row,
                bound: row.bound_for(subject),
            })
            .collect()
    }

    pub(super) fn knows(&self, id: u64) -> bool {
        self.rows.iter().any(|row| row.id == id)
    }
}

impl Row {
    /// What it allows `subject`: the first override that fits, or its own.
    pub fn bound_for(&self, subject: &Subject<'_>) -> Bound {
        let special = self
            .override_of(subject)
            .and_then(|at| Some(self.overrides.get(at)?.1));
        special.unwrap_or(self.bound)
    }

    /// The place of the first override that fits.
    pub(super) fn override_of(&self, subject: &Subject<'_>) -> Option<usize> {
        let mut overrides = self.overrides.iter();
        overrides.position(|(selector, _)| selector.fits(subject))
    }
}

impl Selector {
    pub(super) fn fits(&self, subject: &Subject<'_>) -> bool {
        self.misfit(subject).is_none()
    }

    /// What of `subject` does not fit, first.
    pub(super) fn misfit(&self, subject: &Subject<'_>) -> Option<Dimension> {
        let one_of = |names: &[String], name: &str| names.is_empty() || names.iter().any(|one| one == name);
        let project = || {
            self.project.is_empty()
                || subject
                    .project
                    .is_some_and(|project| one_of(&self.project, project))
        };
        if !one_of(&self.key, subject.key) {
            Some(Dimension::Key)
        } else if !project() {
            Some(Dimension::Project)
        } else if !one_of(&self.org, subject.org) {
            Some(Dimension::Org)
        } else if !one_of(&self.tier, subject.tier) {
            Some(Dimension::Tier)
        } else if !self.model.is_empty() && !glob::fits_any(&self.model, subject.model) {
            Some(Dimension::Model)
        } else if !self.endpoint.is_empty() && !self.endpoint.contains(&subject.endpoint) {
            Some(Dimension::Endpoint)
        } else {
            None
        }
    }

    /// The dimensions that it asks about.
    pub(super) fn asks(&self) -> impl Iterator<Item = Dimension> {
        [
            (Dimension::Key, self.key.is_empty()),
            (Dimension::Project, self.project.is_empty()),
            (Dimension::Org, self.org.is_empty()),
            (Dimension::Tier, self.tier.is_empty()),
            (Dimension::Model, self.model.is_empty()),
            (Dimension::Endpoint, self.endpoint.is_empty()),
        ]
        .into_iter()
        .filter_map(|(dimension, unasked)| (!unasked).then_some(dimension))
    }
}

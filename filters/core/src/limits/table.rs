//! The rows of the table, compiled, and which of them cover a request.

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::amounts::Count;
use super::subject::{Dimension, Per, Subject};
use crate::bound::{Bound, Bounds, CAP, Overrides};
use crate::endpoint::Endpoint;
use crate::glob;

/// All limits: those of the configuration, and behind them the caps.
#[derive(Debug, Clone, Default)]
pub struct Table {
    pub(super) rows: Vec<Row>,
    /// Rows with one `per` share a record.
    pub(super) groups: Vec<Group>,
    /// Rows of the fleet, by their places.
    pub(super) fleet: Vec<usize>,
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
    /// How much, but for whom an override names. `None` limits only whose bound is in the directory: a cap.
    pub bound: Option<Bound>,
    /// What it does with a request that is over.
    pub mode: Mode,
    /// What it does when the store fails, or the fleet can't be asked for long.
    pub on_error: OnError,
    /// Whom it counts for.
    pub place: Place,
    /// How it is announced to those whom no override names.
    pub(super) policy: String,
    /// In the store: a hash of name and count.
    pub(super) id: u64,
    pub(super) when: Selector,
    pub(super) overrides: Vec<(Selector, Bound)>,
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// The request passes without being counted.
    Allow,
    /// The request is refused.
    Deny,
}

/// Whom a row counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// All workers of this Envoy.
    Local,
    /// All Envoys of the fleet, each by its share.
    Fleet,
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

    /// All rows, in the order of the configuration, and the caps.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The table of these rows and of the caps.
    pub(super) fn new(mut rows: Vec<Row>) -> Self {
        rows.extend([Dimension::Org, Dimension::Key].map(Row::cap));
        let (mut groups, mut fleet) = (Vec::<Group>::new(), Vec::new());
        for (at, row) in rows.iter().enumerate() {
            if row.place == Place::Fleet {
                fleet.push(at);
                continue;
            }
            match groups.iter_mut().find(|group| group.per == row.per) {
                Some(group) => group.rows.push(at),
                None => groups.push(Group {
                    per: row.per,
                    rows: vec![at],
                }),
            }
        }
        Self { rows, groups, fleet }
    }

    /// The rows of a group that cover `subject`.
    pub(super) fn hits(&self, group: &Group, subject: &Subject<'_>) -> impl Iterator<Item = Hit<'_>> {
        self.covering(&group.rows, subject)
    }

    /// The rows of the fleet that cover `subject`.
    pub(super) fn fleet_hits(&self, subject: &Subject<'_>) -> impl Iterator<Item = Hit<'_>> {
        self.covering(&self.fleet, subject)
    }

    fn covering(&self, places: &[usize], subject: &Subject<'_>) -> impl Iterator<Item = Hit<'_>> {
        let rows = places.iter().filter_map(|at| Some((*at, self.rows.get(*at)?)));
        rows.filter(|(_, row)| row.when.fits(subject))
            .filter_map(|(at, row)| {
                let bound = row.bound_for(subject)?;
                Some(Hit { at, row, bound })
            })
    }

    /// Whether a row that is always in force has this id. A cap is not: what it counted goes when it has leaked.
    pub(super) fn knows(&self, id: u64) -> bool {
        self.rows.iter().any(|row| row.id == id && row.bound.is_some())
    }
}

impl Row {
    /// A cap of each organization, or of each key.
    fn cap(whose: Dimension) -> Self {
        let count = Count::Requests;
        Self {
            name: CAP.to_owned(),
            per: Per::default().with(whose).unwrap_or_default(),
            count,
            bound: None,
            mode: Mode::Enforce,
            on_error: OnError::Deny,
            place: Place::Local,
            policy: String::new(),
            id: id(CAP, count),
            when: Selector::default(),
            overrides: Vec::new(),
        }
    }

    /// What it allows `subject`: what the directory has for it, else the first override that fits, else its own.
    pub fn bound_for(&self, subject: &Subject<'_>) -> Option<Bound> {
        self.in_directory(subject.overrides).or_else(|| {
            let special = self.override_of(subject).and_then(|at| self.overrides.get(at));
            special.map_or(self.bound, |(_, bound)| Some(*bound))
        })
    }

    /// The place of the first override of the table that fits.
    pub(super) fn override_of(&self, subject: &Subject<'_>) -> Option<usize> {
        let mut overrides = self.overrides.iter();
        overrides.position(|(selector, _)| selector.fits(subject))
    }

    /// The bound that the directory has for this row: the key's where keys are told apart, else the organization's.
    /// Requests that share a state agree on it, so a row that several organizations share has none.
    pub(super) fn in_directory(&self, Overrides { org, key }: &Overrides) -> Option<Bound> {
        if (org.is_none() && key.is_none()) || self.per.is_shared() {
            return None;
        }
        let concurrent = self.count == Count::Concurrent;
        let fits = |bound: &Bound| matches!(bound, Bound::Max(_)) == concurrent;
        let of = |bounds: &Option<Bounds>| bounds.as_ref()?.of(&self.name).filter(fits);
        match self.per.has(Dimension::Key) {
            // An organization's cap is not one of each of its keys.
            true => of(key).or_else(|| self.bound.and_then(|_| of(org))),
            false => of(org),
        }
    }
}

/// A row that is renamed, or counts something else, starts anew.
pub(super) fn id(name: &str, count: Count) -> u64 {
    let hash = Sha256::new()
        .chain_update(count.name())
        .chain_update([0])
        .chain_update(name)
        .finalize();
    let mut id = [0; 8];
    id.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    u64::from_le_bytes(id)
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

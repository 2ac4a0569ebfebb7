//! Reads what changed from one version of a document to the next, a few keys at a time.
//!
//! Each part has to pass the checks that it has to pass in a document. Whether the tenants of keys exist can't be told
//! here: they may be in the directory in force ([`super::patch`]).

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::budgets::{self, RawBudgets};
use super::cursor::{Cursor, malformed_row, read};
use super::document::{RawKey, RawOrg, Tenants, Version, parse_hash};
use super::loader::Progress;
use super::record::ProfileId;
use super::table::Entry;
use super::traffic::RawTraffic;
use crate::budget::Budgets;
use crate::config::{ConfigError, Map, Object};
use crate::key::KeyHash;
use crate::traffic::Traffic;

/// The longest text of changes, in bytes: about a hundred thousand keys. Organizations are read in one piece, and what is
/// kept of the text takes as much again; a server with more to say sends the whole document.
pub const MAX_TEXT: usize = 16 << 20;
/// More errors than this are not collected.
const MAX_ERRORS: usize = 20;
/// What is read, as errors call it.
const WHAT: &str = "the list of changes";

/// Changes that passed every check that needs nothing else.
#[derive(Debug, Default)]
pub struct Delta {
    /// The version that they are to be made to.
    pub(super) after: String,
    /// Organizations that are new or replaced.
    pub(super) tenants: Tenants,
    /// Organizations that are gone.
    pub(super) gone: BTreeSet<String>,
    /// Keys that are new or replaced; their records are in `records`.
    pub(super) keys: BTreeMap<KeyHash, Entry>,
    pub(super) records: Vec<u8>,
    /// Keys that are gone.
    pub(super) removed: BTreeSet<KeyHash>,
    /// Whose the keys are, each with the first row that says so.
    pub(super) owners: BTreeMap<Owner, usize>,
    /// What is out of use, in the place of what was; `None` where that did not change.
    pub(super) traffic: Option<Traffic>,
    /// Every budget, in the place of those that were; `None` where none changed.
    pub(super) budgets: Option<Budgets>,
}

/// An organization, and perhaps a project, by name.
pub(super) type Owner = (String, Option<String>);

impl Delta {
    /// The version that they are to be made to.
    pub fn after(&self) -> &str {
        &self.after
    }
}

/// Changes on their way to a [`Delta`].
pub struct DeltaLoader {
    body: Vec<u8>,
    state: State,
}

impl DeltaLoader {
    /// Starts on a text.
    pub fn new(body: Vec<u8>) -> Self {
        Self {
            body,
            state: State::default(),
        }
    }

    /// Does about as much work as reading `keys` keys takes.
    pub fn step(mut self, keys: usize) -> Progress<Self, Delta> {
        let state = &mut self.state;
        for _ in 0..keys {
            if let Err(error) = state.next(&self.body) {
                state.errors.push(error);
                return Progress::Refused(self.state.errors);
            }
            if state.stage == Stage::Done || state.errors.len() >= MAX_ERRORS {
                break;
            }
        }
        match (state.errors.is_empty(), state.stage) {
            (true, Stage::Done) => Progress::Done(self.state.delta),
            (false, Stage::Done) => Progress::Refused(self.state.errors),
            (false, _) if self.state.errors.len() >= MAX_ERRORS => Progress::Refused(self.state.errors),
            _ => Progress::More(self),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    #[default]
    Top,
    Keys(usize),
    Removed(usize),
    Done,
}

/// Errors that a method returns end the reading; those it pushes let it go on, to report more of them.
#[derive(Default)]
struct State {
    stage: Stage,
    cursor: Cursor,
    given: BTreeSet<&'static str>,
    /// Ids of the keys.
    ids: BTreeSet<String>,
    delta: Delta,
    errors: Vec<ConfigError>,
}

impl State {
    fn next(&mut self, body: &[u8]) -> Result<(), ConfigError> {
        match self.stage {
            Stage::Top => self.top(body),
            Stage::Keys(row) => self.key(row, body),
            Stage::Removed(row) => self.removed(row, body),
            Stage::Done => Ok(()),
        }
    }

    /// Reads the next member of the top level, or its end.
    fn top(&mut self, body: &[u8]) -> Result<(), ConfigError> {
        let Some(name) = self.cursor.member(body, WHAT)? else {
            self.end();
            return Ok(());
        };
        const MEMBERS: [&str; 7] = [
            "version",
            "after",
            "orgs",
            "keys",
            "removed_keys",
            "traffic",
            "budgets",
        ];
        let Some(known) = MEMBERS.into_iter().find(|known| **known == name) else {
            let problem = "unknown field, expected `version`, `after`, `orgs`, `keys`, `removed_keys`, `traffic` or `budgets`";
            return Err(ConfigError::new(name, problem));
        };
        if !self.given.insert(known) {
            return Err(ConfigError::new(name, "is given twice"));
        }
        match known {
            "version" => {
                let version: Version = self.cursor.value(body, known)?;
                self.errors.extend(version.check().err());
            }
            "after" => self.delta.after = self.cursor.value(body, known)?,
            "orgs" => {
                let orgs = self.cursor.value(body, known)?;
                self.orgs(orgs);
            }
            "traffic" => {
                let Object(traffic): Object<RawTraffic> = self.cursor.value(body, known)?;
                self.delta.traffic = Some(traffic.check(&mut self.errors));
            }
            "budgets" => {
                let budgets: RawBudgets = self.cursor.value(body, known)?;
                self.delta.budgets = Some(budgets::check(budgets, &mut self.errors));
            }
            list => {
                self.cursor.expect(body, b'[', list)?;
                self.stage = if list == "keys" {
                    Stage::Keys(0)
                } else {
                    Stage::Removed(0)
                };
            }
        }
        Ok(())
    }

    fn orgs(&mut self, Map(orgs): Map<Option<Object<RawOrg>>>) {
        let mut given = BTreeMap::new();
        for (name, org) in orgs {
            match org {
                Some(org) => drop(given.insert(name, org)),
                None => drop(self.delta.gone.insert(name)),
            }
        }
        self.delta.tenants = Tenants::check(Map(given), &mut self.errors);
    }

    /// Reads one row of `keys`, or its end.
    fn key(&mut self, row: usize, body: &[u8]) -> Result<(), ConfigError> {
        let path = || format!("keys[{row}]");
        self.rows(
            row,
            body,
            path,
            Stage::Keys,
            |state, Object(key): Object<RawKey<'_>>| state.add(&key, row),
        )
    }

    /// Reads one row of `removed_keys`, or its end.
    fn removed(&mut self, row: usize, body: &[u8]) -> Result<(), ConfigError> {
        let path = || format!("removed_keys[{row}]");
        self.rows(row, body, path, Stage::Removed, |state, hash: String| {
            let hash = parse_hash(&hash).map_err(|error| vec![error])?;
            match state.delta.removed.insert(hash) {
                true => Ok(()),
                false => Err(vec![ConfigError::new("", "is given twice")]),
            }
        })
    }

    fn rows<'de, T: Deserialize<'de>>(
        &mut self,
        row: usize,
        body: &'de [u8],
        path: impl Fn() -> String,
        stage: fn(usize) -> Stage,
        take: impl FnOnce(&mut Self, T) -> Result<(), Vec<ConfigError>>,
    ) -> Result<(), ConfigError> {
        if !self.cursor.row(body, row, &path, WHAT)? {
            self.stage = Stage::Top;
            return Ok(());
        }
        let rest = self.cursor.rest(body);
        let used = match read::<T>(rest) {
            Ok((value, used)) => {
                let wrong = take(self, value).err().into_iter().flatten();
                self.errors.extend(wrong.map(|error| error.under(&path())));
                used
            }
            Err(_) => {
                let (error, used) = malformed_row::<T>(rest, &path())?;
                self.errors.extend(error);
                used
            }
        };
        self.cursor.at += used;
        self.stage = stage(row + 1);
        Ok(())
    }

    fn add(&mut self, key: &RawKey<'_>, row: usize) -> Result<(), Vec<ConfigError>> {
        let Delta {
            keys,
            records,
            owners,
            ..
        } = &mut self.delta;
        let at = records.len();
        let find = |org: &str, project: Option<&str>| {
            owners
                .entry((org.to_owned(), project.map(str::to_owned)))
                .or_insert(row);
            Ok(ProfileId::of(org, project))
        };
        let (hash, _) = key.compile(find, records)?;
        let entry = Entry::behind(at, records, hash).map_err(|error| vec![error])?;
        let twice = |what: &str| Err(vec![ConfigError::new(what, "is given twice")]);
        if keys.insert(hash, entry).is_some() {
            return twice("sha256");
        }
        if !self.ids.insert(key.id().to_owned()) {
            return twice("id");
        }
        Ok(())
    }

    fn end(&mut self) {
        self.stage = Stage::Done;
        for name in ["version", "after"] {
            if !self.given.contains(name) {
                self.errors
                    .push(ConfigError::new("", format!("missing field `{name}`")));
            }
        }
        let both = self
            .delta
            .keys
            .keys()
            .filter(|hash| self.delta.removed.contains(hash));
        if both.count() > 0 {
            let problem = "has a key that is in `keys` too";
            self.errors.push(ConfigError::new("removed_keys", problem));
        }
    }
}

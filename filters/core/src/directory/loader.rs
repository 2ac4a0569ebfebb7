//! Reads a directory document a few keys at a time, so that a million of them never hold a thread for long.
//!
//! The document is JSON. `keys` may stand before `orgs` (a YAML front end that sorts its maps puts it there);
//! it is then stepped over first and read afterwards. Nothing of a document counts until all of it passed.

use serde::de::IgnoredAny;

use super::budgets::{self, RawBudgets};
use super::cursor::{Cursor, malformed_row, read};
use super::document::{RawKey, RawOrg, Tenants, Version};
use super::record::{KeyRecord, ProfileId};
use super::table::{Compiled, Entry, PARTS};
use super::traffic::RawTraffic;
use crate::config::{ConfigError, Map, Object};

/// More errors than this are not collected: the document is broken, and the log is for people.
const MAX_ERRORS: usize = 20;

/// What is read, as errors call it.
const WHAT: &str = "the document";

/// A document on its way to a [`Compiled`] directory.
pub struct Loader {
    body: Vec<u8>,
    state: State,
}

/// How far a piece of work is that is done in small steps.
pub enum Progress<Work = Loader, Done = Compiled> {
    /// There is more to do.
    More(Work),
    /// All of it passed.
    Done(Done),
    /// It is refused whole, for these reasons.
    Refused(Vec<ConfigError>),
}

impl Loader {
    /// Starts on a document.
    pub fn new(body: Vec<u8>) -> Self {
        Self {
            body,
            state: State::default(),
        }
    }

    /// Reads all of a document at once.
    pub fn load(body: Vec<u8>) -> Result<Compiled, Vec<ConfigError>> {
        let mut loader = Self::new(body);
        loop {
            loader = match loader.step(usize::MAX) {
                Progress::More(loader) => loader,
                Progress::Done(directory) => return Ok(directory),
                Progress::Refused(errors) => return Err(errors),
            };
        }
    }

    /// Does about as much work as reading `keys` keys takes.
    pub fn step(mut self, keys: usize) -> Progress {
        let state = &mut self.state;
        let mut more = true;
        let mut done = 0_usize;
        while more && done < keys {
            let (next, cost) = match state.stage {
                Stage::Top => (state.top(&self.body), 1),
                Stage::Keys => (state.key(&self.body), 1),
                // A part of a million keys is 4,000 of them; sorting one costs about as much as reading 400.
                Stage::Sort(part) => (state.sort(part, &self.body), 400),
                Stage::Done => (Ok(()), 1),
            };
            if let Err(error) = next {
                state.errors.push(error);
                more = false;
            }
            more = more && state.errors.len() < MAX_ERRORS && state.stage != Stage::Done;
            done += cost;
        }
        match (more, self.state.errors.is_empty()) {
            (true, _) => Progress::More(self),
            (false, true) => Progress::Done(self.state.compiled),
            (false, false) => Progress::Refused(self.state.errors),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    #[default]
    Top,
    Keys,
    Sort(usize),
    Done,
}

/// Errors that a method returns end the reading; those it pushes let it go on, to report more of them.
#[derive(Default)]
struct State {
    stage: Stage,
    cursor: Cursor,
    version: bool,
    traffic: bool,
    budgets: bool,
    tenants: Option<Tenants>,
    /// Where `keys` begins, and whether its rows are only stepped over for now.
    keys_at: Option<usize>,
    stepping_over: bool,
    /// Where reading goes on after keys that were read belatedly.
    resume_at: Option<usize>,
    row: usize,
    /// Ids by a hash of them, to find those given twice.
    ids: Vec<Vec<(u64, Entry)>>,
    compiled: Compiled,
    errors: Vec<ConfigError>,
}

impl State {
    /// Reads the next member of the document's top level, or its end.
    fn top(&mut self, body: &[u8]) -> Result<(), ConfigError> {
        if self.cursor.at == 0 {
            self.compiled.parts.resize_with(PARTS, Vec::new);
            self.ids.resize_with(PARTS, Vec::new);
        }
        let Some(name) = self.cursor.member(body, WHAT)? else {
            self.end();
            return Ok(());
        };
        match name.as_str() {
            "version" if !self.version => {
                let version: Version = self.cursor.value(body, "version")?;
                self.errors.extend(version.check().err());
                self.version = true;
            }
            "orgs" if self.tenants.is_none() => {
                let orgs: Map<Object<RawOrg>> = self.cursor.value(body, "orgs")?;
                self.tenants = Some(Tenants::check(orgs, &mut self.errors));
            }
            "keys" if self.keys_at.is_none() => {
                self.cursor.expect(body, b'[', "keys")?;
                self.keys_at = Some(self.cursor.at);
                self.stepping_over = self.tenants.is_none();
                self.stage = Stage::Keys;
            }
            "traffic" if !self.traffic => {
                let Object(traffic): Object<RawTraffic> = self.cursor.value(body, "traffic")?;
                self.compiled.traffic = traffic.check(&mut self.errors);
                self.traffic = true;
            }
            "budgets" if !self.budgets => {
                let budgets: RawBudgets = self.cursor.value(body, "budgets")?;
                self.compiled.budgets = budgets::check(budgets, &mut self.errors);
                self.budgets = true;
            }
            "version" | "orgs" | "keys" | "traffic" | "budgets" => {
                return Err(ConfigError::new(name, "is given twice"));
            }
            _ => {
                return Err(ConfigError::new(
                    name,
                    "unknown field, expected `version`, `orgs`, `keys`, `traffic` or `budgets`",
                ));
            }
        }
        Ok(())
    }

    /// Reads one row of `keys`, or its end.
    fn key(&mut self, body: &[u8]) -> Result<(), ConfigError> {
        let path = format_path(self.row);
        if !self.cursor.row(body, self.row, &path, WHAT)? {
            self.end_of_keys();
            return Ok(());
        }
        let row = self.cursor.rest(body);
        let read = match &self.tenants {
            Some(tenants) if !self.stepping_over => {
                read::<Object<RawKey<'_>>>(row).map(|(Object(key), used)| {
                    let compiled = self.compiled.add(&key, tenants, &mut self.ids);
                    self.errors.extend(
                        compiled
                            .err()
                            .into_iter()
                            .flatten()
                            .map(|error| error.under(&path())),
                    );
                    used
                })
            }
            _ => read::<IgnoredAny>(row).map(|(_, used)| used),
        };
        match read {
            Ok(used) => self.cursor.at += used,
            Err(_) => {
                let (error, used) = malformed_row::<Object<RawKey<'_>>>(row, &path())?;
                self.errors.extend(error);
                self.cursor.at += used;
            }
        }
        self.row += 1;
        Ok(())
    }

    fn end_of_keys(&mut self) {
        self.stage = Stage::Top;
        if let Some(resume) = self.resume_at.take() {
            self.cursor.at = resume;
            self.stage = Stage::Sort(0);
        }
    }

    /// After the closing brace: is all there?
    fn end(&mut self) {
        for (name, there) in [
            ("version", self.version),
            ("orgs", self.tenants.is_some()),
            ("keys", self.keys_at.is_some()),
        ] {
            if !there {
                self.errors
                    .push(ConfigError::new("", format!("missing field `{name}`")));
            }
        }
        if let Some(tenants) = &self.tenants {
            tenants.count(&mut self.compiled.census);
            self.compiled.set_profiles(tenants.profiles(), &mut self.errors);
        }
        self.stage = Stage::Sort(0);
        if self.stepping_over
            && let Some(keys_at) = self.keys_at
        {
            self.stepping_over = false;
            self.resume_at = Some(self.cursor.at);
            (self.cursor.at, self.row, self.stage) = (keys_at, 0, Stage::Keys);
        }
    }

    /// Sorts one part and looks for a hash or an id that is given twice in it.
    fn sort(&mut self, part: usize, _body: &[u8]) -> Result<(), ConfigError> {
        let records = &self.compiled.records;
        if let Some(entries) = self.compiled.parts.get_mut(part) {
            entries.sort_unstable();
            for pair in entries.windows(2) {
                if let [a, b] = pair
                    && a.hash == b.hash
                {
                    let said = format!(
                        "`{}` and `{}` have the same sha256",
                        id_of(records, a),
                        id_of(records, b)
                    );
                    self.errors.push(ConfigError::new("keys", said));
                }
            }
            entries.shrink_to_fit();
        }
        if let Some(ids) = self.ids.get_mut(part) {
            ids.sort_unstable();
            for pair in ids.windows(2) {
                if let [(a_hash, a), (b_hash, b)] = pair
                    && a_hash == b_hash
                    && id_of(records, a) == id_of(records, b)
                {
                    self.errors.push(ConfigError::new(
                        "keys",
                        format!("id `{}` is given twice", id_of(records, a)),
                    ));
                }
            }
            *ids = Vec::new();
        }
        self.stage = if part + 1 < PARTS {
            Stage::Sort(part + 1)
        } else {
            Stage::Done
        };
        Ok(())
    }
}

impl Compiled {
    fn add(
        &mut self,
        key: &RawKey<'_>,
        tenants: &Tenants,
        ids: &mut [Vec<(u64, Entry)>],
    ) -> Result<(), Vec<ConfigError>> {
        let at = self.records.len();
        let find = |org: &str, project: Option<&str>| tenants.find(org, project);
        let (hash, profile) = key.compile(find, &mut self.records)?;
        let entry = Entry::behind(at, &self.records, hash).map_err(|error| vec![error])?;
        let [first, ..] = *hash.as_bytes();
        if let Some(part) = self.parts.get_mut(usize::from(first)) {
            part.push(entry);
        }
        let id = ProfileId::of(key.id(), None).0;
        if let Some(part) = ids.get_mut((id % PARTS as u64) as usize) {
            part.push((id, entry));
        }
        self.census.add_key(profile);
        Ok(())
    }

    fn set_profiles(&mut self, mut profiles: Vec<(ProfileId, Vec<u8>)>, errors: &mut Vec<ConfigError>) {
        profiles.sort_unstable_by_key(|(id, _)| *id);
        if profiles
            .windows(2)
            .any(|pair| matches!(pair, [(a, _), (b, _)] if a == b))
        {
            errors.push(ConfigError::new(
                "orgs",
                "two projects share an internal id; rename one of them",
            ));
        }
        self.profiles = profiles;
    }
}

fn format_path(row: usize) -> impl Fn() -> String {
    move || format!("keys[{row}]")
}

fn id_of<'a>(records: &'a [u8], entry: &Entry) -> &'a str {
    let record = records.get(entry.at as usize..).unwrap_or_default();
    postcard::from_bytes::<KeyRecord<'_>>(record).map_or("?", |record| record.id)
}

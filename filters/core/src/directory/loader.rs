//! Reads a directory document a few keys at a time, so that a million of them never hold a thread for long.
//!
//! The document is JSON. `keys` may stand before `orgs` (a YAML front end that sorts its maps puts it there);
//! it is then stepped over first and read afterwards. Nothing of a document counts until all of it passed.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::document::{RawKey, RawOrg, Tenants};
use super::record::{KeyRecord, ProfileId};
use super::table::{Compiled, Entry, PARTS};
use crate::config::{ConfigError, Map, Object, problem};

/// More errors than this are not collected: the document is broken, and the log is for people.
const MAX_ERRORS: usize = 20;

/// A document on its way to a [`Compiled`] directory.
pub struct Loader {
    body: Vec<u8>,
    state: State,
}

/// How far a [`Loader`] is.
pub enum Progress {
    /// Call [`Loader::step`] again.
    More(Loader),
    /// All of it passed.
    Done(Compiled),
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
    at: usize,
    version: bool,
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
        let first = self.at == 0;
        if first {
            self.compiled.parts.resize_with(PARTS, Vec::new);
            self.ids.resize_with(PARTS, Vec::new);
            if self.peek(body).is_none() {
                return Err(ConfigError::new("", "the document is empty"));
            }
            self.expect(body, b'{', "")?;
        }
        match self.peek(body) {
            Some(b'}') => {
                self.at += 1;
                return self.end(body);
            }
            Some(b',') if !first => self.at += 1,
            _ if first => {}
            _ => {
                return Err(ConfigError::new(
                    "",
                    "expected `,` or `}` here: the document is cut short or malformed",
                ));
            }
        }
        let name: String = self.value(body, "")?;
        self.expect(body, b':', &name)?;
        match name.as_str() {
            "version" if !self.version => {
                let Version(version) = self.value(body, "version")?;
                if version != 1.0 {
                    self.errors.push(ConfigError::expected("version", version, "1"));
                }
                self.version = true;
            }
            "orgs" if self.tenants.is_none() => {
                let orgs: Map<Object<RawOrg>> = self.value(body, "orgs")?;
                self.compiled.orgs = orgs.0.len();
                self.tenants = Some(Tenants::check(orgs, &mut self.errors));
            }
            "keys" if self.keys_at.is_none() => {
                self.expect(body, b'[', "keys")?;
                self.keys_at = Some(self.at);
                self.stepping_over = self.tenants.is_none();
                self.stage = Stage::Keys;
            }
            "version" | "orgs" | "keys" => return Err(ConfigError::new(name, "is given twice")),
            _ => {
                return Err(ConfigError::new(
                    name,
                    "unknown field, expected `version`, `orgs` or `keys`",
                ));
            }
        }
        Ok(())
    }

    /// Reads one row of `keys`, or its end.
    fn key(&mut self, body: &[u8]) -> Result<(), ConfigError> {
        let path = format_path(self.row);
        match self.peek(body) {
            Some(b']') => {
                self.at += 1;
                self.end_of_keys();
                return Ok(());
            }
            Some(b',') if self.row > 0 => self.at += 1,
            _ if self.row == 0 => {}
            _ => {
                return Err(ConfigError::new(
                    path(),
                    "expected `,` or `]` here: the document is cut short or malformed",
                ));
            }
        }
        let row = body.get(self.at..).unwrap_or_default();
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
            Ok(used) => self.at += used,
            Err(_) => self.malformed_row(row, &path())?,
        }
        self.row += 1;
        Ok(())
    }

    /// Says what is wrong with a row and steps over it, if it is JSON at all.
    fn malformed_row(&mut self, row: &[u8], path: &str) -> Result<(), ConfigError> {
        let (_, used) = read::<IgnoredAny>(row).map_err(|error| ConfigError::new(path, problem(&error)))?;
        let row = row.get(..used).unwrap_or_default();
        let mut reader = serde_json::Deserializer::from_slice(row);
        if let Err(error) = serde_path_to_error::deserialize::<_, Object<RawKey<'_>>>(&mut reader) {
            let below = error.path().to_string();
            let below = if below == "." { String::new() } else { below };
            self.errors
                .push(ConfigError::new(below, problem(error.inner())).under(path));
        }
        self.at += used;
        Ok(())
    }

    fn end_of_keys(&mut self) {
        self.stage = Stage::Top;
        if let Some(resume) = self.resume_at.take() {
            self.at = resume;
            self.stage = Stage::Sort(0);
        }
    }

    /// After the closing brace: is all there, and is there no more?
    fn end(&mut self, body: &[u8]) -> Result<(), ConfigError> {
        if self.peek(body).is_some() {
            return Err(ConfigError::new("", "something follows the end of the document"));
        }
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
        let tenants = self.tenants.as_ref().map(Tenants::profiles);
        self.compiled
            .set_profiles(tenants.unwrap_or_default(), &mut self.errors);
        self.stage = Stage::Sort(0);
        if self.stepping_over
            && let Some(keys_at) = self.keys_at
        {
            self.stepping_over = false;
            self.resume_at = Some(self.at);
            (self.at, self.row, self.stage) = (keys_at, 0, Stage::Keys);
        }
        Ok(())
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

    fn peek(&mut self, body: &[u8]) -> Option<u8> {
        let rest = body.get(self.at..)?;
        let blank = rest.iter().take_while(|byte| b" \t\r\n".contains(byte)).count();
        self.at += blank;
        rest.get(blank).copied()
    }

    fn expect(&mut self, body: &[u8], byte: u8, path: &str) -> Result<(), ConfigError> {
        if self.peek(body) == Some(byte) {
            self.at += 1;
            return Ok(());
        }
        Err(ConfigError::new(
            path,
            format!("expected `{}` here", char::from(byte)),
        ))
    }

    fn value<'de, T: Deserialize<'de>>(&mut self, body: &'de [u8], path: &str) -> Result<T, ConfigError> {
        let rest = body.get(self.at..).unwrap_or_default();
        match read(rest) {
            Ok((value, used)) => {
                self.at += used;
                Ok(value)
            }
            Err(_) => Err(located::<T>(rest, path)),
        }
    }
}

/// The number 1, so far. A front end may write every number as a double.
struct Version(f64);

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

impl Compiled {
    fn add(
        &mut self,
        key: &RawKey<'_>,
        tenants: &Tenants,
        ids: &mut [Vec<(u64, Entry)>],
    ) -> Result<(), Vec<ConfigError>> {
        let at = self.records.len();
        let hash = key.compile(tenants, &mut self.records)?;
        let (Ok(len), Ok(at)) = (u16::try_from(self.records.len() - at), u32::try_from(at)) else {
            return Err(vec![ConfigError::new(
                "",
                "more models and networks than one key can have (64 kB)",
            )]);
        };
        let entry = Entry { hash, at, len };
        let [first, ..] = *hash.as_bytes();
        if let Some(part) = self.parts.get_mut(usize::from(first)) {
            part.push(entry);
        }
        let id = ProfileId::of(key.id(), None).0;
        if let Some(part) = ids.get_mut((id % PARTS as u64) as usize) {
            part.push((id, entry));
        }
        self.keys += 1;
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

/// One value at the start of `json`, and how many bytes it took.
fn read<'de, T: Deserialize<'de>>(json: &'de [u8]) -> Result<(T, usize), serde_json::Error> {
    let mut values = serde_json::Deserializer::from_slice(json).into_iter();
    match values.next() {
        Some(value) => value.map(|value| (value, values.byte_offset())),
        None => Err(serde::de::Error::custom("the document is cut short")),
    }
}

/// Why no `T` could be read here, with the path below `path`.
fn located<'de, T: Deserialize<'de>>(json: &'de [u8], path: &str) -> ConfigError {
    let mut reader = serde_json::Deserializer::from_slice(json);
    match serde_path_to_error::deserialize::<_, T>(&mut reader) {
        Ok(_) => ConfigError::new(path, "is malformed"),
        Err(error) => {
            let below = error.path().to_string();
            let below = if below == "." { String::new() } else { below };
            let error = ConfigError::new(below, problem(error.inner()));
            if path.is_empty() { error } else { error.under(path) }
        }
    }
}

//! Replays the trail, entry by entry: what it makes of nothing is what the database should hold, in each column that the
//! server acts on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use sqlx::any::AnyRow;
use sqlx::{Any, Row as _, Transaction};
use utoipa::ToSchema;

use crate::actors::Actors;
use crate::budget::Budget;
use crate::checkpoint::Checkpoint;
use crate::documents::{Cap, Document, Freeze, Key, Kind, Org, Project, Restriction, Token};
use crate::entry::{Change, Entry, chained};
use crate::problem::Problem;
use crate::store::{StoreError, hash_of};
use crate::unique;

/// What a look through the whole trail found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Verdict {
    /// How many entries there are.
    pub entries: i64,
    /// The last one's hash.
    pub hash: String,
    /// What is wrong; empty where nothing is.
    pub faults: Vec<Fault>,
}

/// Something that is wrong with a trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Fault {
    /// Number of the entry.
    pub seq: i64,
    /// What is wrong, in words.
    pub problem: String,
}

/// More faults than this are not told: one is enough.
const MOST_FAULTS: usize = 20;

/// Bytes of entries that are held at once, unless one alone is larger: that of an import is a thousand times another's.
const MOST_BYTES: i64 = 4 << 20;

/// A keyed digest, of a name or a document.
type Digest = [u8; 16];

/// An [`Entry`] whose changes are read one by one: together they take ten times their text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "that they can be read is all that is asked of some")]
struct Read<'a> {
    seq: i64,
    time: i64,
    actor: String,
    address: String,
    action: String,
    org: String,
    #[serde(default)]
    reason: Option<String>,
    #[serde(borrow)]
    changes: Vec<&'a RawValue>,
}

/// An object as the trail left it: 48 bytes with its name, as there may be millions.
struct Object {
    /// Of its document; where it was removed, of its last one.
    digest: Digest,
    seq: i64,
    revision: u32,
    gone: bool,
}

/// A walk along the trail.
pub(crate) struct Replay {
    /// The hash of the entry before.
    previous: String,
    seq: i64,
    entries: i64,
    /// By digests of their kinds and ids.
    objects: BTreeMap<Digest, Object>,
    digests: Digests,
    actors: Actors,
    /// The end as the database says it; `None` where it says none, or several.
    head: Option<(i64, String)>,
    faults: Vec<Fault>,
}

impl Replay {
    /// Before the first entry of a database's trail.
    pub(crate) async fn begin(name: &str, snapshot: &mut Transaction<'static, Any>) -> Result<Self, Problem> {
        let heads = sqlx::query("SELECT name, seq, hash FROM head")
            .fetch_all(&mut **snapshot)
            .await?;
        let mut replay = Self {
            previous: name.to_owned(),
            seq: 0,
            entries: 0,
            objects: BTreeMap::new(),
            digests: Digests::new()?,
            actors: Actors::default(),
            head: None,
            faults: Vec::new(),
        };
        match heads.as_slice() {
            [head] => {
                replay.previous = head.try_get("name")?;
                replay.head = Some((head.try_get("seq")?, head.try_get("hash")?));
            }
            _ => replay.fault(0, "the database does not say where the trail ends"),
        }
        if replay.previous != name {
            replay.fault(0, "the database's name was changed");
        }
        Ok(replay)
    }

    /// The last entry so far.
    pub(crate) fn seq(&self) -> i64 {
        self.seq
    }

    pub(crate) fn fault(&mut self, seq: i64, problem: &str) {
        if self.faults.len() < MOST_FAULTS {
            self.faults.push(Fault {
                seq,
                problem: problem.to_owned(),
            });
        }
    }

    /// The last entry so far is the one that these signed.
    pub(crate) fn compare(&mut self, checkpoints: Option<Vec<&Checkpoint>>) {
        for checkpoint in checkpoints.into_iter().flatten() {
            if checkpoint.hash != self.previous {
                self.fault(
                    checkpoint.seq,
                    "the entry is not the one that the checkpoint signed: the trail was written anew",
                );
            }
        }
    }

    /// The next entries; `None` at the end.
    pub(crate) async fn page(
        &self,
        snapshot: &mut Transaction<'static, Any>,
    ) -> Result<Option<Vec<AnyRow>>, Problem> {
        let sizes = sqlx::query(
            "SELECT seq, OCTET_LENGTH(entry) AS size FROM audit WHERE seq > $1 ORDER BY seq LIMIT 1000",
        )
        .bind(self.seq)
        .fetch_all(&mut **snapshot)
        .await?;
        let (mut last, mut bytes) = (self.seq, 0_i64);
        for row in &sizes {
            bytes = bytes.saturating_add(row.try_get("size")?);
            if bytes > MOST_BYTES && last != self.seq {
                break;
            }
            last = row.try_get("seq")?;
        }
        if sizes.is_empty() {
            return Ok(None);
        }
        let rows =
            sqlx::query("SELECT seq, org, entry, hash FROM audit WHERE seq > $1 AND seq <= $2 ORDER BY seq")
                .bind(self.seq)
                .bind(last)
                .fetch_all(&mut **snapshot)
                .await?;
        Ok(Some(rows))
    }

    /// Takes an entry.
    pub(crate) fn entry(&mut self, row: &AnyRow) -> Result<(), Problem> {
        let (seq, text, hash): (i64, String, String) =
            (row.try_get("seq")?, row.try_get("entry")?, row.try_get("hash")?);
        let next = self.seq.saturating_add(1);
        if seq != next {
            self.fault(
                seq,
                &format!("entry {next} should come before it, and is not there"),
            );
        }
        if chained(&self.previous, &text) != hash {
            self.fault(
                seq,
                "its hash does not fit: it, or what is before it, was changed",
            );
        }
        match serde_json::from_str::<Read<'_>>(&text) {
            Ok(entry) => {
                if entry.seq != seq {
                    self.fault(seq, "it is another entry, moved here");
                }
                if row.try_get::<String, _>("org").ok().as_ref() != Some(&entry.org) {
                    self.fault(seq, "its `org` is not what the entry says");
                }
                if let Some(problem) = self
                    .actors
                    .judge(&entry.actor, &entry.action, &entry.org, entry.time)
                {
                    self.fault(seq, &problem);
                }
                for change in entry.changes {
                    match unique::parse(change.get()).and_then(serde_json::from_value) {
                        Ok(change) => {
                            self.actors.take(&change);
                            self.change(seq, change);
                        }
                        Err(error) => self.fault(seq, &format!("it cannot be read: {error}")),
                    }
                }
            }
            Err(error) => self.fault(seq, &format!("it cannot be read: {error}")),
        }
        self.previous = hash;
        self.seq = seq;
        self.entries += 1;
        Ok(())
    }

    fn change(&mut self, seq: i64, change: Change) {
        let (kind, id) = (change.kind, change.id);
        let name = self.digests.of_name(kind.name(), &id);
        let before = change.before.map(|document| self.digests.of(document));
        let after = change.after.map(|document| self.digests.of(document));
        let known = self.objects.get(&name);
        let revision = known.map_or(0, |known| known.revision);
        let was = known.map(|known| (!known.gone).then_some(known.digest));
        // One that was removed never comes back, so its `before` fits nothing.
        if was != before.map(Some) {
            let noun = kind.noun();
            self.fault(
                seq,
                &format!("it found the {noun} `{id}` otherwise than the trail had left it"),
            );
        }
        let Some(digest) = after.or(before) else {
            return self.fault(seq, "it changes nothing into nothing");
        };
        self.objects.insert(
            name,
            Object {
                digest,
                revision: revision.saturating_add(1),
                seq,
                gone: after.is_none(),
            },
        );
    }

    /// After the last entry: whether the trail ends there, and what is stored is what it made.
    pub(crate) async fn end(mut self, snapshot: &mut Transaction<'static, Any>) -> Result<Verdict, Problem> {
        if let Some((seq, hash)) = self.head.take() {
            if seq != self.seq {
                self.fault(
                    self.seq,
                    "the trail does not end where it is said to end: it was cut",
                );
            } else if hash != self.previous {
                self.fault(
                    self.seq,
                    "the trail's last hash is not the one that it is said to end with",
                );
            }
        }
        // Pages go by `seq` and by id; rows that stand outside of those would not be seen.
        if count("SELECT COUNT(*) AS n FROM audit", snapshot).await? != self.entries {
            self.fault(self.seq, "there are entries beside the trail");
        }
        let seen = self.state(snapshot).await?;
        if count("SELECT COUNT(*) AS n FROM objects", snapshot).await? != seen {
            self.fault(self.seq, "there are objects beside those of the trail");
        }
        Ok(Verdict {
            entries: self.entries,
            hash: self.previous,
            faults: self.faults,
        })
    }

    /// Compares what is stored with what the trail made; how many objects there are.
    async fn state(&mut self, snapshot: &mut Transaction<'static, Any>) -> Result<i64, Problem> {
        let mut seen = 0;
        let mut after = (String::new(), String::new());
        loop {
            let rows = sqlx::query(
                "SELECT kind, id, org, sha256, revision, seq, gone, in_force, document FROM objects \
                 WHERE (kind, id) > ($1, $2) ORDER BY kind, id LIMIT 1000",
            )
            .bind(after.0.clone())
            .bind(after.1.clone())
            .fetch_all(&mut **snapshot)
            .await?;
            if rows.is_empty() {
                break;
            }
            for row in rows {
                seen += 1;
                after = (row.try_get("kind")?, row.try_get("id")?);
                let (kind, id) = &after;
                match self.objects.remove(&self.digests.of_name(kind, id)) {
                    None => self.fault(0, &format!("the {kind} `{id}` is there, and not in the trail")),
                    Some(object) => {
                        if let Some(column) = object.differs(&self.digests, kind, id, &row) {
                            let problem =
                                format!("`{column}` of the {kind} `{id}` is not what the trail says");
                            self.fault(object.seq, &problem);
                        }
                    }
                }
            }
        }
        let mut left: Vec<i64> = self.objects.values().map(|object| object.seq).collect();
        left.sort_unstable();
        left.dedup();
        left.truncate(MOST_FAULTS);
        for seq in left {
            self.missing(seq, snapshot).await?;
        }
        Ok(seen)
    }

    /// Objects that an entry wrote last, and that are not there.
    async fn missing(&mut self, seq: i64, snapshot: &mut Transaction<'static, Any>) -> Result<(), Problem> {
        let row = sqlx::query("SELECT entry FROM audit WHERE seq = $1")
            .bind(seq)
            .fetch_one(&mut **snapshot)
            .await?;
        let entry: Option<Entry> = serde_json::from_str(&row.try_get::<String, _>("entry")?).ok();
        let mut is_named = false;
        for change in entry.into_iter().flat_map(|entry| entry.changes) {
            let (kind, id) = (change.kind.name(), change.id);
            if self.objects.remove(&self.digests.of_name(kind, &id)).is_some() {
                self.fault(
                    seq,
                    &format!("the {kind} `{id}` is in the trail, and is not there"),
                );
                is_named = true;
            }
        }
        if !is_named {
            self.fault(seq, "an object that it wrote is not there");
        }
        Ok(())
    }
}

impl Object {
    /// The first column of a row that does not follow from the trail. One that can't be read follows from nothing.
    fn differs(&self, digests: &Digests, kind: &str, id: &str, row: &AnyRow) -> Option<&'static str> {
        let number = |column: &str| row.try_get::<i64, _>(column).ok();
        let text = |column: &str| row.try_get::<String, _>(column).ok();
        let document = text("document").filter(|document| {
            let value = unique::parse(document);
            value.is_ok_and(|value| digests.of(value) == self.digest)
        });
        let Some(derived) = document.and_then(|document| Derived::of(kind, &document)) else {
            return Some("document");
        };
        let columns = [
            ("id", id == derived.id),
            ("org", text("org") == Some(derived.org)),
            ("sha256", row.try_get("sha256").ok() == Some(derived.sha256)),
            ("revision", number("revision") == Some(self.revision.into())),
            ("seq", number("seq") == Some(self.seq)),
            ("gone", number("gone") == Some(i64::from(self.gone))),
            (
                "in_force",
                number("in_force") == Some(i64::from(derived.in_force && !self.gone)),
            ),
        ];
        let differing = columns.into_iter().find(|(_, fits)| !fits);
        differing.map(|(column, _)| column)
    }
}

/// Columns that follow from a document.
struct Derived {
    id: String,
    org: String,
    sha256: Option<Vec<u8>>,
    in_force: bool,
}

impl Derived {
    fn of(kind: &str, document: &str) -> Option<Self> {
        let kind: Kind = serde_json::from_value(kind.into()).ok()?;
        match kind {
            Kind::Org => Self::from::<Org>(document),
            Kind::Project => Self::from::<Project>(document),
            Kind::Key => Self::from::<Key>(document),
            Kind::Token => Self::from::<Token>(document),
            Kind::Freeze => Self::from::<Freeze>(document),
            Kind::Cap => Self::from::<Cap>(document),
            Kind::Restriction => Self::from::<Restriction>(document),
            Kind::Budget => Self::from::<Budget>(document),
        }
    }

    fn from<D: Document>(document: &str) -> Option<Self> {
        let document: D = serde_json::from_str(document).ok()?;
        Some(Self {
            id: document.id(),
            org: document.org().to_owned(),
            sha256: hash_of(&document).ok()?,
            in_force: document.in_force(),
        })
    }
}

async fn count(statement: &'static str, snapshot: &mut Transaction<'static, Any>) -> Result<i64, Problem> {
    Ok(sqlx::query(statement)
        .fetch_one(&mut **snapshot)
        .await?
        .try_get("n")?)
}

/// Digests under a key that is new for each look: nobody can have prepared two documents that are taken for one another, so
/// half of a SHA-256 is enough.
struct Digests(Sha256);

impl Digests {
    fn new() -> Result<Self, Problem> {
        // A whole block, which is worked in once.
        let mut key = [0; 64];
        getrandom::fill(&mut key)
            .map_err(|error| Problem::unavailable(StoreError::Random(error).to_string()))?;
        Ok(Self(Sha256::new_with_prefix(key)))
    }

    /// Of an object's kind and id.
    fn of_name(&self, kind: &str, id: &str) -> Digest {
        Self::half(
            self.0
                .clone()
                .chain_update(kind)
                .chain_update([0])
                .chain_update(id),
        )
    }

    /// Of a document, whatever the order of its members.
    fn of(&self, mut document: Value) -> Digest {
        document.sort_all_objects();
        Self::half(self.0.clone().chain_update(document.to_string()))
    }

    fn half(digest: Sha256) -> Digest {
        let mut half = Digest::default();
        for (to, from) in half.iter_mut().zip(digest.finalize()) {
            *to = from;
        }
        half
    }
}

//! The trail: who changed what, when, from where and why. Each entry's hash covers the one before, so that an entry that
//! was edited, dropped or moved is found. A checkpoint, signed and kept elsewhere, finds a trail that was cut or written
//! anew as a whole.

use std::collections::BTreeMap;

use ed25519_dalek::{SigningKey, VerifyingKey};
use futures_util::TryStreamExt as _;
use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use utoipa::ToSchema;

use crate::checkpoint::Checkpoint;
use crate::entry::Entry;
use crate::problem::Problem;
use crate::replay::{Replay, Verdict};
use crate::store::Store;

/// Entries that are shown at once have so many bytes at most: that of an import is large.
const MAX_BYTES: usize = 4 << 20;

/// As the index has it.
pub(crate) const TRAIL_OF_ORG: &str =
    "SELECT entry, hash FROM audit WHERE seq > $1 AND org = $3 ORDER BY seq LIMIT $2";

/// An entry with its hash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HashedEntry {
    /// The entry.
    #[serde(flatten)]
    pub entry: Entry,
    /// SHA-256 of the hash before it (of the first, the database's name), a line break, and the entry as it is stored; absent
    /// where the caller is confined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
}

/// Which part of the trail.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part<'a> {
    /// All of it: what is of no organization too, such as tokens.
    Whole,
    /// Of all organizations.
    Orgs,
    /// Of one.
    Org(&'a str),
}

impl Store {
    /// Entries of the trail behind `after`.
    pub(crate) async fn trail(
        &self,
        part: Part<'_>,
        after: i64,
        limit: i64,
    ) -> Result<Vec<HashedEntry>, Problem> {
        let statement = match part {
            Part::Whole => "SELECT entry, hash FROM audit WHERE seq > $1 ORDER BY seq LIMIT $2",
            Part::Orgs => "SELECT entry, hash FROM audit WHERE seq > $1 AND org <> '' ORDER BY seq LIMIT $2",
            Part::Org(_) => TRAIL_OF_ORG,
        };
        let query = sqlx::query(statement).bind(after).bind(limit);
        let mut rows = match part {
            Part::Org(org) => query.bind(org),
            Part::Whole | Part::Orgs => query,
        }
        .fetch(self.pool());
        let mut entries = Vec::new();
        let mut bytes = 0;
        while let Some(row) = rows.try_next().await? {
            let text: String = row.try_get("entry")?;
            bytes += text.len();
            // At least one, or nobody would get further.
            if bytes > MAX_BYTES && !entries.is_empty() {
                break;
            }
            let entry = serde_json::from_str(&text).map_err(|error| {
                Problem::unavailable(format!("an entry of the trail cannot be read: {error}"))
            })?;
            entries.push(HashedEntry {
                entry,
                hash: Some(row.try_get("hash")?),
            });
        }
        Ok(entries)
    }

    /// Signs where the trail ends now.
    pub(crate) async fn checkpoint(&self, key: &SigningKey) -> Result<Checkpoint, Problem> {
        let head = sqlx::query("SELECT seq, hash FROM head")
            .fetch_one(self.pool())
            .await?;
        let (seq, hash) = (head.try_get("seq")?, head.try_get("hash")?);
        Ok(Checkpoint::signed(self.name(), seq, hash, key))
    }

    /// Looks through the whole trail, and whether what is stored is what it says. `checkpoints` were kept elsewhere, and
    /// are good where `key` signed them.
    pub async fn verify(
        &self,
        checkpoints: &[Checkpoint],
        key: Option<&VerifyingKey>,
    ) -> Result<Verdict, Problem> {
        // Of one moment: what is written meanwhile is not in it.
        let mut snapshot = self.snapshot().await?;
        let mut replay = Replay::begin(self.name(), &mut snapshot).await?;
        for altered in self.altered_tables(&mut snapshot).await? {
            replay.fault(0, &altered);
        }
        let mut expected: BTreeMap<i64, Vec<&Checkpoint>> = BTreeMap::new();
        for checkpoint in checkpoints {
            expected.entry(checkpoint.seq).or_default().push(checkpoint);
            if checkpoint.database != self.name() {
                replay.fault(checkpoint.seq, "the checkpoint is of another database");
            }
            if !checkpoint.is_signed(key) {
                replay.fault(checkpoint.seq, "the checkpoint's signature does not hold");
            }
        }
        replay.compare(expected.remove(&0));
        while let Some(rows) = replay.page(&mut snapshot).await? {
            for row in rows {
                replay.entry(&row)?;
                replay.compare(expected.remove(&replay.seq()));
            }
        }
        for seq in expected.into_keys() {
            replay.fault(
                seq,
                "a checkpoint signed this entry, and it is not there: the trail was cut",
            );
        }
        replay.end(&mut snapshot).await
    }
}

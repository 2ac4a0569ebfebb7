//! The trail: who changed what, when, from where and why. Each entry's hash covers the one before, so that an entry that
//! was edited, dropped or moved is found. A checkpoint, signed and kept elsewhere, finds a trail that was cut or written
//! anew as a whole.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use utoipa::ToSchema;

use crate::entry::Entry;
use crate::problem::Problem;
use crate::replay::Replay;
use crate::store::Store;
use crate::time;

/// An entry with its hash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Linked {
    /// The entry.
    #[serde(flatten)]
    pub entry: Entry,
    /// SHA-256 of the hash before it (of the first, the database's name), a line break, and the entry as it is stored.
    pub hash: String,
}

/// The trail's end at some time, signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Checkpoint {
    /// Which database.
    pub database: String,
    /// Its last entry.
    pub seq: i64,
    /// That entry's hash.
    pub hash: String,
    /// When it was signed: milliseconds since 1970.
    pub time: i64,
    /// Who can check it: an Ed25519 key in base64.
    pub public_key: String,
    /// The signature, in base64.
    pub signature: String,
}

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
    /// At which entry.
    pub seq: i64,
    /// What.
    pub problem: String,
}

impl Checkpoint {
    fn message(&self) -> String {
        format!(
            "tollgate checkpoint\n{}\n{}\n{}\n{}",
            self.database, self.seq, self.hash, self.time
        )
    }

    /// Whether it was signed by this key.
    fn is_by(&self, key: &VerifyingKey) -> bool {
        let bytes = BASE64.decode(&self.signature).ok();
        let signature = bytes.and_then(|bytes| Signature::from_slice(&bytes).ok());
        signature.is_some_and(|signature| key.verify_strict(self.message().as_bytes(), &signature).is_ok())
    }
}

/// Reads a public key in base64.
pub fn public_key(text: &str) -> Option<VerifyingKey> {
    let bytes: [u8; 32] = BASE64.decode(text.trim()).ok()?.try_into().ok()?;
    VerifyingKey::from_bytes(&bytes).ok()
}

/// The public key of a signing key, in base64.
pub fn public_key_text(key: &SigningKey) -> String {
    BASE64.encode(key.verifying_key().as_bytes())
}

impl Store {
    /// Entries of the trail behind `after`, of all organizations or of one.
    pub(crate) async fn trail(
        &self,
        org: Option<&str>,
        after: i64,
        limit: i64,
    ) -> Result<Vec<Linked>, Problem> {
        let rows = match org {
            None => {
                sqlx::query("SELECT entry, hash FROM audit WHERE seq > $1 ORDER BY seq LIMIT $2")
                    .bind(after)
                    .bind(limit)
                    .fetch_all(self.pool())
                    .await?
            }
            Some(org) => {
                sqlx::query("SELECT entry, hash FROM audit WHERE seq > $1 AND org = $3 ORDER BY seq LIMIT $2")
                    .bind(after)
                    .bind(limit)
                    .bind(org)
                    .fetch_all(self.pool())
                    .await?
            }
        };
        rows.iter()
            .map(|row| {
                let text: String = row.try_get("entry")?;
                let entry = serde_json::from_str(&text).map_err(|error| {
                    Problem::unavailable(format!("an entry of the trail cannot be read: {error}"))
                })?;
                Ok(Linked {
                    entry,
                    hash: row.try_get("hash")?,
                })
            })
            .collect()
    }

    /// Signs where the trail ends now.
    pub(crate) async fn checkpoint(&self, key: &SigningKey) -> Result<Checkpoint, Problem> {
        let head = sqlx::query("SELECT seq, hash FROM head")
            .fetch_one(self.pool())
            .await?;
        let mut checkpoint = Checkpoint {
            database: self.name().to_owned(),
            seq: head.try_get("seq")?,
            hash: head.try_get("hash")?,
            time: time::now(),
            public_key: public_key_text(key),
            signature: String::new(),
        };
        let signature = key.sign(checkpoint.message().as_bytes());
        checkpoint.signature = BASE64.encode(signature.to_bytes());
        Ok(checkpoint)
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
        let mut expected: BTreeMap<i64, Vec<&Checkpoint>> = BTreeMap::new();
        for checkpoint in checkpoints {
            expected.entry(checkpoint.seq).or_default().push(checkpoint);
            if checkpoint.database != self.name() {
                replay.fault(checkpoint.seq, "the checkpoint is of another database");
            }
            let by_key = key.map_or_else(|| public_key(&checkpoint.public_key), |key| Some(*key));
            if !by_key.is_some_and(|key| checkpoint.is_by(&key)) {
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

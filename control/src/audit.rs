//! The trail: who changed what, when, from where and why. Each entry's hash covers the one before, so that an entry that
//! was edited, dropped or moved is found. A checkpoint, signed and kept elsewhere, finds a trail that was cut or written
//! anew as a whole.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use sqlx::{Any, Row as _, Transaction};
use utoipa::ToSchema;

use crate::entry::{BEGINNING, Entry, chained};
use crate::problem::Problem;
use crate::store::Store;
use crate::time;

/// An entry with its hash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Linked {
    /// The entry.
    #[serde(flatten)]
    pub entry: Entry,
    /// SHA-256 of the hash before it, a line break, and the entry as it is stored.
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

/// More faults than this are not told: one is enough.
const MOST_FAULTS: usize = 20;

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
        let mut walk = Walk {
            previous: BEGINNING.to_owned(),
            ..Walk::default()
        };
        let expected: BTreeMap<i64, &Checkpoint> = checkpoints.iter().map(|one| (one.seq, one)).collect();
        for checkpoint in checkpoints {
            if checkpoint.database != self.name() {
                walk.fault(checkpoint.seq, "the checkpoint is of another database");
            }
            let by_key = key.map_or_else(|| public_key(&checkpoint.public_key), |key| Some(*key));
            if !by_key.is_some_and(|key| checkpoint.is_by(&key)) {
                walk.fault(checkpoint.seq, "the checkpoint's signature does not hold");
            }
        }
        // Of one moment: what is written meanwhile is not in it.
        let mut snapshot = self.snapshot().await?;
        loop {
            let rows =
                sqlx::query("SELECT seq, entry, hash FROM audit WHERE seq > $1 ORDER BY seq LIMIT 1000")
                    .bind(walk.seq)
                    .fetch_all(&mut *snapshot)
                    .await?;
            if rows.is_empty() {
                break;
            }
            for row in rows {
                let (seq, entry, hash) = (row.try_get("seq")?, row.try_get("entry")?, row.try_get("hash")?);
                walk.entry(seq, entry, hash);
                if let Some(checkpoint) = expected.get(&seq)
                    && checkpoint.hash != walk.previous
                {
                    walk.fault(
                        seq,
                        "the entry is not the one that the checkpoint signed: the trail was written anew",
                    );
                }
            }
        }
        for (seq, _) in expected.range(walk.seq + 1..) {
            walk.fault(
                *seq,
                "a checkpoint signed this entry, and it is not there: the trail was cut",
            );
        }
        walk.head(&mut snapshot).await?;
        walk.state(&mut snapshot).await?;
        walk.faults.truncate(MOST_FAULTS);
        Ok(Verdict {
            entries: walk.entries,
            hash: walk.previous,
            faults: walk.faults,
        })
    }
}

/// A digest of a document, whatever the order of its members.
fn canonical(document: &str) -> [u8; 32] {
    let sorted = serde_json::from_str::<Value>(document).map(|mut value| {
        value.sort_all_objects();
        value.to_string()
    });
    Sha256::digest(sorted.as_deref().unwrap_or(document)).into()
}

/// A walk along the trail.
#[derive(Default)]
struct Walk {
    previous: String,
    seq: i64,
    entries: i64,
    /// A digest of each object as the trail left it; `None` where it was removed.
    objects: BTreeMap<(String, String), Option<[u8; 32]>>,
    faults: Vec<Fault>,
}

impl Walk {
    fn fault(&mut self, seq: i64, problem: &str) {
        if self.faults.len() < MOST_FAULTS {
            self.faults.push(Fault {
                seq,
                problem: problem.to_owned(),
            });
        }
    }

    /// The trail ends where it is said to end.
    async fn head(&mut self, snapshot: &mut Transaction<'static, Any>) -> Result<(), Problem> {
        let head = sqlx::query("SELECT seq, hash FROM head")
            .fetch_one(&mut **snapshot)
            .await?;
        if head.try_get::<i64, _>("seq")? != self.seq {
            self.fault(
                self.seq,
                "the trail does not end where it is said to end: it was cut",
            );
        } else if head.try_get::<String, _>("hash")? != self.previous {
            self.fault(
                self.seq,
                "the trail's last hash is not the one that it is said to end with",
            );
        }
        Ok(())
    }

    /// What is stored is what the trail makes of nothing.
    async fn state(&mut self, snapshot: &mut Transaction<'static, Any>) -> Result<(), Problem> {
        let mut after = (String::new(), String::new());
        loop {
            let rows = sqlx::query(
                "SELECT kind, id, seq, gone, document FROM objects WHERE kind > $1 OR (kind = $1 AND id > $2) \
                 ORDER BY kind, id LIMIT 1000",
            )
            .bind(after.0.clone())
            .bind(after.1.clone())
            .fetch_all(&mut **snapshot)
            .await?;
            if rows.is_empty() {
                break;
            }
            for row in rows {
                let (kind, id): (String, String) = (row.try_get("kind")?, row.try_get("id")?);
                let document: String = row.try_get("document")?;
                let digest = (row.try_get::<i64, _>("gone")? == 0).then(|| canonical(&document));
                if self.objects.remove(&(kind.clone(), id.clone())) != Some(digest) {
                    self.fault(
                        row.try_get("seq")?,
                        &format!("the {kind} `{id}` is not what the trail says"),
                    );
                }
                after = (kind, id);
            }
        }
        for (kind, id) in core::mem::take(&mut self.objects).into_keys() {
            self.fault(0, &format!("the {kind} `{id}` is in the trail, and is not there"));
        }
        Ok(())
    }

    fn entry(&mut self, seq: i64, text: String, hash: String) {
        if seq != self.seq + 1 {
            self.fault(
                seq,
                &format!("entry {} should come before it, and is not there", self.seq + 1),
            );
        }
        if chained(&self.previous, &text) != hash {
            self.fault(
                seq,
                "its hash does not fit: it, or what is before it, was changed",
            );
        }
        match serde_json::from_str::<Entry>(&text) {
            Ok(entry) => {
                if entry.seq != seq {
                    self.fault(seq, "it is another entry, moved here");
                }
                for change in entry.changes {
                    let after = change.after.map(|after| canonical(&after.to_string()));
                    self.objects
                        .insert((change.kind.name().to_owned(), change.id), after);
                }
            }
            Err(_) => self.fault(seq, "it cannot be read"),
        }
        self.previous = hash;
        self.seq = seq;
        self.entries += 1;
    }
}

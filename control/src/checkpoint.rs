//! The trail's end, signed, to be kept where nobody can change it together with the database.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::time;

/// The trail's end at some time, signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Checkpoint {
    /// The database's name.
    pub database: String,
    /// Number of its last entry.
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

impl Checkpoint {
    /// Signs that a database's trail ends with this entry now.
    pub(crate) fn signed(database: &str, seq: i64, hash: String, key: &SigningKey) -> Self {
        let mut checkpoint = Self {
            database: database.to_owned(),
            seq,
            hash,
            time: time::now(),
            public_key: BASE64.encode(key.verifying_key().as_bytes()),
            signature: String::new(),
        };
        let signature = key.sign(checkpoint.message().as_bytes());
        checkpoint.signature = BASE64.encode(signature.to_bytes());
        checkpoint
    }

    /// Whether it was signed by this key; without one, by that which it names itself.
    pub(crate) fn is_signed(&self, key: Option<&VerifyingKey>) -> bool {
        let key = key.map_or_else(|| public_key(&self.public_key), |key| Some(*key));
        key.is_some_and(|key| self.is_by(&key))
    }

    fn message(&self) -> String {
        format!(
            "tollgate checkpoint\n{}\n{}\n{}\n{}",
            self.database, self.seq, self.hash, self.time
        )
    }

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

//! Credentials that were looked up lately, in a fixed number of slots.

use std::rc::Rc;

use tollgate_core::directory::Credential;
use tollgate_core::key::KeyHash;

/// About 0.5 kB a filled slot. Only valid keys get in, and their place is part of a hash of a secret, so no
/// stranger can fill or aim at it.
const SLOTS: usize = 1024;

/// A direct-mapped cache: a key has one slot, and the latest in it wins.
pub(crate) struct Cache(Vec<Option<(KeyHash, Rc<Credential>)>>);

impl Cache {
    pub(crate) fn new() -> Self {
        Self(vec![None; SLOTS])
    }

    pub(crate) fn get(&self, hash: &KeyHash) -> Option<Rc<Credential>> {
        let (found, credential) = self.0.get(slot(hash))?.as_ref()?;
        (found == hash).then(|| Rc::clone(credential))
    }

    pub(crate) fn put(&mut self, hash: KeyHash, credential: Rc<Credential>) {
        if let Some(entry) = self.0.get_mut(slot(&hash)) {
            *entry = Some((hash, credential));
        }
    }

    pub(crate) fn clear(&mut self) {
        self.0.fill(None);
    }
}

fn slot(hash: &KeyHash) -> usize {
    let [.., last, end] = *hash.as_bytes();
    usize::from(u16::from_le_bytes([last, end])) % SLOTS
}

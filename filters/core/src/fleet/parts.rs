//! Of which limits on what is in use workers use the part that each Envoy has.
//!
//! When parts become smaller, more may be in use of some than they are then. The coordinator has to know of that before it
//! gives what the others gave up to anybody else, and the member, before it says that its parts are smaller. Shared data
//! can't be searched, so workers leave a note before they use such a part for the first time.

use std::collections::BTreeSet;

use tollgate_shares::{Key, Limit};

use crate::limits::{Lease, Notes, ShareRecord, share_key};
use crate::state::{Store, StoreError};

/// Keys, each as long as its value in the store is there: one for each subject that came to this Envoy.
#[derive(Debug, Default)]
pub(super) struct Parts {
    known: BTreeSet<Key>,
    /// Noted since they were renewed last, and perhaps not used yet.
    noted: BTreeSet<Key>,
}

/// More is in use than the part.
pub(super) struct OverUsed {
    pub(super) key: Key,
    pub(super) limit: Limit,
    pub(super) in_use: u64,
}

impl Parts {
    /// Takes what workers have noted.
    pub(super) fn take(&mut self, store: &mut impl Store) -> Result<(), StoreError> {
        let notes = Notes::InUse.take(store)?;
        self.noted.extend(notes.into_iter().map(|note| note.key));
        Ok(())
    }

    /// Has all of them be what they are by a lease that is in the store already, and forgets those of which nothing is in
    /// use. Where it fails it may be done again.
    pub(super) fn renew(
        &mut self,
        store: &mut impl Store,
        lease: &Lease,
        now: u64,
    ) -> Result<Vec<OverUsed>, StoreError> {
        self.take(store)?;
        let mut kept = self.noted.clone();
        let mut over_used = Vec::new();
        for key in self.known.union(&self.noted) {
            let renewed = store.modify(&share_key(*key), &mut None, ShareRecord::new, |record| {
                record.renew(lease, now);
                let in_use = record.in_use();
                if in_use > 0 {
                    record.note(lease.number);
                }
                Some((record.limit(), in_use, record.is_over_used()))
            })?;
            let Some((limit, in_use @ 1.., is_over)) = renewed else {
                continue;
            };
            kept.insert(*key);
            if is_over {
                let key = *key;
                over_used.push(OverUsed { key, limit, in_use });
            }
        }
        self.noted.clear();
        self.known = kept;
        Ok(over_used)
    }
}

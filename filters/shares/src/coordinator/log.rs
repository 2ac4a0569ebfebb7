//! The log of activations: which subjects have no implicit parts.
//!
//! It holds one entry for each subject that is activated, so a member that reads it from the beginning has all, and the
//! last few deactivations. A member that misses one of these goes on asking for that subject, which is safe.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::message::{Key, PAGE, Version};

/// So many deactivations are kept.
const DEACTIVATIONS: usize = 16 * PAGE;

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub(super) struct Log {
    head: Version,
    entries: BTreeMap<Version, (Key, bool)>,
    deactivations: VecDeque<Version>,
}

impl Log {
    /// The version of the last entry.
    pub(super) const fn head(&self) -> Version {
        self.head
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// A subject is activated from this version on.
    pub(super) fn activate(&mut self, key: Key) -> Version {
        self.head += 1;
        self.entries.insert(self.head, (key, true));
        self.head
    }

    /// The subject that was activated by this version is so no longer.
    pub(super) fn deactivate(&mut self, key: Key, activated: Version) {
        self.entries.remove(&activated);
        self.head += 1;
        self.entries.insert(self.head, (key, false));
        self.deactivations.push_back(self.head);
        if self.deactivations.len() > DEACTIVATIONS
            && let Some(oldest) = self.deactivations.pop_front()
        {
            self.entries.remove(&oldest);
        }
    }

    /// A page of what comes after a version, and up to which version that is all.
    pub(super) fn after(&self, version: Version, page: usize) -> (Version, Vec<(Key, bool)>) {
        let mut rest = self.entries.range(version.saturating_add(1)..);
        let mut last = version;
        let mut entries = Vec::new();
        for (version, entry) in rest.by_ref().take(page) {
            last = *version;
            entries.push(*entry);
        }
        let all = rest.next().is_none();
        (if all { self.head.max(version) } else { last }, entries)
    }

    /// Whether a page brings a member that has this version up to date, with room for what the same message activates.
    pub(super) fn is_close(&self, version: Version, page: usize) -> bool {
        self.entries
            .range(version.saturating_add(1)..)
            .take(page.div_ceil(2))
            .count()
            < page.div_ceil(2)
    }
}

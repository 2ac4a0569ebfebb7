//! The roll of members whose leases may be running.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::limit::Time;
use crate::message::{Incarnation, Seq, Version};

/// What the books have of a member.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) seq: Seq,
    pub(super) answered: Seq,
    pub(super) joined: Time,
    until: Time,
    pub(super) slot: Option<Held>,
}

/// A slot that a member has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Held {
    /// It has given up the implicit parts of what was activated up to here.
    pub(super) version: Version,
    /// It uses one in so many at most.
    pub(super) parts: u32,
    /// Since when nobody used it, as the member got it.
    pub(super) free_since: Time,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub(super) struct Roll {
    records: BTreeMap<Incarnation, Record>,
    ends: BTreeSet<(Time, Incarnation)>,
}

impl Roll {
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn get(&self, who: Incarnation) -> Option<&Record> {
        self.records.get(&who)
    }

    pub(super) fn get_mut(&mut self, who: Incarnation) -> Option<&mut Record> {
        self.records.get_mut(&who)
    }

    /// The record of a member that was heard now, and is counted until then.
    pub(super) fn hear(&mut self, who: Incarnation, now: Time, until: Time) -> &mut Record {
        let record = self.records.entry(who).or_insert(Record {
            seq: 0,
            answered: 0,
            joined: now,
            until,
            slot: None,
        });
        self.ends.remove(&(record.until, who));
        record.until = until;
        self.ends.insert((until, who));
        record
    }

    /// One whose lease has run out.
    pub(super) fn expired(&self, now: Time) -> Option<Incarnation> {
        let (until, who) = self.ends.first()?;
        (*until <= now).then_some(*who)
    }

    pub(super) fn remove(&mut self, who: Incarnation) -> Option<Record> {
        let record = self.records.remove(&who)?;
        self.ends.remove(&(record.until, who));
        Some(record)
    }
}

//! Slots: who has an implicit part of every limit that is not activated.
//!
//! Slots have no numbers, as one is like another: there are `parts` of them, each held by a member or free since a moment.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::roll::{Held, Record};
use crate::limit::{Limit, Share, Time};
use crate::message::{Incarnation, Version};
use crate::timing::{Mutation, Timing};

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Slots {
    parts: u32,
    /// How many there were when books began.
    first: u32,
    /// When there were last more of them.
    doubled: Time,
    /// While they are being halved: how many there will be.
    next: Option<u32>,
    /// How many are free since when.
    free: BTreeMap<Time, u32>,
    /// Who has one, by the version up to which it has given up what was activated.
    held: BTreeSet<(Version, Incarnation)>,
    /// How many of these have halved theirs.
    halved: usize,
}

impl Slots {
    /// All free since then, as far as is known.
    pub(super) fn new(parts: u32, free_since: Time) -> Self {
        Self {
            parts,
            first: parts,
            doubled: 0,
            next: None,
            free: BTreeMap::from([(free_since, parts)]),
            held: BTreeSet::new(),
            halved: 0,
        }
    }

    /// The largest part that anybody uses is one in so many.
    pub(super) const fn parts(&self) -> u32 {
        self.parts
    }

    /// Since when nobody can have a part of a limit that is too small for parts now.
    pub(super) fn without_part_since(&self, limit: Limit) -> Time {
        match limit.part(self.first).is_nothing() {
            true => 0,
            false => self.doubled,
        }
    }

    /// What free slots have of a limit: as many parts as there are, each of which fills since nobody uses it, and `skew` later
    /// at that.
    pub(super) fn unused(&self, limit: Limit, now: Time, timing: &Timing) -> (Share, u128) {
        let part = limit.part(self.parts);
        let (mut share, mut units) = (Share::default(), 0);
        for (since, count) in &self.free {
            let filled = match timing.breaks(Mutation::FreePartsFull) {
                true => Time::MAX,
                false => now.saturating_sub(since.saturating_add(timing.skew)),
            };
            let filled = u128::from(filled) * u128::from(part.rate);
            share = share.plus(part.times(u64::from(*count)));
            units += filled.min(limit.units(part.burst)) * u128::from(*count);
        }
        (share, units)
    }

    /// Members are told to use one in so many.
    pub(super) fn announced(&self) -> u32 {
        self.next.unwrap_or(self.parts)
    }

    /// Gives a member the slot that was free for the longest, if there is one.
    pub(super) fn take(&mut self, who: Incarnation, record: &mut Record, version: Version) {
        let Some(mut entry) = self.free.first_entry().filter(|_| self.next.is_none()) else {
            return;
        };
        let free_since = *entry.key();
        *entry.get_mut() -= 1;
        if *entry.get() == 0 {
            entry.remove();
        }
        self.held.insert((version, who));
        record.slot = Some(Held {
            version,
            parts: self.parts,
            free_since,
        });
    }

    /// A member has given up the implicit parts of what was activated up to a version.
    pub(super) fn acknowledge(&mut self, who: Incarnation, record: &mut Record, version: Version) {
        if let Some(slot) = &mut record.slot {
            self.held.remove(&(slot.version, who));
            slot.version = slot.version.max(version);
            self.held.insert((slot.version, who));
        }
    }

    /// How many slots have not given up what was activated by this version.
    pub(super) fn behind(&self, version: Version) -> u64 {
        self.held.range(..(version, Incarnation(0))).count() as u64
    }

    /// Has all slots halved, at least once and until there are as many as members: new ones are there once all holders have.
    pub(super) fn double(&mut self, members: usize, timing: &Timing, now: Time) {
        if self.next.is_none() && self.free.is_empty() {
            let members = u32::try_from(members).unwrap_or(u32::MAX / 4);
            self.next = Some(members.next_power_of_two().max(self.parts.saturating_mul(2)));
            if timing.breaks(Mutation::HalveBeforeAck) {
                self.halved = self.held.len();
            }
            self.finish(now);
        }
    }

    /// A member says that it uses one in so many.
    pub(super) fn halved_by(&mut self, record: &mut Record, parts: u32, now: Time) {
        if let (Some(next), Some(slot)) = (self.next, &mut record.slot)
            && slot.parts < next
            && parts >= next
        {
            slot.parts = next;
            self.halved += 1;
            self.finish(now);
        }
    }

    /// A member's slot is free from now on.
    pub(super) fn free(&mut self, who: Incarnation, record: &Record, now: Time) {
        let Some(slot) = &record.slot else { return };
        self.held.remove(&(slot.version, who));
        *self.free.entry(now).or_default() += 1;
        if self.next == Some(slot.parts) {
            self.halved -= 1;
        }
        self.finish(now);
    }

    /// Once all holders have halved theirs, what they gave up are new slots, and each free slot is several.
    fn finish(&mut self, now: Time) {
        let Some(next) = self.next.filter(|_| self.halved >= self.held.len()) else {
            return;
        };
        let times = next / self.parts;
        for count in self.free.values_mut() {
            *count *= times;
        }
        let held = u32::try_from(self.held.len()).unwrap_or(u32::MAX / times);
        if held > 0 {
            *self.free.entry(now).or_default() += held * (times - 1);
        }
        self.parts = next;
        self.next = None;
        self.halved = 0;
        self.doubled = now;
    }
}

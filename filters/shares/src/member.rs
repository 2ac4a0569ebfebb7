//! A member: what one Envoy holds, and until when. It decides by that alone and asks nobody on a request's path.
//!
//! The caller keeps the buckets. It applies what [`Member::receive`] returns before it takes the next
//! [`Member::message`], which tells the coordinator that it has.

mod entry;

use core::ops::Bound;
use std::collections::{BTreeMap, BTreeSet};

use crate::bucket::Allowance;
use crate::limit::{Limit, Share, Time};
use crate::message::{Answer, Epoch, Grant, Incarnation, Key, MAX_WANTS, Message, Seq, Terms, Version, Want};
use crate::timing::{Mutation, Timing};
use entry::Entry;

/// The state machine of one Envoy.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Member {
    timing: Timing,
    incarnation: Incarnation,
    seq: Seq,
    /// Which message it waits for, and when that was sent.
    asked: Option<(Seq, Time)>,
    answered: Seq,
    /// In whose books it is, and until when what it has is valid.
    lease: Option<(Epoch, Time)>,
    slot: Option<Slot>,
    version: Version,
    entries: BTreeMap<Key, Entry>,
    /// The first key for which the last message had no room.
    untold: Option<Key>,
    /// Keys that are activated: it has no implicit part of them.
    activated: BTreeSet<Key>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Slot {
    parts: u32,
    /// What it says that its parts are: the coordinator hears of smaller ones with or after all that is more than they are.
    told: u32,
    since: Time,
    got: Time,
}

/// What the caller has to do to a bucket: [`Bucket::change`](crate::Bucket::change), then [`Member::returned`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The bucket's key.
    pub key: Key,
    /// Its limit.
    pub limit: Limit,
    /// What it filled by until now.
    pub before: Allowance,
    /// By what it fills from now on.
    pub after: Share,
    /// What comes with that, in units of a bucket.
    pub units: u128,
}

/// What an answer changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Received {
    /// Explicit shares.
    pub changes: Vec<Change>,
    /// Keys whose implicit parts are given up: their buckets, where there are any, are to be removed.
    pub dropped: Vec<Key>,
    /// Keys whose implicit parts are back, and full.
    pub restored: Vec<Key>,
}

impl Member {
    /// One that has nothing. `incarnation` is random: no two starts have the same.
    pub const fn new(timing: Timing, incarnation: Incarnation) -> Self {
        Self {
            timing,
            incarnation,
            seq: 0,
            asked: None,
            answered: 0,
            lease: None,
            slot: None,
            version: 0,
            entries: BTreeMap::new(),
            untold: None,
            activated: BTreeSet::new(),
        }
    }

    /// Which life this is.
    pub const fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// What it may use of a key at `now`: its explicit share, or else its implicit part. Nothing once the lease has run
    /// out, and nothing where it has to ask.
    pub fn allowance(&self, key: Key, limit: Limit, now: Time) -> Allowance {
        if !self.is_valid(now) {
            return Allowance::default();
        }
        let slot = self.slot.map_or_else(Allowance::default, |slot| Allowance {
            share: limit.part(slot.parts),
            since: slot.since,
            got: slot.got,
        });
        match self.entries.get(&key) {
            Some(entry) if entry.is_explicit() => entry.allowance(),
            _ if self.activated.contains(&key) => Allowance::default(),
            _ => slot,
        }
    }

    /// Whether a lease is running: where it is not, nothing is allowed, and the row's `on_error` decides.
    pub fn is_valid(&self, now: Time) -> bool {
        self.lease.is_some_and(|(_, end)| now < end)
    }

    /// Whether a message waits for its answer. It is asked again by another message, whose answer alone counts then.
    pub const fn waits(&self) -> bool {
        self.asked.is_some()
    }

    /// Whether its implicit part is enough for so much in each period, so that there is nothing to ask for: a bucket that is
    /// empty fills here as soon as anywhere.
    pub fn suffices(&self, key: Key, limit: Limit, demand: u64, now: Time) -> bool {
        let share = self.allowance(key, limit, now).share;
        !self.entries.contains_key(&key) && demand <= share.rate
    }

    /// Says what is asked for of a key: in each period, what was refused included, and at once by a single request.
    pub fn want(&mut self, key: Key, limit: Limit, demand: u64, need: u64) {
        let entry = self.entries.entry(key).or_insert_with(|| Entry::new(limit));
        entry.demand = demand;
        entry.need = entry.need.max(need);
    }

    /// Says how much is in use of a limit that counts that, which is not given up before it is released.
    pub fn in_use(&mut self, key: Key, count: u64) {
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.in_use = count;
        }
    }

    /// Says how many units a [`Change`] took out of a bucket.
    pub fn returned(&mut self, key: Key, units: u128) {
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.returned = units;
        }
    }

    /// Keys with an entry: explicit shares, and what is wanted.
    pub fn keys(&self) -> impl Iterator<Item = Key> {
        self.entries.keys().copied()
    }

    /// Whether there is something to say that should not wait for the next heartbeat.
    pub fn is_urgent(&self) -> bool {
        self.entries.values().any(Entry::is_urgent)
    }

    /// The next message, sent at `now`. An answer to an earlier one is ignored from here on. It has up to [`MAX_WANTS`] keys;
    /// where there are more with news, the next message begins with those.
    pub fn message(&mut self, now: Time) -> Message {
        self.lapse(now);
        self.seq += 1;
        self.asked = Some((self.seq, now));
        self.entries.values_mut().for_each(Entry::pass_over);
        let wants = self.tell();
        if let (Some(slot), None) = (&mut self.slot, self.untold) {
            slot.told = slot.parts;
        }
        Message {
            wants,
            ..self.bare(false)
        }
    }

    fn tell(&mut self) -> Vec<Want> {
        let first = self.untold.take().unwrap_or(Key([0; 16]));
        let mut wants = Vec::new();
        for keys in [
            (Bound::Included(first), Bound::Unbounded),
            (Bound::Unbounded, Bound::Excluded(first)),
        ] {
            for (key, entry) in self.entries.range_mut(keys) {
                if !entry.has_news() {
                    continue;
                }
                if wants.len() == MAX_WANTS {
                    self.untold = Some(*key);
                    return wants;
                }
                wants.push(entry.tell(*key));
            }
        }
        wants
    }

    /// Gives up everything at once, and says so. What is sent later comes from another incarnation.
    pub fn leave(&mut self) -> Message {
        self.seq += 1;
        let message = self.bare(true);
        self.begin_anew();
        message
    }

    fn bare(&self, leaves: bool) -> Message {
        Message {
            incarnation: self.incarnation,
            seq: self.seq,
            answered: self.answered,
            epoch: self.lease.map(|(epoch, _)| epoch),
            version: self.version,
            parts: self.slot.map_or(0, |slot| slot.told),
            leaves,
            wants: Vec::new(),
        }
    }

    /// Whether this is the answer that it waits for. It takes no other.
    pub fn expects(&self, answer: &Answer) -> bool {
        let to_last = self.asked.is_some_and(|(seq, _)| seq == answer.seq);
        answer.incarnation == self.incarnation && to_last
    }

    /// Takes an answer: to its last message, or none.
    pub fn receive(&mut self, answer: &Answer, now: Time) -> Received {
        self.lapse(now);
        let Some((seq, sent)) = self.asked else {
            return Received::default();
        };
        let expected = answer.seq == seq || self.timing.breaks(Mutation::AnyAnswer);
        let from = match self.timing.breaks(Mutation::LeaseFromReceipt) {
            true => now,
            false => sent,
        };
        let end = from.saturating_add(self.timing.ttl);
        if answer.incarnation != self.incarnation || !expected || end <= now {
            return Received::default();
        }
        self.asked = None;
        match &answer.terms {
            Some(terms) => {
                self.lease = Some((answer.epoch, end));
                self.answered = answer.seq;
                self.take(terms, now)
            }
            None => Received::default(),
        }
    }

    fn take(&mut self, terms: &Terms, now: Time) -> Received {
        for entry in self.entries.values_mut() {
            entry.returned = 0;
        }
        let changes = terms
            .grants
            .iter()
            .filter_map(|grant| self.grant(grant, now))
            .collect();
        let (dropped, restored) = self.follow(&terms.log);
        self.version = self.version.max(terms.version);
        if let Some(terms) = terms.slot {
            let since = match self.timing.breaks(Mutation::SlotStartsFull) {
                true => 0,
                false => now.saturating_sub(terms.age),
            };
            let slot = self.slot.get_or_insert(Slot {
                parts: terms.parts,
                told: terms.parts,
                since,
                got: now,
            });
            slot.parts = slot.parts.max(terms.parts);
        }
        self.entries.retain(|_, entry| !entry.is_over());
        Received {
            changes,
            dropped,
            restored,
        }
    }

    /// Follows the log; which implicit parts are given up by it, and which are back. What was activated and left the books
    /// again, or the other way round, is what it was before: a part that was given up stays so, and one that was not is not
    /// filled.
    fn follow(&mut self, log: &[(Key, bool)]) -> (Vec<Key>, Vec<Key>) {
        let mut before = BTreeMap::new();
        for (key, active) in log {
            before.entry(*key).or_insert(self.activated.contains(key));
            match active {
                true => self.activated.insert(*key),
                false => self.activated.remove(key),
            };
        }
        let (mut dropped, mut restored) = (Vec::new(), Vec::new());
        for (key, was_active) in before {
            let is_explicit = self.entries.get(&key).is_some_and(Entry::is_explicit);
            match (was_active, self.activated.contains(&key)) {
                (false, true) if !is_explicit => dropped.push(key),
                (true, false) if !is_explicit => restored.push(key),
                _ => {}
            }
        }
        (dropped, restored)
    }

    fn grant(&mut self, grant: &Grant, now: Time) -> Option<Change> {
        let limit = self.entries.get(&grant.key)?.limit;
        let before = self.allowance(grant.key, limit, now);
        let begins = match before.share.is_nothing() {
            true => Allowance {
                share: grant.share,
                since: now,
                got: now,
            },
            false => Allowance {
                share: grant.share,
                ..before
            },
        };
        let entry = self.entries.get_mut(&grant.key)?;
        entry.take(grant, begins).then_some(Change {
            key: grant.key,
            limit,
            before,
            after: grant.share,
            units: grant.units,
        })
    }

    /// Begins anew once the lease has run out: by then others may have what it had.
    fn lapse(&mut self, now: Time) {
        if self.lease.is_some_and(|(_, end)| end <= now) {
            self.begin_anew();
        }
    }

    fn begin_anew(&mut self) {
        let incarnation = Incarnation(self.incarnation.0.wrapping_add(1));
        let wanted = core::mem::take(&mut self.entries);
        *self = Self {
            entries: wanted
                .into_iter()
                .map(|(key, entry)| (key, entry.anew()))
                .collect(),
            ..Self::new(self.timing, incarnation)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::SlotTerms;

    #[test]
    fn what_has_no_room_in_a_message_comes_first_in_the_next() {
        let mut member = Member::new(Timing::new(10, 2, 1), Incarnation(1));
        let all = MAX_WANTS + 10;
        let key = |at: usize| Key((at as u128).to_be_bytes());
        for at in 0..all {
            member.want(key(at), Limit::in_use(5), 1, 0);
        }
        let told = |message: Message| message.wants.into_iter().map(|want| want.key).collect::<Vec<_>>();

        let first = told(member.message(0));
        assert_eq!(first, (0..MAX_WANTS).map(key).collect::<Vec<_>>());
        // Nobody answered, so there is as much to say as before.
        let second = told(member.message(1));
        assert_eq!(second[..10], (MAX_WANTS..all).map(key).collect::<Vec<_>>());
        assert_eq!(second[10..], first[..MAX_WANTS - 10]);
        assert_eq!(told(member.message(2))[..10], first[MAX_WANTS - 10..]);
    }

    /// The coordinator gives what smaller parts leave to others, and has to know by then of what is more than they are.
    #[test]
    fn smaller_parts_are_told_with_the_last_of_what_is_to_be_told() {
        let mut member = Member::new(Timing::new(10, 2, 1), Incarnation(1));
        let answer = |message: &Message, parts| Answer {
            incarnation: Incarnation(1),
            seq: message.seq,
            epoch: Epoch(1),
            terms: Some(Terms {
                slot: Some(SlotTerms { parts, age: 0 }),
                version: 0,
                log: Vec::new(),
                grants: message
                    .wants
                    .iter()
                    .map(|want| Grant {
                        key: want.key,
                        share: Share { rate: 0, burst: 5 },
                        units: 0,
                        waiting: false,
                    })
                    .collect(),
            }),
        };
        let first = member.message(0);
        member.receive(&answer(&first, 4), 0);
        let second = member.message(1);
        assert_eq!(second.parts, 4);
        member.receive(&answer(&second, 8), 1);

        let all = MAX_WANTS + 10;
        for at in 0..all {
            let key = Key((at as u128).to_be_bytes());
            member.want(key, Limit::in_use(20), 5, 0);
            member.in_use(key, 5);
        }
        let mut told = BTreeSet::new();
        let (messages, last) = (0..5)
            .find_map(|at| {
                let message = member.message(2);
                told.extend(message.wants.iter().map(|want| want.key));
                member.receive(&answer(&message, 8), 2);
                (message.parts == 8).then_some((at, message))
            })
            .unwrap();
        assert!(messages > 0, "{} wants in the first", last.wants.len());
        assert_eq!(told.len(), all);
    }

    #[test]
    fn a_part_is_what_it_was_where_the_log_goes_there_and_back() {
        let mut member = Member::new(Timing::new(10, 2, 1), Incarnation(1));
        let key = Key([7; 16]);
        // Used while it was activated elsewhere: it is not filled.
        assert_eq!(member.follow(&[(key, true), (key, false)]), (vec![], vec![]));
        assert_eq!(member.follow(&[(key, true)]), (vec![key], vec![]));
        // Given up: it stays so.
        assert_eq!(member.follow(&[(key, false), (key, true)]), (vec![], vec![]));
        assert_eq!(member.follow(&[(key, false)]), (vec![], vec![key]));
    }
}

//! What a member may hold of one key: the rule.

use std::collections::BTreeMap;

use super::subject::{Holder, Pool, Subject};
use super::{CHECKS, Coordinator, MAX_SUBJECTS};
use crate::apportion::{Demand, apportion};
use crate::limit::{Limit, Share, Time};
use crate::message::{Grant, Incarnation, Key, Want};
use crate::timing::Mutation;

impl Coordinator {
    /// What `who` may hold from now on of a key that it asks about; `news` is whether the tokens it returns were not counted
    /// yet. Nothing is said of a key that the books have with another limit, as it is part of the key: one of the two is a
    /// lie. Nor of a new key where the books are full.
    pub(super) fn serve(&mut self, who: Incarnation, want: &Want, news: bool, now: Time) -> Option<Grant> {
        let key = want.key;
        match self.subjects.get(&key) {
            Some(subject) if subject.limit != want.limit => return None,
            None if self.subjects.len() >= MAX_SUBJECTS => return None,
            _ => {}
        }
        self.pending.remove(&(who, key));
        let known = self.subjects.remove(&key);
        let mut subject = known.unwrap_or_else(|| self.begin(want, now));
        subject.pool.fill(subject.limit, now);
        if news {
            subject.pool.put(want.returned);
        }
        let holder = Holder {
            held: want.have,
            demand: want.demand,
            need: want.need,
        };
        subject.holders.insert(who, holder);
        let grant = self.decide(&mut subject, Some(who), key, now);
        self.subjects.insert(key, subject);
        grant
    }

    /// The same of a key that it does not ask about. It is told again until it says what it has.
    pub(super) fn tell(&mut self, who: Incarnation, key: Key, now: Time) -> Option<Grant> {
        let grant = self.subjects.remove(&key).and_then(|mut subject| {
            subject.pool.fill(subject.limit, now);
            let grant = self.decide(&mut subject, Some(who), key, now);
            self.subjects.insert(key, subject);
            grant
        });
        if grant.is_none() {
            self.pending.remove(&(who, key));
        }
        grant
    }

    /// A key that is not in the books: its implicit parts are to be given up, where it has any.
    fn begin(&mut self, want: &Want, now: Time) -> Subject {
        let (key, limit) = (want.key, want.limit);
        let has_parts = !self.part(limit).is_nothing();
        let activated = has_parts.then(|| self.log.activate(key));
        self.checks
            .insert((now.saturating_add(self.timing.held_for()), key));
        Subject {
            limit,
            activated,
            holders: BTreeMap::new(),
            pool: match has_parts {
                true => Pool::of_free_slots(self.slots.unused(limit, now, &self.timing), now),
                false => Pool::since(limit, self.unused_since(limit), now),
            },
        }
    }

    /// Since when nobody may have used a limit that has no implicit parts and is not in the books: it may have had some
    /// before slots were halved.
    fn unused_since(&self, limit: Limit) -> Time {
        let since = match self.timing.breaks(Mutation::HalvedAwayFull) {
            true => 0,
            false => self.slots.without_part_since(limit),
        };
        let skew = self.timing.skew;
        self.clock.ready_at().max(since).saturating_add(skew)
    }

    /// Drops the dead, and counts to each holder the implicit part that it may still use. How many others may use one.
    fn count_implicit(&self, subject: &mut Subject) -> u64 {
        subject.holders.retain(|who, _| self.roll.get(*who).is_some());
        let Some(version) = subject.activated else {
            return 0;
        };
        if self.timing.breaks(Mutation::ActivateBeforeAck) {
            return 0;
        }
        let part = self.part(subject.limit);
        let mut behind = self.slots.behind(version);
        for (who, holder) in &mut subject.holders {
            let slot = self.roll.get(*who).and_then(|record| record.slot);
            if slot.is_some_and(|slot| slot.version < version) {
                holder.held = holder.held.max(part);
                behind = behind.saturating_sub(1);
            }
        }
        behind
    }

    /// What nobody may be using.
    fn free(&self, subject: &Subject, implicit: u64) -> Share {
        let held = subject
            .held(|_| true)
            .plus(self.part(subject.limit).times(implicit));
        subject.limit.whole().less(held)
    }

    /// Moves the share of `who` towards what it should be: down at once, and up by what is free. Notes whose shares should
    /// move beside that; without a `who` nothing but that.
    fn decide(
        &mut self,
        subject: &mut Subject,
        who: Option<Incarnation>,
        key: Key,
        now: Time,
    ) -> Option<Grant> {
        let implicit = self.count_implicit(subject);
        let free = self.free(subject, implicit);
        let demands = subject.holders.values().map(|holder| Demand {
            rate: holder.demand,
            need: holder.need,
        });
        let targets = apportion(subject.limit, &demands.collect::<Vec<_>>());
        let early = self.timing.breaks(Mutation::GrantBeforeAck);
        let mut grant = None;
        for ((_, holder), target) in subject
            .holders
            .iter_mut()
            .zip(&targets)
            .filter(|((one, _), _)| Some(**one) == who)
        {
            let share = holder.held.toward(*target, free);
            let growth = subject.limit.units(share.burst.saturating_sub(holder.held.burst));
            let units = match self.timing.breaks(Mutation::ArriveFull) {
                true => growth,
                false => subject.pool.take(growth),
            };
            holder.held = if early { share } else { holder.held.max(share) };
            grant = Some(Grant {
                key,
                share,
                units,
                waiting: share.is_short_of(*target, subject.limit),
            });
        }
        let free = self.free(subject, implicit);
        for ((other, holder), target) in subject
            .holders
            .iter_mut()
            .zip(&targets)
            .filter(|((one, _), _)| Some(**one) != who)
        {
            let shrinks = !holder.held.is_near(*target);
            let grows = !target.is_near(holder.held) && !holder.held.toward(*target, free).fits(holder.held);
            if shrinks || grows {
                self.pending.insert((*other, key));
            }
            if shrinks && early {
                holder.held = holder.held.min(*target);
            }
        }
        subject.holders.retain(|_, holder| !holder.is_over());
        let free = self.free(subject, implicit);
        subject.pool.change(subject.limit, free, now, self.timing.skew);
        grant
    }

    /// Looks after the subjects whose turn it is. What became free since somebody asked is for those who stay: with a steady
    /// demand they would not ask. One that nobody holds and that has filled up leaves the books, once each slot has read that
    /// it was activated: its implicit parts come back, and are full.
    pub(super) fn look_after(&mut self, now: Time) {
        for _ in 0..CHECKS {
            let Some((_, key)) = self.checks.first().filter(|(due, _)| *due <= now).copied() else {
                return;
            };
            self.checks.pop_first();
            let Some(mut subject) = self.subjects.remove(&key) else {
                continue;
            };
            let limit = subject.limit;
            subject.pool.fill(limit, now);
            let implicit = self.count_implicit(&mut subject);
            let free = self.free(&subject, implicit);
            if !subject.pool.has(free) {
                self.decide(&mut subject, None, key, now);
            }
            let is_read = implicit == 0 || self.timing.breaks(Mutation::LeaveBeforeAck);
            if subject.holders.is_empty() && subject.pool.is_full(limit) && is_read {
                if let Some(version) = subject.activated {
                    self.log.deactivate(key, version);
                }
                continue;
            }
            let soon = match subject.holders.is_empty() && is_read {
                true => limit.fills_in().saturating_add(self.timing.skew),
                false => self.timing.held_for(),
            };
            self.checks.insert((now.saturating_add(soon.max(1)), key));
            self.subjects.insert(key, subject);
        }
    }
}

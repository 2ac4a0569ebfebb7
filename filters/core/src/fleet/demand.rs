//! How much each limit is asked for at this Envoy: what workers counted, smoothed.
//!
//! Noise is smoothed over a dozen seconds, as each move of a share leaves it idle for a while. A demand that moves by much,
//! or ends, is followed at once.

use std::collections::{BTreeMap, BTreeSet};

use tollgate_shares::{Key, Limit, Member, Time};

use crate::limits::{Note, Notes, Org, ShareRecord, Tally, share_key};
use crate::state::{Store, StoreError};

/// So many keys are looked after at most; others have the part that each Envoy has.
const MAX: usize = 4_096;
/// The same of one organization, so that none takes the others' room.
const MAX_OF_ONE: usize = MAX / 8;
/// A window is one part in so many of what is remembered.
const SMOOTH: u64 = 32;
/// So many requests more or less than expected are no noise.
const SURPRISE: u64 = 4;
/// How long a burst for a large request is kept; microseconds.
const NEED_FOR: Time = 10_000_000;
/// A debt is to be paid within so long, if the limit allows that; microseconds.
const DEBT_IN: u64 = 10_000_000;
/// Windows after which a key is forgotten of which nothing is wanted.
const IDLE: u32 = 10;

/// What is asked for of each key that is looked after.
#[derive(Debug, Default)]
pub(super) struct Demands {
    tracks: BTreeMap<Key, Track>,
    /// How many each organization has of them.
    of: BTreeMap<Org, usize>,
}

/// One key.
#[derive(Debug)]
struct Track {
    limit: Limit,
    org: Org,
    seen: Tally,
    /// In each period; of a limit on what is in use, at once.
    smooth: u64,
    /// More was returned in a window than was asked for.
    over_returned: u64,
    /// What a request takes, of late.
    request: u64,
    /// How much would have come since something last did.
    missed: u64,
    /// A single request takes so much.
    need: u64,
    need_until: Time,
    idle: u32,
}

impl Demands {
    /// Counts what came since the last look, `passed` microseconds ago, and says so to the member.
    pub(super) fn count(
        &mut self,
        store: &mut impl Store,
        member: &mut Member,
        (passed, now): (Time, Time),
    ) -> Result<(), StoreError> {
        for note in Notes::Short.take(store)? {
            self.track(store, note)?;
        }
        let known: BTreeSet<_> = member.keys().collect();
        let mut over = Vec::new();
        for (key, track) in &mut self.tracks {
            let Some(record) = look(store, *key)? else {
                over.push(*key);
                continue;
            };
            track.count(store, (*key, &record), member, (known.contains(key), passed, now))?;
            if track.idle > IDLE {
                over.push(*key);
            }
        }
        for key in over {
            self.forget(store, key, member, now)?;
        }
        Ok(())
    }

    /// Looks after a key from now on, if there is room. Else its next refusal is another chance.
    fn track(&mut self, store: &mut impl Store, note: Note) -> Result<(), StoreError> {
        if self.tracks.contains_key(&note.key) {
            return Ok(());
        }
        let of_one = self.of.get(&note.org).copied().unwrap_or(0);
        match look(store, note.key)? {
            // Its tally began with the note.
            Some(record) if self.tracks.len() < MAX && of_one < MAX_OF_ONE => {
                self.add(note.key, Track::new(&record, Tally::default()));
                Ok(())
            }
            Some(_) => tell(store, note.key, |record| record.tell(0)),
            None => Ok(()),
        }
    }

    /// Looks after a key from now on, of which the coordinator has to know.
    pub(super) fn keep(&mut self, store: &mut impl Store, key: Key) -> Result<(), StoreError> {
        if self.tracks.contains_key(&key) {
            return Ok(());
        }
        if let Some(record) = look(store, key)? {
            self.add(key, Track::new(&record, record.tally));
        }
        Ok(())
    }

    fn add(&mut self, key: Key, track: Track) {
        *self.of.entry(track.org).or_default() += 1;
        self.tracks.insert(key, track);
    }

    /// What is in use, and bursts for large requests, as the next message has them.
    pub(super) fn state(&self, store: &mut impl Store, member: &mut Member) -> Result<(), StoreError> {
        for (key, track) in &self.tracks {
            if track.limit.counts_in_use() {
                member.in_use(*key, look(store, *key)?.map_or(0, |record| record.in_use()));
            }
            if track.need > 0 {
                member.want(*key, track.limit, track.smooth, track.need);
            }
        }
        Ok(())
    }

    /// How many keys are looked after.
    pub(super) fn len(&self) -> usize {
        self.tracks.len()
    }

    fn forget(
        &mut self,
        store: &mut impl Store,
        key: Key,
        member: &Member,
        now: Time,
    ) -> Result<(), StoreError> {
        let Some(track) = self.tracks.get(&key) else {
            return Ok(());
        };
        let has_part = !member.allowance(key, track.limit, now).share.is_nothing();
        tell(store, key, |record| {
            record.tell(0);
            if has_part {
                record.restore();
            }
        })?;
        let org = track.org;
        self.tracks.remove(&key);
        if let Some(of_one) = self.of.get_mut(&org) {
            *of_one = of_one.saturating_sub(1);
            if *of_one == 0 {
                self.of.remove(&org);
            }
        }
        Ok(())
    }
}

impl Track {
    /// Of a share that was asked for what came since the tally was so much.
    const fn new(record: &ShareRecord, seen: Tally) -> Self {
        Self {
            limit: record.limit(),
            org: record.org(),
            seen,
            smooth: 0,
            over_returned: 0,
            request: 1,
            missed: 0,
            need: 0,
            need_until: 0,
            idle: 0,
        }
    }

    fn count(
        &mut self,
        store: &mut impl Store,
        (key, record): (Key, &ShareRecord),
        member: &mut Member,
        (is_known, passed, now): (bool, Time, Time),
    ) -> Result<(), StoreError> {
        let came = record.tally.since(&self.seen);
        self.seen = record.tally;
        let is_larger = record.tally.need > self.need;
        if record.tally.need > 0 {
            self.need = self.need.max(record.tally.need);
            self.need_until = now.saturating_add(NEED_FOR);
            tell(store, key, ShareRecord::forget_need)?;
        } else if self.need_until <= now {
            self.need = 0;
        }
        let demand = match self.limit.counts_in_use() {
            true => self.at_once(record.in_use(), &came),
            false => self.in_a_period(&came, passed, is_known),
        };
        let owed = u128::from(record.debt()) * u128::from(self.limit.period) / u128::from(DEBT_IN);
        let demand = demand.saturating_add(u64::try_from(owed).unwrap_or(u64::MAX));
        // One refusal is noise, where the part has not filled yet.
        let noise = u64::from(!is_known && self.need == 0);
        let is_short = came.refused > noise && !member.suffices(key, self.limit, demand, now);
        if is_known || is_short || self.need > 0 || record.is_in_debt_for_good() {
            self.smooth = demand;
            // What stands for a while is said again with each message, and is no news.
            let need = if is_larger { self.need } else { 0 };
            member.want(key, self.limit, demand, need);
        }
        self.idle = match is_known || came.refused > 0 || self.need > 0 {
            true => 0,
            false => self.idle + 1,
        };
        Ok(())
    }

    /// What is asked for at once: what is in use, and what was refused beside that.
    fn at_once(&self, in_use: u64, came: &Tally) -> u64 {
        let least = self.smooth - self.smooth.div_ceil(8);
        in_use.saturating_add(came.refused).max(least)
    }

    /// What is asked for in each period.
    fn in_a_period(&mut self, came: &Tally, passed: Time, is_known: bool) -> u64 {
        let net = came.asked.saturating_sub(self.over_returned);
        self.over_returned = self.over_returned.saturating_sub(came.asked);
        self.over_returned = self.over_returned.saturating_add(came.unused.saturating_sub(net));
        let net = net.saturating_sub(came.unused);
        let rate = scale(net, self.limit.period, passed);
        if !is_known {
            self.missed = 0;
            return rate;
        }
        let expected = scale(self.smooth, passed, self.limit.period);
        if let Some(request) = came.asked.checked_div(came.requests) {
            self.request = request.max(1);
        }
        let surprise = self.request.saturating_mul(SURPRISE);
        self.missed = match came.requests {
            0 => self.missed.saturating_add(expected),
            _ => 0,
        };
        let moves = rate.abs_diff(self.smooth) > self.limit.rate / 4 && net.abs_diff(expected) > surprise;
        let keep = match moves || self.missed > surprise {
            _ if self.missed > surprise.saturating_mul(2) => 0,
            true => 1,
            false => SMOOTH - 1,
        };
        let sum = u128::from(self.smooth) * u128::from(keep) + u128::from(rate);
        u64::try_from(sum / u128::from(keep + 1)).unwrap_or(u64::MAX)
    }
}

/// A share as it is; `None` where there is none.
fn look(store: &mut impl Store, key: Key) -> Result<Option<ShareRecord>, StoreError> {
    let (record, _) = store.load::<ShareRecord>(&share_key(key))?;
    Ok(record.filter(|record| !record.is_new()))
}

/// Changes what of a share is between the workers and the member.
fn tell(store: &mut impl Store, key: Key, change: impl Fn(&mut ShareRecord)) -> Result<(), StoreError> {
    let told = store.modify(&share_key(key), &mut None, ShareRecord::new, |record| {
        change(record);
        Some(())
    });
    told.map(drop)
}

/// `of × to ÷ from`, rounded down.
fn scale(of: u64, to: u64, from: u64) -> u64 {
    let scaled = u128::from(of) * u128::from(to) / u128::from(from.max(1));
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use tollgate_shares::{Incarnation, Timing};

    use super::*;
    use crate::limits::Lease;
    use crate::state::Memory;

    /// Leaves a note of a share that refused a request of this organization.
    fn short(store: &mut Memory, key: usize, org: &str) -> Note {
        let note = Note {
            key: Key((key as u128).to_be_bytes()),
            org: Org::named(org),
        };
        let place = share_key(note.key);
        let refused = store.modify(&place, &mut None, ShareRecord::new, |record| {
            assert!(record.fit(Limit::in_use(8), &Lease::default(), 1));
            record.came(note.org);
            record.refuse(1);
            Some(())
        });
        refused.unwrap();
        note
    }

    #[test]
    fn no_organization_takes_the_places_of_others() {
        let mut store = Memory::default();
        let mut demands = Demands::default();
        for key in 0..2 * MAX_OF_ONE {
            let note = short(&mut store, key, "acme");
            demands.track(&mut store, note).unwrap();
        }
        assert_eq!(demands.len(), MAX_OF_ONE);
        let note = short(&mut store, MAX, "globex");
        demands.track(&mut store, note).unwrap();
        assert_eq!(demands.len(), MAX_OF_ONE + 1);

        // What is over makes room.
        let member = Member::new(Timing::FLEET, Incarnation(1));
        let first = Key(0_u128.to_be_bytes());
        demands.forget(&mut store, first, &member, 0).unwrap();
        let note = short(&mut store, MAX + 1, "acme");
        demands.track(&mut store, note).unwrap();
        assert_eq!(demands.len(), MAX_OF_ONE + 1);
    }
}

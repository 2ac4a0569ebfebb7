//! When messages are sent, and how answers come into force: all of an answer before the next message, which says that it is.
//!
//! ```text
//! workers ──what was too small──▶ demands ──▶ message ──▶ control plane
//!    ▲                                                        │
//!    └──leases and shares, in the store──◀── answer ──────────┘
//! ```

use std::collections::VecDeque;

use tollgate_shares::{Answer, Change, Incarnation, Key, Member, Terms, Timing, micros};

use super::demand::Demands;
use super::parts::{OverUsed, Parts};
use super::steady::Steady;
use crate::limits::{Lease, ShareRecord, share_key};
use crate::state::{Clock, Store, StoreError};

const MILLI: u64 = 1_000_000;
/// A message is sent so often at least; nanoseconds.
const HEARTBEAT: u64 = 1_000 * MILLI;
/// Urgent news waits for so long; nanoseconds.
const EXCHANGE: u64 = 240 * MILLI;
/// What is asked for is counted over so long; nanoseconds.
const WINDOW: u64 = 400 * MILLI;
/// After a share moved by much more may follow, so it asks often for so long; nanoseconds.
const HOT: u64 = 2 * HEARTBEAT;
/// A message that was not answered by then is given up; milliseconds.
pub(super) const TIMEOUT_MILLIS: u32 = 480;
/// How long a lease is; nanoseconds.
const TTL: u64 = Timing::FLEET.ttl * 1_000;

/// So many lives has a member at most: it would take thousands of years.
const LIVES: u64 = 1 << 32;
const UNREADABLE: &str = "the shared data cannot be read or written";
const RIVAL: &str = "another member has this Envoy's lease, so this one stops until that has run out. Where that stays so there \
                     are several: `singleton: true` is missing in `bootstrap_extensions`";

/// What a member has done for it by a host `H`, beside what workers share and the time.
pub trait Outside<H> {
    /// A message that was sent.
    type Call: Copy + PartialEq;

    /// Sends a message to the control plane, which is given up after so many milliseconds. `Err` says why it can't be sent.
    fn send(&mut self, host: &mut H, message: &[u8], timeout_millis: u32) -> Result<Self::Call, String>;

    /// Counts a message.
    fn count(&mut self, exchanged: Exchanged);

    /// Counts that it has found another member of its Envoy, and stopped.
    fn stop(&mut self);

    /// How things stand: milliseconds until the lease ends, and how many limits are looked after.
    fn stand(&mut self, lease_millis: u64, limits: u64);

    /// Tells the operator what is wrong.
    fn complain(&mut self, complaint: &str);
}

/// What came of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exchanged {
    /// It was answered, and the lease renewed.
    Renewed,
    /// It was answered, and nothing was renewed.
    Refused,
    /// Nobody answered, or with an error.
    Failed,
}

/// This Envoy as a member of the fleet.
pub struct Membership<C> {
    /// Its first life; the next ones are counted on from there.
    first: u64,
    /// Another member has this Envoy's lease, so it does nothing.
    is_stopped: bool,
    member: Member,
    clock: Steady,
    demands: Demands,
    parts: Parts,
    /// As it is in the store, or will be.
    lease: Lease,
    /// The same by the steady clock: when what renewed it was sent.
    renewed: u64,
    /// What is still to be put into force.
    effects: VecDeque<Effect>,
    call: Option<C>,
    sent: u64,
    counted: u64,
    /// It asks often until then.
    hot: u64,
    /// The last complaint, so that the operator hears it once.
    complaint: String,
}

/// One thing that an answer changes for the workers.
#[derive(Debug, Clone)]
enum Effect {
    Drop(Key),
    Restore(Key),
    Lease,
    /// The lease has other parts.
    Parts,
    Change(Change),
}

impl<C: Copy + PartialEq> Membership<C> {
    /// One that has nothing, and joins at its first tick. `drawn` is a number that no other start draws.
    pub fn new(drawn: u64) -> Self {
        Self {
            first: drawn,
            is_stopped: false,
            member: Member::new(Timing::FLEET, Incarnation(drawn)),
            clock: Steady::default(),
            demands: Demands::default(),
            parts: Parts::default(),
            lease: Lease::default(),
            renewed: 0,
            effects: VecDeque::new(),
            call: None,
            sent: 0,
            counted: 0,
            hot: 0,
            complaint: String::new(),
        }
    }

    /// Counts what is asked for, and sends a message when it is time.
    pub fn tick<H: Store + Clock>(&mut self, host: &mut H, outside: &mut impl Outside<H, Call = C>) {
        let Some(wall) = host.now() else { return };
        let now = self.now(wall);
        match self.has_rival(host, wall) {
            Ok(true) => return self.stop(host, outside),
            Ok(false) => self.is_stopped = false,
            Err(_) => return self.complain(UNREADABLE, outside),
        }
        let done = self
            .put_into_force(host, wall)
            .and_then(|()| self.look(host, now));
        match done {
            Ok(()) if self.is_due(now) => self.send(host, now, outside),
            Ok(()) => {}
            Err(_) => self.complain(UNREADABLE, outside),
        }
        let end = self.renewed.saturating_add(TTL);
        let left = if self.lease.life == 0 {
            0
        } else {
            end.saturating_sub(now)
        };
        outside.stand(left / MILLI, self.demands.len() as u64);
    }

    /// A message was answered, or nobody could be reached. `body` gives the answer; `Err` says why it can't.
    pub fn answered<H: Store + Clock>(
        &mut self,
        answered: C,
        status: Option<&str>,
        body: impl FnOnce() -> Result<Vec<u8>, String>,
        host: &mut H,
        outside: &mut impl Outside<H, Call = C>,
    ) {
        if self.call != Some(answered) {
            return;
        }
        self.call = None;
        let Some(wall) = host.now() else { return };
        let now = self.now(wall);
        let answer = match status {
            Some("200") => body().and_then(|body| read(&body)),
            // A later message overtook it.
            Some("204") => return outside.count(Exchanged::Refused),
            Some(status) => Err(format!("answered with status {status}")),
            None => Err("cannot be reached, or did not answer in time".to_owned()),
        };
        match answer {
            Ok(answer) => {
                let is_renewed = self.receive(&answer, now);
                self.complaint.clear();
                outside.count(match is_renewed {
                    true => Exchanged::Renewed,
                    false => Exchanged::Refused,
                });
                // What fails is tried again with the next tick, before the next message.
                let _ = self.put_into_force(host, wall);
            }
            Err(why) => {
                outside.count(Exchanged::Failed);
                self.complain(&format!("the control plane {why}"), outside);
            }
        }
    }

    /// The time. A lease of before the host's clock was set back is written anew, so that it is no longer than it was.
    fn now(&mut self, wall: u64) -> u64 {
        let (now, set_back) = self.clock.read(wall);
        if set_back && self.lease.life != 0 {
            self.lease_by(now);
            self.effects.push_back(Effect::Lease);
        }
        now
    }

    /// Takes an answer; whether it renewed the lease.
    fn receive(&mut self, answer: &Answer, now: u64) -> bool {
        let is_expected = self.member.expects(answer);
        let received = self.member.receive(answer, micros(now));
        // It is not taken where it came too late, for its own lease or for the one before.
        let is_taken = is_expected && self.member.is_valid(micros(now));
        let Some(terms) = answer.terms.as_ref().filter(|_| is_taken) else {
            return false;
        };
        self.renewed = self.sent;
        let number = self.lease.number;
        self.renew(answer.incarnation, terms, now);
        // Nobody may use a part that is given up once the lease is renewed. What shrinks is counted until the next message
        // says that it has.
        self.effects
            .extend(received.dropped.into_iter().map(Effect::Drop));
        self.effects
            .extend(received.restored.into_iter().map(Effect::Restore));
        self.effects.push_back(Effect::Lease);
        if self.lease.number != number {
            self.effects.push_back(Effect::Parts);
        }
        for change in received.changes {
            if change.after.rate.abs_diff(change.before.share.rate) > change.limit.rate / 8 {
                self.hot = now.saturating_add(HOT);
            }
            self.effects.push_back(Effect::Change(change));
        }
        true
    }

    /// The lease as an answer has it.
    fn renew(&mut self, Incarnation(life): Incarnation, terms: &Terms, now: u64) {
        if self.lease.life != life {
            self.lease = Lease {
                life,
                number: self.lease.number + 1,
                ..Lease::default()
            };
        }
        // Smaller parts begin empty, as nobody knows when each was used last.
        if let Some(slot) = terms.slot.filter(|slot| slot.parts > self.lease.parts) {
            let age = match self.lease.parts {
                0 => slot.age.saturating_mul(1_000),
                _ => 0,
            };
            self.lease.number += 1;
            self.lease.parts = slot.parts;
            self.lease.since = self.clock.wall(now.saturating_sub(age));
        }
        self.lease_by(now);
    }

    /// Says until when the lease is valid by the host's clock.
    const fn lease_by(&mut self, now: u64) {
        self.lease.from = self.clock.wall(self.renewed);
        self.lease.until = self.clock.wall(self.renewed.saturating_add(TTL));
        // A clock that was set back stands before that.
        if self.clock.wall(now) < self.lease.from {
            self.lease.from = self.clock.wall(now);
        }
    }

    /// Puts what answers changed into force, in their order.
    fn put_into_force(&mut self, host: &mut impl Store, wall: u64) -> Result<(), StoreError> {
        while let Some(effect) = self.effects.front().cloned() {
            match effect {
                Effect::Drop(key) => self.drop_part(host, key)?,
                Effect::Restore(key) => change(host, key, ShareRecord::restore)?,
                Effect::Lease => self.write_lease(host, wall)?,
                Effect::Parts => self.renew_parts(host, wall)?,
                Effect::Change(change) => self.change(host, &change, wall)?,
            }
            self.effects.pop_front();
        }
        Ok(())
    }

    /// Whether the lease that is in force is another member's. By two that take turns each share would begin again and again.
    fn has_rival(&self, host: &mut impl Store, wall: u64) -> Result<bool, StoreError> {
        let lease = Lease::read(host)?.filter(|lease| lease.is_valid(wall));
        Ok(lease.is_some_and(|lease| !is_own(self.first, lease.life)))
    }

    /// Leaves the fleet, and waits until the other is no more.
    fn stop<H: Store + Clock>(&mut self, host: &mut H, outside: &mut impl Outside<H, Call = C>) {
        if self.is_stopped {
            return;
        }
        self.is_stopped = true;
        let was_member = self.lease.life != 0;
        let last = self.member.leave();
        if let Ok(last) = serde_json::to_vec(&last)
            && was_member
        {
            // Where it is lost its lease ends by itself.
            let _ = outside.send(host, &last, TIMEOUT_MILLIS);
        }
        let Incarnation(next) = self.member.incarnation();
        *self = Self {
            first: self.first,
            is_stopped: true,
            clock: core::mem::take(&mut self.clock),
            complaint: core::mem::take(&mut self.complaint),
            ..Self::new(next)
        };
        outside.stop();
        self.complain(RIVAL, outside);
    }

    /// Writes the lease, and the rest of the answer counts if no other member was quicker.
    fn write_lease(&mut self, host: &mut impl Store, wall: u64) -> Result<(), StoreError> {
        let first = self.first;
        match self.lease.put(host, wall, |life| is_own(first, life))? {
            true => Ok(()),
            // The next tick finds it.
            false => Err(StoreError::Contended),
        }
    }

    fn drop_part(&mut self, host: &mut impl Store, key: Key) -> Result<(), StoreError> {
        let life = self.lease.life;
        let place = share_key(key);
        let dropped = host.modify(&place, &mut None, ShareRecord::new, |record| {
            record.drop_part(life);
            Some((record.limit(), record.in_use(), record.is_in_debt_for_good()))
        })?;
        match dropped {
            Some((limit, in_use @ 1.., _)) => self.keep(host, &OverUsed { key, limit, in_use }),
            // It asks for a share to pay by, with the next window.
            Some((.., true)) => self.demands.keep(host, key),
            _ => Ok(()),
        }
    }

    /// Tells the coordinator of more in use than smaller parts have, before it hears that they are smaller.
    fn renew_parts(&mut self, host: &mut impl Store, wall: u64) -> Result<(), StoreError> {
        for over_used in self.parts.renew(host, &self.lease, wall)? {
            self.keep(host, &over_used)?;
        }
        Ok(())
    }

    /// What is in use counts until it is released.
    fn keep(
        &mut self,
        host: &mut impl Store,
        OverUsed { key, limit, in_use }: &OverUsed,
    ) -> Result<(), StoreError> {
        self.member.want(*key, *limit, *in_use, 0);
        self.member.in_use(*key, *in_use);
        self.demands.keep(host, *key)
    }

    fn change(&mut self, host: &mut impl Store, change: &Change, wall: u64) -> Result<(), StoreError> {
        let lease = self.lease;
        let place = share_key(change.key);
        let returned = host.modify(&place, &mut None, ShareRecord::new, |record| {
            let is_current = record.fit(change.limit, &lease, wall);
            is_current.then(|| record.change(change.before.share, change.after, change.units))
        })?;
        // Only another copy of this, with another lease, could have been there.
        let returned = returned.ok_or(StoreError::Contended)?;
        self.member.returned(change.key, returned);
        Ok(())
    }

    /// Counts what is asked for, once a window.
    fn look(&mut self, host: &mut impl Store, now: u64) -> Result<(), StoreError> {
        self.parts.take(host)?;
        let passed = now.saturating_sub(self.counted);
        if passed >= WINDOW {
            self.counted = now;
            let times = (micros(passed), micros(now));
            self.demands.count(host, &mut self.member, times)?;
        }
        Ok(())
    }

    fn is_due(&self, now: u64) -> bool {
        let quiet = now.saturating_sub(self.sent);
        let waits = self.call.is_some() && quiet < 2 * EXCHANGE;
        let hurries = now < self.hot || self.member.is_urgent();
        !waits && (quiet >= HEARTBEAT || (quiet >= EXCHANGE && hurries))
    }

    fn send<H: Store + Clock>(&mut self, host: &mut H, now: u64, outside: &mut impl Outside<H, Call = C>) {
        if self.demands.state(host, &mut self.member).is_err() {
            return self.complain("the shared data cannot be read", outside);
        }
        let message = self.member.message(micros(now));
        self.sent = now;
        self.call = None;
        let sent = serde_json::to_vec(&message)
            .map_err(|error| error.to_string())
            .and_then(|message| outside.send(host, &message, TIMEOUT_MILLIS));
        match sent {
            Ok(call) => self.call = Some(call),
            Err(why) => {
                outside.count(Exchanged::Failed);
                self.complain(&why, outside);
            }
        }
    }

    fn complain<H>(&mut self, what: &str, outside: &mut impl Outside<H, Call = C>) {
        if self.complaint != what {
            what.clone_into(&mut self.complaint);
            outside.complain(&format!("fleet: {what}"));
        }
    }
}

/// Whether this is one of the lives of the member whose first it is.
const fn is_own(first: u64, life: u64) -> bool {
    life.wrapping_sub(first) < LIVES
}

fn read(body: &[u8]) -> Result<Answer, String> {
    serde_json::from_slice(body).map_err(|error| format!("sent an answer that is none: {error}"))
}

fn change(host: &mut impl Store, key: Key, change: impl Fn(&mut ShareRecord)) -> Result<(), StoreError> {
    let changed = host.modify(&share_key(key), &mut None, ShareRecord::new, |record| {
        change(record);
        Some(())
    });
    changed.map(drop)
}

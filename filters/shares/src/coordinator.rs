//! The coordinator: its books, and what it answers to one message. A pure function of both and of the time.
//!
//! Everything is a value under a key, or an ordered set of which the first few are taken, and a message touches the
//! values of its member and of the keys that it names: one atomic script of Redis or one SQL transaction can do the
//! same. Nothing goes over all subjects or all members.

mod clock;
mod log;
mod roll;
mod serve;
mod slots;
mod subject;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::limit::{Limit, Share, Time};
use crate::message::{Answer, Epoch, Grant, Incarnation, Key, Message, SlotTerms, Terms};
use crate::timing::{Mutation, Timing};
use clock::Clock;
use log::Log;
use roll::Roll;
use slots::Slots;
use subject::Subject;

/// So many shares that have to shrink are told in one answer, beside those it was asked about.
const MAX_PENDING: usize = 256;
/// So many subjects are looked after with each message.
const CHECKS: usize = 8;
/// So many members are in the books at most. Who comes then has nothing until others have gone.
pub const MAX_MEMBERS: usize = 8_192;
/// So many subjects are in the books at most. Of others members have their implicit parts alone.
pub const MAX_SUBJECTS: usize = 1 << 18;
/// Which rule this is. Books that are kept as the messages that made them become others by another rule: whoever changes
/// any answer gives it another number.
pub const RULE: u32 = 2;

/// The coordinator's books. They can be written down (`serde`) and go on from there; what is written is for the same
/// [`RULE`] alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Coordinator {
    timing: Timing,
    epoch: Epoch,
    clock: Clock,
    roll: Roll,
    slots: Slots,
    log: Log,
    subjects: BTreeMap<Key, Subject>,
    /// When each subject is looked after next.
    checks: BTreeSet<(Time, Key)>,
    /// Shares that have to shrink, and of which the member has not yet said that it has.
    pending: BTreeSet<(Incarnation, Key)>,
}

impl Coordinator {
    /// Empty books, in which nobody has anything until all that may have been in lost ones has run out: `ttl + skew`.
    /// `epoch` is random. There are `parts` slots, and twice as many whenever they don't suffice.
    pub fn new(timing: Timing, epoch: Epoch, parts: u32, wall: Time) -> Self {
        let ready = match timing.breaks(Mutation::ForgottenGrantsAtOnce) {
            true => 0,
            false => timing.held_for(),
        };
        Self {
            timing,
            epoch,
            clock: Clock::new(wall, ready),
            roll: Roll::default(),
            slots: Slots::new(parts.max(1).next_power_of_two(), ready),
            log: Log::default(),
            subjects: BTreeMap::new(),
            checks: BTreeSet::new(),
            pending: BTreeSet::new(),
        }
    }

    /// Takes a message and answers it. `wall` is the time of the one clock of the place where the books are; it may jump.
    /// `None` for a message that a later one has overtaken, and for a member's last.
    pub fn receive(&mut self, message: &Message, wall: Time) -> Option<Answer> {
        let now = self.clock.read(wall, &self.timing);
        self.expire(now);
        self.look_after(now);
        let answer = |terms| Answer {
            incarnation: message.incarnation,
            seq: message.seq,
            epoch: self.epoch,
            terms,
        };
        let is_known = self.roll.get(message.incarnation).is_some();
        let stranger = message
            .epoch
            .is_some_and(|epoch| epoch != self.epoch || !is_known);
        let full = !is_known && self.roll.len() >= MAX_MEMBERS;
        if stranger || full || !self.clock.is_ready() {
            return Some(answer(None));
        }
        if self.is_overtaken(message) && !self.timing.breaks(Mutation::AnyOrder) {
            return None;
        }
        if message.leaves {
            self.forget(message.incarnation, now);
            return None;
        }
        let credit = self.hear(message, now);
        let slot = self.slot_of(message, now);
        let grants = self.grants(message, credit, now);
        // Read last, so that what this very message activated is in it.
        let (version, log) = self.log.after(message.version, self.timing.page());
        let slot = slot.filter(|_| message.parts > 0 || version == self.log.head());
        if let Some(record) = self
            .roll
            .get_mut(message.incarnation)
            .filter(|_| slot.is_some() && message.parts == 0)
        {
            self.slots.acknowledge(message.incarnation, record, version);
        }
        let terms = Terms {
            slot,
            version,
            log,
            grants,
        };
        Some(Answer {
            incarnation: message.incarnation,
            seq: message.seq,
            epoch: self.epoch,
            terms: Some(terms),
        })
    }

    /// Whether a later message of the same member was heard. It is ignored then.
    pub fn is_overtaken(&self, message: &Message) -> bool {
        let record = self.roll.get(message.incarnation);
        record.is_some_and(|record| message.seq <= record.seq)
    }

    /// Puts into the books that a member was heard; whether the tokens it returns are news.
    fn hear(&mut self, message: &Message, now: Time) -> bool {
        let until = now.saturating_add(self.timing.held_for());
        let record = self.roll.hear(message.incarnation, now, until);
        let credit = message.answered > record.answered;
        record.seq = message.seq;
        record.answered = message.answered;
        if message.parts > 0 {
            self.slots
                .acknowledge(message.incarnation, record, message.version);
            self.slots.halved_by(record, message.parts, now);
        }
        credit
    }

    /// The slot that a member has, or gets now if it is up to date with the log.
    fn slot_of(&mut self, message: &Message, now: Time) -> Option<SlotTerms> {
        let living = self.roll.len();
        let record = self.roll.get_mut(message.incarnation)?;
        let close = self.log.is_close(message.version, self.timing.page());
        if record.slot.is_none() && close {
            let waited = now.saturating_sub(record.joined);
            self.slots.take(message.incarnation, record, self.log.head());
            if record.slot.is_none() && waited >= self.timing.patience {
                self.slots.double(living, &self.timing, now);
            }
        }
        let slot = record.slot?;
        Some(SlotTerms {
            parts: self.slots.announced(),
            // Less than that by what the clock may be ahead, so that nothing has filled too early.
            age: now.saturating_sub(slot.free_since.saturating_add(self.timing.skew)),
        })
    }

    fn grants(&mut self, message: &Message, credit: bool, now: Time) -> Vec<Grant> {
        let who = message.incarnation;
        let mut grants = Vec::with_capacity(message.wants.len());
        for want in &message.wants {
            grants.extend(self.serve(who, want, credit, now));
        }
        let told = self.pending_of(who).take(MAX_PENDING);
        let told: Vec<_> = told.collect();
        for (_, key) in told {
            if message.wants.iter().all(|want| want.key != key) {
                grants.extend(self.tell(who, key, now));
            }
        }
        grants
    }

    fn pending_of(&self, who: Incarnation) -> impl Iterator<Item = (Incarnation, Key)> {
        let all = (who, Key([0; 16]))..=(who, Key([u8::MAX; 16]));
        self.pending.range(all).copied()
    }

    /// Members whose leases have run out, and with them what they held.
    fn expire(&mut self, now: Time) {
        while let Some(incarnation) = self.roll.expired(now) {
            self.forget(incarnation, now);
        }
    }

    fn forget(&mut self, incarnation: Incarnation, now: Time) {
        if let Some(record) = self.roll.remove(incarnation) {
            self.slots.free(incarnation, &record, now);
        }
        let pending: Vec<_> = self.pending_of(incarnation).collect();
        for one in pending {
            self.pending.remove(&one);
        }
    }

    /// What its place's clock said with the last message.
    pub const fn wall(&self) -> Time {
        self.clock.wall()
    }

    /// How many subjects it keeps, members, slots and entries of the log.
    pub fn sizes(&self) -> [usize; 4] {
        let slots = usize::try_from(self.slots.parts()).unwrap_or(usize::MAX);
        [self.subjects.len(), self.roll.len(), slots, self.log.len()]
    }

    /// What the members may hold of a key by explicit shares, as the books have it.
    pub fn held(&self, key: Key) -> Share {
        let subject = self.subjects.get(&key);
        subject.map_or_else(Share::default, |subject| {
            subject.held(|who| self.roll.get(who).is_some())
        })
    }

    fn part(&self, limit: Limit) -> Share {
        limit.part(self.slots.parts())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Want;

    const TIMING: Timing = Timing::new(100, 20, 20);

    /// Books in which something is granted.
    fn begun() -> Coordinator {
        let mut books = Coordinator::new(TIMING, Epoch(1), 4, 0);
        for wall in 1..=6 {
            books.receive(&message(0, 1, []), wall * TIMING.max_step);
        }
        books
    }

    fn message(who: u64, seq: u64, wants: impl IntoIterator<Item = Want>) -> Message {
        Message {
            incarnation: Incarnation(who),
            seq,
            answered: 0,
            epoch: None,
            version: 0,
            parts: 0,
            leaves: false,
            wants: wants.into_iter().collect(),
        }
    }

    fn want(key: usize, burst: u64) -> Want {
        Want {
            key: Key((key as u128).to_be_bytes()),
            limit: Limit::in_use(burst),
            have: Share::default(),
            returned: 0,
            demand: 1,
            need: 0,
        }
    }

    fn granted(answer: Option<Answer>) -> Vec<Key> {
        let terms = answer.unwrap().terms.unwrap();
        terms.grants.iter().map(|grant| grant.key).collect()
    }

    #[test]
    fn full_books_take_nobody_and_nothing_new() {
        let mut books = begun();
        books.receive(&message(0, 2, (0..MAX_SUBJECTS).map(|key| want(key, 2))), 130);
        let told = granted(books.receive(&message(0, 3, [want(MAX_SUBJECTS, 2), want(0, 2)]), 131));
        assert_eq!(told, [want(0, 2).key]);

        for who in 1..MAX_MEMBERS as u64 {
            assert!(books.receive(&message(who, 1, []), 132).unwrap().terms.is_some());
        }
        let newcomer = books.receive(&message(MAX_MEMBERS as u64, 1, []), 133).unwrap();
        assert_eq!(newcomer.terms, None);
        assert_eq!(books.sizes()[..2], [MAX_SUBJECTS, MAX_MEMBERS]);
    }

    /// Whoever says a larger limit than others do would have them pass more than theirs.
    #[test]
    fn a_key_has_the_limit_that_was_said_first() {
        let mut books = begun();
        books.receive(&message(0, 2, [want(0, 2)]), 130);
        assert_eq!(granted(books.receive(&message(1, 1, [want(0, 9)]), 131)), []);
        assert_eq!(
            granted(books.receive(&message(1, 2, [want(0, 2)]), 132)),
            [want(0, 2).key]
        );
    }

    /// With a steady demand nobody would ask again.
    #[test]
    fn what_the_dead_held_is_told_to_those_who_stay() {
        let limit = Limit {
            rate: 600,
            period: 60,
            burst: 600,
        };
        let wants = |have| Want {
            limit,
            have,
            demand: 600,
            ..want(0, 0)
        };
        let mut books = begun();
        let half = Share {
            rate: 300,
            burst: 300,
        };
        books.receive(&message(1, 1, [wants(half)]), 130);
        books.receive(&message(2, 1, [wants(half)]), 131);
        // One is never heard again. The other has nothing to say.
        let died_at = 131;
        let told_at = (2..).find_map(|seq| {
            let wall = died_at + 5 * seq;
            let answer = books.receive(&message(1, seq, []), wall)?;
            let mut grants = answer.terms?.grants.into_iter();
            grants
                .any(|grant| grant.share.rate > 590)
                .then_some(wall - died_at)
        });
        let latest = 2 * TIMING.held_for() + 5;
        assert!(told_at.is_some_and(|at| at <= latest), "{told_at:?}, {latest}");
    }

    /// Of four slots one is taken. The rest of the limit has been full for long.
    #[test]
    fn what_free_slots_have_comes_with_the_first_share() {
        let mut books = begun();
        let limit = Limit {
            rate: 400,
            period: 40,
            burst: 400,
        };
        let ask = Want {
            limit,
            demand: 400,
            need: 300,
            ..want(0, 0)
        };
        for wall in 7..=12 {
            books.receive(&message(0, wall, []), wall * TIMING.max_step);
        }
        let answer = books.receive(&message(0, 20, [ask]), 240);
        let grant = answer.unwrap().terms.unwrap().grants[0];
        assert_eq!((grant.share.burst, grant.units), (400, 300 * 40));
    }

    /// All have used their parts of a limit, which has none once slots are halved.
    #[test]
    fn a_limit_that_had_parts_before_slots_were_halved_begins_empty() {
        let mut books = begun();
        let limit = Limit {
            rate: 7,
            period: 7_000,
            burst: 7,
        };
        let ask = Want { limit, ..want(9, 0) };
        let units = |books: &mut Coordinator, seq, wall| {
            let answer = books.receive(&message(0, seq, [ask]), wall);
            answer.unwrap().terms.unwrap().grants[0].units
        };
        // Four have the slots, and a fifth comes.
        for who in 0..5 {
            books.receive(&message(who, 2, []), 130);
        }
        let mut wall = 130;
        for seq in 3..=3 + TIMING.patience / 20 {
            wall += 20;
            for who in 0..5 {
                let heard = message(who, seq, []);
                books.receive(
                    &Message {
                        parts: 4 * u32::from(who < 4),
                        ..heard
                    },
                    wall,
                );
            }
        }
        let halved = |who, seq| Message {
            parts: 8,
            ..message(who, seq, [])
        };
        for who in 0..4 {
            books.receive(&halved(who, 100), wall);
        }
        assert_eq!(books.sizes()[2], 8);
        assert_eq!(units(&mut books, 101, wall + 1), 0);
    }

    /// It may be using its part, which would come back full.
    #[test]
    fn a_key_stays_until_each_slot_has_read_that_it_was_activated() {
        let mut books = begun();
        let with_slot = |who, seq, version| Message {
            version,
            parts: 4,
            ..message(who, seq, [])
        };
        let asks = |demand| Want {
            limit: Limit::in_use(8),
            demand,
            ..want(0, 0)
        };
        books.receive(&message(1, 1, []), 130);
        books.receive(&message(2, 1, []), 130);
        for (seq, demand) in [(2, 1), (3, 0)] {
            let wants = vec![asks(demand)];
            books.receive(
                &Message {
                    wants,
                    ..with_slot(1, seq, 0)
                },
                130,
            );
        }
        let mut wall = 130;
        let gave_back = vec![asks(0)];
        books.receive(
            &Message {
                wants: gave_back,
                ..with_slot(1, 4, 1)
            },
            wall,
        );
        let mut subjects_after = |version, seqs: core::ops::Range<u64>| {
            for seq in seqs {
                wall += 20;
                books.receive(&with_slot(1, seq, 1), wall);
                books.receive(&with_slot(2, seq, version), wall);
            }
            books.sizes()[0]
        };
        assert_eq!(subjects_after(0, 5..30), 1);
        assert_eq!(subjects_after(1, 30..60), 0);
    }

    #[test]
    fn what_is_written_down_goes_on() {
        let mut books = begun();
        books.receive(&message(0, 2, [want(0, 8), want(1, 1)]), 130);
        books.receive(&message(1, 1, [want(0, 8)]), 131);
        let text = serde_json::to_string(&books).unwrap();
        let read: Coordinator = serde_json::from_str(&text).unwrap();
        assert_eq!(read, books);
    }
}

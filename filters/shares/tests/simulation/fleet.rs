//! A fleet on a virtual clock: requests by a plan, messages that take a while, and a bucket of the whole limit beside them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use tollgate_shares::{Allowance, Answer, Bucket, Coordinator, Epoch, Key, Limit, Message, Time, Timing};

use crate::envoy::Envoy;
use crate::random::Random;

pub(crate) const SECOND: Time = 1_000_000;
/// A lease of ten seconds, and two for clocks.
pub(crate) const TIMING: Timing = Timing::new(10 * SECOND, 2 * SECOND, SECOND);

/// What was counted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Figures {
    pub(crate) asked: u64,
    pub(crate) passed: u64,
    /// What one bucket of the whole limit would have passed of the same requests.
    pub(crate) possible: u64,
    /// Requests that passed though a bucket of the whole limit that saw the same would have been empty.
    pub(crate) over: u64,
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

pub(crate) struct Fleet {
    pub(crate) time: Time,
    envoys: Vec<Envoy>,
    pub(crate) coordinator: Coordinator,
    limits: Vec<Limit>,
    /// Of what passed.
    whole: Vec<Bucket>,
    /// Of all that was asked for.
    ideal: Vec<Bucket>,
    on_the_way: BinaryHeap<Reverse<(Time, u64, usize)>>,
    parcels: std::collections::HashMap<u64, Parcel>,
    sent: u64,
    random: Random,
    pub(crate) figures: Figures,
    /// Digest of all answers.
    pub(crate) answers: u64,
}

enum Parcel {
    Message(Message),
    Answer(Answer),
}

impl Fleet {
    pub(crate) fn new(members: usize, limits: Vec<Limit>, parts: u32) -> Self {
        let full = |limit: &Limit| {
            let mut bucket = Bucket::new(whole(*limit));
            bucket.advance(*limit, whole(*limit), 1 << 40);
            bucket
        };
        Self {
            time: 0,
            envoys: (0..members).map(|at| Envoy::new(TIMING, at as u64)).collect(),
            coordinator: Coordinator::new(TIMING, Epoch(1), parts, 0),
            whole: limits.iter().map(full).collect(),
            ideal: limits.iter().map(full).collect(),
            limits,
            on_the_way: BinaryHeap::new(),
            parcels: std::collections::HashMap::new(),
            sent: 0,
            random: Random::new(11),
            figures: Figures::default(),
            answers: 0xcbf2_9ce4_8422_2325,
        }
    }

    /// Forgets what was counted.
    pub(crate) fn count_anew(&mut self) -> Figures {
        std::mem::take(&mut self.figures)
    }

    /// Lets time go on by steps of 20 ms; in each `plan` says which member is asked for which subject.
    pub(crate) fn run(&mut self, time: Time, mut plan: impl FnMut(&mut Random, &mut Vec<(usize, usize)>)) {
        const STEP: Time = 20_000;
        let end = self.time + time;
        let mut requests = Vec::new();
        while self.time < end {
            self.time += STEP;
            self.deliver();
            requests.clear();
            plan(&mut self.random, &mut requests);
            for (member, subject) in &requests {
                self.ask(*member, *subject);
            }
            for at in 0..self.envoys.len() {
                if let Some(message) = self.envoys[at].message(self.time) {
                    self.figures.messages += 1;
                    self.figures.bytes += postcard::to_allocvec(&message).unwrap().len() as u64;
                    self.post(at, Parcel::Message(message));
                }
            }
        }
    }

    fn ask(&mut self, member: usize, subject: usize) {
        let (limit, now) = (self.limits[subject], (1 << 40) + self.time);
        self.figures.asked += 1;
        self.figures.possible += u64::from(self.ideal[subject].take(limit, whole(limit), 1, now));
        if self.envoys[member].admit(key(subject), limit, self.time) {
            self.figures.passed += 1;
            let would = self.whole[subject].take(limit, whole(limit), 1, now);
            self.figures.over += u64::from(!would);
        }
    }

    /// It takes 2 to 20 ms, and one in a thousand is lost.
    fn post(&mut self, member: usize, parcel: Parcel) {
        if self.random.below(1000) > 0 {
            let at = self.time + 2_000 + self.random.below(18_000);
            self.sent += 1;
            self.on_the_way.push(Reverse((at, self.sent, member)));
            self.parcels.insert(self.sent, parcel);
        }
    }

    fn deliver(&mut self) {
        while let Some(Reverse((at, id, member))) = self.on_the_way.peek().copied() {
            if at > self.time {
                return;
            }
            self.on_the_way.pop();
            match self.parcels.remove(&id) {
                Some(Parcel::Message(message)) => {
                    if let Some(answer) = self.coordinator.receive(&message, at) {
                        let bytes = postcard::to_allocvec(&answer).unwrap();
                        self.figures.bytes += bytes.len() as u64;
                        // FNV-1a.
                        let fold =
                            |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
                        self.answers = bytes.iter().fold(self.answers, fold);
                        self.post(member, Parcel::Answer(answer));
                    }
                }
                Some(Parcel::Answer(answer)) => self.envoys[member].receive(&answer, self.time),
                None => {}
            }
        }
    }
}

pub(crate) fn key(subject: usize) -> Key {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&(subject as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    Key(key)
}

fn whole(limit: Limit) -> Allowance {
    Allowance {
        share: limit.whole(),
        since: 0,
        got: 0,
    }
}

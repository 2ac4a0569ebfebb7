//! A member with its buckets and its clock, as an Envoy would keep them.

use std::collections::BTreeMap;

use tollgate_shares::{Answer, Bucket, Incarnation, Key, Limit, Member, Message, Share, Time, Timing};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    pub(crate) member: Member,
    buckets: BTreeMap<Key, Bucket>,
    /// Ticks that its clock has missed.
    pub(crate) lag: Time,
    pub(crate) sent: u64,
    /// When it sent last.
    last: Time,
    /// What it wants of each key.
    pub(crate) demands: BTreeMap<Key, u64>,
    at: usize,
    starts: u64,
}

impl Node {
    pub(crate) fn new(timing: Timing, at: usize) -> Self {
        Self {
            member: Member::new(timing, Incarnation(1000 * at as u64)),
            buckets: BTreeMap::new(),
            lag: 0,
            sent: 0,
            last: 0,
            demands: BTreeMap::new(),
            at,
            starts: 0,
        }
    }

    pub(crate) const fn incarnation(&self) -> Incarnation {
        Incarnation(1000 * self.at as u64 + 100 * self.starts)
    }

    /// Another process in its place.
    pub(crate) fn restart(&mut self, timing: Timing) {
        self.starts += 1;
        self.member = Member::new(timing, self.incarnation());
        self.buckets.clear();
        self.demands.clear();
    }

    /// It asks again after a tick.
    pub(crate) fn may_send(&self, time: Time) -> bool {
        !self.member.waits() || self.last < time
    }

    pub(crate) fn want(&mut self, key: Key, limit: Limit, demand: u64) {
        self.demands.insert(key, demand);
        self.member.want(key, limit, demand, 0);
    }

    /// Its own clock: another origin than anybody else's, and no faster than time.
    fn now(&self, time: Time) -> Time {
        1000 + 50 * self.at as u64 + time - self.lag
    }

    pub(crate) fn send(&mut self, time: Time) -> Message {
        self.sent += 1;
        self.last = time;
        self.member.message(self.now(time))
    }

    pub(crate) fn receive(&mut self, answer: &Answer, time: Time) {
        let now = self.now(time);
        let received = self.member.receive(answer, now);
        for change in received.changes {
            let new = Bucket::new(change.before);
            let bucket = self.buckets.entry(change.key).or_insert(new);
            let above = bucket.change(change.limit, change.before, change.after, change.units, now);
            self.member.returned(change.key, above);
        }
        for key in received.dropped.into_iter().chain(received.restored) {
            self.buckets.remove(&key);
        }
    }

    pub(crate) fn share(&self, key: Key, limit: Limit, time: Time) -> Share {
        self.member.allowance(key, limit, self.now(time)).share
    }

    /// What it would pass at once.
    pub(crate) fn units(&self, key: Key, limit: Limit, time: Time) -> u128 {
        let now = self.now(time);
        let allowance = self.member.allowance(key, limit, now);
        let mut bucket = self.buckets.get(&key).cloned().unwrap_or(Bucket::new(allowance));
        bucket.advance(limit, allowance, now);
        bucket.units()
    }

    /// Passes one request, if its bucket has a token.
    pub(crate) fn admit(&mut self, key: Key, limit: Limit, time: Time) -> bool {
        let now = self.now(time);
        let allowance = self.member.allowance(key, limit, now);
        let bucket = self.buckets.entry(key).or_insert(Bucket::new(allowance));
        bucket.take(limit, allowance, 1, now)
    }
}

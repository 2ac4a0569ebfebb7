//! A member with its buckets and its clock, as an Envoy would keep them.

use std::collections::HashMap;

use tollgate_shares::{Answer, Bucket, Incarnation, Key, Limit, Member, Message, Time, Timing};

pub(crate) struct Node {
    pub(crate) member: Member,
    buckets: HashMap<Key, Bucket>,
    timing: Timing,
    offset: Time,
    starts: u64,
}

impl Node {
    pub(crate) fn new(timing: Timing, offset: Time) -> Self {
        let mut node = Self {
            member: Member::new(timing, Incarnation(0)),
            buckets: HashMap::new(),
            timing,
            offset,
            starts: 0,
        };
        node.restart();
        node
    }

    /// Another process in its place.
    pub(crate) fn restart(&mut self) {
        self.starts += 1;
        // Spread over all 64 bits, as random ones would be.
        let incarnation = (self.offset ^ self.starts << 48).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.member = Member::new(self.timing, Incarnation(incarnation));
        self.buckets.clear();
    }

    /// Its own clock: another origin than anybody else's, and a twenty-fifth slower than time.
    fn now(&self, time: Time) -> Time {
        self.offset + time - time / 25
    }

    pub(crate) fn send(&mut self, time: Time) -> Message {
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

    /// Passes a request of so many tokens, if its bucket has them.
    pub(crate) fn admit(&mut self, key: Key, limit: Limit, tokens: u64, time: Time) -> bool {
        let now = self.now(time);
        let allowance = self.member.allowance(key, limit, now);
        let bucket = self.buckets.entry(key).or_insert(Bucket::new(allowance));
        bucket.take(limit, allowance, tokens, now)
    }
}

//! A member as an Envoy would run it: buckets, counts of what was asked for, and when it sends.

use std::collections::HashMap;

use tollgate_shares::{Answer, Bucket, Incarnation, Key, Limit, Member, Message, Time, Timing};

/// News waits for so long, in microseconds.
pub(crate) const EXCHANGE: Time = 240_000;
/// A message is sent so often at least.
pub(crate) const HEARTBEAT: Time = 1_000_000;
/// Demand is counted over so long, before it is smoothed.
const WINDOW: Time = 400_000;

pub(crate) struct Envoy {
    pub(crate) member: Member,
    buckets: HashMap<Key, Bucket>,
    counts: HashMap<Key, Count>,
    sent: Time,
    counted: Time,
    /// A share moved by much: more may follow, so it asks often until then.
    hot: Time,
    offset: Time,
}

/// What was asked for since it was counted last.
struct Count {
    limit: Limit,
    asked: u64,
    refused: u64,
    smooth: u64,
    /// How many would have come since the last one did.
    missed: u64,
}

impl Envoy {
    pub(crate) fn new(timing: Timing, at: u64) -> Self {
        Self {
            member: Member::new(timing, Incarnation(at << 32)),
            buckets: HashMap::new(),
            counts: HashMap::new(),
            sent: 0,
            counted: 0,
            hot: 0,
            offset: 1_000_000_000 + at * 7919,
        }
    }

    /// Whether a request passes: by what is here alone.
    pub(crate) fn admit(&mut self, key: Key, limit: Limit, time: Time) -> bool {
        let now = self.offset + time;
        let allowance = self.member.allowance(key, limit, now);
        let bucket = self.buckets.entry(key).or_insert(Bucket::new(allowance));
        let passes = bucket.take(limit, allowance, 1, now);
        let count = self.counts.entry(key).or_insert(Count {
            limit,
            asked: 0,
            refused: 0,
            smooth: 0,
            missed: 0,
        });
        count.asked += 1;
        count.refused += u64::from(!passes);
        passes
    }

    /// A message, if it is time for one.
    pub(crate) fn message(&mut self, time: Time) -> Option<Message> {
        let now = self.offset + time;
        if time >= self.counted + WINDOW {
            self.count(time);
        }
        let quiet = time - self.sent;
        let waits = self.member.waits() && quiet < 2 * EXCHANGE;
        let due = quiet >= HEARTBEAT || (quiet >= EXCHANGE && (time < self.hot || self.member.is_urgent()));
        (due && !waits).then(|| {
            self.sent = time;
            self.member.message(now)
        })
    }

    /// Turns counts into demands. A key without an entry gets one once its part did not suffice.
    fn count(&mut self, time: Time) {
        let passed = time - self.counted;
        self.counted = time;
        let known: Vec<_> = self.member.keys().collect();
        for key in known {
            if let Some(count) = self.counts.get_mut(&key) {
                let rate = count.asked * count.limit.period / passed;
                // Noise is smoothed over a dozen seconds, as each move of a share leaves it idle for a while, and a demand that moves or ends is followed at once.
                let expected = count.smooth * passed / count.limit.period;
                let moves = rate.abs_diff(count.smooth) > count.limit.rate / 4;
                count.missed = if count.asked > 0 {
                    0
                } else {
                    count.missed + expected
                };
                let keep = if moves || count.missed > 4 { 1 } else { 31 };
                count.smooth = (count.smooth * keep + rate) / (keep + 1);
                self.member.want(key, count.limit, count.smooth, 0);
                (count.asked, count.refused) = (0, 0);
            }
        }
        let (member, now) = (&mut self.member, self.offset + time);
        self.counts.retain(|key, count| {
            let rate = count.asked * count.limit.period / passed;
            // One refusal is noise, where the part has not filled yet.
            let noise = u64::from(count.limit.part(64).burst > 0);
            if count.refused > noise && !member.suffices(*key, count.limit, rate, now) {
                count.smooth = rate;
                member.want(*key, count.limit, rate, 0);
            }
            (count.asked, count.refused) = (0, 0);
            count.smooth > 0
        });
    }

    pub(crate) fn receive(&mut self, answer: &Answer, time: Time) {
        let now = self.offset + time;
        let received = self.member.receive(answer, now);
        for change in received.changes {
            if change.after.rate.abs_diff(change.before.share.rate) > change.limit.rate / 8 {
                self.hot = time + 2 * HEARTBEAT;
            }
            let new = Bucket::new(change.before);
            let bucket = self.buckets.entry(change.key).or_insert(new);
            let above = bucket.change(change.limit, change.before, change.after, change.units, now);
            self.member.returned(change.key, above);
        }
        for key in received.dropped.into_iter().chain(received.restored) {
            self.buckets.remove(&key);
        }
    }
}

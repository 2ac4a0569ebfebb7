//! Random messages that no member would send: any numbers up to what the script takes, in any order, at any time.

use tollgate_shares::{BOUND, Epoch, Incarnation, Key, Limit, Message, Share, Time, Timing, Want};

use crate::history::histories;
use crate::random::Random;
use crate::server::Server;
use crate::twin::Twin;

/// Numbers and times up to the bounds; or so few that whatever can happen at the same moment does.
fn limit(random: &mut Random, few: bool) -> Limit {
    let bound = if few { 12 } else { BOUND };
    match random.below(5) {
        0 => Limit::in_use(random.any_below(bound)),
        _ => Limit {
            rate: random.any_below(bound),
            period: 1 + random.any_below(bound - 1),
            burst: random.any_below(bound),
        },
    }
}

struct Hostile {
    random: Random,
    limits: Vec<(Key, Limit)>,
    seq: [u64; 6],
    version: u64,
}

impl Hostile {
    fn message(&mut self, epoch: Epoch) -> Message {
        let random = &mut self.random;
        let who = random.below(6) as usize;
        let step = if random.once_in(10) {
            0
        } else {
            1 + random.below(3)
        };
        self.seq[who] += step;
        let seq = self.seq[who];
        let epoch = match random.below(20) {
            0 => Some(Epoch(random.below(u64::MAX))),
            1..8 => None,
            _ => Some(epoch),
        };
        let (limits, count) = (&self.limits, random.below(5));
        let wants = (0..count).map(|_| want(random, limits)).collect();
        Message {
            // Both halves differ, and the first bit.
            incarnation: Incarnation((who as u64).wrapping_mul(0x6789_abcd_9876_5433)),
            seq,
            answered: random.below(seq + 1),
            epoch,
            version: random.below(self.version + 3),
            parts: match random.below(3) {
                0 => 0,
                _ => 1 << random.below(7),
            },
            leaves: random.once_in(40),
            wants,
        }
    }
}

fn want(random: &mut Random, limits: &[(Key, Limit)]) -> Want {
    let (key, mut limit) = limits[random.below(limits.len() as u64) as usize];
    if random.once_in(30) {
        // Another's: a key has one limit, and whoever says otherwise is not heard.
        limit = limits[random.below(limits.len() as u64) as usize].1;
    }
    let mut count = |of: u64| match random.below(5) {
        0 => 0,
        1 => random.any_below(2 * BOUND),
        2 => random.below(of / 8 + 1),
        _ => random.below(of + 1),
    };
    let have = Share {
        rate: count(limit.rate),
        burst: count(limit.burst),
    };
    let (demand, need) = (count(limit.rate.max(limit.burst)), count(limit.burst));
    let returned = match random.once_in(2) {
        true => 0,
        false => u128::from(random.any_below(2 * limit.burst + 1)) * u128::from(limit.period) / 3,
    };
    Want {
        key,
        limit,
        have,
        returned,
        demand,
        need,
    }
}

#[tokio::test]
async fn any_message_gets_the_answer_of_the_rule() {
    const SECOND: Time = 1_000_000;
    let server = Server::start();
    let (mut messages, mut most) = (0, [0; 4]);
    for seed in 0..histories(150) {
        let mut random = Random::new(1_000_000 + seed);
        let few = seed % 3 == 0;
        let unit = if few { 2 } else { SECOND };
        let timing = Timing {
            patience: random.below(5) * unit,
            ..Timing::new(
                1 + random.below(5 * unit),
                1 + random.below(3 * unit),
                1 + random.below(2 * unit),
            )
        };
        let mut keys: Vec<_> = (0..6)
            .map(|_| {
                (
                    Key([(); 16].map(|()| random.below(256) as u8)),
                    limit(&mut random, few),
                )
            })
            .collect();
        keys.truncate(1 + random.below(6) as usize);
        let parts = 1 << random.below(5);
        let mut twin = Twin::new(&server, server.config(&format!("hostile{seed}"), timing, parts));
        let mut wall = 1_700_000_000 * SECOND + random.below(SECOND);
        let mut hostile = Hostile {
            random,
            limits: keys,
            seq: [0; 6],
            version: 0,
        };
        for _ in 0..400 {
            wall = match hostile.random.below(40) {
                0 => wall.saturating_add(hostile.random.any_below(1 << 50)),
                1 => wall.saturating_sub(hostile.random.any_below(100 * SECOND)),
                _ => wall + hostile.random.below(if few { 3 } else { SECOND / 2 }),
            };
            wall = wall.min(1 << 52);
            let message = hostile.message(twin.epoch);
            if let Some(terms) = twin.receive(&message, wall).await.and_then(|answer| answer.terms) {
                hostile.version = terms.version.min(1 << 20);
            }
        }
        messages += twin.messages;
        for (most, size) in most.iter_mut().zip(twin.sizes()) {
            *most = size.max(*most);
        }
        twin.lose_data().await;
    }
    println!("{messages} messages; at most [subjects, members, slots, log] {most:?}");
}

//! What random histories seldom come to: more than a page of the log, of shares that have to shrink, of deactivations and
//! of holders, and a key whose implicit parts are out.

use tollgate_fleet::Books;
use tollgate_shares::{
    Epoch, Incarnation, Key, Limit, MAX_MEMBERS, MAX_SUBJECTS, Message, Share, Time, Timing, Version, Want,
};

use crate::random::Random;
use crate::server::Server;
use crate::twin::Twin;

const SECOND: Time = 1_000_000;
/// Nobody's lease ends but after a long time.
const TIMING: Timing = Timing::new(100 * SECOND, 20 * SECOND, 20 * SECOND);
const LIMIT: Limit = Limit {
    rate: 5_000,
    period: SECOND,
    burst: 5_000,
};

struct Rare<'server> {
    twin: Twin<'server>,
    wall: Time,
    /// What each member said and heard last.
    members: Vec<(u64, Version)>,
}

fn key(at: u64) -> Key {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&at.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    Key(key)
}

fn want(at: u64, have: u64, demand: u64) -> Want {
    Want {
        key: key(at),
        limit: LIMIT,
        have: Share {
            rate: have,
            burst: have,
        },
        returned: 0,
        demand,
        need: 0,
    }
}

impl<'server> Rare<'server> {
    async fn begin(server: &'server Server, name: &str, members: usize) -> Self {
        let mut rare = Self {
            twin: Twin::new(server, server.config(name, TIMING, 4)),
            wall: SECOND,
            members: vec![(0, 0); members],
        };
        rare.pass(TIMING.ttl + 5 * TIMING.skew).await;
        rare
    }

    /// Lets time go on, by messages of somebody who is in no books.
    async fn pass(&mut self, time: Time) {
        for _ in 0..=time / TIMING.max_step {
            let stranger = Message {
                epoch: Some(Epoch(0)),
                ..self.message(0, vec![])
            };
            self.wall += TIMING.max_step;
            self.twin.receive(&stranger, self.wall).await;
        }
    }

    fn message(&self, member: usize, wants: Vec<Want>) -> Message {
        let (seq, version) = self.members[member];
        Message {
            incarnation: Incarnation((member as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            seq: seq + 1,
            answered: seq,
            epoch: (seq > 0).then_some(self.twin.epoch),
            version,
            parts: 0,
            leaves: false,
            wants,
        }
    }

    /// How many entries of the log and grants it got.
    async fn send(&mut self, member: usize, wants: Vec<Want>) -> (usize, usize) {
        let message = self.message(member, wants);
        self.wall += 1_000;
        let answer = self.twin.receive(&message, self.wall).await.unwrap();
        let terms = answer.terms.unwrap();
        self.members[member] = (message.seq, terms.version);
        (terms.log.len(), terms.grants.len())
    }
}

#[tokio::test]
async fn the_log_comes_by_pages() {
    let server = Server::start();
    let mut rare = Rare::begin(&server, "log", 3).await;
    rare.send(0, (0..2500).map(|at| want(at, 0, 10)).collect()).await;
    let mut pages = vec![];
    for _ in 0..4 {
        pages.push(rare.send(1, vec![]).await.0);
    }
    assert_eq!(pages, [1024, 1024, 452, 0]);
    // To the last entry of a page, and up to date with it.
    rare.send(0, (2500..2500 + 1024).map(|at| want(at, 0, 10)).collect())
        .await;
    assert_eq!(rare.send(1, vec![]).await.0, 1024);
    rare.twin.compare_sizes().await;
}

#[tokio::test]
async fn shares_that_shrink_are_told_in_parts() {
    let server = Server::start();
    let mut rare = Rare::begin(&server, "pending", 3).await;
    rare.send(0, (0..600).map(|at| want(at, 5_000, 5_000)).collect())
        .await;
    rare.send(1, (0..600).map(|at| want(at, 0, 5_000)).collect())
        .await;
    // They are told again until it says what it has.
    assert_eq!(rare.send(0, vec![]).await.1, 256);
    assert_eq!(rare.send(0, vec![]).await.1, 256);
    rare.send(0, (0..400).map(|at| want(at, 2_500, 5_000)).collect())
        .await;
    rare.send(0, vec![]).await;
    rare.twin.compare_sizes().await;
}

#[tokio::test]
async fn the_last_deactivations_are_kept() {
    const SUBJECTS: u64 = 17_000;
    let server = Server::start();
    let mut rare = Rare::begin(&server, "deactivations", 2).await;
    for page in 0..SUBJECTS / 1000 {
        let subjects = page * 1000..(page + 1) * 1000;
        rare.send(0, subjects.clone().map(|at| want(at, 0, 10)).collect())
            .await;
        rare.send(0, subjects.map(|at| want(at, 0, 0)).collect()).await;
    }
    // Eight are looked after with each message.
    let mut rounds = 0;
    while rare.twin.sizes()[0] > 0 {
        rounds += 1;
        assert!(rounds < 40, "subjects stay: {:?}", rare.twin.sizes());
        for _ in 0..400 {
            rare.wall += 100_000;
            rare.send(0, vec![]).await;
        }
    }
    assert_eq!(rare.twin.sizes()[3], 16 * 1024);
    for _ in 0..18 {
        rare.send(1, vec![]).await;
    }
    rare.twin.compare_sizes().await;
}

#[tokio::test]
async fn one_key_has_many_holders() {
    const MEMBERS: usize = 2500;
    let server = Server::start();
    let mut rare = Rare::begin(&server, "holders", MEMBERS).await;
    let mut random = Random::new(3);
    for member in 0..MEMBERS {
        rare.send(member, vec![want(0, 0, random.below(20))]).await;
    }
    for _ in 0..200 {
        let member = random.below(MEMBERS as u64) as usize;
        let (have, demand) = (random.below(4), random.any_below(10_000));
        rare.send(member, vec![want(0, have, demand)]).await;
    }
    // All leases but a few run out, and the next who asks has the key with these.
    rare.pass(TIMING.ttl / 2).await;
    for member in 0..7 {
        rare.send(member, vec![want(0, 1, 10)]).await;
    }
    rare.pass(TIMING.ttl / 2 + TIMING.skew).await;
    assert_eq!(rare.twin.sizes()[1], 7);
    for member in 0..7 {
        rare.send(member, vec![want(0, 1, 10)]).await;
    }
    rare.twin.compare_sizes().await;
}

#[tokio::test]
async fn a_key_stays_in_the_books_while_parts_of_it_are_out() {
    let server = Server::start();
    let mut rare = Rare::begin(&server, "parts", 2).await;
    // Both get slots. The second never hears that the key was activated.
    rare.send(1, vec![]).await;
    rare.send(0, vec![want(0, 0, 100)]).await;
    rare.send(0, vec![want(0, 0, 0)]).await;
    assert_eq!(rare.twin.sizes()[0], 1);
    for _ in 0..4 {
        rare.pass(TIMING.ttl / 2).await;
        rare.members[1].1 = 0;
        let deaf = Message {
            parts: 4,
            ..rare.message(1, vec![])
        };
        rare.twin.receive(&deaf, rare.wall).await;
        rare.members[1].0 += 1;
    }
    assert_eq!(rare.twin.sizes()[..2], [1, 1]);
    rare.twin.compare_sizes().await;
    // Until its lease is over.
    rare.pass(3 * TIMING.ttl).await;
    assert_eq!(rare.twin.sizes()[..2], [0, 0]);
    rare.twin.compare_sizes().await;
}

/// The rule's own bounds are tested beside it.
#[tokio::test]
async fn books_that_are_full_take_nobody_and_nothing_new() {
    let server = Server::start();
    let mut rare = Rare::begin(&server, "full", 2).await;
    rare.send(0, vec![want(0, 0, 10)]).await;
    let books = Books::new(server.config("full", TIMING, 4)).unwrap();
    // In parts, as whoever asks waits half a second.
    let fill = async |script: &str, count: usize| {
        for first in (2..=count).step_by(10_000) {
            let mut some = redis::cmd("EVAL");
            some.arg(format!("for at = ARGV[1], ARGV[2] do {script} end"));
            some.arg(1).arg("{full}").arg(first).arg(count.min(first + 9_999));
            server.ask::<()>(&some).await;
        }
    };

    // As many as there may be, at which nobody looks.
    let subjects = "redis.call('HSET', KEYS[1] .. ':subjects', 'other' .. at, '')";
    fill(subjects, MAX_SUBJECTS).await;
    let message = rare.message(0, vec![want(1, 0, 10), want(0, 0, 20)]);
    let answer = books.receive_at(&message, rare.wall).await.unwrap().unwrap();
    // Of a new key nothing is said; of one that is there, as ever.
    let told: Vec<_> = answer
        .terms
        .unwrap()
        .grants
        .iter()
        .map(|grant| grant.key)
        .collect();
    assert_eq!(told, [key(0)]);

    let members = "redis.call('ZADD', KEYS[1] .. ':ends', '1e15', 'other' .. at)";
    fill(members, MAX_MEMBERS).await;
    let newcomer = rare.message(1, vec![]);
    let answer = books.receive_at(&newcomer, rare.wall).await.unwrap().unwrap();
    assert_eq!(answer.terms, None);
}

#[tokio::test]
async fn a_key_has_one_limit() {
    let server = Server::start();
    let mut rare = Rare::begin(&server, "limits", 2).await;
    rare.send(0, vec![want(0, 0, 100)]).await;
    let larger = Want {
        limit: Limit {
            burst: LIMIT.burst + 1,
            ..LIMIT
        },
        ..want(0, 0, 100)
    };
    assert_eq!(rare.send(1, vec![larger]).await.1, 0);
    assert_eq!(rare.send(1, vec![want(0, 0, 100)]).await.1, 1);
}

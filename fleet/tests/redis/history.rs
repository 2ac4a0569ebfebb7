//! Random histories of members as they are: they ask, pass requests, crash and leave, and messages are lost, late or come
//! twice. What the fleet passes, one bucket of the whole limit would pass.

use tollgate_shares::{Allowance, Answer, Bucket, Key, Limit, Message, Time, Timing};

use crate::node::Node;
use crate::random::Random;
use crate::server::Server;
use crate::twin::Twin;

const SECOND: Time = 1_000_000;
/// A lease of five seconds, and two for clocks. A member's loses 0.28 s in seven, and a jump is one more.
const TIMING: Timing = Timing::new(5 * SECOND, 2 * SECOND, SECOND);

struct History<'server> {
    random: Random,
    twin: Twin<'server>,
    nodes: Vec<Node>,
    limits: Vec<Limit>,
    whole: Vec<Bucket>,
    late: Vec<Message>,
    late_answers: Vec<Answer>,
    time: Time,
    ahead: Time,
    jumped: Time,
    passed: u64,
}

fn key(at: usize) -> Key {
    let mut key = [at as u8; 16];
    key[..8].copy_from_slice(&(at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    Key(key)
}

fn whole(limit: Limit) -> Allowance {
    Allowance {
        share: limit.whole(),
        since: 0,
        got: 0,
    }
}

/// So long has the bucket of the whole limit been filling when a history begins.
const LONG: Time = 1 << 42;

impl<'server> History<'server> {
    fn new(server: &'server Server, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let parts = 1 << random.below(4);
        let limits: Vec<_> = (0..2 + random.below(4))
            .map(|at| limit(&mut random, at == 0))
            .collect();
        let full = |limit: &Limit| {
            let mut bucket = Bucket::new(whole(*limit));
            bucket.advance(*limit, whole(*limit), LONG);
            bucket
        };
        let nodes = 2 + random.below(6);
        Self {
            twin: Twin::new(server, server.config(&format!("history{seed}"), TIMING, parts)),
            nodes: (0..nodes).map(|at| Node::new(TIMING, (at + 1) << 40)).collect(),
            whole: limits.iter().map(full).collect(),
            limits,
            late: Vec::new(),
            late_answers: Vec::new(),
            time: 0,
            ahead: 0,
            jumped: 0,
            passed: 0,
            random,
        }
    }

    async fn step(&mut self) {
        self.time += self.random.below(120_000);
        if self.random.once_in(400) && self.time > self.jumped + 10 * SECOND {
            self.jumped = self.time;
            self.ahead += 3600 * SECOND;
        }
        if self.random.once_in(600) && self.ahead > 0 {
            self.ahead -= 1800 * SECOND;
        }
        if self.random.once_in(1500) {
            self.twin.lose_data().await;
        }
        let at = self.random.below(self.nodes.len() as u64) as usize;
        match self.random.below(200) {
            0 => self.nodes[at].restart(),
            1 => {
                let message = self.nodes[at].member.leave();
                self.nodes[at].restart();
                self.send(message).await;
            }
            2..50 => self.want(at),
            50..130 => {
                let message = self.nodes[at].send(self.time);
                self.send(message).await;
            }
            130..140 if !self.late.is_empty() => {
                let which = self.random.below(self.late.len() as u64) as usize;
                let message = match self.random.once_in(2) {
                    true => self.late[which].clone(),
                    false => self.late.swap_remove(which),
                };
                self.hear(message).await;
            }
            140..150 if !self.late_answers.is_empty() => {
                let which = self.random.below(self.late_answers.len() as u64) as usize;
                let answer = self.late_answers.swap_remove(which);
                self.deliver(&answer);
            }
            _ => {}
        }
        self.requests();
    }

    fn want(&mut self, node: usize) {
        let which = self.random.below(self.limits.len() as u64) as usize;
        let (key, limit) = (key(which), self.limits[which]);
        let most = limit.rate.max(limit.burst);
        let demand = match self.random.below(4) {
            0 => 0,
            1 => self.random.below(most / 4 + 1),
            2 => self.random.below(most + 1),
            _ => self.random.below(2 * most + 1),
        };
        let need = match self.random.once_in(6) {
            true => self.random.below(limit.burst + 1),
            false => 0,
        };
        self.nodes[node].member.want(key, limit, demand, need);
        if limit.counts_in_use() {
            let allowed = self.nodes[node].member.allowance(key, limit, 0).share.burst;
            self.nodes[node]
                .member
                .in_use(key, self.random.below(allowed + 1));
        }
    }

    /// One message in ten is late, one is lost.
    async fn send(&mut self, message: Message) {
        match self.random.below(10) {
            0 => self.late.push(message),
            1 => {}
            2 => {
                self.late.push(message.clone());
                self.hear(message).await;
            }
            _ => self.hear(message).await,
        }
    }

    async fn hear(&mut self, message: Message) {
        let Some(answer) = self.twin.receive(&message, self.time + self.ahead).await else {
            return;
        };
        match self.random.below(10) {
            0 => self.late_answers.push(answer),
            1 => {}
            _ => self.deliver(&answer),
        }
    }

    fn deliver(&mut self, answer: &Answer) {
        for node in &mut self.nodes {
            node.receive(answer, self.time);
        }
    }

    fn requests(&mut self) {
        for _ in 0..self.random.below(6) {
            let which = self.random.below(self.limits.len() as u64) as usize;
            let at = self.random.below(self.nodes.len() as u64) as usize;
            let limit = self.limits[which];
            if limit.counts_in_use() {
                continue;
            }
            let tokens = 1 + self.random.below(limit.burst / 8 + 1);
            if self.nodes[at].admit(key(which), limit, tokens, self.time) {
                self.passed += 1;
                let would = self.whole[which].take(limit, whole(limit), tokens, LONG + self.time);
                assert!(would, "{limit:?} passed more than one bucket would");
            }
        }
    }
}

/// From two at once to a million a day; the first may count what is in use.
fn limit(random: &mut Random, is_first: bool) -> Limit {
    if is_first && random.once_in(2) {
        return Limit::in_use(1 + random.below(40));
    }
    let rate = 1 + random.any_below(1_000_000);
    let periods = [SECOND, 60 * SECOND, 3600 * SECOND, 86_400 * SECOND];
    Limit {
        rate,
        period: periods[random.below(4) as usize],
        burst: 1 + random.any_below(2 * rate),
    }
}

/// `FLEET_HISTORIES` for more.
pub(crate) fn histories(usual: u64) -> u64 {
    let said = std::env::var("FLEET_HISTORIES");
    said.ok().and_then(|said| said.parse().ok()).unwrap_or(usual)
}

#[tokio::test]
async fn members_get_the_answers_of_the_rule() {
    let server = Server::start();
    let (mut messages, mut passed, mut most) = (0, 0, [0; 4]);
    for seed in 0..histories(60) {
        let mut history = History::new(&server, seed);
        for _ in 0..1500 {
            history.step().await;
        }
        history.twin.compare_sizes().await;
        messages += history.twin.messages;
        passed += history.passed;
        for (most, size) in most.iter_mut().zip(history.twin.sizes()) {
            *most = size.max(*most);
        }
        history.twin.lose_data().await;
    }
    println!(
        "{messages} messages, {passed} requests passed; at most [subjects, members, slots, log] {most:?}"
    );
    assert!(messages > 1000 && passed > 1000);
}

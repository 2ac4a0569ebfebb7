//! What a message costs Redis: time, and bytes each way. `cargo test -p tollgate-fleet load -- --nocapture` prints it.

use std::sync::Arc;
use std::time::Instant;

use tollgate_fleet::Books;
use tollgate_shares::{Epoch, Incarnation, Key, Limit, Message, Share, Time, Timing, Want};

use crate::server::Server;

const SECOND: Time = 1_000_000;
const TIMING: Timing = Timing::new(10 * SECOND, 2 * SECOND, SECOND);
const LIMIT: Limit = Limit {
    rate: 6_000,
    period: 60 * SECOND,
    burst: 6_000,
};

/// So many messages are under way at once, from each of two servers.
const AT_ONCE: u64 = 16;

struct Load {
    server: Server,
    books: [Arc<Books>; 2],
    epoch: Epoch,
    version: u64,
    wall: Time,
    seq: u64,
}

fn key(at: u64) -> Key {
    let mut key = [7; 16];
    key[..8].copy_from_slice(&at.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    Key(key)
}

fn want(key: Key, demand: u64) -> Want {
    Want {
        key,
        limit: LIMIT,
        have: Share { rate: 5, burst: 5 },
        returned: 0,
        demand,
        need: 0,
    }
}

impl Load {
    /// Books that are ready, with so many members.
    async fn begin(server: Server, members: u64) -> Self {
        let config = server.config("load", TIMING, 1024);
        let books = [(); 2].map(|()| Arc::new(Books::new(config.clone()).unwrap()));
        let mut load = Self {
            server,
            books,
            epoch: Epoch(0),
            version: 0,
            wall: 1_700_000_000 * SECOND,
            seq: 0,
        };
        for _ in 0..14 {
            load.wall += SECOND;
            let stranger = Message {
                epoch: Some(Epoch(0)),
                ..load.message(0, vec![])
            };
            let answer = load.books[0].receive_at(&stranger, load.wall).await;
            load.epoch = answer.unwrap().unwrap().epoch;
        }
        load.run("joining", members, members, |_| vec![]).await;
        load
    }

    fn message(&self, member: u64, wants: Vec<Want>) -> Message {
        Message {
            incarnation: Incarnation((member + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            seq: self.seq,
            answered: self.seq.saturating_sub(1),
            epoch: (self.seq > 1).then_some(self.epoch),
            version: self.version,
            parts: if self.seq > 1 { 1024 } else { 0 },
            leaves: false,
            wants,
        }
    }

    async fn info(&self, section: &str, field: &str) -> f64 {
        let info: String = self.server.ask(redis::cmd("INFO").arg(section)).await;
        let (name, part) = field.split_once(':').unwrap_or((field, ""));
        let line = info.lines().find(|line| line.starts_with(name)).unwrap();
        let number: String = line[line.find(part).unwrap()..]
            .chars()
            .skip_while(|char| !char.is_ascii_digit())
            .take_while(|char| char.is_ascii_digit() || *char == '.')
            .collect();
        number.parse().unwrap()
    }

    /// Each member sends once, `AT_ONCE` at a time, until so many messages were sent.
    async fn run(&mut self, what: &str, members: u64, messages: u64, wants: impl Fn(u64) -> Vec<Want>) {
        let () = self.server.ask(redis::cmd("CONFIG").arg("RESETSTAT")).await;
        let begun = Instant::now();
        let (mut sent, mut bytes) = (0, 0);
        while sent < messages {
            self.seq += 1;
            let mut under_way = tokio::task::JoinSet::new();
            for member in 0..members {
                let message = self.message(member, wants(member));
                bytes += postcard::to_allocvec(&message).unwrap().len();
                let (books, wall) = (Arc::clone(&self.books[member as usize % 2]), self.wall);
                while under_way.len() as u64 >= 2 * AT_ONCE {
                    self.version = self.version.max(under_way.join_next().await.unwrap().unwrap());
                }
                under_way.spawn(async move {
                    let answer = books.receive_at(&message, wall).await.unwrap();
                    answer.unwrap().terms.unwrap().version
                });
                sent += 1;
            }
            for version in under_way.join_all().await {
                self.version = self.version.max(version);
            }
        }
        let seconds = begun.elapsed().as_secs_f64();
        let micros = self.info("commandstats", "cmdstat_evalsha:usec=").await;
        let each = |count: f64| count / sent as f64;
        println!(
            "{what}: {members} members, {:.0} messages a second, {:.0} us of Redis each; \
             {:.0} bytes in (of these {:.0} as postcard), {:.0} out",
            sent as f64 / seconds,
            each(micros),
            each(self.info("stats", "total_net_input_bytes").await),
            each(bytes as f64),
            each(self.info("stats", "total_net_output_bytes").await),
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load() {
    for (name, server) in [
        ("in memory", Server::start()),
        ("each write on disk", Server::start_durable()),
    ] {
        println!("-- {name}");
        let mut load = Load::begin(server, 1000).await;
        load.run("heartbeats", 1000, 10_000, |_| vec![]).await;
        let own = |member| vec![want(key(member), 50)];
        load.run("one want, a key each", 1000, 10_000, own).await;
        if name != "in memory" {
            continue;
        }
        load.run("ten wants, ten holders of each key", 1000, 5_000, |member| {
            (0..10)
                .map(|at| want(key(10_000 + member / 10 * 10 + at), 20))
                .collect()
        })
        .await;
        load.run("one want, a key of 50 holders, enough", 50, 2_000, |_| {
            vec![want(key(20_000), 10)]
        })
        .await;
        load.run("one want, a key of 50 holders, too little", 50, 2_000, |member| {
            vec![want(key(20_001), 200 + member)]
        })
        .await;
        load.run(
            "one want, a key of 1,000 holders, too little",
            1000,
            3_000,
            |member| vec![want(key(20_002), 10 + member)],
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_of_a_load_of_subjects() {
    let mut load = Load::begin(Server::start(), 100).await;
    let before = load.info("memory", "used_memory").await;
    for page in 0..20 {
        load.run("subjects", 100, 100, |member| {
            let first = (page * 100 + member) * 10;
            (0..10).map(|at| want(key(1_000_000 + first + at), 20)).collect()
        })
        .await;
    }
    let after = load.info("memory", "used_memory").await;
    println!(
        "{:.0} bytes for each subject with a holder",
        (after - before) / 20_000.0
    );
    assert!(after > before);
}

//! A fleet on the clock of Redis: members that ask two servers at once, while Redis is killed and comes back. What passes,
//! one bucket of the whole limit would pass.

use core::time::Duration;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tollgate_fleet::Books;
use tollgate_shares::{Allowance, Bucket, Key, Limit, Share, Time, Timing};

use crate::node::Node;
use crate::random::Random;
use crate::server::Server;

const SECOND: Time = 1_000_000;
/// Longer than a message takes on a machine that is busy.
const TIMING: Timing = Timing::new(SECOND, SECOND / 2, SECOND / 2);
const LIMIT: Limit = Limit {
    rate: 200,
    period: SECOND,
    burst: 40,
};
const KEY: Key = Key([9; 16]);
const WHOLE: Allowance = Allowance {
    share: Share { rate: 200, burst: 40 },
    since: 0,
    got: 0,
};

struct Fleet {
    begun: Instant,
    /// Of what passed.
    whole: Mutex<Bucket>,
    passed: Mutex<Vec<Time>>,
}

impl Fleet {
    /// Ahead by a minute, in which the bucket of the whole limit has filled.
    fn now(&self) -> Time {
        60 * SECOND + u64::try_from(self.begun.elapsed().as_micros()).unwrap()
    }

    /// A request, if the member's bucket has a token.
    fn request(&self, node: &mut Node) {
        let mut whole = self.whole.lock().unwrap();
        let now = self.now();
        if node.admit(KEY, LIMIT, 1, now) {
            assert!(
                whole.take(LIMIT, WHOLE, 1, now),
                "more passed than one bucket would"
            );
            self.passed.lock().unwrap().push(now);
        }
    }
}

async fn member(fleet: Arc<Fleet>, at: u64, books: [Arc<Books>; 2], until: Time) {
    let mut random = Random::new(at);
    let mut node = Node::new(TIMING, (at + 1) << 40);
    while fleet.now() < until {
        node.member.want(KEY, LIMIT, 20 + random.below(100), 0);
        let sent = fleet.now();
        let message = node.send(sent);
        let answer = books[random.below(2) as usize].receive(&message).await;
        if let Ok(Some(answer)) = answer {
            node.receive(&answer, fleet.now());
        }
        for _ in 0..8 {
            fleet.request(&mut node);
            tokio::time::sleep(Duration::from_millis(1 + random.below(8))).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bucket_would_pass_what_a_fleet_passes_through_restarts() {
    let mut server = Server::start_durable();
    let fleet = Arc::new(Fleet {
        begun: Instant::now(),
        whole: Mutex::new(Bucket::new(WHOLE)),
        passed: Mutex::new(Vec::new()),
    });
    let mut config = server.config("live", TIMING, 1);
    config.timeout = Duration::from_millis(400);
    let books = [(); 2].map(|()| Arc::new(Books::new(config.clone()).unwrap()));
    let until = fleet.now() + 12 * SECOND;
    let mut members = tokio::task::JoinSet::new();
    for at in 0..8 {
        members.spawn(member(Arc::clone(&fleet), at, books.clone(), until));
    }
    tokio::time::sleep(Duration::from_secs(4)).await;
    server.restart();
    tokio::time::sleep(Duration::from_secs(3)).await;
    server.kill();
    server.lose_data();
    let lost = fleet.now();
    server.restart();
    while let Some(done) = members.join_next().await {
        done.unwrap();
    }
    let passed = fleet.passed.lock().unwrap();
    let after = passed.iter().filter(|time| **time > lost + 2 * SECOND).count();
    println!(
        "{} requests passed, {after} of these after data was lost",
        passed.len()
    );
    assert!(passed.len() > 100 && after > 20);
}

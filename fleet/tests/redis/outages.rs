//! Redis killed and started again, with its data and without, and what servers beside it say.

use core::time::Duration;

use tollgate_fleet::{Books, Config, Error};
use tollgate_shares::{Answer, Incarnation, Key, Limit, Member, Time, Timing};

use crate::server::Server;

const SECOND: Time = 1_000_000;
const TIMING: Timing = Timing::new(5 * SECOND, 2 * SECOND, SECOND);
const LIMIT: Limit = Limit {
    rate: 60,
    period: 60 * SECOND,
    burst: 60,
};
const KEY: Key = Key([7; 16]);

/// A member, and the time that it and the books have.
struct Story {
    member: Member,
    time: Time,
}

impl Story {
    fn new(incarnation: u64) -> Self {
        Self {
            member: Member::new(TIMING, Incarnation(incarnation)),
            time: 1_000 * SECOND,
        }
    }

    /// It asks once, half a second later.
    async fn ask(&mut self, books: &Books) -> Result<Option<Answer>, Error> {
        self.time += SECOND / 2;
        self.member.want(KEY, LIMIT, 60, 0);
        let message = self.member.message(self.time);
        let answer = books.receive_at(&message, self.time).await?;
        if let Some(answer) = &answer {
            self.member.receive(answer, self.time);
        }
        Ok(answer)
    }

    /// It asks until it has a share; for how long.
    async fn until_granted(&mut self, books: &Books) -> Time {
        let begun = self.time;
        while self.rate() == 0 {
            assert!(self.time < begun + 60 * SECOND, "nothing was granted");
            let _ = self.ask(books).await;
        }
        self.time - begun
    }

    fn rate(&self) -> u64 {
        self.member.allowance(KEY, LIMIT, self.time).share.rate
    }
}

fn books(server: &Server, change: impl FnOnce(&mut Config)) -> Books {
    let mut config = server.config("outages", TIMING, 1);
    change(&mut config);
    Books::new(config).unwrap()
}

/// Asks until Redis answers again.
async fn until_back(story: &mut Story, books: &Books) -> Option<Answer> {
    for _ in 0..200 {
        match story.ask(books).await {
            Ok(answer) => return answer,
            Err(Error::Unreachable(_) | Error::TimedOut(_)) => {}
            Err(other) => panic!("{other}"),
        }
        // No more than a connection in 200 ms is tried; the story's time stands still meanwhile.
        story.time -= SECOND / 2;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("Redis did not come back");
}

#[tokio::test]
async fn with_its_data_it_goes_on() {
    let mut server = Server::start_durable();
    let books = books(&server, |_| {});
    let mut story = Story::new(1);
    let waited = story.until_granted(&books).await;
    assert!(waited >= TIMING.ttl + TIMING.skew);
    let epoch = story.ask(&books).await.unwrap().unwrap().epoch;
    server.kill();
    let refused = story.ask(&books).await.unwrap_err();
    assert!(matches!(refused, Error::Unreachable(_)), "{refused}");
    server.restart();
    let answer = until_back(&mut story, &books).await.unwrap();
    assert_eq!(answer.epoch, epoch);
    assert!(answer.terms.is_some() && story.rate() > 0);
}

#[tokio::test]
async fn without_its_data_it_grants_nothing_for_a_lease() {
    let mut server = Server::start_durable();
    let books = books(&server, |_| {});
    let mut story = Story::new(1);
    story.until_granted(&books).await;
    let epoch = story.ask(&books).await.unwrap().unwrap().epoch;
    server.kill();
    server.lose_data();
    server.restart();
    let answer = until_back(&mut story, &books).await.unwrap();
    assert!(answer.epoch != epoch && answer.terms.is_none());
    let begun = story.time;
    // What it had goes on until its lease ends, and is then granted anew.
    assert!(story.rate() > 0);
    while story.rate() > 0 {
        story.ask(&books).await.unwrap();
    }
    assert!(story.time <= begun + TIMING.ttl);
    story.until_granted(&books).await;
    assert!(story.time >= begun + TIMING.ttl + TIMING.skew);
}

#[tokio::test]
async fn another_run_of_a_redis_that_may_lose_data_begins_anew() {
    let mut server = Server::start_durable();
    let books = books(&server, |config| config.survives = false);
    let mut story = Story::new(1);
    story.until_granted(&books).await;
    let epoch = story.ask(&books).await.unwrap().unwrap().epoch;
    server.restart();
    let answer = until_back(&mut story, &books).await.unwrap();
    assert!(answer.epoch != epoch && answer.terms.is_none());
}

#[tokio::test]
async fn told_that_they_are_older_books_begin_anew() {
    let server = Server::start();
    let (one, other) = (books(&server, |_| {}), books(&server, |_| {}));
    let mut story = Story::new(1);
    story.until_granted(&one).await;
    let epoch = story.ask(&other).await.unwrap().unwrap().epoch;
    one.begin_anew().await.unwrap();
    let answer = story.ask(&other).await.unwrap().unwrap();
    assert!(answer.epoch != epoch && answer.terms.is_none());
}

#[tokio::test]
async fn scripts_that_were_flushed_are_loaded_again() {
    let server = Server::start();
    let books = books(&server, |_| {});
    let mut story = Story::new(1);
    story.until_granted(&books).await;
    let () = server.ask(redis::cmd("SCRIPT").arg("FLUSH")).await;
    assert!(story.ask(&books).await.unwrap().unwrap().terms.is_some());
}

#[tokio::test]
async fn by_the_clock_of_redis_a_jump_is_one_step() {
    let server = Server::start();
    let books = books(&server, |config| {
        config.timing = Timing::new(200_000, 100_000, 100_000)
    });
    let mut member = Member::new(Timing::new(200_000, 100_000, 100_000), Incarnation(1));
    let begun = std::time::Instant::now();
    loop {
        let time = u64::try_from(begun.elapsed().as_micros()).unwrap();
        let answer = books.receive(&member.message(time)).await.unwrap().unwrap();
        member.receive(&answer, time);
        if answer.terms.is_some() {
            break;
        }
        assert!(time < 30 * SECOND);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Less by what the first message took until Redis heard it.
    assert!(begun.elapsed() >= Duration::from_micros(300_000));
}

#[tokio::test]
async fn what_is_wrong_has_a_name() {
    let server = Server::start();
    let right = books(&server, |_| {});
    let mut story = Story::new(1);
    story.ask(&right).await.unwrap();
    let other = books(&server, |config| config.timing.ttl += 1);
    assert_eq!(story.ask(&other).await.unwrap_err(), Error::OtherSetup);

    let other = books(&server, |config| config.survives = false);
    assert_eq!(story.ask(&other).await.unwrap_err(), Error::OtherSetup);

    let mut message = story.member.message(story.time);
    message.wants[0].limit.burst = 1 << 51;
    let large = right.receive(&message).await.unwrap_err().to_string();
    assert!(large.contains("burst 2251799813685248"), "{large}");

    let nowhere = books(&server, |config| {
        config.address = "redis://127.0.0.1:1".to_owned()
    });
    let refused = story.ask(&nowhere).await.unwrap_err();
    assert!(matches!(refused, Error::Unreachable(_)), "{refused}");

    let set = |name: &str, value: &str| {
        let mut set = redis::cmd("CONFIG");
        set.arg("SET").arg(name).arg(value);
        set
    };
    let () = server.ask(&set("maxmemory-policy", "allkeys-lru")).await;
    let evicts = story.ask(&books(&server, |_| {})).await.unwrap_err();
    assert_eq!(evicts, Error::Evicts("allkeys-lru".to_owned()));

    // Full, it refuses before the script wrote anything.
    let () = server.ask(&set("maxmemory-policy", "noeviction")).await;
    let () = server.ask(&set("maxmemory", "1")).await;
    let full = story.ask(&right).await.unwrap_err();
    assert!(
        matches!(&full, Error::Refused(why) if why.contains("OOM")),
        "{full}"
    );
    let () = server.ask(&set("maxmemory", "0")).await;
    assert!(story.ask(&right).await.is_ok());

    let replica_of = |host: &str, port: &str| {
        let mut replica = redis::cmd("REPLICAOF");
        replica.arg(host).arg(port);
        replica
    };
    let () = server.ask(&replica_of("127.0.0.1", "1")).await;
    let replica = story.ask(&right).await.unwrap_err();
    assert!(
        matches!(&replica, Error::Refused(why) if why.contains("replica")),
        "{replica}"
    );
    let () = server.ask(&replica_of("NO", "ONE")).await;
    assert!(story.ask(&right).await.is_ok());

    let mut format = redis::cmd("SET");
    // A list of one number, 9: another format.
    let () = server.ask(format.arg("{outages}").arg(&[9_u8][..])).await;
    assert_eq!(
        story.ask(&right).await.unwrap_err(),
        Error::OtherFormat("9".to_owned())
    );
}

#[tokio::test]
async fn redis_that_hangs_is_given_up() {
    let server = Server::start();
    let books = books(&server, |config| config.timeout = Duration::from_millis(300));
    let mut story = Story::new(1);
    story.ask(&books).await.unwrap();
    let mut pause = redis::cmd("CLIENT");
    let () = server.ask(pause.arg("PAUSE").arg(1500).arg("ALL")).await;
    let slow = story.ask(&books).await.unwrap_err();
    assert_eq!(slow, Error::TimedOut(Duration::from_millis(300)));
    until_back(&mut story, &books).await;
}

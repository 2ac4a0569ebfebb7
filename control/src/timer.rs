//! What happens by itself: freezes and caps end when their time is over, answers to repeated creates are forgotten, and what other
//! servers changed is seen. Times are arguments; only [`run`] reads the clocks.

use core::convert::Infallible;
use core::time::Duration;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tokio::time::Instant;

use crate::access::Caller;
use crate::api::{RETENTION_MS, end_unless_ended};
use crate::documents::{Cap, Freeze, Incident, Restriction};
use crate::log::say;
use crate::problem::Problem;
use crate::store::{ListQuery, Store, Stored};
use crate::time;

/// How often the database is polled for another server's changes: a part of the second within which each is in force.
const POLL: Duration = Duration::from_millis(100);
/// How often freezes and caps whose time is over are ended, in polls.
const POLLS_BETWEEN_ENDS: u32 = 5;
/// How often all that is in force is read, in polls.
const POLLS_BETWEEN_READS: u32 = 600;
/// How often answers to old creates are deleted, in polls.
const POLLS_BETWEEN_CLEANUPS: u32 = 36_000;
/// How far the wall clock may run away from the steady one before it has jumped; milliseconds.
const JUMP: i64 = 5_000;
/// For how long it has to agree with the steady one before it is believed again; milliseconds.
const STEADY_FOR: i64 = 30_000;

/// Does it all, for as long as the server runs.
pub(crate) async fn run(store: Arc<Store>) -> Infallible {
    let started = Instant::now();
    let mut timer = Timer::new(store, Clocks::now(started));
    let mut complained = String::new();
    loop {
        let done = timer.step(Clocks::now(started)).await;
        let complaint = done.err().map(|problem| problem.to_string()).unwrap_or_default();
        // Each complaint once, and not ten times a second.
        if complaint != complained && !complaint.is_empty() {
            say(&complaint);
        }
        complained = complaint;
        tokio::time::sleep(POLL).await;
    }
}

/// What the two clocks say at one moment; milliseconds.
#[derive(Debug, Clone, Copy)]
struct Clocks {
    /// Since 1970, as the machine is told: it may jump.
    wall: i64,
    /// Since the server started: it never jumps.
    steady: i64,
}

impl Clocks {
    fn now(started: Instant) -> Self {
        Self {
            wall: time::now(),
            steady: i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX),
        }
    }
}

/// Whether the wall clock is to be believed.
#[derive(Debug)]
struct ClockWatch {
    /// What the clocks said when they were last compared from anew.
    since: Clocks,
    jumped: bool,
}

/// What became of the wall clock.
#[derive(Debug, PartialEq, Eq)]
enum Clock {
    Believed,
    /// It has just jumped ahead, by so many milliseconds.
    Jumped(i64),
    Doubted,
}

impl ClockWatch {
    /// The clock jumped where it has run ahead by more than [`JUMP`] within [`STEADY_FOR`], so that many small steps are one.
    fn look(&mut self, now: Clocks) -> Clock {
        let steady = now.steady.saturating_sub(self.since.steady);
        let ahead = now.wall.saturating_sub(self.since.wall).saturating_sub(steady);
        let was_doubted = self.jumped;
        if ahead.saturating_abs() > JUMP {
            // Back to where it was, it still has to show that it stays there. From a clock that goes back, nothing ends
            // too early.
            self.jumped |= ahead > 0;
            self.since = now;
        } else if steady >= STEADY_FOR {
            self.jumped = false;
            self.since = now;
        }
        match (was_doubted, self.jumped) {
            (_, false) => Clock::Believed,
            (false, true) => Clock::Jumped(ahead),
            (true, true) => Clock::Doubted,
        }
    }
}

struct Timer {
    store: Arc<Store>,
    watch: ClockWatch,
    polls: u32,
    /// Of freezes, caps and restrictions.
    ends: [Ends; 3],
    /// How many of those were read so far.
    read: usize,
}

impl Timer {
    fn new(store: Arc<Store>, now: Clocks) -> Self {
        Self {
            store,
            watch: ClockWatch {
                since: now,
                jumped: false,
            },
            polls: 0,
            ends: Default::default(),
            read: 0,
        }
    }

    /// One poll.
    async fn step(&mut self, now: Clocks) -> Result<(), Problem> {
        let polls = self.polls;
        self.polls = polls.wrapping_add(1);
        let clock = self.watch.look(now);
        if let Clock::Jumped(ahead) = clock {
            say(&format!(
                "the clock jumped ahead by {} s: no freeze, cap or restriction ends until it has been steady for {} s",
                ahead / 1_000,
                STEADY_FOR / 1_000
            ));
        }
        self.store.ensure_file_there()?;
        let seq = self.store.poll().await?;
        if clock != Clock::Believed {
            return Ok(());
        }
        if polls.is_multiple_of(POLLS_BETWEEN_ENDS) {
            let [freezes, caps, restrictions] = &mut self.ends;
            // Once a minute all of them, should anything have been changed behind the trail's back.
            if polls.is_multiple_of(POLLS_BETWEEN_READS) {
                for ends in [&mut *freezes, caps, restrictions] {
                    ends.known = None;
                }
            }
            let store = &self.store;
            // The platform's own first: customers may have many.
            self.read += restrictions.pass::<Restriction>(store, seq, now.wall).await?;
            self.read += freezes.pass::<Freeze>(store, seq, now.wall).await?;
            self.read += caps.pass::<Cap>(store, seq, now.wall).await?;
        }
        if polls % POLLS_BETWEEN_CLEANUPS == 1 {
            sqlx::query("DELETE FROM idempotency WHERE created_at < $1")
                .bind(now.wall.saturating_sub(RETENTION_MS))
                .execute(self.store.pool())
                .await?;
        }
        Ok(())
    }
}

/// Ends to come, of one kind. All that are in force are read once; from then on what was written since.
#[derive(Debug, Default)]
struct Ends {
    /// What was written up to there is known; `None` before the first look.
    known: Option<i64>,
    by_id: HashMap<String, i64>,
    in_order: BTreeSet<(i64, String)>,
}

impl Ends {
    /// Looks at what was written up to `seq`, and ends those whose time is over; how many were read.
    async fn pass<D: Incident>(&mut self, store: &Store, seq: i64, now: i64) -> Result<usize, Problem> {
        let read = self.look::<D>(store, seq).await?;
        self.end_expired::<D>(store, now).await?;
        Ok(read)
    }

    /// Looks at what was written up to `seq`, the trail's end; how many were read.
    async fn look<D: Incident>(&mut self, store: &Store, seq: i64) -> Result<usize, Problem> {
        let mut read = 0;
        let Some(mut known) = self.known.filter(|known| *known <= seq) else {
            // The first look, or the trail was cut by a restore.
            *self = Self::default();
            let mut after = String::new();
            loop {
                let page = ListQuery {
                    org: "",
                    after: &after,
                    limit: 1_000,
                };
                let some = store.in_force::<D>(page).await?;
                some.found.iter().for_each(|one| self.note(&one.document));
                read += some.found.len();
                match some.found.last().filter(|_| some.has_more) {
                    Some(last) => after = last.document.id(),
                    None => break,
                }
            }
            self.known = Some(seq);
            return Ok(read);
        };
        while let Some((last, some)) = store.written_since::<D>(known).await? {
            some.iter().for_each(|one| self.note(one));
            read += some.len();
            known = last;
        }
        self.known = Some(known.max(seq));
        Ok(read)
    }

    /// What is in force, and when it ends, or that it does not.
    fn note(&mut self, one: &impl Incident) {
        let (id, terms) = (one.id(), one.terms());
        if let Some(end) = self.by_id.remove(&id) {
            self.in_order.remove(&(end, id.clone()));
        }
        let until = terms.until.as_deref().map(|until| time::parse("until", until));
        // One that can't be read never comes.
        if let (None, Some(Ok(end))) = (&terms.ended_at, until) {
            self.by_id.insert(id.clone(), end);
            self.in_order.insert((end, id));
        }
    }

    /// Ends those whose time is over.
    async fn end_expired<D: Incident>(&self, store: &Store, now: i64) -> Result<(), Problem> {
        for (_, id) in self.in_order.iter().take_while(|(end, _)| *end <= now) {
            let caller = Caller::system();
            let [.., over] = D::ACTIONS;
            let mut write = store.begin(&caller, over, None).await?;
            // As it is now: somebody may have ended it.
            let one: Stored<D> = write.get(id).await?;
            end_unless_ended(&mut write, &one, &caller).await?;
            write.commit(one.document.org()).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::{Metadata, Target, Terms};

    const HOUR: i64 = 3_600_000;

    /// A server with a freeze of twelve hours, whose clocks stand still but where a test moves them.
    struct Server {
        timer: Timer,
        now: Clocks,
        _folder: tempfile::TempDir,
    }

    impl Server {
        async fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("tollgate.db");
            let store = Store::create(&format!("sqlite:{}", file.display()))
                .await
                .unwrap();
            let now = Clocks {
                wall: time::now(),
                steady: 0,
            };
            let mut server = Self {
                timer: Timer::new(Arc::new(store), now),
                now,
                _folder: folder,
            };
            server.freeze("f").await;
            server
        }

        /// Freezes something for twelve hours.
        async fn freeze(&mut self, id: &str) {
            let (caller, now) = (Caller::local(), self.now);
            let freeze = Freeze {
                id: id.to_owned(),
                terms: Terms {
                    target: Target::Key("k".to_owned()),
                    org: "acme".to_owned(),
                    reason: "leaked".to_owned(),
                    until: Some(time::end_to_rfc3339(now.wall + 12 * HOUR)),
                    ended_at: None,
                    ended_by: None,
                    by_confined: false,
                },
                metadata: Metadata::new(time::to_rfc3339(now.wall), caller.name()),
            };
            let mut write = self
                .timer
                .store
                .begin(&caller, "freeze.begin", None)
                .await
                .unwrap();
            write.create(&freeze).await.unwrap();
            write.commit("acme").await.unwrap();
        }

        /// Both clocks go on, in looks of half a second.
        async fn pass(&mut self, millis: i64) {
            for _ in 0..millis / 500 {
                self.now.wall += 500;
                self.now.steady += 500;
                for _ in 0..POLLS_BETWEEN_ENDS {
                    self.timer.step(self.now).await.unwrap();
                }
            }
        }

        async fn is_frozen(&self) -> bool {
            let freeze = self.timer.store.get::<Freeze>("f").await.unwrap();
            freeze.document.terms.ended_at.is_none()
        }
    }

    #[tokio::test]
    async fn a_clock_that_jumps_ahead_for_a_moment_ends_nothing() {
        let mut server = Server::new().await;
        server.pass(1_000).await;
        server.now.wall += 24 * HOUR;
        server.pass(2_000).await;
        server.now.wall -= 24 * HOUR;
        server.pass(60_000).await;
        assert!(server.is_frozen().await);

        // Again and again, and never for long.
        for _ in 0..3 {
            server.now.wall += 24 * HOUR;
            server.pass(29_000).await;
            server.now.wall -= 24 * HOUR;
            server.pass(1_000).await;
        }
        assert!(server.is_frozen().await);
    }

    #[tokio::test]
    async fn a_clock_that_stays_ahead_is_believed_by_and_by() {
        let mut server = Server::new().await;
        server.now.wall += 24 * HOUR;
        server.pass(30_000).await;
        assert!(server.is_frozen().await);
        server.pass(1_000).await;
        assert!(!server.is_frozen().await);
    }

    #[tokio::test]
    async fn what_is_over_ends_at_once_where_the_clock_is_steady() {
        let mut server = Server::new().await;
        // Both clocks, as if nobody had looked meanwhile.
        server.now.wall += 12 * HOUR;
        server.now.steady += 12 * HOUR;
        server.pass(2_000).await;
        assert!(!server.is_frozen().await);
    }

    #[tokio::test]
    async fn what_is_known_is_not_read_again() {
        let mut server = Server::new().await;
        for at in 0..20 {
            server.freeze(&format!("g{at}")).await;
        }
        server.pass(10_000).await;
        assert_eq!(server.timer.read, 21);
        server.freeze("new").await;
        server.pass(10_000).await;
        assert_eq!(server.timer.read, 22);
        // And now and then all, should anything have been changed behind the trail's back.
        server.pass(60_000).await;
        assert_eq!(server.timer.read, 44);
        assert!(server.is_frozen().await);
        server.now.wall += 12 * HOUR;
        server.now.steady += 12 * HOUR;
        server.pass(1_000).await;
        assert!(!server.is_frozen().await);
    }

    #[test]
    fn a_clock_is_doubted_once_and_also_for_small_steps() {
        let at = |wall, steady| Clocks { wall, steady };
        let mut watch = ClockWatch {
            since: at(0, 0),
            jumped: false,
        };
        assert_eq!(watch.look(at(4_000, 0)), Clock::Believed);
        assert_eq!(watch.look(at(8_000, 1_000)), Clock::Jumped(7_000));
        assert_eq!(watch.look(at(90_000, 2_000)), Clock::Doubted);
        // Back again, and then steady.
        assert_eq!(watch.look(at(3_000, 3_000)), Clock::Doubted);
        assert_eq!(watch.look(at(32_999, 32_999)), Clock::Doubted);
        assert_eq!(watch.look(at(33_000, 33_000)), Clock::Believed);
        // A clock that goes back makes ends late, and none early.
        assert_eq!(watch.look(at(0, 34_000)), Clock::Believed);
        assert_eq!(watch.look(at(34_000, 35_000)), Clock::Jumped(33_000));
        assert_eq!(watch.look(at(i64::MAX, 36_000)), Clock::Doubted);
        assert_eq!(watch.look(at(i64::MIN, i64::MAX)), Clock::Doubted);
    }
}

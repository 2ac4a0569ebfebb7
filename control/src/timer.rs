//! What happens by itself: freezes, caps, restrictions and raises of budgets end when their time is over, answers to repeated
//! creates are forgotten, thresholds that budgets have reached are told, and what other servers changed is seen. Times are
//! arguments; only [`run`] reads the clocks.

use core::convert::Infallible;
use core::time::Duration;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use serde::Serialize;
use tokio::time::Instant;

use crate::access::Caller;
use crate::api::{RETENTION_MS, end_unless_ended};
use crate::budget::{Budget, Reached, Unit};
use crate::documents::{Cap, Document as _, Freeze, Incident, Restriction, Timed};
use crate::log::say;
use crate::problem::Problem;
use crate::spending::{ReachedThreshold, Standing, tell_threshold};
use crate::store::{ListQuery, Store, Stored};
use crate::time;
use crate::webhook::{self, Webhook};

/// How often the database is polled for another server's changes: a part of the second within which each is in force.
const POLL: Duration = Duration::from_millis(100);
/// How often freezes and caps whose time is over are ended, in polls.
const POLLS_BETWEEN_ENDS: u32 = 5;
/// How often SQLite's log is looked at, and copied into its file where writes have left that, in polls.
const POLLS_BETWEEN_COPIES: u32 = 50;
/// How often all that is in force is read, in polls.
const POLLS_BETWEEN_READS: u32 = 600;
/// How often answers to old creates are deleted, in polls.
const POLLS_BETWEEN_CLEANUPS: u32 = 36_000;
/// How far the wall clock may run away from the steady one before it has jumped; milliseconds.
const JUMP: i64 = 5_000;
/// For how long it has to agree with the steady one before it is believed again; milliseconds.
const STEADY_FOR: i64 = 30_000;

/// Does it all, for as long as the server runs.
pub(crate) async fn run(store: Arc<Store>, webhook: Option<Webhook>) -> Infallible {
    let sent = webhook::run(&store, webhook.as_ref(), say);
    let polled = poll(Arc::clone(&store), webhook.is_some());
    tokio::select! {
        never = sent => never,
        never = polled => never,
    }
}

async fn poll(store: Arc<Store>, notifies: bool) -> Infallible {
    let started = Instant::now();
    let mut timer = Timer::new(store, Clocks::now(started));
    timer.notifies = notifies;
    let mut complaint = Complaint::default();
    loop {
        complaint.note(timer.step(Clocks::now(started)).await);
        tokio::time::sleep(POLL).await;
    }
}

/// What is wrong now: said once, and not ten times a second.
#[derive(Debug, Default)]
struct Complaint(String);

impl Complaint {
    fn note(&mut self, done: Result<(), Problem>) {
        let now = done.err().map(|problem| problem.to_string()).unwrap_or_default();
        if now != self.0 && !now.is_empty() {
            say(&now);
        }
        self.0 = now;
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
    /// Of freezes, caps, restrictions and raises of budgets.
    ends: [Ends; 4],
    /// How many of those were read so far.
    read: usize,
    /// Whether thresholds that were reached are told to a webhook too.
    notifies: bool,
    /// That SQLite's log can't be copied into its file: the server goes on.
    log: Complaint,
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
            notifies: false,
            log: Complaint::default(),
        }
    }

    /// One poll.
    async fn step(&mut self, now: Clocks) -> Result<(), Problem> {
        let polls = self.polls;
        self.polls = polls.wrapping_add(1);
        let clock = self.watch.look(now);
        if let Clock::Jumped(ahead) = clock {
            say(&format!(
                "the clock jumped ahead by {} s: no freeze, cap, restriction or raise ends until it has been steady for {} s",
                ahead / 1_000,
                STEADY_FOR / 1_000
            ));
        }
        self.store.ensure_writable()?;
        let seq = self.store.poll().await?;
        if polls.is_multiple_of(POLLS_BETWEEN_COPIES) {
            self.log.note(self.store.tend_log().await);
        }
        if polls.is_multiple_of(POLLS_BETWEEN_ENDS) {
            self.tell_thresholds().await?;
        }
        if clock != Clock::Believed {
            return Ok(());
        }
        if polls.is_multiple_of(POLLS_BETWEEN_ENDS) {
            let [freezes, caps, restrictions, raises] = &mut self.ends;
            // Once a minute all of them, should anything have been changed behind the trail's back.
            if polls.is_multiple_of(POLLS_BETWEEN_READS) {
                for ends in [&mut *freezes, caps, restrictions, raises] {
                    ends.known = None;
                }
            }
            let store = &self.store;
            // The platform's own first: customers may have many.
            self.read += restrictions.pass::<Restriction>(store, seq, now.wall).await?;
            self.read += freezes.pass::<Freeze>(store, seq, now.wall).await?;
            self.read += caps.pass::<Cap>(store, seq, now.wall).await?;
            self.read += raises.look::<Budget>(store, seq).await?;
            raises.end_raises(store, now.wall).await?;
        }
        if polls % POLLS_BETWEEN_CLEANUPS == 1 {
            sqlx::query("DELETE FROM idempotency WHERE created_at < $1")
                .bind(now.wall.saturating_sub(RETENTION_MS))
                .execute(self.store.pool())
                .await?;
            self.store.forget_old_windows(now.wall).await?;
        }
        Ok(())
    }

    /// Tells which budgets have reached a threshold: in the trail, and to the webhook. Of several servers one does.
    async fn tell_thresholds(&self) -> Result<(), Problem> {
        for (id, starts_at) in self.store.thresholds_to_tell().await? {
            let caller = Caller::system();
            let mut write = self.store.begin(&caller, "budget.reached", None).await?;
            let now = write.time();
            let Some(reached) = tell_threshold(write.transaction(), &id, starts_at).await? else {
                continue;
            };
            // Of one that was removed meanwhile, or has no amount any more, there is nothing to tell.
            let before = write.find::<Budget>(&id).await?;
            let Some(before) = before.filter(|before| before.document.amount() > 0) else {
                drop(write);
                self.store.forget_threshold(&id, starts_at).await?;
                continue;
            };
            let percent = reached.percent;
            let budget = Budget {
                reached: Some(Reached {
                    window: time::to_rfc3339(starts_at),
                    percent,
                }),
                ..before.document.clone()
            };
            write.replace(&before, &budget).await?;
            let mut is_kept = true;
            if self.notifies {
                let notice = Notice::new(&budget, &reached, now);
                is_kept = webhook::keep(write.transaction(), budget.org(), &notice, now).await?;
            }
            write.commit(budget.org()).await?;
            if !is_kept {
                let whose = match budget.org() {
                    "" => "the platform".to_owned(),
                    org => format!("the organization `{org}`"),
                };
                say(&format!(
                    "the webhook is not told that the budget `{id}` has reached {percent}%, as too many notices of {whose} wait"
                ));
            }
        }
        Ok(())
    }
}

/// What the webhook is told.
#[derive(Serialize)]
struct Notice<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    timestamp: String,
    data: NoticeData<'a>,
}

#[derive(Serialize)]
struct NoticeData<'a> {
    budget: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    org: &'a str,
    unit: Unit,
    percent: u8,
    window: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    resets_at: Option<String>,
    amount: u64,
    spent: u64,
}

impl<'a> Notice<'a> {
    fn new(budget: &'a Budget, reached: &ReachedThreshold, now: i64) -> Self {
        let Standing { window, totals } = reached.standing;
        Self {
            kind: "budget.reached",
            timestamp: time::to_rfc3339(now),
            data: NoticeData {
                budget: &budget.id,
                org: &budget.org,
                unit: budget.terms.unit,
                percent: reached.percent,
                window: time::to_rfc3339(window.from),
                resets_at: (window.until != i64::MAX).then(|| time::to_rfc3339(window.until)),
                amount: budget.amount(),
                spent: totals.spent,
            },
        }
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
    async fn look<D: Timed>(&mut self, store: &Store, seq: i64) -> Result<usize, Problem> {
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
    fn note(&mut self, one: &impl Timed) {
        let id = one.id();
        if let Some(end) = self.by_id.remove(&id) {
            self.in_order.remove(&(end, id.clone()));
        }
        let until = one.end().map(|until| time::parse("until", until));
        // One that can't be read never comes.
        if let Some(Ok(end)) = until {
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

    /// Ends raises whose time is over.
    async fn end_raises(&mut self, store: &Store, now: i64) -> Result<(), Problem> {
        while let Some((end, id)) = self.in_order.first().filter(|(end, _)| *end <= now).cloned() {
            end_raise(store, &id, end).await?;
            self.in_order.remove(&(end, id.clone()));
            self.by_id.remove(&id);
        }
        Ok(())
    }
}

/// Ends a budget's raise that ends then.
async fn end_raise(store: &Store, id: &str, end: i64) -> Result<(), Problem> {
    let caller = Caller::system();
    let mut write = store.begin(&caller, "budget.raise.over", None).await?;
    // As it is now: somebody may have ended it, or raised it anew, or removed the budget.
    let Some(before) = write.find::<Budget>(id).await? else {
        return Ok(());
    };
    let until = before.document.end().map(|until| time::parse("until", until));
    if !until.is_some_and(|until| until.is_ok_and(|until| until <= end)) {
        return Ok(());
    }
    let budget = Budget {
        raise: None,
        ..before.document.clone()
    };
    write.replace(&before, &budget).await?;
    write.commit(budget.org()).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Part;
    use crate::documents::{Metadata, Target, Terms, merge};
    use crate::spending::Reported;
    use serde_json::{Value, json};
    use sqlx::Row as _;
    use tollgate_budgets::Report;

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

    /// A budget of 1,000 in the server's database.
    async fn budget(server: &Server, change: Value) {
        let mut whole = json!({
            "id": "b", "scope": {"org": "acme"}, "org": "acme", "unit": "tokens", "window": "month", "amount": 1000,
            "created_at": "2026-11-30T12:00:00Z", "created_by": "local",
        });
        merge(&mut whole, change);
        let budget: Budget = serde_json::from_value(whole).unwrap();
        let caller = Caller::local();
        let store = &server.timer.store;
        let mut write = store.begin(&caller, "budget.create", None).await.unwrap();
        write.create(&budget).await.unwrap();
        write.commit("acme").await.unwrap();
    }

    /// So much is spent of it.
    async fn spend(server: &Server, spent: u64) {
        let store = &server.timer.store;
        let (budget, is_removed) = store.budget_or_removed("b").await.unwrap().unwrap();
        let reported = Reported {
            window: budget.window_at(server.now.wall).unwrap().unwrap(),
            budget,
            is_removed,
            is_told: true,
            report: Report {
                spent,
                ..Report::default()
            },
        };
        store
            .exchange(&Caller::local(), "holder", &[reported], server.now.wall)
            .await
            .unwrap();
    }

    async fn trail(server: &Server, action: &str) -> usize {
        let trail = server
            .timer
            .store
            .trail(Part::Org("acme"), 0, 1_000)
            .await
            .unwrap();
        let faults = server.timer.store.verify(&[], None).await.unwrap().faults;
        assert_eq!(faults, []);
        trail.iter().filter(|entry| entry.entry.action == action).count()
    }

    #[tokio::test]
    async fn a_raise_ends_by_itself_and_not_for_a_clock_that_jumps() {
        let mut server = Server::new().await;
        let until = time::end_to_rfc3339(server.now.wall + HOUR);
        let raise = json!({"by": 500, "until": until, "reason": "x", "raised_by": "local"});
        budget(&server, json!({"raise": raise})).await;
        let amount = async |server: &Server| {
            let budget = server.timer.store.get::<Budget>("b").await.unwrap();
            budget.document.amount()
        };
        server.pass(1_000).await;
        server.now.wall += 2 * HOUR;
        server.pass(2_000).await;
        assert_eq!(amount(&server).await, 1_500);
        server.now.wall -= 2 * HOUR;
        server.pass(60_000).await;
        assert_eq!(amount(&server).await, 1_500);
        server.now.wall += HOUR;
        server.now.steady += HOUR;
        server.pass(1_000).await;
        assert_eq!(amount(&server).await, 1_000);
        assert_eq!(trail(&server, "budget.raise.over").await, 1);
        server.pass(10_000).await;
        assert_eq!(trail(&server, "budget.raise.over").await, 1);
    }

    #[tokio::test]
    async fn a_raise_of_what_was_removed_ends_without_a_word() {
        let mut server = Server::new().await;
        let until = time::end_to_rfc3339(server.now.wall + 5_000);
        let raise = json!({"by": 500, "until": until, "reason": "x", "raised_by": "local"});
        budget(&server, json!({"raise": raise})).await;
        server.pass(1_000).await;
        let store = &server.timer.store;
        let mut write = store
            .begin(&Caller::local(), "budget.remove", None)
            .await
            .unwrap();
        let before = write.get::<Budget>("b").await.unwrap();
        write.remove(&before).await.unwrap();
        write.commit("acme").await.unwrap();
        server.pass(20_000).await;
        assert_eq!(trail(&server, "budget.raise.over").await, 0);
        assert!(server.timer.ends[3].in_order.is_empty());
    }

    #[tokio::test]
    async fn each_threshold_is_told_once_in_a_window() {
        let mut server = Server::new().await;
        server.timer.notifies = true;
        budget(&server, json!({"thresholds": [50, 80, 100]})).await;
        let mut told = Vec::new();
        for spent in [499, 500, 600, 1_000, 1_300] {
            spend(&server, spent).await;
            server.pass(1_000).await;
            told.push(trail(&server, "budget.reached").await);
        }
        assert_eq!(told, [0, 1, 1, 2, 2]);
        let budget = server.timer.store.get::<Budget>("b").await.unwrap().document;
        assert_eq!(budget.reached.unwrap().percent, 100);
        let notices = sqlx::query("SELECT body FROM notices ORDER BY due_at, body")
            .fetch_all(server.timer.store.pool())
            .await
            .unwrap();
        let told: Vec<Value> = notices
            .iter()
            .map(|row| serde_json::from_str(&row.get::<String, _>("body")).unwrap())
            .map(|notice: Value| json!([notice["type"], notice["data"]["percent"], notice["data"]["spent"]]))
            .collect();
        let kind = "budget.reached";
        assert_eq!(told.len(), 2);
        assert!(
            told.contains(&json!([kind, 50, 500])) && told.contains(&json!([kind, 100, 1_000])),
            "{told:?}"
        );
        // The next window begins anew.
        server.now.wall += 32 * 24 * HOUR;
        server.now.steady += 32 * 24 * HOUR;
        spend(&server, 800).await;
        server.pass(1_000).await;
        assert_eq!(trail(&server, "budget.reached").await, 3);
    }

    #[tokio::test]
    async fn old_slices_are_forgotten_and_what_was_spent_is_not() {
        let server = Server::new().await;
        budget(&server, json!({})).await;
        spend(&server, 7).await;
        let store = &server.timer.store;
        let (budget, _) = store.budget_or_removed("b").await.unwrap().unwrap();
        let window = budget.window_at(server.now.wall).unwrap().unwrap();
        let look = async || {
            let slices = store.slices("b", window, 10).await.unwrap().len();
            (slices, store.standing("b", window).await.unwrap().totals.spent)
        };
        let day = 24 * HOUR;
        for (later, expected) in [(89, (1, 7)), (91, (0, 7)), (399, (0, 7)), (401, (0, 0))] {
            store
                .forget_old_windows(window.until + later * day)
                .await
                .unwrap();
            assert_eq!(look().await, expected, "{later} days later");
        }
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

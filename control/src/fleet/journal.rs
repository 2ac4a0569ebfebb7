//! Books in the control plane's database: what the coordinator was sent, in order, and now and then a snapshot of what it
//! made of it.
//!
//! What the coordinator answers follows from its books, the message and the time. So servers that apply the same messages
//! with the same times have the same books, and each keeps them in memory. Whoever takes a message holds the row `fleet`,
//! applies what others have added since, adds its own and commits; only then is it answered. So there is one order, what was
//! answered is lasting, and there are never two coordinators, whichever server dies, hangs or is cut off where.
//!
//! Messages that come while another transaction is under way share the next one: a commit costs more than all of its
//! messages.

use core::time::Duration;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::TryStreamExt as _;
use sqlx::any::AnyRow;
use sqlx::{Any, Row as _, Transaction};
use tokio::sync::{mpsc, oneshot};
use tollgate_shares::{Answer, Coordinator, Epoch, Message, RULE, Time, Timing};

use super::{PARTS, claim};
use crate::log::say;
use crate::problem::Problem;
use crate::store::{Engine, Store, StoreError};
use crate::time;

/// So many messages share a transaction.
const MOST: usize = 256;
/// And so many wants, each some 200 bytes: what else the database has to write waits for no more.
const MOST_WANTS: usize = 4_096;
/// A piece of a snapshot that is written by itself.
const PIECE: usize = 1 << 20;
/// So many entries of the log, and pieces of snapshots, that are old are forgotten at a time.
const FORGOTTEN: i64 = 4;
/// So many wait; of more is said at once that they were not heard.
const LINE: usize = 1_024;
/// Longest transaction. Nobody waits for it any more.
const LONGEST: Duration = Duration::from_secs(10);
/// The log is cut once it has so many bytes, and twice as many as the last snapshot.
const LOG: usize = 1 << 20;
/// Books that nobody wrote to for so long, in microseconds, are begun anew. All leases in them have ended long ago, and an
/// older copy of the database may have been put back meanwhile.
const STALE: Time = 60_000_000;

type Reply = Result<Option<Answer>, String>;

/// A message, and who waits for its answer.
struct Asked {
    message: Message,
    reply: oneshot::Sender<Reply>,
}

/// The books of one server.
pub(super) struct Journal {
    store: Arc<Store>,
    /// To the task that has them; it starts with the first message.
    line: Mutex<Option<mpsc::Sender<Asked>>>,
}

impl Journal {
    pub(super) fn new(store: Arc<Store>) -> Self {
        Self {
            store,
            line: Mutex::default(),
        }
    }

    /// Takes a message and answers it.
    pub(super) async fn receive(&self, message: Message) -> Reply {
        let (reply, replied) = oneshot::channel();
        let asked = self.line().try_send(Asked { message, reply });
        asked.map_err(|_| "too many messages wait for the database".to_owned())?;
        let unheard = |_| Err("the message was not heard".to_owned());
        replied.await.unwrap_or_else(unheard)
    }

    fn line(&self) -> mpsc::Sender<Asked> {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        match &*line {
            Some(line) if !line.is_closed() => line.clone(),
            _ => {
                let (begun, end) = mpsc::channel(LINE);
                tokio::spawn(keep(Keeper::new(Arc::clone(&self.store)), end));
                *line = Some(begun.clone());
                begun
            }
        }
    }
}

/// As many of these as share a transaction: at least one.
fn some_of(asked: &[Asked]) -> usize {
    let mut wants = 0;
    let fits = |asked: &&Asked| {
        wants += asked.message.wants.len();
        wants <= MOST_WANTS
    };
    asked.iter().take_while(fits).count().max(1).min(asked.len())
}

/// Takes messages, for as long as somebody may send some.
async fn keep(mut keeper: Keeper, mut line: mpsc::Receiver<Asked>) {
    let mut asked = Vec::with_capacity(MOST);
    while !asked.is_empty() || line.recv_many(&mut asked, MOST).await > 0 {
        let some = some_of(&asked);
        // Who has given up asks again: what it says now is old.
        let waiting = asked.drain(..some).filter(|asked| !asked.reply.is_closed());
        let (messages, replies): (Vec<_>, Vec<_>) = waiting.map(|asked| (asked.message, asked.reply)).unzip();
        if messages.is_empty() {
            continue;
        }
        let done = tokio::time::timeout(LONGEST, keeper.receive(&messages)).await;
        let done = done.unwrap_or_else(|_| Err(Problem::unavailable("the database hangs")));
        let replied: Vec<Reply> = match done {
            Ok(answers) => answers.into_iter().map(Ok).collect(),
            Err(why) => messages.iter().map(|_| Err(why.to_string())).collect(),
        };
        for (reply, answer) in replies.into_iter().zip(replied) {
            // Whoever has gone by now asks again.
            let _ = reply.send(answer);
        }
        // What fails here is tried again behind later messages, which fail as well where the database does.
        let _ = tokio::time::timeout(LONGEST, keeper.tidy()).await;
    }
}

/// A server's copy of the books.
struct Keeper {
    store: Arc<Store>,
    /// As they are after that entry of the log; `None` where they have to be read.
    books: Option<(i64, Coordinator)>,
    /// Length of the last snapshot that is known.
    snapshot: usize,
    /// Of the log behind it, in bytes.
    log: usize,
    /// A snapshot that is being written: of the books after that entry, and what is left of its pieces.
    cutting: Option<Cutting>,
    /// There are entries of the log, or pieces, from before the last snapshot.
    has_old: bool,
    /// The machine's clock, microseconds since 1970: that of SQLite.
    clock: fn() -> i64,
}

/// A snapshot that is being written.
struct Cutting {
    seq: i64,
    text: String,
    /// So many pieces of it are written.
    written: usize,
}

/// The row `fleet`, while this server holds it.
struct Head {
    /// The entry to be written.
    seq: i64,
    kept: String,
    rule: i64,
    place: String,
    bytes: usize,
    /// Where the database is now.
    place_now: String,
    wall: Time,
}

impl Keeper {
    fn new(store: Arc<Store>) -> Self {
        Self {
            store,
            books: None,
            snapshot: 0,
            log: 0,
            cutting: None,
            has_old: false,
            clock: time::micros,
        }
    }

    /// Takes messages in their order, all at once or none of them, and answers each.
    async fn receive(&mut self, messages: &[Message]) -> Result<Vec<Option<Answer>>, Problem> {
        let unwritten = |error: serde_json::Error| Problem::unavailable(error.to_string());
        let text = serde_json::to_string(messages).map_err(unwritten)?;
        let store = Arc::clone(&self.store);
        let mut exchange = store.begin_exchange().await?;
        let transaction = &mut exchange.transaction;
        let head = self.hold(transaction, text.len()).await?;
        claim::ensure(&head.kept, claim::DATABASE).map_err(Problem::unavailable)?;
        if head.rule > i64::from(RULE) {
            return Err(Problem::unavailable(
                "the books are kept by a server of a newer version: stop this one, or that",
            ));
        }
        let (seq, mut books) = match self.current(transaction, &head).await? {
            Some(books) => (head.seq, books),
            None => self.begin_anew(transaction, &head, text.len()).await?,
        };
        let wall = i64::try_from(head.wall).unwrap_or(i64::MAX);
        sqlx::query("INSERT INTO fleet_log (seq, wall, messages) VALUES ($1, $2, $3)")
            .bind(seq)
            .bind(wall)
            .bind(text)
            .execute(&mut **transaction)
            .await?;
        exchange.commit().await?;
        let answers = messages.iter().map(|message| books.receive(message, head.wall));
        let answers = answers.collect();
        self.books = Some((seq, books));
        self.log = head.bytes;
        Ok(answers)
    }

    /// A part of what is done now and then, for which no message waits: a piece of a snapshot, where the log is long, and some
    /// of what is old.
    async fn tidy(&mut self) -> Result<(), Problem> {
        if self.cutting.is_none()
            && self.log > LOG.max(2 * self.snapshot)
            && let Some((seq, books)) = &self.books
        {
            self.cutting = Some(Cutting {
                seq: *seq,
                text: text_of(books)?,
                written: 0,
            });
        }
        if let Some(cutting) = self.cutting.take() {
            self.cut_on(cutting).await?;
        }
        if self.has_old {
            self.forget_old().await?;
        }
        Ok(())
    }

    /// Writes one more piece of a snapshot; with the last one it is what is read from then on.
    async fn cut_on(&mut self, cutting: Cutting) -> Result<(), Problem> {
        let Cutting { seq, text, written } = cutting;
        let piece = |at: usize| {
            let bytes = text.as_bytes().chunks(PIECE).nth(at).unwrap_or_default();
            String::from_utf8(bytes.to_vec()).map_err(|error| Problem::unavailable(error.to_string()))
        };
        let last = text.len().div_ceil(PIECE).saturating_sub(1);
        let store = Arc::clone(&self.store);
        let mut exchange = store.begin_exchange().await?;
        let transaction = &mut exchange.transaction;
        if written < last {
            // Another server may be at the same one.
            sqlx::query(
                "INSERT INTO fleet_parts (seq, part, books) VALUES ($1, $2, $3) \
                 ON CONFLICT (seq, part) DO UPDATE SET books = excluded.books",
            )
            .bind(seq)
            .bind(i64::try_from(written).unwrap_or(i64::MAX))
            .bind(piece(written)?)
            .execute(&mut **transaction)
            .await?;
            exchange.commit().await?;
            self.cutting = Some(Cutting {
                seq,
                text,
                written: written + 1,
            });
            return Ok(());
        }
        // Nobody else changes the books until this is done. Where another server was quicker, its snapshot stays.
        sqlx::query("UPDATE fleet SET seq = seq WHERE one = 1")
            .execute(&mut **transaction)
            .await?;
        let put = sqlx::query(
            "UPDATE fleet_snapshot SET seq = $1, books = $2 WHERE one = 1 AND seq < $1 \
             AND EXISTS (SELECT 1 FROM fleet_log WHERE fleet_log.seq = $1)",
        )
        .bind(seq)
        .bind(piece(last)?)
        .execute(&mut **transaction)
        .await?;
        if put.rows_affected() > 0 {
            sqlx::query(
                "UPDATE fleet SET bytes = (SELECT CAST(COALESCE(SUM(OCTET_LENGTH(messages)), 0) AS BIGINT) FROM fleet_log \
                 WHERE fleet_log.seq > $1) WHERE one = 1",
            )
            .bind(seq)
            .execute(&mut **transaction)
            .await?;
        }
        exchange.commit().await?;
        self.snapshot = text.len();
        self.log = 0;
        self.has_old = true;
        Ok(())
    }

    /// Forgets some of what the last snapshot has made old.
    async fn forget_old(&mut self) -> Result<(), Problem> {
        let store = Arc::clone(&self.store);
        let mut exchange = store.begin_exchange().await?;
        let mut forgotten = 0;
        for statement in [
            "DELETE FROM fleet_log WHERE seq IN (SELECT seq FROM fleet_log \
             WHERE seq <= (SELECT seq FROM fleet_snapshot) ORDER BY seq LIMIT $1)",
            "DELETE FROM fleet_parts WHERE (seq, part) IN (SELECT seq, part FROM fleet_parts \
             WHERE seq < (SELECT seq FROM fleet_snapshot) ORDER BY seq, part LIMIT $1)",
        ] {
            let done = sqlx::query(statement)
                .bind(FORGOTTEN)
                .execute(&mut *exchange.transaction)
                .await?;
            forgotten += done.rows_affected();
        }
        exchange.commit().await?;
        self.has_old = forgotten > 0;
        Ok(())
    }

    /// Takes the row `fleet`, and then looks at the one clock of all servers: a server that waited for the row has the time at
    /// which it got it.
    async fn hold(&self, transaction: &mut Transaction<'static, Any>, bytes: usize) -> Result<Head, Problem> {
        let statement = match self.store.engine() {
            Engine::Sqlite => {
                "UPDATE fleet SET seq = seq + 1, bytes = bytes + $1 WHERE one = 1 \
                 RETURNING seq, bytes, kept, rule, place, '' AS place_now"
            }
            // A standby that takes over, and a backup that is brought up to some moment, begin another timeline.
            Engine::Postgres => {
                "UPDATE fleet SET seq = seq + 1, bytes = bytes + $1 WHERE one = 1 \
                 RETURNING seq, bytes, kept, rule, place, substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) AS place_now, \
                 CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT) AS wall"
            }
        };
        let row: AnyRow = sqlx::query(statement)
            .bind(i64::try_from(bytes).unwrap_or(i64::MAX))
            .fetch_one(&mut **transaction)
            .await?;
        let wall: i64 = match self.store.engine() {
            Engine::Sqlite => (self.clock)(),
            Engine::Postgres => row.try_get("wall")?,
        };
        Ok(Head {
            seq: row.try_get("seq")?,
            kept: row.try_get("kept")?,
            rule: row.try_get("rule")?,
            place: row.try_get("place")?,
            bytes: usize::try_from(row.try_get::<i64, _>("bytes")?).unwrap_or(usize::MAX),
            place_now: row.try_get("place_now")?,
            wall: u64::try_from(wall).unwrap_or(0),
        })
    }

    /// The books before the entry that is to be written; `None` where they are lost, of another rule or place, or old.
    async fn current(
        &mut self,
        transaction: &mut Transaction<'static, Any>,
        head: &Head,
    ) -> Result<Option<Coordinator>, Problem> {
        // Whatever fails from here on, they are read again.
        let known = self.books.take();
        // The database has less than this server saw in it: an older copy was put back.
        let is_older = known.as_ref().is_some_and(|(seq, _)| *seq >= head.seq);
        if is_older || head.rule != i64::from(RULE) || head.place != head.place_now {
            return Ok(None);
        }
        let mut found = match known {
            Some((seq, books)) => replay(transaction, seq, books, head.seq - 1).await?,
            None => None,
        };
        if found.is_none()
            && let Some((seq, books)) = self.snapshot(transaction).await?
        {
            found = replay(transaction, seq, books, head.seq - 1).await?;
        }
        Ok(found.filter(|books| head.wall.saturating_sub(books.wall()) <= STALE))
    }

    async fn snapshot(
        &mut self,
        transaction: &mut Transaction<'static, Any>,
    ) -> Result<Option<(i64, Coordinator)>, Problem> {
        let found = sqlx::query("SELECT seq, books FROM fleet_snapshot WHERE one = 1")
            .fetch_optional(&mut **transaction)
            .await?;
        let Some(row) = found else { return Ok(None) };
        let seq = row.try_get("seq")?;
        let mut text = String::new();
        let mut parts = sqlx::query("SELECT books FROM fleet_parts WHERE seq = $1 ORDER BY part")
            .bind(seq)
            .fetch(&mut **transaction);
        while let Some(part) = parts.try_next().await? {
            text.push_str(&part.try_get::<String, _>("books")?);
        }
        drop(parts);
        text.push_str(&row.try_get::<String, _>("books")?);
        self.snapshot = text.len();
        // What can't be read is lost.
        Ok(serde_json::from_str(&text).ok().map(|books| (seq, books)))
    }

    /// Empty books, and the entry that is to be written into them. A number is left out before it, so that whoever has other
    /// books finds that an entry is missing.
    async fn begin_anew(
        &mut self,
        transaction: &mut Transaction<'static, Any>,
        head: &Head,
        bytes: usize,
    ) -> Result<(i64, Coordinator), Problem> {
        let mut epoch = [0; 8];
        getrandom::fill(&mut epoch)
            .map_err(|error| Problem::unavailable(StoreError::Random(error).to_string()))?;
        let epoch = Epoch(u64::from_be_bytes(epoch));
        say("limits of the fleet begin anew: nothing is granted for some twelve seconds");
        let books = Coordinator::new(Timing::FLEET, epoch, PARTS, head.wall);
        sqlx::query("UPDATE fleet SET seq = seq + 1, rule = $1, place = $2 WHERE one = 1")
            .bind(i64::from(RULE))
            .bind(head.place_now.clone())
            .execute(&mut **transaction)
            .await?;
        let text = text_of(&books)?;
        self.snapshot = text.len();
        self.cutting = None;
        self.has_old = true;
        sqlx::query(
            "INSERT INTO fleet_snapshot (one, seq, books) VALUES (1, $1, $2) \
             ON CONFLICT (one) DO UPDATE SET seq = excluded.seq, books = excluded.books",
        )
        .bind(head.seq)
        .bind(text)
        .execute(&mut **transaction)
        .await?;
        sqlx::query("UPDATE fleet SET bytes = $1 WHERE one = 1")
            .bind(i64::try_from(bytes).unwrap_or(i64::MAX))
            .execute(&mut **transaction)
            .await?;
        Ok((head.seq + 1, books))
    }
}

/// Books as they are written down: ASCII.
fn text_of(books: &Coordinator) -> Result<String, Problem> {
    serde_json::to_string(books).map_err(|error| Problem::unavailable(error.to_string()))
}

/// Brings books from after the entry `seq` to after the entry `to`; `None` where one between is missing or can't be read.
async fn replay(
    transaction: &mut Transaction<'static, Any>,
    mut seq: i64,
    mut books: Coordinator,
    to: i64,
) -> Result<Option<Coordinator>, Problem> {
    if seq == to {
        return Ok(Some(books));
    }
    let mut rows = sqlx::query("SELECT seq, wall, messages FROM fleet_log WHERE seq > $1 ORDER BY seq")
        .bind(seq)
        .fetch(&mut **transaction);
    while let Some(row) = rows.try_next().await? {
        seq += 1;
        let messages: String = row.try_get("messages")?;
        let messages = serde_json::from_str::<Vec<Message>>(&messages);
        let (true, Ok(messages)) = (row.try_get::<i64, _>("seq")? == seq, messages) else {
            return Ok(None);
        };
        let wall = u64::try_from(row.try_get::<i64, _>("wall")?).unwrap_or(0);
        for message in messages {
            books.receive(&message, wall);
        }
    }
    Ok((seq == to).then_some(books))
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::{AtomicI64, Ordering};

    use tollgate_shares::{Incarnation, Key, Limit, Member};

    use super::*;

    /// The clock of all servers of a test; each test is a process of its own, or takes its turn.
    static NOW: AtomicI64 = AtomicI64::new(0);
    static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

    fn pass(micros: i64) {
        NOW.fetch_add(micros, Ordering::SeqCst);
    }

    fn now() -> Time {
        NOW.load(Ordering::SeqCst).unsigned_abs()
    }

    struct Bench {
        store: Arc<Store>,
        members: Vec<Member>,
        _folder: tempfile::TempDir,
        _turn: tokio::sync::MutexGuard<'static, ()>,
    }

    impl Bench {
        async fn new() -> Self {
            let turn = TURN.lock().await;
            NOW.store(1_700_000_000_000_000, Ordering::SeqCst);
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("tollgate.db");
            let store = Store::create(&format!("sqlite:{}", file.display()))
                .await
                .unwrap();
            Self {
                store: Arc::new(store),
                members: (0..4)
                    .map(|at| Member::new(Timing::FLEET, Incarnation(at << 32)))
                    .collect(),
                _folder: folder,
                _turn: turn,
            }
        }

        /// Another server.
        fn keeper(&self) -> Keeper {
            Keeper {
                clock: || NOW.load(Ordering::SeqCst),
                ..Keeper::new(Arc::clone(&self.store))
            }
        }

        /// One that has given its first terms.
        async fn ready(&mut self) -> Keeper {
            let mut keeper = self.keeper();
            for _ in 0..14 {
                pass(1_000_000);
                self.exchange(&mut keeper, 0).await.unwrap();
            }
            keeper
        }

        async fn exchange(&mut self, keeper: &mut Keeper, member: usize) -> Result<Answer, Problem> {
            let message = self.members[member].message(now());
            let answer = keeper.receive(&[message]).await?.remove(0).unwrap();
            keeper.tidy().await?;
            self.members[member].receive(&answer, now());
            Ok(answer)
        }

        async fn change(&self, statement: &'static str) {
            sqlx::raw_sql(statement).execute(self.store.pool()).await.unwrap();
        }

        async fn number(&self, statement: &'static str) -> i64 {
            let row = sqlx::query(statement).fetch_one(self.store.pool()).await.unwrap();
            row.try_get(0).unwrap()
        }
    }

    fn key(at: u64) -> Key {
        Key(u128::from(at).to_be_bytes())
    }

    /// Three servers by turns, of which one starts anew now and then, answer as one coordinator would; and the log stays short.
    #[tokio::test]
    async fn servers_over_one_database_are_one_coordinator() {
        let mut bench = Bench::new().await;
        let mut keepers = [bench.keeper(), bench.keeper(), bench.keeper()];
        let mut alone: Option<Coordinator> = None;
        let mut granted = 0;
        for round in 0..300_u64 {
            pass(300_000 + i64::try_from(round % 7).unwrap() * 100_000);
            let some = usize::try_from(round % 4).unwrap();
            let mut messages = Vec::new();
            for at in [some, (some + 1) % 4] {
                let member = &mut bench.members[at];
                for of in 0..400 {
                    let limit = Limit {
                        rate: 600,
                        period: 60_000_000,
                        burst: 600,
                    };
                    member.want(key(of), limit, (round * 31 + of * 7 + at as u64) % 900, 0);
                }
                messages.push(member.message(now()));
            }
            let keeper = &mut keepers[usize::try_from(round / 2 % 3).unwrap()];
            if round % 50 == 49 {
                *keeper = bench.keeper();
            }
            let answers = keeper.receive(&messages).await.unwrap();
            keeper.tidy().await.unwrap();
            let first = answers[0].as_ref().unwrap().epoch;
            let alone = alone.get_or_insert_with(|| Coordinator::new(Timing::FLEET, first, PARTS, now()));
            let expected: Vec<_> = messages
                .iter()
                .map(|message| alone.receive(message, now()))
                .collect();
            assert_eq!(answers, expected, "round {round}");
            for (at, answer) in [some, (some + 1) % 4].into_iter().zip(answers.iter().flatten()) {
                granted += answer.terms.as_ref().map_or(0, |terms| terms.grants.len());
                bench.members[at].receive(answer, now());
            }
        }
        assert!(granted > 1_000, "{granted}");
        let cut = bench.number("SELECT seq FROM fleet_snapshot").await;
        let left = bench.number("SELECT COUNT(*) FROM fleet_log").await;
        assert!(cut > 50 && left < 250, "cut at {cut}, {left} entries left");
    }

    /// Whoever else writes waits for one piece, and not for all of the books.
    #[tokio::test]
    async fn large_books_are_written_down_in_pieces() {
        let mut bench = Bench::new().await;
        let mut keeper = bench.ready().await;
        let limit = Limit {
            rate: 1,
            period: 86_400_000_000,
            burst: 1,
        };
        let mut next = 0;
        let mut say = async |bench: &mut Bench, keeper: &mut Keeper, keys: u64| {
            for key_at in next..next + keys {
                bench.members[0].want(key(key_at), limit, 1, 0);
            }
            next += keys;
            pass(100_000);
            bench.exchange(keeper, 0).await.unwrap();
        };
        for _ in 0..40 {
            say(&mut bench, &mut keeper, 400).await;
        }
        // All that was begun is brought to its end.
        let begun = bench.number("SELECT seq FROM fleet").await;
        while bench.number("SELECT seq FROM fleet_snapshot").await < begun {
            say(&mut bench, &mut keeper, 100).await;
        }
        let parts = "SELECT COUNT(*) FROM fleet_parts WHERE seq = (SELECT seq FROM fleet_snapshot)";
        assert!(bench.number(parts).await >= 2);
        let longest = "SELECT MAX(LENGTH(books)) FROM (SELECT books FROM fleet_parts UNION ALL SELECT books FROM fleet_snapshot)";
        assert_eq!(bench.number(longest).await, PIECE as i64);
        // Another server reads them, and goes on where this one was.
        let epoch = bench.exchange(&mut keeper, 0).await.unwrap().epoch;
        let mut reader = bench.keeper();
        assert_eq!(bench.exchange(&mut reader, 0).await.unwrap().epoch, epoch);
        let known = keeper.receive(&[]).await.map(|_| keeper.books.clone()).unwrap();
        reader.receive(&[]).await.unwrap();
        assert_eq!(known.unwrap().1, reader.books.unwrap().1);
        // What is old goes, a little at a time.
        while keeper.has_old {
            bench.exchange(&mut keeper, 1).await.unwrap();
        }
        let old = "SELECT COUNT(*) FROM fleet_log WHERE seq <= (SELECT seq FROM fleet_snapshot)";
        assert_eq!(bench.number(old).await, 0);
        let old = "SELECT COUNT(*) FROM fleet_parts WHERE seq < (SELECT seq FROM fleet_snapshot)";
        assert_eq!(bench.number(old).await, 0);
    }

    /// A part of a snapshot that another server has overtaken is worth nothing.
    #[tokio::test]
    async fn a_snapshot_that_comes_late_stays_behind_a_newer_one() {
        let mut bench = Bench::new().await;
        let mut keeper = bench.ready().await;
        let (seq, books) = keeper.books.clone().unwrap();
        let late = Cutting {
            seq,
            text: text_of(&books).unwrap(),
            written: 0,
        };
        bench.change("UPDATE fleet SET rule = 0").await;
        let after = bench.exchange(&mut bench.keeper(), 1).await.unwrap();
        let newer = bench.number("SELECT seq FROM fleet_snapshot").await;
        keeper.cut_on(late).await.unwrap();
        assert_eq!(bench.number("SELECT seq FROM fleet_snapshot").await, newer);
        let next = bench.exchange(&mut bench.keeper(), 1).await.unwrap();
        assert_eq!(next.epoch, after.epoch);
    }

    /// A long line of long messages is taken apart.
    #[test]
    fn a_transaction_has_so_many_wants() {
        let asked = |wants: usize| {
            let mut member = Member::new(Timing::FLEET, Incarnation(1));
            for at in 0..wants {
                member.want(key(at as u64), Limit::in_use(1), 1, 0);
            }
            let message = member.message(0);
            assert_eq!(message.wants.len(), wants);
            let (reply, _) = oneshot::channel();
            Asked { message, reply }
        };
        let line: Vec<_> = (0..20).map(|_| asked(512)).collect();
        assert_eq!(some_of(&line), MOST_WANTS / 512);
        assert_eq!(some_of(&line[..3]), 3);
        assert_eq!(some_of(&[]), 0);
    }

    /// What may have been granted is not granted again, in whatever way the books came to be older than that.
    #[tokio::test]
    async fn older_books_begin_anew() {
        for (what, change) in [
            ("as told", "UPDATE fleet SET rule = 0"),
            ("another place", "UPDATE fleet SET place = 'another'"),
            (
                "an older copy",
                "DELETE FROM fleet_log WHERE seq = (SELECT seq FROM fleet); UPDATE fleet SET seq = seq - 1",
            ),
            ("no snapshot, and unknown", "DELETE FROM fleet_snapshot"),
            (
                "a snapshot that can't be read",
                "UPDATE fleet_snapshot SET books = '{}'",
            ),
            ("an entry is missing", "DELETE FROM fleet_log WHERE seq = 9"),
            (
                "an entry that can't be read",
                "UPDATE fleet_log SET messages = '[{}]' WHERE seq = 9",
            ),
        ] {
            let mut bench = Bench::new().await;
            let mut keeper = bench.ready().await;
            let before = bench.exchange(&mut keeper, 0).await.unwrap();
            assert!(before.terms.is_some(), "{what}");
            bench.change(change).await;
            // A server that has seen an older copy's later entries knows; what else is wrong only who has to read finds.
            let mut reader = if change.contains("seq - 1") {
                keeper
            } else {
                bench.keeper()
            };
            let after = bench.exchange(&mut reader, 0).await.unwrap();
            assert_ne!(after.epoch, before.epoch, "{what}");
            assert_eq!(after.terms, None, "{what}");
            // And so says whoever comes next.
            let next = bench.exchange(&mut bench.keeper(), 1).await.unwrap();
            assert_eq!((next.epoch, next.terms), (after.epoch, None), "{what}");
        }
    }

    #[tokio::test]
    async fn a_server_notices_that_another_began_anew() {
        let mut bench = Bench::new().await;
        let mut keeper = bench.ready().await;
        bench.change("UPDATE fleet SET rule = 0").await;
        let other = bench.exchange(&mut bench.keeper(), 1).await.unwrap();
        let own = bench.exchange(&mut keeper, 2).await.unwrap();
        assert_eq!((own.epoch, own.terms), (other.epoch, None));
    }

    #[tokio::test]
    async fn books_that_nobody_wrote_to_for_long_begin_anew() {
        let mut bench = Bench::new().await;
        let mut keeper = bench.ready().await;
        let before = bench.exchange(&mut keeper, 0).await.unwrap();
        pass(STALE as i64 - 1);
        let soon = bench.exchange(&mut keeper, 1).await.unwrap();
        assert_eq!(soon.epoch, before.epoch);
        pass(STALE as i64 + 1);
        let late = bench.exchange(&mut keeper, 2).await.unwrap();
        assert_ne!(late.epoch, before.epoch);
    }

    #[tokio::test]
    async fn books_of_a_newer_rule_are_left_alone() {
        let mut bench = Bench::new().await;
        let mut keeper = bench.ready().await;
        bench.change("UPDATE fleet SET rule = rule + 1").await;
        let why = bench.exchange(&mut keeper, 0).await.unwrap_err().to_string();
        assert!(why.contains("newer version"), "{why}");
        assert_eq!(bench.number("SELECT rule FROM fleet").await, i64::from(RULE) + 1);
    }
}

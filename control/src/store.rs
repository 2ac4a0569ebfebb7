//! The database: SQLite in a file, or PostgreSQL. Objects are JSON documents; each write is one transaction that changes
//! objects, adds an entry to the trail and moves the trail's end.
//!
//! A write begins by taking the row `head`, so writes of all servers come one after another, and `seq` grows in the order
//! of their commits: who has seen `seq` has seen all before it.

use core::time::Duration;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Instant;

use futures_util::TryStreamExt as _;
use serde::Serialize;
use serde_json::Value;
use sqlx::any::{AnyPoolOptions, AnyRow};
use sqlx::{Any, AnyConnection, AnyPool, Connection as _, Row as _, Transaction};
use tokio::sync::{Mutex, watch};
use tollgate_core::key::KeyHash;

use crate::access::{Caller, ensure_valid};

use crate::documents::{Document, Incident, Key, Kind, Timed, Token};
use crate::entry::{self, Change, Entry};
use crate::file::{Due, OpenedFile};
use crate::problem::Problem;
use crate::reads::{Reading, Reads};
use crate::spool::Spool;
use crate::time;
use crate::turns::{Turn, Turns};
use crate::write_quota::{Spent, Subject, WriteQuota};

/// A database.
pub struct Store {
    /// Reads.
    pool: AnyPool,
    /// Writes: they wait for one another, and nobody else for them.
    writers: AnyPool,
    /// Exchanges over the books of the fleet, one after another.
    exchanges: AnyPool,
    /// Exchanges of slices of budgets: however many there are, a write has a connection.
    spenders: AnyPool,
    turns: Turns,
    reads: Reads,
    /// How much customers' own tokens may write.
    write_quota: WriteQuota,
    engine: Engine,
    /// SQLite's file, as it was opened.
    file: Option<OpenedFile>,
    /// Which database this is.
    name: String,
    /// The end of the trail, as far as this server has seen it: the trail holds it, or is another one.
    seen: watch::Sender<End>,
    /// When that was.
    looked_at: std::sync::Mutex<Instant>,
    /// Why the database is not to be believed, once that is so.
    lost: OnceLock<String>,
    /// The directory's whole document as it was last asked for.
    document_cache: Mutex<Option<Arc<Spool>>>,
    /// The last version of the directory that was read, by its entry.
    directory_version: std::sync::Mutex<Option<(i64, String)>>,
}

/// An end of the trail.
#[derive(Debug, Clone)]
pub(crate) struct End {
    /// The last entry; 0 before the first one.
    pub(crate) seq: i64,
    /// Its hash; before the first one, the database's name.
    hash: String,
}

/// Which database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// In a file of this machine, for one server.
    Sqlite,
    /// For several servers.
    Postgres,
}

impl Engine {
    /// The parameter with this number, in a statement that has them in their order. SQLite looks for the name of a numbered
    /// one among all others, which is most of the work of binding thousands.
    fn parameter(self, number: usize) -> String {
        match self {
            Self::Sqlite => "?".to_owned(),
            Self::Postgres => format!("${number}"),
        }
    }
}

/// Why the database does not serve.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The address is none that is known.
    #[error("`{0}` is no database: expected `sqlite:FILE` or `postgres://HOST/NAME`")]
    Address(String),
    /// There is no such file.
    #[error(
        "there is no database `{0}`: `tollgate serve` and `tollgate init` make one; of a server, say which: --server"
    )]
    Missing(String),
    /// The file can't be made.
    #[error("the database `{0}` cannot be made: {1}")]
    Create(String, std::io::Error),
    /// SQLite's address names no file.
    #[error(
        "`sqlite:{0}` names no file: expected `sqlite:FILE`, without `?` and what follows, and not `:memory:`"
    )]
    NotAFile(String),
    /// The file does not hold what was written into it.
    #[error(
        "the database `{0}` is damaged, as it is where `{0}-wal` was left from another file: {1}. Restore a backup with \
         `tollgate restore`"
    )]
    Damaged(String, String),
    /// It can't be opened, or brought to this version's tables.
    #[error("the database cannot be opened: {0}")]
    Open(sqlx::Error),
    /// The same, of its tables.
    #[error("the database's tables cannot be brought to this version: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// The operating system has no randomness.
    #[error("no randomness from the operating system: {0}")]
    Random(getrandom::Error),
}

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        Self::unavailable(format!(
            "the database failed, and nothing was changed: {}",
            why(&error)
        ))
    }
}

/// What went wrong, without what a statement held: it may be anybody's.
fn why(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => error.message().to_owned(),
        sqlx::Error::PoolTimedOut => "it is too busy".to_owned(),
        sqlx::Error::Io(error) => error.to_string(),
        _ => "it does not answer as it should".to_owned(),
    }
}

/// Of an error at COMMIT: whether nothing was changed, or nobody here can say.
pub(crate) fn at_commit(error: sqlx::Error) -> Problem {
    // SQLite did not write the last of the change (SQLITE_FULL, SQLITE_IOERR_WRITE); PostgreSQL rolled it back (class 40)
    // or had no room for it (53). A connection that is lost says nothing of what became of the change.
    let is_undone =
        |code: &str| ["13", "778"].contains(&code) || code.starts_with("40") || code.starts_with("53");
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    if code.is_some_and(|code| is_undone(&code)) {
        return error.into();
    }
    Problem::unknown_outcome(&why(&error))
}

/// An object as it is stored.
#[derive(Debug, Clone)]
pub(crate) struct Stored<D> {
    pub(crate) document: D,
    /// Grows by one with each change.
    pub(crate) revision: i64,
    /// The document, letter for letter.
    text: String,
}

/// After so long without an answer the database is gone.
const SILENT: Duration = Duration::from_secs(5);
/// Has SQLite copy its log into its file.
const COPY_LOG: &str = "PRAGMA wal_checkpoint";
/// One object by its kind and id.
const FIND: &str = "SELECT revision, document FROM objects WHERE kind = $1 AND id = $2 AND gone = 0";
/// What [`Store::look`] reads of [`head_beside`]: where the trail ends, and what it has in the place of the entry that was seen
/// last.
macro_rules! end {
    () => {
        "head.seq AS end_seq, head.hash AS end_hash, COALESCE(held.hash, head.name) AS held"
    };
}
/// `head`, beside the entry of this number.
macro_rules! head_beside {
    ($number:literal) => {
        concat!("head LEFT JOIN audit AS held ON held.seq = ", $number)
    };
}
pub(crate) use {end, head_beside};
/// The end of the trail alone.
const END: &str = concat!("SELECT ", end!(), " FROM ", head_beside!("$1"));
/// An object by its hash, as the index has it, or it would not be used.
const BY_SHA256: &str = concat!(
    "SELECT objects.revision, objects.document, ",
    end!(),
    " FROM ",
    head_beside!("$3"),
    " LEFT JOIN objects ON objects.kind = $1 AND objects.sha256 = $2 AND objects.gone = 0"
);
/// Of freezes, caps, restrictions and budgets, as their index has it, or it would not be used.
pub(crate) const IN_FORCE: &str = "in_force = 1 AND kind <> 'key'";
/// Written so that no index fits but the one by change: that of an organization's keys would have all of them read.
const KEYS_SINCE: &str =
    "SELECT document FROM objects WHERE kind = 'key' AND seq > $1 AND org || '' = $2 AND in_force + 0 = 1";
/// So many exchanges of slices of budgets are under way at once, where the database takes more than one.
const SPENDERS: usize = 4;
/// Lists are answered in parts of so many bytes at most: a document may be large.
const MAX_BYTES: usize = 1 << 20;

/// A part of a list.
pub(crate) struct Listed<D> {
    pub(crate) found: Vec<Stored<D>>,
    /// Whether there are more behind it.
    pub(crate) has_more: bool,
}

/// Which objects to list, and how many.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ListQuery<'a> {
    /// Of this organization only; of all where empty.
    pub(crate) org: &'a str,
    /// After this id.
    pub(crate) after: &'a str,
    /// So many at most.
    pub(crate) limit: i64,
}

impl Store {
    /// Opens a database by its address, `sqlite:FILE` or `postgres://…`, and brings its tables to this version. A file that
    /// is not there is made only by [`Self::create`].
    pub async fn open(address: &str) -> Result<Self, StoreError> {
        Self::at(address, false).await
    }

    /// The same, and makes the file where there is none, which its owner alone can read.
    pub async fn create(address: &str) -> Result<Self, StoreError> {
        Self::at(address, true).await
    }

    async fn at(address: &str, create: bool) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let scheme = address
            .split_once(':')
            .map(|(scheme, rest)| (scheme.to_ascii_lowercase(), rest));
        let mut file = None;
        let (engine, address) = match scheme.as_ref().map(|(scheme, rest)| (scheme.as_str(), *rest)) {
            Some(("sqlite", name)) => {
                let name = name.trim_start_matches("//");
                if name.is_empty() || name.starts_with(":memory:") || name.contains('?') {
                    return Err(StoreError::NotAFile(tollgate_core::key::shown(name, 64)));
                }
                ensure_file(name, create)?;
                file = Some(Path::new(name));
                (Engine::Sqlite, sqlite_url(Path::new(name)))
            }
            Some(("postgres" | "postgresql", rest)) => (Engine::Postgres, format!("postgres:{rest}")),
            _ => return Err(StoreError::Address(masked(address))),
        };
        // A pool tries again and again, and then says that it waited; the first connection says what is wrong.
        let mut first = AnyConnection::connect(&address).await.map_err(StoreError::Open)?;
        // SQLite puts the log beside the file, and not beside a link to it.
        let real = file.and_then(|file| file.canonicalize().ok());
        let left_open =
            real.is_some_and(|file| beside(&file, "-wal").metadata().is_ok_and(|log| log.len() > 0));
        // Before anything is written: after a crash the log is the file's own; after a restore by hand it is not.
        if let Some(file) = file.filter(|_| create && left_open)
            && let Some(found) = quick_check(&mut first).await.map_err(StoreError::Open)?
        {
            return Err(StoreError::Damaged(file.display().to_string(), found));
        }
        configure(&mut first, engine).await.map_err(StoreError::Open)?;
        let file = file.map(OpenedFile::at).transpose();
        let file = file.map_err(|error| StoreError::Open(error.into()))?;
        let options = |connections: u32, kept: u32, bounds: &'static str| {
            let opened = file.clone();
            let mut options = AnyPoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(Duration::from_secs(10))
                .after_connect(move |connection, _| {
                    let there = opened.as_ref().map_or(Ok(()), OpenedFile::ensure_there);
                    Box::pin(async move {
                        there.map_err(|gone| sqlx::Error::Io(std::io::Error::other(gone)))?;
                        configure(connection, engine).await?;
                        sqlx::raw_sql(bounds).execute(connection).await?;
                        Ok(())
                    })
                })
                .before_acquire(|connection, _| Box::pin(is_idle(connection)));
            if engine == Engine::Sqlite {
                // Where the file is gone, what is open can still be read, and nothing else.
                options = options
                    .min_connections(kept)
                    .max_lifetime(None)
                    .idle_timeout(None);
            }
            options
        };
        let open = async |connections, kept| {
            let opened = options(connections, kept, "").connect(&address).await;
            opened.map_err(StoreError::Open)
        };
        let (pool, writers) = (open(16, if create { 16 } else { 1 }).await?, open(4, 1).await?);
        let exchanges = options(1, 0, exchange_bounds(engine)).connect_lazy(&address);
        let exchanges = exchanges.map_err(StoreError::Open)?;
        let spenders = options(SPENDERS as u32, 0, "").connect_lazy(&address);
        let spenders = spenders.map_err(StoreError::Open)?;
        sqlx::migrate!("./migrations").run(&pool).await?;
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(StoreError::Random)?;
        let name = format!("{:016x}", u64::from_le_bytes(random));
        sqlx::query("INSERT INTO head (one, name, seq, hash) VALUES (1, $1, 0, $1) ON CONFLICT DO NOTHING")
            .bind(name)
            .execute(&pool)
            .await
            .map_err(StoreError::Open)?;
        let head = sqlx::query("SELECT name, seq, hash FROM head")
            .fetch_one(&pool)
            .await
            .map_err(StoreError::Open)?;
        let name = head.try_get("name").map_err(StoreError::Open)?;
        let seq = head.try_get("seq").map_err(StoreError::Open)?;
        let hash = head.try_get("hash").map_err(StoreError::Open)?;
        if let Some(file) = file.as_ref().filter(|_| create) {
            // What a log that was left held is in the file before that is watched.
            let copying = file.begin_copy();
            sqlx::raw_sql(COPY_LOG)
                .execute(&mut first)
                .await
                .map_err(StoreError::Open)?;
            drop(copying);
            file.ensure_not_written_over()
                .map_err(|gone| StoreError::Open(sqlx::Error::Io(std::io::Error::other(gone))))?;
        }
        Ok(Self {
            pool,
            writers,
            exchanges,
            spenders,
            turns: Turns::default(),
            reads: Reads::default(),
            write_quota: WriteQuota::default(),
            engine,
            file,
            name,
            seen: watch::Sender::new(End { seq, hash }),
            looked_at: std::sync::Mutex::new(Instant::now()),
            lost: OnceLock::new(),
            document_cache: Mutex::default(),
            directory_version: std::sync::Mutex::default(),
        })
    }

    /// The same with another quota for what customers' own tokens write.
    #[must_use]
    pub fn with_write_quota(self, write_quota: WriteQuota) -> Self {
        Self { write_quota, ..self }
    }

    /// Which database it is.
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// Its name, by which versions of two databases differ.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Fails with 503 where what is written would not last: SQLite's file is not the one that was opened any more, or the
    /// database is not to be believed.
    pub(crate) fn ensure_writable(&self) -> Result<(), Problem> {
        self.ensure_believed()?;
        let there = self.file.as_ref().map_or(Ok(()), OpenedFile::ensure_there);
        there.map_err(Problem::unavailable)
    }

    /// Fails with 503 where the database is another one than this server has read and written so far, from then on: in one
    /// from before, revoked keys and tokens would be good again.
    pub(crate) fn ensure_believed(&self) -> Result<(), Problem> {
        if self.lost.get().is_none()
            && let Some(Err(why)) = self.file.as_ref().map(OpenedFile::ensure_not_written_over)
        {
            let _ = self.lost.set(why);
        }
        match self.lost.get() {
            Some(why) => Err(Problem::unavailable(why.clone())),
            None => Ok(()),
        }
    }

    /// The trail does not hold what was seen of it.
    fn lose(&self, seen: i64, found: i64) -> Problem {
        let what = match found < seen {
            true => format!("it ends at entry {found} now"),
            false => "that entry is another one now".to_owned(),
        };
        let _ = self.lost.set(format!(
            "the database went back under the server, and is neither read nor written any more: the trail had entry {seen}, \
             and {what}. Start the server anew to go on with what is there, or put another backup in its place first \
             (`tollgate restore`)"
        ));
        match self.ensure_believed() {
            Err(problem) => problem,
            Ok(()) => Problem::unavailable("the database went back under the server"),
        }
    }

    /// The end of the trail as it was seen last. A statement that begins after this finds it in the trail, or that is another
    /// one.
    pub(crate) fn seen(&self) -> End {
        self.seen.borrow().clone()
    }

    fn see(&self, end: End) {
        self.seen.send_if_modified(|seen| {
            let newer = end.seq > seen.seq;
            if newer {
                *seen = end;
            }
            newer
        });
    }

    /// Looks at the trail in a row that has its [`end!`], of a statement that began after `seen`. Fails, from then on, where the
    /// trail does not hold that.
    pub(crate) fn look(&self, seen: &End, row: &AnyRow) -> Result<i64, Problem> {
        let (seq, held): (i64, String) = (row.try_get("end_seq")?, row.try_get("held")?);
        self.ensure_holds(seen, seq, &held)?;
        let hash = row.try_get("end_hash")?;
        self.see(End { seq, hash });
        *self.looked_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        Ok(seq)
    }

    /// Fails with 503 where the database does not answer, or what is written would not last. It is looked at ten times a second,
    /// so this does not ask it: anybody may want to know.
    pub(crate) fn ensure_ready(&self, now: Instant) -> Result<(), Problem> {
        self.ensure_writable()?;
        let looked_at = *self.looked_at.lock().unwrap_or_else(PoisonError::into_inner);
        let since = now.saturating_duration_since(looked_at);
        match since > SILENT {
            false => Ok(()),
            true => Err(Problem::unavailable(format!(
                "the database has not answered for {} s",
                since.as_secs()
            ))),
        }
    }

    /// `held` is what a trail that ends at `last` has in the place of what was seen.
    fn ensure_holds(&self, seen: &End, last: i64, held: &str) -> Result<(), Problem> {
        match last >= seen.seq && held == seen.hash {
            true => self.ensure_believed(),
            false => Err(self.lose(seen.seq, last)),
        }
    }

    /// The directory's whole document as it was last asked for; who holds this makes it anew.
    pub(crate) fn document_cache(&self) -> &Mutex<Option<Arc<Spool>>> {
        &self.document_cache
    }

    /// The last version of the directory that was read and is to be believed; `None` before the first.
    pub(crate) fn directory_version(&self) -> Option<String> {
        let last = self.directory_version.lock();
        let last = last.unwrap_or_else(PoisonError::into_inner);
        last.as_ref().map(|(_, version)| version.clone())
    }

    /// What was read of the directory is this version, of this entry. Fails where it is not to be believed.
    pub(crate) fn note_directory_version(&self, seq: i64, version: String) -> Result<(), Problem> {
        self.ensure_believed()?;
        let last = self.directory_version.lock();
        let mut last = last.unwrap_or_else(PoisonError::into_inner);
        if last.as_ref().is_none_or(|(known, _)| *known <= seq) {
            *last = Some((seq, version));
        }
        Ok(())
    }

    /// Copies SQLite's log into its file, where that is due: a page that changes again soon, as of the index on hashes, is then
    /// written once. Whoever wrote waits for it, as it would where SQLite did so by itself.
    pub(crate) async fn copy_log(&self, due: Due) -> Result<(), Problem> {
        let Some(file) = self.file.clone().filter(|file| file.awaits_copy() >= Some(due)) else {
            return Ok(());
        };
        let writers = self.writers.clone();
        // SQLite goes on with it where nobody waits for it any more.
        let copied = tokio::spawn(async move {
            let mut connection = writers.acquire().await?;
            let Some(_copying) = file.begin_copy() else {
                return Ok(());
            };
            sqlx::raw_sql(COPY_LOG).execute(&mut *connection).await.map(drop)
        });
        let copied = copied
            .await
            .map_err(|error| Problem::unavailable(error.to_string()))?;
        copied.map_err(|error| {
            Problem::unavailable(format!(
                "the log could not be copied into the database's file, and is kept: {}",
                why(&error)
            ))
        })
    }

    /// The same for what was written in other ways, and where it has failed before.
    pub(crate) async fn tend_log(&self) -> Result<(), Problem> {
        if self.file.as_ref().and_then(OpenedFile::awaits_copy).is_none() {
            return Ok(());
        }
        let _turn = self.turns.take(&Caller::system()).await?;
        self.copy_log(Due::Again).await
    }

    /// A place to read for a confined caller; nobody else waits for one.
    pub(crate) async fn place_to_read(&self, caller: &Caller) -> Result<Option<Reading>, Problem> {
        match caller.token_id().filter(|_| caller.is_confined()) {
            Some(token) => self.reads.take(token).await.map(Some),
            None => Ok(None),
        }
    }

    pub(crate) fn pool(&self) -> &AnyPool {
        &self.pool
    }

    /// For writes beside those of [`Self::begin`].
    pub(crate) fn writers(&self) -> &AnyPool {
        &self.writers
    }

    /// Tells of each change that this server has seen.
    pub(crate) fn changes(&self) -> watch::Receiver<End> {
        self.seen.subscribe()
    }

    /// Polls for changes by other servers; the end of the trail.
    pub(crate) async fn poll(&self) -> Result<i64, Problem> {
        let seen = self.seen();
        let row = sqlx::query(END).bind(seen.seq).fetch_one(&self.pool).await?;
        self.look(&seen, &row)
    }

    /// The end of the trail.
    pub(crate) async fn seq(&self) -> Result<i64, Problem> {
        Ok(sqlx::query("SELECT seq FROM head")
            .fetch_one(&self.pool)
            .await?
            .try_get("seq")?)
    }

    /// One object; `None` where there is none.
    pub(crate) async fn find<D: Document>(&self, id: &str) -> Result<Option<Stored<D>>, Problem> {
        let row = sqlx::query(FIND)
            .bind(D::KIND.name())
            .bind(id)
            .fetch_optional(&self.pool)
            .await?;
        row.map(|row| stored(&row)).transpose()
    }

    /// One object; an error where there is none.
    pub(crate) async fn get<D: Document>(&self, id: &str) -> Result<Stored<D>, Problem> {
        let found = self.find(id).await?;
        found.ok_or_else(|| Problem::not_found(D::KIND.noun(), id))
    }

    /// The object with this SHA-256, in a database that is to be believed.
    pub(crate) async fn by_sha256<D: Document>(
        &self,
        sha256: &KeyHash,
    ) -> Result<Option<Stored<D>>, Problem> {
        let seen = self.seen();
        let row = sqlx::query(BY_SHA256)
            .bind(D::KIND.name())
            .bind(sha256.as_bytes().to_vec())
            .bind(seen.seq)
            .fetch_one(&self.pool)
            .await?;
        self.look(&seen, &row)?;
        match row.try_get::<Option<String>, _>("document")? {
            Some(_) => stored(&row).map(Some),
            None => Ok(None),
        }
    }

    /// Objects in the order of their ids.
    pub(crate) async fn list<D: Document>(&self, page: ListQuery<'_>) -> Result<Listed<D>, Problem> {
        self.select(page, "gone = 0").await
    }

    /// What was written behind `seq`, of what may end by itself; a thousand at a time, and their last `seq`.
    pub(crate) async fn written_since<D: Timed>(&self, seq: i64) -> Result<Option<(i64, Vec<D>)>, Problem> {
        let rows = sqlx::query(
            "SELECT seq, document FROM objects WHERE kind = $1 AND seq > $2 ORDER BY seq, id LIMIT 1000",
        )
        .bind(D::KIND.name())
        .bind(seq)
        .fetch_all(&self.pool)
        .await?;
        let Some(last) = rows.last() else { return Ok(None) };
        let documents = rows
            .iter()
            .map(|row| read(&row.try_get::<String, _>("document")?));
        Ok(Some((
            last.try_get("seq")?,
            documents.collect::<Result<_, Problem>>()?,
        )))
    }

    /// Those in force, of freezes, caps or restrictions; of budgets, those with a raise.
    pub(crate) async fn in_force<D: Timed>(&self, page: ListQuery<'_>) -> Result<Listed<D>, Problem> {
        self.select(page, IN_FORCE).await
    }

    async fn select<D: Document>(
        &self,
        page: ListQuery<'_>,
        which: &'static str,
    ) -> Result<Listed<D>, Problem> {
        let of_org = if page.org.is_empty() { "" } else { "AND org = $4" };
        let statement = format!(
            "SELECT revision, document FROM objects WHERE kind = $1 AND id > $2 AND {which} {of_org} ORDER BY id LIMIT $3"
        );
        let query = sqlx::query(sqlx::AssertSqlSafe(statement))
            .bind(D::KIND.name())
            .bind(page.after)
            // One more says whether there are more.
            .bind(page.limit.saturating_add(1));
        let query = if page.org.is_empty() {
            query
        } else {
            query.bind(page.org)
        };
        let mut rows = query.fetch(&self.pool);
        let (mut found, mut bytes) = (Vec::new(), 0);
        while let Some(row) = rows.try_next().await? {
            let one: Stored<D> = stored(&row)?;
            bytes += one.text.len();
            // At least one, or nobody would get further.
            let is_full = bytes > MAX_BYTES && !found.is_empty();
            if is_full || found.len() as i64 >= page.limit {
                return Ok(Listed {
                    found,
                    has_more: true,
                });
            }
            found.push(one);
        }
        Ok(Listed {
            found,
            has_more: false,
        })
    }

    /// The trail's end where a project has no key that is not revoked; `None` where it has one. Nobody waits for this, as all
    /// keys of the organization are read.
    pub(crate) async fn without_keys(&self, org: &str, project: &str) -> Result<Option<i64>, Problem> {
        // Before the keys: what changes meanwhile is looked at again.
        let seq = self.seq().await?;
        let mut after = String::new();
        loop {
            let rows = sqlx::query(
                "SELECT id, document FROM objects WHERE kind = 'key' AND org = $1 AND id > $2 AND in_force = 1 \
                 ORDER BY id LIMIT 200",
            )
            .bind(org)
            .bind(after.clone())
            .fetch_all(&self.pool)
            .await?;
            let Some(last) = rows.last() else {
                return Ok(Some(seq));
            };
            after = last.try_get("id")?;
            if is_any_of(project, &rows)? {
                return Ok(None);
            }
        }
    }

    /// A transaction that sees one state from its first statement to its last.
    pub(crate) async fn snapshot(&self) -> Result<Transaction<'static, Any>, Problem> {
        let mut transaction = self.pool().begin().await?;
        if self.engine() == Engine::Postgres {
            sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                .execute(&mut *transaction)
                .await?;
        }
        Ok(transaction)
    }

    /// Begins a write: what is to be done, by whom, and why. Nobody else writes until it ends; dropped, it has changed
    /// nothing.
    pub(crate) async fn begin(
        &self,
        caller: &Caller,
        action: &str,
        reason: Option<&str>,
    ) -> Result<Write<'_>, Problem> {
        self.ensure_writable()?;
        let turn = self.turns.take(caller).await?;
        let mut transaction = self.writers.begin().await?;
        let head = sqlx::query("UPDATE head SET seq = seq + 1 WHERE one = 1 RETURNING seq, hash")
            .fetch_one(&mut *transaction)
            .await?;
        let mut write = Write {
            store: self,
            previous: head.try_get("hash")?,
            entry: Entry {
                seq: head.try_get("seq")?,
                time: time::now(),
                actor: caller.name().to_owned(),
                address: caller.address().to_owned(),
                action: action.to_owned(),
                org: String::new(),
                reason: reason.map(str::to_owned),
                changes: Vec::new(),
            },
            caller: caller.clone(),
            beside: 0,
            makes_safer: false,
            transaction,
            _turn: turn,
        };
        write.ensure_behind_seen().await?;
        if let Some(id) = caller.token_id() {
            let token = write.find::<Token>(id).await?;
            ensure_valid(token.as_ref().map(|token| &token.document))?;
        }
        Ok(write)
    }

    /// Begins an exchange over the books of the fleet, beside the trail. SQLite takes one write at a time, so it waits for its
    /// turn among all writes.
    pub(crate) async fn begin_exchange(&self) -> Result<Exchange<'_>, Problem> {
        self.ensure_writable()?;
        let turn = match self.engine {
            Engine::Sqlite => Some(self.turns.take(&Caller::system()).await?),
            Engine::Postgres => None,
        };
        Ok(Exchange {
            store: self,
            transaction: self.exchanges.begin().await?,
            _turn: turn,
        })
    }

    /// Begins an exchange of slices of budgets, beside the trail. It stands in one line with all writes where the database takes
    /// one at a time; elsewhere a token leaves a connection to the others.
    pub(crate) async fn begin_spending(&self, caller: &Caller) -> Result<Exchange<'_>, Problem> {
        self.ensure_writable()?;
        let turn = match self.engine {
            Engine::Sqlite => self.turns.take_to_spend(caller).await?,
            Engine::Postgres => self.turns.take_beside(caller).await?,
        };
        Ok(Exchange {
            store: self,
            transaction: self.spenders.begin().await?,
            _turn: Some(turn),
        })
    }

    /// Whether a token is there and may still be used.
    pub(crate) async fn is_token_valid(&self, id: &str) -> Result<bool, Problem> {
        let token = self.find::<Token>(id).await?;
        Ok(ensure_valid(token.as_ref().map(|token| &token.document)).is_ok())
    }

    /// Fails with 401 where the token that a caller came with is no longer valid.
    pub(crate) async fn ensure_token_valid(&self, caller: &Caller) -> Result<(), Problem> {
        let Some(id) = caller.token_id() else {
            return Ok(());
        };
        let token = self.find::<Token>(id).await?;
        self.ensure_believed()?;
        ensure_valid(token.as_ref().map(|token| &token.document))
    }
}

/// SQLite's file, of an address that names one.
pub fn sqlite_file(address: &str) -> Option<&str> {
    let (scheme, file) = address.split_once(':')?;
    let file = file.trim_start_matches("//");
    (scheme.eq_ignore_ascii_case("sqlite") && !file.is_empty()).then_some(file)
}

/// The same as sqlx wants it, of a file that is there.
pub(crate) fn sqlite_url(file: &Path) -> String {
    let file = file.display().to_string().replace('%', "%25").replace('?', "%3f");
    format!("sqlite://{file}?mode=rw")
}

/// A file's name with something behind it.
pub(crate) fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The first thing that is wrong with SQLite's file, if anything is. It reads all of it.
pub(crate) async fn quick_check(connection: &mut AnyConnection) -> sqlx::Result<Option<String>> {
    let found: String = sqlx::query("PRAGMA quick_check(1)")
        .fetch_one(connection)
        .await?
        .try_get(0)?;
    Ok((found != "ok").then_some(found))
}

/// An address for an error: where a password may stand in it, its scheme alone.
fn masked(address: &str) -> String {
    let scheme = address.split_once("://").map(|(scheme, _)| scheme);
    let scheme = scheme.filter(|scheme| scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    match scheme {
        _ if !address.contains(['@', '=', '?']) => tollgate_core::key::shown(address, 64),
        Some(scheme) => format!("{}://…", tollgate_core::key::shown(scheme, 64)),
        None => "…".to_owned(),
    }
}

/// A file is there, or is made; its owner alone can read it, as whoever can write it may do everything.
fn ensure_file(file: &str, create: bool) -> Result<(), StoreError> {
    let path = std::path::Path::new(file);
    if path.exists() {
        return Ok(());
    }
    if !create {
        return Err(StoreError::Missing(file.to_owned()));
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        // Another server was quicker.
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(StoreError::Create(file.to_owned(), error))
        }
        _ => Ok(()),
    }
}

/// Settings of a connection.
async fn configure(connection: &mut AnyConnection, engine: Engine) -> sqlx::Result<()> {
    let settings = match engine {
        // Acknowledged is durable; readers never wait; a writer waits for its turn. The log goes into the file by
        // `Store::copy_log` alone. Nothing that is temporary is a file.
        Engine::Sqlite => {
            "PRAGMA busy_timeout = 10000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
             PRAGMA wal_autocheckpoint = 0; PRAGMA temp_store = MEMORY;"
        }
        // One server that hangs holds up no other. Acknowledged is durable, whatever the role's or the database's default is;
        // one that waits for standbys too is left as it is.
        Engine::Postgres => {
            "SET lock_timeout = '10s'; SET statement_timeout = '60s'; \
             SET idle_in_transaction_session_timeout = '30s'; \
             SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';"
        }
    };
    sqlx::raw_sql(settings).execute(connection).await?;
    Ok(())
}

/// What holds for exchanges besides: leases of gateways go on for ten seconds without one, so a server that hangs in the
/// middle of its own lets the others go on sooner.
const fn exchange_bounds(engine: Engine) -> &'static str {
    match engine {
        Engine::Sqlite => "",
        Engine::Postgres => {
            "SET lock_timeout = '2s'; SET statement_timeout = '10s'; SET idle_in_transaction_session_timeout = '3s';"
        }
    }
}

/// Whether a connection can be used again. One whose transaction SQLite has rolled back by itself, as on a full disk, counts
/// as in a transaction for ever: what it writes would be acknowledged and never be lasting. It is closed.
async fn is_idle(connection: &mut AnyConnection) -> sqlx::Result<bool> {
    Ok(!connection.is_in_transaction())
}

fn stored<D: Document>(row: &AnyRow) -> Result<Stored<D>, Problem> {
    let text: String = row.try_get("document")?;
    Ok(Stored {
        revision: row.try_get("revision")?,
        document: read(&text)?,
        text,
    })
}

pub(crate) fn read<D: Document>(document: &str) -> Result<D, Problem> {
    serde_json::from_str(document).map_err(|error| {
        Problem::unavailable(format!(
            "a stored {} cannot be read; was it written by a later version? ({error})",
            D::KIND.noun()
        ))
    })
}

/// An exchange with gateways that is under way. Dropped, it has changed nothing.
pub(crate) struct Exchange<'s> {
    store: &'s Store,
    pub(crate) transaction: Transaction<'static, Any>,
    /// Behind the transaction, which ends first.
    _turn: Option<Turn<'s>>,
}

impl Exchange<'_> {
    /// Makes it lasting.
    pub(crate) async fn commit(self) -> Result<(), Problem> {
        self.store.ensure_writable()?;
        self.transaction.commit().await.map_err(at_commit)?;
        let _ = self.store.copy_log(Due::Long).await;
        Ok(())
    }
}

/// A write that is under way.
pub(crate) struct Write<'s> {
    store: &'s Store,
    transaction: Transaction<'static, Any>,
    previous: String,
    entry: Entry,
    caller: Caller,
    /// Bytes that it adds beside its entry.
    beside: usize,
    makes_safer: bool,
    /// Behind the transaction, which ends first.
    _turn: Turn<'s>,
}

impl<'s> Write<'s> {
    /// What it is in.
    pub(crate) fn store(&self) -> &'s Store {
        self.store
    }

    /// Who makes it.
    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// It adds so many bytes beside its entry.
    pub(crate) fn count_beside(&mut self, bytes: usize) {
        self.beside = self.beside.saturating_add(bytes);
    }

    /// It makes things safer, so it passes whatever the caller has written before, and is not counted. Whoever says so has
    /// seen to it that it can't be done again and again, but with writes between that are counted.
    pub(crate) fn makes_safer(&mut self) {
        self.makes_safer = true;
    }

    /// When it is: milliseconds since 1970.
    pub(crate) fn time(&self) -> i64 {
        self.entry.time
    }

    /// The entry's place in the trail.
    pub(crate) fn seq(&self) -> i64 {
        self.entry.seq
    }

    /// Whether there is an object of a kind, or ever was.
    pub(crate) async fn has_any<D: Document>(&mut self) -> Result<bool, Problem> {
        let one = sqlx::query("SELECT seq FROM objects WHERE kind = $1 LIMIT 1")
            .bind(D::KIND.name())
            .fetch_optional(&mut *self.transaction)
            .await?;
        Ok(one.is_some())
    }

    /// What it changes so far.
    pub(crate) fn changes(&self) -> &[Change] {
        &self.entry.changes
    }

    /// The transaction, for what belongs to it and is no object.
    pub(crate) fn transaction(&mut self) -> &mut Transaction<'static, Any> {
        &mut self.transaction
    }

    /// One object as it stands in this write; `None` where there is none.
    pub(crate) async fn find<D: Document>(&mut self, id: &str) -> Result<Option<Stored<D>>, Problem> {
        let row = sqlx::query(FIND)
            .bind(D::KIND.name())
            .bind(id)
            .fetch_optional(&mut *self.transaction)
            .await?;
        row.map(|row| stored(&row)).transpose()
    }

    /// The same; an error where there is none.
    pub(crate) async fn get<D: Document>(&mut self, id: &str) -> Result<Stored<D>, Problem> {
        let found = self.find(id).await?;
        found.ok_or_else(|| Problem::not_found(D::KIND.noun(), id))
    }

    /// All that are in force, of a kind of which there are few.
    pub(crate) async fn in_force<D: Incident>(&mut self) -> Result<Vec<Stored<D>>, Problem> {
        let statement =
            format!("SELECT revision, document FROM objects WHERE kind = $1 AND {IN_FORCE} ORDER BY id");
        sqlx::query(sqlx::AssertSqlSafe(statement))
            .bind(D::KIND.name())
            .fetch_all(&mut *self.transaction)
            .await?
            .iter()
            .map(stored)
            .collect()
    }

    /// How many objects of a kind an organization has.
    pub(crate) async fn count(&mut self, kind: Kind, org: &str) -> Result<i64, Problem> {
        let row = sqlx::query("SELECT COUNT(*) AS n FROM objects WHERE kind = $1 AND org = $2 AND gone = 0")
            .bind(kind.name())
            .bind(org)
            .fetch_one(&mut *self.transaction)
            .await?;
        Ok(row.try_get("n")?)
    }

    /// How many objects of a kind there are.
    pub(crate) async fn count_all(&mut self, kind: Kind) -> Result<i64, Problem> {
        let row = sqlx::query("SELECT COUNT(*) AS n FROM objects WHERE kind = $1 AND gone = 0")
            .bind(kind.name())
            .fetch_one(&mut *self.transaction)
            .await?;
        Ok(row.try_get("n")?)
    }

    /// How many freezes, caps or keys of an organization are in force; `most` at most, so that counting costs no more.
    pub(crate) async fn count_in_force(&mut self, kind: Kind, org: &str, most: i64) -> Result<i64, Problem> {
        let row = sqlx::query(
            "SELECT COUNT(*) AS n FROM \
             (SELECT 1 FROM objects WHERE kind = $1 AND org = $2 AND in_force = 1 LIMIT $3) AS counted",
        )
        .bind(kind.name())
        .bind(org)
        .bind(most)
        .fetch_one(&mut *self.transaction)
        .await?;
        Ok(row.try_get("n")?)
    }

    /// How many projects an organization has, and how many bytes they are.
    pub(crate) async fn size_of_projects(&mut self, org: &str) -> Result<(i64, i64), Problem> {
        let row = sqlx::query(
            "SELECT COUNT(*) AS n, CAST(COALESCE(SUM(OCTET_LENGTH(document)), 0) AS BIGINT) AS bytes FROM objects \
             WHERE kind = 'project' AND org = $1 AND gone = 0",
        )
        .bind(org)
        .fetch_one(&mut *self.transaction)
        .await?;
        Ok((row.try_get("n")?, row.try_get("bytes")?))
    }

    /// Whether a key of a project is not revoked, where there was none when `seq` was the trail's end: what changed since
    /// is all that is read.
    pub(crate) async fn has_key_since(
        &mut self,
        seq: i64,
        org: &str,
        project: &str,
    ) -> Result<bool, Problem> {
        let rows = sqlx::query(KEYS_SINCE)
            .bind(seq)
            .bind(org)
            .fetch_all(&mut *self.transaction)
            .await?;
        is_any_of(project, &rows)
    }

    /// Makes an object; an error where there is one, or was: what trail and records name stays unambiguous.
    pub(crate) async fn create<D: Document>(&mut self, document: &D) -> Result<(), Problem> {
        self.create_missing(core::slice::from_ref(document), |_, _| false)
            .await
            .map(drop)
    }

    /// Makes objects, all or none, beside those that are there already and are the `same`; how many it made.
    pub(crate) async fn create_missing<D: Document>(
        &mut self,
        documents: &[D],
        same: impl Fn(&D, &D) -> bool,
    ) -> Result<usize, Problem> {
        let mut left_out = BTreeSet::new();
        // In the order of the index on hashes, in which each key has another place: a page of it is then written once a
        // transaction, where a small cache would write it for each key.
        let mut ordered: Vec<&D> = documents.iter().collect();
        ordered.sort_by(|one, other| one.sha256().cmp(other.sha256()));
        // Far below what either database takes in one statement.
        for some in ordered.chunks(500) {
            let rows: Vec<String> = (0..some.len())
                .map(|row| {
                    let at = row * 7;
                    let [kind, id, org, sha256, seq, in_force, document] =
                        [1, 2, 3, 4, 5, 6, 7].map(|column| self.store.engine.parameter(at + column));
                    format!("({kind}, {id}, {org}, {sha256}, 1, {seq}, 0, {in_force}, {document})")
                })
                .collect();
            let statement = format!(
                "INSERT INTO objects (kind, id, org, sha256, revision, seq, gone, in_force, document) VALUES {} \
                 ON CONFLICT DO NOTHING",
                rows.join(", ")
            );
            let mut query = sqlx::query(sqlx::AssertSqlSafe(statement));
            for document in some {
                query = query
                    .bind(D::KIND.name())
                    .bind(document.id())
                    .bind(document.org().to_owned())
                    .bind(hash_of(*document)?)
                    .bind(self.entry.seq)
                    .bind(i64::from(document.in_force()))
                    .bind(json(*document)?);
            }
            let made = query.execute(&mut *self.transaction).await?.rows_affected();
            if made != some.len() as u64 {
                let there = self.existing(some, &same).await?;
                if made + there.len() as u64 != some.len() as u64 {
                    let noun = D::KIND.noun();
                    return Err(Problem::conflict(format!(
                        "a {noun} with the same id or SHA-256 exists already, or is given twice"
                    )));
                }
                left_out.extend(there);
            }
        }
        let made = documents
            .iter()
            .filter(|document| !left_out.contains(&document.id()));
        for document in made {
            self.record(D::KIND, document.id(), None, Some(value(document)?));
        }
        Ok(documents.len() - left_out.len())
    }

    /// Which of these are there already and the same; an error for one that is not.
    async fn existing<D: Document>(
        &mut self,
        some: &[&D],
        same: &impl Fn(&D, &D) -> bool,
    ) -> Result<BTreeSet<String>, Problem> {
        let mut there = BTreeSet::new();
        for document in some {
            let row =
                sqlx::query("SELECT seq, gone, revision, document FROM objects WHERE kind = $1 AND id = $2")
                    .bind(D::KIND.name())
                    .bind(document.id())
                    .fetch_optional(&mut *self.transaction)
                    .await?;
            let Some(row) = row else { continue };
            // One of this write is there only once.
            if row.try_get::<i64, _>("seq")? == self.entry.seq {
                continue;
            }
            let known = stored::<D>(&row)?.document;
            if row.try_get::<i64, _>("gone")? != 0 || !same(&known, *document) {
                let (noun, id) = (D::KIND.noun(), document.id());
                return Err(Problem::conflict(format!(
                    "the {noun} `{id}` exists already, or did; choose another id"
                )));
            }
            there.insert(document.id());
        }
        Ok(there)
    }

    /// Replaces an object by another with the same id.
    pub(crate) async fn replace<D: Document>(
        &mut self,
        before: &Stored<D>,
        after: &D,
    ) -> Result<(), Problem> {
        self.write(before, after, false).await
    }

    /// Removes an object. Its id is not used again.
    pub(crate) async fn remove<D: Document>(&mut self, before: &Stored<D>) -> Result<(), Problem> {
        self.write(before, &before.document, true).await
    }

    async fn write<D: Document>(&mut self, before: &Stored<D>, after: &D, gone: bool) -> Result<(), Problem> {
        let new = value(after)?;
        if value(&before.document)? == new && !gone {
            return Ok(());
        }
        // What was stored, not what was understood of it: an object that was changed behind the trail's back shows.
        let old =
            serde_json::from_str(&before.text).map_err(|error| Problem::unavailable(error.to_string()))?;
        sqlx::query(
            "UPDATE objects SET revision = revision + 1, seq = $1, gone = $2, in_force = $3, document = $4 \
             WHERE kind = $5 AND id = $6",
        )
        .bind(self.entry.seq)
        .bind(i64::from(gone))
        .bind(i64::from(!gone && after.in_force()))
        .bind(if gone { before.text.clone() } else { json(after)? })
        .bind(D::KIND.name())
        .bind(after.id())
        .execute(&mut *self.transaction)
        .await?;
        self.record(D::KIND, after.id(), Some(old), (!gone).then_some(new));
        Ok(())
    }

    fn record(&mut self, kind: Kind, id: String, before: Option<Value>, after: Option<Value>) {
        self.entry.changes.push(Change {
            kind,
            id,
            before,
            after,
        });
    }

    /// Fails where the trail does not hold what was seen of it.
    async fn ensure_behind_seen(&mut self) -> Result<(), Problem> {
        let seen = self.store.seen();
        let last = self.entry.seq.saturating_sub(1);
        if last == seen.seq {
            return self.store.ensure_holds(&seen, last, &self.previous);
        }
        // Another server has written since, or something is gone.
        let row = sqlx::query(END)
            .bind(seen.seq)
            .fetch_one(&mut *self.transaction)
            .await?;
        self.store
            .ensure_holds(&seen, last, &row.try_get::<String, _>("held")?)
    }

    /// Takes what this write adds, with an entry of so many bytes, from the quotas of a confined caller and its organization;
    /// 429 where nothing is left of one.
    async fn charge(&mut self, entry: usize) -> Result<(), Problem> {
        let caller = self.caller.clone();
        let is_counted = caller.is_confined() && !self.makes_safer;
        let Some(token) = caller.token_id().filter(|_| is_counted) else {
            return Ok(());
        };
        let added = entry.saturating_add(self.beside) as u64;
        let org = self.entry.org.clone();
        for subject in [Subject::Org(&org), Subject::Token(token)] {
            let row = sqlx::query("SELECT writes_until, bytes_until FROM spent WHERE subject = $1")
                .bind(subject.key())
                .fetch_optional(&mut *self.transaction)
                .await?;
            let spent = match row {
                Some(row) => Spent {
                    writes_until: row.try_get("writes_until")?,
                    bytes_until: row.try_get("bytes_until")?,
                },
                None => Spent::default(),
            };
            let spent = spent.after(subject, self.store.write_quota, added, self.entry.time)?;
            sqlx::query(
                "INSERT INTO spent (subject, writes_until, bytes_until) VALUES ($1, $2, $3) \
                 ON CONFLICT (subject) DO UPDATE SET writes_until = $2, bytes_until = $3",
            )
            .bind(subject.key())
            .bind(spent.writes_until)
            .bind(spent.bytes_until)
            .execute(&mut *self.transaction)
            .await?;
        }
        Ok(())
    }

    /// Commits, and returns what changed. Without changes it rolls back and adds no entry. `org` sees the entry; nobody
    /// who is confined does where it is empty.
    pub(crate) async fn commit(mut self, org: &str) -> Result<Vec<Change>, Problem> {
        if self.entry.changes.is_empty() {
            self.transaction.rollback().await?;
            return Ok(Vec::new());
        }
        self.entry.org = org.to_owned();
        let text = json(&self.entry)?;
        self.charge(text.len()).await?;
        let hash = entry::chained(&self.previous, &text);
        sqlx::query("INSERT INTO audit (seq, org, entry, hash) VALUES ($1, $2, $3, $4)")
            .bind(self.entry.seq)
            .bind(self.entry.org.clone())
            .bind(text)
            .bind(hash.clone())
            .execute(&mut *self.transaction)
            .await?;
        sqlx::query("UPDATE head SET hash = $1 WHERE one = 1")
            .bind(hash.clone())
            .execute(&mut *self.transaction)
            .await?;
        self.store.ensure_writable()?;
        self.transaction.commit().await.map_err(at_commit)?;
        let seq = self.entry.seq;
        self.store.see(End { seq, hash });
        // It is written, whatever becomes of this; the timer says what.
        let _ = self.store.copy_log(Due::Long).await;
        Ok(self.entry.changes)
    }
}

/// A document's SHA-256 as it is stored; `None` for one that has none.
pub(crate) fn hash_of(document: &impl Document) -> Result<Option<Vec<u8>>, Problem> {
    match document.sha256() {
        "" => Ok(None),
        sha256 => match KeyHash::parse(sha256) {
            Some(hash) => Ok(Some(hash.as_bytes().to_vec())),
            None => Err(Problem::field("sha256", "expected 64 hexadecimal digits")),
        },
    }
}

/// Whether any of these keys is of a project.
fn is_any_of(project: &str, keys: &[AnyRow]) -> Result<bool, Problem> {
    for key in keys {
        let key: Key = read(&key.try_get::<String, _>("document")?)?;
        if key.project.as_deref() == Some(project) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn value(document: &impl Serialize) -> Result<Value, Problem> {
    serde_json::to_value(document).map_err(|error| Problem::unavailable(error.to_string()))
}

fn json(document: &impl Serialize) -> Result<String, Problem> {
    serde_json::to_string(document).map_err(|error| Problem::unavailable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::TRAIL_OF_ORG;
    use crate::documents::{KeySpec, Metadata};

    /// Whoever guesses tokens costs a look-up in an index, however many there are; whoever removes a project has read what
    /// changed meanwhile, however many keys there are; a customer that reads its trail reads nobody else's, and what it
    /// removed is read no more.
    #[tokio::test]
    async fn what_is_asked_often_is_found_by_an_index() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tollgate.db");
        let store = Store::create(&format!("sqlite:{}", file.display()))
            .await
            .unwrap();
        for (statement, expected) in [
            (BY_SHA256, "objects_by_sha256 (kind=? AND sha256=?)"),
            (KEYS_SINCE, "objects_by_change (kind=? AND seq>?)"),
            (TRAIL_OF_ORG, "audit_by_org (org=? AND seq>?)"),
            (
                &format!("SELECT document FROM objects WHERE kind = $1 AND id > $2 AND {IN_FORCE}"),
                "objects_in_force (kind=? AND id>?)",
            ),
        ] {
            let plan = format!("EXPLAIN QUERY PLAN {statement}");
            let plan = sqlx::query(sqlx::AssertSqlSafe(plan))
                .bind("1")
                .bind("2")
                .bind("3")
                .fetch_all(store.pool())
                .await
                .unwrap();
            let plan: Vec<String> = plan.iter().map(|row| row.try_get("detail").unwrap()).collect();
            assert!(plan.iter().any(|step| step.contains(expected)), "{plan:?}");
        }
        let made = sqlx::query("SELECT sql FROM sqlite_master WHERE name = 'objects_by_org'")
            .fetch_one(store.pool())
            .await
            .unwrap();
        assert!(made.get::<String, _>("sql").ends_with("WHERE gone = 0"));
    }

    /// A server that has written nothing does not go on with a trail that went back either, whatever it reads first.
    #[tokio::test]
    async fn whatever_is_read_shows_that_the_trail_went_back() {
        for back in [
            "DELETE FROM audit; UPDATE head SET seq = 0, hash = name",
            "UPDATE audit SET hash = 'other'; UPDATE head SET hash = 'other'",
        ] {
            let folder = tempfile::tempdir().unwrap();
            let address = format!("sqlite:{}", folder.path().join("tollgate.db").display());
            let reads: [AsyncRead; 3] = [
                |store| Box::pin(async { store.poll().await.map(drop) }),
                |store| Box::pin(async { store.version().await.map(drop) }),
                |store| Box::pin(async { store.by_sha256::<Token>(&KeyHash::of(b"x")).await.map(drop) }),
            ];
            let mut stores = Vec::new();
            for _ in reads {
                stores.push(Store::create(&address).await.unwrap());
            }
            stores[0].first_token().await.unwrap().unwrap();
            for (store, read) in stores.iter().zip(reads) {
                read(store).await.unwrap();
            }
            sqlx::raw_sql(back).execute(stores[0].pool()).await.unwrap();
            for (store, read) in stores.iter().zip(reads) {
                let told = read(store).await.unwrap_err().to_string();
                assert!(told.contains("went back under the server"), "{told}");
            }
        }
    }

    type AsyncRead = for<'s> fn(&'s Store) -> futures_util::future::BoxFuture<'s, Result<(), Problem>>;

    /// A key that is made while a project is looked through for keys is seen before that is removed.
    #[tokio::test]
    async fn a_key_that_was_made_meanwhile_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tollgate.db");
        let store = Store::create(&format!("sqlite:{}", file.display()))
            .await
            .unwrap();
        let seq = store.without_keys("acme", "search").await.unwrap().unwrap();
        let caller = Caller::local();
        let mut write = store.begin(&caller, "key.create", None).await.unwrap();
        let key = Key {
            id: "k".to_owned(),
            sha256: "ab".repeat(32),
            org: "acme".to_owned(),
            project: Some("search".to_owned()),
            spec: KeySpec::default(),
            revoked_at: None,
            rotated_from: None,
            rotation_root: None,
            rotation: None,
            metadata: Metadata::new(String::new(), caller.name()),
        };
        write.create(&key).await.unwrap();
        write.commit("acme").await.unwrap();

        let now = store.seq().await.unwrap();
        let mut write = store.begin(&caller, "project.remove", None).await.unwrap();
        for (since, org, project, expected) in [
            (seq, "acme", "search", true),
            (seq, "acme", "other", false),
            (seq, "globex", "search", false),
            (now, "acme", "search", false),
        ] {
            let seen = write.has_key_since(since, org, project).await.unwrap();
            assert_eq!(seen, expected, "{org}/{project} since {since}");
        }
        drop(write);
        assert_eq!(store.without_keys("acme", "search").await.unwrap(), None);
        assert_eq!(store.without_keys("acme", "other").await.unwrap(), Some(now));
    }
}

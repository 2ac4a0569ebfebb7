//! Puts a backup in the place of SQLite's file. Copied over by hand, the log that lies beside the old file (`-wal`) would be
//! taken for the backup's, and undo it or destroy it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sqlx::{AnyConnection, Connection as _};

use crate::store::{beside, quick_check, sqlite_file, sqlite_url};

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Another database has tools of its own.
    #[error("only a database in a file is restored from one: for PostgreSQL use `pg_restore`")]
    NotSqlite,
    /// The backup is none.
    #[error("`{0}` is no backup that can be used: {1}")]
    Backup(PathBuf, String),
    /// The database that is to be replaced can't be closed.
    #[error(
        "the database `{0}` is in use, or cannot be read ({1}): stop the server; if it is broken, move it away with its \
         `-wal` and `-shm`"
    )]
    InUse(PathBuf, String),
    /// What was replaced by an earlier restore is still there.
    #[error("`{0}` is there, the database before the last restore: move it away first")]
    Kept(PathBuf),
    /// A file can't be written.
    #[error("cannot write beside the database: {0}")]
    Write(#[from] io::Error),
}

/// Puts a copy of `backup` in the place of the database at `address`; where the database of before is now, if there was one.
pub async fn restore(address: &str, backup: &Path) -> Result<Option<PathBuf>, RestoreError> {
    sqlx::any::install_default_drivers();
    let file = sqlite_file(address).ok_or(RestoreError::NotSqlite)?;
    let file = &linked(Path::new(file))?;
    let replaced = beside(file, ".replaced");
    if replaced.exists() {
        return Err(RestoreError::Kept(replaced));
    }
    let unusable = |why: String| RestoreError::Backup(backup.to_owned(), why);
    if beside(backup, "-wal").metadata().is_ok_and(|log| log.len() > 0) {
        let why = "a log lies beside it, so it is a copy of files in use; make one with SQLite's `.backup`";
        return Err(unusable(why.to_owned()));
    }
    let cannot_read = |error: io::Error| unusable(error.to_string());
    // To open a pipe is to wait until somebody writes into it.
    if !fs::metadata(backup).map_err(cannot_read)?.is_file() {
        return Err(unusable("it is no plain file".to_owned()));
    }
    let mut from = fs::File::open(backup).map_err(cannot_read)?;
    // In the same file system, and gone with all in it whatever happens.
    let beside_it = folder_of(file);
    let made_in = tempfile::Builder::new()
        .prefix(".restoring-")
        .tempdir_in(beside_it)?;
    let new = made_in.path().join("tollgate.db");
    let mut copy = private(&new)?;
    io::copy(&mut from, &mut copy)?;
    copy.sync_all()?;
    close_whole(&new).await.map_err(unusable)?;
    let in_use = |why: String| RestoreError::InUse(file.to_owned(), why);
    let existed = file.exists();
    if existed {
        let closed = async { close(AnyConnection::connect(&sqlite_url(file)).await?).await };
        closed.await.map_err(|error| in_use(error.to_string()))?;
    }
    for log in ["-wal", "-shm"] {
        if beside(file, log).exists() {
            return Err(in_use(format!("`{}` is there", beside(file, log).display())));
        }
    }
    if existed {
        fs::hard_link(file, &replaced)?;
    }
    if let Err(error) = fs::rename(&new, file) {
        if existed {
            fs::remove_file(&replaced)?;
        }
        return Err(error.into());
    }
    fs::File::open(beside_it)?.sync_all()?;
    Ok(existed.then_some(replaced))
}

/// The folder that a file is in.
fn folder_of(file: &Path) -> &Path {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

/// Where a link leads, if there is anything or not: the database is there, and its log beside it. A name that is no link leads
/// to itself.
fn linked(file: &Path) -> io::Result<PathBuf> {
    const MOST_LINKS: usize = 40;
    let mut file = file.to_owned();
    for _ in 0..MOST_LINKS {
        match fs::read_link(&file) {
            Ok(to) => file = file.parent().unwrap_or(Path::new("")).join(to),
            // It is no link, or is not there.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::InvalidInput | io::ErrorKind::NotFound
                ) =>
            {
                return Ok(file);
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other(format!(
        "`{}` is a link without an end",
        file.display()
    )))
}

/// Closes a copy that is one of a database of ours, and whole; why it is not otherwise.
async fn close_whole(copy: &Path) -> Result<(), String> {
    let look = async {
        let mut connection = AnyConnection::connect(&sqlite_url(copy)).await?;
        let damage = quick_check(&mut connection).await?;
        // Not that of another program.
        sqlx::query("SELECT name FROM head")
            .fetch_one(&mut connection)
            .await?;
        begin_books_anew(&mut connection).await?;
        close(connection).await?;
        Ok(damage)
    };
    match look.await {
        Ok(None) => Ok(()),
        Ok(Some(damage)) => Err(damage),
        Err(error) => Err(sqlx::Error::to_string(&error)),
    }
}

/// The books of the fleet in a backup are old: gateways may hold more than they say.
async fn begin_books_anew(connection: &mut AnyConnection) -> sqlx::Result<()> {
    let has_books = sqlx::query("SELECT 1 FROM sqlite_master WHERE name = 'fleet'")
        .fetch_optional(&mut *connection)
        .await?;
    if has_books.is_some() {
        sqlx::query("UPDATE fleet SET rule = 0")
            .execute(connection)
            .await?;
    }
    Ok(())
}

/// Closes a database with all of it in its one file; an error where somebody else has it open.
async fn close(mut connection: AnyConnection) -> sqlx::Result<()> {
    sqlx::raw_sql("PRAGMA busy_timeout = 500; PRAGMA journal_mode = DELETE;")
        .execute(&mut connection)
        .await?;
    connection.close().await
}

/// A new file that its owner alone can read.
fn private(path: &Path) -> io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

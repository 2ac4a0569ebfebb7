//! SQLite's file and the log beside it: whether they are still those that were opened. What is written into one that was
//! deleted, or that another has replaced, is lost with the process; one that was written over is a mixture with its log.

use std::fs::{File, Metadata};
use std::io;
use std::mem::ManuallyDrop;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// A file that was opened, by its name.
#[derive(Debug, Clone)]
pub(crate) struct OpenedFile {
    path: PathBuf,
    identity: Identity,
    log: PathBuf,
    /// Of the log, once there is one: it stays as long as a connection does.
    log_identity: Arc<OnceLock<Identity>>,
    contents: Arc<Contents>,
}

/// Device and inode.
type Identity = (u64, u64);

impl OpenedFile {
    /// The file that is there now, which a connection of this process has open.
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        // SQLite puts what belongs to a file beside it, and not beside a link to it.
        let file = path.canonicalize()?;
        let beside = |suffix: &str| {
            let mut name = file.as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        };
        Ok(Self {
            path: path.to_owned(),
            identity: identity(&std::fs::metadata(path)?),
            log: beside("-wal"),
            log_identity: Arc::default(),
            contents: Arc::new(Contents::new(beside("-shm"))),
        })
    }

    /// Fails where a name is not that of the opened file any more, with what became of it. A look takes some microseconds.
    pub(crate) fn ensure_there(&self) -> Result<(), String> {
        ensure_same(&self.path, self.identity)?;
        match self.log_identity.get() {
            Some(known) => ensure_same(&self.log, *known),
            None => {
                if let Ok(now) = std::fs::metadata(&self.log) {
                    self.log_identity.get_or_init(|| identity(&now));
                }
                Ok(())
            }
        }
    }

    /// Fails where something other than SQLite has written into the file: neither it nor what is read from it is to be
    /// believed then, until a server is started anew.
    pub(crate) fn ensure_not_written_over(&self) -> Result<(), String> {
        // One that is not there, or is another, is told of above.
        let written = || {
            let now = std::fs::metadata(&self.path).ok();
            let now = now.filter(|now| identity(now) == self.identity)?;
            Some((now.size(), now.mtime(), now.mtime_nsec()))
        };
        if self.contents.is_written_over(written) {
            return Err(format!(
                "the database's file `{}` was written over under the server, and is neither read nor written any more: stop \
                 the server, put a backup in its place with `tollgate restore`, and start it",
                self.path.display()
            ));
        }
        Ok(())
    }
}

fn ensure_same(path: &Path, known: Identity) -> Result<(), String> {
    let what = match std::fs::metadata(path) {
        Ok(now) if identity(&now) == known => return Ok(()),
        Ok(_) => "replaced".to_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => "deleted".to_owned(),
        Err(error) => format!("made inaccessible ({error})"),
    };
    Err(format!(
        "the database's file `{}` was {what} under the server, and nothing is written any more: put it back, or start the \
         server anew",
        path.display()
    ))
}

fn identity(metadata: &Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

/// Whether SQLite alone has written into the file. It does so in checkpoints, which copy pages from the log, and at no other
/// time; how far these have come is in the log's index, `-shm`. A file that changed while they came no further was changed
/// by somebody else.
#[derive(Debug)]
struct Contents {
    /// The index.
    path: PathBuf,
    // Never closed: with one handle to it all locks that this process has on it would go, SQLite's too.
    index: OnceLock<ManuallyDrop<File>>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    last: Option<(Checkpoint, Written)>,
    written_over: bool,
}

/// Size and time of the last change.
type Written = (u64, i64, i64);

/// How far checkpoints have come, by <https://sqlite.org/walformat.html#the_wal_index_file_format>.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Checkpoint {
    /// Another one each time the log begins anew.
    salt: [u8; 8],
    /// Pages of the log that are copied.
    done: [u8; 4],
    /// Those that the last checkpoint set out to copy: more than `done` while it is at work.
    attempted: [u8; 4],
}

impl Contents {
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            index: OnceLock::new(),
            seen: Mutex::default(),
        }
    }

    /// `written` looks at the file; `None` where it is not there.
    fn is_written_over(&self, written: impl FnOnce() -> Option<Written>) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.checkpoint();
        let now = written();
        let after = self.checkpoint();
        let (Some(checkpoint), Some(now)) = (before, now) else {
            return seen.written_over;
        };
        // What is changing just now is a checkpoint's, or is judged at the next look.
        if after != before || checkpoint.done != checkpoint.attempted {
            return seen.written_over;
        }
        if let Some((last_checkpoint, last)) = seen.last {
            seen.written_over |= last != now && last_checkpoint == checkpoint;
        }
        seen.last = Some((checkpoint, now));
        seen.written_over
    }

    fn checkpoint(&self) -> Option<Checkpoint> {
        let index = match self.index.get() {
            Some(index) => index,
            None => {
                let opened = ManuallyDrop::new(File::open(&self.path).ok()?);
                self.index.get_or_init(|| opened)
            }
        };
        let mut bytes = [0; 132];
        index.read_exact_at(&mut bytes, 0).ok()?;
        Some(Checkpoint {
            salt: *bytes.get(32..)?.first_chunk()?,
            done: *bytes.get(96..)?.first_chunk()?,
            attempted: *bytes.get(128..)?.first_chunk()?,
        })
    }
}

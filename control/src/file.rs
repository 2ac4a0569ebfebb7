//! SQLite's file and the log beside it: whether they are still those that were opened. What is written into one that was
//! deleted, or that another has replaced, is lost with the process; one that was written over is a mixture with its log.

use std::fs::{File, Metadata};
use std::io;
use std::mem::ManuallyDrop;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::process::{Flock, FlockType, fcntl_getlk};

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
        if self.contents.is_written_over(|| self.written()) {
            return Err(format!(
                "the database's file `{}` was written over under the server, and is neither read nor written any more: stop \
                 the server, put a backup in its place with `tollgate restore`, and start it",
                self.path.display()
            ));
        }
        Ok(())
    }

    /// Whether the log is to be copied into the file: it is long, or an attempt at that has failed.
    pub(crate) fn awaits_copy(&self) -> Option<Due> {
        let Index {
            frames, checkpoint, ..
        } = self.contents.index()?;
        match frames.saturating_sub(checkpoint.done) {
            LONG.. => Some(Due::Long),
            _ if checkpoint.is_whole() => None,
            _ => Some(Due::Again),
        }
    }

    /// What changes in the file from now on, until what this returns is dropped, is the doing of this process. `None` where it
    /// is at that already.
    pub(crate) fn begin_copy(&self) -> Option<Copying> {
        // As it is before.
        self.ensure_not_written_over().ok()?;
        let mut seen = self.contents.seen();
        let begins = !core::mem::replace(&mut seen.copying, true);
        begins.then(|| Copying(self.clone()))
    }

    /// Of the file; `None` for one that is not there, or is another, which [`Self::ensure_there`] tells of.
    fn written(&self) -> Option<Written> {
        let now = std::fs::metadata(&self.path).ok();
        let now = now.filter(|now| identity(now) == self.identity)?;
        Some((now.size(), now.mtime(), now.mtime_nsec()))
    }
}

/// Why the log is to be copied into the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    /// It was not copied to its end.
    Again,
    /// It is long.
    Long,
}

/// While it lasts, this process copies the log into the file.
#[derive(Debug)]
pub(crate) struct Copying(OpenedFile);

impl Drop for Copying {
    fn drop(&mut self) {
        let Self(file) = self;
        let mut seen = file.contents.seen();
        seen.copying = false;
        seen.last = file.contents.settled(|| file.written());
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

/// Pages of the log that make it long: 32 MB.
const LONG: u32 = 8_192;

/// Whether SQLite alone has written into the file. It does so in checkpoints, which copy pages from the log, and at no other
/// time; how far these have come is in the log's index, `-shm`. A file that changed while they came no further was changed
/// by somebody else.
///
/// One that fails, as on a full disk, changes the file and comes no further. So this process has no checkpoints but those
/// between [`OpenedFile::begin_copy`] and its end.
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
    last: Option<Settled>,
    /// This process has a checkpoint under way.
    copying: bool,
    written_over: bool,
}

/// What stays as it is until the next checkpoint begins.
type Settled = (Checkpoint, Written);

/// Size and time of the last change.
type Written = (u64, i64, i64);

/// How far checkpoints have come, by <https://sqlite.org/walformat.html#the_wal_index_file_format>.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Checkpoint {
    /// Another one each time the log begins anew.
    salt: [u8; 8],
    /// Pages of the log that are copied.
    done: u32,
    /// Those that the last checkpoint set out to copy: more than `done` while it is at work, and once it has failed.
    attempted: u32,
}

/// What the index says.
struct Index<'a> {
    file: &'a File,
    /// Pages of the log.
    frames: u32,
    checkpoint: Checkpoint,
}

impl Checkpoint {
    fn is_whole(&self) -> bool {
        self.done == self.attempted
    }
}

/// The index's byte that whoever copies the log has locked.
const COPIER: u64 = 121;

impl Contents {
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            index: OnceLock::new(),
            seen: Mutex::default(),
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `written` looks at the file; `None` where it is not there.
    fn is_written_over(&self, written: impl FnOnce() -> Option<Written>) -> bool {
        let mut seen = self.seen();
        if seen.copying {
            return seen.written_over;
        }
        // What is changing just now is a checkpoint's, or is judged at the next look.
        let Some((checkpoint, now)) = self.settled(written) else {
            return seen.written_over;
        };
        match seen.last {
            Some((last_checkpoint, last)) if last_checkpoint == checkpoint => {
                seen.written_over |= last != now;
            }
            // Another process has failed at it: what is seen once this one has tried again counts.
            _ if !checkpoint.is_whole() => return seen.written_over,
            _ => {}
        }
        seen.last = Some((checkpoint, now));
        seen.written_over
    }

    /// How the file is while no other process copies the log; `None` where one does.
    fn settled(&self, written: impl FnOnce() -> Option<Written>) -> Option<Settled> {
        let before = self.index()?.checkpoint;
        let now = written()?;
        let Index { file, checkpoint, .. } = self.index()?;
        let is_settled = before == checkpoint && (checkpoint.is_whole() || !is_locked(file));
        is_settled.then_some((checkpoint, now))
    }

    fn index(&self) -> Option<Index<'_>> {
        let file = match self.index.get() {
            Some(file) => file,
            None => {
                let opened = ManuallyDrop::new(File::open(&self.path).ok()?);
                self.index.get_or_init(|| opened)
            }
        };
        let mut bytes = [0; 132];
        file.read_exact_at(&mut bytes, 0).ok()?;
        let number = |at: usize| Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
        let checkpoint = Checkpoint {
            salt: *bytes.get(32..)?.first_chunk()?,
            done: number(96)?,
            attempted: number(128)?,
        };
        Some(Index {
            file,
            frames: number(16)?,
            checkpoint,
        })
    }
}

/// Whether another process has the byte locked by which one copies the log.
fn is_locked(index: &File) -> bool {
    let wanted = Flock {
        start: COPIER,
        length: 1,
        ..Flock::from(FlockType::WriteLock)
    };
    // A look takes and frees nothing.
    fcntl_getlk(index, &wanted).is_ok_and(|locked| locked.is_some())
}

//! The usage log: a file of lines that only grows. Whoever writes to it holds a lock on it, so that a line which ends in
//! the middle is of one that was killed, and has it in its journal.

use core::time::Duration;
use std::collections::HashSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use tollgate_core::usage::line;

use crate::layout::Checkpoint;
use crate::mapped::fits;

/// How long somebody else may hold the lock.
const PATIENCE: Duration = Duration::from_secs(2);
/// No line is longer than this.
const MAX_LINE: u64 = 1 << 20;

/// A usage log that is open.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: File,
}

/// The log, while nobody else writes to it.
pub(crate) struct Locked<'a> {
    file: &'a File,
    inode: u64,
    len: u64,
}

impl Log {
    /// Opens the log at this path, or begins one that its owner and group can read.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            file: open(path)?,
        })
    }

    /// Takes the lock. A log that was moved away since, by whoever rotates it, is followed by a new one.
    pub(crate) fn lock(&mut self) -> io::Result<Locked<'_>> {
        let is_here = |file: &File| {
            let (here, there) = (file.metadata()?, self.path.metadata());
            Ok::<_, io::Error>(
                there.is_ok_and(|there| (there.dev(), there.ino()) == (here.dev(), here.ino())),
            )
        };
        if !is_here(&self.file)? {
            self.file = open(&self.path)?;
        }
        lock(&self.file)?;
        let metadata = self.file.metadata()?;
        let mut locked = Locked {
            file: &self.file,
            inode: metadata.ino(),
            len: metadata.len(),
        };
        locked.cut()?;
        Ok(locked)
    }
}

fn open(path: &Path) -> io::Result<File> {
    let is_other = || io::Error::other("it is not a regular file");
    // Opening a pipe would wait for somebody to read it.
    if path.metadata().is_ok_and(|metadata| !metadata.is_file()) {
        return Err(is_other());
    }
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(is_other());
    }
    Ok(file)
}

fn lock(file: &File) -> io::Result<()> {
    let began = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if began.elapsed() > PATIENCE => {
                return Err(io::Error::other("somebody else holds its lock"));
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

impl Locked<'_> {
    /// Which file it is, and how long.
    pub(crate) const fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            inode: self.inode,
            len: self.len,
        }
    }

    /// Cuts off a record that ends in the middle. What else is there is none of ours.
    fn cut(&mut self) -> io::Result<()> {
        let mut last = *b"\n";
        if self.len > 0 {
            self.file.read_exact_at(&mut last, self.len - 1)?;
        }
        // Nearly always it is whole.
        if last == *b"\n" {
            return Ok(());
        }
        let from = self.len.saturating_sub(MAX_LINE);
        let mut end = vec![0; (self.len - from) as usize];
        self.file.read_exact_at(&mut end, from)?;
        let newline = end.iter().rposition(|byte| *byte == b'\n');
        let begin = newline.map_or(0, |at| at + 1);
        let torn = end.get(begin..).unwrap_or_default();
        if (newline.is_none() && from > 0) || !line::may_begin(torn) {
            return Err(io::Error::other(
                "it is no usage log: its last line is not a record's",
            ));
        }
        self.len = from + begin as u64;
        self.file.set_len(self.len)
    }

    /// Writes lines; all of them, or none.
    pub(crate) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        fits(self.len + lines.len() as u64)?;
        let mut file = self.file;
        if let Err(error) = file.write_all(lines) {
            let _ = self.file.set_len(self.len);
            return Err(error);
        }
        self.len += lines.len() as u64;
        Ok(())
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

/// Which of these ids a log has lines of behind a checkpoint; it is looked for beside the log at `path`. `None` where it is
/// not there any more.
pub(crate) fn written(
    path: &Path,
    checkpoint: Checkpoint,
    ids: &HashSet<&str>,
) -> io::Result<Option<HashSet<String>>> {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    for entry in folder.unwrap_or(Path::new(".")).read_dir()? {
        let path = entry?.path();
        let is_it = |metadata: &std::fs::Metadata| metadata.is_file() && metadata.ino() == checkpoint.inode;
        if !path.metadata().is_ok_and(|metadata| is_it(&metadata)) {
            continue;
        }
        let mut file = File::open(&path)?;
        file.seek(SeekFrom::Start(checkpoint.len))?;
        let mut found = HashSet::new();
        let mut reader = BufReader::new(file);
        let mut text = Vec::new();
        while reader.read_until(b'\n', &mut text)? > 0 {
            let line = core::str::from_utf8(&text)
                .ok()
                .filter(|line| line.ends_with('\n'));
            let id = line.and_then(line::id).filter(|id| ids.contains(id));
            found.extend(id.map(str::to_owned));
            text.clear();
        }
        return Ok(Some(found));
    }
    Ok(None)
}

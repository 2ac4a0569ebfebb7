//! What dead processes left: each record is brought to the usage log once.

use core::time::Duration;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use tollgate_core::flags::Flags;
use tollgate_core::usage::line::{self, Line};

use crate::layout::{self, ACTIVE_CHECKPOINT, Checkpoint, Found, MAGIC, PAGE};
use crate::log::{self, Log};
use crate::{about, levels, mapped};

/// How the file of a journal's slots ends, and the one of its levels.
pub(crate) const SLOTS: &str = "journal";
pub(crate) const LEVELS: &str = "levels";
/// No file is longer than this.
const MAX_LEN: u64 = 512 << 20;
/// What is added to the name of a journal that can't be read in part.
const BAD: &str = "bad";

/// What was found in a folder of journals.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Journals of dead processes.
    pub journals: u64,
    /// Journals of processes that are alive, which were left alone.
    pub alive: u64,
    /// Records that were written: of requests that were over.
    pub finished: u64,
    /// And of requests that were under way.
    pub crashed: u64,
    /// Records that may be in a usage log already: the one that was written to last is not beside this one any more.
    pub unsure: u64,
    /// Slots with something in them that can't be read; their journal is kept under another name.
    pub unreadable: u64,
}

/// Brings to the usage log what dead processes left, and deletes their journals. Those of processes that are alive are left
/// alone.
///
/// # Errors
/// A file can't be read or is no journal, or the usage log can't be written: with the file's name. What was left is there
/// still.
pub fn recover(folder: &Path, log: &Path) -> io::Result<Recovered> {
    let mut recovered = Recovered::default();
    let mut failed = None;
    for path in files(folder)? {
        match path.extension().and_then(OsStr::to_str) {
            Some(SLOTS) => {}
            Some(mapped::TEMPORARY) => {
                clean_up(&path);
                continue;
            }
            _ => continue,
        }
        if let Err(error) = recover_one(&path, log, &mut recovered) {
            // Others may be as they should be.
            failed.get_or_insert(error);
        }
    }
    failed.map_or(Ok(recovered), Err)
}

fn recover_one(path: &Path, log: &Path, recovered: &mut Recovered) -> io::Result<()> {
    let Some(journal) = Abandoned::open(path).map_err(about(path))? else {
        recovered.alive += 1;
        return Ok(());
    };
    if !journal.bytes.starts_with(&MAGIC) {
        return Err(about(path)(io::Error::other(
            "it is no journal, or one of another version",
        )));
    }
    let unreadable = journal.write(log, recovered)?;
    recovered.journals += 1;
    recovered.unreadable += unreadable;
    let removed = match unreadable {
        0 => std::fs::remove_file(path),
        _ => std::fs::rename(path, path.with_added_extension(BAD)),
    };
    removed.map_err(about(path))
}

/// Shared values as the last of the dead processes had them, with their keys.
#[derive(Debug, Default)]
pub struct Levels {
    /// Each key and its value.
    pub values: Vec<(Vec<u8>, Vec<u8>)>,
    files: Vec<(PathBuf, File)>,
}

impl Levels {
    /// Reads them.
    ///
    /// # Errors
    /// A file can't be read: with its name.
    pub fn read(folder: &Path) -> io::Result<Self> {
        let is_levels = |path: &PathBuf| path.extension().is_some_and(|extension| extension == LEVELS);
        let mut paths: Vec<_> = files(folder)?.into_iter().filter(is_levels).collect();
        paths.sort_by_key(|path| begun(path));
        let mut found = Self::default();
        for path in paths {
            if let Some(Abandoned { file, bytes }) = Abandoned::open(&path).map_err(about(&path))? {
                let pairs = levels::read(&bytes).into_iter();
                found.values = pairs.map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
                found.files.push((path, file));
            }
        }
        Ok(found)
    }

    /// Deletes their files: they are somewhere else now.
    pub fn delete(self) {
        for (path, _) in self.files {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// When the process of a file began, by its name.
fn begun(path: &Path) -> u128 {
    let name = path.file_stem().and_then(OsStr::to_str);
    let nanos = name.and_then(|name| name.split_once('-')).map(|(_, nanos)| nanos);
    nanos.and_then(|nanos| nanos.parse().ok()).unwrap_or(0)
}

fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = folder.read_dir().map_err(about(folder))?;
    entries.map(|entry| Ok(entry?.path())).collect()
}

/// Removes what a process left that was killed while it began: nothing is in it.
fn clean_up(path: &Path) {
    let is_old = || {
        let file = path.symlink_metadata().ok().filter(std::fs::Metadata::is_file)?;
        let age = file.modified().ok()?.elapsed().ok()?;
        Some(age > Duration::from_secs(60))
    };
    if is_old() == Some(true) && File::open(path).is_ok_and(|file| file.try_lock().is_ok()) {
        let _ = std::fs::remove_file(path);
    }
}

/// A file whose process is gone, locked.
struct Abandoned {
    file: File,
    bytes: Vec<u8>,
}

impl Abandoned {
    /// `None` where its process is alive, or somebody else is at it.
    fn open(path: &Path) -> io::Result<Option<Self>> {
        if !path.symlink_metadata()?.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match file.try_lock() {
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) => return Ok(None),
            // Somebody else has just brought it to the log.
            Ok(()) if !path.exists() => return Ok(None),
            Ok(()) => {}
        }
        let len = file.metadata()?.len();
        if len > MAX_LEN {
            return Err(io::Error::other("it is larger than any journal"));
        }
        let mut bytes = vec![0; len as usize];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(Some(Self { file, bytes }))
    }

    fn checkpoint(&self) -> Option<Checkpoint> {
        let second = layout::u32_at(&self.bytes, ACTIVE_CHECKPOINT)? == 1;
        let checkpoint = Checkpoint::decode(self.bytes.get(layout::checkpoint(second)..)?)?;
        (checkpoint != Checkpoint::default()).then_some(checkpoint)
    }

    /// Writes what is not in the log yet. How many slots can't be read.
    fn write(&self, path: &Path, recovered: &mut Recovered) -> io::Result<u64> {
        let mut slots = Vec::new();
        let mut unreadable = 0;
        for (at, slot) in self.bytes.chunks_exact(PAGE).enumerate().skip(1) {
            match layout::read(slot) {
                Some(found) => slots.push((at, found)),
                None => unreadable += u64::from(!layout::is_free(slot)),
            }
        }
        let ids: HashSet<&str> = slots.iter().map(|(_, found)| found.id).collect();
        let written = match self.checkpoint() {
            Some(checkpoint) => log::written(path, checkpoint, &ids).map_err(about(path))?,
            None => Some(HashSet::new()),
        };
        let is_sure = written.is_some();
        let written = written.unwrap_or_default();
        let (mut lines, mut finished, mut crashed) = (String::new(), 0, 0);
        for (at, found) in &slots {
            if written.contains(found.id) {
                // So that it is known, should this end here.
                self.file.write_all_at(&0_u32.to_le_bytes(), (at * PAGE) as u64)?;
            } else if found.is_over && line::is_record(found.text) && line::id(found.text) == Some(found.id) {
                finished += 1;
                lines.push_str(found.text);
            } else {
                crashed += 1;
                lines.push_str(&crashed_line(found));
            }
        }
        if !lines.is_empty() {
            let mut log = Log::open(path).map_err(about(path))?;
            let mut log = log.lock().map_err(about(path))?;
            let checkpoint = log.checkpoint();
            let second = layout::u32_at(&self.bytes, ACTIVE_CHECKPOINT) != Some(1);
            let at = layout::checkpoint(second) as u64;
            self.file.write_all_at(&checkpoint.encode(), at)?;
            let active = u32::from(second).to_le_bytes();
            self.file.write_all_at(&active, ACTIVE_CHECKPOINT as u64)?;
            log.append(lines.as_bytes()).map_err(about(path))?;
        }
        recovered.finished += finished;
        recovered.crashed += crashed;
        recovered.unsure += if is_sure { 0 } else { finished };
        Ok(unreadable)
    }
}

fn crashed_line(found: &Found<'_>) -> String {
    let line = Line {
        id: found.id,
        began_ms: found.began_ms,
        status: found.status.into(),
        flags: Flags::default(),
        cluster: "",
        attempts: 0,
        bytes_in: 0,
        bytes_out: 0,
        duration_ms: found.written_ms.saturating_sub(found.began_ms),
    };
    let text = line.with(found.text);
    match line::is_record(&text) && !found.text.is_empty() {
        true => text,
        false => line.with(line::CRASHED),
    }
}

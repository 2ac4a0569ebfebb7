//! What a process that was killed left: each record is brought to the usage log once.

use core::time::Duration;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tollgate_core::flags::Flags;
use tollgate_core::usage::line::{self, Line};

use crate::layout::{self, Found, MAGIC, Note, PAGE, WHICH_NOTE};
use crate::log::{self, Log};
use crate::{levels, mapped};

/// How the file of a journal's slots ends, and the one of its levels.
pub(crate) const SLOTS: &str = "journal";
pub(crate) const LEVELS: &str = "levels";

/// What was found in a folder of journals.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Journals of processes that are gone.
    pub journals: u64,
    /// Records that were written: of requests that were over.
    pub finished: u64,
    /// And of requests that were under way.
    pub crashed: u64,
}

/// Shared values, by their keys.
pub type FoundLevels = Vec<(Vec<u8>, Vec<u8>)>;

/// Brings to the usage log what processes left that are gone, and deletes their journals. Those of processes that are
/// alive are left alone.
///
/// # Errors
/// A file can't be read, or the usage log not be written: with the file's name. What was left is there still.
pub fn recover(folder: &Path, log: &Path) -> io::Result<Recovered> {
    let mut recovered = Recovered::default();
    for path in files(folder)? {
        match path.extension().and_then(OsStr::to_str) {
            Some(SLOTS) => {}
            Some(mapped::NEW) => {
                clean_up(&path);
                continue;
            }
            _ => continue,
        }
        if let Some(journal) = Abandoned::open(&path).map_err(about(&path))? {
            journal.write(log, &mut recovered).map_err(about(log))?;
            recovered.journals += 1;
            std::fs::remove_file(&path).map_err(about(&path))?;
        }
    }
    Ok(recovered)
}

/// Shared values as they were when the last of the processes ended that are gone, by their keys; they are deleted with
/// this.
///
/// # Errors
/// A file can't be read: with its name.
pub fn take_levels(folder: &Path) -> io::Result<FoundLevels> {
    let mut levels = Vec::new();
    let mut newest = SystemTime::UNIX_EPOCH;
    let is_levels = |path: &PathBuf| path.extension().is_some_and(|extension| extension == LEVELS);
    for path in files(folder)?.into_iter().filter(is_levels) {
        let Some(found) = Abandoned::open(&path).map_err(about(&path))? else {
            continue;
        };
        if newest <= found.changed {
            newest = found.changed;
            let pairs = levels::read(&found.bytes).into_iter();
            levels = pairs.map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
        }
        std::fs::remove_file(&path).map_err(about(&path))?;
    }
    Ok(levels)
}

fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = folder.read_dir().map_err(about(folder))?;
    entries.map(|entry| Ok(entry?.path())).collect()
}

/// Removes what a process left that was killed while it began: nothing is in it.
fn clean_up(path: &Path) {
    let age = path
        .metadata()
        .and_then(|file| file.modified())
        .map(|time| time.elapsed());
    if age.is_ok_and(|age| age.is_ok_and(|age| age > Duration::from_secs(60)))
        && File::open(path).is_ok_and(|file| file.try_lock().is_ok())
    {
        let _ = std::fs::remove_file(path);
    }
}

fn about(path: &Path) -> impl Fn(io::Error) -> io::Error {
    let path: PathBuf = path.to_owned();
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// A journal whose process is gone, locked.
struct Abandoned {
    file: File,
    bytes: Vec<u8>,
    changed: SystemTime,
}

impl Abandoned {
    /// `None` where its process is alive, or somebody else is at it.
    fn open(path: &Path) -> io::Result<Option<Self>> {
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if file.try_lock().is_err() || !path.exists() {
            return Ok(None);
        }
        let metadata = file.metadata()?;
        let mut bytes = vec![0; usize::try_from(metadata.len()).unwrap_or(0)];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(Some(Self {
            file,
            bytes,
            changed: metadata.modified()?,
        }))
    }

    fn slots(&self) -> impl Iterator<Item = (usize, Found<'_>)> {
        let is_one = self.bytes.starts_with(&MAGIC);
        let pages = self.bytes.chunks_exact(PAGE).enumerate().skip(1);
        let slots = pages.filter_map(|(at, slot)| Some((at, layout::read(slot)?)));
        slots.filter(move |_| is_one)
    }

    fn note(&self) -> Option<Note> {
        let second = layout::u32_at(&self.bytes, WHICH_NOTE)? == 1;
        Note::decode(self.bytes.get(layout::note(second)..)?)
    }

    fn write(&self, path: &Path, recovered: &mut Recovered) -> io::Result<()> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        // What of it is in the log already.
        let written = match self.note() {
            Some(note) if note != Note::default() => log::since(folder, note)?,
            _ => String::new(),
        };
        let written: HashSet<&str> = written.lines().filter_map(line::id).collect();
        let (mut lines, mut finished, mut crashed) = (String::new(), 0, 0);
        for (at, found) in self.slots() {
            if written.contains(found.id) {
                // So that it is known, should this end here.
                self.file.write_all_at(&0_u32.to_le_bytes(), (at * PAGE) as u64)?;
                continue;
            }
            if found.is_over && line::is_record(found.text) && line::id(found.text) == Some(found.id) {
                finished += 1;
                lines.push_str(found.text);
            } else {
                crashed += 1;
                lines.push_str(&crashed_line(&found));
            }
        }
        if !lines.is_empty() {
            let mut log = Log::open(path)?;
            let mut log = log.lock()?;
            let second = layout::u32_at(&self.bytes, WHICH_NOTE) != Some(1);
            self.file
                .write_all_at(&log.note()?.encode(), layout::note(second) as u64)?;
            self.file
                .write_all_at(&u32::from(second).to_le_bytes(), WHICH_NOTE as u64)?;
            log.append(lines.as_bytes())?;
        }
        recovered.finished += finished;
        recovered.crashed += crashed;
        Ok(())
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

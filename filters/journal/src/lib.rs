//! Usage records that survive a kill: a journal in a memory-mapped file, and the thread that brings finished records from it
//! to the usage log.
//!
//! A request has a [slot](Slot) from its beginning on; what is known of it is written there as it changes, and its record
//! when it is over. The thread writes records to the usage log in batches: before each it says how long the log is (a
//! checkpoint), and after it frees their slots. So whatever a process was doing when it was killed, [`recover()`] finds
//! the record of each request that had begun, in the log or in a slot; or else what was known of it, and writes that as
//! `crashed`.
//!
//! Each process has its own journal in the folder, locked while it lives: several may share a folder, and one usage log.
//!
//! What was written survives the process, and not the machine. Where the folder is on a disk, writing to it may have to wait
//! for that; in memory (`/dev/shm`) it does not.

mod layout;
mod levels;
mod log;
mod mapped;
mod recover;
mod slots;
#[cfg(test)]
mod tests;
mod writer;

use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use levels::LevelCell;
pub use recover::{Levels, Recovered, recover};
pub use slots::Slot;

use levels::Levels as Cells;
use log::Log;
use slots::{Slots, Text};
use writer::{Pending, Writer};

/// What there is to know of a request under way.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// When that is, in milliseconds since 1970.
    pub at_ms: u64,
    /// Status of the answer; 0 where none has begun.
    pub status: u16,
    /// The members of its record.
    pub members: &'a str,
}

/// A journal.
#[derive(Debug)]
pub struct Journal {
    slots: Arc<Slots>,
    cells: Option<Cells>,
    writer: Writer,
    path: PathBuf,
}

/// A new id, as Envoy makes them: a random UUID.
pub fn new_id() -> String {
    let mut bytes = [0_u8; 16];
    // The system has random numbers once it has begun to serve; else this is an id of zeros.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    let number = u128::from_be_bytes(bytes) & !(0xf << 76 | 0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{number:032x}");
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32];
    parts.map(|part| hex.get(part).unwrap_or_default()).join("-")
}

impl Journal {
    /// Begins a journal in a folder, which is made where there is none, for the usage log at this path. With `levels` it has
    /// [cells](LevelCell) as well. `report` is told when the log can't be written, and when it can again.
    ///
    /// # Errors
    /// A file can't be made, there is no room for it, or others may write to the folder: with its name.
    pub fn begin(folder: &Path, log: &Path, levels: bool, report: fn(&str)) -> io::Result<Self> {
        let mut builder = std::fs::DirBuilder::new();
        builder
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(about(folder))?;
        is_ours(folder).map_err(about(folder))?;
        let log = Log::open(log).map_err(about(log))?;
        let nanos = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
        let path = folder.join(format!("{}-{nanos}.{}", std::process::id(), recover::SLOTS));
        let slots = Arc::new(Slots::create(&path).map_err(about(&path))?);
        let begun = Self::with(Arc::clone(&slots), &path, levels, log, report);
        if begun.is_err() {
            let _ = std::fs::remove_file(&path);
        }
        begun
    }

    fn with(slots: Arc<Slots>, path: &Path, levels: bool, log: Log, report: fn(&str)) -> io::Result<Self> {
        let cells = match levels {
            true => {
                let path = path.with_extension(recover::LEVELS);
                Some(Cells::create(&path).map_err(about(&path))?)
            }
            false => None,
        };
        Ok(Self {
            writer: Writer::start(Arc::clone(&slots), log, report)?,
            slots,
            cells,
            path: path.to_owned(),
        })
    }

    /// A slot for a request with this id that began at this time (milliseconds since 1970). `None` where there is no more
    /// room, or the id is too long: it is served and recorded all the same, unless this process is killed.
    pub fn take(&self, id: &[u8], began_ms: u64) -> Option<Slot> {
        self.slots.take(id, began_ms)
    }

    /// Says what is known of a request, in place of what was said before. `false` if it is too long.
    pub fn keep(&self, slot: &mut Slot, known: Known<'_>) -> bool {
        let text = Text::new(known.at_ms, known.status.into(), known.members);
        self.slots.keep(slot, text)
    }

    /// The members that were said last.
    pub fn members<'a>(&'a self, slot: &'a Slot) -> &'a str {
        self.slots.text(slot)
    }

    /// A request is over, and this is its line, with its end of line. It will be in the usage log soon, and the slot free.
    pub fn finish(&self, slot: Option<Slot>, line: String) {
        let kept = slot.map(|mut slot| (self.slots.finish(&mut slot, &line), slot));
        let pending = match kept {
            Some((true, slot)) => Pending::Kept(slot),
            Some((false, slot)) => Pending::Unjournaled(line, Some(slot)),
            None => Pending::Unjournaled(line, None),
        };
        self.writer.write(pending);
    }

    /// A request is over, and nothing is to be written of it.
    pub fn forget(&self, slot: Slot) {
        self.slots.release([slot]);
    }

    /// Whether there are cells.
    pub const fn has_levels(&self) -> bool {
        self.cells.is_some()
    }

    /// A cell for the value of a key. `None` where there is no more room, or none is wanted.
    pub fn cell(&self, key: &[u8]) -> Option<LevelCell> {
        self.cells.as_ref()?.take(key)
    }

    /// Writes a value to its cell. `false` for one that is too long.
    pub fn put(&self, cell: &mut LevelCell, value: &[u8]) -> bool {
        self.cells.as_ref().is_some_and(|cells| cells.put(cell, value))
    }

    /// How many records were lost so far: the usage log could not be written for so long that there was no more room.
    pub fn lost(&self) -> u64 {
        self.writer.lost()
    }

    /// How often the usage log could not be written so far.
    pub fn failures(&self) -> u64 {
        self.writer.failures()
    }

    /// Brings what is there to the usage log, and ends. What can't be written, or is under way still, stays for [`recover()`];
    /// levels stay for [`Levels::read`].
    pub fn close(&self) {
        self.writer.close();
        if self.slots.are_free() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Whoever else may write to the folder could write usage records.
fn is_ours(folder: &Path) -> io::Result<()> {
    let metadata = folder.metadata()?;
    let us = rustix::process::geteuid().as_raw();
    if metadata.uid() != us || metadata.mode() & 0o022 != 0 {
        return Err(io::Error::other(format!(
            "it is owned by user {}, mode {:o}: only Envoy's own user ({us}) may be able to write to it",
            metadata.uid(),
            metadata.mode() & 0o7777
        )));
    }
    Ok(())
}

fn about(path: &Path) -> impl Fn(io::Error) -> io::Error {
    let path: PathBuf = path.to_owned();
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

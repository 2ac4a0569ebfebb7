//! The usage log: a file of lines that only grows. Whoever writes to it holds a lock on it, so that a line which ends in
//! the middle is of one that was killed, and it is known of whom each is.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::layout::Note;

/// A usage log that is open.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: File,
}

/// The log, while nobody else writes to it.
pub(crate) struct Locked<'a> {
    file: &'a File,
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
        Locked::of(&self.file)
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    Ok(file)
}

impl<'a> Locked<'a> {
    fn of(file: &'a File) -> io::Result<Self> {
        file.lock()?;
        let mut locked = Self { file, len: 0 };
        locked.len = file.metadata()?.len();
        locked.cut()?;
        Ok(locked)
    }

    /// Which file it is, and how long.
    pub(crate) fn note(&self) -> io::Result<Note> {
        let metadata = self.file.metadata()?;
        Ok(Note {
            device: metadata.dev(),
            inode: metadata.ino(),
            len: self.len,
        })
    }

    /// Cuts off a line that ends in the middle: its writer was killed, and has it in its journal.
    fn cut(&mut self) -> io::Result<()> {
        let mut end = self.len;
        let mut block = [0; 4_096];
        while end > 0 {
            let from = end.saturating_sub(block.len() as u64);
            let part = block.get_mut(..(end - from) as usize).unwrap_or_default();
            self.file.read_exact_at(part, from)?;
            if let Some(at) = part.iter().rposition(|byte| *byte == b'\n') {
                end = from + at as u64 + 1;
                break;
            }
            end = from;
        }
        if end < self.len {
            self.file.set_len(end)?;
            self.len = end;
        }
        Ok(())
    }

    /// Writes lines; all of them, or none.
    pub(crate) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
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

/// The lines that the noted log has had since, in `folder`; none where it is not there any more. A line that ends in the
/// middle is cut off.
pub(crate) fn since(folder: &Path, note: Note) -> io::Result<String> {
    for entry in folder.read_dir()? {
        let entry = entry?;
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        if !metadata.is_file() || (metadata.dev(), metadata.ino()) != (note.device, note.inode) {
            continue;
        }
        let file = OpenOptions::new().read(true).write(true).open(entry.path())?;
        let locked = Locked::of(&file)?;
        let mut text = Vec::new();
        let mut reader = locked.file;
        // One that is shorter now was emptied in place: what is in it is newer.
        reader.seek(SeekFrom::Start(note.len.min(locked.len)))?;
        reader
            .take(locked.len.saturating_sub(note.len))
            .read_to_end(&mut text)?;
        return Ok(String::from_utf8_lossy(&text).into_owned());
    }
    Ok(String::new())
}

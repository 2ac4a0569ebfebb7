//! A file in memory that grows in steps. What is written to it is the system's at once: it is there after this process was
//! killed, though not after the machine was.

use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::FallocateFlags;
use rustix::mm::{MapFlags, ProtFlags};

/// How a file ends that is being made.
pub(crate) const TEMPORARY: &str = "new";
/// Where there was no room, it is looked for again after so long.
const PATIENCE: Duration = Duration::from_secs(1);

/// A file in memory. Numbers in it are atomic; any other part is written by whoever owns it.
#[derive(Debug)]
pub(crate) struct Mapped {
    file: File,
    base: *mut u8,
    max: usize,
    len: AtomicUsize,
    /// When there was no room last.
    full: Mutex<Option<Instant>>,
}

// SAFETY: the mapping stays where it is, and is read and written by `number`, or by whoever owns that part.
unsafe impl Send for Mapped {}
// SAFETY: the same.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// A new file of `len` bytes that nobody else can read; it can grow to `max`. It is locked for as long as it is open.
    pub(crate) fn create(path: &Path, len: usize, max: usize) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        // Nobody takes it for another's before it is locked.
        let temporary = path.with_added_extension(TEMPORARY);
        let file = options.open(&temporary)?;
        let made = Self::of(file, len, max).and_then(|mapped| {
            std::fs::rename(&temporary, path)?;
            Ok(mapped)
        });
        if made.is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
        made
    }

    fn of(file: File, len: usize, max: usize) -> io::Result<Self> {
        file.try_lock()?;
        reserve(&file, 0, len)?;
        // SAFETY: the mapping is new. What of it is behind the end of the file is not touched.
        let base = unsafe {
            rustix::mm::mmap(
                core::ptr::null_mut(),
                max,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                &file,
                0,
            )
        };
        Ok(Self {
            file,
            base: base?.cast(),
            max,
            len: AtomicUsize::new(len),
            full: Mutex::default(),
        })
    }

    /// How long the file is.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    /// Makes the file longer by so many bytes. `false` if it is as long as it may be, or there is no room.
    pub(crate) fn grow(&self, by: usize) -> bool {
        let mut full = self.full.lock().unwrap_or_else(PoisonError::into_inner);
        let len = self.len();
        if len + by > self.max || full.is_some_and(|full| full.elapsed() < PATIENCE) {
            return false;
        }
        let reserved = reserve(&self.file, len, by);
        match reserved {
            Ok(()) => self.len.store(len + by, Ordering::Release),
            Err(_) => *full = Some(Instant::now()),
        }
        reserved.is_ok()
    }

    /// A number in the file, at a multiple of four.
    pub(crate) fn number(&self, at: usize) -> &AtomicU32 {
        assert!(at.is_multiple_of(4) && at + 4 <= self.len());
        // SAFETY: it is within the file and aligned. Nobody reads or writes it in another way.
        unsafe { &*self.base.add(at).cast() }
    }

    /// Writes bytes.
    ///
    /// # Safety
    /// The caller owns that part, and none of it is a [number](Self::number).
    pub(crate) unsafe fn write(&self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= self.len());
        // SAFETY: it is within the file, and the caller promises the rest.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), self.base.add(at), bytes.len()) };
    }

    /// Reads bytes.
    ///
    /// # Safety
    /// The caller owns that part for as long as they are used, and none of it is a [number](Self::number).
    pub(crate) unsafe fn read(&self, at: usize, len: usize) -> &[u8] {
        assert!(at + len <= self.len());
        // SAFETY: it is within the file, and the caller promises the rest.
        unsafe { core::slice::from_raw_parts(self.base.add(at), len) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: nobody uses it any more.
        let _ = unsafe { rustix::mm::munmap(self.base.cast(), self.max) };
    }
}

/// Has the system set room aside: where there is none, this fails, and not whoever writes to memory later.
fn reserve(file: &File, from: usize, len: usize) -> io::Result<()> {
    fits((from + len) as u64)?;
    let flags = FallocateFlags::empty();
    Ok(rustix::fs::fallocate(file, flags, from as u64, len as u64)?)
}

/// Whether this process may have a file that is so long: the system would end it otherwise.
pub(crate) fn fits(len: u64) -> io::Result<()> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Fsize).current;
    match limit {
        Some(limit) if len > limit => Err(io::ErrorKind::FileTooLarge.into()),
        _ => Ok(()),
    }
}

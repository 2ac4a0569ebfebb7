//! A file in memory that grows in steps. What is written to it is the system's at once: it is there after this process was
//! killed, though not after the machine was.

use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::FallocateFlags;
use rustix::mm::{MapFlags, ProtFlags};

/// How a file ends that is being made.
pub(crate) const NEW: &str = "new";

/// A file in memory.
#[derive(Debug)]
pub(crate) struct Mapped {
    file: File,
    base: *mut u8,
    max: usize,
    len: AtomicUsize,
}

// SAFETY: whoever uses it sees to it that no two threads use the same part at once, but for numbers that are atomic.
unsafe impl Send for Mapped {}
// SAFETY: the same.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// A new file of `len` bytes that nobody else can read; it can grow to `max`. It is locked for as long as it is open.
    pub(crate) fn create(path: &Path, len: usize, max: usize) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        // Nobody takes it for another's before it is locked.
        let new = path.with_added_extension(NEW);
        let file = options.open(&new)?;
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
        let mapped = Self {
            file,
            base: base?.cast(),
            max,
            len: AtomicUsize::new(len),
        };
        std::fs::rename(new, path)?;
        Ok(mapped)
    }

    /// How long the file is.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    /// Makes the file longer by so many bytes. One at a time. `false` if it is as long as it may be.
    pub(crate) fn grow(&self, by: usize) -> io::Result<bool> {
        let len = self.len();
        if len + by > self.max {
            return Ok(false);
        }
        reserve(&self.file, len, by)?;
        self.len.store(len + by, Ordering::Release);
        Ok(true)
    }

    /// A number in the file, at a multiple of four.
    pub(crate) fn number(&self, at: usize) -> &AtomicU32 {
        debug_assert!(at.is_multiple_of(4) && at + 4 <= self.len());
        // SAFETY: it is within the file, aligned, and only used as this.
        unsafe { &*self.base.add(at).cast() }
    }

    /// Writes bytes.
    ///
    /// # Safety
    /// They are within the file, and nobody else uses that part now.
    pub(crate) unsafe fn write(&self, at: usize, bytes: &[u8]) {
        debug_assert!(at + bytes.len() <= self.len());
        // SAFETY: the caller promises it.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), self.base.add(at), bytes.len()) };
    }

    /// Reads bytes.
    ///
    /// # Safety
    /// They are within the file, and nobody else writes that part while they are used.
    pub(crate) unsafe fn read(&self, at: usize, len: usize) -> &[u8] {
        debug_assert!(at + len <= self.len());
        // SAFETY: the caller promises it.
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
    Ok(rustix::fs::fallocate(
        file,
        FallocateFlags::empty(),
        from as u64,
        len as u64,
    )?)
}

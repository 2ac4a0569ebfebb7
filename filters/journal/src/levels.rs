//! Shared values that a restart may begin with, such as the levels of limits: a cell for each, by its key.
//!
//! The file: [`MAGIC`], then cells of 2 KB. A cell: which copy is active (4 bytes: 0 for none, 1, 2), the length of the key
//! (4), the key (248), and two copies of: the length of the value (4) and the value.

use core::sync::atomic::Ordering;
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::layout::u32_at;
use crate::mapped::Mapped;

const MAGIC: [u8; 8] = *b"tglvls01";
const CELL: usize = 2_048;
const KEY: usize = 8;
const MAX_KEY: usize = 248;
const COPIES: usize = KEY + MAX_KEY;
const COPY: usize = (CELL - COPIES) / 2;
const MAX_VALUE: usize = COPY - 4;

/// The file grows by so many cells at a time.
const STEP: usize = 512;
/// So many at most: 128 MB.
const MAX: usize = 128 * STEP;

/// Where a value is kept. Whoever has it alone writes to it.
#[derive(Debug, PartialEq, Eq)]
pub struct LevelCell(u32);

/// All cells.
#[derive(Debug)]
pub(crate) struct Levels {
    mapped: Mapped,
    /// How many are taken.
    taken: Mutex<u32>,
}

impl Levels {
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let mapped = Mapped::create(path, CELL * (1 + STEP), CELL * (1 + MAX))?;
        // SAFETY: nobody else knows of it yet.
        unsafe { mapped.write(0, &MAGIC) };
        Ok(Self {
            mapped,
            taken: Mutex::default(),
        })
    }

    /// A cell for the value of a key. `None` where there is no more room, or the key is too long.
    pub(crate) fn take(&self, key: &[u8]) -> Option<LevelCell> {
        let len = u32::try_from(key.len()).ok().filter(|_| key.len() <= MAX_KEY)?;
        let cell = {
            let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
            let cell = LevelCell(*taken);
            if cell.at() + CELL > self.mapped.len() && !self.mapped.grow(CELL * STEP) {
                return None;
            }
            *taken += 1;
            cell
        };
        // SAFETY: it is the caller's, and neither copy is active.
        unsafe {
            self.mapped.write(cell.at() + 4, &len.to_le_bytes());
            self.mapped.write(cell.at() + KEY, key);
        }
        Some(cell)
    }

    /// Writes a value. `false` for one that is too long: it is not kept, nor is what was there before, as it is no longer so.
    pub(crate) fn put(&self, cell: &mut LevelCell, value: &[u8]) -> bool {
        let which = self.mapped.number(cell.at());
        if value.len() > MAX_VALUE {
            which.store(0, Ordering::Release);
            return false;
        }
        let second = which.load(Ordering::Relaxed) == 1;
        let at = cell.at() + copy(second);
        // SAFETY: the caller has the cell, and this copy is not active.
        unsafe {
            self.mapped.write(at, &(value.len() as u32).to_le_bytes());
            self.mapped.write(at + 4, value);
        }
        which.store(1 + u32::from(second), Ordering::Release);
        true
    }
}

impl LevelCell {
    const fn at(&self) -> usize {
        CELL * (1 + self.0 as usize)
    }
}

const fn copy(second: bool) -> usize {
    COPIES + second as usize * COPY
}

/// Every key and its value in a file.
pub(crate) fn read(file: &[u8]) -> Vec<(&[u8], &[u8])> {
    if !file.starts_with(&MAGIC) {
        return Vec::new();
    }
    file.chunks_exact(CELL).skip(1).filter_map(cell).collect()
}

fn cell(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let second = match u32_at(bytes, 0)? {
        1 => false,
        2 => true,
        _ => return None,
    };
    let part = |len_at: usize, at: usize, max: usize| {
        let len = usize::try_from(u32_at(bytes, len_at)?).ok()?;
        bytes.get(at..at + len).filter(|_| len <= max)
    };
    let at = copy(second);
    Some((part(4, KEY, MAX_KEY)?, part(at, at + 4, MAX_VALUE)?))
}

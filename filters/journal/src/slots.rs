//! A slot for each request under way, and for each record that is not in the usage log yet.

use core::sync::atomic::Ordering;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::layout::{self, BEGAN, ID, ID_LEN, MAGIC, MAX_ID, MAX_TEXT, Note, PAGE, State, WHICH_NOTE};
use crate::mapped::Mapped;

/// The file grows by so many slots at a time.
const STEP: usize = 1_024;
/// So many at most: 256 MB.
const MAX: usize = 64 * STEP;

/// A slot that is taken. Whoever took it alone writes to it.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub struct Slot(u32);

/// All slots of a journal.
#[derive(Debug)]
pub(crate) struct Slots {
    mapped: Mapped,
    /// The one that was freed last is taken first: few pages are in use then.
    free: Mutex<Vec<Slot>>,
}

impl Slots {
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let mapped = Mapped::create(path, PAGE * (1 + STEP), PAGE * (1 + MAX))?;
        // SAFETY: nobody else knows of it yet.
        unsafe { mapped.write(0, &MAGIC) };
        let slots = Self {
            mapped,
            free: Mutex::default(),
        };
        slots.add(&mut slots.free(), 0);
        Ok(slots)
    }

    fn free(&self) -> MutexGuard<'_, Vec<Slot>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a step's slots, of which this many are there already.
    fn add(&self, free: &mut Vec<Slot>, before: usize) {
        let new = (before..before + STEP).rev();
        free.extend(new.filter_map(|number| u32::try_from(number).ok()).map(Slot));
    }

    /// Takes one for a request with this id that began at this time (milliseconds since 1970). `None` where there is no more
    /// room, or the id is too long.
    pub(crate) fn take(&self, id: &[u8], began_ms: u64) -> Option<Slot> {
        let len = u32::try_from(id.len()).ok().filter(|_| id.len() <= MAX_ID)?;
        let slot = {
            let mut free = self.free();
            if free.is_empty() {
                let slots = self.mapped.len() / PAGE - 1;
                if self.mapped.grow(PAGE * STEP).is_ok_and(|grown| grown) {
                    self.add(&mut free, slots);
                }
            }
            free.pop()?
        };
        let at = slot.at();
        // SAFETY: it was free, and is the caller's.
        unsafe {
            self.mapped.write(at + ID_LEN, &len.to_le_bytes());
            self.mapped.write(at + BEGAN, &began_ms.to_le_bytes());
            self.mapped.write(at + ID, id);
        }
        self.put(slot, Text::new(began_ms, 0, ""), State::Open);
        Some(slot)
    }

    /// Says what is known of a request under way. `false` if that is too long, and what was said before still stands.
    pub(crate) fn keep(&self, slot: Slot, text: Text<'_>) -> bool {
        text.text.len() <= MAX_TEXT && self.put(slot, text, State::Open)
    }

    /// A request is over, and this is its line. `false` if that is too long, and what was said before still stands.
    pub(crate) fn finish(&self, slot: Slot, line: &str) -> bool {
        line.len() <= MAX_TEXT && self.put(slot, Text::new(0, 0, line), State::Over)
    }

    fn put(&self, slot: Slot, text: Text<'_>, state: impl Fn(bool) -> State) -> bool {
        let number = self.mapped.number(slot.at());
        // The other one than is in force.
        let second = match State::of(number.load(Ordering::Relaxed)) {
            State::Free => false,
            State::Open(second) | State::Over(second) => !second,
        };
        let at = slot.at() + layout::copy(second);
        // SAFETY: the caller took the slot, and this copy is not in force.
        unsafe {
            self.mapped.write(at, &text.written_ms.to_le_bytes());
            self.mapped.write(at + 8, &text.status.to_le_bytes());
            self.mapped
                .write(at + 12, &(text.text.len() as u32).to_le_bytes());
            self.mapped.write(at + 16, text.text.as_bytes());
        }
        number.store(state(second).number(), Ordering::Release);
        true
    }

    /// The text of a slot that the caller took.
    pub(crate) fn text(&self, slot: Slot) -> &str {
        // SAFETY: whoever took it alone writes to it.
        let bytes = unsafe { self.mapped.read(slot.at(), PAGE) };
        layout::read(bytes).map_or("", |found| found.text)
    }

    /// Gives slots back: what they held is in the usage log.
    pub(crate) fn release(&self, slots: impl IntoIterator<Item = Slot>) {
        let mut free = self.free();
        for slot in slots {
            let number = self.mapped.number(slot.at());
            number.store(State::Free.number(), Ordering::Release);
            free.push(slot);
        }
    }

    /// Whether none is taken.
    pub(crate) fn are_free(&self) -> bool {
        self.free().len() == self.mapped.len() / PAGE - 1
    }

    /// Notes which usage log is about to be written to. One at a time.
    pub(crate) fn note(&self, note: Note) {
        let which = self.mapped.number(WHICH_NOTE);
        let second = which.load(Ordering::Relaxed) == 0;
        // SAFETY: nobody else does, and this one is not in force.
        unsafe { self.mapped.write(layout::note(second), &note.encode()) };
        which.store(second.into(), Ordering::Release);
    }
}

impl Slot {
    const fn at(self) -> usize {
        PAGE * (1 + self.0 as usize)
    }
}

/// What is written to a slot.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Text<'a> {
    written_ms: u64,
    status: u32,
    text: &'a str,
}

impl<'a> Text<'a> {
    pub(crate) const fn new(written_ms: u64, status: u32, text: &'a str) -> Self {
        Self {
            written_ms,
            status,
            text,
        }
    }
}

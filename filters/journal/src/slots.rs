//! A slot for each request under way, and for each record that is not in the usage log yet.

use core::sync::atomic::Ordering;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::layout::{
    self, ACTIVE_CHECKPOINT, BEGAN, Checkpoint, ID, ID_LEN, MAGIC, MAX_ID, MAX_TEXT, PAGE, State,
};
use crate::mapped::Mapped;

/// The file grows by so many slots at a time.
const STEP: usize = 1_024;
/// So many at most: 256 MB.
const MAX: usize = 64 * STEP;

/// A slot that is taken. Whoever has it alone reads and writes what is in it.
#[derive(Debug, PartialEq, Eq)]
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
        let mut slot = {
            let mut free = self.free();
            if free.is_empty() {
                let slots = self.mapped.len() / PAGE - 1;
                if self.mapped.grow(PAGE * STEP) {
                    self.add(&mut free, slots);
                }
            }
            free.pop()?
        };
        let at = slot.at();
        // SAFETY: it was free, and is ours.
        unsafe {
            self.mapped.write(at + ID_LEN, &len.to_le_bytes());
            self.mapped.write(at + BEGAN, &began_ms.to_le_bytes());
            self.mapped.write(at + ID, id);
        }
        self.put(&mut slot, Text::new(began_ms, 0, ""), State::Open);
        Some(slot)
    }

    /// Says what is known of a request under way. `false` if that is too long, and what was said before still stands.
    pub(crate) fn keep(&self, slot: &mut Slot, text: Text<'_>) -> bool {
        text.text.len() <= MAX_TEXT && self.put(slot, text, State::Open)
    }

    /// A request is over, and this is its line. `false` if that is too long, and what was said before still stands.
    pub(crate) fn finish(&self, slot: &mut Slot, line: &str) -> bool {
        line.len() <= MAX_TEXT && self.put(slot, Text::new(0, 0, line), State::Over)
    }

    fn put(&self, slot: &mut Slot, text: Text<'_>, state: impl Fn(bool) -> State) -> bool {
        let number = self.mapped.number(slot.at());
        let second = match State::of(number.load(Ordering::Relaxed)) {
            Some(State::Open(second) | State::Over(second)) => !second,
            Some(State::Free) | None => false,
        };
        let at = slot.at() + layout::copy(second);
        // SAFETY: the caller has the slot, and this copy is not active.
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

    /// The text of a slot.
    pub(crate) fn text<'a>(&'a self, slot: &'a Slot) -> &'a str {
        let second = match State::of(self.mapped.number(slot.at()).load(Ordering::Relaxed)) {
            Some(State::Open(second) | State::Over(second)) => second,
            Some(State::Free) | None => return "",
        };
        let at = slot.at() + layout::copy(second);
        // SAFETY: the caller has the slot, and lends it for as long as the text is used.
        let bytes = unsafe { self.mapped.read(at + 12, 4 + MAX_TEXT) };
        let len = layout::u32_at(bytes, 0).unwrap_or(0) as usize;
        let text = bytes.get(4..).and_then(|text| text.get(..len));
        text.and_then(|text| core::str::from_utf8(text).ok())
            .unwrap_or_default()
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

    /// Says which usage log is about to be written to. The writer's thread alone does.
    pub(crate) fn check(&self, checkpoint: Checkpoint) {
        let active = self.mapped.number(ACTIVE_CHECKPOINT);
        let second = active.load(Ordering::Relaxed) == 0;
        let at = layout::checkpoint(second);
        // SAFETY: nobody else writes to the head, and this one is not active.
        unsafe { self.mapped.write(at, &checkpoint.encode()) };
        active.store(second.into(), Ordering::Release);
    }
}

impl Slot {
    const fn at(&self) -> usize {
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

//! How a journal lies in its file: a head, and slots of a page each.
//!
//! The head: [`MAGIC`], which [`Checkpoint`] is active (4 bytes), 4 unused, and two of those. A slot: its [state](State) (4
//! bytes), the length of the id (4), when the request began (8, milliseconds since 1970), the id (64), and two copies of: when
//! it was written (8), the answer's status (4), the length of the text (4) and the text. Numbers are little-endian.
//!
//! There are two copies of whatever changes: one is written while the other is active, and a single number says which. So it
//! can be read wherever its writer was killed.

use tollgate_core::usage::line::is_id;

/// How a file begins that is one of these.
pub(crate) const MAGIC: [u8; 8] = *b"tgjrnl01";
/// Of the head, and of a slot.
pub(crate) const PAGE: usize = 4_096;

/// Where the head says which checkpoint is active.
pub(crate) const ACTIVE_CHECKPOINT: usize = 8;
/// The longest id.
pub(crate) const MAX_ID: usize = 64;
/// The longest text.
pub(crate) const MAX_TEXT: usize = 1_976;

pub(crate) const ID_LEN: usize = 4;
pub(crate) const BEGAN: usize = 8;
pub(crate) const ID: usize = 16;
const COPIES: usize = ID + MAX_ID;
const COPY: usize = 16 + MAX_TEXT;
const _: () = assert!(COPIES + 2 * COPY <= PAGE, "a slot is a page");

/// Where a copy of what changes is in its slot.
pub(crate) const fn copy(second: bool) -> usize {
    COPIES + second as usize * COPY
}

/// Where a checkpoint is in the head.
pub(crate) const fn checkpoint(second: bool) -> usize {
    16 + second as usize * Checkpoint::LEN
}

/// Which usage log was written to last, and how long it was before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) inode: u64,
    pub(crate) len: u64,
}

impl Checkpoint {
    pub(crate) const LEN: usize = 16;

    pub(crate) fn encode(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let numbers = [self.inode, self.len];
        for (place, number) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(numbers) {
            *place = number.to_le_bytes();
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            inode: u64_at(bytes, 0)?,
            len: u64_at(bytes, 8)?,
        })
    }
}

/// What is in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Nothing.
    Free,
    /// A request under way; the text is the members of its record, as of now. Whether the second copy is active.
    Open(bool),
    /// A request that is over; the text is its line.
    Over(bool),
}

impl State {
    pub(crate) const fn number(self) -> u32 {
        match self {
            Self::Free => 0,
            Self::Open(second) => 1 + second as u32,
            Self::Over(second) => 3 + second as u32,
        }
    }

    /// `None` for a number that is never written.
    pub(crate) const fn of(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::Free),
            1 | 2 => Some(Self::Open(number == 2)),
            3 | 4 => Some(Self::Over(number == 4)),
            _ => None,
        }
    }
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|bytes| u32::from_le_bytes(*bytes))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|bytes| u64::from_le_bytes(*bytes))
}

/// A slot as it is found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found<'a> {
    pub(crate) is_over: bool,
    pub(crate) id: &'a str,
    pub(crate) began_ms: u64,
    pub(crate) written_ms: u64,
    pub(crate) status: u32,
    pub(crate) text: &'a str,
}

/// Whether there is nothing in a slot.
pub(crate) fn is_free(slot: &[u8]) -> bool {
    u32_at(slot, 0) == Some(State::Free.number())
}

/// Reads a slot; `None` where there is nothing in it, or what nobody wrote.
pub(crate) fn read(slot: &[u8]) -> Option<Found<'_>> {
    let (is_over, second) = match State::of(u32_at(slot, 0)?)? {
        State::Free => return None,
        State::Open(second) => (false, second),
        State::Over(second) => (true, second),
    };
    let text_at = |at: usize, len: u32, max: usize| {
        let len = usize::try_from(len).ok().filter(|len| *len <= max)?;
        core::str::from_utf8(slot.get(at..at + len)?).ok()
    };
    let copy = copy(second);
    let id = text_at(ID, u32_at(slot, ID_LEN)?, MAX_ID)?;
    is_id(id.as_bytes()).then_some(())?;
    Some(Found {
        is_over,
        id,
        began_ms: u64_at(slot, BEGAN)?,
        written_ms: u64_at(slot, copy)?,
        status: u32_at(slot, copy + 8)?,
        text: text_at(copy + 16, u32_at(slot, copy + 12)?, MAX_TEXT)?,
    })
}

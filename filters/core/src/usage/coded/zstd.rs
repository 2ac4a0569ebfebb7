//! Zstandard, block by block as it comes. What is decoded is read once it is out of the window, at the latest at the end.

use core::cell::Cell;
use std::io::{self, Write};

use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// The largest window, which RFC 8878 has every decoder support.
const WINDOW: u64 = 8 << 20;
/// Frames that are decoded at once on a thread, since each may fill a window; more are not decoded.
const MAX: u32 = 32;
/// The largest block.
const BLOCK: usize = 128 << 10;
/// The longest head of a frame, with its magic number, and the head of a block.
const FRAME_HEAD: usize = 18;
const BLOCK_HEAD: usize = 3;
const CHECKSUM: usize = 4;
/// Blocks that there may be: whatever they hold, of so many bytes on average, and at most.
const FREE_BLOCKS: u64 = 1 << 12;
const BLOCK_HOLDS: u64 = 64;
const MAX_BLOCKS: u64 = 1 << 16;

std::thread_local! {
    static OPEN: Cell<u32> = const { Cell::new(0) };
}

/// The decoder of one frame; what comes after it is not looked at.
pub(super) struct Zstd<W> {
    frame: FrameDecoder,
    begun: bool,
    /// What came and is no whole block yet.
    pending: Vec<u8>,
    blocks: u64,
    decoded: u64,
    sink: W,
}

impl<W: Write> Zstd<W> {
    pub(super) fn new(sink: W) -> Self {
        let mut frame = FrameDecoder::new();
        frame.set_max_window_size(WINDOW);
        Self {
            frame,
            begun: false,
            pending: Vec::new(),
            blocks: 0,
            decoded: 0,
            sink,
        }
    }

    pub(super) const fn get_ref(&self) -> &W {
        &self.sink
    }

    pub(super) const fn get_mut(&mut self) -> &mut W {
        &mut self.sink
    }

    /// Whether all of the frame was decoded and read.
    pub(super) fn is_whole(&self) -> bool {
        self.begun && self.frame.is_finished()
    }

    fn decode(&mut self) -> io::Result<()> {
        if !self.begun {
            if self.pending.len() < FRAME_HEAD {
                return Ok(());
            }
            if OPEN.get() >= MAX {
                return Err(broken());
            }
            let mut source = self.pending.as_slice();
            self.frame.init(&mut source).map_err(|_| broken())?;
            let read = self.pending.len() - source.len();
            self.pending.drain(..read);
            self.begun = true;
            OPEN.set(OPEN.get().saturating_add(1));
        }
        let mut at = 0;
        while !self.frame.is_finished() {
            let pending = self.pending.get(at..).unwrap_or_default();
            let Some(&[a, b, c]) = pending.first_chunk::<BLOCK_HEAD>() else {
                break;
            };
            let head = u32::from_le_bytes([a, b, c, 0]);
            let (last, kind, size) = (head & 1 == 1, head >> 1 & 3, (head >> 3) as usize);
            if size > BLOCK {
                return Err(broken());
            }
            // One byte that is repeated, or as many as it says.
            let body = if kind == 1 { 1 } else { size };
            // A checksum may follow the last.
            let block = BLOCK_HEAD + body;
            if pending.len() < block {
                break;
            }
            self.blocks += 1;
            if self.blocks > MAX_BLOCKS.min(FREE_BLOCKS + self.decoded / BLOCK_HOLDS) {
                return Err(broken());
            }
            let checked = pending.len() >= block + CHECKSUM;
            let mut source = pending;
            match self
                .frame
                .decode_blocks(&mut source, BlockDecodingStrategy::UptoBlocks(1))
            {
                Ok(_) => at += pending.len() - source.len(),
                // It has a checksum, which is not whole yet; the block was read.
                Err(_) if last && !checked => at = self.pending.len(),
                Err(_) => return Err(broken()),
            }
            if let Some(decoded) = self.frame.collect() {
                self.decoded = self.decoded.saturating_add(decoded.len() as u64);
                self.sink.write_all(&decoded)?;
            }
        }
        self.pending.drain(..at);
        Ok(())
    }
}

impl<W: Write> Write for Zstd<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.begun && self.frame.is_finished() {
            return Ok(bytes.len());
        }
        self.pending.extend_from_slice(bytes);
        self.decode()?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<W> Drop for Zstd<W> {
    fn drop(&mut self) {
        if self.begun {
            OPEN.set(OPEN.get().saturating_sub(1));
        }
    }
}

fn broken() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

//! DEFLATE (RFC 1951) in the frame of zlib (RFC 1950) or gzip (RFC 1952), or in none, decoded piece by piece as it comes.
//!
//! A block may bring tables of its own, which cost as much as kilobytes of text however little the block holds: so there
//! are only so many of them. Nothing is decoded behind the end, as readers differ in what they make of more.

use core::fmt;

use crc32fast::Hasher;
use miniz_oxide::inflate::TINFLStatus as Status;
use miniz_oxide::inflate::core::inflate_flags as flags;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

/// How far back DEFLATE refers.
const WINDOW: usize = 32 << 10;
/// The longest head of gzip, in bytes: names and comments stand in it, which nobody sends.
const MAX_HEAD: usize = 1 << 10;
/// Blocks that there may be whatever they hold.
const FREE_BLOCKS: u64 = 1 << 10;
/// Blocks that there may be at most.
const MAX_BLOCKS: u64 = 1 << 16;
/// The checksum and the length behind a gzip stream.
const TRAILER: usize = 8;

/// What stands around the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frame {
    None,
    Zlib,
    Gzip,
}

/// It is not what it says it is, has too many blocks, or nobody wants more of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken;

/// The decoder of one stream.
pub(crate) struct Inflate {
    frame: Frame,
    stage: Stage,
    /// What came of gzip's head or trailer.
    pending: Vec<u8>,
    state: Box<State>,
    /// Where in the window the next byte goes.
    at: usize,
    crc: Hasher,
    blocks: u64,
    /// How many bytes a block holds on average, at least.
    block_holds: u64,
    decoded: u64,
}

struct State {
    decompressor: DecompressorOxide,
    window: [u8; WINDOW],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Head,
    Blocks,
    Trailer,
    Done,
}

impl fmt::Debug for Inflate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Inflate({:?})", self.frame)
    }
}

impl Inflate {
    /// One whose blocks hold so many bytes on average, at least, beyond the first ones.
    pub(crate) fn new(frame: Frame, block_holds: u64) -> Self {
        Self {
            frame,
            stage: if frame == Frame::Gzip {
                Stage::Head
            } else {
                Stage::Blocks
            },
            pending: Vec::new(),
            state: Box::new(State {
                decompressor: DecompressorOxide::new(),
                window: [0; WINDOW],
            }),
            at: 0,
            crc: Hasher::new(),
            blocks: 0,
            block_holds,
            decoded: 0,
        }
    }

    /// Whether all of it was decoded, and is what it should be.
    pub(crate) fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// Decodes what came, and hands it to `take`, which says whether it wants more. Returns what follows the end.
    pub(crate) fn push<'c>(
        &mut self,
        mut coded: &'c [u8],
        mut take: impl FnMut(&[u8]) -> bool,
    ) -> Result<&'c [u8], Broken> {
        while !coded.is_empty() && self.stage != Stage::Done {
            coded = match self.stage {
                Stage::Head => self.head(coded)?,
                Stage::Blocks => self.blocks(coded, &mut take)?,
                Stage::Trailer | Stage::Done => self.trailer(coded)?,
            };
        }
        Ok(coded)
    }

    /// Takes the head once it is whole.
    fn head<'c>(&mut self, coded: &'c [u8]) -> Result<&'c [u8], Broken> {
        let before = self.pending.len();
        let room = MAX_HEAD.saturating_sub(before).min(coded.len());
        self.pending
            .extend_from_slice(coded.get(..room).unwrap_or_default());
        match head(&self.pending)? {
            Some(len) => {
                self.pending.clear();
                self.stage = Stage::Blocks;
                Ok(coded.get(len.saturating_sub(before)..).unwrap_or_default())
            }
            None if self.pending.len() < MAX_HEAD => Ok(&[]),
            None => Err(Broken),
        }
    }

    fn blocks<'c>(
        &mut self,
        mut coded: &'c [u8],
        take: &mut impl FnMut(&[u8]) -> bool,
    ) -> Result<&'c [u8], Broken> {
        let framed = match self.frame {
            Frame::Zlib => flags::TINFL_FLAG_PARSE_ZLIB_HEADER | flags::TINFL_FLAG_COMPUTE_ADLER32,
            Frame::None | Frame::Gzip => flags::TINFL_FLAG_IGNORE_ADLER32,
        };
        let flags = framed | flags::TINFL_FLAG_HAS_MORE_INPUT | flags::TINFL_FLAG_STOP_ON_BLOCK_BOUNDARY;
        let State { decompressor, window } = &mut *self.state;
        loop {
            let (status, read, written) = decompress(decompressor, coded, window, self.at, flags);
            coded = coded.get(read..).unwrap_or_default();
            let decoded = window.get(self.at..self.at.saturating_add(written));
            let decoded = decoded.unwrap_or_default();
            self.at = (self.at + written) % WINDOW;
            self.decoded = self.decoded.saturating_add(written as u64);
            if self.frame == Frame::Gzip {
                self.crc.update(decoded);
            }
            if !decoded.is_empty() && !take(decoded) {
                return Err(Broken);
            }
            match status {
                Status::BlockBoundary => {
                    self.blocks += 1;
                    let holding = FREE_BLOCKS + self.decoded / self.block_holds.max(1);
                    if self.blocks > holding.min(MAX_BLOCKS) {
                        return Err(Broken);
                    }
                }
                Status::HasMoreOutput => {}
                Status::NeedsMoreInput => return Ok(coded),
                Status::Done if self.frame == Frame::Gzip => {
                    self.stage = Stage::Trailer;
                    return Ok(coded);
                }
                Status::Done => {
                    self.stage = Stage::Done;
                    return Ok(coded);
                }
                _ => return Err(Broken),
            }
        }
    }

    fn trailer<'c>(&mut self, coded: &'c [u8]) -> Result<&'c [u8], Broken> {
        let missing = TRAILER.saturating_sub(self.pending.len()).min(coded.len());
        let (part, rest) = coded.split_at_checked(missing).unwrap_or_default();
        self.pending.extend_from_slice(part);
        if let Some((crc, len)) = self.pending.split_first_chunk::<4>()
            && let Ok(len) = <[u8; 4]>::try_from(len)
        {
            if u32::from_le_bytes(*crc) != self.crc.clone().finalize()
                || u32::from_le_bytes(len) != self.decoded as u32
            {
                return Err(Broken);
            }
            self.stage = Stage::Done;
        }
        Ok(rest)
    }
}

/// The length of gzip's head at the beginning of `bytes`; `None` where it is not whole.
fn head(bytes: &[u8]) -> Result<Option<usize>, Broken> {
    const CHECKED: u8 = 2;
    const EXTRA: u8 = 4;
    const NAME: u8 = 8;
    const COMMENT: u8 = 16;
    let begins = [0x1f, 0x8b, 8];
    if bytes.iter().zip(begins).any(|(byte, right)| *byte != right) {
        return Err(Broken);
    }
    let Some(set) = bytes.get(3).copied() else {
        return Ok(None);
    };
    if set & 0xe0 != 0 {
        return Err(Broken);
    }
    let mut at = 10;
    if set & EXTRA != 0 {
        let Some(len) = bytes.get(at..).and_then(<[u8]>::first_chunk) else {
            return Ok(None);
        };
        at += 2 + usize::from(u16::from_le_bytes(*len));
    }
    for text in [NAME, COMMENT] {
        if set & text != 0 {
            let rest = bytes.get(at..).unwrap_or_default();
            match memchr::memchr(0, rest) {
                Some(end) => at += end + 1,
                None => return Ok(None),
            }
        }
    }
    if set & CHECKED != 0 {
        at += 2;
    }
    Ok((bytes.len() >= at).then_some(at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use flate2::{Compression, GzBuilder};
    use proptest::prelude::*;
    use std::io::Write as _;

    fn coded(frame: Frame, text: &[u8]) -> Vec<u8> {
        let level = Compression::default();
        let whole = match frame {
            Frame::None => {
                let mut encoder = DeflateEncoder::new(Vec::new(), level);
                encoder.write_all(text).and_then(|()| encoder.finish())
            }
            Frame::Zlib => {
                let mut encoder = ZlibEncoder::new(Vec::new(), level);
                encoder.write_all(text).and_then(|()| encoder.finish())
            }
            Frame::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), level);
                encoder.write_all(text).and_then(|()| encoder.finish())
            }
        };
        whole.unwrap()
    }

    /// What is decoded of pieces of these sizes, and what follows; `None` where it is broken or not whole.
    fn decode(frame: Frame, coded: &[u8], piece: usize) -> Option<(Vec<u8>, Vec<u8>)> {
        let mut inflate = Inflate::new(frame, 1 << 10);
        let (mut text, mut behind) = (Vec::new(), Vec::new());
        for piece in coded.chunks(piece) {
            let take = |part: &[u8]| {
                text.extend_from_slice(part);
                true
            };
            behind.extend_from_slice(inflate.push(piece, take).ok()?);
        }
        inflate.is_done().then_some((text, behind))
    }

    #[test]
    fn any_frame_in_any_pieces() {
        let text: Vec<u8> = (0..200_000_u32)
            .flat_map(|n| n.to_string().into_bytes())
            .collect();
        for frame in [Frame::None, Frame::Zlib, Frame::Gzip] {
            let whole = coded(frame, &text);
            for piece in [1, 7, 1_000, whole.len()] {
                assert_eq!(
                    decode(frame, &whole, piece),
                    Some((text.clone(), vec![])),
                    "{frame:?}"
                );
            }
            assert_eq!(decode(frame, &whole[..whole.len() - 1], 100), None, "{frame:?}");
            let more = [&whole[..], b"more"].concat();
            assert_eq!(
                decode(frame, &more, 1_000),
                Some((text.clone(), b"more".to_vec()))
            );
        }
    }

    #[test]
    fn a_head_may_say_more() {
        let builder = GzBuilder::new()
            .filename("name")
            .comment("words")
            .extra(vec![7; 99]);
        let mut encoder = builder.write(Vec::new(), Compression::fast());
        encoder.write_all(b"text").unwrap();
        let whole = encoder.finish().unwrap();
        for piece in [1, 50, whole.len()] {
            assert_eq!(
                decode(Frame::Gzip, &whole, piece),
                Some((b"text".to_vec(), vec![]))
            );
        }
        let mut wrong = coded(Frame::Gzip, b"text");
        let crc = wrong.len() - 8;
        wrong[crc] ^= 1;
        assert_eq!(decode(Frame::Gzip, &wrong, 9), None);
        let endless = [&[0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 3][..], &vec![b'x'; MAX_HEAD]].concat();
        assert_eq!(Inflate::new(Frame::Gzip, 1).push(&endless, |_| true), Err(Broken));
    }

    #[test]
    fn blocks_that_hold_nothing_are_bounded() {
        // Stored blocks, and fixed ones with nothing but their end.
        for block in [&[0, 0, 0, 0xff, 0xff][..], &[2, 8, 0x20, 0x80, 0]] {
            let many = block.repeat(100_000);
            let mut inflate = Inflate::new(Frame::None, 1 << 10);
            assert_eq!(inflate.push(&many, |_| true), Err(Broken));
            assert!(inflate.blocks <= FREE_BLOCKS + 1);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), piece in 1..50_usize) {
            for frame in [Frame::None, Frame::Zlib, Frame::Gzip] {
                decode(frame, &bytes, piece);
            }
        }
    }
}

//! Takes a compressed body apart, a few kilobytes at a time.

use crate::config::ConfigError;
use crate::directory::Progress;
use crate::inflate::{Frame, Inflate};

/// What is read in one step: at the most that gzip can do, four megabytes come of it.
const PIECE: usize = 4 << 10;
/// What a block holds on average, at least, in bytes: compressors begin a new one every 16 KiB or more.
const BLOCK: u64 = 1 << 10;
/// How many times its size a body is expected to have. Rows of keys are mostly hashes, which shrink to half.
const RATIO: usize = 8;

/// How many times its size it may have: as with the body of a request, more is made to fill memory.
const DENSEST: usize = 100;
/// What it may have whatever its size.
const FREE: usize = 16 << 20;

/// A body on its way to its text.
pub(super) struct Unpacking {
    coded: Vec<u8>,
    at: usize,
    inflate: Inflate,
    text: Vec<u8>,
    most: usize,
}

impl Unpacking {
    /// Starts on a body whose text may have so many bytes.
    pub(super) fn new(coded: Vec<u8>, most: usize) -> Self {
        let most = most.min(coded.len().saturating_mul(DENSEST).max(FREE));
        let mut text = Vec::new();
        // In one piece where it can be had: a text that grows is in memory twice. What the end of the body says of its
        // length may be a lie, so it is believed only so far.
        let said = coded
            .last_chunk()
            .map_or(0, |len| u32::from_le_bytes(*len) as usize);
        let expected = said.min(most).min(coded.len().saturating_mul(RATIO));
        let _ = text.try_reserve_exact(expected);
        Self {
            coded,
            at: 0,
            inflate: Inflate::new(Frame::Gzip, BLOCK),
            text,
            most,
        }
    }

    /// Reads the next piece.
    pub(super) fn step(mut self) -> Progress<Self, Vec<u8>> {
        let rest = self.coded.get(self.at..).unwrap_or_default();
        let piece = rest.get(..PIECE).unwrap_or(rest);
        let (text, most) = (&mut self.text, self.most);
        let mut fits = true;
        let behind = self.inflate.push(piece, |part| {
            fits = text.len() + part.len() <= most && text.try_reserve(part.len()).is_ok();
            if fits {
                text.extend_from_slice(part);
            }
            fits
        });
        if !fits {
            return refused(format!("has more than {most} bytes once it is decompressed"));
        }
        self.at += piece.len();
        match behind {
            Ok([]) if self.at < self.coded.len() => Progress::More(self),
            Ok([]) if self.inflate.is_done() => Progress::Done(self.text),
            _ => refused("is not whole and valid gzip".to_owned()),
        }
    }
}

fn refused<Work, Done>(why: String) -> Progress<Work, Done> {
    Progress::Refused(vec![ConfigError::new("", why)])
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    /// The text, or what is wrong, and the most memory that was taken for it.
    fn unpack(coded: Vec<u8>, most: usize) -> (Result<Vec<u8>, String>, usize) {
        let mut unpacking = Unpacking::new(coded, most);
        let mut taken = 0;
        loop {
            taken = taken.max(unpacking.text.capacity());
            unpacking = match unpacking.step() {
                Progress::More(unpacking) => unpacking,
                Progress::Done(text) => return (Ok(text), taken),
                Progress::Refused(errors) => return (Err(errors[0].problem.clone()), taken),
            };
        }
    }

    #[test]
    fn what_is_packed_is_unpacked_into_memory_of_its_size() {
        let text: Vec<u8> = (0..300_000_u32)
            .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
            .collect();
        assert_eq!(unpack(gzip(&text), 1 << 30), (Ok(text.clone()), text.len()));
        assert_eq!(unpack(gzip(&text), text.len()).0, Ok(text.clone()));
        let (refused, _) = unpack(gzip(&text), text.len() - 1);
        assert!(refused.unwrap_err().contains("more than 1199999 bytes"));
        assert_eq!(unpack(gzip(b""), 0).0, Ok(Vec::new()));
    }

    #[test]
    fn a_bomb_is_no_larger_than_what_is_free() {
        let (refused, taken) = unpack(gzip(&vec![b' '; FREE * 3]), 1 << 30);
        assert!(refused.unwrap_err().contains("more than 16777216 bytes"));
        assert!(taken <= FREE * 2, "{taken}");
        // One that says it is larger than it is.
        let mut lying = gzip(b"text");
        let len = lying.len() - 4;
        lying[len..].copy_from_slice(&u32::MAX.to_le_bytes());
        let (refused, taken) = unpack(lying, 1 << 30);
        assert!(refused.is_err() && taken < 1_000, "{taken}");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = unpack(bytes, 1 << 20);
        }
    }
}

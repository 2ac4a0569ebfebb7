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

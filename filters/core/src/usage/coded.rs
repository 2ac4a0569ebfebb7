//! A response that is compressed although nobody asked for it: decoded as it passes, for reading alone.

mod zstd;

use core::fmt;
use std::io::{self, Write};

use super::Response;
use crate::inflate::{Frame, Inflate};
use zstd::Zstd;

/// What is decoded of a response whatever its size, and beyond that how many times its size: more of it passes unread.
const FREE: u64 = 1 << 20;
const RATIO: u64 = 32;
/// What a block holds on average, at least, in bytes: some servers end one, and an empty one, with each event.
const BLOCK: u64 = 64;

/// How a response is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    None,
    Gzip,
    Deflate,
    Zstd,
    /// One that is not decoded here, or several.
    Other,
}

impl Coding {
    /// The value of `content-encoding`.
    pub(super) fn of(value: &[u8]) -> Self {
        match value.trim_ascii().to_ascii_lowercase().as_slice() {
            b"" | b"identity" => Self::None,
            b"gzip" | b"x-gzip" => Self::Gzip,
            b"deflate" => Self::Deflate,
            b"zstd" => Self::Zstd,
            _ => Self::Other,
        }
    }
}

/// The decoder of one response, with its reader at its end.
#[derive(Debug)]
pub(super) struct Coded {
    decoder: Decoder,
    /// Bytes that came.
    bytes: u64,
    /// Bytes of them that were not decoded.
    undecoded: u64,
}

#[expect(clippy::large_enum_variant, reason = "it is in a box as it is")]
enum Decoder {
    Inflate(Inflate, Sink),
    /// What servers make of `deflate`: RFC 1950 says zlib, and some leave its frame out. The first byte tells.
    Deflate(Sink),
    Zstd(Zstd<Sink>),
    /// It can't be decoded, or not any further.
    Lost(Sink),
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decoder")
    }
}

/// Reads what was decoded, as far as it may grow.
struct Sink {
    response: Response,
    decoded: u64,
    most: u64,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.decoded = self.decoded.saturating_add(bytes.len() as u64);
        if self.decoded > self.most {
            return Err(io::ErrorKind::Other.into());
        }
        self.response.push(bytes, false);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Coded {
    pub(super) fn new(coding: Coding, response: Response) -> Self {
        let sink = Sink {
            response,
            decoded: 0,
            most: FREE,
        };
        Self {
            decoder: match coding {
                Coding::Gzip => Decoder::Inflate(Inflate::new(Frame::Gzip, BLOCK), sink),
                Coding::Deflate => Decoder::Deflate(sink),
                Coding::Zstd => Decoder::Zstd(Zstd::new(sink)),
                Coding::None | Coding::Other => Decoder::Lost(sink),
            },
            bytes: 0,
            undecoded: 0,
        }
    }

    pub(super) fn push(&mut self, chunk: &[u8], end: bool) {
        if !chunk.is_empty() {
            self.decode(chunk);
        }
        if end {
            // A stream may end in an event that is not complete.
            self.sink_mut().response.push(b"", true);
        }
    }

    fn decode(&mut self, chunk: &[u8]) {
        self.bytes = self.bytes.saturating_add(chunk.len() as u64);
        self.sink_mut().most = self.bytes.saturating_mul(RATIO).saturating_add(FREE);
        if let (Decoder::Deflate(sink), Some(first)) = (&mut self.decoder, chunk.first()) {
            let sink = sink.take();
            let frame = if first & 0x0F == 8 {
                Frame::Zlib
            } else {
                Frame::None
            };
            self.decoder = Decoder::Inflate(Inflate::new(frame, BLOCK), sink);
        }
        let decoded = match &mut self.decoder {
            Decoder::Inflate(inflate, sink) => {
                let rest = inflate.push(chunk, |part| sink.write(part).is_ok());
                // What stands behind the end is read by some clients.
                rest.is_ok_and(<[u8]>::is_empty)
            }
            Decoder::Zstd(decoder) => decoder.write_all(chunk).is_ok(),
            Decoder::Deflate(_) | Decoder::Lost(_) => false,
        };
        if !decoded {
            self.undecoded = self.undecoded.saturating_add(chunk.len() as u64);
            self.decoder = Decoder::Lost(self.sink_mut().take());
        }
    }

    pub(super) fn response(&self) -> &Response {
        let sink = match &self.decoder {
            Decoder::Zstd(decoder) => decoder.get_ref(),
            Decoder::Inflate(_, sink) | Decoder::Deflate(sink) | Decoder::Lost(sink) => sink,
        };
        &sink.response
    }

    /// Bytes that could not be decoded, or of which nothing was read: a frame that broke off within its first window.
    pub(super) fn undecoded(&self) -> u64 {
        match &self.decoder {
            Decoder::Zstd(decoder) if !decoder.is_whole() && decoder.get_ref().decoded == 0 => self.bytes,
            _ => self.undecoded,
        }
    }

    fn sink_mut(&mut self) -> &mut Sink {
        match &mut self.decoder {
            Decoder::Zstd(decoder) => decoder.get_mut(),
            Decoder::Inflate(_, sink) | Decoder::Deflate(sink) | Decoder::Lost(sink) => sink,
        }
    }
}

impl Sink {
    /// This, leaving one that reads nothing.
    fn take(&mut self) -> Self {
        let nothing = Self {
            response: Response::Opaque(0),
            decoded: 0,
            most: 0,
        };
        core::mem::replace(self, nothing)
    }
}

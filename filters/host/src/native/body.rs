//! Bodies over dynamic modules. Envoy shows what it held back and what has just come apart; it drains bytes from the front
//! and appends at the end.

use super::Handle;
use super::abi::{self, Buffer, Part};
use crate::status::{Result, Status};

/// Where the bytes of a stream's body are, in their order.
#[derive(Clone, Copy)]
struct Parts {
    buffered: Option<Part>,
    received: Part,
}

impl Parts {
    /// By the number of the buffer in proxy-wasm.
    fn of(filter: abi::Filter, buffer: u32) -> Result<Self> {
        // SAFETY: the filter is good for the callback.
        let (received, buffered, is_one) = unsafe {
            match buffer {
                0 => (
                    Part::ReceivedRequest,
                    Part::BufferedRequest,
                    abi::received_buffered_request_body(filter),
                ),
                1 => (
                    Part::ReceivedResponse,
                    Part::BufferedResponse,
                    abi::received_buffered_response_body(filter),
                ),
                _ => return Err(Status::BadArgument),
            }
        };
        Ok(Self {
            // What comes may be what a filter in front held back.
            buffered: (!is_one).then_some(buffered),
            received,
        })
    }

    fn len(self, filter: abi::Filter) -> usize {
        // SAFETY: the filter is good for the callback.
        let len = |part| unsafe { abi::get_body_size(filter, part) };
        self.each().map(len).sum()
    }

    fn each(self) -> impl Iterator<Item = Part> {
        self.buffered.into_iter().chain([self.received])
    }
}

/// How many bytes are there.
pub(crate) fn len(filter: abi::Filter, buffer: u32) -> usize {
    Parts::of(filter, buffer).map_or(0, |parts| parts.len(filter))
}

pub(crate) fn read(handle: Handle, buffer: u32, len: usize) -> Result<Vec<u8>> {
    match handle {
        // SAFETY: they are there for the callback.
        Handle::Call(answer) => Ok(beginning(unsafe { &(*answer).body }, len)),
        // SAFETY: as above.
        Handle::Answered(_, answer) if buffer == 1 => Ok(beginning(unsafe { &(*answer).body }, len)),
        Handle::Stream(filter) | Handle::Answered(filter, _) => {
            let mut chunks = Vec::new();
            for part in Parts::of(filter, buffer)?.each() {
                show(filter, part, &mut chunks)?;
            }
            Ok(joined(&chunks, len))
        }
        _ => Err(Status::BadArgument),
    }
}

fn beginning(body: &[u8], len: usize) -> Vec<u8> {
    body.get(..len).unwrap_or(body).to_vec()
}

/// Where the bytes of a part are. All that is there or nothing: who reads less than goes on would judge another body.
fn show(filter: abi::Filter, part: Part, chunks: &mut Vec<Buffer>) -> Result<()> {
    let first = chunks.len();
    // SAFETY: the filter is good for the callback, and there is room for as many chunks as there are.
    let shown = unsafe {
        let count = abi::get_body_chunks_size(filter, part);
        chunks.resize(first + count, Buffer::EMPTY);
        match chunks.get_mut(first..) {
            Some(room) if count > 0 => abi::get_body_chunks(filter, part, room.as_mut_ptr()),
            _ => abi::get_body_size(filter, part) == 0,
        }
    };
    if shown { Ok(()) } else { Err(Status::BadArgument) }
}

/// The first `len` bytes of these chunks.
fn joined(chunks: &[Buffer], len: usize) -> Vec<u8> {
    let all: usize = chunks.iter().map(|chunk| chunk.len).sum();
    let mut bytes = Vec::with_capacity(all.min(len));
    for chunk in chunks {
        // SAFETY: Envoy's bytes are good until the callback ends or the body is changed; here they are copied.
        let chunk = unsafe { chunk.bytes() };
        let wanted = len.saturating_sub(bytes.len()).min(chunk.len());
        bytes.extend_from_slice(chunk.get(..wanted).unwrap_or_default());
    }
    bytes
}

pub(crate) fn replace_beginning(handle: Handle, buffer: u32, len: usize, bytes: &[u8]) -> Result<()> {
    let whole = read(handle, buffer, usize::MAX)?;
    replace(handle, buffer, &[bytes, whole.get(len..).unwrap_or_default()])
}

pub(crate) fn replace(handle: Handle, buffer: u32, pieces: &[&[u8]]) -> Result<()> {
    let filter = match handle {
        Handle::Answered(_, answer) if buffer == 1 => {
            let body = pieces.concat();
            // SAFETY: it is there for the callback, and nothing else of it is borrowed.
            unsafe { &mut *answer }.body = body;
            return Ok(());
        }
        Handle::Stream(filter) | Handle::Answered(filter, _) => filter,
        _ => return Err(Status::BadArgument),
    };
    let parts = Parts::of(filter, buffer)?;
    let len: usize = pieces.iter().map(|piece| piece.len()).sum();
    // SAFETY: the filter is good for the callback.
    let limit = unsafe { abi::get_buffer_limit(filter) };
    if limit > 0 && len as u64 > limit && len > parts.len(filter) {
        // Envoy would answer the request while we append, and the stream could be gone before that returns.
        return Err(Status::BadArgument);
    }
    // SAFETY: the filter is good for the callback, and each piece is there for its call.
    unsafe {
        let mut target = None;
        for part in parts.each() {
            if abi::drain_body(filter, part, usize::MAX) {
                target = Some(part);
            }
        }
        let target = target.ok_or(Status::BadArgument)?;
        let mut pieces = pieces.iter().filter(|piece| !piece.is_empty());
        if pieces.all(|piece| abi::append_body(filter, target, Buffer::of(piece))) {
            Ok(())
        } else {
            Err(Status::BadArgument)
        }
    }
}

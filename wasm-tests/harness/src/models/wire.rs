//! Puts an answer on the wire: paced, split, stalled or cut as its fault says.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::answer::{Piece, Pieces};
use super::fault::{Chunking, Fault};
use super::ledger::{Ending, Entry};

/// What the body does next.
#[derive(Debug)]
enum Step {
    Write(Piece),
    Wait(Duration),
    /// Nothing more, ever; only the peer ends it.
    Hang,
    /// The connection is reset.
    Cut,
}

/// The steps of an answer under a fault, one write an event.
struct Steps {
    pieces: Pieces,
    sent: u64,
    /// Not yet stalled: after how many events, and how.
    stall: Option<(u64, Option<Duration>)>,
    cut: Option<u64>,
    tear: Option<u64>,
}

impl Steps {
    fn new(pieces: Pieces, fault: &Fault) -> Self {
        let stall = fault.stall.map(|after| (after, fault.stall_for));
        Self {
            pieces,
            sent: 0,
            stall,
            cut: fault.cut,
            tear: fault.tear,
        }
    }
}

impl Iterator for Steps {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        if let Some((_, lasts)) = self.stall.take_if(|(after, _)| *after == self.sent) {
            return Some(lasts.map_or(Step::Hang, Step::Wait));
        }
        if self.cut == Some(self.sent) {
            return Some(Step::Cut);
        }
        let mut piece = self.pieces.next()?;
        if self.tear == Some(self.sent) {
            self.cut = Some(self.sent + 1);
            piece.bytes.truncate(piece.bytes.len() / 2);
            piece.tokens = 0; // half an event is no token
        }
        self.sent += 1;
        Some(Step::Write(piece))
    }
}

/// Lays events into writes of other sizes. A write carries the tokens of the events that end in it.
struct Chunks<I> {
    steps: I,
    chunking: Chunking,
    /// Events, or what is left of them, not yet written.
    held: VecDeque<Piece>,
    held_bytes: usize,
    /// The step that everything held must be written before.
    next: Option<Step>,
}

impl<I: Iterator<Item = Step>> Chunks<I> {
    fn new(steps: I, chunking: Chunking) -> Self {
        Self {
            steps,
            chunking,
            held: VecDeque::new(),
            held_bytes: 0,
            next: None,
        }
    }

    /// Reads steps until `enough` is held, or no more can be held.
    fn fill(&mut self, enough: impl Fn(&Self) -> bool) {
        while self.next.is_none() && !enough(self) {
            match self.steps.next() {
                Some(Step::Write(piece)) => {
                    self.held_bytes += piece.bytes.len();
                    self.held.push_back(piece);
                }
                Some(other) => self.next = Some(other),
                None => return,
            }
        }
    }

    /// A write of up to `bytes` and up to `events` of what is held.
    fn take(&mut self, mut bytes: usize, mut events: usize) -> Option<Step> {
        let mut write = BytesMut::new();
        let mut tokens = 0;
        while bytes > 0 && events > 0 {
            let Some(front) = self.held.front_mut() else { break };
            let part = front.bytes.split_to(bytes.min(front.bytes.len()));
            bytes -= part.len();
            self.held_bytes -= part.len();
            write.extend_from_slice(&part);
            if front.bytes.is_empty() {
                tokens += front.tokens;
                events -= 1;
                self.held.pop_front();
            }
        }
        let piece = Piece {
            bytes: write.freeze(),
            tokens,
        };
        (!piece.bytes.is_empty())
            .then_some(Step::Write(piece))
            .or_else(|| self.next.take())
    }
}

impl<I: Iterator<Item = Step>> Iterator for Chunks<I> {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let (bytes, events) = match &mut self.chunking {
            Chunking::Events => return self.steps.next(),
            Chunking::Batch(events) => (usize::MAX, *events),
            Chunking::Bytes(bytes) => (*bytes, usize::MAX),
            Chunking::Random(state) => (1 + (draw(state) % 64) as usize, usize::MAX),
        };
        self.fill(|held| held.held_bytes >= bytes || held.held.len() >= events);
        self.take(bytes, events)
    }
}

/// splitmix64: small, and the same everywhere for one seed.
fn draw(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The response body. Every write goes out before the next is begun.
pub(super) struct Paced {
    steps: Box<dyn Iterator<Item = Step> + Send>,
    /// Read ahead, so that the last write is known to be the last.
    next: Option<Step>,
    entry: Entry,
    line: Line,
    /// Bytes still to come, where the head says how many.
    left: Option<u64>,
    pace: Option<Duration>,
    asleep: Option<Pin<Box<Sleep>>>,
    /// Something was handed to hyper (at first: the head) that it has not yet been let to write out.
    unflushed: bool,
    begun: bool,
    ended: bool,
}

impl Paced {
    pub(super) fn new(pieces: Pieces, length: Option<u64>, fault: &Fault, entry: Entry, line: Line) -> Self {
        let steps = Steps::new(pieces, fault);
        let mut steps: Box<dyn Iterator<Item = Step> + Send> = match fault.chunking {
            Chunking::Events => Box::new(steps),
            other => Box::new(Chunks::new(steps, other)),
        };
        Self {
            next: steps.next(),
            steps,
            entry,
            line,
            left: length,
            pace: fault.pace,
            asleep: None,
            unflushed: false,
            begun: false,
            ended: false,
        }
    }

    fn write(&mut self, piece: Piece) -> Frame<Bytes> {
        self.begun = true;
        self.unflushed = true;
        self.next = self.steps.next();
        self.asleep = self.pace.map(|pace| Box::pin(sleep(pace)));
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(piece.bytes.len() as u64);
        }
        self.entry.produced(piece.tokens);
        // A body of known length is over with its last byte: what a fault does after that, nobody sees.
        self.ended = self.next.is_none() || self.left == Some(0);
        if self.ended {
            self.entry.close(Ending::Completed);
        }
        Frame::data(piece.bytes)
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        loop {
            if let Some(asleep) = &mut this.asleep {
                std::task::ready!(asleep.as_mut().poll(cx));
                this.asleep = None;
            }
            // hyper writes out what it holds when the body says Pending, and only then.
            if std::mem::take(&mut this.unflushed) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            match this.next.take() {
                Some(Step::Write(piece)) => return Poll::Ready(Some(Ok(this.write(piece)))),
                Some(Step::Wait(time)) => {
                    this.next = this.steps.next();
                    this.asleep = Some(Box::pin(sleep(time)));
                }
                // Nothing wakes this again: hyper watches the connection, and drops it when the peer goes.
                Some(Step::Hang) => {
                    this.next = Some(Step::Hang);
                    return Poll::Pending;
                }
                Some(Step::Cut) if !this.begun => {
                    this.begun = true;
                    this.unflushed = true;
                    this.next = Some(Step::Cut);
                }
                Some(Step::Cut) => {
                    this.line.reset();
                    this.entry.close(Ending::Cut);
                    return Poll::Ready(Some(Err(io::ErrorKind::ConnectionReset.into())));
                }
                None => {
                    this.entry.close(Ending::Completed);
                    return Poll::Ready(None);
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// Whether a connection's end is a reset (RST) rather than a close (FIN).
#[derive(Clone, Debug, Default)]
pub(super) struct Line(Arc<AtomicBool>);

impl Line {
    pub(super) fn reset(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A connection that its [`Line`] can make end in a reset.
pub(super) struct Conn {
    stream: TcpStream,
    line: Line,
}

impl Conn {
    pub(super) fn new(stream: TcpStream, line: Line) -> Self {
        Self { stream, line }
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        if self.line.0.load(Ordering::Relaxed) {
            // The one case where a socket with nothing to linger for says RST. It fails if the peer was
            // first to close, and then there is nothing to reset.
            self.stream.set_zero_linger().ok();
        }
    }
}

impl AsyncRead for Conn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Conn {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(fault: &str, events: &[&str]) -> Vec<String> {
        let pieces: Vec<Piece> = events
            .iter()
            .map(|e| Piece {
                bytes: Bytes::from((*e).to_owned()),
                tokens: 1,
            })
            .collect();
        let fault = Fault::parse(fault).unwrap();
        let steps = Chunks::new(Steps::new(Box::new(pieces.into_iter()), &fault), fault.chunking);
        steps
            .take(20)
            .map_while(|step| match step {
                Step::Write(p) => Some(format!("{}+{}", String::from_utf8_lossy(&p.bytes), p.tokens)),
                Step::Wait(time) => Some(format!("{time:?}")),
                Step::Hang => Some("hang".to_owned()),
                Step::Cut => Some("cut".to_owned()),
            })
            .collect()
    }

    #[test]
    fn lays_events_into_writes() {
        let events = ["abcd", "ef", "ghi"];
        assert_eq!(written("", &events), ["abcd+1", "ef+1", "ghi+1"]);
        assert_eq!(written("batch=2", &events), ["abcdef+2", "ghi+1"]);
        assert_eq!(written("chunk=3", &events), ["abc+0", "def+2", "ghi+1"]);
        assert_eq!(written("chunk=100", &events), ["abcdefghi+3"]);
        assert_eq!(written("chunk=1", &["é"]), ["\u{fffd}+0", "\u{fffd}+1"]);
        let random = written("chunk=random:7", &["a".repeat(300).as_str()]);
        assert!(random.len() > 5, "{random:?}");
        assert_eq!(random, written("chunk=random:7", &["a".repeat(300).as_str()]));
    }

    #[test]
    fn breaks_off_where_told_whatever_the_writes() {
        let events = ["abcd", "ef", "ghi"];
        assert_eq!(
            written("stall=1, stall-for=5ms", &events),
            ["abcd+1", "5ms", "ef+1", "ghi+1"]
        );
        assert_eq!(written("stall=1", &events)[..3], ["abcd+1", "hang", "ef+1"]);
        assert_eq!(written("cut=0", &events)[..1], ["cut"]);
        assert_eq!(written("cut=3", &events)[2..4], ["ghi+1", "cut"]);
        assert_eq!(written("tear=0", &events)[..2], ["ab+0", "cut"]);
        assert_eq!(written("cut=2, batch=5", &events)[..2], ["abcdef+2", "cut"]);
        assert_eq!(
            written("tear=2, chunk=4", &events)[..3],
            ["abcd+1", "efg+1", "cut"]
        );
    }
}

//! Puts an answer on the wire, step by step.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::watch;
use tokio::time::sleep;

use super::answer::{Piece, Pieces};
use super::connection::Line;
use super::fault::{Chunking, Fault};
use super::ledger::{Ending, Entry};
use super::steps::{Chunks, Step, Steps};

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
    /// Changes when what is held shall go on.
    release: watch::Receiver<()>,
    asleep: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Something was handed to hyper (at first: the head) that it has not yet been let to write out.
    unflushed: bool,
    begun: bool,
    ended: bool,
}

impl Paced {
    pub(super) fn new(
        pieces: Pieces,
        length: Option<u64>,
        fault: &Fault,
        entry: Entry,
        line: Line,
        release: watch::Receiver<()>,
    ) -> Self {
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
            release,
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
        self.asleep = self.pace.map(|pace| Box::pin(sleep(pace)) as _);
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
                Some(Step::Hold) => {
                    this.next = this.steps.next();
                    let mut release = this.release.clone();
                    // It fails when the server ends, and with it this.
                    this.asleep = Some(Box::pin(async move { drop(release.changed().await) }));
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

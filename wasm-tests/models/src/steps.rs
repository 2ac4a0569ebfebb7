//! What a fault makes of an answer: writes, waits, and where it breaks off. No clock and no socket here.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::BytesMut;

use super::answer::{Piece, Pieces};
use super::fault::{Chunking, Fault};

/// What the body does next.
#[derive(Debug)]
pub(super) enum Step {
    Write(Piece),
    Wait(Duration),
    /// Nothing more until the server is told.
    Hold,
    /// Nothing more, ever; only the peer ends it.
    Hang,
    /// The connection is reset.
    Cut,
}

/// The steps of an answer under a fault, one write an event.
pub(super) struct Steps {
    pieces: Pieces,
    sent: u64,
    /// Not yet stalled: after how many events, and how.
    stall: Option<(u64, Option<Duration>)>,
    /// Not yet held: after how many events.
    hold: Option<u64>,
    cut: Option<u64>,
    tear: Option<u64>,
}

impl Steps {
    pub(super) fn new(pieces: Pieces, fault: &Fault) -> Self {
        let stall = fault.stall.map(|after| (after, fault.stall_for));
        Self {
            pieces,
            sent: 0,
            stall,
            hold: fault.hold,
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
        if self.hold.take_if(|after| *after == self.sent).is_some() {
            return Some(Step::Hold);
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
pub(super) struct Chunks<I> {
    steps: I,
    chunking: Chunking,
    /// Events, or what is left of them, not yet written.
    held: VecDeque<Piece>,
    held_bytes: usize,
    /// The step that everything held must be written before.
    next: Option<Step>,
}

impl<I: Iterator<Item = Step>> Chunks<I> {
    pub(super) fn new(steps: I, chunking: Chunking) -> Self {
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
            Chunking::Random(random) => (1 + random.below(64), usize::MAX),
        };
        self.fill(|held| held.held_bytes >= bytes || held.held.len() >= events);
        self.take(bytes, events)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

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
                Step::Hold => Some("hold".to_owned()),
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
        assert_eq!(written("hold=1", &events), ["abcd+1", "hold", "ef+1", "ghi+1"]);
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

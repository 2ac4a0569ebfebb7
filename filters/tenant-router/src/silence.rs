//! How long a streamed answer may be silent: before its first event, and between any two pieces of it. Looked at once
//! a second, so that a piece costs no look at a clock.

use tollgate_core::catalogue::Model;
use tollgate_core::config::Span;

/// A streamed answer that may not be silent for ever.
pub(crate) struct Silence {
    /// Longest time to the first event, until it is there; nanoseconds.
    first_event: Option<u64>,
    /// Longest time without a piece; nanoseconds.
    idle: Option<u64>,
    /// When its headers came; nanoseconds since 1970.
    begun: u64,
    /// When something was last seen to have come.
    moved: u64,
    /// Whether something came since.
    moves: bool,
    /// Whether nothing of it went out yet.
    held: bool,
}

impl Silence {
    /// For an answer of this model whose headers are there; `None` where it may be silent for ever.
    pub(crate) fn of(model: &Model, now: impl FnOnce() -> Option<u64>) -> Option<Self> {
        let nanos = |span: Span| span.millis().saturating_mul(1_000_000);
        let (first_event, idle) = (model.first_event.map(nanos), model.idle.map(nanos));
        first_event.or(idle)?;
        let now = now()?;
        Some(Self {
            first_event,
            idle,
            begun: now,
            moved: now,
            moves: false,
            held: first_event.is_some(),
        })
    }

    /// Whether its headers wait for its first piece.
    pub(crate) fn is_held(&self) -> bool {
        self.held
    }

    /// A piece of it came.
    pub(crate) fn came(&mut self, piece: impl FnOnce() -> Vec<u8>) {
        self.moves = true;
        self.held = false;
        // Comments keep a connection open and are no events.
        if self.first_event.is_some() && piece().split(|byte| *byte == b'\n').any(is_field) {
            self.first_event = None;
        }
    }

    /// Whether it was silent for too long by now.
    pub(crate) fn is_over(&mut self, now: u64) -> bool {
        if core::mem::take(&mut self.moves) {
            self.moved = now;
        }
        let over =
            |since: u64, longest: Option<u64>| longest.is_some_and(|most| now.saturating_sub(since) > most);
        over(self.begun, self.first_event) || (!self.held && over(self.moved, self.idle))
    }
}

fn is_field(line: &[u8]) -> bool {
    !line.starts_with(b":") && !line.trim_ascii().is_empty()
}

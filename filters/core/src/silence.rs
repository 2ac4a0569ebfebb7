//! How long a streamed answer may be silent: before it begins, before its first event, and between any two of them. Looked
//! at once a second, so that a piece costs no look at a clock.

use crate::catalogue::Model;
use crate::config::Span;
use crate::exchange::Exchange;
use crate::progress::Progress;

/// The wait for an answer that has not begun. Envoy ends an attempt that takes too long itself, but not one of which an interim answer
/// came (100, 102, 103): with that it takes the answer for begun, and tries no other target either.
#[derive(Debug)]
pub struct FirstByte {
    /// Longest time to the first byte of an attempt; nanoseconds.
    first_byte: u64,
    /// When the attempt began, or was first seen; nanoseconds since 1970.
    since: u64,
    /// The number of the attempt.
    attempt: u64,
    /// Whether it was seen to take too long.
    late: bool,
}

impl FirstByte {
    /// For the answer to a request for a stream that goes out now; `None` where it may take for ever.
    pub fn of(model: &Model, now: u64) -> Option<Self> {
        Some(Self {
            first_byte: model.first_byte?.millis().saturating_mul(1_000_000),
            since: now,
            attempt: 1,
            late: false,
        })
    }

    /// Whether it took too long by now, if the attempt is still the same.
    pub fn is_over(&self, now: u64) -> bool {
        now.saturating_sub(self.since) > self.first_byte
    }

    /// Whether an attempt took too long that Envoy does not end: one that waits for a connection has not begun.
    pub fn is_stuck_now(&mut self, host: &impl Exchange, now: u64) -> bool {
        self.is_over(now) && self.is_stuck(host.attempts(), now) && host.is_connected()
    }

    /// Whether an attempt that takes too long is still there when it is looked at for the second time: by then Envoy has
    /// begun another one, if it will.
    fn is_stuck(&mut self, attempt: u64, now: u64) -> bool {
        if attempt > self.attempt {
            (self.attempt, self.since, self.late) = (attempt, now, false);
            return false;
        }
        core::mem::replace(&mut self.late, true)
    }
}

/// A streamed answer that may not be silent for ever.
#[derive(Debug)]
pub struct Silence {
    /// Longest time to the first event, until it is there; nanoseconds.
    first_event: Option<u64>,
    /// Longest time without anything new; nanoseconds.
    idle: Option<u64>,
    /// When its headers came; nanoseconds since 1970.
    begun: u64,
    /// When something new was last seen to have come.
    moved: u64,
    /// Whether something new came since.
    moves: bool,
    /// Whether nothing of it went out yet.
    held: bool,
    /// What came; `None` where it is no text, and all of it is new.
    progress: Option<Progress>,
}

impl Silence {
    /// For an answer of this model whose headers are there; `None` where it may be silent for ever.
    /// `text`: it may be events.
    pub fn of(model: &Model, text: bool, now: impl FnOnce() -> Option<u64>) -> Option<Self> {
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
            progress: text.then(Progress::default),
        })
    }

    /// Whether its headers wait for its first piece.
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// A piece of it came; `None` if it can't be read.
    pub fn came(&mut self, piece: impl FnOnce() -> Option<Vec<u8>>) {
        self.held = false;
        // Of what moved since it was last looked at it is known that it is not silent.
        let new = match &mut self.progress {
            Some(progress) => piece().is_none_or(|piece| progress.read(&piece, !self.moves)),
            None => true,
        };
        if new {
            self.moves = true;
            self.first_event = None;
        }
    }

    /// Whether it was silent for too long by now.
    pub fn is_over(&mut self, now: u64) -> bool {
        if core::mem::take(&mut self.moves) {
            self.moved = now;
        }
        let over =
            |since: u64, longest: Option<u64>| longest.is_some_and(|most| now.saturating_sub(since) > most);
        over(self.begun, self.first_event) || (!self.held && over(self.moved, self.idle))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::catalogue::{Catalogue, RawCatalogue};
    use crate::config::from_json;

    const SECOND: u64 = 1_000_000_000;

    /// A model with these time-outs.
    fn catalogue(timeouts: &Value) -> Catalogue {
        let targets = json!([{"cluster": "a"}]);
        let model = json!({"endpoints": ["chat"], "targets": targets, "timeouts": timeouts});
        let raw = json!({"models": {"m": model}}).to_string();
        let raw: RawCatalogue = from_json(raw.as_bytes()).unwrap();
        Catalogue::try_from(raw).unwrap()
    }

    fn first_byte(timeouts: &Value) -> Option<FirstByte> {
        FirstByte::of(catalogue(timeouts).get("m").unwrap(), 0)
    }

    fn silence(timeouts: &Value, text: bool) -> Option<Silence> {
        Silence::of(catalogue(timeouts).get("m").unwrap(), text, || Some(100 * SECOND))
    }

    #[test]
    fn an_attempt_that_envoy_does_not_end_is_stuck() {
        let mut wait = first_byte(&json!({"first_byte": "10s"})).unwrap();
        assert!(!wait.is_over(10 * SECOND) && wait.is_over(10 * SECOND + 1));
        // Envoy may begin another one.
        assert!(!wait.is_stuck(1, 11 * SECOND));
        assert!(!wait.is_stuck(2, 12 * SECOND) && !wait.is_over(22 * SECOND));
        assert!(!wait.is_stuck(2, 23 * SECOND) && wait.is_stuck(2, 24 * SECOND));
        assert!(first_byte(&json!({})).is_none());
    }

    #[test]
    fn an_answer_waits_for_its_first_event_and_no_longer() {
        let timeouts = json!({"first_event": "5s"});
        let mut silent = silence(&timeouts, true).unwrap();
        assert!(silent.is_held() && !silent.is_over(105 * SECOND) && silent.is_over(106 * SECOND));
        let mut spoke = silence(&timeouts, true).unwrap();
        // A comment is no event.
        spoke.came(|| Some(b": ping\n\n".to_vec()));
        assert!(!spoke.is_held() && spoke.is_over(106 * SECOND));
        spoke.came(|| Some(b"data: {}\n\n".to_vec()));
        assert!(!spoke.is_over(1_000 * SECOND));
    }

    #[test]
    fn an_answer_that_moves_is_not_silent() {
        let mut moving = silence(&json!({"idle": "20s"}), false).unwrap();
        assert!(!moving.is_held());
        for now in [119, 138, 157] {
            moving.came(|| None);
            assert!(!moving.is_over(now * SECOND), "{now}");
        }
        assert!(!moving.is_over(177 * SECOND) && moving.is_over(178 * SECOND));
        assert!(silence(&json!({}), true).is_none());
    }
}

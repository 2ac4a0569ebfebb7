//! What a model server saw and produced, written by itself: the independent side of every account.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde_json::{Value, json};

use super::request::Ask;

/// How an answer ended, as the model server saw it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// Still being answered.
    #[default]
    Running,
    /// The last byte was handed to the connection.
    Completed,
    /// The peer (the gateway) closed or reset before the end.
    Aborted,
    /// The server itself broke off, because a fault told it to.
    Cut,
}

/// One request, as the model server saw it.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The id in the answer (`chatcmpl-…`, `resp_…`, `msg_…`), also there when the answer has none.
    pub id: String,
    /// `x-request-id` as received.
    pub request_id: Option<String>,
    /// `GET`, `POST`.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// All headers received, names in lower case, in the order received.
    pub headers: Vec<(String, String)>,
    /// The body received.
    pub body: Bytes,
    /// `model` of the body or the form; empty when there was none.
    pub model: String,
    /// The request said `"stream": true`.
    pub stream: bool,
    /// Status of the answer; 0 when the connection was closed without one.
    pub status: u16,
    /// Tokens of the request, by the server's own count.
    pub input_tokens: u64,
    /// Tokens produced so far: on a stream, those handed to the connection. True also where
    /// [`super::Usage`] made the server report something else.
    pub output_tokens: u64,
    /// How it ended.
    pub ending: Ending,
    /// When its headers had come, in nanoseconds since 1970.
    pub arrived: u64,
    /// When it ended, likewise: before its last byte could reach anybody. 0 while it runs.
    pub ended: u64,
}

impl Seen {
    /// The first value of a header, by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }

    /// The row as `/seen` shows it. `headers` is a list of pairs, as a name may come twice; no body.
    pub fn json(&self) -> Value {
        json!({
            "id": self.id,
            "request_id": self.request_id,
            "method": self.method,
            "path": self.path,
            "headers": self.headers,
            "model": self.model,
            "stream": self.stream,
            "status": self.status,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "ending": format!("{:?}", self.ending).to_lowercase(),
        })
    }
}

/// The requests a server has seen, oldest first. Clones are the same ledger.
#[derive(Clone, Debug)]
pub struct Ledger(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    rows: VecDeque<Seen>,
    /// Number of the first row kept.
    first: u64,
    keep: usize,
}

impl Ledger {
    pub(super) fn new(keep: usize) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            rows: VecDeque::new(),
            first: 0,
            keep,
        })))
    }

    /// A poisoned lock means that a test panicked in its own closure; the rows are still whole.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All rows kept, oldest first.
    pub fn rows(&self) -> Vec<Seen> {
        self.lock().rows.iter().cloned().collect()
    }

    /// Looks at the rows without copying them.
    pub fn with<T>(&self, look: impl FnOnce(&VecDeque<Seen>) -> T) -> T {
        look(&self.lock().rows)
    }

    /// Requests seen since the start, those no longer kept included.
    pub fn total(&self) -> u64 {
        let inner = self.lock();
        inner.first + inner.rows.len() as u64
    }

    /// Forgets the rows, so that a test's next step starts on an empty page. [`Ledger::total`] goes on.
    pub fn clear(&self) {
        let mut inner = self.lock();
        inner.first += inner.rows.len() as u64;
        inner.rows.clear();
    }

    /// Whether rows are kept at all.
    pub(super) fn keeps(&self) -> bool {
        self.lock().keep > 0
    }

    /// Opens a row; the entry closes it, at the latest when dropped.
    pub(super) fn open(&self, seen: Seen) -> Entry {
        let seen = Seen {
            arrived: now(),
            ..seen
        };
        let mut inner = self.lock();
        inner.rows.push_back(seen);
        let number = inner.first + inner.rows.len() as u64 - 1;
        if inner.rows.len() > inner.keep {
            inner.rows.pop_front();
            inner.first += 1;
        }
        Entry {
            ledger: self.clone(),
            number,
            open: true,
        }
    }
}

/// Nanoseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// A row that is being written. Dropped while open, the answer was [`Ending::Aborted`].
#[derive(Debug)]
pub(super) struct Entry {
    ledger: Ledger,
    number: u64,
    open: bool,
}

impl Entry {
    fn write(&self, change: impl FnOnce(&mut Seen)) {
        let mut inner = self.ledger.lock();
        let row = self
            .number
            .checked_sub(inner.first)
            .and_then(|i| usize::try_from(i).ok());
        if let Some(row) = row.and_then(|i| inner.rows.get_mut(i)) {
            change(row);
        }
    }

    pub(super) fn body(&self, body: &Bytes) {
        self.write(|row| row.body.clone_from(body));
    }

    pub(super) fn ask(&self, ask: &Ask) {
        self.write(|row| {
            row.model.clone_from(&ask.model);
            row.stream = ask.stream;
            row.input_tokens = ask.input_tokens;
        });
    }

    pub(super) fn status(&self, status: u16) {
        self.write(|row| row.status = status);
    }

    pub(super) fn produced(&self, tokens: u64) {
        if tokens > 0 {
            self.write(|row| row.output_tokens += tokens);
        }
    }

    pub(super) fn close(&mut self, ending: Ending) {
        if std::mem::replace(&mut self.open, false) {
            self.write(|row| (row.ending, row.ended) = (ending, now()));
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.close(Ending::Aborted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(id: &str) -> Seen {
        Seen {
            id: id.to_owned(),
            ..Seen::default()
        }
    }

    #[test]
    fn keeps_the_latest_rows_and_counts_all() {
        let ledger = Ledger::new(2);
        let mut first = ledger.open(seen("a"));
        let second = ledger.open(seen("b"));
        let mut third = ledger.open(seen("c"));
        first.close(Ending::Completed);
        drop(second);
        third.produced(5);
        third.close(Ending::Cut);
        let rows = ledger.rows();
        assert_eq!(rows.iter().map(|r| r.id.as_str()).collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!((rows[0].ending, rows[1].ending), (Ending::Aborted, Ending::Cut));
        assert!(0 < rows[0].arrived && rows[0].arrived <= rows[1].arrived);
        assert!(rows[1].arrived <= rows[0].ended && rows[0].ended <= rows[1].ended);
        assert_eq!(rows[1].output_tokens, 5);
        assert_eq!(ledger.total(), 3);
        ledger.clear();
        assert_eq!((ledger.rows().len(), ledger.total()), (0, 3));
    }

    #[test]
    fn a_ledger_that_keeps_nothing_still_counts() {
        let ledger = Ledger::new(0);
        ledger.open(seen("a")).close(Ending::Completed);
        ledger.open(seen("b")).produced(1);
        assert_eq!((ledger.rows().len(), ledger.total()), (0, 2));
    }
}

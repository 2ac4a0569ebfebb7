//! An answer as it passes: what it says of its usage, and what went by.

use super::terms::Terms;
use crate::usage::{Chunk, Form, Kind, Reader, UsageEvent, Volume};

/// What an answer's head says.
#[derive(Debug, Clone, Copy, Default)]
pub struct Head<'a> {
    /// `:status`, as it is written.
    pub status: Option<&'a str>,
    /// `content-type`.
    pub content_type: Option<&'a [u8]>,
    /// `content-encoding`.
    pub content_encoding: Option<&'a [u8]>,
    /// Whether it says how long the body is.
    pub has_length: bool,
}

impl Head<'_> {
    /// Whether the answer becomes shorter than it says where the event with the usage is stripped.
    pub fn is_shortened(&self, terms: &Terms, event: UsageEvent) -> bool {
        event == UsageEvent::Strip
            && self.has_length
            && self.status.is_some_and(|status| status < "4")
            && self.kind(terms).is_some()
    }

    fn kind(&self, terms: &Terms) -> Option<Kind> {
        Kind::at(terms.endpoint, terms.plain, self.content_type)
    }
}

/// An answer that has begun.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status; zero where the head could not be read.
    pub(super) status: u16,
    first_byte_ms: u64,
    pub(super) reader: Reader,
    form: Form,
    /// What went by until a piece of it could not be read; the reader is of what comes after.
    pub(super) unread: Volume,
    pub(super) is_whole: bool,
    pub(super) is_errored: bool,
}

/// What comes of a piece of an answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Read {
    /// What goes on to the client.
    pub chunk: Chunk,
    /// With it the answer says that something went wrong: its target has failed.
    pub errored: bool,
}

impl Answer {
    /// One with this head, so long after its request. `end` if it has no body.
    pub fn begin(terms: &Terms, head: &Head<'_>, event: UsageEvent, first_byte_ms: u64, end: bool) -> Self {
        let (label, coding) = (head.content_type, head.content_encoding);
        let status = head.status.and_then(|status| status.parse().ok()).unwrap_or(0);
        Self {
            status,
            first_byte_ms,
            reader: Reader::coded(head.kind(terms), event, coding),
            form: Form::of(terms.endpoint, terms.plain, status, label, coding),
            unread: Volume::default(),
            is_whole: end,
            is_errored: false,
        }
    }

    /// HTTP status; zero where the head could not be read.
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// Milliseconds from the request until it began.
    pub const fn first_byte_ms(&self) -> u64 {
        self.first_byte_ms
    }

    /// Whether all of it has come.
    pub const fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Whether it began with success and said then that something went wrong.
    pub const fn is_errored(&self) -> bool {
        self.is_errored
    }

    /// Reads what passes; `end` with the last piece, which may be empty.
    pub fn read(&mut self, chunk: &[u8], end: bool) -> Read {
        self.is_whole |= end;
        self.form.push(chunk);
        let chunk = self.reader.push(chunk, end);
        let errored = !self.is_errored && self.status < 400 && self.reader.errored();
        self.is_errored |= errored;
        Read { chunk, errored }
    }

    /// A piece of so many bytes passes that could not be read. What was not read cannot be counted on: from here on
    /// nothing is, and it is settled by what went by.
    pub fn skip(&mut self, len: u64, end: bool) {
        self.is_whole |= end;
        let skipped = Volume {
            bytes: len,
            ..Volume::default()
        };
        self.unread = self.unread.and(self.reader.volume()).and(skipped);
        self.reader = Reader::new(None, UsageEvent::Pass);
    }

    /// Whether it refuses the request (400, 413, 422) later than by looking at it: some servers find out by what their model
    /// wrote, such as a call of a tool that its cap cut off.
    pub(super) const fn is_late_refusal(&self) -> bool {
        /// Milliseconds in which a request is looked at, and hardly anything is written.
        const LOOKED_AT: u64 = 500;
        matches!(self.status, 400 | 413 | 422) && self.first_byte_ms >= LOOKED_AT
    }

    /// All of it has come.
    pub const fn end(&mut self) {
        self.is_whole = true;
    }

    /// Whether it is not an answer of its endpoint: no model has written it. `whole` if all of it has come.
    pub(super) fn is_none(&self, whole: bool) -> bool {
        let is_empty = || {
            let read = self.unread == Volume::default() && !self.reader.finished();
            read && self.form.is_empty(self.reader.volume())
        };
        self.form.is_page() || (whole && is_empty())
    }
}

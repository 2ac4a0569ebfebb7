//! Server-sent events, looked at one by one in the chunk they come in. Only one that is not complete is held.
//!
//! Lines end in LF, CR LF or CR; a blank one ends an event. What is read of an event is its data and its name. One that
//! is longer than [`Reader::MAX_HELD`](super::Reader::MAX_HELD) passes, and is scanned meanwhile. An escaped name
//! (`"\u0075sage"`) is not looked for, and an event that gives a member of interest twice says nothing: no server
//! writes either.

mod event;
mod long;
mod text;

use core::ops::Range;
use std::borrow::Cow;

use memchr::memchr2;

use super::content::{Content, is_error, is_last};
use super::report::Reported;
use super::{Chunk, Reader, Usage, UsageEvent, Volume};
use event::{Event, Surplus};
use long::Long;

/// What was seen of one stream.
#[derive(Debug)]
pub(super) struct Stream {
    usage_event: UsageEvent,
    /// What came of the event under way; empty once it is too long.
    held: Vec<u8>,
    /// Scans the event under way once it is too long.
    long: Option<Box<Long>>,
    /// How long the event under way is so far.
    length: usize,
    /// How many lines of it have ended.
    lines: usize,
    /// Whether the line under way has no byte yet.
    line_empty: bool,
    /// Whether the last byte was a CR, whose LF may follow.
    after_cr: bool,
    /// Whether the last event was taken out.
    dropped: bool,
    /// Whether an event was complete already: a byte order mark can't come any more.
    begun: bool,
    finished: bool,
    errored: bool,
    volume: Volume,
    /// What was produced when the usage was last reported.
    covered: Volume,
    reported: Reported,
    /// How many events were looked into.
    looked_at: u32,
}

/// Events that are looked into for what they say: an answer has fewer tokens.
const MAX_LOOKED_AT: u32 = 1 << 17;

impl Stream {
    pub(super) fn new(usage_event: UsageEvent) -> Self {
        Self {
            usage_event,
            held: Vec::new(),
            long: None,
            length: 0,
            lines: 0,
            line_empty: true,
            after_cr: false,
            dropped: false,
            begun: false,
            finished: false,
            errored: false,
            volume: Volume::default(),
            covered: Volume::default(),
            reported: Reported::Nothing,
            looked_at: 0,
        }
    }

    pub(super) fn push(&mut self, chunk: &[u8], end: bool) -> Chunk {
        let mut passing = Passing::new(chunk, self.usage_event);
        let mut at = 0;
        while at < chunk.len() {
            if self.length == 0 && core::mem::take(&mut self.after_cr) && chunk.get(at) == Some(&b'\n') {
                // Belongs to the blank line of the event before.
                if self.dropped {
                    passing.drop(at..at + 1);
                }
                at += 1;
                continue;
            }
            let complete = self.event_end(chunk, at);
            let next = complete.unwrap_or(chunk.len());
            self.part(at..next, complete.is_some(), &mut passing);
            at = next;
        }
        if end && self.length > 0 {
            self.cut_short(&mut passing);
        }
        passing.done()
    }

    pub(super) fn usage(&self) -> Option<Usage> {
        self.reported.usage()
    }

    pub(super) fn volume(&self) -> Volume {
        self.volume
    }

    pub(super) fn unreported(&self) -> Volume {
        self.volume.since(self.covered)
    }

    pub(super) fn finished(&self) -> bool {
        self.finished
    }

    pub(super) fn audio_seconds(&self) -> u64 {
        self.reported.seconds()
    }

    pub(super) fn unusable(&self) -> bool {
        matches!(self.reported, Reported::Unusable)
    }

    pub(super) fn errored(&self) -> bool {
        self.errored
    }

    pub(super) fn held(&self) -> usize {
        self.held.len() + self.long.as_ref().map_or(0, |long| long.held())
    }

    /// Where the event ends that is under way at `at`: behind its blank line, save the LF of a CR LF.
    fn event_end(&mut self, chunk: &[u8], mut at: usize) -> Option<usize> {
        loop {
            let rest = chunk.get(at..).filter(|rest| !rest.is_empty())?;
            if core::mem::take(&mut self.after_cr) && rest.first() == Some(&b'\n') {
                at += 1;
                continue;
            }
            let Some(offset) = memchr2(b'\n', b'\r', rest) else {
                self.line_empty = false;
                return None;
            };
            let blank = self.line_empty && offset == 0;
            self.lines += 1;
            self.line_empty = true;
            self.after_cr = rest.get(offset) == Some(&b'\r');
            at += offset + 1;
            if blank {
                return Some(at);
            }
        }
    }

    /// The part of an event that stands at `range`, the last one if `complete`.
    fn part(&mut self, range: Range<usize>, complete: bool, passing: &mut Passing<'_>) {
        let part = passing.chunk.get(range.clone()).unwrap_or_default();
        self.length += part.len();
        if self.length > Reader::MAX_HELD {
            self.pass_long(part, passing);
        } else if !complete {
            self.held.extend_from_slice(part);
            passing.drop(range);
        } else if self.held.is_empty() {
            let surplus = self.look(part, &self.whole(part), passing.may_say(&range));
            self.dropped = surplus == Surplus::Event;
            match surplus {
                Surplus::Nothing => {}
                Surplus::Event => passing.drop(range),
                Surplus::Member(member) => {
                    passing.drop(range.start + member.start..range.start + member.end);
                }
            }
        } else {
            let mut event = core::mem::take(&mut self.held);
            let earlier = event.len();
            event.extend_from_slice(part);
            let surplus = self.look(&event, &self.whole(&event), true);
            self.dropped = surplus == Surplus::Event;
            match surplus {
                Surplus::Nothing => passing.put(event.get(..earlier).unwrap_or_default()),
                Surplus::Event => passing.drop(range),
                Surplus::Member(member) => {
                    passing.drop(range);
                    passing.put(event.get(..member.start).unwrap_or_default());
                    passing.put(event.get(member.end..).unwrap_or_default());
                }
            }
            event.clear();
            self.held = event;
        }
        if complete {
            self.ended();
        }
    }

    /// Too long: what is held goes on, and `part` behind it.
    fn pass_long(&mut self, part: &[u8], passing: &mut Passing<'_>) {
        let held = core::mem::take(&mut self.held);
        let len = (held.len() + part.len()) as u64;
        self.volume.bytes += len;
        self.volume.text += len;
        self.dropped = false;
        let mut long = self.long.take().unwrap_or_default();
        long.push(if held.is_empty() {
            &[]
        } else {
            self.unmarked(&held)
        });
        // Of an event that is too long in its first chunk nothing was held.
        let begins = held.is_empty() && self.length == part.len();
        long.push(if begins { self.unmarked(part) } else { part });
        self.long = Some(long);
        passing.put(&held);
    }

    /// The stream ends in an event. A client drops it; but what it says is true, if it says all of it.
    fn cut_short(&mut self, passing: &mut Passing<'_>) {
        let event = core::mem::take(&mut self.held);
        if !event.is_empty() {
            self.look(&event, &Event::of(self.unmarked(&event)), true);
            passing.put(&event);
        }
        self.ended();
    }

    fn ended(&mut self) {
        if let Some(long) = self.long.take() {
            self.volume.events += 1;
            self.take(&long.content());
        }
        (self.length, self.lines) = (0, 0);
        self.begun = true;
    }

    /// A complete event. Nearly all have one line and the blank one behind it.
    fn whole<'e>(&self, bytes: &'e [u8]) -> Event<'e> {
        let bytes = self.unmarked(bytes);
        if self.lines == 2 {
            Event::of_one_line(bytes)
        } else {
            Event::of(bytes)
        }
    }

    /// An event without the byte order mark that the first may begin with.
    fn unmarked<'e>(&self, bytes: &'e [u8]) -> &'e [u8] {
        match bytes.strip_prefix(b"\xEF\xBB\xBF") {
            Some(rest) if !self.begun => rest,
            _ => bytes,
        }
    }

    /// Takes note of an event that stands in `bytes`; what of them is to be taken out.
    fn look(&mut self, bytes: &[u8], event: &Event<'_>, may_report: bool) -> Surplus {
        self.errored |= event.errored;
        let Some(data) = event.data.as_deref().filter(|data| !data.is_empty()) else {
            return Surplus::Nothing;
        };
        if data.trim_ascii() == b"[DONE]" {
            self.finished = true;
            return Surplus::Nothing;
        }
        self.volume.events += 1;
        self.volume.bytes += data.len() as u64;
        let text = text::written(data);
        self.volume.text += text;
        self.volume.least += text::least(text);
        self.finished |= event.name.is_some_and(is_last);
        self.errored |= event.name.is_some_and(is_error);
        if !may_report || (self.usage_event == UsageEvent::Pass && self.looked_at >= MAX_LOOKED_AT) {
            return Surplus::Nothing;
        }
        self.looked_at += 1;
        let (content, surplus) = event::read(data);
        self.take(&content);
        match surplus {
            _ if self.usage_event == UsageEvent::Pass => Surplus::Nothing,
            Surplus::Member(member) => match &event.data {
                Some(Cow::Borrowed(data)) => {
                    let from = (data.as_ptr() as usize).wrapping_sub(bytes.as_ptr() as usize);
                    Surplus::Member(from.wrapping_add(member.start)..from.wrapping_add(member.end))
                }
                // Its data has several lines: it passes as it is.
                _ => Surplus::Nothing,
            },
            surplus => surplus,
        }
    }

    /// Takes note of what an event says.
    fn take(&mut self, content: &Content) {
        self.finished |= content.ends;
        self.errored |= content.errored;
        if !matches!(content.reported, Reported::Nothing) {
            self.covered = self.volume;
        }
        self.reported = self.reported.then(content.reported);
    }
}

/// What of a chunk goes on, put together only where it differs from the chunk.
struct Passing<'c> {
    chunk: &'c [u8],
    /// What [`event::FIND`] found last; `None` until somebody asks.
    said_at: [Option<usize>; 2],
    /// Nothing is withheld or taken out.
    all: bool,
    /// Up to where the chunk is dealt with in `changed`.
    from: usize,
    changed: Option<Vec<u8>>,
}

impl<'c> Passing<'c> {
    fn new(chunk: &'c [u8], usage_event: UsageEvent) -> Self {
        Self {
            chunk,
            said_at: [None; 2],
            all: usage_event == UsageEvent::Pass,
            from: 0,
            changed: None,
        }
    }

    /// Whether a member that may be called `usage` or `error` stands at `range`, which is behind those that were asked
    /// about. The chunk is searched once, not event by event.
    fn may_say(&mut self, range: &Range<usize>) -> bool {
        let mut says = false;
        for (found, find) in self.said_at.iter_mut().zip(event::FIND) {
            let at = match *found {
                Some(at) if at >= range.start => at,
                _ => find(self.chunk, range.start),
            };
            *found = Some(at);
            says |= at < range.end;
        }
        says
    }

    /// Leaves out what stands at `range`, behind all that was dealt with.
    fn drop(&mut self, range: Range<usize>) {
        if self.all {
            return;
        }
        let before = self.chunk.get(self.from..range.start).unwrap_or_default();
        self.changed.get_or_insert_default().extend_from_slice(before);
        self.from = range.end;
    }

    /// Puts what was withheld before what is not dealt with.
    fn put(&mut self, bytes: &[u8]) {
        if !self.all && !bytes.is_empty() {
            self.changed.get_or_insert_default().extend_from_slice(bytes);
        }
    }

    fn done(self) -> Chunk {
        let Some(mut changed) = self.changed else {
            return Chunk::Unchanged;
        };
        changed.extend_from_slice(self.chunk.get(self.from..).unwrap_or_default());
        Chunk::Replaced(changed)
    }
}

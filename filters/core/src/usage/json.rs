//! A JSON object, or one a line, of which only a few members are of interest: `usage`, and whether there is an `error`; of an event also
//! its `type`, and the usage of the `response` or `message` in it. They are found without reading the rest, and without
//! holding any of it.
//!
//! The body is scanned, not checked: of a document that is none, nothing sensible is read, and nothing else goes
//! wrong. A name may be written with escapes, and of several members called `usage` the last counts, as for every
//! reader that builds a tree.

use core::cell::OnceCell;
use std::borrow::Cow;

use memchr::memchr2;

use super::content::{Content, TrimQuotes as _, is_error, is_last};
use super::report::Reported;
use super::{Usage, Volume};

/// The longest `usage` that is read, in bytes; OpenAI's has about 300.
const MAX_KEPT: usize = 4 << 10;
/// Documents, one a line, whose usages are put together; of further ones the last counts.
const MAX_DOCUMENTS: u64 = 1 << 14;

/// The scan of one object.
#[derive(Debug, Default)]
pub(super) struct Body {
    place: Place,
    /// How many arrays and objects are open inside the member's value.
    depth: u64,
    /// Whether the byte before was a backslash in a string.
    escaped: bool,
    /// What the member under way is to us.
    wanted: Wanted,
    /// Whether this is the data of an event.
    of_event: bool,
    /// Whether the members are those of its `response` or `message`.
    inner: bool,
    kept: Capture,
    bytes: u64,
    /// Documents that are whole.
    documents: u64,
    /// Whether a line ended behind the last.
    line_ended: bool,
    /// What those before reported, where there were any.
    earlier: Option<Box<Reported>>,
    /// The last `usage`. It is read once it is asked for, as there may be many.
    reported: Last,
    /// That of the `response` or `message` in it.
    reported_inside: Last,
    /// What all of these say, once it was asked for.
    known: OnceCell<Reported>,
    errored: bool,
    ends: bool,
}

/// What a member is to us.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    #[default]
    Nothing,
    Usage,
    Error,
    /// `type` or `object`, which name what an event is.
    Kind,
    /// `response` or `message`.
    Inside,
}

/// Where in the document the next byte stands.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    #[default]
    Before,
    /// In the outermost object, between members.
    Members,
    Name,
    Colon,
    /// Before a value.
    Value,
    /// In a number, `true`, `false` or `null`.
    Scalar,
    /// In a string that is a value or in one.
    Text,
    /// In an array or object, outside strings.
    Nested,
    After,
    /// In something that is no JSON object.
    Lost,
}

impl Body {
    /// One that reads the data of an event.
    pub(super) fn of_event() -> Self {
        Self {
            of_event: true,
            ..Self::default()
        }
    }

    /// One behind so many bytes of white space.
    pub(super) fn after(bytes: u64) -> Self {
        Self {
            bytes,
            ..Self::default()
        }
    }

    /// What the data of an event says, once it is whole.
    pub(super) fn content(&self) -> Content {
        if !self.finished() {
            return Content::default();
        }
        Content {
            reported: self.reported(),
            errored: self.errored,
            ends: self.ends,
        }
    }

    pub(super) fn push(&mut self, chunk: &[u8]) {
        self.bytes += chunk.len() as u64;
        let mut at = 0;
        while let Some(&byte) = chunk.get(at) {
            at = match self.place {
                Place::Name | Place::Text => self.string(chunk, at),
                Place::Nested => self.nested(chunk, at),
                Place::Lost => return,
                _ => self.flat(chunk, at, byte),
            };
        }
        self.kept.carry(chunk);
    }

    pub(super) fn usage(&self) -> Option<Usage> {
        self.reported().usage().filter(|_| self.finished())
    }

    /// What all documents report so far.
    fn reported(&self) -> Reported {
        *self.known.get_or_init(|| self.read())
    }

    fn read(&self) -> Reported {
        let last = match self.reported.read() {
            Reported::Nothing => self.reported_inside.read(),
            reported => reported,
        };
        self.earlier.as_ref().map_or(last, |earlier| earlier.then(last))
    }

    pub(super) fn audio_seconds(&self) -> u64 {
        if self.finished() {
            self.reported().seconds()
        } else {
            0
        }
    }

    pub(super) fn unusable(&self) -> bool {
        matches!(self.reported(), Reported::Unusable)
    }

    /// Whether it says that something went wrong.
    pub(super) fn errored(&self) -> bool {
        self.errored && self.finished()
    }

    pub(super) fn volume(&self) -> Volume {
        Volume {
            events: if self.of_event { self.documents } else { 0 },
            bytes: self.bytes,
            ..Volume::default()
        }
    }

    pub(super) fn finished(&self) -> bool {
        self.place == Place::After
    }

    pub(super) fn held(&self) -> usize {
        self.kept.earlier.len() + self.reported.held() + self.reported_inside.held()
    }

    /// One byte outside strings, arrays and inner objects; returns where to go on.
    fn flat(&mut self, chunk: &[u8], at: usize, byte: u8) -> usize {
        self.place = match (self.place, byte) {
            (Place::Scalar, b',' | b'}') => {
                self.value_ends(chunk, at);
                return at;
            }
            (Place::Scalar, _) => Place::Scalar,
            // A byte order mark.
            (Place::Before, b'\xEF' | b'\xBB' | b'\xBF') => Place::Before,
            // The last is of `application/json-seq`.
            (place, b' ' | b'\t' | b'\n' | b'\r' | b'\x1E') => {
                self.line_ended |= place == Place::After && byte == b'\n';
                place
            }
            (Place::After, b'{') if core::mem::take(&mut self.line_ended) => {
                if self.documents <= MAX_DOCUMENTS {
                    self.earlier = Some(Box::new(self.reported()));
                }
                (self.reported, self.reported_inside) = (Last::Nothing, Last::Nothing);
                self.known.take();
                Place::Members
            }
            (Place::Before, b'{') | (Place::Members, b',') => Place::Members,
            (Place::Members, b'"') => {
                self.kept.begin(at);
                Place::Name
            }
            (Place::Members, b'}') if core::mem::take(&mut self.inner) => Place::Members,
            (Place::Members, b'}') => {
                self.documents += 1;
                Place::After
            }
            (Place::Colon, b':') => Place::Value,
            (Place::Value, _) => self.value_begins(at, byte),
            _ => Place::Lost,
        };
        if self.place == Place::Lost {
            self.kept = Capture::default();
        }
        at + 1
    }

    fn value_begins(&mut self, at: usize, byte: u8) -> Place {
        match self.wanted {
            Wanted::Usage | Wanted::Kind => self.kept.begin(at),
            Wanted::Error => self.errored |= matches!(byte, b'{' | b'"'),
            Wanted::Inside if byte == b'{' => {
                self.wanted = Wanted::Nothing;
                self.inner = true;
                return Place::Members;
            }
            Wanted::Inside | Wanted::Nothing => {}
        }
        match byte {
            b'"' => Place::Text,
            b'{' | b'[' => {
                self.depth = 1;
                Place::Nested
            }
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => Place::Scalar,
            _ => Place::Lost,
        }
    }

    fn string(&mut self, chunk: &[u8], at: usize) -> usize {
        if core::mem::take(&mut self.escaped) {
            return at + 1;
        }
        let rest = chunk.get(at..).unwrap_or_default();
        let Some(offset) = memchr2(b'"', b'\\', rest) else {
            return chunk.len();
        };
        let next = at + offset + 1;
        if rest.get(offset) == Some(&b'\\') {
            self.escaped = true;
        } else if self.place == Place::Name {
            let name = self.kept.end(chunk, next);
            self.wanted = name.map_or(Wanted::Nothing, |name| self.wants(&name));
            self.place = Place::Colon;
        } else if self.depth == 0 {
            self.value_ends(chunk, next);
        } else {
            self.place = Place::Nested;
        }
        next
    }

    fn nested(&mut self, chunk: &[u8], mut at: usize) -> usize {
        loop {
            let rest = chunk.get(at..).unwrap_or_default();
            let Some(offset) = structural(rest) else {
                return chunk.len();
            };
            at += offset + 1;
            match rest.get(offset) {
                Some(b'"') => match plain_string(chunk, at) {
                    Some(end) => at = end,
                    None => {
                        self.place = Place::Text;
                        return at;
                    }
                },
                Some(b'{' | b'[') => self.depth += 1,
                _ => self.depth -= 1,
            }
            if self.depth == 0 {
                self.value_ends(chunk, at);
                return at;
            }
        }
    }

    /// `end` is where the chunk goes on behind the value.
    fn value_ends(&mut self, chunk: &[u8], end: usize) {
        self.place = Place::Members;
        match core::mem::take(&mut self.wanted) {
            Wanted::Usage => {
                let value = self.kept.end(chunk, end);
                let last = if self.inner {
                    &mut self.reported_inside
                } else {
                    &mut self.reported
                };
                last.is(value.as_deref());
                self.known.take();
            }
            Wanted::Kind => {
                if let Some(kind) = self.kept.end(chunk, end) {
                    let kind = kind.trim_ascii().trim_quotes();
                    self.ends |= is_last(kind);
                    self.errored |= is_error(kind);
                }
            }
            Wanted::Nothing | Wanted::Error | Wanted::Inside => {}
        }
    }

    /// What a member of this name is; `name` with its quotes.
    fn wants(&self, name: &[u8]) -> Wanted {
        if name.contains(&b'\\') {
            let name = serde_json::from_slice::<String>(name).unwrap_or_default();
            return self.named(name.as_bytes());
        }
        self.named(name.trim_quotes())
    }

    fn named(&self, name: &[u8]) -> Wanted {
        match name {
            b"usage" => Wanted::Usage,
            _ if self.inner => Wanted::Nothing,
            b"error" => Wanted::Error,
            b"type" | b"object" if self.of_event => Wanted::Kind,
            b"response" | b"message" if self.of_event => Wanted::Inside,
            _ => Wanted::Nothing,
        }
    }
}

/// The last value of a member called `usage`.
#[derive(Debug, Default)]
enum Last {
    #[default]
    Nothing,
    Json(Vec<u8>),
    TooLong,
}

impl Last {
    fn is(&mut self, json: Option<&[u8]>) {
        match (json, &mut *self) {
            (Some(json), Self::Json(last)) => {
                last.clear();
                last.extend_from_slice(json);
            }
            (Some(json), _) => *self = Self::Json(json.to_vec()),
            (None, _) => *self = Self::TooLong,
        }
    }

    fn read(&self) -> Reported {
        match self {
            Self::Nothing => Reported::Nothing,
            Self::Json(json) => Reported::read(json),
            Self::TooLong => Reported::Unusable,
        }
    }

    fn held(&self) -> usize {
        match self {
            Self::Json(json) => json.len(),
            Self::Nothing | Self::TooLong => 0,
        }
    }
}

/// A stretch of the body that is wanted: in place where one chunk has all of it, else copied together.
#[derive(Debug, Default)]
struct Capture {
    /// Where in this chunk it begins or goes on; `None` while nothing is kept.
    from: Option<usize>,
    /// What earlier chunks had of it.
    earlier: Vec<u8>,
    /// Whether it is longer than may be.
    too_long: bool,
}

impl Capture {
    fn begin(&mut self, at: usize) {
        *self = Self {
            from: Some(at),
            ..Self::default()
        };
    }

    /// The stretch, which ends before `end`; `None` if it is too long.
    fn end<'c>(&mut self, chunk: &'c [u8], end: usize) -> Option<Cow<'c, [u8]>> {
        let part = chunk.get(self.from.take()?..end)?;
        if self.too_long || self.earlier.len() + part.len() > MAX_KEPT {
            *self = Self::default();
            return None;
        }
        if self.earlier.is_empty() {
            return Some(Cow::Borrowed(part));
        }
        let mut all = core::mem::take(&mut self.earlier);
        all.extend_from_slice(part);
        Some(Cow::Owned(all))
    }

    /// The chunk ends before the stretch does.
    fn carry(&mut self, chunk: &[u8]) {
        let Some(part) = self.from.and_then(|from| chunk.get(from..)) else {
            return;
        };
        self.from = Some(0);
        self.too_long |= self.earlier.len() + part.len() > MAX_KEPT;
        if self.too_long {
            self.earlier = Vec::new();
        } else {
            self.earlier.extend_from_slice(part);
        }
    }
}

/// Where the chunk goes on behind a string whose text begins at `from`; `None` if it holds escapes, or does not end here.
fn plain_string(chunk: &[u8], from: usize) -> Option<usize> {
    let rest = chunk.get(from..)?;
    let offset = memchr2(b'"', b'\\', rest)?;
    (rest.get(offset) == Some(&b'"')).then_some(from + offset + 1)
}

/// Where the next byte is that quotes, opens or closes. Eight at a time: a list of numbers has none for long.
fn structural(bytes: &[u8]) -> Option<usize> {
    let is = |byte: &u8| matches!(byte, b'"' | b'{' | b'}' | b'[' | b']');
    let (words, tail) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        if may_be_structural(u64::from_le_bytes(*word))
            && let Some(offset) = word.iter().position(is)
        {
            return Some(index * 8 + offset);
        }
    }
    let offset = tail.iter().position(is)?;
    Some(words.len() * 8 + offset)
}

/// False only if none of the eight bytes is structural.
fn may_be_structural(word: u64) -> bool {
    const EACH: u64 = u64::from_le_bytes([1; 8]);
    let has_zero = |word: u64| word.wrapping_sub(EACH) & !word & (EACH * 0x80) != 0;
    // `[ ] { }` differ from `{` in three bits at most (as do `Y`, `_`, `y` and DEL).
    has_zero(word ^ (EACH * u64::from(b'"')))
        || has_zero((word ^ (EACH * u64::from(b'{'))) & (EACH * u64::from(!0x26_u8)))
}

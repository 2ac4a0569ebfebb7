//! What a model server says a request used, read from a response that passes by in chunks.
//!
//! Nothing that only passes is kept: of a JSON body at most the value of `usage`, of an event stream at most the
//! beginning of one event that is not complete. What can't be read (an encoding, another type, a broken document) passes as well, and
//! says nothing: then the request is settled by an estimate from [`Volume`].

mod coded;
mod content;
mod events;
mod form;
mod json;
pub mod line;
pub mod log;
pub mod plausible;
pub mod record;
mod report;
pub mod sound;
#[cfg(test)]
mod tests;

use coded::{Coded, Coding};
pub use form::Form;

use crate::endpoint::Endpoint;

/// What a byte counts as that is coded in a way that can't be decoded: text shrinks to an eighth, about.
const UNDECODED: u64 = 8;

/// Tokens of one request, as the model server counts them.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Tokens read, those from a cache included: OpenAI's `prompt_tokens` or `input_tokens`; Anthropic's
    /// `input_tokens`, which leaves the cache out, with `cache_read_input_tokens` and `cache_creation_input_tokens`.
    pub input: u64,
    /// Tokens written, reasoning included: `completion_tokens` or `output_tokens`; zero where `total_tokens` says
    /// that there are none (embeddings).
    pub output: u64,
    /// Those of `input` that came from a cache: `cached_tokens` of `prompt_tokens_details` or
    /// `input_tokens_details`; Anthropic's `cache_read_input_tokens`.
    pub cached: u64,
    /// Those of `output` that nobody sees: `reasoning_tokens` of `completion_tokens_details` or
    /// `output_tokens_details`.
    pub reasoning: u64,
    /// Those of `input` that were written to a cache: Anthropic's `cache_creation_input_tokens`.
    pub cache_written: u64,
    /// Those of `cache_written` that stay for an hour: `ephemeral_1h_input_tokens` of Anthropic's `cache_creation`.
    pub cache_written_1h: u64,
    /// Seconds of sound, begun ones whole, where a model server counts by them: OpenAI's `"type": "duration"`.
    pub audio_seconds: u64,
    /// Pictures that were made. No model server reports them.
    pub pictures: u64,
}

/// What went by so far, for an estimate where no usage is reported.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Volume {
    /// Events with data, `[DONE]` not counted; model servers send about one a token. Zero for what is no stream.
    pub events: u64,
    /// Bytes of their data; of what is no stream, bytes of the body. An event too long to be held counts whole.
    pub bytes: u64,
    /// Of these, bytes of text that a model has written, as far as the events of a stream show it.
    pub text: u64,
    /// The least number of tokens that this text can be.
    pub least: u64,
}

impl Volume {
    /// What went by since it was `before`.
    fn since(self, before: Self) -> Self {
        Self {
            events: self.events.saturating_sub(before.events),
            bytes: self.bytes.saturating_sub(before.bytes),
            text: self.text.saturating_sub(before.text),
            least: self.least.saturating_sub(before.least),
        }
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            events: self.events.saturating_add(other.events),
            bytes: self.bytes.saturating_add(other.bytes),
            text: self.text.saturating_add(other.text),
            least: self.least.saturating_add(other.least),
        }
    }
}

/// How a response is written, as far as its headers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Server-sent events: `text/event-stream`.
    Events,
    /// JSON, one document a line: `application/x-ndjson` and its other names.
    Lines,
    /// JSON or events, by its first byte: `application/json`, and any other type, or none, that does not say that it is
    /// neither.
    Text,
}

/// What JSON of one document a line is called.
const LINES: [&[u8]; 6] = [
    b"application/x-ndjson",
    b"application/ndjson",
    b"application/jsonl",
    b"application/x-jsonlines",
    b"application/jsonlines",
    b"application/json-seq",
];

impl Kind {
    /// What the response of an endpoint is, by its `content-type` too; `None` where no usage can stand in it. `plain` if
    /// its client asked for text alone.
    ///
    /// A report is a model server's own word only within JSON or events: what a text says, a customer may have had it say.
    pub fn at(endpoint: Endpoint, plain: bool, content_type: Option<&[u8]>) -> Option<Self> {
        let kind = Self::of(content_type)?;
        let is_labelled = kind != Self::Text || content_type.is_some_and(is_json);
        match endpoint {
            Endpoint::Transcriptions | Endpoint::Translations if plain => {
                (kind == Self::Events).then_some(kind)
            }
            Endpoint::Transcriptions
            | Endpoint::Translations
            | Endpoint::Speech
            | Endpoint::ImagesGenerations
            | Endpoint::ImagesEdits => is_labelled.then_some(kind),
            Endpoint::Embeddings | Endpoint::Moderations => {
                (is_labelled || content_type.is_none()).then_some(kind)
            }
            _ => Some(kind),
        }
    }

    /// What the response's `content-type` says; `None` for sound, pictures and other types that hold no text.
    pub fn of(content_type: Option<&[u8]>) -> Option<Self> {
        let essence = content_type
            .unwrap_or_default()
            .split(|&byte| byte == b';')
            .next();
        let essence = essence.unwrap_or_default().trim_ascii();
        let is = |prefix: &[u8]| {
            let begin = essence.get(..prefix.len());
            begin.is_some_and(|begin| begin.eq_ignore_ascii_case(prefix))
        };
        if essence.eq_ignore_ascii_case(b"text/event-stream") {
            Some(Self::Events)
        } else if LINES.iter().any(|kind| essence.eq_ignore_ascii_case(kind)) {
            Some(Self::Lines)
        } else if is(b"audio/") || is(b"image/") || is(b"video/") || is(b"text/html") {
            None
        } else {
            Some(Self::Text)
        }
    }
}

/// Whether a `content-type` says that it is JSON.
fn is_json(content_type: &[u8]) -> bool {
    let essence = content_type.split(|&byte| byte == b';').next();
    let essence = essence.unwrap_or_default().trim_ascii().to_ascii_lowercase();
    essence == b"application/json" || (essence.starts_with(b"application/") && essence.ends_with(b"+json"))
}

/// What becomes of the event that only says the usage: `usage` an object, and `choices` that say nothing. Members that
/// are the server's own stay, and the event with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsageEvent {
    /// It passes: the client asked for it, or the endpoint has none.
    Pass,
    /// It is taken out: the gateway asked for it (`stream_options.include_usage`), the client did not.
    Strip,
}

/// What of a chunk goes on to the client.
#[derive(Debug, PartialEq, Eq)]
pub enum Chunk {
    /// All of it as it is.
    Unchanged,
    /// This in its place, which may be empty: only with [`UsageEvent::Strip`].
    Replaced(Vec<u8>),
}

/// Reads a response. Feed it each chunk once, in order.
#[derive(Debug)]
pub struct Reader(Layer);

#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are plain, and what holds them is in a box"
)]
enum Layer {
    Plain(Response),
    Coded(Box<Coded>),
}

/// A response as it is once it is decoded.
#[derive(Debug)]
enum Response {
    /// What it is shows in its first byte that is no white space; the bytes before.
    Unseen(UsageEvent, u64),
    Json(json::Body),
    Events(events::Stream),
    /// Nothing that can be read; bytes that passed.
    Opaque(u64),
}

impl Reader {
    /// The most that is held of an event, in bytes. A longer one passes while it is scanned, and is never taken out; of
    /// a JSON document even less is held.
    pub const MAX_HELD: usize = 64 << 10;

    /// A reader for a response of this kind; `None` is one that can't be read.
    pub fn new(kind: Option<Kind>, usage_event: UsageEvent) -> Self {
        Self(Layer::Plain(Response::of(kind, usage_event)))
    }

    /// A reader for a response with this `content-encoding`. What is coded is decoded to be read, and passes as it is.
    pub fn coded(kind: Option<Kind>, usage_event: UsageEvent, content_encoding: Option<&[u8]>) -> Self {
        match Coding::of(content_encoding.unwrap_or_default()) {
            Coding::None => Self::new(kind, usage_event),
            coding => Self(Layer::Coded(Box::new(Coded::new(
                coding,
                Response::of(kind, UsageEvent::Pass),
            )))),
        }
    }

    /// Reads the next chunk; `end` with the last one, which may be empty.
    ///
    /// With [`UsageEvent::Strip`] an event that is not complete is withheld until it is, or until the end.
    pub fn push(&mut self, chunk: &[u8], end: bool) -> Chunk {
        match &mut self.0 {
            Layer::Plain(response) => response.push(chunk, end),
            Layer::Coded(coded) => {
                coded.push(chunk, end);
                Chunk::Unchanged
            }
        }
    }

    fn response(&self) -> &Response {
        match &self.0 {
            Layer::Plain(response) => response,
            Layer::Coded(coded) => coded.response(),
        }
    }

    /// What the model server reported so far; `None` where it said nothing, not enough, or what can't be so (a
    /// count that is negative, no whole number or above 2^53).
    ///
    /// Of a JSON document only once it is complete. Of a stream the latest: a report replaces what earlier ones
    /// said, member by member; one that can't be so undoes them.
    pub fn usage(&self) -> Option<Usage> {
        match self.response() {
            Response::Json(body) => body.usage(),
            Response::Events(stream) => stream.usage(),
            Response::Unseen(..) | Response::Opaque(_) => None,
        }
    }

    /// Seconds of sound that the model server reported so far; beside tokens, or in place of them.
    pub fn audio_seconds(&self) -> u64 {
        match self.response() {
            Response::Json(body) => body.audio_seconds(),
            Response::Events(stream) => stream.audio_seconds(),
            Response::Unseen(..) | Response::Opaque(_) => 0,
        }
    }

    /// Whether the model server reported what can't be so, by itself: a count that is negative, no whole number or above
    /// 2^53.
    pub fn unusable(&self) -> bool {
        match self.response() {
            Response::Json(body) => body.unusable(),
            Response::Events(stream) => stream.unusable(),
            Response::Unseen(..) | Response::Opaque(_) => false,
        }
    }

    /// What went by so far. Of what can't be decoded each byte counts as eight.
    pub fn volume(&self) -> Volume {
        let volume = match self.response() {
            Response::Json(body) => body.volume(),
            Response::Events(stream) => stream.volume(),
            Response::Unseen(_, bytes) | Response::Opaque(bytes) => Volume {
                bytes: *bytes,
                ..Volume::default()
            },
        };
        Volume {
            bytes: volume.bytes.saturating_add(self.undecoded()),
            ..volume
        }
    }

    fn undecoded(&self) -> u64 {
        match &self.0 {
            Layer::Plain(_) => 0,
            Layer::Coded(coded) => coded.undecoded().saturating_mul(UNDECODED),
        }
    }

    /// What went by since the usage was last reported; all of it where it never was. A stream that broke off may have
    /// reported what was used up to its first event alone, as Anthropic's `message_start` does.
    pub fn unreported(&self) -> Volume {
        match self.response() {
            Response::Events(stream) => {
                let unreported = stream.unreported();
                Volume {
                    bytes: unreported.bytes.saturating_add(self.undecoded()),
                    ..unreported
                }
            }
            _ => self.volume(),
        }
    }

    /// What went by until the usage was last reported, which the report is of.
    pub fn reported_of(&self) -> Volume {
        let (all, since) = (self.volume(), self.unreported());
        match self.response() {
            Response::Events(_) => all.since(since),
            _ => all,
        }
    }

    /// Whether the response itself said that it is complete: the document's last brace, `[DONE]`, `message_stop`,
    /// `response.completed`, `response.incomplete` or `response.failed`; of sound and pictures `speech.audio.done`,
    /// `transcript.text.done`, `image_generation.completed` or `image_edit.completed`.
    pub fn finished(&self) -> bool {
        match self.response() {
            Response::Json(body) => body.finished(),
            Response::Events(stream) => stream.finished(),
            Response::Unseen(..) | Response::Opaque(_) => false,
        }
    }

    /// Whether the response says that something went wrong: an `error` in its JSON or in an event, an event of that
    /// name, `response.failed`.
    pub fn errored(&self) -> bool {
        match self.response() {
            Response::Json(body) => body.errored(),
            Response::Events(stream) => stream.errored(),
            Response::Unseen(..) | Response::Opaque(_) => false,
        }
    }

    /// Bytes held now of what passes: never more than [`Self::MAX_HELD`]. A decoder holds its window beside.
    pub fn held(&self) -> usize {
        match self.response() {
            Response::Json(body) => body.held(),
            Response::Events(stream) => stream.held(),
            Response::Unseen(..) | Response::Opaque(_) => 0,
        }
    }
}

impl Response {
    fn of(kind: Option<Kind>, usage_event: UsageEvent) -> Self {
        match kind {
            Some(Kind::Events) => Self::Events(events::Stream::new(usage_event)),
            Some(Kind::Lines) => Self::Json(json::Body::of_event()),
            Some(Kind::Text) => Self::Unseen(usage_event, 0),
            None => Self::Opaque(0),
        }
    }

    fn push(&mut self, chunk: &[u8], end: bool) -> Chunk {
        if let Self::Unseen(usage_event, before) = self {
            // A byte order mark, too.
            let is_blank = |byte: &&u8| byte.is_ascii_whitespace() || b"\xEF\xBB\xBF".contains(byte);
            let blank = chunk.iter().take_while(is_blank).count();
            let (blank, rest) = chunk.split_at(blank);
            let before = before.saturating_add(blank.len() as u64);
            let Some(first) = rest.first() else {
                *self = Self::Unseen(*usage_event, before);
                return Chunk::Unchanged;
            };
            *self = match first {
                // A field's name or a comment.
                b'd' | b'e' | b'i' | b'r' | b':' => Self::Events(events::Stream::new(*usage_event)),
                _ => Self::Json(json::Body::after(before)),
            };
            return match self.push(rest, end) {
                Chunk::Unchanged => Chunk::Unchanged,
                Chunk::Replaced(changed) => Chunk::Replaced([blank, &changed].concat()),
            };
        }
        match self {
            Self::Json(body) => body.push(chunk),
            Self::Events(stream) => return stream.push(chunk, end),
            Self::Opaque(bytes) => *bytes = bytes.saturating_add(chunk.len() as u64),
            Self::Unseen(..) => {}
        }
        Chunk::Unchanged
    }
}

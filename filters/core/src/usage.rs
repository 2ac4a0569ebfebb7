//! What a model server says a request used, read from a response that passes by in chunks.
//!
//! Nothing that only passes is kept: of a JSON body at most the value of `usage`, of an event stream at most one
//! event that is not complete. What can't be read (an encoding, another type, a broken document) passes as well, and
//! says nothing: then the request is settled by an estimate from [`Produced`].

mod events;
mod json;
pub mod record;
mod report;
#[cfg(test)]
mod tests;

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
}

/// What went by so far, for an estimate where no usage is reported.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Produced {
    /// Events with data, `[DONE]` not counted; model servers send about one a token. Zero for what is no stream.
    pub events: u64,
    /// Bytes of their data; of what is no stream, bytes of the body. An event too long to be read counts whole.
    pub bytes: u64,
}

/// How a response is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One JSON document: `application/json`.
    Json,
    /// Server-sent events: `text/event-stream`.
    Events,
}

impl Kind {
    /// What the response's `content-type` and `content-encoding` say; `None` for any other type, and for any
    /// encoding but identity.
    pub fn of(content_type: Option<&[u8]>, content_encoding: Option<&[u8]>) -> Option<Self> {
        let encoding = content_encoding.unwrap_or_default().trim_ascii();
        if !encoding.is_empty() && !encoding.eq_ignore_ascii_case(b"identity") {
            return None;
        }
        let essence = content_type?.split(|&byte| byte == b';').next()?.trim_ascii();
        if essence.eq_ignore_ascii_case(b"application/json") {
            Some(Self::Json)
        } else if essence.eq_ignore_ascii_case(b"text/event-stream") {
            Some(Self::Events)
        } else {
            None
        }
    }
}

/// What becomes of the event that only says the usage: `choices` empty, `usage` an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extra {
    /// It passes: the client asked for it, or the endpoint has none.
    Pass,
    /// It is taken out: the gateway asked for it (`stream_options.include_usage`), the client did not.
    Drop,
}

/// What of a chunk goes on to the client.
#[derive(Debug, PartialEq, Eq)]
pub enum Passed {
    /// All of it as it is.
    Whole,
    /// This in its place, which may be empty: only with [`Extra::Drop`].
    Changed(Vec<u8>),
}

/// Reads a response. Feed it each chunk once, in order.
#[derive(Debug)]
pub struct Reader(Response);

#[derive(Debug)]
enum Response {
    Json(json::Body),
    Events(events::Stream),
    /// Nothing that can be read; bytes that passed.
    Opaque(u64),
}

impl Reader {
    /// The longest event that is read, in bytes. A longer one passes unread; of a JSON document even less is held.
    pub const MAX_HELD: usize = 64 << 10;

    /// A reader for a response of this kind; `None` is one that can't be read.
    pub fn new(kind: Option<Kind>, extra: Extra) -> Self {
        Self(match kind {
            Some(Kind::Json) => Response::Json(json::Body::default()),
            Some(Kind::Events) => Response::Events(events::Stream::new(extra)),
            None => Response::Opaque(0),
        })
    }

    /// Reads the next chunk; `end` with the last one, which may be empty.
    ///
    /// With [`Extra::Drop`] an event that is not complete is withheld until it is, or until the end.
    pub fn push(&mut self, chunk: &[u8], end: bool) -> Passed {
        match &mut self.0 {
            Response::Json(body) => body.push(chunk),
            Response::Events(stream) => return stream.push(chunk, end),
            Response::Opaque(bytes) => *bytes += chunk.len() as u64,
        }
        Passed::Whole
    }

    /// What the model server reported so far; `None` where it said nothing, not enough, or what can't be so (a
    /// count that is negative, no whole number or above 2^53).
    ///
    /// Of a JSON document only once it is complete. Of a stream the latest: a report replaces what earlier ones
    /// said, member by member; one that can't be so undoes them.
    pub fn usage(&self) -> Option<Usage> {
        match &self.0 {
            Response::Json(body) => body.usage(),
            Response::Events(stream) => stream.usage(),
            Response::Opaque(_) => None,
        }
    }

    /// What went by so far.
    pub fn produced(&self) -> Produced {
        match &self.0 {
            Response::Json(body) => body.produced(),
            Response::Events(stream) => stream.produced(),
            Response::Opaque(bytes) => Produced {
                events: 0,
                bytes: *bytes,
            },
        }
    }

    /// What went by since the usage was last reported; all of it where it never was. A stream that broke off may have
    /// reported what was used up to its first event alone, as Anthropic's `message_start` does.
    pub fn unreported(&self) -> Produced {
        match &self.0 {
            Response::Events(stream) => stream.unreported(),
            Response::Json(_) | Response::Opaque(_) => self.produced(),
        }
    }

    /// Whether the response itself said that it is complete: the document's last brace, `[DONE]`, `message_stop`,
    /// `response.completed`, `response.incomplete` or `response.failed`; of sound and pictures `speech.audio.done`,
    /// `transcript.text.done`, `image_generation.completed` or `image_edit.completed`.
    pub fn finished(&self) -> bool {
        match &self.0 {
            Response::Json(body) => body.finished(),
            Response::Events(stream) => stream.finished(),
            Response::Opaque(_) => false,
        }
    }

    /// Bytes held now: never more than [`Self::MAX_HELD`].
    pub fn held(&self) -> usize {
        match &self.0 {
            Response::Json(body) => body.held(),
            Response::Events(stream) => stream.held(),
            Response::Opaque(_) => 0,
        }
    }
}

//! What a request's body asks for, read in one pass.
//!
//! The router decides by what is read here, and the model server reads the same bytes: so nothing may be read that
//! another reader could read differently. Anything doubtful (a member given twice, a second document behind the
//! first, bytes that are not UTF-8) is refused, with the place.

mod coding;
mod edit;
mod json;
mod multipart;
mod names;

pub use coding::{Coding, Undecoded};
pub use edit::{Edit, ask_usage};
pub use json::read as read_json;
pub use multipart::{boundary, charset, is_utf8, read as read_multipart};

use core::ops::Range;
use std::borrow::Cow;

use crate::endpoint::Endpoint;

/// What the gateway needs of a body. Counts are of what was said, not of what it costs.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Body<'a> {
    /// `model`, as the client calls it.
    pub model: Option<Cow<'a, str>>,
    /// Where the value of `model` stands in the body: in JSON with its quotes, in a form just the value.
    pub model_span: Option<Range<usize>>,
    /// Whether the answer is to be streamed.
    pub stream: bool,
    /// `stream_options`, as it stands in the body; `None` where absent.
    pub stream_options: Option<StreamOptions<'a>>,
    /// Most tokens that an answer may have.
    pub caps: Caps,
    /// How many answers (`n`, `best_of`), at least one.
    pub answers: u32,
    /// What there is to read for the model.
    pub input: Input,
}

/// Most tokens that an answer may have, by the names that APIs have for it; `None` where not given.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// `max_tokens`: of chat, where it is the older name, of completions and Anthropic's messages.
    pub max_tokens: Option<u64>,
    /// `max_completion_tokens`: of chat.
    pub max_completion_tokens: Option<u64>,
    /// `max_output_tokens`: of responses.
    pub max_output_tokens: Option<u64>,
}

impl Caps {
    /// The cap at an endpoint; `None` where it is the model's own. A name that the endpoint does not have caps nothing:
    /// model servers pass over it.
    pub fn at(&self, endpoint: Endpoint) -> Option<u64> {
        match endpoint {
            // Given both, model servers differ in which they keep to.
            Endpoint::Chat => self.max_tokens.max(self.max_completion_tokens),
            Endpoint::Completions | Endpoint::Messages => self.max_tokens,
            Endpoint::Responses => self.max_output_tokens,
            Endpoint::Embeddings
            | Endpoint::Moderations
            | Endpoint::ImagesGenerations
            | Endpoint::ImagesEdits
            | Endpoint::Speech
            | Endpoint::Transcriptions
            | Endpoint::Translations
            | Endpoint::Models => None,
        }
    }
}

/// The size of what a model reads, for an estimate of its tokens.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Input {
    /// Bytes of text, escapes resolved: every string in `messages`, `input`, `prompt`, `system`, `instructions`,
    /// `tools`, `functions` and `documents`, names of members left out.
    pub text: u64,
    /// Numbers, which in `prompt` and `input` are tokens already.
    pub numbers: u64,
    /// Strings that hold data instead of text (`data:` URLs, `data` members of base64): pictures, sound.
    pub media: u64,
}

/// `stream_options` of a chat or completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamOptions<'a> {
    /// Its text in the body: an object or `null`.
    pub json: &'a str,
    /// `include_usage`, where given.
    pub include_usage: Option<bool>,
}

/// Where `part` stands in `whole`, of which it is a slice.
fn span(whole: &[u8], part: &[u8]) -> Option<Range<usize>> {
    let start = part.as_ptr().addr().checked_sub(whole.as_ptr().addr())?;
    let span = start..start.checked_add(part.len())?;
    (span.end <= whole.len()).then_some(span)
}

/// Why a body can't be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// The member that is wrong; `None` where it is no single one.
    pub param: Option<&'static str>,
    /// What is wrong, and where.
    pub reason: String,
}

impl Malformed {
    fn new(reason: impl Into<String>) -> Self {
        Self {
            param: None,
            reason: reason.into(),
        }
    }
}

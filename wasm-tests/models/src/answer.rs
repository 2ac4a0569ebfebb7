//! An answer before it is put on the wire: status, headers, and the pieces of its body.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde_json::{Value, json};

use super::fault::{Fault, Usage};
use super::request::{Api, Ask};
use super::text::Speech;

/// A piece of a body that faults count as one event, and the output tokens it carries.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) bytes: Bytes,
    pub(super) tokens: u64,
}

/// The pieces, made when they are sent: a long stream costs no memory.
pub(super) type Pieces = Box<dyn Iterator<Item = Piece> + Send>;

/// What to send.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    /// The length, where the body is known whole; `None` is sent in chunks.
    pub(super) length: Option<u64>,
    pub(super) pieces: Pieces,
}

impl Answer {
    /// A whole body that carries `tokens` output tokens.
    pub(super) fn whole(content_type: &'static str, bytes: impl Into<Bytes>, tokens: u64) -> Self {
        let bytes = bytes.into();
        let length = Some(bytes.len() as u64);
        Self {
            status: 200,
            content_type,
            length,
            pieces: Box::new(std::iter::once(Piece { bytes, tokens })),
        }
    }

    /// A JSON body that carries `tokens` output tokens.
    pub(super) fn json(body: &Value, tokens: u64) -> Self {
        Self::whole("application/json", body.to_string(), tokens)
    }

    /// Server-sent events.
    pub(super) fn events(pieces: impl Iterator<Item = Piece> + Send + 'static) -> Self {
        Self {
            status: 200,
            content_type: "text/event-stream; charset=utf-8",
            length: None,
            pieces: Box::new(pieces),
        }
    }

    /// An error in the shape of the path's API. `api` is `None` for a path nobody serves.
    pub(super) fn error(api: Option<&Api>, status: u16, code: Option<&str>, message: &str) -> Self {
        let body = if api.is_some_and(Api::is_anthropic) {
            json!({"type": "error", "error": {"type": anthropic_type(status), "message": message}})
        } else {
            json!({"error": {"message": message, "type": openai_type(status), "param": null, "code": code}})
        };
        Self {
            status,
            ..Self::json(&body, 0)
        }
    }
}

fn openai_type(status: u16) -> &'static str {
    match status {
        429 => "requests",
        500.. => "server_error",
        _ => "invalid_request_error",
    }
}

fn anthropic_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}

/// An event without a name, as OpenAI's chat and completions send them.
pub(super) fn data(json: &str, tokens: u64) -> Piece {
    Piece {
        bytes: Bytes::from(format!("data: {json}\n\n")),
        tokens,
    }
}

/// An event whose name is its JSON's `type`, as OpenAI's responses and Anthropic's messages send them.
pub(super) fn event(json: &Value, tokens: u64) -> Piece {
    let name = json.get("type").and_then(Value::as_str).unwrap_or_default();
    Piece {
        bytes: Bytes::from(format!("event: {name}\ndata: {json}\n\n")),
        tokens,
    }
}

/// A request, and what was decided about its answer.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) id: String,
    /// Unix seconds.
    pub(super) created: u64,
    pub(super) model: String,
    pub(super) ask: Ask,
    pub(super) speech: Speech,
    /// Output tokens of one choice.
    pub(super) length: u64,
    /// The cap ended the answer, not the model.
    pub(super) capped: bool,
    /// What the usage object says; `None` leaves it out.
    pub(super) usage: Option<Counts>,
}

/// Tokens as a usage object reports them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counts {
    pub(super) input: u64,
    pub(super) output: u64,
    /// Of `input`, read from a cache.
    pub(super) cached: u64,
    /// Of `output`, spent on reasoning.
    pub(super) reasoning: u64,
}

impl Counts {
    pub(super) fn total(&self) -> u64 {
        self.input.saturating_add(self.output)
    }
}

impl Plan {
    pub(super) fn new(id: String, ask: Ask, fault: &Fault) -> Self {
        let speech = Speech::new(&ask.model, &ask.told);
        let natural = speech.natural();
        let length = fault
            .tokens
            .unwrap_or_else(|| ask.cap.map_or(natural, |cap| cap.min(natural)));
        let (cached, reasoning) = (fault.cached, fault.reasoning);
        let usage = match fault.usage {
            Usage::Right => Some(Counts {
                input: ask.input_tokens,
                output: length * ask.n.max(1),
                cached,
                reasoning,
            }),
            Usage::Missing => None,
            Usage::Says { input, output } => Some(Counts {
                input,
                output,
                cached,
                reasoning,
            }),
        };
        let created = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_secs());
        let capped = ask.cap.is_some_and(|cap| length >= cap && cap < natural);
        Self {
            id,
            created,
            model: ask.model.clone(),
            ask,
            speech,
            length,
            capped,
            usage,
        }
    }

    /// The whole text of one choice.
    pub(super) fn text(&self) -> String {
        self.speech.say(self.length)
    }

    /// Tokens of one choice each with its text, as a stream carries them.
    pub(super) fn words(&self) -> impl Iterator<Item = String> + Send + use<> {
        let speech = self.speech.clone();
        (0..self.length).map(move |i| speech.word(i))
    }
}

/// `value` with `usage` as its last member, where there is one to report.
pub(super) fn with_usage(mut value: Value, usage: Option<Value>) -> Value {
    if let (Some(object), Some(usage)) = (value.as_object_mut(), usage) {
        object.insert("usage".to_owned(), usage);
    }
    value
}

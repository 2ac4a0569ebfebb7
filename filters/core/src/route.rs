//! Where a request goes: whether it is one that is served here, which model and targets serve it, and what later filters
//! learn of it.

mod begin;
mod config;
mod in_flight;
mod plan;
mod reason;

pub use begin::{Begun, CODING, Head};
pub use config::Config;
pub use in_flight::{Heard, InFlight};
pub use plan::{Header, Plan};
pub use reason::Reason;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::body::{Edit, Input, Malformed, Undecoded};
use crate::catalogue;
use crate::endpoint::{Endpoint, without_query};
use crate::error::{ApiError, Retry};
use crate::key::shown;
use crate::price::Price;
use crate::refusals;
use crate::reply::{Reader, Reply};
use crate::uploads;

/// The name of the filter state that carries an encoded [`Routed`].
pub const PROPERTY: &str = "tollgate.request";

/// The name of the filter state that says that an answer which began with success went wrong, as it said itself: its
/// target has failed.
pub const ERRORED: &str = "tollgate.errored";

/// A request with its target, for the filters behind the router. Encoded with postcard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routed<'a> {
    /// What is asked for.
    pub endpoint: Endpoint,
    /// The model that serves, by its own name.
    #[serde(borrow)]
    pub model: Cow<'a, str>,
    /// Envoy's cluster.
    #[serde(borrow)]
    pub target: Cow<'a, str>,
    /// Whether the answer is to be streamed.
    pub stream: bool,
    /// What there is to read for the model.
    pub input: Input,
    /// Most tokens of one answer; `None` is up to the model.
    pub max_output: Option<u64>,
    /// How many answers.
    pub answers: u32,
    /// Whether it is written while nobody waits for it: what it may take is what it is charged.
    pub background: bool,
    /// What its tokens cost.
    pub price: Option<Price>,
    /// What makes the model server say the usage of a stream whose client did not ask for it.
    #[serde(borrow)]
    pub ask_usage: Option<Edit<'a>>,
    /// When all of the request was there; nanoseconds since 1970, `u64::MAX` where that is unknown.
    pub whole_at: u64,
    /// Whether an attempt that a model server has begun on may be given up and repeated: its first byte took too long.
    pub repeats: bool,
    /// Tokens of input and output together that the model takes; `None` is unknown.
    pub context_window: Option<u64>,
    /// Whether its client asked for text alone.
    pub plain: bool,
}

impl<'a> Routed<'a> {
    /// The bytes of the filter state.
    pub fn encode(&self) -> Vec<u8> {
        // Numbers and strings always encode; empty bytes decode as nothing and are refused downstream.
        postcard::to_allocvec(self).unwrap_or_default()
    }

    /// Reads the filter state; `None` for anything else: a filter that can't read it refuses.
    pub fn decode(state: &'a [u8]) -> Option<Self> {
        match postcard::take_from_bytes(state).ok()? {
            (routed, []) => Some(routed),
            _ => None,
        }
    }
}

/// Why a request is not routed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// No identity in front of the router, or no configuration.
    Misconfigured,
    /// No such endpoint.
    UnknownUrl(String),
    /// Another method is served there; holds `allow`.
    Method(&'static str),
    /// A body of another kind is served there; holds which.
    MediaType(&'static str),
    /// The body is said to be in another charset than UTF-8.
    Charset(String),
    /// The body is coded in a way that is not decoded here.
    ContentEncoding(String),
    /// The body has, or has when it is decoded, more than so many bytes; `None` is too many for its size.
    TooLarge(Option<u64>),
    /// The body can't be read.
    Malformed(Malformed),
    /// The body names no model.
    MissingModel,
    /// The model can't be used.
    Model(catalogue::Refusal),
    /// Every target is broken; the first may be tried again in so many milliseconds.
    Unavailable(u64),
    /// An operator took the model out of use for the caller's tier.
    Shed,
    /// An operator took every target of the model out of use.
    Drained,
    /// Too many of the caller's requests were refused.
    TooManyRefused(refusals::TooMany),
    /// A header asks for what costs more than the catalogue says; holds its value.
    DearBeta(String),
    /// Too much is in upload.
    Uploads(uploads::Over),
    /// The body came too slowly.
    SlowUpload(uploads::TooSlow),
}

impl From<catalogue::Refusal> for Refusal {
    fn from(refusal: catalogue::Refusal) -> Self {
        Self::Model(refusal)
    }
}

impl From<Undecoded> for Refusal {
    fn from(undecoded: Undecoded) -> Self {
        match undecoded {
            Undecoded::Malformed(malformed) => Self::Malformed(malformed),
            Undecoded::TooLarge(limit) => Self::TooLarge(Some(limit)),
            Undecoded::TooDense => Self::TooLarge(None),
        }
    }
}

impl From<uploads::Refused> for Refusal {
    fn from(refused: uploads::Refused) -> Self {
        match refused {
            uploads::Refused::TooLarge(limit) => Self::TooLarge(Some(limit)),
            uploads::Refused::Over(over) => Self::Uploads(over),
            uploads::Refused::TooSlow(slow) => Self::SlowUpload(slow),
            uploads::Refused::Fragmented => Self::Malformed(Malformed {
                param: None,
                reason: "The body comes in too many small pieces: send at least 64 bytes in each.".into(),
            }),
        }
    }
}

impl From<Malformed> for Refusal {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl Refusal {
    /// What its customer gets.
    pub fn reply(&self, reader: &Reader) -> Reply {
        let more = match self {
            Self::Method(allow) => Some(("allow", Cow::Borrowed(*allow))),
            // RFC 7694.
            Self::ContentEncoding(_) => Some(("accept-encoding", Cow::Borrowed("gzip, zstd"))),
            _ => None,
        };
        Reply::error(&self.answer(), self.reason().name(), reader).with(more)
    }

    /// The operators' name of it.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Misconfigured => Reason::Misconfigured,
            Self::UnknownUrl(_) => Reason::UnknownUrl,
            Self::Method(_) => Reason::Method,
            Self::MediaType(_) => Reason::MediaType,
            Self::Charset(_) => Reason::Charset,
            Self::ContentEncoding(_) => Reason::ContentEncoding,
            Self::TooLarge(_) => Reason::TooLarge,
            Self::Malformed(_) => Reason::Malformed,
            Self::MissingModel => Reason::MissingModel,
            Self::Model(refusal) => match refusal {
                catalogue::Refusal::Unknown(_) => Reason::UnknownModel,
                catalogue::Refusal::ProjectNotGranted(..) => Reason::ProjectNotGranted,
                catalogue::Refusal::KeyNotGranted(_) => Reason::KeyNotGranted,
                catalogue::Refusal::WrongEndpoint(_) => Reason::WrongEndpoint,
                catalogue::Refusal::OutputTooLong(_) | catalogue::Refusal::OutputEndless(..) => {
                    Reason::OutputTooLong
                }
                catalogue::Refusal::ContextTooLong(_) => Reason::ContextTooLong,
                catalogue::Refusal::Unmetered(_) => Reason::Unmetered,
            },
            Self::Unavailable(_) => Reason::Unavailable,
            Self::Shed => Reason::Shed,
            Self::Drained => Reason::Drained,
            Self::TooManyRefused(_) => Reason::TooManyRefused,
            Self::DearBeta(_) => Reason::Unmetered,
            Self::Uploads(_) => Reason::Uploads,
            Self::SlowUpload(_) => Reason::SlowUpload,
        }
    }

    /// Whether the request is at fault, so that another one like it would be refused again.
    pub fn is_the_requests(&self) -> bool {
        let status = self.answer().status;
        (400..500).contains(&status) && status != 429
    }

    /// What the customer is told.
    pub fn answer(&self) -> ApiError {
        let error = |status, code, param, message: String| ApiError {
            status,
            kind: "invalid_request_error",
            code,
            param,
            message: message.into(),
            retry: Retry::Unsaid,
        };
        match self {
            Self::Misconfigured => ApiError {
                kind: "server_error",
                ..error(
                    500,
                    "gateway_misconfigured",
                    None,
                    "The gateway is not configured to serve this request. Please contact its operator."
                        .into(),
                )
            },
            Self::UnknownUrl(url) => error(
                404,
                "unknown_url",
                None,
                format!("Unknown URL: {url}. API versions served: v1."),
            ),
            Self::Method(allow) => error(
                405,
                "method_not_allowed",
                None,
                format!("This URL is served for {allow} only."),
            ),
            Self::MediaType(kind) => error(
                415,
                "unsupported_media_type",
                None,
                format!("The body must be {kind}, and `content-type` must say so, once and with no other type."),
            ),
            Self::Charset(charset) => error(
                415,
                "unsupported_media_type",
                None,
                format!(
                    "The charset `{}` is not supported. Send the body in UTF-8, and leave the charset out.",
                    charset.escape_debug()
                ),
            ),
            Self::ContentEncoding(coding) => error(
                415,
                "unsupported_media_type",
                None,
                format!(
                    "The content-encoding `{}` is not supported. Send the body as it is, or in one of: gzip, zstd.",
                    coding.escape_debug()
                ),
            ),
            Self::TooLarge(limit) => error(
                413,
                "request_too_large",
                None,
                match limit {
                    Some(limit) => format!("Request body too large: the limit is {limit} bytes."),
                    None => "Request body too large: decoded, it has more than 1 MiB and more than 100 times its size."
                        .into(),
                },
            ),
            Self::Malformed(malformed) => {
                error(400, "invalid_json", malformed.param, malformed.reason.clone())
            }
            Self::MissingModel => error(
                400,
                "missing_model",
                Some("model"),
                "The request names no model: `model` is missing.".into(),
            ),
            Self::Model(refusal) => refusal.answer(),
            Self::TooManyRefused(too_many) => too_many.answer(),
            Self::DearBeta(beta) => error(
                400,
                "unsupported_parameter",
                Some("anthropic-beta"),
                format!("`anthropic-beta: {beta}` is not supported here. Please leave it out."),
            ),
            Self::Uploads(over) => over.answer(),
            Self::SlowUpload(slow) => slow.answer(),
            Self::Unavailable(millis) => unavailable(Retry::AfterMillis(*millis)),
            // Nobody knows for how long, and it is meant to keep load away.
            Self::Shed | Self::Drained => unavailable(Retry::Never),
        }
    }
}

/// The model can't be served for now.
const fn unavailable(retry: Retry) -> ApiError {
    ApiError {
        status: 503,
        kind: "service_unavailable_error",
        code: "model_unavailable",
        param: None,
        message: Cow::Borrowed("The model is not available at the moment. Please try again later."),
        retry,
    }
}

/// What a request line asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource<'a> {
    /// A model.
    Model(Endpoint),
    /// The list of models.
    Models,
    /// One model's entry in it, by the name in the path, its escapes resolved.
    ModelEntry(&'a str),
}

/// Reads method and path.
pub fn resource<'a>(method: &[u8], path: &'a [u8]) -> Result<Resource<'a>, Refusal> {
    let unknown = || Refusal::UnknownUrl(line(method, path));
    match Endpoint::of(path).ok_or_else(unknown)? {
        Endpoint::Models if method != b"GET" && method != b"HEAD" => Err(Refusal::Method("GET, HEAD")),
        Endpoint::Models => match without_query(path).strip_prefix(b"/v1/models/") {
            None => Ok(Resource::Models),
            Some(name) => core::str::from_utf8(name)
                .map(Resource::ModelEntry)
                .map_err(|_| unknown()),
        },
        _ if method != b"POST" => Err(Refusal::Method("POST")),
        endpoint => Ok(Resource::Model(endpoint)),
    }
}

/// What was asked for, as an error may repeat it.
fn line(method: &[u8], path: &[u8]) -> String {
    let word = |method: &[u8]| method.len() <= 8 && method.iter().all(u8::is_ascii_uppercase);
    let method = if word(method) { method } else { b"***" };
    let mut line = String::from_utf8_lossy(method).into_owned();
    line.push(' ');
    for (at, segment) in without_query(path).split(|byte| *byte == b'/').enumerate() {
        if at > 0 {
            line.push('/');
        }
        // What is coded can't be told from a credential.
        match segment.contains(&b'%') {
            true => line.push_str("***"),
            false => line.push_str(&shown(&String::from_utf8_lossy(segment), 256)),
        }
    }
    line.chars().take(256).collect()
}

/// The body's kind at an endpoint, by the values of `content-type`: `None` for JSON, or the boundary of a form.
pub fn body_kind<'a>(
    endpoint: Endpoint,
    mut given: impl Iterator<Item = &'a [u8]>,
) -> Result<Option<&'a str>, Refusal> {
    let (kind, wanted) = if endpoint.is_multipart() {
        (&b"multipart/form-data"[..], "multipart/form-data with a boundary")
    } else {
        (&b"application/json"[..], "application/json")
    };
    let (first, second) = (given.next(), given.next());
    let Some(first) = first else {
        // Without a type the body is still read as what it has to be, if that is enough to read it.
        return if endpoint.is_multipart() {
            Err(Refusal::MediaType(wanted))
        } else {
            Ok(None)
        };
    };
    let charset = crate::body::charset(first, kind).filter(|_| second.is_none());
    match charset.ok_or(Refusal::MediaType(wanted))? {
        Some(charset) if !crate::body::is_utf8(charset) => {
            Err(Refusal::Charset(shown(&String::from_utf8_lossy(charset), 64)))
        }
        _ if !endpoint.is_multipart() => Ok(None),
        _ => {
            let boundary = core::str::from_utf8(first).ok().and_then(crate::body::boundary);
            boundary.map(Some).ok_or(Refusal::MediaType(wanted))
        }
    }
}

#[cfg(test)]
mod tests;

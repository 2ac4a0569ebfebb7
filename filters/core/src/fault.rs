//! Whose fault an error of a target is. One about the request is its sender's, and passes as it is. One about our
//! credential, our quota or where we sent the request is ours: the customer learns only that the model can't be had.
//!
//! No credential of a customer's reaches a target, so a 401 is always about ours.

mod replacement;

pub use replacement::{Effect, Finding, Found, Head, Piece, Replacement};

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::error::{ApiError, Retry};

/// Statuses with which another target is asked, beside 503: `x-envoy-retriable-status-codes`.
pub const ANOTHER_TARGET: &str = "401,402,403,407,429,529";

/// How much of an error is read to tell whose fault it is. Where its status does not tell, a longer one passes, unless its
/// target has a credential of ours.
pub const LONGEST_BODY: usize = 64 * 1024;

/// The counter of faults, by reason and target.
pub const METRIC: &str = "tollgate_router_target_faults";

/// What went wrong on our side or the target's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The target refuses our credential.
    Credential,
    /// What we may use there is used up, or not paid.
    Quota,
    /// It has too much to do: 529.
    Overloaded,
    /// It does not know the model or the path that we asked for.
    Misdirected,
    /// The answer, of this status, is not one of an API: an error page, a redirect, a status that is none.
    Unreadable(u16),
    /// It began to answer and then sent nothing.
    Silent,
}

/// What an answer's head tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// It passes.
    Passes,
    /// It is replaced.
    Fault(Fault),
    /// The body has to tell.
    Unclear,
}

/// Judges an answer by its status and `content-type`.
pub fn sight(status: u16, content_type: Option<&[u8]>) -> Sight {
    match status {
        200..300 => Sight::Passes,
        // No final answer, or none that HTTP knows.
        ..200 | 600.. => Sight::Fault(Fault::Unreadable(status)),
        401 | 407 => Sight::Fault(Fault::Credential),
        402 => Sight::Fault(Fault::Quota),
        529 => Sight::Fault(Fault::Overloaded),
        400.. if content_type.is_none_or(is_json) => Sight::Unclear,
        status if passes_as_text(status) && content_type.is_some_and(is_text) => Sight::Unclear,
        403 => Sight::Fault(Fault::Credential),
        _ => Sight::Fault(Fault::Unreadable(status)),
    }
}

/// What an attempt's status alone tells of its target: each attempt counts it, whichever is the last one.
pub const fn of_attempt(status: u16) -> Option<Fault> {
    match status {
        401 | 403 | 407 => Some(Fault::Credential),
        402 => Some(Fault::Quota),
        529 => Some(Fault::Overloaded),
        _ => None,
    }
}

/// Statuses that are about the request whatever says them. Some servers say in plain text which member is wrong.
const fn passes_as_text(status: u16) -> bool {
    matches!(status, 400 | 409 | 413 | 422)
}

fn is_text(content_type: &[u8]) -> bool {
    kind(content_type) == b"text/plain"
}

fn is_json(content_type: &[u8]) -> bool {
    let kind = kind(content_type);
    kind == b"application/json" || (kind.starts_with(b"application/") && kind.ends_with(b"+json"))
}

fn kind(content_type: &[u8]) -> Vec<u8> {
    let kind = content_type.split(|byte| *byte == b';').next();
    kind.unwrap_or_default().trim_ascii().to_ascii_lowercase()
}

/// Judges an error by its whole body. `Ok` is the body in which it passes, where that is another than the target's.
pub fn judge(status: u16, body: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
    let Ok(text) = core::str::from_utf8(body) else {
        return Err(Fault::Unreadable(status));
    };
    let said = match serde_json::from_str::<&RawValue>(text) {
        Ok(raw) => Said::read(raw),
        Err(_) if passes_as_text(status) && is_plain(text) => Said::text(text),
        Err(_) => return Err(Fault::Unreadable(status)),
    };
    match said.fault(status) {
        Some(fault) => Err(fault),
        None => Ok(redacted(text).map(String::into_bytes)),
    }
}

/// An error in an answer that began with success.
#[derive(Debug)]
pub struct Inside {
    said: Said,
    /// The status that it names.
    code: Option<u16>,
    /// Whether there is an answer beside it.
    answers: bool,
}

/// What counts as an answer beside an error.
const ANSWERS: [&str; 7] = [
    "choices",
    "content",
    "data",
    "embeddings",
    "output",
    "text",
    "candidates",
];

impl Inside {
    /// Reads a document, or the data of an event; `None` where it tells of no error.
    pub fn read(json: &[u8]) -> Option<Self> {
        let text = core::str::from_utf8(json).ok()?;
        let mut top: BTreeMap<String, &RawValue> = match serde_json::from_str(text) {
            Ok(top) => top,
            Err(_) => serde_json::from_str::<Vec<_>>(text).ok()?.into_iter().next()?,
        };
        // OpenAI's `response.failed`.
        if let Some(response) = top.get("response")
            && !top.contains_key("error")
            && let Ok(inner) = serde_json::from_str(response.get())
        {
            top = inner;
        }
        let is = |name: &str, text: &str| top.get(name).is_some_and(|value| value.get() == text);
        let named = is("type", r#""error""#) || is("object", r#""error""#);
        let error = top.get("error").map_or("null", |error| error.get());
        if !named && matches!(error, "null" | "false" | "\"\"") {
            return None;
        }
        let filled = |name: &&str| {
            top.get(*name)
                .is_some_and(|value| value.get().len() > "null".len())
        };
        Some(Self {
            answers: ANSWERS.iter().any(filled),
            code: code(error).or_else(|| {
                let own = |name: &str| top.get(name).and_then(|value| status_of(value.get()));
                own("code")
                    .or_else(|| own("status"))
                    .or_else(|| own("status_code"))
            }),
            said: Said::of(match error {
                "null" => serde_json::from_str(text).unwrap_or_default(),
                error => json!({"error": serde_json::from_str::<Value>(error).unwrap_or_default()}),
            }),
        })
    }

    /// Reads an error by what else says that it is one.
    pub fn named(json: &[u8]) -> Option<Self> {
        let error: Value = serde_json::from_slice(json).ok()?;
        Self::read(&serde_json::to_vec(&json!({ "error": error })).ok()?)
    }

    /// One that is told in plain text.
    pub fn text(text: &str) -> Self {
        Self {
            said: Said::text(text),
            code: None,
            answers: false,
        }
    }

    /// What it says of our side.
    pub fn fault(&self) -> Option<Fault> {
        match self.code {
            Some(401 | 407) => Some(Fault::Credential),
            Some(402) => Some(Fault::Quota),
            Some(403) => self.said.fault(403),
            _ if self.said.is_about_credential() => Some(Fault::Credential),
            _ if self.said.is_about_quota() => Some(Fault::Quota),
            _ if self.said.is(&["model_not_found"]) => Some(Fault::Misdirected),
            _ => None,
        }
    }

    /// The status that the answer should have had; `None` where it may be one of success.
    ///
    /// What only words tell may have been caused by what the customer wrote: such a status is no failure of the target
    /// for everybody.
    pub fn status(&self) -> Option<u16> {
        match (self.fault(), self.code) {
            (Some(Fault::Credential), Some(code @ (401 | 407))) => Some(code),
            (Some(Fault::Quota), Some(402)) => Some(402),
            (Some(Fault::Credential), _) => Some(403),
            (Some(Fault::Quota), _) => Some(429),
            (Some(Fault::Misdirected), _) => Some(404),
            _ if self.answers => None,
            _ => self.code,
        }
    }
}

/// The status that an error names.
fn code(error: &str) -> Option<u16> {
    let error: BTreeMap<String, &RawValue> = serde_json::from_str(error).ok()?;
    let names = ["code", "status", "status_code", "http_status"];
    names.iter().find_map(|name| status_of(error.get(*name)?.get()))
}

fn status_of(json: &str) -> Option<u16> {
    let status = json.trim_matches('"').parse().ok()?;
    (400..=599).contains(&status).then_some(status)
}

/// Whether it is a sentence, not a page.
fn is_plain(text: &str) -> bool {
    let text = text.trim_start();
    !text.is_empty() && !text.starts_with('<')
}

/// A text without what stands in quotes. An apostrophe within a word is none.
fn unquoted(text: &str) -> String {
    let (mut left, mut rest) = (String::with_capacity(text.len()), text);
    // A quote that is not closed once is not closed further on either, so the text is searched once for each.
    let mut unclosed = Vec::new();
    while let Some(at) = rest.find(['"', '\'', '`']) {
        let (before, quoted) = rest.split_at(at);
        let (quote, inside) = quoted.split_at(1);
        left += before;
        let opens = !left.ends_with(char::is_alphanumeric) && !unclosed.contains(&quote);
        let closes = |(at, _): &(usize, &str)| {
            let behind = inside.get(at + 1..).unwrap_or_default();
            !behind.starts_with(char::is_alphanumeric)
        };
        let end = opens.then(|| inside.match_indices(quote).find(closes)).flatten();
        if let Some((end, _)) = end {
            rest = inside.get(end + 1..).unwrap_or_default();
            continue;
        }
        if opens {
            unclosed.push(quote);
        }
        left += quote;
        rest = inside;
    }
    left + rest
}

/// What an error says, in lower case. OpenAI's and most others' is `error: {message, type, code}`, Google's has
/// `status` and a list around it, vLLM's older one no `error`, Azure's and AWS's a `message` alone.
#[derive(Debug)]
struct Said {
    /// `type`, `code`, `status` and `reason`.
    kinds: String,
    /// Without what is in quotes: that may be what the customer wrote.
    message: String,
}

impl Said {
    fn read(raw: &RawValue) -> Self {
        Self::of(serde_json::from_str(raw.get()).unwrap_or_default())
    }

    fn of(value: Value) -> Self {
        let value = match value {
            Value::Array(mut list) if !list.is_empty() => list.swap_remove(0),
            value => value,
        };
        let empty = Map::new();
        let top = value.as_object().unwrap_or(&empty);
        let error = top.get("error").or_else(|| top.get("detail"));
        let inner = error.and_then(Value::as_object).unwrap_or(top);
        let text = |name: &str| inner.get(name).and_then(Value::as_str).unwrap_or_default();
        let mut kinds = ["type", "code", "status", "reason"].map(text).join(" ");
        for detail in inner
            .get("details")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            kinds += " ";
            kinds += detail.get("reason").and_then(Value::as_str).unwrap_or_default();
        }
        let message = match error.and_then(Value::as_str) {
            Some(message) => message,
            None => text("message"),
        };
        Self {
            kinds: kinds.to_ascii_lowercase(),
            message: unquoted(message).to_lowercase(),
        }
    }

    fn text(text: &str) -> Self {
        Self {
            kinds: String::new(),
            message: unquoted(text).to_lowercase(),
        }
    }

    fn fault(&self, status: u16) -> Option<Fault> {
        match status {
            403 if self.is_about_content() => None,
            403 if self.is_about_quota() => Some(Fault::Quota),
            403 => Some(Fault::Credential),
            // Google and xAI say so with 400.
            400 | 404 | 422 if self.is_about_credential() => Some(Fault::Credential),
            400 | 404 | 429 | 503 if self.is_about_quota() => Some(Fault::Quota),
            404 if self.is_about_model() => Some(Fault::Misdirected),
            _ => None,
        }
    }

    fn is(&self, kinds: &[&str]) -> bool {
        kinds.iter().any(|kind| self.kinds.contains(kind))
    }

    fn says(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.message.contains(word))
    }

    /// The prompt was refused for what is in it.
    fn is_about_content(&self) -> bool {
        self.is(&["content_", "moderation", "safety"])
            || self.says(&["moderation", "flagged", "content policy"])
    }

    fn is_about_credential(&self) -> bool {
        self.is(&[
            "invalid_api_key",
            "api_key_invalid",
            "authentication_error",
            "unauthenticated",
            "permission_",
        ]) || self.says(&["api key", "api_key", "apikey"])
    }

    /// OpenAI, DeepSeek, Anthropic, Azure, Google.
    fn is_about_quota(&self) -> bool {
        self.is(&[
            "insufficient_quota",
            "billing",
            "insufficient_balance",
            "credit",
            "quota_exceeded",
        ]) || self.says(&[
            "exceeded your current quota",
            "credit balance",
            "insufficient balance",
            "insufficient credit",
            "billing",
            "quota has been exceeded",
            "quota exceeded",
        ])
    }

    /// A model or a path, not a file, a response or a container that the customer named.
    fn is_about_model(&self) -> bool {
        let others = [
            "file",
            "response",
            "conversation",
            "container",
            "vector",
            "assistant",
            "item",
            "batch",
        ];
        self.is(&["model_not_found"])
            || self.message == "not found"
            || (self.says(&["model"]) && !self.says(&others))
    }
}

/// An error without what looks like a credential or an account of ours; `None` where there is nothing of that kind.
pub(crate) fn redacted(text: &str) -> Option<String> {
    let mut clean = String::new();
    // What stands before `kept` is in `clean`.
    let (mut kept, mut at) = (0, 0);
    while at < text.len() {
        match secret_at(text.as_bytes(), at) {
            Some(len) => {
                clean += text.get(kept..at)?;
                clean += "[redacted]";
                at += len;
                kept = at;
            }
            None => at += 1,
        }
    }
    (kept > 0).then(|| clean + text.get(kept..).unwrap_or_default())
}

/// What credentials and accounts begin with, and how many bytes follow at least.
const STARTS: [(&[u8], usize); 24] = [
    (b"sk-", 6),
    (b"sk_", 6),
    (b"pk-", 6),
    (b"rk_", 6),
    (b"org-", 6),
    (b"proj_", 6),
    (b"proj-", 6),
    (b"xai-", 6),
    (b"gsk_", 6),
    (b"hf_", 6),
    (b"r8_", 6),
    (b"nvapi-", 6),
    (b"pplx-", 6),
    (b"tgp_", 6),
    (b"fw_", 6),
    (b"AIza", 6),
    (b"ya29.", 6),
    (b"Bearer ", 6),
    (b"ghp_", 6),
    (b"gho_", 6),
    (b"github_pat_", 6),
    (b"AKIA", 12),
    (b"ASIA", 12),
    (b"eyJ", 20),
];

/// Hexadecimal digits that are a credential, as Azure's. Ids of that length have a name in front: `resp_…`.
const HEX: usize = 32;

/// How long the credential is that begins here, if one does.
fn secret_at(text: &[u8], at: usize) -> Option<usize> {
    let (before, rest) = text.split_at_checked(at)?;
    // Most places are within a word.
    if !rest.first()?.is_ascii_alphanumeric() || !ends_a_word(before) {
        return None;
    }
    let length = |rest: &[u8]| rest.iter().take_while(|byte| is_secret(**byte)).count();
    for (start, least) in STARTS {
        if let Some(rest) = rest.strip_prefix(start)
            && length(rest) >= least
        {
            return Some(start.len() + length(rest));
        }
    }
    // These are words of a sentence, too.
    for start in [&b"Basic "[..], b"basic ", b"bearer "] {
        if let Some(rest) = rest.strip_prefix(start)
            && let Some((token, _)) = rest.split_at_checked(length(rest))
            && token.len() >= 8
            && token.iter().any(|byte| byte.is_ascii_digit() || *byte == b'=')
        {
            return Some(start.len() + token.len());
        }
    }
    let joins = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let hex = rest.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let alone = !before.last().is_some_and(joins) && !rest.get(hex).is_some_and(joins);
    (alone && hex >= HEX).then_some(hex)
}

/// Whether a word may begin behind these bytes. They are JSON's: the `n` of `\n` is no letter of a word.
fn ends_a_word(before: &[u8]) -> bool {
    match before {
        [.., b'\\', b'b' | b'f' | b'n' | b'r' | b't'] => true,
        [.., b'\\', b'u', a, b, c, d] if [a, b, c, d].iter().all(|hex| hex.is_ascii_hexdigit()) => true,
        [.., last] => !last.is_ascii_alphanumeric(),
        [] => true,
    }
}

/// Whether a byte can be one of a credential, shortened ones too: `sk-a****xyz`.
const fn is_secret(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'*' | b'.' | b'+' | b'/' | b'=')
}

impl Fault {
    /// Every [name](Self::name).
    pub const NAMES: [&str; 6] = [
        "credential",
        "quota",
        "overloaded",
        "misdirected",
        "unreadable",
        "silent",
    ];

    /// The operators' name of it: a metric's label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Credential => "credential",
            Self::Quota => "quota",
            Self::Overloaded => "overloaded",
            Self::Misdirected => "misdirected",
            Self::Unreadable(_) => "unreadable",
            Self::Silent => "silent",
        }
    }

    /// Whether another request would meet it too.
    pub const fn is_the_targets(self) -> bool {
        matches!(self, Self::Credential | Self::Quota | Self::Misdirected)
    }

    /// What the customer is told instead.
    pub fn answer(self) -> ApiError {
        let (status, kind, code, message) = match self {
            Self::Credential | Self::Quota | Self::Misdirected | Self::Unreadable(503) => (
                503,
                "service_unavailable_error",
                "model_unavailable",
                "The model is not available at the moment. Please try again later.",
            ),
            Self::Overloaded => (
                503,
                "service_unavailable_error",
                "server_is_overloaded",
                "The model is overloaded at the moment. Please try again shortly.",
            ),
            Self::Silent | Self::Unreadable(504) => (
                504,
                "server_error",
                "upstream_timeout",
                "The model did not answer in time.",
            ),
            Self::Unreadable(status @ 400..=499) => (
                status,
                "invalid_request_error",
                "upstream_error",
                "The model server refused the request and gave no reason that can be shown.",
            ),
            Self::Unreadable(_) => (
                502,
                "server_error",
                "upstream_error",
                "The model server failed to answer the request.",
            ),
        };
        ApiError {
            status,
            kind,
            code,
            param: None,
            message: message.into(),
            retry: Retry::Unsaid,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(status: u16, body: &Value) -> Result<Option<Vec<u8>>, Fault> {
        assert_eq!(
            sight(status, Some(b"application/json")),
            Sight::Unclear,
            "{status}"
        );
        judge(status, body.to_string().as_bytes())
    }

    #[test]
    fn what_is_quoted_is_the_customers() {
        for (said, left) in [
            ("invalid 'billing' here", "invalid  here"),
            (r#"{"a": "api key"}, and `quota` too"#, "{: },  and  too"),
            (
                "You don't have credit, and can't",
                "You don't have credit, and can't",
            ),
            ("an 'open one: billing", "an 'open one: billing"),
            ("'it's api key' x", " x"),
            ("a 'b c 'd `e' f", "a  f"),
            ("a `b 'c' `d", "a `b  `d"),
        ] {
            assert_eq!(
                unquoted(said).replace("  ", " "),
                left.replace("  ", " "),
                "{said}"
            );
        }
        // However many there are, it is read once.
        let many = " 'a b'c".repeat(1 << 20);
        assert_eq!(unquoted(&many), many);
        let echo = |message: &str| {
            let error = serde_json::json!({"error": {"message": message, "type": "invalid_request_error"}});
            Said::of(error).fault(400)
        };
        assert_eq!(
            echo("{'loc': ('body','tool_choice'), 'input': 'billing api key'}"),
            None
        );
        assert_eq!(
            echo("Your credit balance is too low to access the API."),
            Some(Fault::Quota)
        );
    }

    #[test]
    fn what_the_status_tells() {
        let json = Some(&b"application/json; charset=utf-8"[..]);
        for (status, kind, sight_of) in [
            (200, Some(&b"text/html"[..]), Sight::Passes),
            (401, json, Sight::Fault(Fault::Credential)),
            (402, json, Sight::Fault(Fault::Quota)),
            (403, Some(b"text/html"), Sight::Fault(Fault::Credential)),
            (407, None, Sight::Fault(Fault::Credential)),
            (529, json, Sight::Fault(Fault::Overloaded)),
            (302, json, Sight::Fault(Fault::Unreadable(302))),
            (101, None, Sight::Fault(Fault::Unreadable(101))),
            (199, json, Sight::Fault(Fault::Unreadable(199))),
            (600, json, Sight::Fault(Fault::Unreadable(600))),
            (999, json, Sight::Fault(Fault::Unreadable(999))),
            (502, Some(b"text/html"), Sight::Fault(Fault::Unreadable(502))),
            (413, Some(b"text/html"), Sight::Fault(Fault::Unreadable(413))),
            (422, Some(b"text/plain; charset=utf-8"), Sight::Unclear),
            (404, Some(b"text/plain"), Sight::Fault(Fault::Unreadable(404))),
            (400, Some(b"application/problem+json"), Sight::Unclear),
            (400, None, Sight::Unclear),
            (500, json, Sight::Unclear),
        ] {
            assert_eq!(sight(status, kind), sight_of, "{status} {kind:?}");
        }
    }

    #[test]
    fn what_is_ours_by_its_body() {
        for (status, body, fault) in [
            // OpenAI.
            (
                429,
                json!({"error": {"message": "You exceeded your current quota, please check your plan.",
                "type": "insufficient_quota", "param": null, "code": "insufficient_quota"}}),
                Fault::Quota,
            ),
            (
                404,
                json!({"error": {"message": "The model `gpt-x` does not exist or you do not have access to it.",
                "type": "invalid_request_error", "param": null, "code": "model_not_found"}}),
                Fault::Misdirected,
            ),
            (
                403,
                json!({"error": {"message": "Country, region, or territory not supported",
                "code": "unsupported_country_region_territory"}}),
                Fault::Credential,
            ),
            // Anthropic.
            (
                400,
                json!({"type": "error", "error": {"type": "invalid_request_error",
                "message": "Your credit balance is too low to access the Anthropic API."}}),
                Fault::Quota,
            ),
            (
                404,
                json!({"type": "error", "error": {"type": "not_found_error", "message": "model: claude-x"}}),
                Fault::Misdirected,
            ),
            (
                403,
                json!({"type": "error", "error": {"type": "permission_error", "message": "Not permitted"}}),
                Fault::Credential,
            ),
            // Google, in a list.
            (
                400,
                json!([{"error": {"code": 400, "message": "API key not valid. Please pass a valid API key.",
                "status": "INVALID_ARGUMENT", "details": [{"reason": "API_KEY_INVALID"}]}}]),
                Fault::Credential,
            ),
            // xAI, Ollama, vLLM, Starlette.
            (
                400,
                json!({"code": "x", "error": "Incorrect API key provided: xa***zz."}),
                Fault::Credential,
            ),
            (
                404,
                json!({"error": "model 'llama' not found"}),
                Fault::Misdirected,
            ),
            (
                404,
                json!({"object": "error", "message": "The model `x` does not exist.", "type": "NotFoundError"}),
                Fault::Misdirected,
            ),
            (404, json!({"detail": "Not Found"}), Fault::Misdirected),
        ] {
            assert_eq!(of(status, &body), Err(fault), "{status} {body}");
        }
    }

    #[test]
    fn what_is_about_the_request_passes_as_it_is() {
        for (status, body) in [
            (
                400,
                json!({"error": {"message": "This model's maximum context length is 8192 tokens.",
                "type": "invalid_request_error", "param": "messages", "code": "context_length_exceeded"}}),
            ),
            (
                403,
                json!({"error": {"code": 403, "message": "Your input was flagged", "metadata": {"reasons": ["x"]}}}),
            ),
            (
                404,
                json!({"error": {"message": "Previous response with id 'resp_1' not found.", "code": null}}),
            ),
            (
                404,
                json!({"type": "error", "error": {"type": "not_found_error", "message": "File not found: file_1"}}),
            ),
            (
                429,
                json!({"error": {"message": "Rate limit reached.", "code": "rate_limit_exceeded"}}),
            ),
            (
                503,
                json!({"error": {"message": "stand-in", "type": "server_error"}}),
            ),
            (500, json!({"error": {"message": "The server had an error."}})),
            (
                422,
                json!({"detail": [{"loc": ["body", "messages"], "msg": "field required"}]}),
            ),
        ] {
            assert_eq!(of(status, &body), Ok(None), "{status} {body}");
        }
    }

    #[test]
    fn plain_text_about_the_request_passes() {
        let text = "Failed to deserialize the JSON body: missing field `inputs`";
        assert_eq!(judge(422, text.as_bytes()), Ok(None));
        assert_eq!(judge(400, b"Invalid API key"), Err(Fault::Credential));
        for (status, text) in [(400, " <html>"), (400, ""), (500, text)] {
            assert_eq!(judge(status, text.as_bytes()), Err(Fault::Unreadable(status)));
        }
    }

    #[test]
    fn what_names_our_account_passes_without_it() {
        let body = json!({"error": {"message":
            "Rate limit reached for gpt-4o in organization org-AbCdEf123 on tokens per min. Key sk-pro-12****xyz."}});
        let clean = String::from_utf8(of(429, &body).unwrap().unwrap()).unwrap();
        assert!(clean.contains("in organization [redacted] on tokens"), "{clean}");
        assert!(!clean.contains("xyz") && !clean.contains("AbC"), "{clean}");
        assert!(serde_json::from_str::<Value>(&clean).is_ok());
        for plain in [
            "a task-force of sk- and org-",
            "disk-reallylong",
            "Basic authentication is needed",
            "basic requirements",
            "resp_0123456789abcdef0123456789abcdef not found",
            "chatcmpl-0123456789abcdef0123456789abcdef",
            "a1b2c3",
        ] {
            assert_eq!(redacted(plain), None, "{plain}");
        }
        for (text, clean) in [
            (r"[redacted] sk-abcdef123", "[redacted] [redacted]"),
            (r"key:\nsk-abcdef123", r"key:\n[redacted]"),
            (r"\u003csk-abcdef123\u003e", r"\u003c[redacted]\u003e"),
            ("sk-abcdef123é sk-abcdef1", "[redacted]é [redacted]"),
            (
                "Authorization: Basic dXNlcjpwYXNzMQ==.",
                "Authorization: [redacted]",
            ),
            ("ghp_16C7e42F292c6912E7710c838347Ae178B4a", "[redacted]"),
            ("AKIAIOSFODNN7EXAMPLE was refused", "[redacted] was refused"),
            (
                r#""key":"0123456789abcdef0123456789ABCDEF""#,
                r#""key":"[redacted]""#,
            ),
            ("0123456789abcdef0123456789abcdef.", "[redacted]."),
        ] {
            assert_eq!(redacted(text).as_deref(), Some(clean));
        }
    }

    #[test]
    fn what_is_no_json_is_ours() {
        for body in [&b"<html>"[..], b"", b"\xff", b"{} {}"] {
            assert_eq!(judge(502, body), Err(Fault::Unreadable(502)));
        }
        for (status, told) in [
            (413, 413),
            (500, 502),
            (503, 503),
            (504, 504),
            (302, 502),
            (599, 502),
            (101, 502),
            (999, 502),
        ] {
            assert_eq!(Fault::Unreadable(status).answer().status, told);
        }
    }

    proptest! {
        #[test]
        fn no_body_panics(status in 400u16..600, body: Vec<u8>, text in "\\PC{0,40}(sk-|org-|Bearer )\\PC{0,40}") {
            let _ = judge(status, &body);
            let json = json!({"error": {"message": text}}).to_string();
            if let Ok(Some(clean)) = judge(status, json.as_bytes()) {
                prop_assert!(serde_json::from_slice::<Value>(&clean).is_ok());
            }
        }
    }
}

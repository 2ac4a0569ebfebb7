//! The errors a customer sees: one shape for each dialect, made in one place.

use std::borrow::Cow;

use serde::Serialize;

use crate::endpoint::Dialect;

/// An answer that the gateway itself makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// HTTP status.
    pub status: u16,
    /// OpenAI's `type`.
    pub kind: &'static str,
    /// OpenAI's `code`.
    pub code: &'static str,
    /// OpenAI's `param`: the member of the body that is at fault.
    pub param: Option<&'static str>,
    /// For people; never holds a secret or another tenant's facts.
    pub message: Cow<'static, str>,
    /// Whether and when the same request can succeed.
    pub retry: Retry,
}

/// What a client should do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Nothing is said: the status speaks for itself.
    Unsaid,
    /// The same request can't succeed: `x-should-retry: false`.
    Never,
    /// It can after so many milliseconds: `Retry-After`, `retry-after-ms`.
    AfterMillis(u64),
}

impl ApiError {
    /// The JSON body. `request_id` is shown in Anthropic's dialect only, as their API does.
    pub fn body(&self, dialect: Dialect, request_id: Option<&str>) -> Vec<u8> {
        match dialect {
            Dialect::OpenAi => to_json(&OpenAi {
                error: OpenAiError {
                    message: &self.message,
                    kind: self.kind,
                    param: self.param,
                    code: self.code,
                },
            }),
            Dialect::Anthropic => to_json(&Anthropic {
                kind: "error",
                error: AnthropicError {
                    kind: anthropic_type(self.status),
                    message: &self.message,
                },
                request_id,
            }),
        }
    }

    /// The data of an event `error` of OpenAI's responses.
    pub fn event(&self) -> Vec<u8> {
        to_json(&OpenAiEvent {
            kind: "error",
            code: self.code,
            message: &self.message,
            param: self.param,
        })
    }

    /// The headers of the answer, names in lower case.
    pub fn headers(&self) -> Vec<(&'static str, Cow<'static, str>)> {
        let mut headers = vec![("content-type", Cow::Borrowed("application/json"))];
        if self.status == 401 {
            headers.push(("www-authenticate", Cow::Borrowed("Bearer")));
        }
        match self.retry {
            Retry::Unsaid => {}
            Retry::Never => headers.push(("x-should-retry", Cow::Borrowed("false"))),
            Retry::AfterMillis(millis) => {
                headers.push(("retry-after", Cow::Owned(millis.div_ceil(1000).to_string())));
                headers.push(("retry-after-ms", Cow::Owned(millis.to_string())));
            }
        }
        headers
    }
}

#[derive(Serialize)]
struct OpenAi<'a> {
    error: OpenAiError<'a>,
}

#[derive(Serialize)]
struct OpenAiError<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    param: Option<&'a str>,
    code: &'a str,
}

#[derive(Serialize)]
struct OpenAiEvent<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    code: &'a str,
    message: &'a str,
    param: Option<&'a str>,
}

#[derive(Serialize)]
struct Anthropic<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    error: AnthropicError<'a>,
    request_id: Option<&'a str>,
}

#[derive(Serialize)]
struct AnthropicError<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    message: &'a str,
}

const fn anthropic_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 => "overloaded_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    }
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    // Strings and nulls always serialise; an empty body would still carry the right status.
    serde_json::to_vec(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error() -> ApiError {
        ApiError {
            status: 401,
            kind: "invalid_request_error",
            code: "invalid_api_key",
            param: None,
            message: "Bad \"key\"\n".into(),
            retry: Retry::AfterMillis(1_574),
        }
    }

    #[test]
    fn openai_has_all_four_fields() {
        let body = String::from_utf8(error().body(Dialect::OpenAi, Some("r"))).unwrap();
        assert_eq!(
            body,
            r#"{"error":{"message":"Bad \"key\"\n","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}"#
        );
    }

    #[test]
    fn anthropic_has_its_own_shape() {
        let body = String::from_utf8(error().body(Dialect::Anthropic, Some("r-1"))).unwrap();
        assert_eq!(
            body,
            r#"{"type":"error","error":{"type":"authentication_error","message":"Bad \"key\"\n"},"request_id":"r-1"}"#
        );
    }

    #[test]
    fn retry_after_is_never_early() {
        let headers = error().headers();
        assert!(headers.contains(&("retry-after", "2".into())));
        assert!(headers.contains(&("retry-after-ms", "1574".into())));
    }
}

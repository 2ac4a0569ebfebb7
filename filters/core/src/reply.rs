//! An answer in the upstream's place, as data: whoever asked for the decision sends it.

use std::borrow::Cow;

use crate::endpoint::{Dialect, Endpoint};
use crate::error::ApiError;

/// An answer that is ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// For operators, in Envoy's `%RESPONSE_CODE_DETAILS%`: `tollgate_` and the reason.
    pub details: String,
    /// Names in lower case.
    pub headers: Vec<(&'static str, Cow<'static, str>)>,
    /// JSON.
    pub body: Vec<u8>,
}

/// How a customer reads an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reader {
    /// Whose API it speaks.
    pub dialect: Dialect,
    /// What it asked for; `None` for what is not served.
    pub endpoint: Option<Endpoint>,
    /// Of its request, where that is known.
    pub request_id: Option<String>,
}

impl Reader {
    /// Of a request with these headers, as far as they are there.
    pub fn of(path: Option<&[u8]>, request_id: Option<&str>) -> Self {
        Self {
            dialect: path.map_or(Dialect::OpenAi, Dialect::of),
            endpoint: path.and_then(Endpoint::of),
            request_id: request_id.map(str::to_owned),
        }
    }

    /// An error as an event of a stream; as a line in a stream of lines.
    pub fn event(&self, error: &ApiError, line: bool) -> Vec<u8> {
        let json = match self.endpoint {
            Some(Endpoint::Responses) => error.event(),
            _ => error.body(self.dialect, self.request_id.as_deref()),
        };
        let begin: &[u8] = match self.endpoint {
            _ if line => b"",
            Some(Endpoint::Responses | Endpoint::Messages) => b"event: error\ndata: ",
            _ => b"data: ",
        };
        let end: &[u8] = if line { b"\n" } else { b"\n\n" };
        [begin, &json, end].concat()
    }
}

impl Default for Reader {
    fn default() -> Self {
        Self::of(None, None)
    }
}

impl Reply {
    /// An error, for a reason that operators know by this name.
    pub fn error(error: &ApiError, reason: &str, reader: &Reader) -> Self {
        Self {
            status: error.status,
            details: format!("tollgate_{reason}"),
            headers: error.headers(),
            body: error.body(reader.dialect, reader.request_id.as_deref()),
        }
    }

    /// A document that the gateway itself has.
    pub fn document(reason: &str, body: Vec<u8>) -> Self {
        Self {
            status: 200,
            details: format!("tollgate_{reason}"),
            headers: vec![("content-type", Cow::Borrowed("application/json"))],
            body,
        }
    }

    /// The same with more headers.
    #[must_use]
    pub fn with(mut self, headers: impl IntoIterator<Item = (&'static str, Cow<'static, str>)>) -> Self {
        self.headers.extend(headers);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Retry;

    #[test]
    fn an_error_is_shaped_for_its_reader() {
        let error = ApiError {
            status: 503,
            kind: "service_unavailable_error",
            code: "model_unavailable",
            param: None,
            message: "Later.".into(),
            retry: Retry::AfterMillis(1_500),
        };
        let reader = Reader::of(Some(b"/v1/messages?beta=true"), Some("req-1"));
        let reply = Reply::error(&error, "unavailable", &reader).with([("allow", "GET".into())]);
        assert_eq!(
            (reply.status, reply.details.as_str()),
            (503, "tollgate_unavailable")
        );
        let names: Vec<_> = reply.headers.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["content-type", "retry-after", "retry-after-ms", "allow"]);
        let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(body["request_id"], "req-1");
        assert_eq!(Reader::default().dialect, Dialect::OpenAi);
    }
}

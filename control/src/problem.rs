//! What went wrong, as RFC 9457 has an API say it.

use std::collections::BTreeMap;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tollgate_core::config::ConfigError;
use utoipa::openapi::{self, RefOr};
use utoipa::{IntoResponses, ToSchema};

use crate::secret;

/// An answer that is an error: `application/problem+json`.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Problem {
    /// Which kind, for programs: `urn:tollgate:problem:invalid` and its like.
    #[serde(rename = "type")]
    pub kind: String,
    /// The same for people.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What was wrong this time, and what to do.
    pub detail: String,
    /// Each member that is wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// Seconds to wait before the next attempt; the header `retry-after` too.
    #[serde(skip)]
    pub retry_after: Option<u64>,
}

/// One member that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// Its path, such as `networks[0]`; empty for the whole.
    pub field: String,
    /// What is wrong with it, and what is expected.
    pub detail: String,
}

impl Problem {
    /// A credential that was sent in the wrong place is masked.
    fn new(status: StatusCode, kind: &str, title: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:tollgate:problem:{kind}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: secret::masked(&detail.into()),
            errors: Vec::new(),
            retry_after: None,
        }
    }

    /// Members are wrong.
    pub(crate) fn fields(mut errors: Vec<FieldError>) -> Self {
        for error in &mut errors {
            error.field = secret::masked(&error.field);
            error.detail = secret::masked(&error.detail);
        }
        let told: Vec<String> = errors
            .iter()
            .map(|error| match error.field.as_str() {
                "" => error.detail.clone(),
                field => format!("{field}: {}", error.detail),
            })
            .collect();
        Self {
            errors,
            ..Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "invalid",
                "Invalid request",
                told.join("; "),
            )
        }
    }

    /// A member has a value that it can't have.
    pub(crate) fn invalid(field: &str, found: &str, expected: &str) -> Self {
        let found: String = tollgate_core::key::shown(found, 64);
        Self::fields(vec![FieldError {
            field: field.to_owned(),
            detail: format!("found `{found}`, expected {expected}"),
        }])
    }

    /// A member is wrong.
    pub(crate) fn field(field: &str, detail: impl Into<String>) -> Self {
        Self::fields(vec![FieldError {
            field: field.to_owned(),
            detail: detail.into(),
        }])
    }

    /// What core says of a document, in which the request's own members are below the path `at`.
    pub(crate) fn from_config_errors(errors: &[ConfigError], at: &str) -> Self {
        let field = |error: &ConfigError| FieldError {
            field: error.path.clone(),
            detail: error.problem.clone(),
        };
        Self::fields(errors.iter().map(field).collect()).below(at)
    }

    /// The same of a document's members, told as those below the path `at`.
    pub(crate) fn below(self, at: &str) -> Self {
        let errors = self.errors.into_iter().map(|error| FieldError {
            field: match error.field.strip_prefix(at) {
                Some(below) => below.trim_start_matches('.').to_owned(),
                None => error.field,
            },
            ..error
        });
        Self::fields(errors.collect())
    }

    /// The same, seen from the level above.
    pub(crate) fn nested_in(self, parent: &str) -> Self {
        let errors = self.errors.into_iter().map(|error| FieldError {
            field: match error.field.is_empty() {
                true => parent.to_owned(),
                false => format!("{parent}.{}", error.field),
            },
            ..error
        });
        Self::fields(errors.collect())
    }

    /// The body is not what an endpoint reads.
    pub(crate) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", "Malformed request", detail)
    }

    /// The body is too large.
    pub(crate) fn too_large(most: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-large",
            "Request too large",
            format!("the body is larger than {most} bytes"),
        )
    }

    /// No token, or none that is good.
    pub(crate) fn unauthenticated(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthenticated",
            "Not authenticated",
            detail,
        )
    }

    /// Too many wrong tokens from one address.
    pub(crate) fn throttled(seconds: u64) -> Self {
        Self {
            retry_after: Some(seconds),
            ..Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "throttled",
                "Too many attempts",
                format!("too many requests without a good token came from this address; wait {seconds} s"),
            )
        }
    }

    /// Too many writes of one token wait.
    pub(crate) fn too_many_writes() -> Self {
        Self::too_many(
            "too-many-writes",
            "Too many writes",
            "too many writes of this token wait already, and this one was not done; send fewer at a time",
        )
    }

    /// Too many reads of one token wait.
    pub(crate) fn too_many_reads() -> Self {
        Self::too_many(
            "too-many-reads",
            "Too many reads",
            "too many reads of this token wait already; send fewer at a time",
        )
    }

    /// Nothing is left of a quota of writes.
    pub(crate) fn over_write_quota(whose: &str, most: &str, seconds: u64) -> Self {
        Self {
            retry_after: Some(seconds),
            ..Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "write-quota",
                "Quota of writes used up",
                format!(
                    "{whose} may make {most} in a day and have made them; nothing was changed, wait {seconds} s, or ask the \
                     platform. Revoking, suspending, and freezing or capping for a day or more pass all the same"
                ),
            )
        }
    }

    /// Too many messages of one token wait.
    pub(crate) fn too_many_messages() -> Self {
        Self::too_many(
            "too-many-messages",
            "Too many messages",
            "too many messages of this token wait, or came in this second, and this one was not heard; give each gateway a token \
             of its own",
        )
    }

    /// Too much of one token waits.
    fn too_many(kind: &str, title: &str, detail: &str) -> Self {
        Self {
            retry_after: Some(1),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, kind, title, detail)
        }
    }

    /// A token has as many members in the books of the fleet as it may.
    pub(crate) fn too_many_members() -> Self {
        Self::too_many(
            "too-many-members",
            "Too many gateways",
            "as many gateways of this token keep limits together as one token may have: give each a token of its own",
        )
    }

    /// The token's role does not allow it.
    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "Not allowed", detail)
    }

    /// There is no such thing, or none that the token may see.
    pub(crate) fn not_found(what: &str, id: &str) -> Self {
        let id = tollgate_core::key::shown(id, 130);
        Self::new(
            StatusCode::NOT_FOUND,
            "not-found",
            "Not found",
            format!("there is no {what} `{id}`"),
        )
    }

    /// The path has no endpoint.
    pub(crate) fn unknown_endpoint() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not-found",
            "Not found",
            "there is no such endpoint; `/openapi.json` lists all of them",
        )
    }

    /// The endpoint has no such method.
    pub(crate) fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method-not-allowed",
            "Method not allowed",
            "this endpoint does not take this method; `/openapi.json` lists those that it takes",
        )
    }

    /// It can't be done as things stand.
    pub(crate) fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", "Conflict", detail)
    }

    /// Somebody else was quicker.
    pub(crate) fn stale(found: i64) -> Self {
        Self::new(
            StatusCode::PRECONDITION_FAILED,
            "stale",
            "Changed meanwhile",
            format!("it was changed since it was read, its revision is {found}; read it again"),
        )
    }

    /// The database failed while a change was made to last, and whether it was is not known.
    pub(crate) fn unknown_outcome(why: &str) -> Self {
        Self {
            retry_after: Some(1),
            ..Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "unknown-outcome",
                "Outcome unknown",
                format!(
                    "the database failed at the last step, and the change may have been made or not: look whether it is \
                     there, or send a create again with the same `idempotency-key` ({why})"
                ),
            )
        }
    }

    /// The books of the fleet do not serve.
    pub(crate) fn no_books(why: String) -> Self {
        Self {
            retry_after: Some(1),
            ..Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "no-books",
                "Limits of the fleet unavailable",
                format!("the message may have been heard or not, send the next one: {why}"),
            )
        }
    }

    /// The database does not serve.
    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        Self {
            retry_after: Some(1),
            ..Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "Database unavailable",
                detail,
            )
        }
    }
}

impl core::fmt::Display for Problem {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Problem {}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// Every error that an endpoint may answer with, for the description of the API.
pub(crate) struct Problems;

impl IntoResponses for Problems {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        const ALL: [(u16, &str); 10] = [
            (400, "The request can't be read."),
            (401, "There is no token, or none that is good."),
            (403, "The token may not do that."),
            (404, "There is no such thing, or none that the token may see."),
            (409, "It can't be done as things stand."),
            (412, "It was changed since the revision that `if-match` names."),
            (413, "The body is too large."),
            (422, "Members are wrong: `errors` names each."),
            (
                429,
                "Too many requests without a good token came from this address, too many writes, reads or messages of this \
                 token wait, or it or its organization has used up its quota of writes.",
            ),
            (
                503,
                "The database does not serve. Nothing was changed, unless `type` is `urn:tollgate:problem:unknown-outcome`, or \
                 `urn:tollgate:problem:no-books` of a gateway's message.",
            ),
        ];
        let content = || {
            openapi::ContentBuilder::new()
                .schema(Some(openapi::Ref::from_schema_name("Problem")))
                .build()
        };
        let response = |text: &str| {
            openapi::ResponseBuilder::new()
                .description(text)
                .content("application/problem+json", content())
                .build()
        };
        ALL.iter()
            .map(|(status, text)| (status.to_string(), response(text).into()))
            .collect()
    }
}

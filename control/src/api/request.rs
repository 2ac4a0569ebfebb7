//! Extractors: who asks, the options of a write, the page of a list, the body.

use core::time::Duration;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tollgate_core::config::ConfigError;
use utoipa::IntoParams;

use super::members::no_such_member;
use super::{App, MAX_BODY, MAX_IMPORT};
use crate::access::Caller;
use crate::check;
use crate::objects::Objects;
use crate::problem::Problem;
use crate::unique;

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        if let Some(caller) = parts.extensions.get::<Self>() {
            return Ok(caller.clone());
        }
        let address = parts
            .extensions
            .get::<ConnectInfo<SocketAddr>>()
            .map(|peer| peer.0.ip().to_canonical());
        let authorization = text(&parts.headers, header::AUTHORIZATION)?;
        if let Err(lost) = app.store.ensure_believed() {
            return app
                .authenticator
                .known_gateway(authorization, address)
                .ok_or(lost);
        }
        let caller = app
            .authenticator
            .authenticate(&app.store, authorization, address)
            .await?;
        if !parts.method.is_safe() {
            return Ok(caller);
        }
        let reading = app.store.place_to_read(&caller).await?;
        Ok(caller.with_reading(reading))
    }
}

/// Options of every write.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct WriteOptions {
    /// Change nothing, and show what would be changed.
    #[param(required = false)]
    pub(super) dry_run: bool,
    /// Reason to record in the trail.
    #[param(required = false, nullable = false, max_length = 500)]
    pub(super) reason: Option<String>,
}

impl FromRequestParts<Arc<App>> for WriteOptions {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let Query(options) = Query::<Self>::from_request_parts(parts, app).await?;
        options.reason.as_deref().map_or(Ok(()), check::reason)?;
        Ok(options)
    }
}

/// The query string.
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<Arc<App>> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, Problem> {
        // PostgreSQL keeps no NUL, so nothing has one.
        if parts.uri.query().is_some_and(|query| query.contains("%00")) {
            return Err(Problem::field("", "the query has a NUL character"));
        }
        let query = axum::extract::Query::<T>::try_from_uri(&parts.uri);
        query
            .map(|axum::extract::Query(query)| Self(query))
            .map_err(|error| Problem::malformed(format!("the query: {}", without_keys(error.body_text()))))
    }
}

/// An error without other systems' keys, which core knows. [`Problem`] masks ours.
fn without_keys(error: String) -> String {
    ConfigError::new("", error).problem
}

/// The names in a path.
pub(super) struct Path<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<App>> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        if parts.uri.path().contains("%00") {
            return Err(Problem::not_found("object", parts.uri.path()));
        }
        let path = axum::extract::Path::<T>::from_request_parts(parts, app).await;
        path.map(|axum::extract::Path(names)| Self(names))
            .map_err(|error| Problem::malformed(format!("the path: {}", without_keys(error.body_text()))))
    }
}

/// The revision that `if-match` names; `None` where any will do.
pub(super) struct IfMatch(pub(super) Option<i64>);

impl FromRequestParts<Arc<App>> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, Problem> {
        let Some(tag) = text(&parts.headers, header::IF_MATCH)? else {
            return Ok(Self(None));
        };
        if tag.trim() == "*" {
            return Ok(Self(None));
        }
        let revision = tag.trim().strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
        let revision = revision.and_then(|revision| revision.parse().ok());
        let wrong =
            || Problem::malformed("`if-match` is not an `ETag` of this server: expected one such as `\"3\"`");
        Ok(Self(Some(revision.ok_or_else(wrong)?)))
    }
}

/// The body, as JSON.
pub(super) struct JsonBody<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &Arc<App>) -> Result<Self, Problem> {
        parse(&read(request, MAX_BODY).await?).map(Self)
    }
}

/// Whoever sends a body slower than this has gone, or holds a place for later.
const BODY_WITHIN: Duration = Duration::from_secs(30);

/// The body of an import, as JSON.
pub(super) struct ImportBody<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for ImportBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &Arc<App>) -> Result<Self, Problem> {
        parse(&read(request, MAX_IMPORT).await?).map(Self)
    }
}

async fn read(request: Request, most: usize) -> Result<bytes::Bytes, Problem> {
    let kind = text(request.headers(), header::CONTENT_TYPE)?.unwrap_or("application/json");
    let kind = kind
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    if !["application/json", "application/merge-patch+json"].contains(&kind.as_str()) {
        return Err(Problem::malformed(
            "the body has to be JSON, with `content-type: application/json`",
        ));
    }
    let length = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: usize| length > most) {
        return Err(Problem::too_large(most));
    }
    let body = axum::body::to_bytes(request.into_body(), most);
    let Ok(body) = tokio::time::timeout(BODY_WITHIN, body).await else {
        return Err(Problem::malformed("the body did not come within 30 seconds"));
    };
    body.map_err(|_| Problem::too_large(most))
}

/// Reads JSON; the error names the member. A credential in the wrong place is masked. A member that is there twice is
/// refused: whoever looked at the request before may have read the other one.
pub(super) fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, Problem> {
    ensure_without_nul(json)?;
    if let Some(name) = unique::first_twice(json) {
        let name = tollgate_core::key::shown(&name, 64);
        return Err(Problem::malformed(format!(
            "the member `{name}` is there twice in one object"
        )));
    }
    let mut reader = serde_json::Deserializer::from_slice(json);
    let mut unknown = None;
    let mut ignored =
        |path: serde_ignored::Path<'_>| unknown = unknown.take().or_else(|| Some(path.to_string()));
    let known = serde_ignored::Deserializer::new(Objects(&mut reader), &mut ignored);
    let value = serde_path_to_error::deserialize(known).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." { String::new() } else { path };
        Problem::from_config_errors(
            &[ConfigError::new(path, without_place(&error.inner().to_string()))],
            "",
        )
    })?;
    let end = reader.end();
    end.map_err(|error| Problem::from_config_errors(&[ConfigError::new("", error.to_string())], ""))?;
    match unknown {
        None => Ok(value),
        Some(path) => Err(Problem::from_config_errors(
            &[ConfigError::new(path.as_str(), no_such_member::<T>(&path))],
            "",
        )),
    }
}

/// Fails where a text in it has a NUL, which PostgreSQL does not keep.
fn ensure_without_nul(json: &[u8]) -> Result<(), Problem> {
    fn has_nul(value: &Value) -> bool {
        match value {
            Value::String(text) => text.contains('\0'),
            Value::Array(items) => items.iter().any(has_nul),
            Value::Object(members) => members
                .iter()
                .any(|(name, value)| name.contains('\0') || has_nul(value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
    }

    // It can't stand there but as an escape, which nearly nothing has.
    let escape = br"\u0000";
    let may_have = json.windows(escape.len()).any(|some| some == escape);
    if may_have && serde_json::from_slice(json).is_ok_and(|value| has_nul(&value)) {
        return Err(Problem::field("", "a text in it has a NUL character"));
    }
    Ok(())
}

/// What is wrong, without where: the member is named, and the JSON may be none that anybody wrote.
fn without_place(error: &str) -> &str {
    match error.rsplit_once(" at line ") {
        Some((what, place))
            if place
                .bytes()
                .all(|byte| byte.is_ascii_digit() || b" column".contains(&byte)) =>
        {
            what
        }
        _ => error,
    }
}

/// A header's text.
pub(super) fn text(headers: &HeaderMap, name: header::HeaderName) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all(&name).iter();
    let value = values.next().map(|value| value.to_str());
    if values.next().is_some() {
        // Whoever is before the server may have read another one.
        return Err(Problem::malformed(format!(
            "the header `{name}` is there more than once"
        )));
    }
    value
        .transpose()
        .map_err(|_| Problem::malformed(format!("the header `{name}` is not plain text")))
}

/// Which page of a list.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// Of this organization only.
    #[param(required = false, nullable = false)]
    pub(super) org: Option<String>,
    /// After this id: `next` of the page before.
    #[param(required = false, nullable = false)]
    pub(super) after: Option<String>,
    /// At most so many, up to 1,000; 100 if absent.
    #[param(required = false, nullable = false, minimum = 1, maximum = 1000)]
    pub(super) limit: Option<u32>,
}

impl PageQuery {
    /// How many to show.
    pub(super) fn limit(&self) -> Result<i64, Problem> {
        let limit = self.limit.unwrap_or(100);
        if !(1..=1_000).contains(&limit) {
            return Err(Problem::invalid(
                "limit",
                &limit.to_string(),
                "a number from 1 to 1000",
            ));
        }
        Ok(limit.into())
    }
}

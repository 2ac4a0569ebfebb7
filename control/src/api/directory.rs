//! `/v1/directory`: what gateways fetch.

use core::time::Duration;
use std::io::Write as _;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream;
use serde::Deserialize;
use utoipa::IntoParams;

use super::App;
use super::request::{Query, text};
use crate::access::{Caller, Permission};
use crate::directory::{CHANGES_MEDIA_TYPE, Version};
use crate::problem::{Problem, Problems};
use crate::spool::Spool;

/// Longest wait for a change, in seconds.
const LONGEST_WAIT: u32 = 300;

/// What the gateway has already.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct DirectoryQuery {
    /// The version that the gateway has, as its `ETag` said: what changed since is enough.
    #[param(required = false, nullable = false)]
    after: Option<String>,
    /// Seconds to wait for a change where there is none, up to 300.
    #[param(required = false, minimum = 0, maximum = 300)]
    wait: u32,
}

/// The directory: whole as `application/json`, or, with `after`, what changed since that version as
/// `application/vnd.tollgate.changes+json`. 304 where nothing did.
#[utoipa::path(get, path = "/v1/directory", params(DirectoryQuery), tag = "directory", responses(
    (status = 200, description = "The directory, or what changed in it.", content_type = "application/json"),
    (status = 304, description = "It is still the version that `after` or `if-none-match` names."),
    Problems,
))]
pub(super) async fn fetch(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(query): Query<DirectoryQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    caller.authorize(Permission::FetchDirectory)?;
    if query.wait > LONGEST_WAIT {
        return Err(Problem::invalid(
            "wait",
            &query.wait.to_string(),
            "a number of seconds from 0 to 300",
        ));
    }
    let held = match &query.after {
        Some(after) => Some(after.as_str()),
        None => text(&headers, header::IF_NONE_MATCH)?,
    };
    let held = held.and_then(Version::parse);
    app.gateways.note(&caller, held.as_ref());
    let gzip = text(&headers, header::ACCEPT_ENCODING)?.is_some_and(takes_gzip);
    if let Err(lost) = app.store.ensure_believed() {
        let wait = Duration::from_secs(query.wait.into());
        return last(&app, held, wait, gzip).await.ok_or(lost);
    }
    if let Some(held) = &held {
        let wait = Duration::from_secs(query.wait.into());
        let version = app.store.wait_for_change(held, wait).await?;
        if query.wait > 0 {
            app.store.ensure_token_valid(&caller).await?;
        }
        if version == *held {
            return Ok(tagged(StatusCode::NOT_MODIFIED.into_response(), &version.text()));
        }
        if query.after.is_some()
            && let Some((version, changes)) = app.store.changed_since(held).await?
        {
            let json = serde_json::to_vec(&changes).unwrap_or_default();
            let mut response = if gzip && json.len() > 1_024 {
                gzipped(&json)?
            } else {
                json.into_response()
            };
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, HeaderValue::from_static(CHANGES_MEDIA_TYPE));
            return Ok(tagged(response, &version.text()));
        }
    }
    Ok(whole(app.store.document().await?, gzip))
}

/// The last directory, where the database is not to be believed any more; `None` where it is not here. An older one is not
/// told: keys that were revoked since would be good again.
async fn last(app: &App, held: Option<Version>, wait: Duration, gzip: bool) -> Option<Response> {
    let (version, document) = app.store.last_document().await;
    let version = version?;
    if held.as_ref() == Some(&version) {
        tokio::time::sleep(wait).await;
        return Some(tagged(StatusCode::NOT_MODIFIED.into_response(), &version.text()));
    }
    document.map(|document| whole(document, gzip))
}

fn whole(document: Arc<Spool>, gzip: bool) -> Response {
    let version = document.version().to_owned();
    let mut response = Response::new(body(document, gzip));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if gzip {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    tagged(response, &version)
}

fn tagged(mut response: Response, version: &str) -> Response {
    if let Ok(tag) = HeaderValue::try_from(format!("\"{version}\"")) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn takes_gzip(accepted: &str) -> bool {
    accepted.split(',').any(|one| {
        let (coding, quality) = one.split_once(';').unwrap_or((one, ""));
        coding.trim().eq_ignore_ascii_case("gzip") && !quality.replace(' ', "").eq_ignore_ascii_case("q=0")
    })
}

fn gzipped(json: &[u8]) -> Result<Response, Problem> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let done = encoder.write_all(json).and_then(|()| encoder.finish());
    let bytes =
        done.map_err(|error| Problem::unavailable(format!("the answer cannot be compressed: {error}")))?;
    Ok(([(header::CONTENT_ENCODING, "gzip")], bytes).into_response())
}

/// The document as a body. Where it can't be read it is cut short, and the gateway keeps the one it has.
fn body(document: Arc<Spool>, gzip: bool) -> Body {
    let encoder = gzip.then(|| GzEncoder::new(Vec::new(), Compression::fast()));
    Body::from_stream(stream::try_unfold(
        (0_u64, encoder, false),
        move |(mut at, mut encoder, is_over)| {
            let document = Arc::clone(&document);
            async move {
                if is_over {
                    return Ok(None);
                }
                loop {
                    let piece = document.read(at)?;
                    at += piece.len() as u64;
                    let Some(coder) = &mut encoder else {
                        let piece = (!piece.is_empty()).then(|| Bytes::from(piece));
                        return Ok::<_, std::io::Error>(piece.map(|piece| (piece, (at, None, false))));
                    };
                    if piece.is_empty() {
                        let last = encoder.take().map(GzEncoder::finish).transpose()?;
                        let last = Bytes::from(last.unwrap_or_default());
                        return Ok(Some((last, (at, None, true))));
                    }
                    coder.write_all(&piece)?;
                    let bytes = core::mem::take(coder.get_mut());
                    if !bytes.is_empty() {
                        return Ok(Some((Bytes::from(bytes), (at, encoder, false))));
                    }
                }
            }
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_taken_where_it_is_named() {
        for (accepted, takes) in [
            ("gzip", true),
            ("br, GZIP;q=0.5", true),
            ("gzip; q=0", false),
            ("br", false),
            ("", false),
        ] {
            assert_eq!(takes_gzip(accepted), takes, "{accepted}");
        }
    }
}

//! `/v1/tokens`: who may use this API.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::idempotency::IdempotentRequest;
use super::request::{JsonBody, PageQuery, Path, Query, WriteOptions};
use super::{App, Changed, Page, Preview, commit_or_preview, no_store, to_page};
use crate::access::{Caller, Permission, mint};
use crate::check;
use crate::documents::{Org, Role, Token};
use crate::problem::{Problem, Problems};
use crate::store::{ListQuery, StoreError, Stored};
use crate::time;

/// A new token.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewToken {
    /// What it may do.
    role: Role,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64)]
    name: Option<String>,
    /// Organizations it is limited to; unrestricted if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    orgs: Option<Vec<String>>,
    /// When it ends (RFC 3339); never if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
}

/// A token that was just made.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CreatedToken {
    /// The token itself. It is shown this once and kept nowhere.
    secret: String,
    #[serde(flatten)]
    token: Token,
}

/// The tokens.
#[utoipa::path(get, path = "/v1/tokens", params(PageQuery), tag = "tokens", responses(
    (status = 200, body = Page<Token>),
    Problems,
))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<Page<Value>>, Problem> {
    caller.authorize(Permission::ManageTokens)?;
    let wanted = ListQuery {
        org: "",
        after: query.after.as_deref().unwrap_or_default(),
        limit: query.limit()?,
    };
    let listed = app.store.list(wanted).await?;
    to_page(&app.store, &caller, listed, |token: &Token| token.id.clone()).await
}

/// Makes a token. The answer has its secret, which is shown this once.
#[utoipa::path(post, path = "/v1/tokens", tag = "tokens", params(WriteOptions), request_body = NewToken, responses(
    (status = 201, body = CreatedToken), (status = 200, body = Preview, description = "A dry run."),
    Problems,
))]
pub(super) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    options: WriteOptions,
    headers: HeaderMap,
    JsonBody(body): JsonBody<NewToken>,
) -> Result<Response, Problem> {
    caller.authorize(Permission::ManageTokens)?;
    let idempotency = IdempotentRequest::from_headers(&headers, "tokens", &body)?;
    let mut write = app
        .store
        .begin(&caller, "token.create", options.reason.as_deref())
        .await?;
    if let Some(idempotency) = &idempotency
        && let Some(answer) = idempotency.stored_answer(&mut write, &caller, &options).await?
    {
        return Ok(answer);
    }
    check::name(body.name.as_deref())?;
    time::ensure_future("expires_at", body.expires_at.as_deref(), write.time())?;
    match &body.orgs {
        Some(_) if body.role == Role::Gateway => {
            return Err(Problem::field(
                "orgs",
                "a gateway fetches the whole directory: leave it out",
            ));
        }
        Some(orgs) if orgs.is_empty() => {
            return Err(Problem::field(
                "orgs",
                "is empty: name organizations, or leave it out for all of them",
            ));
        }
        _ => {}
    }
    for (at, org) in body.orgs.iter().flatten().enumerate() {
        if write.find::<Org>(org).await?.is_none() {
            return Err(Problem::invalid(
                &format!("orgs[{at}]"),
                org,
                "an organization that exists",
            ));
        }
    }
    let (secret, token) = mint(body.name, body.role, body.orgs, body.expires_at, caller.name())
        .map_err(|error| Problem::unavailable(StoreError::Random(error).to_string()))?;
    write.create(&token).await?;
    if let Some(idempotency) = &idempotency {
        idempotency.remember(&mut write, &caller, &token).await?;
    }
    if options.dry_run {
        return commit_or_preview(write, "", &options, StatusCode::CREATED, &token, 0).await;
    }
    let created = CreatedToken { secret, token };
    let response = commit_or_preview(write, "", &options, StatusCode::CREATED, &created, 0).await?;
    Ok(no_store(response))
}

/// Revokes a token, for good. Doing it again changes nothing.
#[utoipa::path(post, path = "/v1/tokens/{token}/revoke", tag = "tokens", params(WriteOptions, ("token" = String, Path)), responses(
    (status = 200, body = Changed<Token>), Problems,
))]
pub(super) async fn revoke(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    options: WriteOptions,
) -> Result<Response, Problem> {
    caller.authorize(Permission::ManageTokens)?;
    let mut write = app
        .store
        .begin(&caller, "token.revoke", options.reason.as_deref())
        .await?;
    let before: Stored<Token> = write.get(&id).await?;
    let token = Token {
        revoked_at: Some(
            before
                .document
                .revoked_at
                .clone()
                .unwrap_or_else(|| time::to_rfc3339(write.time())),
        ),
        ..before.document.clone()
    };
    write.replace(&before, &token).await?;
    commit_or_preview(write, "", &options, StatusCode::OK, &token, before.revision).await
}

//! `/v1/orgs`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::idempotency::IdempotentRequest;
use super::patch::{apply_patch, split_id};
use super::request::{IfMatch, JsonBody, PageQuery, Path, Query, WriteOptions};
use super::{App, Changed, Page, Preview, commit_or_preview, ensure_current, show, to_page};
use crate::access::{Caller, Permission};
use crate::check;
use crate::documents::{Kind, Metadata, Org, OrgSpec};
use crate::problem::{Problem, Problems};
use crate::store::{ListQuery, Listed, Stored};
use crate::time;

/// A new organization.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub(super) struct NewOrg {
    /// Its name: 1 to 64 characters of `A-Z a-z 0-9 . _ -`. It can't be changed.
    id: String,
    #[serde(flatten)]
    spec: OrgSpec,
}

/// The organizations.
#[utoipa::path(get, path = "/v1/orgs", params(PageQuery), tag = "organizations", responses(
    (status = 200, body = Page<Org>), Problems,
))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<Page<Value>>, Problem> {
    caller.authorize(Permission::Read)?;
    if let Some(orgs) = caller.orgs() {
        let wanted = orgs
            .iter()
            .filter(|org| query.org.as_ref().is_none_or(|wanted| wanted == *org));
        let mut found = Vec::new();
        for org in wanted {
            found.extend(app.store.find::<Org>(org).await?);
        }
        let all = Listed {
            found,
            has_more: false,
        };
        return to_page(&app.store, &caller, all, |org: &Org| org.id.clone()).await;
    }
    let wanted = ListQuery {
        org: query.org.as_deref().unwrap_or_default(),
        after: query.after.as_deref().unwrap_or_default(),
        limit: query.limit()?,
    };
    let listed = app.store.list(wanted).await?;
    to_page(&app.store, &caller, listed, |org: &Org| org.id.clone()).await
}

/// One organization.
#[utoipa::path(get, path = "/v1/orgs/{org}", tag = "organizations", params(("org" = String, Path)), responses(
    (status = 200, body = Org), Problems,
))]
pub(super) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    caller.authorize_in(Permission::Read, &id)?;
    let org = app.store.get::<Org>(&id).await?;
    show(&app.store, &caller, StatusCode::OK, &org.document, org.revision).await
}

/// Makes an organization.
#[utoipa::path(post, path = "/v1/orgs", tag = "organizations", params(WriteOptions), request_body = NewOrg, responses(
    (status = 201, body = Org), (status = 200, body = Preview, description = "A dry run."),
    Problems,
))]
pub(super) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    options: WriteOptions,
    headers: HeaderMap,
    JsonBody(body): JsonBody<Value>,
) -> Result<Response, Problem> {
    caller.authorize(Permission::ManageOrgs)?;
    let idempotency = IdempotentRequest::from_headers(&headers, "orgs", &body)?;
    let (id, spec) = split_id(body)?;
    let spec: OrgSpec = spec;
    let mut write = app
        .store
        .begin(&caller, "org.create", options.reason.as_deref())
        .await?;
    if let Some(idempotency) = &idempotency
        && let Some(answer) = idempotency.stored_answer(&mut write, &caller, &options).await?
    {
        return Ok(answer);
    }
    let org = Org {
        id,
        spec,
        metadata: Metadata::new(time::to_rfc3339(write.time()), caller.name()),
    };
    check::org(&org, &[])?;
    write.create(&org).await?;
    if let Some(idempotency) = &idempotency {
        idempotency.remember(&mut write, &caller, &org).await?;
    }
    commit_or_preview(write, &org.id, &options, StatusCode::CREATED, &org, 0).await
}

/// Changes an organization: a JSON merge patch (RFC 7396) of what a client sets.
#[utoipa::path(patch, path = "/v1/orgs/{org}", tag = "organizations", params(WriteOptions, ("org" = String, Path)),
    request_body = OrgSpec, responses(
    (status = 200, body = Changed<Org>), Problems,
))]
pub(super) async fn change(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    options: WriteOptions,
    if_match: IfMatch,
    JsonBody(change): JsonBody<Value>,
) -> Result<Response, Problem> {
    caller.authorize_in(Permission::ManageOrgs, &id)?;
    let mut write = app
        .store
        .begin(&caller, "org.change", options.reason.as_deref())
        .await?;
    let before: Stored<Org> = write.get(&id).await?;
    ensure_current(&before, &if_match)?;
    let org = Org {
        spec: apply_patch(&before.document.spec, change)?,
        ..before.document.clone()
    };
    check::org(&org, &[])?;
    write.replace(&before, &org).await?;
    commit_or_preview(write, &id, &options, StatusCode::OK, &org, before.revision).await
}

/// Removes an organization that has neither projects nor keys that are not revoked. Its name is not used again.
#[utoipa::path(delete, path = "/v1/orgs/{org}", tag = "organizations", params(WriteOptions, ("org" = String, Path)), responses(
    (status = 200, body = Changed<Org>), Problems,
))]
pub(super) async fn remove(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    options: WriteOptions,
    if_match: IfMatch,
) -> Result<Response, Problem> {
    caller.authorize_in(Permission::ManageOrgs, &id)?;
    let mut write = app
        .store
        .begin(&caller, "org.remove", options.reason.as_deref())
        .await?;
    let before: Stored<Org> = write.get(&id).await?;
    ensure_current(&before, &if_match)?;
    if write.count_in_force(Kind::Key, &id, 1).await? > 0 {
        return Err(Problem::conflict(format!(
            "`{id}` still has keys; revoke them first"
        )));
    }
    let projects = write.count(Kind::Project, &id).await?;
    if projects > 0 {
        return Err(Problem::conflict(format!(
            "`{id}` still has {projects} projects; remove them first"
        )));
    }
    write.remove(&before).await?;
    commit_or_preview(
        write,
        &id,
        &options,
        StatusCode::OK,
        &before.document,
        before.revision,
    )
    .await
}

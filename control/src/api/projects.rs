//! `/v1/orgs/{org}/projects`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::idempotency::IdempotentRequest;
use super::patch::{apply_patch, metadata_after, sets_status, split_id};
use super::quotas::ensure_room_for_projects;
use super::request::{IfMatch, JsonBody, PageQuery, Path, Query, WriteOptions};
use super::{App, Changed, Page, Preview, commit_or_preview, ensure_current, show, to_page};
use crate::access::{Caller, Permission};
use crate::check;
use crate::documents::{Metadata, Org, Project, ProjectSpec, Status, project_id};
use crate::problem::{Problem, Problems};
use crate::store::{ListQuery, Stored};
use crate::time;

/// A new project.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub(super) struct NewProject {
    /// Its name in its organization: 1 to 64 characters of `A-Z a-z 0-9 . _ -`. It can't be changed.
    id: String,
    #[serde(flatten)]
    spec: ProjectSpec,
}

/// The projects of an organization.
#[utoipa::path(get, path = "/v1/orgs/{org}/projects", params(PageQuery, ("org" = String, Path)), tag = "projects", responses(
    (status = 200, body = Page<Project>),
    Problems,
))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(org): Path<String>,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<Page<Value>>, Problem> {
    caller.authorize_in(Permission::Read, &org)?;
    app.store.get::<Org>(&org).await?;
    let limit = query.limit()?;
    let after = query
        .after
        .map(|after| project_id(&org, &after))
        .unwrap_or_default();
    let wanted = ListQuery {
        org: &org,
        after: &after,
        limit,
    };
    let listed = app.store.list(wanted).await?;
    to_page(&app.store, &caller, listed, |project: &Project| {
        project.id.clone()
    })
    .await
}

/// One project.
#[utoipa::path(get, path = "/v1/orgs/{org}/projects/{project}", tag = "projects",
    params(("org" = String, Path), ("project" = String, Path)), responses(
    (status = 200, body = Project), Problems,
))]
pub(super) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((org, project)): Path<(String, String)>,
) -> Result<Response, Problem> {
    caller.authorize_in(Permission::Read, &org)?;
    let project = app.store.get::<Project>(&project_id(&org, &project)).await?;
    show(
        &app.store,
        &caller,
        StatusCode::OK,
        &project.document,
        project.revision,
    )
    .await
}

/// Makes a project.
#[utoipa::path(post, path = "/v1/orgs/{org}/projects", tag = "projects", params(WriteOptions, ("org" = String, Path)),
    request_body = NewProject, responses(
    (status = 201, body = Project), (status = 200, body = Preview, description = "A dry run."),
    Problems,
))]
pub(super) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(org): Path<String>,
    options: WriteOptions,
    headers: HeaderMap,
    JsonBody(body): JsonBody<Value>,
) -> Result<Response, Problem> {
    caller.authorize_in(Permission::ManageKeys, &org)?;
    let idempotency = IdempotentRequest::from_headers(&headers, &format!("projects/{org}"), &body)?;
    let (id, spec) = split_id(body)?;
    let spec: ProjectSpec = spec;
    let mut write = app
        .store
        .begin(&caller, "project.create", options.reason.as_deref())
        .await?;
    if let Some(idempotency) = &idempotency
        && let Some(answer) = idempotency.stored_answer(&mut write, &caller, &options).await?
    {
        return Ok(answer);
    }
    let parent: Stored<Org> = write.get(&org).await?;
    let metadata = Metadata::new(time::to_rfc3339(write.time()), caller.name());
    let project = Project {
        id,
        org,
        metadata: metadata.with_status(spec.status, !caller.is_confined()),
        spec,
    };
    check::org(&parent.document, core::slice::from_ref(&project))?;
    write.create(&project).await?;
    ensure_room_for_projects(&mut write, &caller, &project.org).await?;
    if let Some(idempotency) = &idempotency {
        idempotency.remember(&mut write, &caller, &project).await?;
    }
    commit_or_preview(write, &project.org, &options, StatusCode::CREATED, &project, 0).await
}

/// Changes a project: a JSON merge patch (RFC 7396) of what a client sets.
#[utoipa::path(patch, path = "/v1/orgs/{org}/projects/{project}", tag = "projects",
    params(WriteOptions, ("org" = String, Path), ("project" = String, Path)), request_body = ProjectSpec, responses(
    (status = 200, body = Changed<Project>), Problems,
))]
pub(super) async fn change(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((org, project)): Path<(String, String)>,
    options: WriteOptions,
    if_match: IfMatch,
    JsonBody(change): JsonBody<Value>,
) -> Result<Response, Problem> {
    caller.authorize_in(Permission::ManageKeys, &org)?;
    let mut write = app
        .store
        .begin(&caller, "project.change", options.reason.as_deref())
        .await?;
    let parent: Stored<Org> = write.get(&org).await?;
    let before: Stored<Project> = write.get(&project_id(&org, &project)).await?;
    ensure_current(&before, &if_match)?;
    let sets_status = sets_status(&change);
    let spec: ProjectSpec = apply_patch(&before.document.spec, change)?;
    let project = Project {
        metadata: metadata_after(&caller, &before.document.metadata, spec.status, sets_status)?,
        spec,
        ..before.document.clone()
    };
    check::org(&parent.document, core::slice::from_ref(&project))?;
    let suspended = ProjectSpec {
        status: Status::Suspended,
        ..before.document.spec.clone()
    };
    if project.spec == suspended {
        // To be suspended again it has to be resumed.
        write.makes_safer();
    }
    write.replace(&before, &project).await?;
    // One that shrinks is let, so that what is too much can become less.
    if size(&project.spec) > size(&before.document.spec) {
        ensure_room_for_projects(&mut write, &caller, &org).await?;
    }
    commit_or_preview(write, &org, &options, StatusCode::OK, &project, before.revision).await
}

fn size(spec: &ProjectSpec) -> usize {
    json!(spec).to_string().len()
}

/// Removes a project that has no keys any more. Its name is not used again.
#[utoipa::path(delete, path = "/v1/orgs/{org}/projects/{project}", tag = "projects",
    params(WriteOptions, ("org" = String, Path), ("project" = String, Path)), responses(
    (status = 200, body = Changed<Project>), Problems,
))]
pub(super) async fn remove(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((org, project)): Path<(String, String)>,
    options: WriteOptions,
    if_match: IfMatch,
) -> Result<Response, Problem> {
    caller.authorize_in(Permission::ManageKeys, &org)?;
    let id = project_id(&org, &project);
    let in_use = || Problem::conflict(format!("`{id}` still has keys; revoke them first"));
    let reading = app.store.place_to_read(&caller).await?;
    app.store.get::<Project>(&id).await?;
    // Before anybody waits for the database: an organization may have many keys.
    let seq = app.store.without_keys(&org, &project).await?;
    let seq = seq.ok_or_else(in_use)?;
    drop(reading);
    let mut write = app
        .store
        .begin(&caller, "project.remove", options.reason.as_deref())
        .await?;
    let before: Stored<Project> = write.get(&id).await?;
    ensure_current(&before, &if_match)?;
    if write.has_key_since(seq, &org, &project).await? {
        return Err(in_use());
    }
    write.remove(&before).await?;
    commit_or_preview(
        write,
        &org,
        &options,
        StatusCode::OK,
        &before.document,
        before.revision,
    )
    .await
}

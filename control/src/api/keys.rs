//! `/v1/keys`: made, changed, rotated, revoked. A key's secret is in the answer to its making, and nowhere else.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tollgate_core::key::{ApiKey, KeyHash};
use utoipa::{IntoParams, ToSchema};

use super::idempotency::IdempotentRequest;
use super::patch::{apply_patch, metadata_after, sets_status};
use super::quotas::{ensure_key_is_small, ensure_room_for_keys};
use super::request::{IfMatch, JsonBody, PageQuery, Path, Query, WriteOptions, parse};
use super::{
    App, Changed, Page, Preview, authorize_object, commit_or_preview, ensure_current, no_store, show, to_page,
};
use crate::access::{Caller, Permission};
use crate::check;
use crate::documents::{
    Cap, Freeze, Incident, Key, KeySpec, Metadata, Org, Project, Rotation, Status, project_id,
};
use crate::problem::{Problem, Problems};
use crate::store::{ListQuery, Listed, StoreError, Stored, Write};
use crate::time;

/// A new key.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub(super) struct NewKey {
    /// Its organization.
    org: String,
    /// Its project; a key of the whole organization if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    project: Option<String>,
    #[serde(flatten)]
    spec: KeySpec,
}

/// A key that was just made.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CreatedKey {
    /// The key itself, for its holder. It is shown this once and kept nowhere.
    secret: String,
    #[serde(flatten)]
    key: Key,
}

/// Which keys to list.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct KeysQuery {
    /// Of this organization only.
    #[param(required = false, nullable = false)]
    org: Option<String>,
    /// The one with this SHA-256, in hexadecimal digits, of whichever organization the token sees.
    #[param(required = false, nullable = false, pattern = "^[0-9a-fA-F]{64}$")]
    sha256: Option<String>,
    /// After this id: `next` of the page before.
    #[param(required = false, nullable = false)]
    after: Option<String>,
    /// At most so many, up to 1,000; 100 if absent.
    #[param(required = false, nullable = false, minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// The keys.
#[utoipa::path(get, path = "/v1/keys", params(KeysQuery), tag = "keys", responses(
    (status = 200, body = Page<Key>), Problems,
))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(query): Query<KeysQuery>,
) -> Result<axum::Json<Page<Value>>, Problem> {
    caller.authorize(Permission::Read)?;
    let KeysQuery {
        org,
        sha256,
        after,
        limit,
    } = query;
    let query = PageQuery { org, after, limit };
    let limit = query.limit()?;
    if let Some(sha256) = sha256 {
        let found = by_sha256(&app, &caller, query.org.as_deref(), &sha256).await?;
        return to_page(&app.store, &caller, found, |key: &Key| key.id.clone()).await;
    }
    let org = super::org_filter(&caller, query.org.as_deref())?;
    let wanted = ListQuery {
        org: &org,
        after: query.after.as_deref().unwrap_or_default(),
        limit,
    };
    let listed = app.store.list(wanted).await?;
    to_page(&app.store, &caller, listed, |key: &Key| key.id.clone()).await
}

/// The key with a SHA-256, where the caller sees it and it is of the organization that is asked for.
async fn by_sha256(
    app: &App,
    caller: &Caller,
    org: Option<&str>,
    sha256: &str,
) -> Result<Listed<Key>, Problem> {
    if let Some(org) = org {
        caller.authorize_in(Permission::Read, org)?;
    }
    let hash = KeyHash::parse(sha256);
    let hash = hash.ok_or_else(|| Problem::invalid("sha256", sha256, "64 hexadecimal digits"))?;
    let is_seen = |key: &Key| caller.can_see(&key.org) && org.is_none_or(|org| org == key.org);
    let found = app.store.by_sha256::<Key>(&hash).await?;
    Ok(Listed {
        found: found
            .filter(|found| is_seen(&found.document))
            .into_iter()
            .collect(),
        has_more: false,
    })
}

/// One key.
#[utoipa::path(get, path = "/v1/keys/{key}", tag = "keys", params(("key" = String, Path)), responses(
    (status = 200, body = Key), Problems,
))]
pub(super) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    caller.authorize(Permission::Read)?;
    let key = app.store.get::<Key>(&id).await?;
    authorize_object(&caller, Permission::Read, &key.document.org, "key", &id)?;
    show(&app.store, &caller, StatusCode::OK, &key.document, key.revision).await
}

/// Makes a key. The answer has its secret, which is shown this once.
#[utoipa::path(post, path = "/v1/keys", tag = "keys", params(WriteOptions), request_body = NewKey, responses(
    (status = 201, body = CreatedKey), (status = 200, body = Preview, description = "A dry run."),
    Problems,
))]
pub(super) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    options: WriteOptions,
    headers: HeaderMap,
    JsonBody(body): JsonBody<Value>,
) -> Result<Response, Problem> {
    caller.authorize(Permission::ManageKeys)?;
    let idempotency = IdempotentRequest::from_headers(&headers, "keys", &body)?;
    let (org, project, spec) = split_owner(body)?;
    caller.authorize_in(Permission::ManageKeys, &org)?;
    let mut write = app
        .store
        .begin(&caller, "key.create", options.reason.as_deref())
        .await?;
    if let Some(idempotency) = &idempotency
        && let Some(answer) = idempotency.stored_answer(&mut write, &caller, &options).await?
    {
        return Ok(answer);
    }
    ensure_owner_exists(&mut write, &org, project.as_deref()).await?;
    ensure_may_change_limits(&caller, &KeySpec::default(), &spec)?;
    let secret = mint()?;
    time::ensure_future("expires_at", spec.expires_at.as_deref(), write.time())?;
    let key = Key {
        id: secret.id().to_owned(),
        sha256: secret.sha256_hex(),
        org,
        project,
        metadata: new_metadata(&write, &caller).with_status(spec.status, !caller.is_confined()),
        spec,
        revoked_at: None,
        rotated_from: None,
        rotation_root: None,
        rotation: None,
    };
    check::keys(core::slice::from_ref(&key))?;
    ensure_key_is_small(&caller, &key)?;
    write.create(&key).await?;
    ensure_room_for_keys(&mut write, &caller, &key.org).await?;
    if let Some(idempotency) = &idempotency {
        idempotency.remember(&mut write, &caller, &key).await?;
    }
    let org = key.org.clone();
    if options.dry_run {
        return commit_or_preview(write, &org, &options, StatusCode::CREATED, &key, 0).await;
    }
    let created = CreatedKey {
        secret: secret.reveal().to_owned(),
        key,
    };
    let response = commit_or_preview(write, &org, &options, StatusCode::CREATED, &created, 0).await?;
    Ok(no_store(response))
}

fn mint() -> Result<ApiKey, Problem> {
    let mut random = [0; 40];
    getrandom::fill(&mut random)
        .map_err(|error| Problem::unavailable(StoreError::Random(error).to_string()))?;
    Ok(ApiKey::mint(&random))
}

fn new_metadata(write: &Write<'_>, caller: &Caller) -> Metadata {
    Metadata::new(time::to_rfc3339(write.time()), caller.name())
}

/// Takes the owner out of a body: what is left is all that a client sets, and nothing unknown.
pub(super) fn split_owner(mut body: Value) -> Result<(String, Option<String>, KeySpec), Problem> {
    let mut take = |name: &str| match body.as_object_mut().and_then(|members| members.remove(name)) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Problem::field(name, "expected a string")),
    };
    let (org, project) = (take("org")?, take("project")?);
    let org = org.ok_or_else(|| Problem::field("org", "expected the organization that the key is for"))?;
    Ok((org, project, parse(body.to_string().as_bytes())?))
}

/// The owner exists.
async fn ensure_owner_exists(write: &mut Write<'_>, org: &str, project: Option<&str>) -> Result<(), Problem> {
    if write.find::<Org>(org).await?.is_none() {
        return Err(Problem::invalid("org", org, "an organization that exists"));
    }
    if let Some(project) = project
        && write.find::<Project>(&project_id(org, project)).await?.is_none()
    {
        return Err(Problem::invalid(
            "project",
            project,
            &format!("a project of `{org}`"),
        ));
    }
    Ok(())
}

/// Changes a key: a JSON merge patch (RFC 7396) of what a client sets.
#[utoipa::path(patch, path = "/v1/keys/{key}", tag = "keys", params(WriteOptions, ("key" = String, Path)),
    request_body = KeySpec, responses(
    (status = 200, body = Changed<Key>), Problems,
))]
pub(super) async fn change(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    options: WriteOptions,
    if_match: IfMatch,
    JsonBody(change): JsonBody<Value>,
) -> Result<Response, Problem> {
    caller.authorize(Permission::ManageKeys)?;
    let mut write = app
        .store
        .begin(&caller, "key.change", options.reason.as_deref())
        .await?;
    let before = get_unrevoked(&mut write, &caller, &id).await?;
    ensure_current(&before, &if_match)?;
    let sets_status = sets_status(&change);
    let spec: KeySpec = apply_patch(&before.document.spec, change)?;
    let key = Key {
        metadata: metadata_after(&caller, &before.document.metadata, spec.status, sets_status)?,
        spec,
        ..before.document.clone()
    };
    ensure_may_change_limits(&caller, &before.document.spec, &key.spec)?;
    ensure_goes_on_not(&caller, &before.document, &key)?;
    check::keys(core::slice::from_ref(&key))?;
    ensure_key_is_small(&caller, &key)?;
    let suspended = KeySpec {
        status: Status::Suspended,
        ..before.document.spec.clone()
    };
    if key.spec == suspended {
        // To be suspended again it has to be resumed.
        write.makes_safer();
    }
    write.replace(&before, &key).await?;
    commit_or_preview(write, &key.org, &options, StatusCode::OK, &key, before.revision).await
}

/// A key's own limits stand in place of the platform's, so a confined token changes none.
fn ensure_may_change_limits(caller: &Caller, before: &KeySpec, after: &KeySpec) -> Result<(), Problem> {
    if caller.is_confined() && before.limits != after.limits {
        return Err(Problem::forbidden(
            "a token that is confined to organizations may not change the limits of keys",
        ));
    }
    Ok(())
}

/// A key that is not revoked, and that the caller may change.
async fn get_unrevoked(write: &mut Write<'_>, caller: &Caller, id: &str) -> Result<Stored<Key>, Problem> {
    let key: Stored<Key> = write.get(id).await?;
    authorize_object(caller, Permission::ManageKeys, &key.document.org, "key", id)?;
    match &key.document.revoked_at {
        None => Ok(key),
        Some(at) => Err(Problem::conflict(format!(
            "the key `{id}` was revoked at {at}; make a new one"
        ))),
    }
}

/// Revokes a key, for good. Doing it again changes nothing.
#[utoipa::path(post, path = "/v1/keys/{key}/revoke", tag = "keys", params(WriteOptions, ("key" = String, Path)), responses(
    (status = 200, body = Changed<Key>), Problems,
))]
pub(super) async fn revoke(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    options: WriteOptions,
    if_match: IfMatch,
) -> Result<Response, Problem> {
    caller.authorize(Permission::ManageKeys)?;
    let mut write = app
        .store
        .begin(&caller, "key.revoke", options.reason.as_deref())
        .await?;
    let before: Stored<Key> = write.get(&id).await?;
    authorize_object(&caller, Permission::ManageKeys, &before.document.org, "key", &id)?;
    ensure_current(&before, &if_match)?;
    let key = revoked(&before.document, write.time());
    // Each key is only once.
    write.makes_safer();
    write.replace(&before, &key).await?;
    commit_or_preview(write, &key.org, &options, StatusCode::OK, &key, before.revision).await
}

fn revoked(key: &Key, now: i64) -> Key {
    Key {
        revoked_at: Some(key.revoked_at.clone().unwrap_or_else(|| time::to_rfc3339(now))),
        ..key.clone()
    }
}

/// Longest time for which two keys are good in place of one; milliseconds.
const LONGEST_OVERLAP: i64 = 30 * 86_400_000;

/// A key that is being rotated to is not rotated on by a confined caller while the one before is good: each has the limits
/// that the platform gave to one.
async fn ensure_predecessor_ended(write: &mut Write<'_>, caller: &Caller, key: &Key) -> Result<(), Problem> {
    let Some(old) = key.rotated_from.as_ref().filter(|_| caller.is_confined()) else {
        return Ok(());
    };
    let Some(old) = write.find::<Key>(old).await? else {
        return Ok(());
    };
    let old = old.document;
    let ends = old.spec.expires_at.as_deref();
    let ends = ends.map(|at| time::parse("expires_at", at)).transpose()?;
    if old.revoked_at.is_some() || ends.is_some_and(|ends| ends <= write.time()) {
        return Ok(());
    }
    let (id, old) = (&key.id, &old.id);
    Err(Problem::conflict(format!(
        "the key `{old}`, which `{id}` was rotated from, is still good; revoke it first, or wait until it ends"
    )))
}

/// A confined caller does not have a key go on beside the one that it was rotated to.
fn ensure_goes_on_not(caller: &Caller, before: &Key, after: &Key) -> Result<(), Problem> {
    let end = |key: &Key| {
        let at = key.spec.expires_at.as_deref();
        at.map_or(Ok(i64::MAX), |at| time::parse("expires_at", at))
    };
    if caller.is_confined() && before.rotation.is_some() && end(after)? > end(before)? {
        let id = &before.id;
        return Err(Problem::conflict(format!(
            "the key `{id}` ends as it was rotated; undo that to have it go on"
        )));
    }
    Ok(())
}

/// A key that the platform froze, capped or suspended is not got rid of by going back to the one before, or by rotating that
/// to another.
async fn ensure_not_held(write: &mut Write<'_>, old: &Key, new: &Key) -> Result<(), Problem> {
    let held = [
        by_platform::<Freeze>(write, &new.metadata).await?,
        by_platform::<Cap>(write, &new.metadata).await?,
    ];
    let suspended = new.metadata.suspended_by_platform && !old.metadata.suspended_by_platform;
    let held = held.into_iter().flatten().next();
    let Some(done) = held.or(suspended.then_some("suspended")) else {
        return Ok(());
    };
    let id = &new.id;
    Err(Problem::conflict(format!(
        "the new key `{id}` is {done} by the platform, and the old one would be good in its place; that has to end first"
    )))
}

/// What a key is by the platform, such as `frozen`.
async fn by_platform<D: Incident>(
    write: &mut Write<'_>,
    metadata: &Metadata,
) -> Result<Option<&'static str>, Problem> {
    let Some(id) = D::active_on(metadata) else {
        return Ok(None);
    };
    let incident: Stored<D> = write.get(id).await?;
    Ok((!incident.document.terms().by_confined).then_some(D::PARTICIPLE))
}

/// How a key is rotated.
#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(default)]
pub(super) struct RotateOptions {
    /// How long the old key stays good beside the new one, such as `24h`, at most `30d`; `0s` ends it at once. One day
    /// if absent.
    overlap: Option<String>,
}

/// The keys that a key was rotated to, one after the other.
async fn successors(write: &mut Write<'_>, key: &Key) -> Result<Vec<Stored<Key>>, Problem> {
    let mut all: Vec<Stored<Key>> = Vec::new();
    let mut rotation = key.rotation.clone();
    while let Some(Rotation { to, .. }) = rotation {
        let new: Stored<Key> = write.get(&to).await?;
        rotation = new.document.rotation.clone();
        all.push(new);
    }
    Ok(all)
}

fn is_unrevoked(key: &Stored<Key>) -> bool {
    key.document.revoked_at.is_none()
}

/// Rotates a key: makes one with another secret and all else alike, and has the old one end after an overlap. While that
/// lasts, rotating again changes nothing and shows the newest key without its secret; it makes another where that was
/// revoked.
#[utoipa::path(post, path = "/v1/keys/{key}/rotate", tag = "keys", params(WriteOptions, ("key" = String, Path)),
    request_body = RotateOptions, responses(
    (status = 201, body = CreatedKey), (status = 200, body = Changed<Key>, description = "It is being rotated already (the new key), or a dry run."),
    Problems,
))]
pub(super) async fn rotate(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    options: WriteOptions,
    if_match: IfMatch,
    JsonBody(body): JsonBody<RotateOptions>,
) -> Result<Response, Problem> {
    caller.authorize(Permission::ManageKeys)?;
    let overlap = match body.overlap.as_deref() {
        None => 86_400_000,
        Some("0s") => 0,
        Some(text) => time::parse_span("overlap", text)?,
    };
    if overlap > LONGEST_OVERLAP {
        return Err(Problem::field("overlap", "expected at most `30d`"));
    }
    let mut write = app
        .store
        .begin(&caller, "key.rotate", options.reason.as_deref())
        .await?;
    let before = get_unrevoked(&mut write, &caller, &id).await?;
    ensure_current(&before, &if_match)?;
    let now = write.time();
    let ends_before = before.document.spec.expires_at.as_deref();
    let ends_before = ends_before.map(|at| time::parse("expires_at", at)).transpose()?;
    // Before its successors are read: of one that has not ended a confined caller makes no more than two.
    if ends_before.is_some_and(|at| at <= now) {
        return Err(Problem::conflict(format!(
            "the key `{id}` has expired; make a new one"
        )));
    }
    let successors = successors(&mut write, &before.document).await?;
    if let Some(new) = successors.iter().rfind(|new| is_unrevoked(new)) {
        return show(&app.store, &caller, StatusCode::OK, &new.document, new.revision).await;
    }
    for new in &successors {
        ensure_not_held(&mut write, &before.document, &new.document).await?;
    }
    let old = &before.document.metadata;
    let held = Freeze::active_on(old).map(|by| (Freeze::PARTICIPLE, by));
    if let Some((done, by)) = held.or_else(|| Cap::active_on(old).map(|by| (Cap::PARTICIPLE, by))) {
        return Err(Problem::conflict(format!(
            "the key `{id}` is {done} by `{by}`; end that first, or make a new key and revoke this one"
        )));
    }
    ensure_predecessor_ended(&mut write, &caller, &before.document).await?;
    // Where an earlier rotation came to nothing, it was to end only for that.
    let was = &before.document;
    let expires_at_before = match &was.rotation {
        Some(rotation) => rotation.expires_at_before.clone(),
        None => was.spec.expires_at.clone(),
    };
    let secret = mint()?;
    let new = Key {
        id: secret.id().to_owned(),
        sha256: secret.sha256_hex(),
        spec: KeySpec {
            expires_at: expires_at_before.clone(),
            ..was.spec.clone()
        },
        revoked_at: None,
        rotation: None,
        rotated_from: Some(id.clone()),
        rotation_root: was.rotation_root.clone().or_else(|| Some(id.clone())),
        metadata: Metadata {
            // Rotation resumes nothing.
            suspended_by_platform: before.document.metadata.suspended_by_platform,
            ..new_metadata(&write, &caller)
        },
        ..before.document.clone()
    };
    let latest = expires_at_before.as_deref();
    let latest = latest.map(|at| time::parse("expires_at", at)).transpose()?;
    let ends = now.saturating_add(overlap).min(latest.unwrap_or(i64::MAX));
    let old = Key {
        spec: KeySpec {
            expires_at: Some(time::end_to_rfc3339(ends)),
            ..before.document.spec.clone()
        },
        rotation: Some(Rotation {
            to: new.id.clone(),
            expires_at_before,
        }),
        ..before.document.clone()
    };
    // If the overlap ends before `not_before`, the old key is revoked now.
    let old = if overlap == 0 || check::keys(core::slice::from_ref(&old)).is_err() {
        revoked(&old, now)
    } else {
        old
    };
    write.create(&new).await?;
    write.replace(&before, &old).await?;
    ensure_room_for_keys(&mut write, &caller, &new.org).await?;
    let org = new.org.clone();
    if options.dry_run {
        return commit_or_preview(write, &org, &options, StatusCode::CREATED, &new, 0).await;
    }
    let created = CreatedKey {
        secret: secret.reveal().to_owned(),
        key: new,
    };
    let response = commit_or_preview(write, &org, &options, StatusCode::CREATED, &created, 0).await?;
    Ok(no_store(response))
}

/// Undoes a rotation while the old key is good: it goes on as before, and the new one is revoked. One that has itself been
/// rotated has that undone first.
#[utoipa::path(post, path = "/v1/keys/{key}/undo-rotation", tag = "keys", params(WriteOptions, ("key" = String, Path)), responses(
    (status = 200, body = Changed<Key>), Problems,
))]
pub(super) async fn undo_rotation(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    options: WriteOptions,
    if_match: IfMatch,
) -> Result<Response, Problem> {
    caller.authorize(Permission::ManageKeys)?;
    let mut write = app
        .store
        .begin(&caller, "key.undo_rotation", options.reason.as_deref())
        .await?;
    let before = get_unrevoked(&mut write, &caller, &id).await?;
    ensure_current(&before, &if_match)?;
    let now = write.time();
    let expires_at = before.document.spec.expires_at.as_deref();
    let expires_at = expires_at.map(|at| time::parse("expires_at", at)).transpose()?;
    let Some(rotation) = before.document.rotation.clone() else {
        return Err(Problem::conflict(format!("the key `{id}` is not being rotated")));
    };
    if expires_at.is_some_and(|at| at <= now) {
        return Err(Problem::conflict(format!(
            "the overlap is over: the key `{id}` has ended"
        )));
    }
    let successors = successors(&mut write, &before.document).await?;
    if let Some(newer) = successors.iter().skip(1).rfind(|new| is_unrevoked(new)) {
        let (new, newer) = (&rotation.to, &newer.document.id);
        return Err(Problem::conflict(format!(
            "the new key `{new}` has itself been rotated, and `{newer}` would stay good; undo the rotation of `{new}`, or \
             revoke `{newer}`"
        )));
    }
    // Also one that the customer has revoked meanwhile.
    for new in &successors {
        ensure_not_held(&mut write, &before.document, &new.document).await?;
    }
    let key = Key {
        spec: KeySpec {
            expires_at: rotation.expires_at_before,
            ..before.document.spec.clone()
        },
        rotation: None,
        ..before.document.clone()
    };
    check::keys(core::slice::from_ref(&key))?;
    write.replace(&before, &key).await?;
    let new: Stored<Key> = write.get(&rotation.to).await?;
    write.replace(&new, &revoked(&new.document, now)).await?;
    commit_or_preview(write, &key.org, &options, StatusCode::OK, &key, before.revision).await
}

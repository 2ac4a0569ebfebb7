//! `/v1/freezes`: takes a key, project or organization out of use at once, for a reason, and often for a time.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::idempotency::Once;
use super::request::{Asked, Body, How, Path};
use super::{App, Listed, Preview, finish, hidden, one_org, page, shown};
use crate::access::{Act, Caller, random_text};
use crate::documents::{About, Document, Freezable, Freeze, Key, Kind, Org, Project, Target};
use crate::problem::{Problem, Problems};
use crate::store::{Failure, Page, Stored, Write};
use crate::time;

/// A new freeze.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewFreeze {
    /// What is to be frozen.
    target: Target,
    /// Why, for the trail and for whoever looks at it later.
    #[schema(min_length = 1, max_length = 500)]
    reason: String,
    /// For how long, such as `30m`; until somebody ends it where absent.
    #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
    span: Option<String>,
}

/// Which freezes.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// Of this organization only.
    #[param(required = false, nullable = false)]
    org: Option<String>,
    /// Those that have ended too.
    #[param(required = false)]
    ended: bool,
}

/// The freezes in force.
#[utoipa::path(get, path = "/v1/freezes", params(Wanted), tag = "freezes", responses(
    (status = 200, body = Listed<Freeze>),
    Problems,
))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Asked(wanted): Asked<Wanted>,
) -> Result<axum::Json<Listed<Freeze>>, Problem> {
    caller.may(Act::Read)?;
    let org = one_org(&caller, wanted.org.as_deref())?;
    let mut found: Vec<Stored<Freeze>> = Vec::new();
    loop {
        let after = found
            .last()
            .map(|last| last.document.id.clone())
            .unwrap_or_default();
        let some = app
            .store
            .list::<Freeze>(Page {
                org: &org,
                after: &after,
                limit: 1_000,
            })
            .await?;
        if some.is_empty() {
            break;
        }
        found.extend(some);
    }
    found.retain(|freeze| wanted.ended || freeze.document.ended_at.is_none());
    Ok(page(
        found,
        usize::MAX,
        |freeze: &Freeze| freeze.id.clone(),
        |freeze| freeze,
    ))
}

/// One freeze.
#[utoipa::path(get, path = "/v1/freezes/{freeze}", tag = "freezes", params(("freeze" = String, Path)), responses(
    (status = 200, body = Freeze), Problems,
))]
pub(super) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    caller.may(Act::Read)?;
    let freeze = app.store.get::<Freeze>(&id).await?;
    hidden(&caller, Act::Read, &freeze.document.org, "freeze", &id)?;
    Ok(shown(StatusCode::OK, &freeze.document, freeze.revision))
}

/// Freezes a key, project or organization: callers are refused, and told that it is suspended.
#[utoipa::path(post, path = "/v1/freezes", tag = "freezes", params(How), request_body = NewFreeze, responses(
    (status = 201, body = Freeze), (status = 200, body = Preview, description = "A dry run."),
    Problems,
))]
pub(super) async fn begin(
    State(app): State<Arc<App>>,
    caller: Caller,
    how: How,
    headers: HeaderMap,
    Body(body): Body<NewFreeze>,
) -> Result<Response, Problem> {
    caller.may(Act::Freeze)?;
    let reason = body.reason.trim();
    if reason.is_empty() || reason.chars().count() > 500 || reason.chars().any(char::is_control) {
        return Err(Problem::field("reason", "say why, in at most 500 characters"));
    }
    let span = body
        .span
        .as_deref()
        .map(|span| time::span("for", span))
        .transpose()?;
    let once = Once::of(&headers, "freezes", &body)?;
    let mut write = app.store.begin(&caller, "freeze.begin", Some(reason)).await?;
    if let Some(once) = &once
        && let Some(answer) = once.answered(&mut write, &caller).await?
    {
        return Ok(answer);
    }
    let org = org_of(&mut write, &caller, &body.target).await?;
    let id = random_text(12, 36).map_err(|error| Problem::unavailable(Failure::Random(error).to_string()))?;
    let freeze = Freeze {
        id,
        target: body.target.clone(),
        org,
        reason: reason.to_owned(),
        until: span.map(|span| time::end_text(write.time().saturating_add(span))),
        ended_at: None,
        ended_by: None,
        by_confined: caller.is_confined(),
        about: About {
            created_at: time::text(write.time()),
            created_by: caller.name().to_owned(),
            frozen_by: None,
        },
    };
    set(&mut write, &freeze.target, Some(&freeze.id)).await?;
    write.create(&freeze).await?;
    if let Some(once) = &once {
        once.remember(&mut write, &caller, &freeze).await?;
    }
    finish(write, &freeze.org, &how, StatusCode::CREATED, &freeze, 0).await
}

/// Whose the target is; an error where the caller can't see it.
async fn org_of(write: &mut Write<'_>, caller: &Caller, target: &Target) -> Result<String, Problem> {
    let (kind, id) = target.object();
    let org = match target {
        Target::Key(id) => {
            let key = write.get::<Key>(id).await?.document;
            if let Some(at) = key.revoked_at.as_ref().filter(|_| caller.sees(&key.org)) {
                return Err(Problem::conflict(format!("the key `{id}` was revoked at {at}")));
            }
            key.org
        }
        Target::Project(id) => write.get::<Project>(id).await?.document.org,
        Target::Org(id) => write.get::<Org>(id).await?.document.id,
    };
    hidden(caller, Act::Freeze, &org, kind.noun(), id)?;
    if caller.is_confined() && kind == Kind::Org {
        return Err(Problem::forbidden(
            "a token that is confined to organizations may not freeze one whole",
        ));
    }
    Ok(org)
}

/// Freezes a target, or lets it go on.
async fn set(write: &mut Write<'_>, target: &Target, freeze: Option<&str>) -> Result<(), Problem> {
    match target {
        Target::Key(id) => mark::<Key>(write, id, freeze).await,
        Target::Project(id) => mark::<Project>(write, id, freeze).await,
        Target::Org(id) => mark::<Org>(write, id, freeze).await,
    }
}

async fn mark<D: Document + Freezable + Clone>(
    write: &mut Write<'_>,
    id: &str,
    freeze: Option<&str>,
) -> Result<(), Problem> {
    let Some(before) = write.find::<D>(id).await? else {
        // It was removed meanwhile.
        return Ok(());
    };
    let mut after = before.document.clone();
    let about = after.about_mut();
    if let (Some(_), Some(other)) = (freeze, &about.frozen_by) {
        return Err(Problem::conflict(format!(
            "the {} `{id}` is frozen already, by `{other}`",
            D::KIND.noun()
        )));
    }
    about.frozen_by = freeze.map(str::to_owned);
    write.replace(&before, &after).await
}

/// Ends a freeze. Doing it again changes nothing.
#[utoipa::path(post, path = "/v1/freezes/{freeze}/end", tag = "freezes", params(How, ("freeze" = String, Path)), responses(
    (status = 200, body = Freeze), Problems,
))]
pub(super) async fn end(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    how: How,
) -> Result<Response, Problem> {
    caller.may(Act::Freeze)?;
    let mut write = app
        .store
        .begin(&caller, "freeze.end", how.reason.as_deref())
        .await?;
    let before: Stored<Freeze> = write.get(&id).await?;
    hidden(&caller, Act::Freeze, &before.document.org, "freeze", &id)?;
    if caller.is_confined() && !before.document.by_confined {
        return Err(Problem::forbidden(
            "it was begun by the platform, and a token that is confined may not end it",
        ));
    }
    let freeze = ended(&mut write, &before, &caller).await?;
    finish(write, &freeze.org, &how, StatusCode::OK, &freeze, before.revision).await
}

/// Ends a freeze, if it has not ended.
pub(crate) async fn ended(
    write: &mut Write<'_>,
    before: &Stored<Freeze>,
    caller: &Caller,
) -> Result<Freeze, Problem> {
    let freeze = &before.document;
    if freeze.ended_at.is_some() {
        return Ok(freeze.clone());
    }
    let after = Freeze {
        ended_at: Some(time::text(write.time())),
        ended_by: Some(caller.name().to_owned()),
        ..freeze.clone()
    };
    set(write, &freeze.target, None).await?;
    write.replace(before, &after).await?;
    Ok(after)
}

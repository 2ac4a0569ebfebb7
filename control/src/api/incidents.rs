//! What freezes, caps and restrictions have in common: each is begun on something at once, for a reason, and ended by somebody, or by
//! itself once its time is over.

use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;

use super::idempotency::IdempotentRequest;
use super::quotas::ensure_room_in_force;
use super::request::{PageQuery, WriteOptions};
use super::{App, Page, authorize_object, commit_or_preview, org_filter, show, to_page};
use crate::access::{Caller, Permission, random_text};
use crate::check;
use crate::documents::{HasMetadata, Incident, Key, Kind, Metadata, Org, Project, Target, Terms};
use crate::problem::Problem;
use crate::store::{ListQuery, StoreError, Stored, Write};
use crate::time;

/// Restrictions in force at a time: as many as the directory has room for.
const MOST: usize = 32;

/// One that lasts so long, or until somebody ends it, passes whatever a customer has written before: so many are in force at
/// a time, and what ends them is counted. Milliseconds.
const UNCOUNTED_FROM: i64 = 86_400_000;

/// All that are in force, as far as an answer holds them.
const WHOLE: i64 = 10_000;

/// Which of them.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct IncidentQuery {
    /// Of this organization only.
    #[param(required = false, nullable = false)]
    org: Option<String>,
    /// Those that have ended too.
    #[param(required = false)]
    ended: bool,
    /// After this id: `next` of the page before.
    #[param(required = false, nullable = false)]
    after: Option<String>,
    /// At most so many, up to 1,000. If absent, all that are in force, as far as an answer holds them, or 100 where those that
    /// have ended are wanted too.
    #[param(required = false, nullable = false, minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// A new freeze or cap, as the client asked for it.
pub(super) struct NewIncident {
    pub(super) target: Target,
    pub(super) reason: String,
    pub(super) span: Option<String>,
    /// Whether it was asked for before.
    pub(super) idempotency: Option<IdempotentRequest>,
}

/// Those in force, and those that have ended where they are wanted. Ended ones are kept for ever, so they come in pages.
pub(super) async fn list<D: Incident>(
    app: &App,
    caller: &Caller,
    query: IncidentQuery,
) -> Result<axum::Json<Page<Value>>, Problem> {
    caller.authorize(Permission::Read)?;
    let org = org_filter(caller, query.org.as_deref())?;
    let ended = query.ended;
    let is_whole = query.limit.is_none() && !ended;
    let paging = PageQuery {
        org: None,
        after: query.after,
        limit: query.limit,
    };
    let limit = if is_whole { WHOLE } else { paging.limit()? };
    let after = paging.after.unwrap_or_default();
    let query = ListQuery {
        org: &org,
        after: &after,
        limit,
    };
    let listed = if ended {
        app.store.list::<D>(query).await?
    } else {
        app.store.in_force::<D>(query).await?
    };
    to_page(&app.store, caller, listed, D::id).await
}

/// One of them.
pub(super) async fn get<D: Incident>(app: &App, caller: &Caller, id: &str) -> Result<Response, Problem> {
    caller.authorize(Permission::Read)?;
    let one = app.store.get::<D>(id).await?;
    authorize_object(caller, Permission::Read, one.document.org(), D::KIND.noun(), id)?;
    show(&app.store, caller, StatusCode::OK, &one.document, one.revision).await
}

/// Begins one, which `make` makes of its id, its terms and what the server knows.
pub(super) async fn begin<D: Incident>(
    app: &App,
    caller: &Caller,
    options: &WriteOptions,
    new: NewIncident,
    make: impl FnOnce(String, Terms, Metadata) -> D,
) -> Result<Response, Problem> {
    caller.authorize(Permission::Freeze)?;
    let reason = new.reason.trim();
    if reason.is_empty() {
        return Err(Problem::field("reason", "say why, in at most 500 characters"));
    }
    check::reason(reason)?;
    let span = new.span.as_deref();
    let span = span.map(|span| time::parse_span("for", span)).transpose()?;
    let [begun, ..] = D::ACTIONS;
    let mut write = app.store.begin(caller, begun, Some(reason)).await?;
    if let Some(idempotency) = &new.idempotency
        && let Some(answer) = idempotency.stored_answer(&mut write, caller, options).await?
    {
        return Ok(answer);
    }
    if span.is_none_or(|span| span >= UNCOUNTED_FROM) {
        write.makes_safer();
    }
    let org = target_org::<D>(&mut write, caller, &new.target).await?;
    let id =
        random_text(12, 36).map_err(|error| Problem::unavailable(StoreError::Random(error).to_string()))?;
    let terms = Terms {
        target: new.target,
        org,
        reason: reason.to_owned(),
        until: span.map(|span| time::end_to_rfc3339(write.time().saturating_add(span))),
        ended_at: None,
        ended_by: None,
        by_confined: caller.is_confined(),
    };
    let metadata = Metadata::new(time::to_rfc3339(write.time()), caller.name());
    let one = make(id, terms, metadata);
    mark_target(&mut write, &one, Some(caller)).await?;
    write.create(&one).await?;
    ensure_room_in_force(&mut write, caller, D::KIND, one.org()).await?;
    if let Some(idempotency) = &new.idempotency {
        idempotency.remember(&mut write, caller, &one).await?;
    }
    commit_or_preview(write, one.org(), options, StatusCode::CREATED, &one, 0).await
}

/// The organization of a target; an error where the caller may not freeze or cap it.
async fn target_org<D: Incident>(
    write: &mut Write<'_>,
    caller: &Caller,
    target: &Target,
) -> Result<String, Problem> {
    let Some((kind, id)) = target.kind_and_id() else {
        platform::<D>(write, caller, target).await?;
        return Ok(String::new());
    };
    let org = match target {
        Target::Key(id) => {
            let key = write.get::<Key>(id).await?.document;
            if let Some(at) = key.revoked_at.as_ref().filter(|_| caller.can_see(&key.org)) {
                return Err(Problem::conflict(format!("the key `{id}` was revoked at {at}")));
            }
            key.org
        }
        Target::Project(id) => write.get::<Project>(id).await?.document.org,
        _ => write.get::<Org>(id).await?.document.id,
    };
    authorize_object(caller, Permission::Freeze, &org, kind.noun(), id)?;
    if caller.is_confined() && kind == Kind::Org {
        let problem = format!(
            "a token that is confined to organizations may not {} one whole",
            D::VERB
        );
        return Err(Problem::forbidden(problem));
    }
    Ok(org)
}

/// What concerns all organizations is begun by nobody who is confined to some, once, and within what the directory holds.
async fn platform<D: Incident>(
    write: &mut Write<'_>,
    caller: &Caller,
    target: &Target,
) -> Result<(), Problem> {
    if caller.is_confined() {
        let problem = format!(
            "a token that is confined to organizations may not {} what others use too",
            D::VERB
        );
        return Err(Problem::forbidden(problem));
    }
    let all = write.in_force::<D>().await?;
    if all.len() >= MOST {
        let problem = format!("{MOST} are in force already, as many as can be: see `tollgate status`");
        return Err(Problem::conflict(problem));
    }
    match all.iter().find(|other| other.document.terms().target == *target) {
        Some(other) => Err(already_active(&subject(target), &other.document)),
        None => Ok(()),
    }
}

/// A target, as people say it.
fn subject(target: &Target) -> String {
    match target {
        Target::Cluster(cluster) => format!("target `{cluster}`"),
        Target::Models(models) => format!("model `{}` for the tier `{}`", models.model, models.tier),
        Target::Key(id) | Target::Project(id) | Target::Org(id) => {
            let noun = target.kind_and_id().map_or("", |(kind, _)| kind.noun());
            format!("{noun} `{id}`")
        }
    }
}

/// Notes on its target that it is in force, as `by` has it, or, by nobody, that it is no more.
async fn mark_target<D: Incident>(
    write: &mut Write<'_>,
    one: &D,
    by: Option<&Caller>,
) -> Result<(), Problem> {
    match &one.terms().target {
        Target::Key(id) => mark::<Key, D>(write, id, one, by).await,
        Target::Project(id) => mark::<Project, D>(write, id, one, by).await,
        Target::Org(id) => mark::<Org, D>(write, id, one, by).await,
        Target::Cluster(_) | Target::Models(_) => Ok(()),
    }
}

async fn mark<T: HasMetadata, D: Incident>(
    write: &mut Write<'_>,
    id: &str,
    one: &D,
    by: Option<&Caller>,
) -> Result<(), Problem> {
    let Some(before) = write.find::<T>(id).await? else {
        // It was removed meanwhile.
        return Ok(());
    };
    let mut after = before.document.clone();
    let metadata = after.metadata_mut();
    match (by, D::active_on(metadata)) {
        (None, _) => one.unmark(metadata),
        (Some(_), None) => one.mark(metadata),
        (Some(caller), Some(other)) => {
            let mut other: Stored<D> = write.get(other).await?;
            if let Some(beneath) = D::beneath_on(metadata).filter(|_| caller.is_confined()) {
                other = write.get(beneath).await?;
            }
            // The platform and the customer have one each: neither keeps the other's off, or ends it.
            match (caller.is_confined(), other.document.terms().by_confined) {
                (false, true) => one.mark(metadata),
                (true, false) if D::BEGINS_BENEATH => one.mark_beneath(metadata),
                (true, false) => {
                    let (subject, done) = (subject(&one.terms().target), D::PARTICIPLE);
                    let problem = format!(
                        "the {subject} is {done} by the platform, which alone changes that; it can be frozen"
                    );
                    return Err(Problem::conflict(problem));
                }
                _ => {
                    let subject = subject(&one.terms().target);
                    return Err(already_active(&subject, &other.document));
                }
            }
        }
    }
    write.replace(&before, &after).await
}

/// Something is held already, and how that can be changed.
fn already_active<D: Incident>(subject: &str, other: &D) -> Problem {
    let (done, end, by) = (D::PARTICIPLE, other.end_command(), other.id());
    let until = match &other.terms().until {
        Some(until) => format!("until {until}"),
        None => "until somebody ends it".to_owned(),
    };
    Problem::conflict(format!(
        "the {subject} is {done} already, by `{by}` {until}; to change that, end it first: `tollgate {end}`"
    ))
}

/// Ends one. Doing it again changes nothing.
pub(super) async fn end<D: Incident>(
    app: &App,
    caller: &Caller,
    options: &WriteOptions,
    id: &str,
) -> Result<Response, Problem> {
    caller.authorize(Permission::Freeze)?;
    let [_, end, _] = D::ACTIONS;
    let mut write = app.store.begin(caller, end, options.reason.as_deref()).await?;
    let before: Stored<D> = write.get(id).await?;
    authorize_object(
        caller,
        Permission::Freeze,
        before.document.org(),
        D::KIND.noun(),
        id,
    )?;
    if caller.is_confined() && !before.document.terms().by_confined {
        return Err(Problem::forbidden(
            "it was begun by the platform, and a token that is confined may not end it",
        ));
    }
    let one = end_unless_ended(&mut write, &before, caller).await?;
    commit_or_preview(write, one.org(), options, StatusCode::OK, &one, before.revision).await
}

/// Ends one, unless it has ended already.
pub(crate) async fn end_unless_ended<D: Incident>(
    write: &mut Write<'_>,
    before: &Stored<D>,
    caller: &Caller,
) -> Result<D, Problem> {
    if before.document.terms().ended_at.is_some() {
        return Ok(before.document.clone());
    }
    let mut one = before.document.clone();
    let terms = one.terms_mut();
    terms.ended_at = Some(time::to_rfc3339(write.time()));
    terms.ended_by = Some(caller.name().to_owned());
    write.replace(before, &one).await?;
    mark_target(write, &one, None).await?;
    Ok(one)
}

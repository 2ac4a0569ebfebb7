//! `/v1/restrictions`: targets that are drained, and models that are shed from a tier, at once, for a reason, and often for a
//! time.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::idempotency::Once;
use super::incidents::{self, New, Wanted};
use super::request::{Asked, Body, How, Path};
use super::{App, Listed, Preview};
use crate::access::{Act, Caller};
use crate::check;
use crate::documents::{Restriction, Target};
use crate::problem::{Problem, Problems};

/// A new restriction.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewRestriction {
    /// What takes no more requests: a cluster, or models for a tier.
    target: Target,
    /// Why, for the trail and for whoever looks at it later.
    #[schema(min_length = 1, max_length = 500)]
    reason: String,
    /// For how long, such as `30m`; until somebody ends it if absent.
    #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
    span: Option<String>,
}

/// The restrictions in force; those that have ended too, in pages, where they are asked for.
#[utoipa::path(get, path = "/v1/restrictions", params(Wanted), tag = "restrictions", responses(
    (status = 200, body = Listed<Restriction>),
    Problems,
))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Asked(wanted): Asked<Wanted>,
) -> Result<axum::Json<Listed<Restriction>>, Problem> {
    incidents::list(&app, &caller, wanted).await
}

/// One restriction.
#[utoipa::path(get, path = "/v1/restrictions/{restriction}", tag = "restrictions", params(("restriction" = String, Path)), responses(
    (status = 200, body = Restriction), Problems,
))]
pub(super) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    incidents::get::<Restriction>(&app, &caller, &id).await
}

/// Drains a target of the catalogue, by its cluster: no new request goes there, and those under way end. Or sheds models from
/// a tier: its requests for them are answered with 503, or by a model that may stand in.
#[utoipa::path(post, path = "/v1/restrictions", tag = "restrictions", params(How), request_body = NewRestriction, responses(
    (status = 201, body = Restriction), (status = 200, body = Preview, description = "A dry run."),
    Problems,
))]
pub(super) async fn begin(
    State(app): State<Arc<App>>,
    caller: Caller,
    how: How,
    headers: HeaderMap,
    Body(body): Body<NewRestriction>,
) -> Result<Response, Problem> {
    caller.may(Act::Freeze)?;
    let once = Once::of(&headers, "restrictions", &body)?;
    if body.target.object().is_some() {
        return Err(Problem::field(
            "target",
            "expected a cluster to drain, or models to shed from a tier; a key, project or organization is frozen or capped",
        ));
    }
    check::traffic(&body.target)?;
    let new = New {
        target: body.target,
        reason: body.reason,
        span: body.span,
        once,
    };
    let make = |id, terms, about| Restriction { id, terms, about };
    incidents::begin(&app, &caller, &how, new, make).await
}

/// Ends a restriction. Doing it again changes nothing.
#[utoipa::path(post, path = "/v1/restrictions/{restriction}/end", tag = "restrictions", params(How, ("restriction" = String, Path)), responses(
    (status = 200, body = Restriction), Problems,
))]
pub(super) async fn end(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    how: How,
) -> Result<Response, Problem> {
    incidents::end::<Restriction>(&app, &caller, &how, &id).await
}

//! `/v1/restrictions`: targets that are drained, and models that are shed from a tier, at idempotency, for a reason, and often for a
//! time.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::idempotency::IdempotentRequest;
use super::incident_routes::incident_routes;
use super::incidents::{self, NewIncident};
use super::request::{JsonBody, Path, Query, WriteOptions};
use super::{App, Preview};
use crate::access::{Caller, Permission};
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

/// Drains a target of the catalogue, by its cluster: no new request goes there, and those under way end. Or sheds models from
/// a tier: its requests for them are answered with 503, or by a model that may stand in.
#[utoipa::path(post, path = "/v1/restrictions", tag = "restrictions", params(WriteOptions), request_body = NewRestriction, responses(
    (status = 201, body = Restriction), (status = 200, body = Preview, description = "A dry run."),
    Problems,
))]
pub(super) async fn begin(
    State(app): State<Arc<App>>,
    caller: Caller,
    options: WriteOptions,
    headers: HeaderMap,
    JsonBody(body): JsonBody<NewRestriction>,
) -> Result<Response, Problem> {
    caller.authorize(Permission::Freeze)?;
    let idempotency = IdempotentRequest::from_headers(&headers, "restrictions", &body)?;
    if body.target.kind_and_id().is_some() {
        return Err(Problem::field(
            "target",
            "expected a cluster to drain, or models to shed from a tier; a key, project or organization is frozen or capped",
        ));
    }
    check::traffic(&body.target)?;
    let new = NewIncident {
        target: body.target,
        reason: body.reason,
        span: body.span,
        idempotency,
    };
    let make = |id, terms, metadata| Restriction { id, terms, metadata };
    incidents::begin(&app, &caller, &options, new, make).await
}

incident_routes!(
    Restriction,
    "restrictions",
    "/v1/restrictions",
    "/v1/restrictions/{restriction}",
    "restriction",
    "/v1/restrictions/{restriction}/end"
);

//! `/v1/caps`: limits the requests of a key or organization at once, for a reason, and often for a time.

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
use crate::documents::{Cap, CapRate, Target};
use crate::problem::{Problem, Problems};

/// A new cap.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewCap {
    /// What is to be capped: a key or an organization.
    target: Target,
    /// How many requests it may make, such as `10/second`.
    rate: String,
    /// How many at once; what `rate` says if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    burst: Option<u64>,
    /// Why, for the trail and for whoever looks at it later.
    #[schema(min_length = 1, max_length = 500)]
    reason: String,
    /// For how long, such as `30m`; until somebody ends it if absent.
    #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
    span: Option<String>,
}

/// Caps a key or organization: what is beyond the rate is refused with 429, whatever its other limits allow. One
/// that the customer began holds beside one that the platform begins: the slower rate, and the smaller burst. Where the
/// platform's is in force, the customer begins none.
#[utoipa::path(post, path = "/v1/caps", tag = "caps", params(WriteOptions), request_body = NewCap, responses(
    (status = 201, body = Cap), (status = 200, body = Preview, description = "A dry run."),
    Problems,
))]
pub(super) async fn begin(
    State(app): State<Arc<App>>,
    caller: Caller,
    options: WriteOptions,
    headers: HeaderMap,
    JsonBody(body): JsonBody<NewCap>,
) -> Result<Response, Problem> {
    caller.authorize(Permission::Freeze)?;
    let idempotency = IdempotentRequest::from_headers(&headers, "caps", &body)?;
    if !matches!(body.target, Target::Key(_) | Target::Org(_)) {
        return Err(Problem::field(
            "target",
            "expected a key or an organization: nothing else can be capped",
        ));
    }
    let rate = CapRate {
        rate: body.rate,
        burst: body.burst,
    };
    check::cap(&rate)?;
    let new = NewIncident {
        target: body.target,
        reason: body.reason,
        span: body.span,
        idempotency,
    };
    let make = |id, terms, metadata| Cap {
        id,
        rate,
        terms,
        metadata,
    };
    incidents::begin(&app, &caller, &options, new, make).await
}

incident_routes!(
    Cap,
    "caps",
    "/v1/caps",
    "/v1/caps/{cap}",
    "cap",
    "/v1/caps/{cap}/end"
);

//! `/v1/freezes`: takes a key, project or organization out of use at once, for a reason, and often for a time.

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
use crate::access::Caller;
use crate::documents::{Freeze, Target};
use crate::problem::{Problem, Problems};

/// A new freeze.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewFreeze {
    /// What is to be frozen.
    target: Target,
    /// Why, for the trail and for whoever looks at it later.
    #[schema(min_length = 1, max_length = 500)]
    reason: String,
    /// For how long, such as `30m`; until somebody ends it if absent.
    #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
    span: Option<String>,
}

/// Freezes a key, project or organization: callers are refused, and told that it is suspended. The
/// platform and the customer have one each on it: the customer's is in force again when the platform's ends.
#[utoipa::path(post, path = "/v1/freezes", tag = "freezes", params(WriteOptions), request_body = NewFreeze, responses(
    (status = 201, body = Freeze), (status = 200, body = Preview, description = "A dry run."),
    Problems,
))]
pub(super) async fn begin(
    State(app): State<Arc<App>>,
    caller: Caller,
    options: WriteOptions,
    headers: HeaderMap,
    JsonBody(body): JsonBody<NewFreeze>,
) -> Result<Response, Problem> {
    let idempotency = IdempotentRequest::from_headers(&headers, "freezes", &body)?;
    let NewFreeze { target, reason, span } = body;
    if target.kind_and_id().is_none() {
        return Err(Problem::field(
            "target",
            "expected a key, a project or an organization; a cluster is drained, and models are shed, by a restriction",
        ));
    }
    let new = NewIncident {
        target,
        reason,
        span,
        idempotency,
    };
    let make = |id, terms, metadata| Freeze { id, terms, metadata };
    incidents::begin(&app, &caller, &options, new, make).await
}

incident_routes!(
    Freeze,
    "freezes",
    "/v1/freezes",
    "/v1/freezes/{freeze}",
    "freeze",
    "/v1/freezes/{freeze}/end"
);

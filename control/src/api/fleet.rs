//! `/v1/fleet`: how gateways keep limits together.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use tollgate_shares::Message;
use utoipa::ToSchema;

use super::App;
use super::request::JsonBody;
use crate::access::{Caller, Permission};
use crate::problem::{Problem, Problems};

/// A message of a gateway. docs/fleet-protocol.md says what it means.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the description of the API alone has it")]
pub(super) struct FleetMessage {
    /// Who sends it: one life of a gateway.
    #[schema(pattern = "^[0-9a-f]{16}$")]
    incarnation: String,
    /// Higher than in all it sent before.
    #[schema(minimum = 1, maximum = 9007199254740992_u64)]
    seq: u64,
    /// The highest answer it has taken; zero for none.
    answered: u64,
    /// In whose books it is; null where it joins.
    #[schema(pattern = "^[0-9a-f]{16}$", required = true)]
    epoch: Option<String>,
    /// How much of the log it has taken.
    #[schema(maximum = 9007199254740992_u64)]
    version: u64,
    /// Its parts of limits are no more than one in so many; zero where it has none.
    parts: u32,
    /// It has given up everything.
    leaves: bool,
    /// Keys about which there is something to say, each once.
    #[schema(max_items = 512)]
    wants: Vec<FleetWant>,
}

/// What a gateway has and wants of one key.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the description of the API alone has it")]
pub(super) struct FleetWant {
    /// The key.
    #[schema(pattern = "^[0-9a-f]{32}$")]
    key: String,
    /// Its limit: rate, period in microseconds, burst; each less than 2^51.
    #[schema(min_items = 3, max_items = 3)]
    limit: Vec<u64>,
    /// The most that it uses from now on: rate, burst.
    #[schema(min_items = 2, max_items = 2)]
    have: Vec<u64>,
    /// What it gave up of its bucket: tokens × the limit's period.
    #[schema(pattern = "^[0-9]{1,39}$")]
    returned: String,
    /// What it was asked for in each period.
    demand: u64,
    /// A single request wants so much at once.
    need: u64,
}

/// What a gateway may use, for a lease from when it sent its message.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the description of the API alone has it")]
pub(super) struct FleetAnswer {
    /// To whom.
    incarnation: String,
    /// To which of its messages.
    seq: u64,
    /// Whose books.
    epoch: String,
    /// Null where nothing is renewed.
    #[schema(required = true)]
    terms: Option<FleetTerms>,
}

/// What an answer gives.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the description of the API alone has it")]
pub(super) struct FleetTerms {
    /// The part of all limits that it has without asking.
    #[schema(required = true)]
    slot: Option<FleetSlot>,
    /// The log goes up to here.
    version: u64,
    /// Pairs of a key and whether its parts are given up.
    log: Vec<Vec<serde_json::Value>>,
    /// Its shares of keys.
    grants: Vec<FleetGrant>,
}

/// A slot.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the description of the API alone has it")]
pub(super) struct FleetSlot {
    /// One in so many of every limit.
    parts: u32,
    /// Nobody has used it for so many microseconds before.
    age: u64,
}

/// A share of a key.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the description of the API alone has it")]
pub(super) struct FleetGrant {
    /// The key.
    key: String,
    /// Rate, burst.
    share: Vec<u64>,
    /// What comes with it: tokens × the limit's period.
    units: String,
    /// More is due once others have let go.
    waiting: bool,
}

/// Takes a message of a gateway, and answers with what it may use of the limits that it keeps together with others. 204 for
/// a message that a later one has overtaken, and for a gateway's last.
#[utoipa::path(post, path = "/v1/fleet", request_body = FleetMessage, tag = "fleet", responses(
    (status = 200, body = FleetAnswer, description = "What the gateway may use."),
    (status = 204, description = "There is no answer to this message."),
    Problems,
))]
pub(super) async fn exchange(
    State(app): State<Arc<App>>,
    caller: Caller,
    JsonBody(message): JsonBody<Message>,
) -> Result<Response, Problem> {
    caller.authorize(Permission::ShareLimits)?;
    let answer = app.fleet.receive(&caller, message).await?;
    let mut response = match answer {
        Some(answer) => axum::Json(answer).into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    };
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

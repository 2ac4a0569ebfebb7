//! `/v1/audit`: the trail.

use std::sync::Arc;

use axum::extract::State;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::request::{JsonBody, Query};
use super::staff::Staff;
use super::{App, org_filter};
use crate::access::{Caller, Permission};
use crate::audit::{HashedEntry, Part};
use crate::checkpoint::{Checkpoint, public_key};
use crate::problem::{Problem, Problems};
use crate::replay::Verdict;

/// Which entries to list.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct AuditQuery {
    /// Of this organization only.
    #[param(required = false, nullable = false)]
    org: Option<String>,
    /// After this `seq`.
    #[param(required = false, minimum = 0)]
    after: u32,
    /// At most so many, up to 1,000; 100 if absent.
    #[param(required = false, nullable = false, minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// A part of the trail.
#[derive(Debug, serde::Serialize, ToSchema)]
pub(super) struct TrailPage {
    /// Entries in their order.
    items: Vec<HashedEntry>,
}

/// The trail, oldest first. A token that is confined sees its organization's part of it, and of what no confined token did only
/// that the `platform` did it. What is of no organization, such as tokens, is shown to those who may verify the trail.
#[utoipa::path(get, path = "/v1/audit", params(AuditQuery), tag = "audit", responses(
    (status = 200, body = TrailPage), Problems,
))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(query): Query<AuditQuery>,
) -> Result<axum::Json<TrailPage>, Problem> {
    caller.authorize(Permission::Read)?;
    let org = org_filter(&caller, query.org.as_deref())?;
    let limit = query.limit.unwrap_or(100);
    if !(1..=1_000).contains(&limit) {
        return Err(Problem::invalid(
            "limit",
            &limit.to_string(),
            "a number from 1 to 1000",
        ));
    }
    let part = match org.as_str() {
        "" if caller.authorize(Permission::Audit).is_ok() => Part::Whole,
        "" => Part::Orgs,
        org => Part::Org(org),
    };
    let mut items = app
        .store
        .trail(part, i64::from(query.after), i64::from(limit))
        .await?;
    Staff::seen_by(&caller, &app.store)
        .hide_in_trail(&mut items)
        .await?;
    Ok(axum::Json(TrailPage { items }))
}

/// Checkpoints that were kept elsewhere.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
pub(super) struct VerifyRequest {
    /// As they were signed.
    checkpoints: Vec<Checkpoint>,
    /// Who signed them: an Ed25519 key in base64, kept elsewhere too. Without it, whom each says itself.
    public_key: Option<String>,
}

/// Looks through the whole trail: whether each entry follows from the one before, whether what is stored is what the trail
/// says, and whether checkpoints still fit.
#[utoipa::path(post, path = "/v1/audit/verify", request_body = VerifyRequest, tag = "audit", responses(
    (status = 200, body = Verdict), Problems,
))]
pub(super) async fn verify(
    State(app): State<Arc<App>>,
    caller: Caller,
    JsonBody(kept): JsonBody<VerifyRequest>,
) -> Result<axum::Json<Verdict>, Problem> {
    caller.authorize(Permission::Audit)?;
    let wrong = || Problem::field("public_key", "expected an Ed25519 key of 32 bytes in base64");
    let key = kept
        .public_key
        .as_deref()
        .map(|text| public_key(text).ok_or_else(wrong))
        .transpose()?;
    Ok(axum::Json(
        app.store.verify(&kept.checkpoints, key.as_ref()).await?,
    ))
}

/// Signs where the trail ends now. Kept elsewhere, it finds a trail that was cut or written anew behind it.
#[utoipa::path(post, path = "/v1/audit/checkpoint", tag = "audit", responses(
    (status = 200, body = Checkpoint), Problems,
))]
pub(super) async fn checkpoint(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<axum::Json<Checkpoint>, Problem> {
    caller.authorize(Permission::Audit)?;
    let none = || Problem::conflict("the server has no signing key; start it with `--audit-key FILE`");
    let key = app.signing.as_ref().ok_or_else(none)?;
    Ok(axum::Json(app.store.checkpoint(key).await?))
}

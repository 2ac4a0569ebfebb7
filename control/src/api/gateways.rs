//! `/v1/gateways`: who has asked this server for the directory, when, and which version they had.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::{App, Page};
use crate::access::{Caller, Permission};
use crate::directory::Version;
use crate::problem::{Problem, Problems};
use crate::time;

/// Gateways that are remembered; beyond that the one that has not asked for longest is forgotten.
const MOST: usize = 10_000;

/// A gateway, as far as its requests tell.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Gateway {
    /// The id of its token.
    token: String,
    /// From where it asked. Envoys with one token behind one address are one here.
    address: String,
    /// When it asked last.
    asked_at: String,
    /// The version that it said it had; absent where it had none.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    /// Whether that is the version now.
    is_current: bool,
}

/// Those that have asked since the server started, by token and address.
#[derive(Debug, Default)]
pub(super) struct Gateways(Mutex<BTreeMap<(String, String), Asked>>);

#[derive(Debug, Clone)]
struct Asked {
    at: i64,
    version: Option<Version>,
}

impl Gateways {
    /// One asks, and has this version. Whoever fetches the directory by another role is no gateway.
    pub(super) fn note(&self, caller: &Caller, version: Option<&Version>) {
        let Some(token) = caller.token_id().filter(|_| caller.is_gateway()) else {
            return;
        };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let gateway = (token.to_owned(), caller.address().to_owned());
        if all.len() >= MOST && !all.contains_key(&gateway) {
            let oldest = all.iter().min_by_key(|(_, asked)| asked.at);
            if let Some(oldest) = oldest.map(|(gateway, _)| gateway.clone()) {
                all.remove(&oldest);
            }
        }
        let asked = Asked {
            at: time::now(),
            version: version.cloned(),
        };
        all.insert(gateway, asked);
    }
}

/// The gateways that have asked this server for the directory since it started. Of several servers each knows its own.
#[utoipa::path(get, path = "/v1/gateways", tag = "directory", responses(
    (status = 200, body = Page<Gateway>), Problems,
))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<axum::Json<Page<Gateway>>, Problem> {
    caller.authorize(Permission::SeeGateways)?;
    let now = app.store.version().await?;
    let all = app.gateways.0.lock().unwrap_or_else(PoisonError::into_inner);
    let items = all.iter().map(|((token, address), asked)| Gateway {
        token: token.clone(),
        address: address.clone(),
        asked_at: time::to_rfc3339(asked.at),
        version: asked.version.as_ref().map(Version::text),
        is_current: asked.version.as_ref() == Some(&now),
    });
    Ok(axum::Json(Page {
        items: items.collect(),
        next: None,
    }))
}

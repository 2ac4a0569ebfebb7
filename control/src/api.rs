//! The HTTP API. Each endpoint reads what was asked, has [`access`](crate::access) judge it, and has the store do it.

mod audit;
mod budgets;
mod caps;
mod directory;
mod exchange;
mod fleet;
mod freezes;
mod gateways;
mod idempotency;
mod import;
mod incident_routes;
mod incidents;
mod keys;
mod members;
mod orgs;
mod patch;
mod projects;
mod quotas;
mod request;
mod restrictions;
mod staff;
mod tokens;

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use ed25519_dalek::SigningKey;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access::{Caller, Permission};
use crate::authenticator::Authenticator;
use crate::entry::Change;
use crate::fleet::Fleet;
use crate::places::Places;
use crate::problem::{FieldError, Problem};
use crate::store::{Listed, Store, Stored, Write};
use gateways::Gateways;
pub(crate) use idempotency::RETENTION_MS;
pub(crate) use incidents::end_unless_ended;
use request::WriteOptions;
use staff::Staff;

/// Largest body of a request, but of an import.
const MAX_BODY: usize = 256 * 1024;
/// Largest body of an import: some 30,000 keys.
const MAX_IMPORT: usize = 16 * 1024 * 1024;

/// What the endpoints work on.
pub struct App {
    store: Arc<Store>,
    authenticator: Authenticator,
    gateways: Gateways,
    /// Signs checkpoints of the trail.
    signing: Option<SigningKey>,
    /// Limits that gateways keep together.
    fleet: Fleet,
    /// Gateways that spend budgets.
    spenders: Places,
}

impl App {
    /// An API over a database, where the books of the fleet are too; `signing` signs checkpoints of the trail.
    pub fn new(store: Arc<Store>, signing: Option<SigningKey>) -> Arc<Self> {
        let fleet = Fleet::in_database(&store);
        Self::with_fleet(store, signing, fleet)
    }

    /// The same, with the books of the fleet somewhere else.
    pub fn with_fleet(store: Arc<Store>, signing: Option<SigningKey>, fleet: Fleet) -> Arc<Self> {
        Arc::new(Self {
            store,
            authenticator: Authenticator::new(),
            gateways: Gateways::default(),
            signing,
            fleet,
            spenders: Places::new(exchange::RATE),
        })
    }
}

/// The endpoints. A request that has a [`Caller`] among its extensions is that caller's; every other has to have a token.
pub fn router(app: Arc<App>) -> Router {
    let (router, openapi) = openapi_router();
    let text: Arc<str> = to_json(&openapi).into();
    router
        .route(
            "/openapi.json",
            axum::routing::get(move || {
                let text = Arc::clone(&text);
                async move { ([(header::CONTENT_TYPE, "application/json")], text.to_string()) }
            }),
        )
        .route("/healthz", axum::routing::get(health))
        .route("/readyz", axum::routing::get(ready))
        .fallback(|| async { Problem::unknown_endpoint() })
        .method_not_allowed_fallback(|| async { Problem::method_not_allowed() })
        .layer(DefaultBodyLimit::disable())
        .layer(axum::middleware::from_fn(ensure_one_host))
        .with_state(app)
}

/// Refuses a request that names two hosts: whoever is before the server may have sent it here for the other one.
async fn ensure_one_host(request: Request, next: Next) -> Result<Response, Problem> {
    request::text(request.headers(), header::HOST)?;
    Ok(next.run(request).await)
}

/// That it runs. Nothing of its database is looked at: to start it anew would mend nothing, and on one that went back have it
/// go on with what is there.
async fn health(State(app): State<Arc<App>>) -> &'static str {
    standing(&app)
}

/// Whether the database answers, and what is written lasts.
async fn ready(State(app): State<Arc<App>>) -> Result<&'static str, Problem> {
    app.store.ensure_ready(Instant::now())?;
    Ok(standing(&app))
}

/// The server serves on where the books of the fleet are gone, and says so.
fn standing(app: &App) -> &'static str {
    match app.fleet.trouble() {
        None => "ok\n",
        Some(_) => "ok, but limits of the fleet are not kept: the log says why\n",
    }
}

/// The description of the API, OpenAPI 3.1 as JSON: `docs/openapi.json`.
pub fn openapi() -> String {
    to_json(&openapi_router().1)
}

fn to_json(openapi: &OpenApi) -> String {
    let mut text = openapi.to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

fn openapi_router() -> (Router<Arc<App>>, OpenApi) {
    let info = utoipa::openapi::InfoBuilder::new()
        .title("Tollgate control plane")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Organizations, projects, keys and who may change them. docs/operating.md says how to use it.",
        ))
        .license(Some(utoipa::openapi::License::new("Apache-2.0")));
    let bearer = utoipa::openapi::security::Http::new(utoipa::openapi::security::HttpAuthScheme::Bearer);
    let components = utoipa::openapi::ComponentsBuilder::new()
        .schema_from::<Problem>()
        .schema_from::<FieldError>()
        .security_scheme("token", utoipa::openapi::security::SecurityScheme::Http(bearer));
    let openapi = utoipa::openapi::OpenApiBuilder::new()
        .info(info.build())
        .components(Some(components.build()))
        .security(Some([utoipa::openapi::SecurityRequirement::new::<
            _,
            [String; 0],
            String,
        >("token", [])]))
        .build();
    let (router, mut openapi) = OpenApiRouter::with_openapi(openapi)
        .routes(routes!(orgs::list, orgs::create))
        .routes(routes!(orgs::get, orgs::change, orgs::remove))
        .routes(routes!(projects::list, projects::create))
        .routes(routes!(projects::get, projects::change, projects::remove))
        .routes(routes!(keys::list, keys::create))
        .routes(routes!(keys::get, keys::change))
        .routes(routes!(keys::revoke))
        .routes(routes!(keys::rotate))
        .routes(routes!(keys::undo_rotation))
        .routes(routes!(import::import))
        .routes(routes!(freezes::list, freezes::begin))
        .routes(routes!(freezes::get))
        .routes(routes!(freezes::end))
        .routes(routes!(caps::list, caps::begin))
        .routes(routes!(caps::get))
        .routes(routes!(caps::end))
        .routes(routes!(restrictions::list, restrictions::begin))
        .routes(routes!(restrictions::get))
        .routes(routes!(restrictions::end))
        .routes(routes!(budgets::list, budgets::create))
        .routes(routes!(budgets::get, budgets::change, budgets::remove))
        .routes(routes!(budgets::spending))
        .routes(routes!(budgets::raise))
        .routes(routes!(budgets::end_raise))
        .routes(routes!(budgets::strike))
        .routes(routes!(exchange::exchange))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::revoke))
        .routes(routes!(audit::list))
        .routes(routes!(audit::verify))
        .routes(routes!(audit::checkpoint))
        .routes(routes!(directory::fetch))
        .routes(routes!(gateways::list))
        .routes(routes!(fleet::exchange))
        .split_for_parts();
    qualify_operation_ids(&mut openapi);
    (router, openapi)
}

/// OpenAPI wants every `operationId` unique, and utoipa takes the handler's name, of which each resource has the same:
/// `keys_create` in place of `create`.
fn qualify_operation_ids(openapi: &mut OpenApi) {
    for path in openapi.paths.paths.values_mut() {
        let operations = [&mut path.get, &mut path.post, &mut path.patch, &mut path.delete];
        for operation in operations.into_iter().flatten() {
            if let (Some([tag]), Some(id)) = (operation.tags.as_deref(), operation.operation_id.as_mut()) {
                *id = format!("{tag}_{id}");
            }
        }
    }
}

/// What would change, and did not.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct Preview {
    /// Always true.
    dry_run: bool,
    /// Each object, before and after.
    changes: Vec<Change>,
}

/// What is now, or, of a dry run, what would change.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(untagged)]
#[expect(
    dead_code,
    reason = "the description of the API alone has it: either is answered as it is"
)]
pub(crate) enum Changed<T> {
    /// It was done.
    Done(T),
    /// A dry run.
    Preview(Preview),
}

/// A page of a list.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct Page<T> {
    /// In the order of their ids.
    items: Vec<T>,
    /// What to give for `after` to see those behind; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// One object as JSON, as the caller may see it, with its revision as `ETag`.
async fn show<D: Serialize>(
    store: &Store,
    caller: &Caller,
    status: StatusCode,
    document: &D,
    revision: i64,
) -> Result<Response, Problem> {
    let mut document = json!(document);
    Staff::seen_by(caller, store).hide(&mut document).await?;
    let tag = HeaderValue::try_from(format!("\"{revision}\""));
    let mut response = (status, axum::Json(document)).into_response();
    if let Ok(tag) = tag {
        response.headers_mut().insert(header::ETAG, tag);
    }
    Ok(response)
}

/// An answer with a secret must not be cached.
fn no_store(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A page of what was found, as the caller may see it.
async fn to_page<D: Serialize>(
    store: &Store,
    caller: &Caller,
    listed: Listed<D>,
    id: impl Fn(&D) -> String,
) -> Result<axum::Json<Page<Value>>, Problem> {
    let Listed { found, has_more } = listed;
    let next = found.last().filter(|_| has_more).map(|last| id(&last.document));
    let mut staff = Staff::seen_by(caller, store);
    let mut items = Vec::with_capacity(found.len());
    for one in found {
        let mut shown = json!(one.document);
        staff.hide(&mut shown).await?;
        items.push(shown);
    }
    Ok(axum::Json(Page { items, next }))
}

/// Commits a write and answers with `document`; of a dry run, answers with what it would have changed.
async fn commit_or_preview<D: Serialize>(
    write: Write<'_>,
    org: &str,
    options: &WriteOptions,
    status: StatusCode,
    document: &D,
    revision: i64,
) -> Result<Response, Problem> {
    let (store, caller) = (write.store(), write.caller().clone());
    if options.dry_run {
        let changes = write.changes().to_vec();
        drop(write);
        return preview(store, &caller, changes).await;
    }
    // Where nothing is changed, the revision is the one before.
    let revision = revision + i64::from(!write.changes().is_empty());
    write.commit(org).await?;
    show(store, &caller, status, document, revision).await
}

async fn preview(store: &Store, caller: &Caller, mut changes: Vec<Change>) -> Result<Response, Problem> {
    Staff::seen_by(caller, store)
        .hide_in_changes(&mut changes)
        .await?;
    let dry_run = true;
    Ok(axum::Json(Preview { dry_run, changes }).into_response())
}

/// Fails with 412 where the object is at another revision than `If-Match` names.
fn ensure_current<D>(stored: &Stored<D>, options: &request::IfMatch) -> Result<(), Problem> {
    match options.0 {
        Some(expected) if expected != stored.revision => Err(Problem::stale(stored.revision)),
        _ => Ok(()),
    }
}

/// Says that the answer is one that was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Fails unless the caller may do that in the organization that an object belongs to. One in another organization is not
/// found: the caller learns nothing of it.
fn authorize_object(
    caller: &Caller,
    permission: Permission,
    org: &str,
    noun: &str,
    id: &str,
) -> Result<(), Problem> {
    caller.authorize(permission)?;
    if caller.can_see(org) {
        Ok(())
    } else {
        Err(Problem::not_found(noun, id))
    }
}

/// The organization to list by: the one named in the query, or the only one that the caller sees; empty for all.
fn org_filter(caller: &Caller, named: Option<&str>) -> Result<String, Problem> {
    match (named, caller.orgs()) {
        (Some(org), _) => {
            caller.authorize_in(Permission::Read, org)?;
            Ok(org.to_owned())
        }
        (None, None) => Ok(String::new()),
        (None, Some([org])) => Ok(org.clone()),
        (None, Some(_)) => Err(Problem::field(
            "org",
            "name the organization: the token is confined to several",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    /// A client that is made from the description reads dry runs.
    #[test]
    fn what_can_be_tried_says_that_it_answers_a_preview() {
        let openapi: Value = serde_json::from_str(&super::openapi()).unwrap();
        let mut tried = 0;
        for (path, operations) in openapi["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap() {
                let mut parameters = operation["parameters"].as_array().into_iter().flatten();
                if !parameters.any(|one| one["name"] == "dry_run") {
                    continue;
                }
                tried += 1;
                let answer = &operation["responses"]["200"]["content"]["application/json"]["schema"];
                let name = answer["$ref"].as_str().unwrap().rsplit('/').next().unwrap();
                let schema = &openapi["components"]["schemas"][name];
                let is_preview = name == "Preview" || schema["oneOf"].to_string().contains("/Preview");
                assert!(is_preview, "{method} {path}: {answer} {schema}");
            }
        }
        assert!(tried >= 20, "{tried}");
    }

    #[test]
    fn each_operation_has_an_id_of_its_own() {
        let openapi: Value = serde_json::from_str(&super::openapi()).unwrap();
        let paths = openapi["paths"].as_object().unwrap();
        let operations: Vec<&Value> = paths
            .values()
            .flat_map(|path| path.as_object().unwrap().values())
            .collect();
        let ids: BTreeSet<&str> = operations
            .iter()
            .map(|operation| operation["operationId"].as_str().unwrap())
            .collect();
        assert_eq!(ids.len(), operations.len(), "{ids:?}");
        assert!(ids.contains("keys_undo_rotation"), "{ids:?}");
    }
}

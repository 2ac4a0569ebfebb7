//! `/v1/import`: many keys at once, by their hashes.

use core::fmt;
use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{FromRequest as _, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::keys::split_owner;
use super::request::{ImportBody, WriteOptions};
use super::{App, Preview, commit_or_preview};
use crate::access::{Caller, Permission};
use crate::check;
use crate::documents::{Key, KeySpec, Metadata, Org, Project, project_id};
use crate::problem::{Problem, Problems};
use crate::time;

/// Keys that exist elsewhere.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ImportRequest {
    /// Up to 10,000 rows.
    #[schema(value_type = Vec<Row>, max_items = 10000)]
    #[serde(deserialize_with = "rows")]
    keys: Vec<Value>,
}

/// Up to [`MAX_ROWS`] rows: a body of many small ones would take a hundred times its bytes.
fn rows<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Value>, D::Error> {
    struct Rows;

    impl<'de> Visitor<'de> for Rows {
        type Value = Vec<Value>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array of rows")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Vec<Value>, A::Error> {
            let mut rows = Vec::new();
            while let Some(row) = all.next_element()? {
                if rows.len() == MAX_ROWS {
                    return Err(A::Error::custom(format!(
                        "more than {MAX_ROWS} rows: send them in several imports"
                    )));
                }
                rows.push(row);
            }
            Ok(rows)
        }
    }

    from.deserialize_seq(Rows)
}

/// A key by its hash.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Row {
    /// Public id to know it by.
    id: String,
    /// SHA-256 of the key: 64 hexadecimal digits.
    sha256: String,
    /// Its organization.
    org: String,
    /// Its project.
    project: Option<String>,
    /// The first of the keys that it was rotated from, one after the other.
    rotation_root: Option<String>,
    #[serde(flatten)]
    spec: KeySpec,
}

/// What was taken over.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ImportResult {
    /// How many keys.
    imported: usize,
    /// How many were there already, with the same hash and owner; they stay as they are.
    existed: usize,
}

const MAX_ROWS: usize = 10_000;

/// Takes over keys by their hashes: all, or none where one is wrong. A row with `status: revoked` is one of a key that was
/// revoked elsewhere: its id is taken, and it is good for nothing.
#[utoipa::path(post, path = "/v1/import", tag = "keys", params(WriteOptions), request_body = ImportRequest, responses(
    (status = 201, body = ImportResult), (status = 200, body = Preview, description = "A dry run."),
    Problems,
))]
pub(super) async fn import(
    State(app): State<Arc<App>>,
    caller: Caller,
    options: WriteOptions,
    request: Request,
) -> Result<Response, Problem> {
    // Before its large body is read.
    caller.authorize(Permission::ManageOrgs)?;
    let ImportBody(ImportRequest { keys: rows }) = ImportBody::from_request(request, &app).await?;
    if rows.is_empty() {
        return Err(Problem::field("keys", "expected at least one row"));
    }
    let created_at = time::to_rfc3339(time::now());
    let read = |(at, row): (usize, Value)| {
        key(row, &created_at, caller.name()).map_err(|problem| problem.nested_in(&format!("keys[{at}]")))
    };
    let same = |one: &Key, other: &Key| {
        (&one.sha256, &one.org, &one.project) == (&other.sha256, &other.org, &other.project)
    };
    let keys: Vec<Key> = rows.into_iter().enumerate().map(read).collect::<Result<_, _>>()?;
    // The work of some milliseconds, and before anybody waits for the database.
    check::keys(&keys)?;
    let mut write = app
        .store
        .begin(&caller, "key.import", options.reason.as_deref())
        .await?;
    let owners: BTreeSet<(&str, Option<&str>)> = keys
        .iter()
        .map(|key| (key.org.as_str(), key.project.as_deref()))
        .collect();
    for (org, project) in owners {
        if write.find::<Org>(org).await?.is_none() {
            return Err(Problem::invalid("keys", org, "organizations that exist"));
        }
        if let Some(project) = project
            && write.find::<Project>(&project_id(org, project)).await?.is_none()
        {
            return Err(Problem::invalid(
                "keys",
                project,
                &format!("projects of `{org}` that exist"),
            ));
        }
    }
    let imported = write.create_missing(&keys, same).await?;
    let done = ImportResult {
        imported,
        existed: keys.len() - imported,
    };
    // An entry is of one organization, or seen by those alone who see all.
    let org = keys.first().map_or("", |key| key.org.as_str());
    let org = if keys.iter().all(|key| key.org == org) {
        org
    } else {
        ""
    };
    commit_or_preview(write, org, &options, StatusCode::CREATED, &done, 0).await
}

/// Takes a text out of a row.
fn take(row: &mut Value, name: &str) -> Result<String, Problem> {
    match row.as_object_mut().and_then(|members| members.remove(name)) {
        Some(Value::String(text)) => Ok(text),
        _ => Err(Problem::field(name, "expected a string")),
    }
}

fn key(mut row: Value, created_at: &str, by: &str) -> Result<Key, Problem> {
    let (id, sha256) = (
        take(&mut row, "id")?,
        take(&mut row, "sha256")?.to_ascii_lowercase(),
    );
    // As in a directory that was exported.
    let rotation_root = match row.get("rotation_root") {
        Some(_) => Some(take(&mut row, "rotation_root")?),
        None => None,
    };
    let is_revoked = row.get("status").is_some_and(|status| status == "revoked");
    if is_revoked && let Some(members) = row.as_object_mut() {
        members.remove("status");
    }
    let (org, project, spec) = split_owner(row)?;
    Ok(Key {
        id,
        sha256,
        org,
        project,
        // Only the platform imports.
        metadata: Metadata::new(created_at.to_owned(), by).with_status(spec.status, true),
        spec,
        revoked_at: is_revoked.then(|| created_at.to_owned()),
        rotated_from: None,
        rotation_root,
        rotation: None,
    })
}

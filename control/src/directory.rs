//! The directory as gateways fetch it: the whole document, or what changed in it since the version they have.
//!
//! A version is the name of the database and the last entry of the trail that changed an organization, project, key,
//! restriction or budget, with the entry's hash: after a restore its number may be given to another entry.
//! A key that is revoked is in no document.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::Arc;

use futures_util::TryStreamExt as _;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sqlx::any::AnyRow;
use sqlx::{Any, Row as _, Transaction};
use tollgate_core::directory::delta::MAX_TEXT;

use crate::documents::{CapRate, Key, Limit, Org, Project, Restriction, Status, Traffic};
use crate::problem::Problem;
use crate::spool::{Spool, Writer};
use crate::store::{End, IN_FORCE, Store, end, head_beside, read};

/// The media type of what changed.
pub const CHANGES_MEDIA_TYPE: &str = "application/vnd.tollgate.changes+json";
/// Digits of a hash in a version, and of a database's name.
const DIGITS: usize = 16;
/// Who is further behind gets the whole document.
const MAX_CHANGES: i64 = 5_000;
/// The same where what changed has more bytes than this: half of what a gateway takes.
const MAX_CHANGES_BYTES: usize = MAX_TEXT / 2;
/// Rows that are read, and written, at once.
const ROWS: i64 = 2_000;

/// Which directory it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    database: String,
    seq: i64,
    /// The first digits of the entry's hash; `0` where there is no entry.
    hash: String,
}

impl Version {
    fn new(database: &str, seq: i64, hash: &str) -> Self {
        Self {
            database: database.to_owned(),
            seq,
            hash: hash.get(..DIGITS).unwrap_or("0").to_owned(),
        }
    }

    /// As it stands in an `ETag`, without its quotes.
    pub(crate) fn text(&self) -> String {
        format!("{}-{}-{}", self.database, self.seq, self.hash)
    }

    /// Reads what [`Self::text`] wrote, with quotes or without; nothing else is a version.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim().trim_start_matches("W/").trim_matches('"');
        let (rest, hash) = text.rsplit_once('-')?;
        let (database, seq) = rest.rsplit_once('-')?;
        let is_hex = |text: &str| {
            text.len() == DIGITS && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        if !is_hex(database) || !(is_hex(hash) || hash == "0") {
            return None;
        }
        Some(Self {
            database: database.to_owned(),
            seq: seq
                .parse()
                .ok()
                .filter(|_| seq.bytes().all(|byte| byte.is_ascii_digit()))?,
            hash: hash.to_owned(),
        })
    }
}

/// What changed from one version to another.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Changes {
    version: u8,
    /// The version that it is to be applied to.
    after: String,
    /// Each organization of which something changed, whole; `null` for one that is gone.
    orgs: BTreeMap<String, Option<Value>>,
    /// Rows of keys that are new or changed.
    keys: Vec<Value>,
    /// SHA-256 of keys that are no more.
    removed_keys: Vec<String>,
    /// What is out of use, whole, where that changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    traffic: Option<Value>,
    /// Every budget, where one changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    budgets: Option<Value>,
}

/// A budget in the document: whom it covers, and what it counts. How much there is of it, gateways hear from the exchange.
#[derive(Deserialize, Serialize)]
struct BudgetMember {
    #[serde(skip_serializing)]
    id: String,
    scope: Value,
    unit: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    begins_at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ends_at: Option<String>,
}

/// An organization in the document.
pub(crate) fn org_member(org: &Org, projects: &[Project]) -> Value {
    let spec = &org.spec;
    let mut member = json!({
        "status": status(spec.status, org.metadata.frozen_by.is_some()),
        "models": spec.models,
        "labels": spec.labels,
        "projects": projects.iter().map(|one| (one.id.clone(), project_member(one))).collect::<Map<_, _>>(),
    });
    set(&mut member, "tier", spec.tier.as_ref());
    set(
        &mut member,
        "limits",
        Some(&spec.limits).filter(|limits| !limits.is_empty()),
    );
    set(&mut member, "cap", org.metadata.capped().as_ref());
    member
}

fn project_member(project: &Project) -> Value {
    let spec = &project.spec;
    let mut member = json!({
        "status": status(spec.status, project.metadata.frozen_by.is_some()),
        "labels": spec.labels,
    });
    set(&mut member, "models", spec.models.as_ref());
    member
}

/// Sets a member that there is.
fn set(object: &mut Value, name: &str, value: Option<&impl Serialize>) {
    if let (Some(object), Some(value)) = (object.as_object_mut(), value) {
        object.insert(name.to_owned(), json!(value));
    }
}

const fn status(status: Status, frozen: bool) -> Status {
    if frozen { Status::Suspended } else { status }
}

/// A key's row in the document.
pub(crate) fn key_row(key: &Key) -> Value {
    #[derive(Serialize)]
    struct Row<'a> {
        id: &'a str,
        sha256: &'a str,
        org: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        project: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        rotation_root: Option<&'a str>,
        #[serde(skip_serializing_if = "is_active")]
        status: Status,
        #[serde(skip_serializing_if = "Option::is_none")]
        scopes: Option<&'a [String]>,
        #[serde(skip_serializing_if = "Option::is_none")]
        models: Option<&'a [String]>,
        #[serde(skip_serializing_if = "Option::is_none")]
        not_before: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        expires_at: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        networks: Option<&'a [String]>,
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        limits: &'a BTreeMap<String, Limit>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cap: Option<CapRate>,
    }
    let spec = &key.spec;
    json!(Row {
        id: &key.id,
        sha256: &key.sha256,
        org: &key.org,
        project: key.project.as_deref(),
        rotation_root: key.rotation_root.as_deref(),
        status: status(spec.status, key.metadata.frozen_by.is_some()),
        scopes: spec.scopes.as_deref(),
        models: spec.models.as_deref(),
        not_before: spec.not_before.as_deref(),
        expires_at: spec.expires_at.as_deref(),
        networks: spec.networks.as_deref(),
        limits: &spec.limits,
        cap: key.metadata.capped(),
    })
}

fn is_active(status: &Status) -> bool {
    *status == Status::Active
}

impl Store {
    /// The directory's version now.
    pub(crate) async fn version(&self) -> Result<Version, Problem> {
        let seen = self.seen();
        let row = sqlx::query(VERSION).bind(seen.seq).fetch_one(self.pool()).await?;
        let version = self.read_version(&seen, &row)?;
        self.note_directory_version(version.seq, version.text())?;
        Ok(version)
    }

    /// The last version that was read before the database was lost, and its document, where that is still here.
    pub(crate) async fn last_document(&self) -> (Option<Version>, Option<Arc<Spool>>) {
        let version = self.directory_version();
        let document = self.document_cache().lock().await.clone();
        let document = document.filter(|document| Some(document.version()) == version.as_deref());
        (version.as_deref().and_then(Version::parse), document)
    }

    /// Waits until there is another version than this one, for so long; the version by then.
    pub(crate) async fn wait_for_change(&self, known: &Version, wait: Duration) -> Result<Version, Problem> {
        let mut changes = self.changes();
        let over = tokio::time::sleep(wait);
        tokio::pin!(over);
        loop {
            changes.mark_unchanged();
            let version = self.version().await?;
            if version != *known {
                return Ok(version);
            }
            tokio::select! {
                () = &mut over => return Ok(version),
                _ = changes.changed() => {}
            }
        }
    }

    /// What changed since a version, and the version that it makes. `None` where that has to be told whole: the version is
    /// of another database, or from before a restore, or too much has changed.
    pub(crate) async fn changed_since(&self, known: &Version) -> Result<Option<(Version, Changes)>, Problem> {
        let mut snapshot = self.snapshot().await?;
        let version = self.version_in(&mut snapshot).await?;
        if known.database != version.database || known.seq > version.seq {
            return Ok(None);
        }
        let entry = sqlx::query("SELECT hash FROM audit WHERE seq = $1")
            .bind(known.seq)
            .fetch_optional(&mut *snapshot)
            .await?;
        let hash: Option<String> = entry.map(|entry| entry.try_get("hash")).transpose()?;
        if *known != Version::new(self.name(), known.seq, &hash.unwrap_or_default()) {
            return Ok(None);
        }
        let mut changes = Changes {
            version: 1,
            after: known.text(),
            ..Changes::default()
        };
        let (mut orgs, mut read_rows, mut bytes) = (BTreeSet::new(), 0, 0);
        let mut rows = sqlx::query(
            "SELECT kind, org, gone, CASE WHEN kind = 'key' THEN document ELSE '' END AS document FROM objects \
             WHERE kind IN ('org', 'project', 'key', 'restriction', 'budget') AND seq > $1 LIMIT $2",
        )
        .bind(known.seq)
        .bind(MAX_CHANGES + 1)
        .fetch(&mut *snapshot);
        while let Some(row) = rows.try_next().await? {
            let document: String = row.try_get("document")?;
            read_rows += 1;
            bytes += document.len();
            if read_rows > MAX_CHANGES || bytes > MAX_CHANGES_BYTES {
                return Ok(None);
            }
            match row.try_get::<String, _>("kind")?.as_str() {
                "key" => {}
                "restriction" => {
                    changes.traffic = Some(Value::Null);
                    continue;
                }
                "budget" => {
                    changes.budgets = Some(Value::Null);
                    continue;
                }
                _ => {
                    orgs.insert(row.try_get::<String, _>("org")?);
                    continue;
                }
            }
            let key: Key = read(&document)?;
            if key.revoked_at.is_some() || row.try_get::<i64, _>("gone")? != 0 {
                changes.removed_keys.push(key.sha256);
            } else {
                changes.keys.push(key_row(&key));
            }
        }
        drop(rows);
        if let Some(changed) = &mut changes.traffic {
            *changed = traffic(&mut snapshot).await?.unwrap_or_else(|| json!({}));
        }
        if let Some(changed) = &mut changes.budgets {
            *changed = budgets(&mut snapshot).await?.unwrap_or_else(|| json!({}));
            bytes += changed.to_string().len();
        }
        for org in orgs {
            let member = load_org(&mut snapshot, &org).await?;
            bytes += member.as_ref().map_or(0, |member| member.to_string().len());
            if bytes > MAX_CHANGES_BYTES {
                return Ok(None);
            }
            changes.orgs.insert(org, member);
        }
        self.note_directory_version(version.seq, version.text())?;
        Ok(Some((version, changes)))
    }

    /// The whole document. It is made once for all who ask for the same version, one version at a time.
    pub(crate) async fn document(&self) -> Result<Arc<Spool>, Problem> {
        let mut whole = self.document_cache().lock().await;
        let now = self.version().await?.text();
        if let Some(known) = whole.as_ref().filter(|known| known.version() == now) {
            return Ok(Arc::clone(known));
        }
        let made = match Spool::in_file() {
            Ok(writer) => self.spool_into(writer).await,
            Err(error) => Err(cannot_spool(error)),
        };
        let made = match made {
            Ok(made) => made,
            // The disk is full, perhaps: the directory is served all the same.
            Err(_) => self.spool_into(Spool::in_memory()).await?,
        };
        let made = Arc::new(made);
        *whole = Some(Arc::clone(&made));
        Ok(made)
    }

    async fn spool_into(&self, mut into: Writer) -> Result<Spool, Problem> {
        let mut snapshot = self.snapshot().await?;
        let version = self.version_in(&mut snapshot).await?;
        write(&mut snapshot, &mut into).await?;
        self.note_directory_version(version.seq, version.text())?;
        into.finish(version.text()).map_err(cannot_spool)
    }

    /// The same in a snapshot, of which this is the first statement.
    async fn version_in(&self, snapshot: &mut Transaction<'static, Any>) -> Result<Version, Problem> {
        let seen = self.seen();
        let row = sqlx::query(VERSION)
            .bind(seen.seq)
            .fetch_one(&mut **snapshot)
            .await?;
        self.read_version(&seen, &row)
    }

    /// Reads a version, of a directory that is to be believed: keys that were revoked would be good again in an older one.
    fn read_version(&self, seen: &End, row: &AnyRow) -> Result<Version, Problem> {
        self.look(seen, row)?;
        Ok(Version::new(
            self.name(),
            row.try_get("seq")?,
            row.try_get("hash")?,
        ))
    }
}

/// A look-up in an index for each kind: PostgreSQL reads all rows for the five at once.
const VERSION: &str = concat!(
    "SELECT last.seq AS seq, COALESCE(entry.hash, '') AS hash, ",
    end!(),
    " FROM (SELECT COALESCE(MAX(seq), 0) AS seq FROM \
      (SELECT MAX(seq) AS seq FROM objects WHERE kind = 'org' \
       UNION ALL SELECT MAX(seq) FROM objects WHERE kind = 'project' \
       UNION ALL SELECT MAX(seq) FROM objects WHERE kind = 'key' \
       UNION ALL SELECT MAX(seq) FROM objects WHERE kind = 'restriction' \
       UNION ALL SELECT MAX(seq) FROM objects WHERE kind = 'budget') AS each) AS last \
     LEFT JOIN audit AS entry ON entry.seq = last.seq CROSS JOIN ",
    head_beside!("$1")
);

/// What is out of use; `None` where that is nothing.
async fn traffic(snapshot: &mut Transaction<'static, Any>) -> Result<Option<Value>, Problem> {
    let statement =
        format!("SELECT document FROM objects WHERE kind = 'restriction' AND {IN_FORCE} ORDER BY id");
    let rows = sqlx::query(sqlx::AssertSqlSafe(statement))
        .fetch_all(&mut **snapshot)
        .await?;
    let all: Vec<Restriction> = rows
        .iter()
        .map(|row| read(&row.try_get::<String, _>("document")?))
        .collect::<Result<_, Problem>>()?;
    let traffic = Traffic::of(all.iter().map(|one| &one.terms.target));
    Ok((!traffic.is_nothing()).then(|| json!(traffic)))
}

/// The budgets; `None` where there are none.
async fn budgets(snapshot: &mut Transaction<'static, Any>) -> Result<Option<Value>, Problem> {
    let rows = sqlx::query("SELECT document FROM objects WHERE kind = 'budget' AND gone = 0 ORDER BY id")
        .fetch_all(&mut **snapshot)
        .await?;
    let all: Map<String, Value> = rows
        .iter()
        .map(|row| {
            let document: String = row.try_get("document")?;
            let budget: BudgetMember = serde_json::from_str(&document)
                .map_err(|error| Problem::unavailable(format!("a stored budget cannot be read ({error})")))?;
            Ok((budget.id.clone(), json!(budget)))
        })
        .collect::<Result<_, Problem>>()?;
    Ok((!all.is_empty()).then(|| Value::Object(all)))
}

async fn load_org(snapshot: &mut Transaction<'static, Any>, id: &str) -> Result<Option<Value>, Problem> {
    let org = sqlx::query("SELECT document FROM objects WHERE kind = 'org' AND id = $1 AND gone = 0")
        .bind(id.to_owned())
        .fetch_optional(&mut **snapshot)
        .await?;
    let Some(org) = org else { return Ok(None) };
    let org: Org = read(&org.try_get::<String, _>("document")?)?;
    let projects = sqlx::query(
        "SELECT document FROM objects WHERE kind = 'project' AND org = $1 AND gone = 0 ORDER BY id",
    )
    .bind(id.to_owned())
    .fetch_all(&mut **snapshot)
    .await?;
    let projects: Vec<Project> = projects
        .iter()
        .map(|row| read(&row.try_get::<String, _>("document")?))
        .collect::<Result<_, Problem>>()?;
    Ok(Some(org_member(&org, &projects)))
}

fn cannot_spool(error: std::io::Error) -> Problem {
    Problem::unavailable(format!(
        "the document cannot be written where temporary files go: {error}"
    ))
}

async fn write(snapshot: &mut Transaction<'static, Any>, into: &mut impl Write) -> Result<(), Problem> {
    let mut text = String::from("{\"version\":1,\"orgs\":{");
    let mut after = String::new();
    let mut first = true;
    loop {
        let rows = page(snapshot, "org", &after).await?;
        let Some((last, _)) = rows.last() else { break };
        after.clone_from(last);
        for (id, _) in rows {
            if let Some(member) = load_org(snapshot, &id).await? {
                separate(&mut text, &mut first);
                text.push_str(&format!("{}:{member}", Value::from(id)));
            }
        }
        flush(into, &mut text)?;
    }
    text.push_str("},\"keys\":[");
    let mut after = String::new();
    let mut first = true;
    loop {
        let rows = page(snapshot, "key", &after).await?;
        let Some((last, _)) = rows.last() else { break };
        after.clone_from(last);
        for (_, document) in rows {
            let key: Key = read(&document)?;
            if key.revoked_at.is_none() {
                separate(&mut text, &mut first);
                text.push_str(&key_row(&key).to_string());
            }
        }
        flush(into, &mut text)?;
    }
    text.push(']');
    if let Some(traffic) = traffic(snapshot).await? {
        text.push_str(&format!(",\"traffic\":{traffic}"));
    }
    if let Some(budgets) = budgets(snapshot).await? {
        text.push_str(&format!(",\"budgets\":{budgets}"));
    }
    text.push('}');
    flush(into, &mut text)
}

fn separate(text: &mut String, first: &mut bool) {
    if !core::mem::take(first) {
        text.push(',');
    }
}

/// Writes what there is.
fn flush(into: &mut impl Write, text: &mut String) -> Result<(), Problem> {
    let written = into.write_all(text.as_bytes());
    text.clear();
    written.map_err(cannot_spool)
}

/// Ids and documents of a kind after an id.
async fn page(
    snapshot: &mut Transaction<'static, Any>,
    kind: &str,
    after: &str,
) -> Result<Vec<(String, String)>, Problem> {
    let rows = sqlx::query(
        "SELECT id, document FROM objects WHERE kind = $1 AND id > $2 AND gone = 0 ORDER BY id LIMIT $3",
    )
    .bind(kind.to_owned())
    .bind(after.to_owned())
    .bind(ROWS)
    .fetch_all(&mut **snapshot)
    .await?;
    rows.iter()
        .map(|row| Ok((row.try_get("id")?, row.try_get("document")?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let (name, hash) = ("0011223344556677", "0123456789abcdef");
        let version = Version::new(name, 7, &format!("{hash}0123"));
        assert_eq!(version.text(), format!("{name}-7-{hash}"));
        assert_eq!(Version::parse(&version.text()), Some(version.clone()));
        assert_eq!(Version::parse(&format!("\"{name}-7-{hash}\"")), Some(version));
        let first = Version::new(name, 0, "");
        assert_eq!(first.text(), format!("{name}-0-0"));
        assert_eq!(Version::parse(&first.text()), Some(first));
        for wrong in [
            "",
            "7",
            "ab-",
            "ab-7-0",
            &format!("{name}--1"),
            &format!("{name}-x-{hash}"),
            &format!("{name}-7"),
            &format!("{name}-7-{hash}0"),
            &format!("{name}-+7-{hash}"),
            &format!("{name}-7-{}", hash.to_uppercase()),
            &format!("{}-7-{hash}", name.repeat(9)),
            &format!("\u{1b}[2J4455667788-7-{hash}"),
        ] {
            assert_eq!(Version::parse(wrong), None, "{wrong}");
        }
    }
}

//! Whether the tables are those that the server made: a view in a table's place, a trigger or a policy could show the server
//! other rows than whoever looks through the trail.

use sqlx::{Any, AnyConnection, Connection as _, Row as _, Transaction};

use crate::problem::Problem;
use crate::store::{Engine, Store};

/// What belongs to them in SQLite, as it was made. The migrations' own table is not read to decide anything.
const SQLITE: &str = "SELECT type || ' ' || name AS name, COALESCE(sql, '') AS made FROM sqlite_master \
     WHERE tbl_name IN ('head', 'objects', 'audit', 'idempotency', 'budget_windows', 'budget_slices', 'notices')";

/// Views and triggers in SQLite, wherever they are: none is the server's.
const SQLITE_FOREIGN: &str = "SELECT type || ' ' || name AS name FROM sqlite_master WHERE type IN ('view', 'trigger') \
     UNION ALL SELECT type || ' ' || name AS name FROM sqlite_temp_master WHERE type IN ('view', 'trigger')";

/// The tables of PostgreSQL that are no plain ones, with what makes them so.
const POSTGRES: &str = "SELECT wanted.name || ': ' || CASE \
       WHEN c.oid IS NULL THEN 'it is not there' \
       WHEN c.relkind <> 'r' OR c.relispartition THEN 'it is no plain table' \
       WHEN c.relrowsecurity OR EXISTS (SELECT 1 FROM pg_policy WHERE polrelid = c.oid) THEN 'it has policies' \
       WHEN EXISTS (SELECT 1 FROM pg_trigger WHERE tgrelid = c.oid) THEN 'it has triggers' \
       WHEN EXISTS (SELECT 1 FROM pg_rewrite WHERE ev_class = c.oid) THEN 'it has rules' \
       WHEN EXISTS (SELECT 1 FROM pg_inherits WHERE inhparent = c.oid OR inhrelid = c.oid) THEN 'it inherits' \
       WHEN EXISTS (SELECT 1 FROM pg_attribute WHERE attrelid = c.oid AND (attgenerated <> '' OR atthasdef)) \
         THEN 'it has columns that are computed' \
       WHEN (SELECT COUNT(*) FROM pg_constraint WHERE conrelid = c.oid AND contype NOT IN ('p', 'n')) > wanted.checks \
         THEN 'it has other constraints' \
       ELSE '' END AS problem \
     FROM (VALUES ('head', 1), ('objects', 0), ('audit', 0), ('idempotency', 0), \
       ('budget_windows', 0), ('budget_slices', 0), ('notices', 0)) AS wanted(name, checks) \
     LEFT JOIN pg_class AS c ON c.oid = to_regclass(wanted.name)";

impl Store {
    /// What is not as the server made it, in words.
    pub(crate) async fn altered_tables(
        &self,
        snapshot: &mut Transaction<'static, Any>,
    ) -> Result<Vec<String>, Problem> {
        match self.engine() {
            Engine::Sqlite => sqlite(snapshot).await,
            Engine::Postgres => postgres(snapshot).await,
        }
    }
}

async fn sqlite(snapshot: &mut Transaction<'static, Any>) -> Result<Vec<String>, Problem> {
    let foreign = sqlx::query(SQLITE_FOREIGN).fetch_all(&mut **snapshot).await?;
    let mut altered = Vec::new();
    for row in foreign {
        let name: String = row.try_get("name")?;
        altered.push(format!("the database has the {name}, which is not the server's"));
    }
    // As they are in a database that was made just now.
    let mut new = AnyConnection::connect("sqlite::memory:").await?;
    for migration in sqlx::migrate!("./migrations").iter() {
        sqlx::raw_sql(migration.sql.clone()).execute(&mut new).await?;
    }
    let mut found = Vec::new();
    for row in sqlx::query(SQLITE).fetch_all(&mut **snapshot).await? {
        found.push((
            row.try_get::<String, _>("name")?,
            row.try_get::<String, _>("made")?,
        ));
    }
    for row in sqlx::query(SQLITE).fetch_all(&mut new).await? {
        let expected = (row.try_get("name")?, row.try_get("made")?);
        if !found.contains(&expected) {
            let name = expected.0;
            altered.push(format!("the {name} is not as the server made it"));
        }
    }
    Ok(altered)
}

async fn postgres(snapshot: &mut Transaction<'static, Any>) -> Result<Vec<String>, Problem> {
    let mut altered = Vec::new();
    for row in sqlx::query(POSTGRES).fetch_all(&mut **snapshot).await? {
        let problem: String = row.try_get("problem")?;
        if !problem.ends_with(": ") {
            altered.push(format!("the table {problem}, and not as the server made it"));
        }
    }
    Ok(altered)
}

//! Whether the tables are those that the server made: a view in a table's place, a trigger or a policy could show the server
//! other rows than whoever looks through the trail, and a constraint or an index of somebody else's keep it from writing.

use sqlx::{Any, AnyConnection, Connection as _, Row as _, Transaction};

use crate::problem::Problem;
use crate::store::{Engine, Store};

/// Their names, as rows of an SQL `VALUES`.
macro_rules! tables {
    () => {
        "('head'), ('objects'), ('audit'), ('idempotency'), ('spent'), ('budget_windows'), ('budget_slices'), ('notices'), \
         ('fleet'), ('fleet_log'), ('fleet_snapshot'), ('fleet_parts')"
    };
}

/// What belongs to them in SQLite, as it was made. The migrations' own table is not read to decide anything.
const SQLITE: &str = concat!(
    "SELECT type || ' ' || name AS name, COALESCE(sql, '') AS made FROM sqlite_master \
     WHERE tbl_name IN (VALUES ",
    tables!(),
    ")"
);

/// Views and triggers in SQLite, wherever they are: none is the server's.
const SQLITE_FOREIGN: &str = "SELECT type || ' ' || name AS name FROM sqlite_master WHERE type IN ('view', 'trigger') \
     UNION ALL SELECT type || ' ' || name AS name FROM sqlite_temp_master WHERE type IN ('view', 'trigger')";

/// The tables of PostgreSQL that are no plain ones, with what makes them so.
const POSTGRES: &str = concat!(
    "SELECT wanted.name || ': ' || CASE \
       WHEN c.oid IS NULL THEN 'it is not there' \
       WHEN c.relkind <> 'r' OR c.relispartition THEN 'it is no plain table' \
       WHEN c.relpersistence <> 'p' THEN 'a crash empties it' \
       WHEN c.relrowsecurity OR EXISTS (SELECT 1 FROM pg_policy WHERE polrelid = c.oid) THEN 'it has policies' \
       WHEN EXISTS (SELECT 1 FROM pg_trigger WHERE tgrelid = c.oid) THEN 'it has triggers' \
       WHEN EXISTS (SELECT 1 FROM pg_rewrite WHERE ev_class = c.oid) THEN 'it has rules' \
       WHEN EXISTS (SELECT 1 FROM pg_inherits WHERE inhparent = c.oid OR inhrelid = c.oid) THEN 'it inherits' \
       WHEN EXISTS (SELECT 1 FROM pg_attribute WHERE attrelid = c.oid AND (attgenerated <> '' OR atthasdef)) \
         THEN 'it has columns that are computed' \
       ELSE '' END AS problem \
     FROM (VALUES ",
    tables!(),
    ") AS wanted(name) LEFT JOIN pg_class AS c ON c.oid = to_regclass(wanted.name)"
);

/// Their columns, indices and constraints, as they are made, whichever schema they are in.
const POSTGRES_PARTS: &str = concat!(
    "SELECT 'index ' || i.relname || ' of ' || wanted.name AS name, \
       REPLACE(REPLACE(pg_get_indexdef(i.oid), ' ON ' || quote_ident(n.nspname) || '.', ' ON '), ' ON pg_temp.', ' ON ') \
         || CASE WHEN x.indisvalid AND x.indisready THEN '' ELSE ' INVALID' END AS made \
     FROM (VALUES ",
    tables!(),
    ") AS wanted(name) \
     JOIN pg_index AS x ON x.indrelid = to_regclass(wanted.name) \
     JOIN pg_class AS i ON i.oid = x.indexrelid JOIN pg_namespace AS n ON n.oid = i.relnamespace \
     UNION ALL SELECT 'constraint ' || k.conname || ' of ' || wanted.name, pg_get_constraintdef(k.oid) \
     FROM (VALUES ",
    tables!(),
    ") AS wanted(name) \
     JOIN pg_constraint AS k ON k.conrelid = to_regclass(wanted.name) WHERE k.contype <> 'n' \
     UNION ALL SELECT 'column ' || a.attname || ' of ' || wanted.name, \
       format_type(a.atttypid, a.atttypmod) || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END \
         || COALESCE((SELECT ' COLLATE ' || l.collname FROM pg_collation AS l WHERE l.oid = a.attcollation), '') \
     FROM (VALUES ",
    tables!(),
    ") AS wanted(name) \
     JOIN pg_attribute AS a ON a.attrelid = to_regclass(wanted.name) AND a.attnum > 0 AND NOT a.attisdropped"
);

/// Who may not make temporary tables, and where.
const NO_TEMPORARY_TABLES: &str = "SELECT quote_ident(current_database()) AS place, quote_ident(current_user) AS role \
     WHERE NOT has_database_privilege(current_database(), 'TEMPORARY')";

impl Store {
    /// What is not as the server made it, in words.
    pub(crate) async fn altered_tables(
        &self,
        snapshot: &mut Transaction<'static, Any>,
    ) -> Result<Vec<String>, Problem> {
        match self.engine() {
            Engine::Sqlite => sqlite(snapshot).await,
            Engine::Postgres => {
                let mut altered = postgres(snapshot).await?;
                match sqlx::query(NO_TEMPORARY_TABLES).fetch_optional(&mut **snapshot).await? {
                    None => {
                        let parts = parts(POSTGRES_PARTS, snapshot).await?;
                        altered.extend(compare(&parts, &self.postgres_parts().await?));
                    }
                    // Everything else is looked through all the same.
                    Some(row) => altered.push(format!(
                        "columns, indices and constraints were not looked at, for which the server makes temporary tables: \
                         GRANT TEMPORARY ON DATABASE {} TO {}",
                        row.try_get::<String, _>("place")?,
                        row.try_get::<String, _>("role")?
                    )),
                }
                Ok(altered)
            }
        }
    }
}

/// A part of a table, or one itself, by its name, and as it was made.
type Made = (String, String);

async fn parts(statement: &'static str, connection: &mut AnyConnection) -> Result<Vec<Made>, Problem> {
    let rows = sqlx::query(statement).fetch_all(connection).await?;
    rows.iter()
        .map(|row| Ok((row.try_get("name")?, row.try_get("made")?)))
        .collect()
}

/// What differs, in words.
fn compare(found: &[Made], expected: &[Made]) -> Vec<String> {
    let altered = expected.iter().filter(|one| !found.contains(one));
    let altered = altered.map(|(name, _)| format!("the {name} is not as the server made it"));
    let is_known = |name: &str| expected.iter().any(|(known, _)| known == name);
    let foreign = found.iter().filter(|(name, _)| !is_known(name));
    let foreign = foreign.map(|(name, _)| format!("the database has the {name}, which is not the server's"));
    altered.chain(foreign).collect()
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
    let found: Vec<Made> = parts(SQLITE, snapshot).await?;
    let found: Vec<Made> = found
        .into_iter()
        // Told above.
        .filter(|(name, _)| !name.starts_with("trigger "))
        .collect();
    altered.extend(compare(&found, &parts(SQLITE, &mut new).await?));
    // The pages, and whether each index has what its table has; the first few that do not fit.
    let damage = sqlx::query("PRAGMA integrity_check(10)")
        .fetch_all(&mut **snapshot)
        .await?;
    for row in damage {
        let found: String = row.try_get(0)?;
        if found != "ok" {
            altered.push(format!("SQLite finds the file damaged: {found}"));
        }
    }
    Ok(altered)
}

impl Store {
    /// The parts of PostgreSQL's tables as they are made now, of temporary ones that are gone again.
    async fn postgres_parts(&self) -> Result<Vec<Made>, Problem> {
        let mut transaction = self.pool().begin().await?;
        sqlx::query("SET LOCAL search_path = pg_temp")
            .execute(&mut *transaction)
            .await?;
        for migration in sqlx::migrate!("./migrations").iter() {
            sqlx::raw_sql(migration.sql.clone())
                .execute(&mut *transaction)
                .await?;
        }
        let parts = parts(POSTGRES_PARTS, &mut transaction).await?;
        transaction.rollback().await?;
        Ok(parts)
    }
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

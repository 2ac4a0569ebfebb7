//! What PostgreSQL acknowledges is on the disk, whatever the defaults of a role or database say.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails by panicking")]

mod support;

use serde_json::json;
use sqlx::{AnyPool, Row as _};
use support::{Plane, postgres};
use tollgate_control::WriteQuota;

#[tokio::test]
async fn a_default_makes_no_write_less_than_durable() {
    let plane = Plane::open(&postgres::database(), None).await;
    plane.org("acme").await;
    let pool = AnyPool::connect(&plane.address).await.unwrap();
    let run = async |statements: String| {
        let statements = sqlx::AssertSqlSafe(statements);
        sqlx::raw_sql(statements).execute(&pool).await.unwrap();
    };
    // Each write says by which level its transaction is committed.
    run("CREATE TABLE levels (level TEXT); \
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS \
         'BEGIN INSERT INTO levels VALUES (current_setting(''synchronous_commit'')); RETURN NEW; END'; \
         CREATE TRIGGER note BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION note(); \
         CREATE TRIGGER note BEFORE INSERT ON budget_slices FOR EACH ROW EXECUTE FUNCTION note()"
        .to_owned())
    .await;
    let name = plane.address.rsplit('/').next().unwrap().to_owned();
    let mut plane = plane;
    // Without a standby the last is as quick.
    for (default, expected) in [("off", "on"), ("on", "on"), ("remote_apply", "remote_apply")] {
        run(format!(
            "ALTER DATABASE {name} SET synchronous_commit = {default}; DELETE FROM levels"
        ))
        .await;
        plane = plane.reopened(WriteQuota::default()).await;
        let id = default.replace('_', "-");
        let budget =
            json!({"id": id, "scope": {"org": "acme"}, "unit": "tokens", "window": "day", "amount": 10});
        plane.post("/v1/budgets", budget).await.expect(201);
        let items = json!([{"budget": id, "spent": 1}]);
        let spent = json!({"holder": "holder-0000000001", "items": items});
        plane.post("/v1/budgets/exchange", spent).await.expect(200);
        let rows = sqlx::query("SELECT level FROM levels")
            .fetch_all(&pool)
            .await
            .unwrap();
        let levels: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(levels, [expected; 2], "{default}");
    }
}

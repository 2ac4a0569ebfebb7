//! Which store has the books. The row `fleet` names it, so that servers which were given different ones never grant the same
//! twice: the server that was started last has them, and the others refuse.

use std::sync::Arc;

use sqlx::Row as _;
use tokio::sync::OnceCell;

use crate::log::say;
use crate::problem::Problem;
use crate::store::Store;

/// How the row names the control plane's own database.
pub(super) const DATABASE: &str = "the database";

/// A server's claim to have the books in its store.
pub(super) struct Claim {
    store: Arc<Store>,
    kept: String,
    made: OnceCell<()>,
}

impl Claim {
    /// Of a server that keeps them there; not made yet.
    pub(super) fn new(store: Arc<Store>, kept: String) -> Self {
        Self {
            store,
            kept,
            made: OnceCell::new(),
        }
    }

    /// Makes the claim, once. Where another store had the books, `begin_anew` comes first: what is left here of an earlier
    /// time is old.
    pub(super) async fn make(
        &self,
        begin_anew: impl AsyncFnOnce() -> Result<(), String>,
    ) -> Result<(), String> {
        let make = async || {
            let said = |problem: Problem| problem.to_string();
            if self.kept_now().await.map_err(said)? != self.kept {
                begin_anew().await?;
                self.write().await.map_err(said)?;
                say(&format!(
                    "limits of the fleet: the books are in {} from now on",
                    self.kept
                ));
            }
            Ok(())
        };
        self.made.get_or_try_init(make).await.copied()
    }

    /// Fails where another store has the books by now.
    pub(super) async fn check(&self) -> Result<(), String> {
        let kept = self.kept_now().await.map_err(|problem| problem.to_string())?;
        ensure(&kept, &self.kept)
    }

    async fn kept_now(&self) -> Result<String, Problem> {
        let row = sqlx::query("SELECT kept FROM fleet WHERE one = 1")
            .fetch_one(self.store.pool())
            .await?;
        Ok(row.try_get("kept")?)
    }

    /// The books in the database are old from now on, whether they were there before or will be.
    async fn write(&self) -> Result<(), Problem> {
        let mut exchange = self.store.begin_exchange().await?;
        sqlx::query("UPDATE fleet SET kept = $1, rule = 0 WHERE one = 1")
            .bind(self.kept.clone())
            .execute(&mut *exchange.transaction)
            .await?;
        exchange.commit().await
    }
}

/// Fails unless the books are here.
pub(super) fn ensure(kept: &str, here: &str) -> Result<(), String> {
    match kept == here {
        true => Ok(()),
        false => Err(format!(
            "the books are in {kept}, by a server that was started later, and not in {here}: give all servers the same \
             --fleet-store, and start this one again"
        )),
    }
}

/// How the row names a Redis: without what may be a password.
pub(super) fn redis(address: &str) -> String {
    let place = address.split_once("://").map_or("", |(_, place)| place);
    let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
    let place = place.split_once('?').map_or(place, |(place, _)| place);
    format!("Redis at {place}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redis_is_named_without_its_password() {
        for (address, named) in [
            ("redis://h:6379", "Redis at h:6379"),
            ("redis://user:pass@word@h:6379/2", "Redis at h:6379/2"),
            ("redis+unix:///run/r.sock?pass=word", "Redis at /run/r.sock"),
        ] {
            assert_eq!(redis(address), named);
        }
    }
}

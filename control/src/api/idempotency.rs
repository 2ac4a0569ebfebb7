//! Creates that may be sent again: who sends the same `idempotency-key` gets the same answer, and nothing is made twice.
//! Only a secret is not told a second time, as it was not kept.

use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use sqlx::Row as _;

use super::REPLAYED;
use super::request::{self, WriteOptions};
use crate::access::Caller;
use crate::check;
use crate::problem::Problem;
use crate::store::Write;

/// How long a key is remembered; milliseconds.
pub(crate) const RETENTION_MS: i64 = 24 * 3_600_000;

/// A request that may be sent again.
pub(super) struct IdempotentRequest {
    key: String,
    /// A digest of what was asked.
    request: String,
}

impl IdempotentRequest {
    /// What the headers and the request say; `None` where there is no `idempotency-key`.
    pub(super) fn from_headers(
        headers: &axum::http::HeaderMap,
        endpoint: &str,
        body: &impl serde::Serialize,
    ) -> Result<Option<Self>, Problem> {
        let name = axum::http::HeaderName::from_static("idempotency-key");
        let Some(key) = request::text(headers, name)? else {
            return Ok(None);
        };
        if !(1..=255).contains(&key.len()) {
            return Err(Problem::malformed(
                "`idempotency-key` has to have 1 to 255 characters",
            ));
        }
        // It is kept for a day.
        check::no_secret("idempotency-key", key)?;
        let body = serde_json::to_string(body).unwrap_or_default();
        let digest = Sha256::new()
            .chain_update(endpoint)
            .chain_update([0])
            .chain_update(body)
            .finalize();
        Ok(Some(Self {
            key: key.to_owned(),
            request: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        }))
    }

    /// What was answered before. Of a dry run, that nothing would change.
    pub(super) async fn stored_answer(
        &self,
        write: &mut Write<'_>,
        caller: &Caller,
        options: &WriteOptions,
    ) -> Result<Option<Response>, Problem> {
        let row = sqlx::query(
            "SELECT request, status, answer FROM idempotency WHERE token = $1 AND key = $2 AND created_at > $3",
        )
        .bind(caller.name().to_owned())
        .bind(self.key.clone())
        .bind(write.time() - RETENTION_MS)
        .fetch_optional(&mut **write.transaction())
        .await?;
        let Some(row) = row else { return Ok(None) };
        if row.try_get::<String, _>("request")? != self.request {
            return Err(Problem::conflict(
                "this `idempotency-key` was sent with another request; a new request needs a new one",
            ));
        }
        if options.dry_run {
            return super::preview(write.store(), caller, Vec::new()).await.map(Some);
        }
        let status = u16::try_from(row.try_get::<i64, _>("status")?).ok();
        let status = status
            .and_then(|status| StatusCode::from_u16(status).ok())
            .unwrap_or(StatusCode::OK);
        let answer: Value = serde_json::from_str(&row.try_get::<String, _>("answer")?).unwrap_or_default();
        let mut response = super::show(write.store(), caller, status, &answer, 1).await?;
        response
            .headers_mut()
            .insert(REPLAYED, HeaderValue::from_static("true"));
        Ok(Some(response))
    }

    /// Remembers an answer, without any secret.
    pub(super) async fn remember(
        &self,
        write: &mut Write<'_>,
        caller: &Caller,
        answer: &impl serde::Serialize,
    ) -> Result<(), Problem> {
        let answer = serde_json::to_string(answer).unwrap_or_default();
        write.count_beside(self.key.len() + answer.len());
        let (seq, time) = (write.seq(), write.time());
        sqlx::query(
            "INSERT INTO idempotency (token, key, request, seq, status, answer, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) \
             ON CONFLICT (token, key) DO UPDATE SET request = $3, seq = $4, status = $5, answer = $6, created_at = $7",
        )
        .bind(caller.name().to_owned())
        .bind(self.key.clone())
        .bind(self.request.clone())
        .bind(seq)
        .bind(i64::from(StatusCode::CREATED.as_u16()))
        .bind(answer)
        .bind(time)
        .execute(&mut **write.transaction())
        .await?;
        Ok(())
    }
}

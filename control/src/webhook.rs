//! Tells a service of the operator's when a budget reaches a threshold: one HTTP request for each notice, signed as
//! Standard Webhooks says, and sent again until it is taken.
//!
//! The address is the operator's alone, from the command line: nothing that a client writes is ever asked for. No redirect is
//! followed, and what is answered is not read.

use core::convert::Infallible;
use core::time::Duration;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::{Client, Url};
use serde::Serialize;
use sha2::Sha256;
use sqlx::{Any, Row as _, Transaction};

use crate::access::random_text;
use crate::problem::Problem;
use crate::store::{Store, StoreError};
use crate::time;

/// What stands before a secret in its file, as Standard Webhooks says.
const PREFIX: &str = "whsec_";
/// How often what is due is looked for.
const POLL: Duration = Duration::from_secs(1);
/// How long one attempt may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Attempts before a notice is given up: about a day.
const ATTEMPTS: i64 = 30;
/// The first wait between two attempts, which doubles, and the longest; milliseconds.
const WAIT: (i64, i64) = (10_000, 3_600_000);
/// Notices that wait; further ones are not kept.
const MOST: i64 = 10_000;

/// Where notices go.
pub struct Webhook {
    url: Url,
    secret: Vec<u8>,
    client: Client,
}

/// Why there is no webhook.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// Its address is none that can be used.
    #[error(
        "the webhook's address is none that can be used: expected `https://…`, without a user's name or password"
    )]
    Address,
    /// Its secret can't be read, or made.
    #[error("cannot use the file with the webhook's secret: {0}")]
    Secret(#[from] std::io::Error),
    /// The file holds something else.
    #[error("the file with the webhook's secret holds none: expected `whsec_` and 24 to 64 bytes as base64")]
    NotASecret,
    /// No client could be set up.
    #[error("cannot set up an HTTP client: {0}")]
    Client(reqwest::Error),
}

impl Webhook {
    /// One at an address, with the secret in a file, which is made where there is none.
    pub fn new(url: &str, secret: &Path) -> Result<Self, WebhookError> {
        let url = Url::parse(url).map_err(|_| WebhookError::Address)?;
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let is_here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let is_private = url.scheme() == "https" || (url.scheme() == "http" && is_here);
        if !is_private || !url.username().is_empty() || url.password().is_some() {
            return Err(WebhookError::Address);
        }
        let mut builder = Client::builder()
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none());
        if is_here {
            builder = builder.no_proxy();
        }
        Ok(Self {
            url,
            secret: read_secret(secret)?,
            client: builder.build().map_err(WebhookError::Client)?,
        })
    }

    /// Sends a notice; whether it was taken.
    async fn send(&self, id: &str, body: String, now: i64) -> Result<(), String> {
        let seconds = now.div_euclid(1_000);
        let signature = sign(&self.secret, id, seconds, &body);
        let request = self
            .client
            .post(self.url.clone())
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", seconds)
            .header("webhook-signature", signature)
            .body(body);
        // The address may hold a secret of the receiver's.
        let answer = request
            .send()
            .await
            .map_err(|error| error.without_url().to_string())?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(format!("it answered {status}")),
        }
    }
}

/// The signature of a notice: HMAC-SHA256 of its id, the time and its body.
fn sign(secret: &[u8], id: &str, seconds: i64, body: &str) -> String {
    let signature = Hmac::<Sha256>::new_from_slice(secret).map(|mac| {
        let mac = mac.chain_update(format!("{id}.{seconds}.{body}"));
        STANDARD.encode(mac.finalize().into_bytes())
    });
    // HMAC takes keys of every length.
    format!("v1,{}", signature.unwrap_or_default())
}

fn read_secret(file: &Path) -> Result<Vec<u8>, WebhookError> {
    let text = match std::fs::read_to_string(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => make_secret(file)?,
        read => read?,
    };
    let bytes = text.trim().strip_prefix(PREFIX);
    let bytes = bytes.and_then(|bytes| STANDARD.decode(bytes).ok());
    bytes
        .filter(|bytes| (24..=64).contains(&bytes.len()))
        .ok_or(WebhookError::NotASecret)
}

fn make_secret(file: &Path) -> std::io::Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
    let text = format!("{PREFIX}{}\n", STANDARD.encode(bytes));
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut made = options.open(file)?;
    made.write_all(text.as_bytes())?;
    made.sync_all()?;
    Ok(text)
}

/// Keeps a notice until it is sent, in the transaction that it is about. One too many is not kept.
pub(crate) async fn keep(
    transaction: &mut Transaction<'static, Any>,
    notice: &impl Serialize,
    now: i64,
) -> Result<(), Problem> {
    let waiting = sqlx::query("SELECT COUNT(*) AS n FROM notices")
        .fetch_one(&mut **transaction)
        .await?;
    if waiting.try_get::<i64, _>("n")? >= MOST {
        return Ok(());
    }
    let id =
        random_text(24, 36).map_err(|error| Problem::unavailable(StoreError::Random(error).to_string()))?;
    let body = serde_json::to_string(notice).map_err(|error| Problem::unavailable(error.to_string()))?;
    sqlx::query("INSERT INTO notices (id, body, attempts, due_at) VALUES ($1, $2, 0, $3)")
        .bind(format!("msg_{id}"))
        .bind(body)
        .bind(now)
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

/// Sends what is due, for as long as the server runs. Each complaint is told once.
pub(crate) async fn run(store: &Store, webhook: Option<&Webhook>, say: impl Fn(&str)) -> Infallible {
    let Some(webhook) = webhook else {
        return core::future::pending().await;
    };
    let mut complained = String::new();
    loop {
        let complaint = match send_due(store, webhook, time::now()).await {
            Ok(complaint) => complaint.unwrap_or_default(),
            Err(problem) => problem.to_string(),
        };
        if complaint != complained && !complaint.is_empty() {
            say(&complaint);
        }
        complained = complaint;
        tokio::time::sleep(POLL).await;
    }
}

/// Sends what is due; what was wrong with the last that was not taken.
async fn send_due(store: &Store, webhook: &Webhook, now: i64) -> Result<Option<String>, Problem> {
    let due = sqlx::query(
        "SELECT id, body, attempts, due_at FROM notices WHERE due_at <= $1 ORDER BY due_at LIMIT 10",
    )
    .bind(now)
    .fetch_all(store.pool())
    .await?;
    let mut complaint = None;
    for row in due {
        let (id, attempts): (String, i64) = (row.try_get("id")?, row.try_get("attempts")?);
        let (first, longest) = WAIT;
        let wait = first.checked_shl(u32::try_from(attempts).unwrap_or(u32::MAX).min(20));
        let next = now.saturating_add(wait.unwrap_or(longest).min(longest));
        // Taken before it is sent: another server does not send it too, and one that dies sends it again later.
        let taken = sqlx::query(
            "UPDATE notices SET attempts = attempts + 1, due_at = $1 WHERE id = $2 AND due_at = $3",
        )
        .bind(next)
        .bind(id.clone())
        .bind(row.try_get::<i64, _>("due_at")?)
        .execute(store.writers())
        .await?;
        if taken.rows_affected() == 0 {
            continue;
        }
        let is_over = match webhook.send(&id, row.try_get("body")?, now).await {
            Ok(()) => true,
            Err(why) if attempts + 1 >= ATTEMPTS => {
                complaint = Some(format!(
                    "the webhook did not take the notice {id}, which is given up: {why}"
                ));
                true
            }
            Err(why) => {
                complaint = Some(format!(
                    "the webhook did not take a notice, which is sent again: {why}"
                ));
                false
            }
        };
        if is_over {
            sqlx::query("DELETE FROM notices WHERE id = $1")
                .bind(id)
                .execute(store.writers())
                .await?;
        }
    }
    Ok(complaint)
}

//! Tells a service of the operator's when a budget reaches a threshold: one HTTP request for each notice, signed as
//! Standard Webhooks says, and sent again until it is taken.
//!
//! What waits does so by organization: of each a notice is sent before anybody's second, some at a time, and of each so many
//! wait. So an organization with many holds up nobody else's, and has nobody else's dropped. What is dropped is told.
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
use futures_util::future::join_all;
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
/// Notices of one organization that wait; further ones are not kept.
const MOST: i64 = 1_000;
/// Notices that are sent at a time.
const AT_ONCE: i64 = 16;

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

/// Keeps a notice of an organization until it is sent, in the transaction that it is about; whether it did: one too many is
/// not kept.
pub(crate) async fn keep(
    transaction: &mut Transaction<'static, Any>,
    org: &str,
    notice: &impl Serialize,
    now: i64,
) -> Result<bool, Problem> {
    let waiting = sqlx::query("SELECT COUNT(*) AS n FROM notices WHERE org = $1")
        .bind(org)
        .fetch_one(&mut **transaction)
        .await?;
    if waiting.try_get::<i64, _>("n")? >= MOST {
        return Ok(false);
    }
    let id =
        random_text(24, 36).map_err(|error| Problem::unavailable(StoreError::Random(error).to_string()))?;
    let body = serde_json::to_string(notice).map_err(|error| Problem::unavailable(error.to_string()))?;
    sqlx::query("INSERT INTO notices (id, org, body, attempts, due_at) VALUES ($1, $2, $3, 0, $4)")
        .bind(format!("msg_{id}"))
        .bind(org)
        .bind(body)
        .bind(now)
        .execute(&mut **transaction)
        .await?;
    Ok(true)
}

/// Sends what is due, for as long as the server runs. Each complaint is told once, and each notice that is given up.
pub(crate) async fn run(store: &Store, webhook: Option<&Webhook>, say: impl Fn(&str)) -> Infallible {
    let Some(webhook) = webhook else {
        return core::future::pending().await;
    };
    let mut complained = String::new();
    loop {
        let complaint = match send_due(store, webhook, time::now(), &say).await {
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

/// Each organization's first that is due before anybody's second.
const DUE: &str = "SELECT id, body, attempts, due_at FROM \
     (SELECT id, body, attempts, due_at, ROW_NUMBER() OVER (PARTITION BY org ORDER BY due_at, id) AS place \
      FROM notices WHERE due_at <= $1) AS due \
     ORDER BY place, due_at, id LIMIT $2";

/// A notice that waits.
struct Waiting {
    id: String,
    body: String,
    attempts: i64,
    due_at: i64,
}

/// Sends some of what is due, at once; what was wrong with one that was not taken and is sent again.
async fn send_due(
    store: &Store,
    webhook: &Webhook,
    now: i64,
    say: &impl Fn(&str),
) -> Result<Option<String>, Problem> {
    let rows = sqlx::query(DUE)
        .bind(now)
        .bind(AT_ONCE)
        .fetch_all(store.pool())
        .await?;
    let mut due = Vec::with_capacity(rows.len());
    for row in rows {
        due.push(Waiting {
            id: row.try_get("id")?,
            body: row.try_get("body")?,
            attempts: row.try_get("attempts")?,
            due_at: row.try_get("due_at")?,
        });
    }
    let sent = due.into_iter().map(|one| send_one(store, webhook, one, now, say));
    let mut complaint = None;
    for sent in join_all(sent).await {
        complaint = sent?.or(complaint);
    }
    Ok(complaint)
}

/// Sends one, unless another server does; what was wrong where it is sent again.
async fn send_one(
    store: &Store,
    webhook: &Webhook,
    one: Waiting,
    now: i64,
    say: &impl Fn(&str),
) -> Result<Option<String>, Problem> {
    let Waiting {
        id,
        body,
        attempts,
        due_at,
    } = one;
    let (first, longest) = WAIT;
    let wait = first.checked_shl(u32::try_from(attempts).unwrap_or(u32::MAX).min(20));
    let next = now.saturating_add(wait.unwrap_or(longest).min(longest));
    // Taken before it is sent: another server does not send it too, and one that dies sends it again later.
    let taken =
        sqlx::query("UPDATE notices SET attempts = attempts + 1, due_at = $1 WHERE id = $2 AND due_at = $3")
            .bind(next)
            .bind(id.clone())
            .bind(due_at)
            .execute(store.writers())
            .await?;
    if taken.rows_affected() == 0 {
        return Ok(None);
    }
    match webhook.send(&id, body, now).await {
        Ok(()) => {}
        Err(why) if attempts + 1 >= ATTEMPTS => say(&format!(
            "the webhook did not take the notice {id}, which is given up: {why}"
        )),
        Err(why) => {
            return Ok(Some(format!(
                "the webhook did not take a notice, which is sent again: {why}"
            )));
        }
    }
    sqlx::query("DELETE FROM notices WHERE id = $1")
        .bind(id)
        .execute(store.writers())
        .await?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::net::TcpListener;
    use std::sync::mpsc::{Receiver, channel};

    /// A receiver that answers with these, one after another; its address, and the requests as they came.
    fn receiver(answers: &'static [&'static str]) -> (String, Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/hook?key=hidden", listener.local_addr().unwrap());
        let (sender, requests) = channel();
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let (mut request, mut bytes) = (String::new(), [0; 4096]);
                while !request.contains("\r\n\r\n") || !request.ends_with('}') {
                    let read = stream.read(&mut bytes).unwrap();
                    request.push_str(&String::from_utf8_lossy(bytes.get(..read).unwrap()));
                }
                sender.send(request).unwrap();
                let rest =
                    "location: http://127.0.0.1:1/other\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                write!(stream, "HTTP/1.1 {answer}\r\n{rest}").unwrap();
            }
        });
        (url, requests)
    }

    async fn store_with_a_notice(folder: &Path) -> Store {
        let file = folder.join("tollgate.db");
        let store = Store::create(&format!("sqlite:{}", file.display()))
            .await
            .unwrap();
        let mut transaction = store.writers().begin().await.unwrap();
        let notice = serde_json::json!({"type": "budget.reached"});
        assert!(keep(&mut transaction, "acme", &notice, 1_000).await.unwrap());
        transaction.commit().await.unwrap();
        store
    }

    /// Sends what is due, and nothing is given up.
    async fn send(store: &Store, webhook: &Webhook, now: i64) -> Option<String> {
        let never = |why: &str| assert_eq!(why, "");
        send_due(store, webhook, now, &never).await.unwrap()
    }

    async fn waiting(store: &Store) -> i64 {
        let row = sqlx::query("SELECT COUNT(*) AS n FROM notices").fetch_one(store.pool());
        row.await.unwrap().try_get("n").unwrap()
    }

    fn header<'a>(request: &'a str, name: &str) -> &'a str {
        let line = request.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().trim_start_matches(": ")
    }

    #[tokio::test]
    async fn a_notice_is_signed_and_sent_until_it_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let store = store_with_a_notice(folder.path()).await;
        let (url, requests) = receiver(&["500 No", "302 Found", "204 Taken"]);
        let webhook = Webhook::new(&url, &folder.path().join("secret")).unwrap();
        assert_eq!(send(&store, &webhook, 999).await, None, "not due");
        let complaint = send(&store, &webhook, 1_000).await.unwrap();
        assert!(
            complaint.contains("500") && !complaint.contains("hidden"),
            "{complaint}"
        );
        // It waits, longer each time.
        assert_eq!(send(&store, &webhook, 10_999).await, None);
        let complaint = send(&store, &webhook, 11_000).await.unwrap();
        assert!(complaint.contains("302"), "{complaint}");
        assert_eq!(send(&store, &webhook, 30_999).await, None);
        assert_eq!(waiting(&store).await, 1);
        assert_eq!(send(&store, &webhook, 31_000).await, None);
        assert_eq!(waiting(&store).await, 0);
        let requests: Vec<String> = requests.try_iter().collect();
        assert_eq!(requests.len(), 3);
        let ids: Vec<&str> = requests
            .iter()
            .map(|request| header(request, "webhook-id"))
            .collect();
        assert!(
            ids.iter().all(|id| *id == ids[0] && id.starts_with("msg_")),
            "{ids:?}"
        );
        let body = requests[2].split_once("\r\n\r\n").unwrap().1;
        assert_eq!(body, r#"{"type":"budget.reached"}"#);
        assert_eq!(header(&requests[2], "webhook-timestamp"), "31");
        assert_eq!(
            header(&requests[2], "webhook-signature"),
            sign(&webhook.secret, ids[0], 31, body)
        );
    }

    #[tokio::test]
    async fn a_notice_that_nobody_takes_is_given_up_and_told() {
        let folder = tempfile::tempdir().unwrap();
        let store = store_with_a_notice(folder.path()).await;
        // Nobody listens there.
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let webhook = Webhook::new(
            &format!("http://{free}/?key=hidden"),
            &folder.path().join("secret"),
        )
        .unwrap();
        let mut transaction = store.writers().begin().await.unwrap();
        keep(&mut transaction, "globex", &"another", 1_000).await.unwrap();
        transaction.commit().await.unwrap();
        let given_up = std::cell::RefCell::new(Vec::new());
        let say = |what: &str| given_up.borrow_mut().push(what.to_owned());
        let (mut now, mut attempts) = (1_000, 1);
        while waiting(&store).await > 0 {
            if let Some(complaint) = send_due(&store, &webhook, now, &say).await.unwrap() {
                assert!(!complaint.contains("hidden"), "{complaint}");
                attempts += 1;
            }
            now += WAIT.1;
        }
        assert_eq!(attempts, ATTEMPTS);
        let given_up = given_up.into_inner();
        assert_eq!(given_up.len(), 2, "each is told: {given_up:?}");
        for told in given_up {
            assert!(told.contains("given up") && !told.contains("hidden"), "{told}");
        }
    }

    /// What one organization has waiting is neither sent before all of another's, nor in its place.
    #[tokio::test]
    async fn nobodys_flood_holds_up_or_drops_anothers() {
        let folder = tempfile::tempdir().unwrap();
        let store = store_with_a_notice(folder.path()).await;
        let mut transaction = store.writers().begin().await.unwrap();
        let mut kept = 0;
        for at in 0..MOST + 10 {
            let notice = serde_json::json!({"flood": at});
            kept += i64::from(keep(&mut transaction, "flooded", &notice, 1).await.unwrap());
        }
        assert_eq!(kept, MOST);
        for org in ["", "globex"] {
            assert!(
                keep(&mut transaction, org, &serde_json::json!({"org": org}), 2_000)
                    .await
                    .unwrap()
            );
        }
        transaction.commit().await.unwrap();
        let (url, requests) = receiver(&["204 Taken"; AT_ONCE as usize]);
        let webhook = Webhook::new(&url, &folder.path().join("secret")).unwrap();
        assert_eq!(send(&store, &webhook, 2_000).await, None);
        assert_eq!(waiting(&store).await, MOST + 3 - AT_ONCE);
        let sent: Vec<String> = requests.try_iter().collect();
        for body in [
            r#"{"type":"budget.reached"}"#,
            r#"{"org":""}"#,
            r#"{"org":"globex"}"#,
        ] {
            assert!(sent.iter().any(|request| request.ends_with(body)), "{body}");
        }
    }

    /// The example of the specification of Standard Webhooks.
    #[test]
    fn a_signature_is_as_the_standard_says() {
        let secret = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = sign(
            &secret,
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            r#"{"test": 2432232314}"#,
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn nothing_is_told_in_clear_or_without_a_secret() {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("secret");
        for url in [
            "http://hooks.example/",
            "https://user:word@hooks.example/",
            "file:///etc/passwd",
            "hooks.example",
            "",
        ] {
            assert!(
                matches!(Webhook::new(url, &secret), Err(WebhookError::Address)),
                "{url}"
            );
        }
        assert!(!secret.exists());
        let made = Webhook::new("https://hooks.example/", &secret).unwrap();
        let again = Webhook::new("https://hooks.example/", &secret).unwrap();
        assert_eq!((made.secret.len(), &made.secret), (32, &again.secret));
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&secret).unwrap());
        assert_eq!(mode & 0o777, 0o600);
        for wrong in [
            "",
            "whsec_",
            "whsec_dG9vIHNob3J0",
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        ] {
            std::fs::write(&secret, wrong).unwrap();
            let refused = Webhook::new("https://hooks.example/", &secret);
            assert!(matches!(refused, Err(WebhookError::NotASecret)), "{wrong}");
        }
    }
}

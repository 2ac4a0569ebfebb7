//! Speaks to a control plane: over HTTP to a server, or to the same API in this process, over the database itself.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use clap::Args;
use serde_json::Value;
use tollgate_control::Store;
use tollgate_control::access::Caller;
use tollgate_control::api::{App, router};
use tollgate_control::serve::signing_key;
use tower::ServiceExt as _;

/// Which control plane, and how.
#[derive(Args, Clone)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Place {
    /// A server, such as `https://control.example:7700`; without one, the database is opened here.
    #[arg(long, global = true, env = "TOLLGATE_SERVER")]
    server: Option<String>,
    /// File with the token for the server; the variable `TOLLGATE_TOKEN` has it otherwise.
    #[arg(long, global = true, env = "TOLLGATE_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// PEM file of who signed the server's certificate, where the system does not know it.
    #[arg(long, global = true)]
    ca: Option<PathBuf>,
    /// The database: `sqlite:FILE` or `postgres://USER:PASSWORD@HOST/NAME`.
    #[arg(
        long,
        global = true,
        env = "TOLLGATE_DATABASE",
        hide_env_values = true,
        default_value = "sqlite:tollgate.db"
    )]
    pub(crate) database: String,
    /// File of the key that signs checkpoints of the trail; made where there is none.
    #[arg(long, global = true, env = "TOLLGATE_AUDIT_KEY")]
    pub(crate) audit_key: Option<PathBuf>,
    /// Reason to record in the trail.
    #[arg(long, global = true)]
    pub(crate) reason: Option<String>,
    /// Change nothing, and show what would be changed.
    #[arg(long, global = true)]
    dry_run: bool,
    /// Print JSON, as the API answers.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// A control plane to speak to.
pub(crate) struct Client {
    place: Place,
    way: Way,
}

enum Way {
    Here(Router),
    There {
        http: reqwest::Client,
        server: String,
        token: String,
    },
}

/// What a control plane answered.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Value,
}

impl Client {
    /// The server that is named, or the database.
    pub(crate) async fn open(place: Place) -> Result<Self> {
        let way = match &place.server {
            Some(server) => Way::There {
                http: http(place.ca.as_ref())?,
                server: address(server)?,
                token: token(place.token_file.as_ref())?,
            },
            None => {
                let store = Arc::new(Store::open(&place.database).await?);
                let signing = place.audit_key.as_deref().map(signing_key).transpose();
                Way::Here(router(App::new(
                    store,
                    signing.context("cannot use the signing key")?,
                )))
            }
        };
        Ok(Self { place, way })
    }

    /// Whether JSON is wanted.
    pub(crate) fn json(&self) -> bool {
        self.place.json
    }

    /// Whether nothing is to be changed.
    pub(crate) fn is_dry_run(&self) -> bool {
        self.place.dry_run
    }

    /// Why it is done.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.place.reason.as_deref()
    }

    /// Reads.
    pub(crate) async fn get(&self, path: &str) -> Result<Value> {
        Ok(self.ask(Method::GET, path, None).await?.body)
    }

    /// Reads all pages of a list.
    pub(crate) async fn all(&self, path: &str) -> Result<Vec<Value>> {
        let mut items = Vec::new();
        let mut after = String::new();
        loop {
            let and = if path.contains('?') { '&' } else { '?' };
            let mut page = self.get(&format!("{path}{and}limit=1000{after}")).await?;
            if let Some(Value::Array(some)) = page.get_mut("items").map(Value::take) {
                items.extend(some);
            }
            match page.get("next").and_then(Value::as_str) {
                Some(next) => after = format!("&after={}", encoded(next)),
                None => return Ok(items),
            }
        }
    }

    /// Changes something, with the reason that was given; or shows what would change.
    pub(crate) async fn change(&self, method: Method, path: &str, body: Option<Value>) -> Result<Answer> {
        let mut query = Vec::new();
        if let Some(reason) = self.reason() {
            query.push(format!("reason={}", encoded(reason)));
        }
        if self.place.dry_run {
            query.push("dry_run=true".to_owned());
        }
        let path = if query.is_empty() {
            path.to_owned()
        } else {
            format!("{path}?{}", query.join("&"))
        };
        self.ask(method, &path, body).await
    }

    /// Asks as it is.
    pub(crate) async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Result<Answer> {
        let (status, bytes) = match &self.way {
            Way::Here(router) => {
                let mut request =
                    Request::new(body.map_or_else(Body::empty, |body| Body::from(body.to_string())));
                *request.method_mut() = method;
                *request.uri_mut() = path.parse().context("no path")?;
                request.extensions_mut().insert(Caller::local());
                let response = router.clone().oneshot(request).await?;
                let status = response.status();
                (
                    status,
                    axum::body::to_bytes(response.into_body(), usize::MAX).await?,
                )
            }
            Way::There { http, server, token } => {
                let request = http.request(method, format!("{server}{path}")).bearer_auth(token);
                let request = match body {
                    Some(body) => request.json(&body),
                    None => request,
                };
                let response = request
                    .send()
                    .await
                    .with_context(|| format!("cannot reach {server}"))?;
                (response.status(), response.bytes().await?)
            }
        };
        let body = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes)
                .context("the server's answer is no JSON; is it a Tollgate control plane?")?
        };
        if status.is_success() {
            return Ok(Answer { status, body });
        }
        match body.get("detail").and_then(Value::as_str) {
            Some(detail) => bail!("{detail}"),
            None => bail!("the server answered with status {status}"),
        }
    }
}

fn http(ca: Option<&PathBuf>) -> Result<reqwest::Client> {
    let mut builder = reqwest::Client::builder().timeout(core::time::Duration::from_secs(60));
    if let Some(file) = ca {
        let pem = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let certificate = reqwest::Certificate::from_pem(&pem).context("no PEM certificate")?;
        builder = builder.tls_certs_merge([certificate]);
    }
    builder.build().context("cannot speak HTTP")
}

/// The server's address; a token goes to no other machine in clear.
fn address(server: &str) -> Result<String> {
    let url = reqwest::Url::parse(server).with_context(|| format!("`{server}` is no address of a server"))?;
    let local = matches!(url.host_str(), Some("127.0.0.1" | "[::1]" | "localhost"));
    if url.scheme() != "https" && !local {
        bail!("`{server}` would send the token in clear: expected `https://…`, or a server on this machine");
    }
    Ok(server.trim_end_matches('/').to_owned())
}

fn token(file: Option<&PathBuf>) -> Result<String> {
    let token = match file {
        Some(file) => {
            std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?
        }
        None => std::env::var("TOLLGATE_TOKEN")
            .context("the server wants a token: give --token-file, or set TOLLGATE_TOKEN")?,
    };
    Ok(token.trim().to_owned())
}

/// A name as it stands in a path or query.
pub(crate) fn encoded(name: &str) -> String {
    name.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' | b'~' => {
                char::from(byte).to_string()
            }
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

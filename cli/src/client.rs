//! Speaks to a control plane: over HTTP to a server, or to the same API in this process, over the database itself.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use bytes::Bytes;
use clap::Args;
use serde_json::Value;
use tollgate_control::Store;
use tollgate_control::access::Caller;
use tollgate_control::api::{App, router};
use tollgate_control::serve::{SigningKey, signing_key};
use tollgate_control::store::sqlite_file;
use tower::ServiceExt as _;

use crate::out;
use crate::private::warn_if_shared;

/// Options of every command: which control plane, and how.
#[derive(Args, Clone)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct GlobalOptions {
    /// A server, such as `https://control.example:7700`; without one, the database is opened here.
    #[arg(long, global = true, env = "TOLLGATE_SERVER", hide_env_values = true)]
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
    audit_key: Option<PathBuf>,
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

impl GlobalOptions {
    /// The key that signs checkpoints, where `--audit-key` names its file.
    pub(crate) fn signing_key(&self) -> Result<Option<SigningKey>> {
        let Some(file) = &self.audit_key else {
            return Ok(None);
        };
        let key = signing_key(file);
        let key =
            key.with_context(|| format!("cannot use the key that signs checkpoints, {}", file.display()))?;
        warn_if_shared(file, "the key that signs checkpoints");
        Ok(Some(key))
    }

    /// Warns where others can read the database's file.
    pub(crate) fn warn_if_database_is_shared(&self) {
        if let Some(file) = sqlite_file(&self.database) {
            warn_if_shared(Path::new(file), "the database");
        }
    }
}

/// A control plane to speak to.
pub(crate) struct Client {
    options: GlobalOptions,
    transport: Transport,
}

enum Transport {
    Local(Router),
    Remote {
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

/// A list of more pages than this has no end.
const MAX_PAGES: usize = 100_000;

impl Client {
    /// The server that is named, or the database.
    pub(crate) async fn open(options: GlobalOptions) -> Result<Self> {
        let transport = match &options.server {
            Some(server) => {
                let (server, is_here) = address(server)?;
                Transport::Remote {
                    http: http_client(options.ca.as_ref(), is_here)?,
                    server,
                    token: token(options.token_file.as_ref())?,
                }
            }
            None => {
                let store = Arc::new(Store::open(&options.database).await?);
                options.warn_if_database_is_shared();
                Transport::Local(router(App::new(store, options.signing_key()?)))
            }
        };
        Ok(Self { options, transport })
    }

    /// Whether it is a server, and not a database.
    pub(crate) fn is_remote(&self) -> bool {
        matches!(self.transport, Transport::Remote { .. })
    }

    /// Whether `--json` was given.
    pub(crate) fn wants_json(&self) -> bool {
        self.options.json
    }

    /// Whether `--dry-run` was given.
    pub(crate) fn is_dry_run(&self) -> bool {
        self.options.dry_run
    }

    /// What `--reason` says.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.options.reason.as_deref()
    }

    /// Fetches something.
    pub(crate) async fn get(&self, path: &str) -> Result<Value> {
        Ok(self.send(Method::GET, path, None).await?.body)
    }

    /// Fetches all pages of a list.
    pub(crate) async fn list_all(&self, path: &str) -> Result<Vec<Value>> {
        let mut items = Vec::new();
        let mut after = String::new();
        // Which id is greater is for the database to say, so a list without an end is told by what comes again.
        let mut seen = HashSet::new();
        loop {
            let and = if path.contains('?') { '&' } else { '?' };
            let mut page = self.get(&format!("{path}{and}limit=1000{after}")).await?;
            if let Some(Value::Array(some)) = page.get_mut("items").map(Value::take) {
                items.extend(some);
            }
            match page.get("next").and_then(Value::as_str) {
                Some(next) => {
                    ensure!(
                        seen.insert(next.to_owned()) && seen.len() < MAX_PAGES,
                        "the server's list has no end: page {} goes on after `{}`",
                        seen.len(),
                        out::sanitized(next)
                    );
                    after = format!("&after={}", encoded(next));
                }
                None => return Ok(items),
            }
        }
    }

    /// Sends a write, with `--reason` and `--dry-run` as they were given.
    pub(crate) async fn write(&self, method: Method, path: &str, body: Option<Value>) -> Result<Answer> {
        let mut query = Vec::new();
        if let Some(reason) = self.reason() {
            query.push(format!("reason={}", encoded(reason)));
        }
        if self.options.dry_run {
            query.push("dry_run=true".to_owned());
        }
        let path = if query.is_empty() {
            path.to_owned()
        } else {
            format!("{path}?{}", query.join("&"))
        };
        self.send(method, &path, body).await
    }

    /// Fetches something, as the bytes that it is.
    pub(crate) async fn get_bytes(&self, path: &str) -> Result<Bytes> {
        let (status, bytes) = self.exchange(Method::GET, path, None).await?;
        if status.is_success() {
            return Ok(bytes);
        }
        refused(status, &serde_json::from_slice(&bytes).unwrap_or_default())
    }

    /// Sends a request as it is, and reads the answer; an error where its status is one.
    pub(crate) async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Result<Answer> {
        let (status, bytes) = self.exchange(method, path, body).await?;
        let body = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes)
                .context("the server's answer is no JSON; is it a Tollgate control plane?")?
        };
        if status.is_success() {
            return Ok(Answer { status, body });
        }
        refused(status, &body)
    }

    async fn exchange(&self, method: Method, path: &str, body: Option<Value>) -> Result<(StatusCode, Bytes)> {
        match &self.transport {
            Transport::Local(router) => {
                let mut request =
                    Request::new(body.map_or_else(Body::empty, |body| Body::from(body.to_string())));
                *request.method_mut() = method;
                *request.uri_mut() = path.parse().context("no path")?;
                request.extensions_mut().insert(Caller::local());
                let response = router.clone().oneshot(request).await?;
                let status = response.status();
                Ok((
                    status,
                    axum::body::to_bytes(response.into_body(), usize::MAX).await?,
                ))
            }
            Transport::Remote { http, server, token } => {
                let request = http.request(method, format!("{server}{path}")).bearer_auth(token);
                // The trail of a million keys is read in minutes.
                let request = match path {
                    "/v1/audit/verify" => request.timeout(core::time::Duration::from_secs(1_800)),
                    _ => request,
                };
                let request = match body {
                    Some(body) => request.json(&body),
                    None => request,
                };
                let response = request
                    .send()
                    .await
                    .with_context(|| format!("cannot reach {server}"))?;
                Ok((response.status(), response.bytes().await?))
            }
        }
    }
}

/// The error that a server answered with.
fn refused<T>(status: StatusCode, body: &Value) -> Result<T> {
    match body.get("detail").and_then(Value::as_str) {
        Some(detail) => bail!("{}", out::sanitized(detail)),
        None => bail!("the server answered with status {status}"),
    }
}

fn http_client(ca: Option<&PathBuf>, is_here: bool) -> Result<reqwest::Client> {
    // The API redirects nobody; followed, one could lead the token from https to http.
    let mut builder = reqwest::Client::builder()
        .timeout(core::time::Duration::from_secs(60))
        .redirect(reqwest::redirect::Policy::none());
    if is_here {
        // A proxy (`http_proxy`) would be sent the token in clear. Of https it sees none.
        builder = builder.no_proxy();
    }
    if let Some(file) = ca {
        let pem = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let certificate = reqwest::Certificate::from_pem(&pem)
            .with_context(|| format!("{} has no certificate in PEM format", file.display()))?;
        builder = builder.tls_certs_merge([certificate]);
    }
    builder.build().context("cannot set up an HTTP client")
}

/// The server's address, and whether it is on this machine; a token goes to no other machine in clear.
fn address(server: &str) -> Result<(String, bool)> {
    // A password may stand before it; an error is no place for that.
    ensure!(
        !server.contains('@'),
        "the server's address has a user's name or password: expected `https://HOST:PORT`, and a token by --token-file"
    );
    let url = reqwest::Url::parse(server).with_context(|| {
        format!("`{server}` is not the address of a server: expected `https://HOST:PORT`")
    })?;
    let host = url.host_str().unwrap_or_default();
    let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
    let is_here = host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback());
    if url.scheme() != "https" && !is_here {
        bail!("`{server}` would send the token in clear: expected `https://…`, or a server on this machine");
    }
    Ok((server.trim_end_matches('/').to_owned(), is_here))
}

fn token(file: Option<&PathBuf>) -> Result<String> {
    let (token, place) = match file {
        Some(file) => {
            let token =
                std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
            warn_if_shared(file, "the token");
            (token, file.display().to_string())
        }
        None => {
            let token = std::env::var("TOLLGATE_TOKEN")
                .context("the server wants a token: give --token-file, or set TOLLGATE_TOKEN")?;
            (token, "TOLLGATE_TOKEN".to_owned())
        }
    };
    let token = token.trim();
    ensure!(
        !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()),
        "{place} does not hold a token and nothing else: expected one line, such as `tg-token-…`"
    );
    Ok(token.to_owned())
}

/// A name as it stands in a path. `.` and `..` can't: URLs drop them, encoded too, and what is above would be meant.
pub(crate) fn segment(name: &str) -> Result<String> {
    ensure!(
        !matches!(name, "" | "." | ".."),
        "`{name}` is no name: expected one that is not empty, `.` or `..`"
    );
    Ok(encoded(name))
}

/// A name as it stands in a query.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_one_part_of_its_path() {
        let base = reqwest::Url::parse("http://127.0.0.1/v1/orgs/").unwrap();
        for name in [
            "a", "a/..", "%2e%2e", "..a", "...", "?x", "#x", "\\..", "\t..", "é",
        ] {
            let url = base
                .join(&format!("/v1/orgs/{}", segment(name).unwrap()))
                .unwrap();
            assert_eq!(url.path_segments().unwrap().count(), 3, "{url}");
            assert!(url.query().is_none() && url.fragment().is_none(), "{url}");
        }
        for name in ["", ".", ".."] {
            assert!(segment(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_server_on_this_machine_is_known_as_such() {
        for (server, is_here) in [
            ("http://127.0.0.1:7700/", true),
            ("http://[::1]:7700", true),
            ("HTTP://LocalHost", true),
            ("https://control.example", false),
        ] {
            assert_eq!(address(server).unwrap().1, is_here, "{server}");
        }
        for refused in [
            "http://control.example",
            "http://127.0.0.1.example",
            "https://u:secret@control.example",
            "u:secret@x",
            "",
        ] {
            let error = format!("{:#}", address(refused).unwrap_err());
            assert!(!error.contains("secret"), "{error}");
        }
    }
}

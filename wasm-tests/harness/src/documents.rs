//! The server an `http` directory comes from: one document with its ETag, and failures on demand.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tokio::task::JoinHandle;

/// How the server fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It answers with this status and no document.
    Status(u16),
    /// It takes the request and never answers.
    Silence,
    /// It sends the first half of the document and closes the connection.
    Cut,
}

/// What came in, and what went out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    /// The `if-none-match` that the gateway sent.
    pub if_none_match: Option<String>,
    /// The path asked for.
    pub path: String,
    /// The status answered; `None` for [`Failure::Silence`].
    pub status: Option<u16>,
}

/// A running document server on loopback. It stops when dropped.
#[derive(Debug)]
pub struct Documents {
    addr: SocketAddr,
    shared: Shared,
    task: JoinHandle<()>,
}

type Shared = Arc<Mutex<Inner>>;

#[derive(Debug, Default)]
struct Inner {
    document: Bytes,
    version: u64,
    failure: Option<Failure>,
    fetches: Vec<Fetch>,
}

impl Documents {
    /// Serves `document` on a free port, at every path.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn start(document: &Value) -> std::io::Result<Self> {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let shared = Shared::default();
        let router = Router::new().fallback(answer).with_state(shared.clone());
        let task = tokio::spawn(async move {
            if let Err(e) = axum::serve(listener, router).await {
                eprintln!("document server: {e}");
            }
        });
        let server = Self { addr, shared, task };
        server.set(document);
        Ok(server)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves another document from now on, under a new ETag.
    pub fn set(&self, document: &Value) {
        self.set_bytes(document.to_string());
    }

    /// Serves any bytes from now on, under a new ETag.
    pub fn set_bytes(&self, document: impl Into<Bytes>) {
        let mut inner = lock(&self.shared);
        inner.document = document.into();
        inner.version += 1;
    }

    /// Fails each request from now on; `None` ends that.
    pub fn fail(&self, failure: impl Into<Option<Failure>>) {
        lock(&self.shared).failure = failure.into();
    }

    /// Every request so far, in order.
    pub fn fetches(&self) -> Vec<Fetch> {
        lock(&self.shared).fetches.clone()
    }
}

impl Drop for Documents {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(shared: &Shared) -> MutexGuard<'_, Inner> {
    shared.lock().expect("no holder of this lock panics")
}

async fn answer(State(shared): State<Shared>, headers: HeaderMap, uri: axum::http::Uri) -> Response {
    let asked = headers
        .get(header::IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let response = {
        let mut inner = lock(&shared);
        let etag = format!("\"v{}\"", inner.version);
        let response = match inner.failure {
            Some(Failure::Status(status)) => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                Some(status.into_response())
            }
            Some(Failure::Silence) => None,
            Some(Failure::Cut) => Some(cut(&inner.document)),
            None if asked.as_deref() == Some(&etag) => Some(StatusCode::NOT_MODIFIED.into_response()),
            None => {
                let headers = [
                    (header::ETAG, etag),
                    (header::CONTENT_TYPE, "application/json".to_owned()),
                ];
                Some((headers, inner.document.clone()).into_response())
            }
        };
        let status = response.as_ref().map(|response| response.status().as_u16());
        inner.fetches.push(Fetch {
            if_none_match: asked,
            path: uri.path().to_owned(),
            status,
        });
        response
    };
    match response {
        Some(response) => response,
        None => std::future::pending().await,
    }
}

/// Says the whole length, sends half, and ends the connection in the middle of the body.
fn cut(document: &Bytes) -> Response {
    let half = document.slice(..document.len() / 2);
    let whole = document.len();
    let parts = [Ok(half), Err(std::io::Error::other("cut"))];
    let body = Body::from_stream(futures_util::stream::iter(parts));
    ([(header::CONTENT_LENGTH, whole.to_string())], body).into_response()
}

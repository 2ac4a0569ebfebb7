//! The server: a thread of its own, ended with the value.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::oneshot;

use super::answer::{Answer, Plan};
use super::api;
use super::fault::Fault;
use super::ledger::{Ending, Entry, Ledger, Seen};
use super::request::{Api, Ask};
use super::wire::{Conn, Line, Paced};
use super::{FAULT_HEADER, SERVER_HEADER};

/// Requests a ledger keeps unless said otherwise.
const KEEP: usize = 10_000;

/// A running stand-in model server. Dropped, it closes its port and every connection.
#[derive(Debug)]
pub struct ModelServer {
    addr: SocketAddr,
    state: Arc<State>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// How a server is to be started. See [`ModelServer::builder`].
#[derive(Clone, Debug)]
pub struct Builder {
    name: String,
    port: u16,
    keep: usize,
    models: Vec<String>,
}

#[derive(Debug)]
struct State {
    name: String,
    models: Vec<String>,
    ledger: Ledger,
    number: AtomicU64,
    healthy: AtomicBool,
    faults: Mutex<Faults>,
}

#[derive(Debug, Default)]
struct Faults {
    next: VecDeque<Fault>,
    always: Fault,
}

impl Builder {
    /// Its name, in ids and in [`SERVER_HEADER`]. Default: `model`.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Its port on 127.0.0.1. Default: 0, a free one.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Requests its ledger keeps. Default: 10,000. With 0 nothing is copied, as a bench wants.
    #[must_use]
    pub fn keep(mut self, keep: usize) -> Self {
        self.keep = keep;
        self
    }

    /// Models listed by `GET /v1/models`. It answers for any model; the list is what it says it has.
    #[must_use]
    pub fn models<M: Into<String>>(mut self, models: impl IntoIterator<Item = M>) -> Self {
        self.models = models.into_iter().map(Into::into).collect();
        self
    }

    /// Starts it. It is listening when this returns.
    ///
    /// # Errors
    /// The port is taken, or the system has no more threads.
    pub async fn start(self) -> io::Result<ModelServer> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port))?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let state = Arc::new(State {
            ledger: Ledger::new(self.keep),
            models: self.models,
            number: AtomicU64::new(0),
            healthy: AtomicBool::new(true),
            faults: Mutex::default(),
            name: self.name,
        });
        let (stop, stopped) = oneshot::channel();
        // A thread and runtime of its own: a test that blocks does not stop the model servers.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let thread = std::thread::Builder::new()
            .name(format!("model-{}", addr.port()))
            .spawn({
                let state = state.clone();
                move || {
                    runtime.block_on(async {
                        tokio::select! {
                            () = accept(listener, state) => {}
                            _ = stopped => {}
                        }
                    });
                }
            })?;
        Ok(ModelServer {
            addr,
            state,
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl ModelServer {
    /// Starts one on a free port of 127.0.0.1, with a name and models that do not matter.
    ///
    /// # Errors
    /// As [`Builder::start`].
    pub async fn start() -> io::Result<Self> {
        Self::builder().start().await
    }

    /// A server with a name, a port or models of its own.
    pub fn builder() -> Builder {
        let models = ["llama-8b", "llama-70b"].map(str::to_owned).to_vec();
        Builder {
            name: "model".to_owned(),
            port: 0,
            keep: KEEP,
            models,
        }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The requests seen so far, oldest first. Health checks are not among them.
    pub fn seen(&self) -> Vec<Seen> {
        self.state.ledger.rows()
    }

    /// The ledger itself.
    pub fn ledger(&self) -> &Ledger {
        &self.state.ledger
    }

    /// Waits until `done` holds for the ledger's rows, and returns them.
    ///
    /// # Errors
    /// The rows as they were when `within` was over.
    pub async fn wait_until(
        &self,
        within: Duration,
        done: impl Fn(&VecDeque<Seen>) -> bool,
    ) -> Result<Vec<Seen>, Vec<Seen>> {
        let deadline = Instant::now() + within;
        loop {
            if self.state.ledger.with(&done) {
                return Ok(self.seen());
            }
            if Instant::now() > deadline {
                return Err(self.seen());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits until `n` requests were seen and none is still being answered.
    ///
    /// # Errors
    /// The rows as they were when `within` was over.
    pub async fn wait_for(&self, n: usize, within: Duration) -> Result<Vec<Seen>, Vec<Seen>> {
        self.wait_until(within, |rows| {
            rows.len() >= n && rows.iter().all(|row| row.ending != Ending::Running)
        })
        .await
    }

    /// Answers every request this way, unless its own [`FAULT_HEADER`] says another.
    pub fn set_fault(&self, fault: Fault) {
        self.state.faults().always = fault;
    }

    /// Answers one request this way: the next that has none of these waiting before it.
    pub fn fault_once(&self, fault: Fault) {
        self.state.faults().next.push_back(fault);
    }

    /// Answers well again.
    pub fn clear_faults(&self) {
        *self.state.faults() = Faults::default();
    }

    /// What `/health` says: 200 or 503. Requests are answered either way.
    pub fn set_healthy(&self, healthy: bool) {
        self.state.healthy.store(healthy, Ordering::Relaxed);
    }
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop.send(()).ok(); // the thread may have ended by itself
        }
        if let Some(thread) = self.thread.take() {
            thread.join().ok(); // its panic was already printed
        }
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return eprintln!("model server: {error}"),
    };
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, as a rule: some will be closed meanwhile.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        stream.set_nodelay(true).ok(); // the peer may be gone already
        let line = Line::default();
        let io = TokioIo::new(Conn::new(stream, line.clone()));
        let state = state.clone();
        let service = service_fn(move |request| serve(state.clone(), line.clone(), request));
        tokio::spawn(async move {
            // An error is a peer that went, or a fault that was asked for; the ledger has both.
            http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(io, service)
                .await
                .ok();
        });
    }
}

/// The status of `/health`, which no fault touches.
fn health(state: &State) -> Answer {
    let healthy = state.healthy.load(Ordering::Relaxed);
    let answer = Answer::whole("text/plain", if healthy { "ok\n" } else { "unhealthy\n" }, 0);
    Answer {
        status: if healthy { 200 } else { 503 },
        ..answer
    }
}

/// `/seen`: the ledger as JSON, for programs that are not in this process. `?request_id=ID` asks for one request.
fn ledger(state: &State, query: Option<&str>) -> Answer {
    let wanted = query.and_then(|query| query.strip_prefix("request_id="));
    let rows = state.ledger.with(|rows| {
        let asked = |row: &&Seen| wanted.is_none_or(|id| row.request_id.as_deref() == Some(id));
        rows.iter().filter(asked).map(Seen::json).collect::<Vec<_>>()
    });
    Answer::json(&rows.into(), 0)
}

async fn serve(
    state: Arc<State>,
    line: Line,
    request: Request<Incoming>,
) -> Result<Response<Paced>, Box<dyn std::error::Error + Send + Sync>> {
    // What is asked of the server itself, not of a model.
    let own = match request.uri().path() {
        "/health" => Some(health(&state)),
        "/seen" => Some(ledger(&state, request.uri().query())),
        _ => None,
    };
    if let Some(own) = own {
        let nowhere = Ledger::new(0).open(Seen::default());
        return Ok(respond(&state, own, None, &Fault::default(), nowhere, line));
    }
    let (head, body) = request.into_parts();
    let api = Api::find(head.method.as_str(), head.uri.path());
    let prefix = api.as_ref().map_or("req_", Api::id_prefix);
    let id = format!(
        "{prefix}{}-{}",
        state.name,
        state.number.fetch_add(1, Ordering::Relaxed)
    );
    let mut entry = state.ledger.open(if state.ledger.keeps() {
        seen(&head, &id)
    } else {
        Seen::default()
    });

    let bytes = body.collect().await?.to_bytes();
    entry.body(&bytes);
    let asked = head
        .headers
        .get(FAULT_HEADER)
        .map(|v| v.to_str().unwrap_or("not text"));
    let fault = match asked.map(Fault::parse) {
        None => state.fault(),
        Some(Ok(fault)) => fault,
        Some(Err(error)) => {
            let answer = Answer::error(api.as_ref(), 400, Some("bad_fault"), &error.to_string());
            return Ok(respond(
                &state,
                answer,
                Some((&id, false)),
                &Fault::default(),
                entry,
                line,
            ));
        }
    };
    if let Some(delay) = fault.first_byte {
        tokio::time::sleep(delay).await;
    }
    if fault.close || fault.reset {
        entry.close(Ending::Cut);
        if fault.reset {
            line.reset();
        }
        return Err(Box::new(io::Error::from(io::ErrorKind::ConnectionAborted)));
    }
    let answer = answer(&state, api.as_ref(), &head, bytes, &id, &fault, &entry).await;
    let anthropic = api.is_some_and(|api| api.is_anthropic());
    Ok(respond(
        &state,
        answer,
        Some((&id, anthropic)),
        &fault,
        entry,
        line,
    ))
}

/// The answer before it is paced: a fault's status and body, or what the API says.
async fn answer(
    state: &State,
    api: Option<&Api>,
    head: &hyper::http::request::Parts,
    bytes: Bytes,
    id: &str,
    fault: &Fault,
    entry: &Entry,
) -> Answer {
    let answer = match (fault.status, api) {
        (Some(status @ 400..), _) => Answer::error(api, status, None, "The model server was told to fail."),
        (_, None) => {
            let message = format!("Invalid URL ({} {})", head.method, head.uri.path());
            Answer::error(None, 404, None, &message)
        }
        (_, Some(api)) => match read(head, bytes).await {
            Err(message) => Answer::error(Some(api), 400, None, &message),
            Ok(ask) => {
                entry.ask(&ask);
                let given = head.method == hyper::Method::GET || *api == Api::Moderations;
                if ask.model.is_empty() && !given {
                    Answer::error(Some(api), 400, None, "you must provide a model parameter")
                } else {
                    api::answer(api, Plan::new(id.to_owned(), ask, fault), &state.models)
                }
            }
        },
    };
    let status = fault.status.unwrap_or(answer.status);
    match &fault.body {
        Some(body) => Answer {
            status,
            ..Answer::whole(answer.content_type, body.clone(), 0)
        },
        None => Answer { status, ..answer },
    }
}

async fn read(head: &hyper::http::request::Parts, bytes: Bytes) -> Result<Ask, String> {
    if head.method == hyper::Method::GET {
        return Ok(Ask::default());
    }
    let content_type = head
        .headers
        .get(CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    match multer::parse_boundary(content_type) {
        Ok(boundary) => Ask::form(bytes, boundary).await,
        Err(_) => Ask::json(&bytes),
    }
}

fn respond(
    state: &State,
    answer: Answer,
    id: Option<(&str, bool)>,
    fault: &Fault,
    entry: Entry,
    line: Line,
) -> Response<Paced> {
    entry.status(answer.status);
    let length = answer.length;
    let mut response = Response::new(Paced::new(answer.pieces, length, fault, entry, line));
    *response.status_mut() = answer.status.try_into().unwrap_or_default();
    let headers = response.headers_mut();
    let mut set = |name: &'static str, value: &str| {
        // A value that is no header value came from a test's own name or fault: it shows by its absence.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    set(SERVER_HEADER, &state.name);
    if let Some((id, anthropic)) = id {
        // The APIs name the request in these; a gateway is to put its own in their place.
        set(
            if anthropic { "request-id" } else { "x-request-id" },
            &format!("upstream-{id}"),
        );
    }
    if let Some(retry_after) = &fault.retry_after {
        set("retry-after", retry_after);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    response
}

impl State {
    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How to answer a request that does not say it itself.
    fn fault(&self) -> Fault {
        let mut faults = self.faults();
        faults.next.pop_front().unwrap_or_else(|| faults.always.clone())
    }
}

fn seen(head: &hyper::http::request::Parts, id: &str) -> Seen {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    Seen {
        id: id.to_owned(),
        request_id: head.headers.get("x-request-id").map(text),
        method: head.method.to_string(),
        path: head.uri.to_string(),
        headers: head
            .headers
            .iter()
            .map(|(n, v)| (n.to_string(), text(v)))
            .collect(),
        ..Seen::default()
    }
}

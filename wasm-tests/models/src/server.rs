//! The server: a thread of its own, ended with the value.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hyper::header::{HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpSocket;
use tokio::sync::{oneshot, watch};

use super::connection::{Conn, Line};
use super::fault::Fault;
use super::ledger::{Ending, Ledger, Seen};
use super::serve::{Faults, State, serve};

/// Requests a ledger keeps unless said otherwise.
const KEEP: usize = 10_000;
/// Connections that wait to be accepted: all that a test opens at once. The kernel drops what comes beyond, and the next try
/// is a second later.
const BACKLOG: u32 = 4_096;

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

impl Builder {
    /// Its name, in ids and in [`super::SERVER_HEADER`]. Default: `model`.
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
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind((Ipv4Addr::LOCALHOST, self.port).into())?;
        let listener = socket.listen(BACKLOG)?.into_std()?;
        let addr = listener.local_addr()?;
        let state = Arc::new(State {
            ledger: Ledger::new(self.keep),
            models: self.models,
            number: AtomicU64::new(0),
            healthy: AtomicBool::new(true),
            faults: Mutex::default(),
            headers: Mutex::default(),
            release: watch::Sender::default(),
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

    /// Answers every request this way, unless its own [`super::FAULT_HEADER`] says another.
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

    /// Says these headers too, with every answer of a model; one that it has anyway is said in their place.
    ///
    /// # Panics
    /// One of them is no header.
    pub fn set_headers<'a>(&self, headers: impl IntoIterator<Item = (&'a str, &'a str)>) {
        let headers = headers.into_iter().map(|(name, value)| {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a header's name");
            (name, HeaderValue::from_str(value).expect("a header's value"))
        });
        *self.state.headers.lock().unwrap_or_else(PoisonError::into_inner) = headers.collect();
    }

    /// Lets every answer go on that a [`Fault::hold`] holds; those that begin later are held anew.
    pub fn release(&self) {
        self.state.release.send_replace(());
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

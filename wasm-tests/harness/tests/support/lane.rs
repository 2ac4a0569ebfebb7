//! Connections whose worker is known. Envoy gives each connection to one worker for life, and a change reaches the
//! workers one by one, so a test that means all workers has to know where it asks.

use std::io;

use bytes::Bytes;
use reqwest::header::HeaderMap;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tollgate_harness::raw::Answer;
use tollgate_harness::stats::Stats;
use tollgate_harness::{Gateway, Reply, net};

/// Connections tried before a worker counts as missing. That the kernel gives all of 64 to the other is as good as
/// impossible.
const TRIES: usize = 64;

/// A connection that a worker has accepted, to be used by any runtime.
#[derive(Debug)]
pub(crate) struct Seat {
    stream: std::net::TcpStream,
    /// Which worker.
    pub(crate) worker: usize,
}

/// A connection in use: one request after another.
#[derive(Debug)]
pub(crate) struct Lane {
    stream: TcpStream,
    /// Which worker.
    pub(crate) worker: usize,
}

/// One connection to each of two workers. Nobody else may connect meanwhile.
///
/// # Panics
/// A worker takes no connection.
pub(crate) async fn seats(gateway: &Gateway) -> [Seat; 2] {
    let mut found = [None, None];
    for _ in 0..TRIES {
        let seat = seat(gateway).await;
        let worker = seat.worker;
        found[worker].get_or_insert(seat);
        if let [Some(_), Some(_)] = found {
            return found.map(|seat| seat.expect("both are there"));
        }
    }
    panic!("{TRIES} connections, and all came to one worker");
}

/// As [`seats`], in use by this runtime.
pub(crate) async fn lanes(gateway: &Gateway) -> [Lane; 2] {
    seats(gateway).await.map(Seat::open)
}

async fn seat(gateway: &Gateway) -> Seat {
    let before = connections(&gateway.stats().await);
    let stream = std::net::TcpStream::connect(gateway.addr()).expect("the gateway takes connections");
    let worker = net::eventually("a worker accepts a connection", async || {
        let now = connections(&gateway.stats().await);
        (0..now.len()).find(|worker| now[*worker] > before[*worker])
    })
    .await;
    Seat { stream, worker }
}

/// Connections that each worker has accepted so far.
fn connections(stats: &Stats) -> [u64; 2] {
    [0, 1].map(|worker| {
        let suffix = format!(".worker_{worker}.downstream_cx_total");
        let of_worker =
            |name: &str| name.starts_with("listener.") && !name.contains("admin") && name.ends_with(&suffix);
        stats
            .iter()
            .filter(|(name, _)| of_worker(name))
            .map(|(_, value)| value)
            .sum()
    })
}

impl Seat {
    /// Makes it a lane of the runtime that runs this.
    pub(crate) fn open(self) -> Lane {
        self.stream.set_nonblocking(true).expect("a socket can be asked");
        self.stream.set_nodelay(true).expect("a socket can be asked");
        Lane {
            stream: TcpStream::from_std(self.stream).expect("a runtime runs this"),
            worker: self.worker,
        }
    }
}

impl Lane {
    /// Sends a request and reads its answer, which has a content length.
    ///
    /// # Errors
    /// The connection ended first.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> io::Result<Reply> {
        self.stream.write_all(request).await?;
        let mut answer = Answer {
            bytes: Vec::new(),
            closed: false,
        };
        let mut buffer = [0; 4096];
        loop {
            let read = self.stream.read(&mut buffer).await?;
            if read == 0 {
                let said = String::from_utf8_lossy(&answer.bytes).into_owned();
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, said));
            }
            answer.bytes.extend_from_slice(&buffer[..read]);
            if let Some(reply) = answer.reply() {
                return Ok(reply);
            }
        }
    }

    /// Asks for the list of models, with a key. It has no body: Envoy ends an HTTP/1.1 connection on which it refused
    /// a request whose body it had not read. A lost connection is an answer of status 0.
    pub(crate) async fn ask(&mut self, key: &str) -> Reply {
        let request =
            format!("GET /v1/models HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {key}\r\n\r\n");
        self.exchange(request.as_bytes())
            .await
            .unwrap_or_else(|error| Reply {
                status: 0,
                headers: HeaderMap::new(),
                body: Bytes::from(error.to_string()),
            })
    }
}

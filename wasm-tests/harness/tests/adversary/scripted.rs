//! A model server that answers every POST with the same bytes, whatever they are, and is well when Envoy asks.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

#[derive(Clone)]
pub(crate) struct Scripted {
    addr: SocketAddr,
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    answer: Mutex<Vec<u8>>,
    asked: AtomicUsize,
}

impl Scripted {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let inner = Arc::new(Inner::default());
        let serving = Arc::clone(&inner);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&serving)));
            }
        });
        Self { addr, inner }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What it answers from now on: a status line without the version, header lines, a body with a length.
    pub(crate) fn answer(&self, status: &str, headers: &[&str], body: &str) {
        let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
        let length = body.len();
        self.raw(&format!(
            "HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}"
        ));
    }

    /// The same as bytes. Where the client can't tell its end, it has none.
    pub(crate) fn raw(&self, bytes: &str) {
        *self.inner.answer.lock().unwrap() = bytes.as_bytes().to_vec();
    }

    /// POSTs that came so far.
    pub(crate) fn asked(&self) -> usize {
        self.inner.asked.load(Ordering::SeqCst)
    }
}

async fn serve(mut stream: TcpStream, inner: Arc<Inner>) -> Option<()> {
    let mut held = Vec::new();
    loop {
        let end = loop {
            let head = held.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = head.map(|at| at + 4 + length(&held[..at]))
                && held.len() >= end
            {
                break end;
            }
            if stream.read_buf(&mut held).await.ok()? == 0 {
                return None;
            }
        };
        let healthy = held.starts_with(b"GET ");
        held.drain(..end);
        if healthy {
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(answer).await.ok()?;
            continue;
        }
        inner.asked.fetch_add(1, Ordering::SeqCst);
        let answer = inner.answer.lock().unwrap().clone();
        stream.write_all(&answer).await.ok()?;
    }
}

fn length(head: &[u8]) -> usize {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    length.map_or(0, |length| length.trim().parse().unwrap())
}

//! Addresses where nobody answers, and waiting for what must come.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const PAUSE: Duration = Duration::from_millis(5);

/// An address on loopback that refuses connections for as long as this value lives: bound, so that no other
/// process can take it, and not listening.
#[derive(Debug)]
pub struct Refusing {
    addr: SocketAddr,
    _socket: tokio::net::TcpSocket,
}

impl Refusing {
    /// Takes a free port.
    ///
    /// # Errors
    /// The system has no free port or socket.
    pub fn new() -> std::io::Result<Self> {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        Ok(Self {
            addr: socket.local_addr()?,
            _socket: socket,
        })
    }

    /// The address.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

/// Looks at `condition` until it gives a value, or until `patience` is over: then `None`.
pub async fn within<T>(patience: Duration, mut condition: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = condition().await {
            return Some(value);
        }
        if Instant::now() >= deadline {
            return None;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// As [`within`] ten seconds, for a condition that a test can't go on without.
///
/// # Panics
/// It did not come true; the message names `what`.
pub async fn eventually<T>(what: &str, condition: impl AsyncFnMut() -> Option<T>) -> T {
    match within(Duration::from_secs(10), condition).await {
        Some(value) => value,
        None => panic!("within ten seconds it did not happen that {what}"),
    }
}

//! How many connections there are at once: in all, and from one address, so that nobody's idle ones keep others out. One too
//! many is closed before anything of it is read, and one whose client takes nothing of its answer for a minute.

use core::fmt;
use core::future::{Ready, ready};
use core::pin::Pin;
use core::task::{self, Context, Poll};
use core::time::Duration;
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum_server::accept::Accept;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use crate::log::say;
use crate::network::network;

/// Longest time for which a client takes nothing of what is written to it.
const STALLED: Duration = Duration::from_secs(60);

/// How often the log has of each bound that connections were closed for it, at most.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// How many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Most {
    /// In all.
    pub in_all: usize,
    /// From one address; of IPv6, from one /64.
    pub from_one: usize,
}

/// What there is of them.
#[derive(Debug, Clone)]
pub(crate) struct Connections {
    most: Most,
    open: Arc<Mutex<Open>>,
    closed: Arc<Mutex<Closed>>,
}

#[derive(Debug, Default)]
struct Open {
    in_all: usize,
    from: HashMap<IpAddr, usize>,
}

/// Which bound left no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Full {
    InAll(usize),
    FromOne(usize),
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InAll(most) => write!(f, "{most} are open (--max-connections)"),
            Self::FromOne(most) => write!(
                f,
                "{most} from one address are open (--max-connections-per-address)"
            ),
        }
    }
}

/// What is to be said of connections that found no place, for each bound.
#[derive(Debug, Default)]
struct Closed {
    in_all: Unsaid,
    from_one: Unsaid,
}

#[derive(Debug, Default)]
struct Unsaid {
    count: u64,
    last_said: Option<Instant>,
}

impl Closed {
    /// One more was closed; what the log is to have of it, where that is due.
    fn note(&mut self, full: Full, address: IpAddr, now: Instant) -> Option<String> {
        let unsaid = match full {
            Full::InAll(_) => &mut self.in_all,
            Full::FromOne(_) => &mut self.from_one,
        };
        unsaid.count += 1;
        let since = unsaid.last_said.map(|last| now.saturating_duration_since(last));
        if since.is_some_and(|since| since < SAID_EVERY) {
            return None;
        }
        unsaid.last_said = Some(now);
        let count = core::mem::take(&mut unsaid.count);
        Some(format!(
            "closed connections that found no place ({count} of them, the last one from {address}): {full}"
        ))
    }
}

impl Connections {
    pub(crate) fn new(most: Most) -> Self {
        Self {
            most,
            open: Arc::default(),
            closed: Arc::default(),
        }
    }

    /// A place for one more from an address, until it is dropped; which bound it is where there is none.
    fn place(&self, address: IpAddr) -> Result<Place, Full> {
        let address = network(address.to_canonical());
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let from = open.from.get(&address).copied().unwrap_or_default();
        if from >= self.most.from_one {
            return Err(Full::FromOne(self.most.from_one));
        }
        if open.in_all >= self.most.in_all {
            return Err(Full::InAll(self.most.in_all));
        }
        open.in_all += 1;
        open.from.insert(address, from + 1);
        Ok(Place {
            open: Arc::clone(&self.open),
            address,
        })
    }

    /// A connection from there found no place. The log has it, and not each: whoever is closed comes again.
    fn note_closed(&self, full: Full, address: IpAddr) {
        let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(told) = closed.note(full, address, Instant::now()) {
            say(&told);
        }
    }
}

/// One connection's place.
#[derive(Debug)]
struct Place {
    open: Arc<Mutex<Open>>,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.in_all = open.in_all.saturating_sub(1);
        if let Some(from) = open.from.get_mut(&self.address) {
            *from -= 1;
            if *from == 0 {
                open.from.remove(&self.address);
            }
        }
    }
}

impl<S> Accept<TcpStream, S> for Connections {
    type Stream = Placed;
    type Service = S;
    type Future = Ready<io::Result<(Placed, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let placed = stream.peer_addr().and_then(|peer| {
            self.place(peer.ip()).map_err(|full| {
                self.note_closed(full, peer.ip().to_canonical());
                io::Error::other("too many connections")
            })
        });
        ready(placed.map(|place| (Placed::new(stream, place, STALLED), service)))
    }
}

/// A connection that has a place.
#[derive(Debug)]
pub(crate) struct Placed {
    stream: TcpStream,
    /// Until when it may take what is written; `None` where nothing waits.
    stalled: Option<Pin<Box<Sleep>>>,
    longest_stall: Duration,
    _place: Place,
}

impl Placed {
    fn new(stream: TcpStream, place: Place, longest_stall: Duration) -> Self {
        Self {
            stream,
            stalled: None,
            longest_stall,
            _place: place,
        }
    }

    /// What became of a write; an error where the client has taken nothing for too long.
    fn in_time<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let longest = self.longest_stall;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(longest)));
        task::ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Placed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Placed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.in_time(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.in_time(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[test]
    fn a_place_is_taken_until_its_connection_ends() {
        let connections = Connections::new(Most {
            in_all: 3,
            from_one: 2,
        });
        let place = |text: &str| connections.place(text.parse().unwrap());
        let one = place("10.0.0.1").unwrap();
        let _two = place("10.0.0.1").unwrap();
        assert_eq!(place("10.0.0.1").unwrap_err(), Full::FromOne(2));
        assert_eq!(place("::ffff:10.0.0.1").unwrap_err(), Full::FromOne(2));
        let three = place("2001:db8::1").unwrap();
        assert_eq!(place("10.0.0.2").unwrap_err(), Full::InAll(3));
        drop(three);
        assert_eq!(place("10.0.0.1").unwrap_err(), Full::FromOne(2));
        drop(one);
        let _one = place("10.0.0.1").unwrap();
        let _three = place("2001:db8::1").unwrap();
        assert_eq!(connections.open.lock().unwrap().from.len(), 2);
    }

    /// Whoever is closed comes again at once: the log is not theirs to fill, nor to hide behind.
    #[test]
    fn what_is_closed_is_said_once_a_minute_for_each_bound() {
        let mut closed = Closed::default();
        let began = Instant::now();
        let mut note = |full, address: &str, seconds| {
            let now = began + Duration::from_secs(seconds);
            closed
                .note(full, address.parse().unwrap(), now)
                .unwrap_or_default()
        };
        let told = note(Full::FromOne(8), "10.0.0.1", 0);
        assert!(
            told.contains("(1 of them, the last one from 10.0.0.1): 8 from one address")
                && told.contains("--max-connections-per-address"),
            "{told}"
        );
        for _ in 0..1_000 {
            assert_eq!(note(Full::FromOne(8), "10.0.0.1", 59), "");
        }
        let told = note(Full::InAll(20), "10.0.0.2", 59);
        assert!(
            told.contains("(1 of them, the last one from 10.0.0.2): 20 are open (--max-connections)"),
            "{told}"
        );
        let told = note(Full::FromOne(8), "10.0.0.3", 60);
        assert!(
            told.contains("(1001 of them, the last one from 10.0.0.3)"),
            "{told}"
        );
    }

    #[tokio::test]
    async fn who_takes_nothing_is_not_waited_for() {
        let connections = Connections::new(Most {
            in_all: 1,
            from_one: 1,
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        let place = connections.place(peer.ip()).unwrap();
        let mut placed = Placed::new(stream, place, Duration::from_millis(50));
        // More than all buffers on the way take.
        let error = placed.write_all(&vec![0; 1 << 28]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(client);
    }
}

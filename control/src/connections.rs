//! How many connections there are at once: in all, and from one address, so that nobody's idle ones keep others out. One too
//! many is closed before anything of it is read, and one whose client takes nothing of its answer for a minute.

use core::future::{Ready, ready};
use core::pin::Pin;
use core::task::{self, Context, Poll};
use core::time::Duration;
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum_server::accept::Accept;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use crate::network::network;

/// Longest time for which a client takes nothing of what is written to it.
const STALLED: Duration = Duration::from_secs(60);

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
}

#[derive(Debug, Default)]
struct Open {
    in_all: usize,
    from: HashMap<IpAddr, usize>,
}

impl Connections {
    pub(crate) fn new(most: Most) -> Self {
        Self {
            most,
            open: Arc::default(),
        }
    }

    /// A place for one more from an address, until it is dropped; `None` where there is none.
    fn place(&self, address: IpAddr) -> Option<Place> {
        let address = network(address.to_canonical());
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let from = open.from.get(&address).copied().unwrap_or_default();
        if open.in_all >= self.most.in_all || from >= self.most.from_one {
            return None;
        }
        open.in_all += 1;
        open.from.insert(address, from + 1);
        Some(Place {
            open: Arc::clone(&self.open),
            address,
        })
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
        let place = stream.peer_addr().map(|peer| self.place(peer.ip()));
        ready(match place {
            Ok(Some(place)) => Ok((Placed::new(stream, place, STALLED), service)),
            Ok(None) => Err(io::Error::other("too many connections")),
            Err(error) => Err(error),
        })
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
        assert!(place("10.0.0.1").is_none() && place("::ffff:10.0.0.1").is_none());
        let three = place("2001:db8::1").unwrap();
        assert!(place("10.0.0.2").is_none());
        drop(three);
        assert!(place("10.0.0.1").is_none());
        drop(one);
        let _one = place("10.0.0.1").unwrap();
        let _three = place("2001:db8::1").unwrap();
        assert_eq!(connections.open.lock().unwrap().from.len(), 2);
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

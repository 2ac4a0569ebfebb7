//! A client for hostile bytes: sends anything, and reads what comes back until it is clear.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::client::Reply;

/// What came back over a connection.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Every byte.
    pub bytes: Vec<u8>,
    /// Whether the gateway closed or reset the connection.
    pub closed: bool,
}

/// Opens a connection, sends `bytes`, and reads until one answer is whole, the gateway closes, or `patience` is over.
///
/// # Panics
/// The gateway does not take the connection.
pub async fn exchange(addr: SocketAddr, bytes: &[u8], patience: Duration) -> Answer {
    let deadline = Instant::now() + patience;
    let mut stream = TcpStream::connect(addr)
        .await
        .expect("the gateway takes connections");
    let mut answer = Answer {
        bytes: Vec::new(),
        closed: false,
    };
    // The gateway may answer and close before it has read everything; what it said is read all the same.
    let sent = timeout_at(deadline, stream.write_all(bytes)).await;
    answer.closed = matches!(sent, Ok(Err(_)));
    let mut buffer = [0; 16 * 1024];
    while answer.reply().is_none() {
        match timeout_at(deadline, stream.read(&mut buffer)).await {
            Ok(Ok(0) | Err(_)) => {
                answer.closed = true;
                break;
            }
            Ok(Ok(n)) => answer.bytes.extend_from_slice(&buffer[..n]),
            Err(_) => break,
        }
    }
    answer
}

impl Answer {
    /// The first HTTP/1.1 answer with a content length (as all of Envoy's own have), once it is whole.
    pub fn reply(&self) -> Option<Reply> {
        let end = self.bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&self.bytes[..end]).ok()?;
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let header = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((
                name.parse::<HeaderName>().ok()?,
                HeaderValue::from_str(value.trim()).ok()?,
            ))
        };
        let headers: HeaderMap = lines.filter_map(header).collect();
        let length: usize = headers.get("content-length")?.to_str().ok()?.parse().ok()?;
        let body = self.bytes.get(end + 4..end + 4 + length)?;
        Some(Reply {
            status,
            headers,
            body: Bytes::copy_from_slice(body),
        })
    }

    /// As [`Self::reply`], for an answer that must be there.
    ///
    /// # Panics
    /// It is not.
    pub fn expect(&self, status: u16) -> Reply {
        self.expect_any().expect(status)
    }

    /// As [`Self::expect`], of any status.
    ///
    /// # Panics
    /// There is no whole answer.
    pub fn expect_any(&self) -> Reply {
        match self.reply() {
            Some(reply) => reply,
            None => panic!(
                "no whole answer: {:?}, closed: {}",
                String::from_utf8_lossy(&self.bytes),
                self.closed
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_once_it_is_whole() {
        let bytes = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\nx: y\r\n\r\n{}";
        let answer = |end: usize| Answer {
            bytes: bytes[..end].to_vec(),
            closed: false,
        };
        assert!((0..bytes.len()).all(|end| answer(end).reply().is_none()));
        assert_eq!(answer(bytes.len()).expect(400).has("x", "y").text(), "{}");
    }
}

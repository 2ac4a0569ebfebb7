//! The load: a few connections, each with one chat request under way, from one thread.
//!
//! A client of our own rather than a general one, for two reasons: each request carries another key, and the
//! CPU it shares with the model server must never be what limits Envoy.

use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;

use crate::ask::Ask;
use crate::model::{PACE_HEADER, Pace};

/// The longest that nothing at all may come back.
const SILENCE: Duration = Duration::from_secs(10);

/// What was seen in one stretch of load.
#[derive(Debug, Default)]
pub(crate) struct Run {
    /// From its beginning until the last answer was in.
    pub(crate) elapsed: Duration,
    /// Of each answer, in no order.
    pub(crate) latencies: Vec<Duration>,
}

/// Load on one listener. Its connections stay open between stretches.
pub(crate) struct Load {
    poll: OwnedFd,
    events: Vec<epoll::Event>,
    connections: Vec<Connection>,
    requests: Requests,
}

impl Load {
    /// Connects; nothing is sent yet.
    pub(crate) fn new(to: SocketAddr, keys: &[String], ask: &Ask) -> Result<Self> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let connections: Vec<Connection> = (0..ask.connections)
            .map(|_| Connection::open(to))
            .collect::<Result<_>>()?;
        for (at, connection) in connections.iter().enumerate() {
            let data = epoll::EventData::new_u64(at as u64);
            // Told once of each change: a connection that could take more is no news for as long as it could.
            let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
            epoll::add(&poll, &connection.stream, data, flags)?;
        }
        Ok(Self {
            poll,
            events: Vec::with_capacity(ask.connections),
            connections,
            requests: Requests::new(keys, ask)?,
        })
    }

    /// Keeps every connection busy for `time`, then takes in what is under way: whatever CPU time the requests took
    /// falls between the call and its return.
    ///
    /// # Errors
    /// An answer was not 200, or a connection ended.
    pub(crate) fn run(&mut self, time: Duration) -> Result<Run> {
        let mut run = Run::default();
        let began = Instant::now();
        for connection in &mut self.connections {
            connection.send(self.requests.next())?;
        }
        while self
            .connections
            .iter()
            .any(|connection| connection.asked.is_some())
        {
            let requests = &mut self.requests;
            for connection in ready(&self.poll, &mut self.events, &mut self.connections)? {
                connection.go_on(&requests.body)?;
                if let Some(latency) = connection.receive()? {
                    run.latencies.push(latency);
                    if began.elapsed() < time {
                        connection.send(requests.next())?;
                    }
                }
            }
        }
        run.elapsed = began.elapsed();
        Ok(run)
    }
}

/// One request on a connection of its own; the answer's status and the whole of it.
///
/// # Errors
/// No answer came, or none that is HTTP.
pub(crate) fn ask(
    to: SocketAddr,
    key: Option<&str>,
    pace: Option<Pace>,
    body: &[u8],
) -> Result<(u16, String)> {
    let mut connection = Connection::open(to)?;
    connection.stream.set_nonblocking(false)?;
    connection.stream.set_read_timeout(Some(SILENCE))?;
    let (head, _) = head(key, pace, body.len());
    connection.send((head.as_bytes(), body))?;
    let began = Instant::now();
    loop {
        if let Some(status) = connection.read()? {
            return Ok((status, String::from_utf8_lossy(&connection.buffer).into_owned()));
        }
        ensure!(began.elapsed() < SILENCE, "no answer came in {SILENCE:?}");
    }
}

/// The connections on which something came.
fn ready<'a>(
    poll: &OwnedFd,
    events: &mut Vec<epoll::Event>,
    connections: &'a mut [Connection],
) -> Result<Vec<&'a mut Connection>> {
    events.clear();
    let silence = Timespec::try_from(SILENCE)?;
    let count = epoll::wait(poll, spare_capacity(events), Some(&silence))?;
    ensure!(count > 0, "no answer came in {SILENCE:?}");
    let came: u64 = events.iter().map(|event| 1_u64 << event.data.u64()).sum();
    Ok(connections
        .iter_mut()
        .enumerate()
        .filter(|(at, _)| came >> at & 1 == 1)
        .map(|(_, c)| c)
        .collect())
}

/// A connection with at most one request under way.
struct Connection {
    stream: TcpStream,
    /// What came so far of the answer.
    buffer: Vec<u8>,
    /// When the request went out that is under way.
    asked: Option<Instant>,
    /// How much of its body went out.
    sent: usize,
}

impl Connection {
    fn open(to: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(to)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            buffer: Vec::with_capacity(4096),
            asked: None,
            sent: 0,
        })
    }

    /// Sends a head, and of the body what the connection takes.
    fn send(&mut self, (head, body): (&[u8], &[u8])) -> Result<()> {
        self.asked = Some(Instant::now());
        let parts = [IoSlice::new(head), IoSlice::new(body)];
        // The head always fits an idle loopback connection's buffer.
        let sent = self.stream.write_vectored(&parts)?.checked_sub(head.len());
        self.sent = sent.context("not even a request's head was taken")?;
        self.go_on(body)
    }

    /// Sends what is left of the body, as far as the connection takes it.
    fn go_on(&mut self, body: &[u8]) -> Result<()> {
        while self.asked.is_some() && self.sent < body.len() {
            match self.stream.write(body.get(self.sent..).unwrap_or_default()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                sent => self.sent += sent?,
            }
        }
        Ok(())
    }

    /// Reads all that came; the latency once the answer is whole.
    fn receive(&mut self) -> Result<Option<Duration>> {
        let Some(status) = self.read()? else {
            return Ok(None);
        };
        ensure!(
            status == 200,
            "an answer was not 200: {}",
            String::from_utf8_lossy(&self.buffer)
        );
        self.buffer.clear();
        Ok(self.asked.take().map(|asked| asked.elapsed()))
    }

    /// Reads all that came; the status once the answer is whole.
    fn read(&mut self) -> Result<Option<u16>> {
        let mut chunk = [0; 1 << 14];
        loop {
            let got = match self.stream.read(&mut chunk) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                got => got?,
            };
            ensure!(got > 0, "Envoy closed a connection");
            self.buffer.extend(chunk.iter().take(got));
            // Less than there is room for is all there was.
            if got < chunk.len() {
                return whole(&self.buffer);
            }
        }
    }
}

/// The status of an answer, once it is whole.
fn whole(answer: &[u8]) -> Result<Option<u16>> {
    let Some(head) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = std::str::from_utf8(answer.get(..head).unwrap_or_default())?;
    let body = answer.get(head + 4..).unwrap_or_default();
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let status = status.with_context(|| format!("not an HTTP answer: {text}"))?;
    for line in lines {
        if let Some(length) = line.strip_prefix("content-length: ") {
            return Ok((body.len() >= length.parse()?).then_some(status));
        }
        if line == "transfer-encoding: chunked" {
            return Ok(body.ends_with(b"\r\n0\r\n\r\n").then_some(status));
        }
    }
    bail!("an answer without a length: {text}")
}

/// One request after the other, each with the next key: with more keys than any small cache holds, and each used
/// as often as the others, no cache of recent ones can answer.
struct Requests {
    keys: Vec<String>,
    next: usize,
    head: Vec<u8>,
    key_at: usize,
    body: Vec<u8>,
}

impl Requests {
    fn new(keys: &[String], ask: &Ask) -> Result<Self> {
        let first = keys.first().context("there are keys")?;
        let (head, key_at) = head(Some(first), ask.pace, ask.body.len());
        Ok(Self {
            keys: keys.to_vec(),
            next: 0,
            head: head.into_bytes(),
            key_at,
            body: ask.body.clone(),
        })
    }

    /// A head and a body.
    fn next(&mut self) -> (&[u8], &[u8]) {
        if let Some(key) = self.keys.get(self.next) {
            // All keys have one length.
            let end = self.key_at + key.len();
            if let Some(place) = self.head.get_mut(self.key_at..end) {
                place.copy_from_slice(key.as_bytes());
            }
        }
        self.next = (self.next + 1) % self.keys.len();
        (&self.head, &self.body)
    }
}

/// A request's head, and where the key begins in it.
fn head(key: Option<&str>, pace: Option<Pace>, length: usize) -> (String, usize) {
    let mut head = "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nuser-agent: bench\r\n\
                    accept: application/json\r\ncontent-type: application/json\r\n"
        .to_owned();
    if let Some(pace) = pace {
        head += &format!("{PACE_HEADER}: {}\r\n", pace.name());
    }
    head += &format!("content-length: {length}\r\n");
    let key_at = head.len() + "authorization: Bearer ".len();
    if let Some(key) = key {
        head += &format!("authorization: Bearer {key}\r\n");
    }
    (head + "\r\n", key_at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_body_is() {
        assert_eq!(whole(b"HTTP/1.1 200 OK\r\ncontent-le").unwrap(), None);
        assert_eq!(
            whole(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{").unwrap(),
            None
        );
        assert_eq!(
            whole(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").unwrap(),
            Some(200)
        );
        assert_eq!(
            whole(b"HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n").unwrap(),
            Some(401)
        );
        assert!(whole(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }

    #[test]
    fn a_stream_is_whole_with_its_last_chunk() {
        let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".as_slice();
        assert_eq!(whole(&[head, b"2\r\n{}\r\n"].concat()).unwrap(), None);
        let all = [head, b"2\r\n{}\r\n0\r\n\r\n"].concat();
        assert_eq!(whole(&all).unwrap(), Some(200));
    }

    #[test]
    fn each_request_carries_the_next_key() {
        let mut requests = Requests::new(&["one".to_owned(), "two".to_owned()], &Ask::chat()).unwrap();
        let mut sent = || String::from_utf8(requests.next().0.to_vec()).unwrap();
        assert!(sent().contains("Bearer one\r\n"));
        assert!(sent().contains("Bearer two\r\n"));
        assert!(sent().contains("Bearer one\r\n"));
    }

    #[test]
    fn a_body_larger_than_any_buffer_goes_out_whole() {
        let keys = ["key".to_owned()];
        let largest = Ask::by_size().pop().unwrap();
        let mut load = Load::new(crate::model::start("m").unwrap(), &keys, &largest).unwrap();
        let run = load.run(Duration::ZERO).unwrap();
        assert_eq!(run.latencies.len(), largest.connections);
    }
}

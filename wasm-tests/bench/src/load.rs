//! The load: 32 connections, each with one chat request under way, from one thread.
//!
//! A client of our own rather than a general one, for two reasons: each request carries another key, and the
//! CPU it shares with the model server must never be what limits Envoy.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;

/// Connections at once.
const CONNECTIONS: usize = 32;
/// The longest that nothing at all may come back.
const SILENCE: Duration = Duration::from_secs(10);

/// What was seen in one stretch of load.
#[derive(Debug, Default)]
pub(crate) struct Run {
    /// From its beginning to its end.
    pub(crate) elapsed: Duration,
    /// Of each answer that came in that time, in no order.
    pub(crate) latencies: Vec<Duration>,
}

/// Load on one listener. Its connections stay open between stretches.
pub(crate) struct Load {
    to: SocketAddr,
    poll: OwnedFd,
    events: Vec<epoll::Event>,
    connections: Vec<Connection>,
    requests: Requests,
}

impl Load {
    /// Connects; nothing is sent yet.
    pub(crate) fn new(to: SocketAddr, keys: &[String]) -> Result<Self> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let connections: Vec<Connection> = (0..CONNECTIONS)
            .map(|_| Connection::open(to))
            .collect::<Result<_>>()?;
        for (at, connection) in connections.iter().enumerate() {
            let data = epoll::EventData::new_u64(at as u64);
            epoll::add(&poll, &connection.stream, data, epoll::EventFlags::IN)?;
        }
        Ok(Self {
            to,
            poll,
            events: Vec::with_capacity(CONNECTIONS),
            connections,
            requests: Requests::new(keys)?,
        })
    }

    /// Asks until an answer is 200, each time on a connection of its own: a directory may still be on its way.
    /// Returns how long that took.
    ///
    /// # Errors
    /// It never was, within `patience`; the message has the last answer.
    pub(crate) fn until_answered(&mut self, patience: Duration) -> Result<Duration> {
        let began = Instant::now();
        loop {
            match Connection::ask(self.to, self.requests.next()) {
                Ok(()) => return Ok(began.elapsed()),
                Err(refused) if began.elapsed() >= patience => return Err(refused),
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// Keeps every connection busy for `time`. Answers are under way when it returns.
    ///
    /// # Errors
    /// An answer was not 200, or a connection ended.
    pub(crate) fn run(&mut self, time: Duration) -> Result<Run> {
        for connection in self
            .connections
            .iter_mut()
            .filter(|connection| connection.asked.is_none())
        {
            connection.send(self.requests.next())?;
        }
        let mut run = Run::default();
        let began = Instant::now();
        while began.elapsed() < time {
            let requests = &mut self.requests;
            for connection in ready(&self.poll, &mut self.events, &mut self.connections)? {
                if let Some(latency) = connection.receive()? {
                    run.latencies.push(latency);
                    connection.send(requests.next())?;
                }
            }
        }
        run.elapsed = began.elapsed();
        Ok(run)
    }

    /// Takes in the answers that are under way.
    pub(crate) fn drain(&mut self) -> Result<()> {
        while self
            .connections
            .iter()
            .any(|connection| connection.asked.is_some())
        {
            for connection in ready(&self.poll, &mut self.events, &mut self.connections)? {
                connection.receive()?;
            }
        }
        Ok(())
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
        })
    }

    /// One request, waiting for the answer.
    fn ask(to: SocketAddr, request: &[u8]) -> Result<()> {
        let mut connection = Self::open(to)?;
        connection.stream.set_nonblocking(false)?;
        connection.stream.set_read_timeout(Some(SILENCE))?;
        let began = Instant::now();
        connection.send(request)?;
        while connection.receive()?.is_none() {
            ensure!(began.elapsed() < SILENCE, "no answer came in {SILENCE:?}");
        }
        Ok(())
    }

    fn send(&mut self, request: &[u8]) -> Result<()> {
        self.asked = Some(Instant::now());
        // One small request on an idle loopback connection always fits the socket's buffer.
        let sent = self.stream.write(request)?;
        ensure!(sent == request.len(), "a request was not taken whole");
        Ok(())
    }

    /// Reads what came; the latency once the answer is whole.
    fn receive(&mut self) -> Result<Option<Duration>> {
        let mut chunk = [0; 4096];
        let got = match self.stream.read(&mut chunk) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            got => got?,
        };
        ensure!(got > 0, "Envoy closed a connection");
        self.buffer.extend(chunk.iter().take(got));
        let Some(status) = whole(&self.buffer)? else {
            return Ok(None);
        };
        let latency = self.asked.take().map(|asked| asked.elapsed());
        if status != 200 {
            let answer = String::from_utf8_lossy(&self.buffer).into_owned();
            self.buffer.clear();
            bail!("an answer was not 200: {answer}");
        }
        self.buffer.clear();
        Ok(latency)
    }
}

/// The status of an answer, once it is whole.
fn whole(answer: &[u8]) -> Result<Option<u16>> {
    let Some(head) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = std::str::from_utf8(answer.get(..head).unwrap_or_default())?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let status = status.with_context(|| format!("not an HTTP answer: {text}"))?;
    let length = lines.find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    let length = length.with_context(|| format!("an answer without content-length: {text}"))?;
    Ok((answer.len() >= head + 4 + length).then_some(status))
}

/// One request after the other, each with the next key: with more keys than any small cache holds, and each used
/// as often as the others, no cache of recent ones can answer.
struct Requests {
    keys: Vec<String>,
    next: usize,
    request: Vec<u8>,
    key_at: usize,
}

impl Requests {
    fn new(keys: &[String]) -> Result<Self> {
        let first = keys.first().context("there are keys")?;
        let body = chat();
        let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nuser-agent: bench\r\n\
                    accept: application/json\r\ncontent-type: application/json\r\nauthorization: Bearer ";
        let request = format!("{head}{first}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes();
        Ok(Self {
            keys: keys.to_vec(),
            next: 0,
            request,
            key_at: head.len(),
        })
    }

    fn next(&mut self) -> &[u8] {
        if let Some(key) = self.keys.get(self.next) {
            // All keys have one length.
            let end = self.key_at + key.len();
            if let Some(place) = self.request.get_mut(self.key_at..end) {
                place.copy_from_slice(key.as_bytes());
            }
        }
        self.next = (self.next + 1) % self.keys.len();
        &self.request
    }
}

/// A chat request of 0.7 KB.
fn chat() -> String {
    let question = "Summarise for the on-call engineer what changed in the deployment last night, which of the \
                    alerts that followed are explained by it, and what is left to look at. Be brief, name the \
                    services, and say where you are not sure of what you read. "
        .repeat(2);
    serde_json::json!({
        "model": "llama-70b",
        "messages": [
            {"role": "system", "content": "You are a careful assistant for a platform team. Answer in English."},
            {"role": "user", "content": question},
        ],
        "temperature": 0.2,
        "max_tokens": 256,
    })
    .to_string()
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
    fn each_request_carries_the_next_key() {
        let mut requests = Requests::new(&["one".to_owned(), "two".to_owned()]).unwrap();
        let mut sent = || String::from_utf8(requests.next().to_vec()).unwrap();
        assert!(sent().contains("Bearer one\r\n"));
        assert!(sent().contains("Bearer two\r\n"));
        assert!(sent().contains("Bearer one\r\n"));
    }

    #[test]
    fn the_request_has_the_size_the_page_states() {
        assert!((650..750).contains(&chat().len()), "{}", chat().len());
    }
}

//! Model servers that do nothing but answer: one thread each, with constant answers made beforehand.
//!
//! `wasm-tests/models` has stand-ins that speak the APIs; they read what they are asked, and that takes CPU time which
//! the load needs.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;

/// The model that requests ask for, and the cluster it is served by.
pub(crate) const LARGE: &str = "llama-70b";
/// Another, on another server: what asks for it must come out there.
pub(crate) const SMALL: &str = "llama-8b";

/// Asks for a streamed answer.
pub(crate) const PACE_HEADER: &str = "x-bench-pace";
/// Events of a stream, the end mark included.
pub(crate) const EVENTS: usize = 202;
/// From one event to the next, where they come one by one.
const PERIOD: Duration = Duration::from_millis(2);

/// The listener's place among the connections.
const LISTENER: u64 = 0;

/// How a stream's events come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// One, and 2 ms later the next.
    OneByOne,
    /// All in one write.
    Coalesced,
}

impl Pace {
    /// As [`PACE_HEADER`] has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::OneByOne => "one-by-one",
            Self::Coalesced => "coalesced",
        }
    }
}

/// Starts the server of `name`, for as long as the process lives; returns where it listens.
pub(crate) fn start(name: &str) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let addr = listener.local_addr()?;
    let mut model = Model::new(listener, name)?;
    std::thread::Builder::new()
        .name("model".to_owned())
        .spawn(move || {
            // Envoy then answers 503, which the load reports; here is why.
            if let Err(error) = model.serve() {
                eprintln!("the model server stopped: {error:#}");
            }
        })?;
    Ok(addr)
}

struct Model {
    poll: OwnedFd,
    listener: TcpListener,
    connections: HashMap<u64, Connection>,
    next: u64,
    answers: Answers,
    /// When the next events of streams that come one by one are due; `None` while there are none.
    tick: Option<Instant>,
}

struct Answers {
    whole: Vec<u8>,
    /// The head of a stream, and its events, each as a chunk.
    head: Vec<u8>,
    events: Vec<Vec<u8>>,
}

struct Connection {
    stream: TcpStream,
    request: Request,
    /// The next event of a stream that comes one by one.
    event: Option<usize>,
}

impl Model {
    fn new(listener: TcpListener, name: &str) -> Result<Self> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        listener.set_nonblocking(true)?;
        epoll::add(
            &poll,
            &listener,
            epoll::EventData::new_u64(LISTENER),
            epoll::EventFlags::IN,
        )?;
        Ok(Self {
            poll,
            listener,
            connections: HashMap::new(),
            next: LISTENER + 1,
            answers: Answers::of(name),
            tick: None,
        })
    }

    fn serve(&mut self) -> Result<()> {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(64);
        loop {
            events.clear();
            let wait = self.tick.map(|due| due.saturating_duration_since(Instant::now()));
            let wait = wait.map(Timespec::try_from).transpose()?;
            epoll::wait(&self.poll, spare_capacity(&mut events), wait.as_ref())?;
            for event in &events {
                match event.data.u64() {
                    LISTENER => self.accept()?,
                    connection => self.exchange(connection)?,
                }
            }
            if self.tick.is_some_and(|due| due <= Instant::now()) {
                self.send_events()?;
            }
        }
    }

    fn accept(&mut self) -> Result<()> {
        let (stream, _) = match self.listener.accept() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            accepted => accepted?,
        };
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let data = epoll::EventData::new_u64(self.next);
        epoll::add(&self.poll, &stream, data, epoll::EventFlags::IN)?;
        let connection = Connection {
            stream,
            request: Request::default(),
            event: None,
        };
        self.connections.insert(self.next, connection);
        self.next += 1;
        Ok(())
    }

    fn exchange(&mut self, at: u64) -> Result<()> {
        let connection = self
            .connections
            .get_mut(&at)
            .context("an event of an unknown connection")?;
        let mut chunk = [0; 1 << 16];
        let got = match connection.stream.read(&mut chunk) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            // An Envoy that was stopped resets what it had open.
            got => got.unwrap_or(0),
        };
        if got == 0 {
            self.connections.remove(&at);
            return Ok(());
        }
        if connection.request.take(chunk.get(..got).unwrap_or_default())? {
            let pace = std::mem::take(&mut connection.request).pace;
            connection.answer(pace, &self.answers)?;
            if connection.event.is_some() {
                self.tick.get_or_insert_with(|| Instant::now() + PERIOD);
            }
        }
        Ok(())
    }

    /// The next event of each stream that comes one by one.
    fn send_events(&mut self) -> Result<()> {
        let mut streams = 0;
        for connection in self.connections.values_mut() {
            let Some(at) = connection.event else { continue };
            if let Some(event) = self.answers.events.get(at) {
                send(&mut connection.stream, event)?;
                streams += 1;
            }
            connection.event = Some(at + 1).filter(|next| *next < self.answers.events.len());
        }
        self.tick = (streams > 0).then(|| Instant::now() + PERIOD);
        Ok(())
    }
}

impl Connection {
    fn answer(&mut self, pace: Option<Pace>, answers: &Answers) -> Result<()> {
        match pace {
            None => send(&mut self.stream, &answers.whole),
            Some(Pace::Coalesced) => {
                let all = [answers.head.clone(), answers.events.concat()].concat();
                send(&mut self.stream, &all)
            }
            Some(Pace::OneByOne) => {
                self.event = Some(0);
                send(&mut self.stream, &answers.head)
            }
        }
    }
}

/// An answer to an Envoy that was stopped meanwhile goes nowhere.
fn send(stream: &mut TcpStream, bytes: &[u8]) -> Result<()> {
    let sent = match stream.write(bytes) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
            ) =>
        {
            return Ok(());
        }
        sent => sent?,
    };
    ensure!(sent == bytes.len(), "an answer was not taken whole");
    Ok(())
}

/// What came so far of a request. Of its body only the length is kept.
#[derive(Default)]
struct Request {
    head: Vec<u8>,
    /// Once the head is whole.
    missing: Option<usize>,
    pace: Option<Pace>,
}

impl Request {
    /// Takes what came; whether the request is whole with it.
    fn take(&mut self, bytes: &[u8]) -> Result<bool> {
        let body = match self.missing {
            Some(_) => bytes.len(),
            None => {
                self.head.extend(bytes);
                let Some(end) = self.head.windows(4).position(|four| four == b"\r\n\r\n") else {
                    return Ok(false);
                };
                let body = self.head.len() - end - 4;
                self.head.truncate(end);
                self.read_head()?;
                body
            }
        };
        let missing = self.missing.unwrap_or(0);
        let left = missing
            .checked_sub(body)
            .context("more than one request at once")?;
        self.missing = Some(left);
        Ok(left == 0)
    }

    fn read_head(&mut self) -> Result<()> {
        let text = std::str::from_utf8(&self.head)?;
        let header = |name: &str| {
            let mut lines = text.split("\r\n");
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        };
        let length = header("content-length").context("a request without content-length")?;
        self.missing = Some(length.parse()?);
        let pace = header(PACE_HEADER);
        self.pace = [Pace::OneByOne, Pace::Coalesced]
            .into_iter()
            .find(|known| pace == Some(known.name()));
        Ok(())
    }
}

impl Answers {
    fn of(model: &str) -> Self {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        Self {
            whole: whole(model),
            head: head.into(),
            events: events(model),
        }
    }
}

/// An answer whose body has 0.35 KB.
fn whole(model: &str) -> Vec<u8> {
    let body = serde_json::json!({
        "id": "chatcmpl-0123456789abcdef", "object": "chat.completion", "created": 1_767_225_600,
        "model": model,
        "choices": [{"index": 0, "finish_reason": "stop", "logprobs": null, "message": {
            "role": "assistant", "refusal": null,
            "content": "The rollout explains two of the three alerts; look at the third."}}],
        "usage": {"prompt_tokens": 150, "completion_tokens": 16, "total_tokens": 166},
    })
    .to_string();
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// 200 events with a token, one with the usage, and the end mark.
fn events(model: &str) -> Vec<Vec<u8>> {
    let token = format!(
        r#"{{"id":"chatcmpl-0123456789","model":"{model}","choices":[{{"index":0,"delta":{{"content":" alert"}}}}]}}"#
    );
    let usage = format!(
        r#"{{"id":"chatcmpl-0123456789","model":"{model}","choices":[],"usage":{{"prompt_tokens":150,"completion_tokens":200,"total_tokens":350}}}}"#
    );
    let last = [usage.as_str(), "[DONE]"];
    let chunk = |data: &str| {
        let event = format!("data: {data}\n\n");
        format!("{:x}\r\n{event}\r\n", event.len()).into_bytes()
    };
    let mut events: Vec<Vec<u8>> = std::iter::repeat_n(token.as_str(), EVENTS - last.len())
        .chain(last)
        .map(chunk)
        .collect();
    if let Some(end) = events.last_mut() {
        end.extend(b"0\r\n\r\n");
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_answers_each_request_on_a_connection_once_that_is_whole() {
        let mut stream = TcpStream::connect(start("m").unwrap()).unwrap();
        for _ in 0..3 {
            stream
                .write_all(b"POST / HTTP/1.1\r\ncontent-length: 4\r\n\r\nab")
                .unwrap();
            stream.write_all(b"cd").unwrap();
            let mut got = vec![0; whole("m").len()];
            stream.read_exact(&mut got).unwrap();
            assert_eq!(got, whole("m"));
        }
    }

    #[test]
    fn a_stream_has_the_same_events_at_either_pace() {
        let mut stream = TcpStream::connect(start("m").unwrap()).unwrap();
        let answers = Answers::of("m");
        let expected = [answers.head, answers.events.concat()].concat();
        for pace in [Pace::OneByOne, Pace::Coalesced] {
            let request = format!(
                "POST / HTTP/1.1\r\n{PACE_HEADER}: {}\r\ncontent-length: 0\r\n\r\n",
                pace.name()
            );
            stream.write_all(request.as_bytes()).unwrap();
            let began = Instant::now();
            let mut got = vec![0; expected.len()];
            stream.read_exact(&mut got).unwrap();
            assert_eq!(got, expected);
            if pace == Pace::OneByOne {
                assert!(began.elapsed() >= PERIOD * EVENTS as u32, "{:?}", began.elapsed());
            }
        }
    }

    #[test]
    fn answers_have_the_sizes_the_page_states() {
        let answer = String::from_utf8(whole(LARGE)).unwrap();
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        assert!((330..390).contains(&body.len()), "{}", body.len());
        let events = events(LARGE);
        assert_eq!(events.len(), EVENTS);
        assert!((110..130).contains(&events[0].len()), "{}", events[0].len());
    }
}

//! A model server that does nothing but answer: one thread, one constant answer of 0.35 KB.
//!
//! The harness has stand-ins that speak the APIs; they read what they are asked, and that takes CPU time which
//! the load needs.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use anyhow::{Context as _, Result, ensure};
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::fd::OwnedFd;

/// The listener's place among the connections.
const LISTENER: u64 = 0;

/// Starts it, for as long as the process lives; returns where it listens.
pub(crate) fn start() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let addr = listener.local_addr()?;
    let mut model = Model::new(listener)?;
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
    /// Each with what came so far of a request.
    connections: HashMap<u64, (TcpStream, Vec<u8>)>,
    next: u64,
    answer: Vec<u8>,
}

impl Model {
    fn new(listener: TcpListener) -> Result<Self> {
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
            answer: answer(),
        })
    }

    fn serve(&mut self) -> Result<()> {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(64);
        loop {
            events.clear();
            epoll::wait(&self.poll, spare_capacity(&mut events), None)?;
            for event in &events {
                match event.data.u64() {
                    LISTENER => self.accept()?,
                    connection => self.exchange(connection)?,
                }
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
        self.connections
            .insert(self.next, (stream, Vec::with_capacity(4096)));
        self.next += 1;
        Ok(())
    }

    fn exchange(&mut self, at: u64) -> Result<()> {
        let (stream, request) = self
            .connections
            .get_mut(&at)
            .context("an event of an unknown connection")?;
        let mut chunk = [0; 4096];
        let got = match stream.read(&mut chunk) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            // An Envoy that was stopped resets what it had open.
            got => got.unwrap_or(0),
        };
        if got == 0 {
            self.connections.remove(&at);
            return Ok(());
        }
        request.extend(chunk.iter().take(got));
        if whole(request)? {
            request.clear();
            let sent = stream.write(&self.answer)?;
            ensure!(sent == self.answer.len(), "an answer was not taken whole");
        }
        Ok(())
    }
}

/// Whether all of a request is there: its head, and as much body as that says.
fn whole(request: &[u8]) -> Result<bool> {
    let Some(head) = request.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(false);
    };
    let text = std::str::from_utf8(request.get(..head).unwrap_or_default())?;
    let length = text
        .split("\r\n")
        .find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.context("a request without content-length")?.parse()?;
    Ok(request.len() >= head + 4 + length)
}

fn answer() -> Vec<u8> {
    let body = serde_json::json!({
        "id": "chatcmpl-0123456789abcdef", "object": "chat.completion", "created": 1_767_225_600,
        "model": "llama-70b",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_answers_each_request_on_a_connection_once_that_is_whole() {
        let mut stream = TcpStream::connect(start().unwrap()).unwrap();
        for _ in 0..3 {
            stream
                .write_all(b"POST / HTTP/1.1\r\ncontent-length: 4\r\n\r\nab")
                .unwrap();
            stream.write_all(b"cd").unwrap();
            let mut got = vec![0; answer().len()];
            stream.read_exact(&mut got).unwrap();
            assert_eq!(got, answer());
        }
    }

    #[test]
    fn the_answer_has_the_size_the_page_states() {
        let answer = String::from_utf8(answer()).unwrap();
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        assert!((330..390).contains(&body.len()), "{}", body.len());
    }
}

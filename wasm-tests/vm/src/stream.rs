//! A request in flight: its body, its response and its end are the test's to send.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::exchange::Dir;
use crate::flow::Flow;
use crate::host::LocalReply;
use crate::outcome::Outcome;
use crate::response::Response;
use crate::world::World;

/// A request in flight. Dropped before its end, its client goes away.
#[must_use = "a stream that is dropped is aborted"]
pub struct Stream {
    world: World,
    flow: Rc<RefCell<Flow>>,
    chunks: VecDeque<Vec<u8>>,
    trailers: bool,
    upstream: Response,
}

impl Stream {
    pub(crate) fn new(
        world: World,
        flow: Rc<RefCell<Flow>>,
        chunks: VecDeque<Vec<u8>>,
        trailers: bool,
        upstream: Response,
    ) -> Self {
        Self {
            world,
            flow,
            chunks,
            trailers,
            upstream,
        }
    }

    #[track_caller]
    pub(crate) fn send_headers(&self) {
        let end = self.chunks.is_empty() && !self.trailers;
        self.step(|flow| flow.headers(Dir::Request, 0, end));
    }

    /// Sends the next chunk of the request's body, and the trailers after the last. False where all was sent.
    #[track_caller]
    pub fn send_chunk(&mut self) -> bool {
        let chunk = self.chunks.pop_front();
        let last = self.chunks.is_empty();
        let sent = chunk.is_some();
        if let Some(chunk) = chunk {
            self.step(|flow| flow.data(Dir::Request, 0, chunk, last && !self.trailers));
        }
        if last && self.trailers {
            self.trailers = false;
            self.step(|flow| flow.trailers(Dir::Request, 0));
            return true;
        }
        sent
    }

    /// Sends what is left of the request.
    #[track_caller]
    pub fn send_rest(&mut self) {
        while !self.is_over() && self.send_chunk() {}
    }

    /// Whether a filter holds the request or the response.
    #[must_use]
    pub fn is_held(&self) -> bool {
        let flow = self.flow.borrow();
        flow.held(Dir::Request) || flow.held(Dir::Response)
    }

    /// Whether the request's headers have reached the upstream.
    #[must_use]
    pub fn is_forwarded(&self) -> bool {
        self.flow.borrow().out[Dir::Request as usize].headers.is_some()
    }

    /// Whether it has ended: answered in full, or broken.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.flow.borrow().over
    }

    /// What has reached the client of the response's body so far.
    #[must_use]
    pub fn received(&self) -> Vec<u8> {
        self.flow.borrow().out[Dir::Response as usize].chunks.concat()
    }

    /// The whole response of the upstream that the request was described with.
    #[track_caller]
    pub fn respond(&self) {
        self.respond_with(self.upstream.clone());
    }

    /// The whole of another response.
    #[track_caller]
    pub fn respond_with(&self, response: Response) {
        let chunks = response.chunks.len();
        self.begin(
            response.headers,
            response.trailers.clone(),
            chunks == 0 && response.trailers.is_none(),
        );
        for (index, chunk) in response.chunks.into_iter().enumerate() {
            let end = index + 1 == chunks && response.trailers.is_none();
            self.step(|flow| flow.data(Dir::Response, 0, chunk, end));
        }
        if response.trailers.is_some() {
            self.step(|flow| flow.trailers(Dir::Response, 0));
        }
    }

    /// The headers of a response whose body the test sends by [`Stream::respond_chunk`].
    #[track_caller]
    pub fn respond_headers(&self, response: Response) {
        self.begin(response.headers, None, false);
    }

    /// A chunk of the response's body.
    #[track_caller]
    pub fn respond_chunk(&self, chunk: impl AsRef<[u8]>) {
        self.step(|flow| flow.data(Dir::Response, 0, chunk.as_ref().to_vec(), false));
    }

    /// The end of the response, as an empty last chunk.
    #[track_caller]
    pub fn respond_end(&self) {
        self.step(|flow| flow.data(Dir::Response, 0, Vec::new(), true));
    }

    /// The upstream's connection breaks. Before a response Envoy answers 503 by itself; after that the stream
    /// breaks too.
    #[track_caller]
    pub fn upstream_reset(&self) {
        let reply = LocalReply {
            status: 503,
            headers: Vec::new(),
            body: b"upstream connect error or disconnect/reset before headers".to_vec(),
            details: "upstream_reset_before_response_started".to_owned(),
            grpc_status: None,
        };
        self.step(|flow| flow.upstream_gone(reply));
    }

    /// Envoy's router has sent the request so many times by now: once, unless said, as soon as it is forwarded.
    pub fn attempts(&self, attempts: u32) {
        self.flow.borrow().exchange.borrow_mut().attempts = attempts.into();
    }

    /// The client goes away.
    #[track_caller]
    pub fn abort(self) -> Outcome {
        self.step(Flow::client_gone);
        self.outcome(false)
    }

    /// Sends what is left of the request, lets the upstream answer if it got there and has not begun to, and
    /// tells what became of it. What is held even then is given up by its client.
    #[track_caller]
    pub fn finish(mut self) -> Outcome {
        self.send_rest();
        let begun = !self.flow.borrow().exchange.borrow().response.headers.is_empty();
        if self.is_forwarded() && !self.is_over() && !begun && self.flow.borrow().request_ended() {
            self.respond();
        }
        let held = self.is_held();
        self.step(Flow::client_gone);
        self.outcome(held)
    }

    #[track_caller]
    fn begin(&self, headers: crate::headers::Headers, trailers: Option<crate::headers::Headers>, end: bool) {
        assert!(
            self.is_over() || self.is_forwarded(),
            "the request has not reached the upstream yet"
        );
        if self.is_over() {
            return;
        }
        self.step(|flow| {
            let mut exchange = flow.exchange.borrow_mut();
            assert!(
                exchange.response.headers.is_empty(),
                "the response has begun already"
            );
            (exchange.response.headers, exchange.response.trailers) = (headers, trailers);
            exchange.details = Some("via_upstream".to_owned());
            drop(exchange);
            flow.headers(Dir::Response, 0, end);
        });
    }

    #[track_caller]
    fn step(&self, step: impl FnOnce(&mut Flow)) {
        step(&mut self.flow.borrow_mut());
        for vm in self.flow.borrow().vms() {
            vm.raise();
        }
    }

    #[track_caller]
    fn outcome(&self, held: bool) -> Outcome {
        Outcome::of(&self.world, &self.flow.borrow(), held)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Not after a failed assertion: the VM may be in the middle of a call.
        if !std::thread::panicking() {
            self.flow.borrow_mut().client_gone();
        }
    }
}

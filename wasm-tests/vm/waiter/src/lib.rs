//! A filter that asks a server about each request, and waits for the answer: what waiting promises is tested with it.

use std::sync::Arc;

use tollgate_core::config::ConfigError;
use tollgate_core::reply::Reply;
use tollgate_host::{HttpFilter, RequestContext, RootContext, Step, Sweep, Wake};

/// Ticks after which nobody waits any more.
const PATIENCE: u32 = 3;

/// Asks the cluster `judge`.
pub struct Waiter;

/// What is remembered of a request.
#[derive(Default)]
pub struct Stream {
    ticks: u32,
}

impl HttpFilter for Waiter {
    const NAME: &'static str = "waiter";
    const WAITS: bool = true;
    type Config = ();
    type Stream = Stream;

    fn check(_configuration: Vec<u8>) -> Result<(), Vec<ConfigError>> {
        Ok(())
    }

    fn start(_config: Arc<()>, host: &mut RootContext) -> Result<Self, ConfigError> {
        host.tick_every(1_000).map_err(ConfigError::unusable)?;
        Ok(Self)
    }

    fn request_headers(&mut self, _stream: &mut Stream, host: &mut RequestContext, _end: bool) -> Step {
        let path = host.headers.text(":path").unwrap_or_default();
        let headers = [
            (":method", "GET"),
            (":path", path.as_str()),
            (":authority", "judge"),
        ];
        match host.call("judge", &headers, 5_000) {
            Ok(call) => Step::Wait(Some(call)),
            Err(_) => answer(500, "unasked"),
        }
    }

    fn resume(&mut self, stream: &mut Stream, host: &mut RequestContext, wake: Wake<'_>) -> Step {
        let Wake::Answered(_, answered) = wake else {
            stream.ticks += 1;
            return match stream.ticks {
                PATIENCE => answer(504, "late"),
                _ => Step::Wait(None),
            };
        };
        match answered
            .headers
            .as_ref()
            .and_then(|headers| headers.text(b":status"))
        {
            Some("200") => {
                let said = String::from_utf8_lossy(&answered.body);
                match host.headers.set("x-judge", &said) {
                    Ok(()) => Step::Continue,
                    Err(_) => answer(500, "unwritten"),
                }
            }
            _ => answer(403, "refused"),
        }
    }

    fn request_body(
        &mut self,
        _stream: &mut Stream,
        host: &mut RequestContext,
        len: Option<usize>,
        end: bool,
    ) -> Step {
        if !end {
            return Step::Hold;
        }
        let body = host.body.read().map_or(0, |body| body.len());
        if len.is_some_and(|len| len != body) || host.body.replace_beginning(0, b"seen:").is_err() {
            return answer(500, "body");
        }
        Step::Continue
    }

    fn tick(&mut self, _host: &mut RootContext) -> Sweep {
        Sweep::Streams
    }

    fn orphaned() -> Reply {
        reply(500, "orphaned")
    }
}

fn answer(status: u16, details: &str) -> Step {
    reply(status, details).into()
}

fn reply(status: u16, details: &str) -> Reply {
    Reply {
        status,
        details: details.into(),
        headers: Vec::new(),
        body: Vec::new(),
    }
}

tollgate_host::export!(tollgate_host::Module<Waiter>: request_headers, request_body, request_trailers, tick, http_call_response);

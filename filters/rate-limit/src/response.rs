//! The HTTP filter on the answer's way: tells how the limits stand, reads what was used, and settles it at the end.

use core::mem;

use tollgate_core::headers::tells_limits;
use tollgate_core::identity::{Identity, PROPERTY as IDENTITY};
use tollgate_core::journal::{Journal as _, Known};
use tollgate_core::limiter::{Finished, record_of_another};
use tollgate_core::route::ERRORED;
use tollgate_core::settlement::{Answer, Head};
use tollgate_core::spent::Spent;
use tollgate_core::state::Clock as _;
use tollgate_core::usage::record::PROPERTY;
use tollgate_core::usage::{Chunk, UsageEvent};
use tollgate_host::{Attribute, HeaderMap, LogContext, ResponseContext, StreamContext};

use crate::filter::{RateLimit, State, Stream};
use crate::kept::holding;

impl Stream {
    /// Adds how the limits stand, and gets ready to read the answer.
    pub fn answer_headers(&mut self, host: &mut ResponseContext, headers: Option<&HeaderMap>, end: bool) {
        let State::Open(request) = &mut self.0 else {
            return;
        };
        let now = host.stream.now().unwrap_or(request.began());
        let get = |name: &[u8]| headers.and_then(|headers| headers.get(name));
        let head = Head {
            status: headers.and_then(|headers| headers.text(b":status")),
            content_type: get(b"content-type"),
            content_encoding: get(b"content-encoding"),
            has_length: get(b"content-length").is_some(),
        };
        // Where its length can't be taken out, nothing else is.
        if head.is_shortened(request.terms(), request.usage_event)
            && host.headers.remove(b"content-length").is_err()
        {
            request.usage_event = UsageEvent::Pass;
        }
        let first_byte_ms = now.saturating_sub(request.began()) / 1_000_000;
        request.answer = Some(Answer::begin(
            request.terms(),
            &head,
            request.usage_event,
            first_byte_ms,
            end,
        ));
        let told = |name: &[u8]| request.headers.iter().any(|(own, _)| own.as_bytes() == name);
        for (name, _) in headers.iter().flat_map(|headers| headers.iter()) {
            // Those that it has at its provider, or makes up.
            if tells_limits(name) && !told(name) {
                let _ = host.headers.remove(name);
            }
        }
        for (name, value) in &request.headers {
            // In place of a model server's own. An answer without these headers is still the answer.
            let _ = host.headers.set_beside(headers, name, value);
        }
        host.stream.keep(|| request.so_far());
    }

    /// Reads what passes; takes out what the client did not ask for.
    pub fn answer_body(&mut self, host: &mut ResponseContext, len: usize, end: bool) {
        let State::Open(request) = &mut self.0 else {
            return;
        };
        let Some(answer) = &mut request.answer else {
            return;
        };
        let chunk = if len > 0 { host.body.read() } else { Ok(Vec::new()) };
        let Ok(chunk) = chunk else {
            return answer.skip(len as u64, end);
        };
        let read = answer.read(&chunk, end);
        if let Chunk::Replaced(bytes) = read.chunk {
            // Should it fail, the client sees its event with the usage, and perhaps a piece of one twice.
            let _ = host.body.replace(&[&bytes]);
        }
        if read.errored {
            // Not counted against its target at worst.
            let _ = host.stream.set_state(ERRORED, b"1");
        }
        host.stream.keep(|| request.so_far());
    }

    /// The answer is whole.
    pub fn answer_trailers(&mut self) {
        if let State::Open(request) = &mut self.0
            && let Some(answer) = &mut request.answer
        {
            answer.end();
        }
    }
}

impl RateLimit {
    /// Settles, and leaves the record for the access log. `spent` are attempts that came to nothing.
    pub fn end(&mut self, stream: &mut Stream, host: &mut LogContext, spent: Spent) {
        let known = match mem::take(&mut stream.0) {
            State::Unseen => answered_elsewhere(&host.stream),
            State::Refused(rejection) => {
                let finished = self.limiter.finish_rejected(*rejection);
                self.metrics.ended(&finished);
                Some(known(finished))
            }
            State::Open(request) => {
                let finished = holding(|holds| self.limiter.finish(&mut host.stream, holds, request, spent));
                self.metrics.finished(&finished);
                Some(known(finished))
            }
        };
        if let Some(known) = known {
            // The log has a line without them at worst.
            let _ = host.stream.set_state(PROPERTY, known.members.as_bytes());
            host.stream.keep(|| known);
        }
    }
}

fn known(finished: Finished) -> Known {
    Known {
        status: finished.status,
        members: finished.record,
    }
}

/// The record of a request that another filter answered; `None` if nobody knows whose it is.
fn answered_elsewhere(host: &StreamContext) -> Option<Known> {
    let who = Identity::decode(&host.state(IDENTITY).ok()?)?;
    let status = host.number(Attribute::Status);
    Some(Known {
        status: u16::try_from(status).unwrap_or(0),
        members: record_of_another(&who, status),
    })
}

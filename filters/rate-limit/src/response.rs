//! The HTTP filter on the answer's way: tells how the limits stand, reads what was used, and settles it at the end.

use core::mem;

use tollgate_core::headers::tells_limits;
use tollgate_core::identity::{Identity, PROPERTY as IDENTITY};
use tollgate_core::limiter::record_of_another;
use tollgate_core::route::ERRORED;
use tollgate_core::settlement::{Answer, Head};
use tollgate_core::spent::Spent;
use tollgate_core::usage::record::PROPERTY;
use tollgate_core::usage::{Chunk, UsageEvent};
use tollgate_host::{
    Action, Buffer, HeaderMap, Host, Map, now_nanos, number, property, read_buffer, remove_header,
    replace_in_buffer, set_header, set_property,
};

use crate::filter::{RateLimit, State, Stream};
use crate::kept::holding;

impl RateLimit {
    /// Adds how the limits stand, and gets ready to read the answer.
    pub fn response_headers(stream: &mut Stream, headers: Option<&HeaderMap>, end: bool) -> Action {
        let State::Open(request) = &mut stream.0 else {
            return Action::Continue;
        };
        let now = now_nanos().unwrap_or(request.began());
        let get = |name: &[u8]| headers.and_then(|headers| headers.get(name));
        let head = Head {
            status: headers.and_then(|headers| headers.text(b":status")),
            content_type: get(b"content-type"),
            content_encoding: get(b"content-encoding"),
            has_length: get(b"content-length").is_some(),
        };
        // Where its length can't be taken out, nothing else is.
        if head.is_shortened(request.terms(), request.usage_event)
            && remove_header(Map::Response, b"content-length").is_err()
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
                let _ = remove_header(Map::Response, name);
            }
        }
        for (name, value) in &request.headers {
            // In place of a model server's own. An answer without these headers is still the answer.
            let _ = set_header(Map::Response, name, value);
        }
        Action::Continue
    }

    /// Reads what passes; takes out what the client did not ask for.
    pub fn response_body(stream: &mut Stream, len: usize, end: bool) -> Action {
        let State::Open(request) = &mut stream.0 else {
            return Action::Continue;
        };
        let Some(answer) = &mut request.answer else {
            return Action::Continue;
        };
        let chunk = if len > 0 {
            read_buffer(Buffer::ResponseBody)
        } else {
            Ok(Vec::new())
        };
        let Ok(chunk) = chunk else {
            answer.skip(len as u64, end);
            return Action::Continue;
        };
        let read = answer.read(&chunk, end);
        if let Chunk::Replaced(bytes) = read.chunk {
            // Should it fail, the client sees its event with the usage, and perhaps a piece of one twice.
            let _ = replace_in_buffer(Buffer::ResponseBody, 0, len, &bytes);
        }
        if read.errored {
            // Not counted against its target at worst.
            let _ = set_property(ERRORED, b"1");
        }
        Action::Continue
    }

    /// The answer is whole.
    pub fn response_trailers(stream: &mut Stream) -> Action {
        if let State::Open(request) = &mut stream.0
            && let Some(answer) = &mut request.answer
        {
            answer.end();
        }
        Action::Continue
    }

    /// Settles, and leaves the record for the access log. `spent` are attempts that came to nothing.
    pub fn log(&mut self, stream: &mut Stream, spent: Spent) {
        let record = match mem::take(&mut stream.0) {
            State::Unseen => answered_elsewhere(),
            State::Refused(rejection) => {
                let finished = self.limiter.finish_rejected(*rejection);
                self.metrics.ended(&finished);
                Some(finished.record)
            }
            State::Open(request) => {
                let finished = holding(|holds| self.limiter.finish(&mut Host, holds, request, spent, &Host));
                self.metrics.finished(&finished);
                Some(finished.record)
            }
        };
        if let Some(record) = record {
            // The log has a line without them at worst.
            let _ = set_property(PROPERTY, record.as_bytes());
        }
    }
}

/// The record of a request that another filter answered; `None` if nobody knows whose it is.
fn answered_elsewhere() -> Option<String> {
    let who = Identity::decode(&property(&[IDENTITY]).ok()?)?;
    Some(record_of_another(&who, number(&["response", "code"])))
}

//! The HTTP filter on the answer's way: tells how the limits stand, reads what was used, and settles it at the end.

use core::mem;

use tollgate_core::headers::tells_limits;
use tollgate_core::route::ERRORED;
use tollgate_core::settlement::{self, Answer, Head, Settlement};
use tollgate_core::spent::Spent;
use tollgate_core::usage::record::{Outcome, PROPERTY, Record, Request, Used};
use tollgate_core::usage::{Chunk, UsageEvent};
use tollgate_host::{
    Action, Buffer, HeaderMap, Host, Map, now_nanos, read_buffer, remove_header, replace_in_buffer,
    set_header, set_property,
};

use crate::exchange::Current;
use crate::filter::{Open, RateLimit, Refused, State, Stream, answered_elsewhere};

impl RateLimit {
    /// Adds how the limits stand, and gets ready to read the answer.
    pub fn response_headers(stream: &mut Stream, headers: Option<&HeaderMap>, end: bool) -> Action {
        let State::Open(open) = &mut stream.0 else {
            return Action::Continue;
        };
        let now = now_nanos().unwrap_or(open.began);
        let get = |name: &[u8]| headers.and_then(|headers| headers.get(name));
        let head = Head {
            status: headers.and_then(|headers| headers.text(b":status")),
            content_type: get(b"content-type"),
            content_encoding: get(b"content-encoding"),
            has_length: get(b"content-length").is_some(),
        };
        // Where its length can't be taken out, nothing else is.
        if head.is_shortened(&open.terms, open.usage_event)
            && remove_header(Map::Response, b"content-length").is_err()
        {
            open.usage_event = UsageEvent::Pass;
        }
        let first_byte_ms = now.saturating_sub(open.began) / 1_000_000;
        open.answer = Some(Answer::begin(
            &open.terms,
            &head,
            open.usage_event,
            first_byte_ms,
            end,
        ));
        let told = |name: &[u8]| open.headers.iter().any(|(own, _)| own.as_bytes() == name);
        for (name, _) in headers.iter().flat_map(|headers| headers.iter()) {
            // Those that it has at its provider, or makes up.
            if tells_limits(name) && !told(name) {
                let _ = remove_header(Map::Response, name);
            }
        }
        for (name, value) in &open.headers {
            // In place of a model server's own. An answer without these headers is still the answer.
            let _ = set_header(Map::Response, name, value);
        }
        Action::Continue
    }

    /// Reads what passes; takes out what the client did not ask for.
    pub fn response_body(stream: &mut Stream, len: usize, end: bool) -> Action {
        let State::Open(open) = &mut stream.0 else {
            return Action::Continue;
        };
        let Some(answer) = &mut open.answer else {
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
        if let State::Open(open) = &mut stream.0
            && let Some(answer) = &mut open.answer
        {
            answer.end();
        }
        Action::Continue
    }

    /// Settles, and leaves the record for the access log. `spent` are attempts that came to nothing.
    pub fn log(&mut self, stream: &mut Stream, spent: Spent) {
        let members = match mem::take(&mut stream.0) {
            State::Unseen => answered_elsewhere(),
            State::Refused(refused) => Some(self.record_refused(&refused)),
            State::Open(open) => Some(self.settle(*open, spent)),
        };
        if let Some(members) = members {
            // The log has a line without them at worst.
            let _ = set_property(PROPERTY, members.as_bytes());
        }
    }

    fn record_refused(&mut self, refused: &Refused) -> String {
        let Refused {
            names,
            stream,
            reserved,
            limit,
            would_limit,
        } = refused;
        let caller = names.who.caller();
        self.metrics
            .ended(caller.org, &names.model, Outcome::Limited, &Used::NOTHING);
        let record = Record {
            caller,
            request: Some(Request {
                endpoint: names.endpoint,
                model: &names.model,
                stream: *stream,
                reserved_tokens: reserved.input.saturating_add(reserved.output),
            }),
            outcome: Outcome::Limited,
            used: Used::NOTHING,
            first_byte_ms: None,
            limit: limit.as_deref(),
            would_limit,
        };
        record.members()
    }

    fn settle(&mut self, open: Open, spent: Spent) -> String {
        let Open { terms, names, .. } = &open;
        let (org, model) = (&names.who.org, &names.model);
        let settlement = settlement::settle(terms, open.answer.as_ref(), spent, &Current, || {
            self.estimates.of(&mut Host, org, model)
        });
        if let Some(sample) = &settlement.sample {
            self.estimates.learn(org, model, &terms.demand, sample);
        }
        let now = now_nanos().unwrap_or(open.began);
        self.pending(|pending| settlement.carry_out(open.reservation, &mut Host, pending, now));
        if let Some(slot) = &open.slot {
            // Lost only with the store, and with it all slots.
            let _ = slot.release(&mut Host, &self.workers, now);
        }
        let Settlement { outcome, used, .. } = settlement;
        let first_byte = open.answer.as_ref().map(Answer::first_byte_ms);
        let caller = open.names.who.caller();
        self.metrics
            .ended_open(caller.org, &open.names.model, outcome, &used, first_byte);
        let record = Record {
            caller,
            request: Some(Request {
                endpoint: open.names.endpoint,
                model: &open.names.model,
                stream: open.terms.stream,
                reserved_tokens: open.terms.reserved_tokens(),
            }),
            outcome,
            used,
            first_byte_ms: first_byte,
            limit: None,
            would_limit: &open.would_limit,
        };
        record.members()
    }
}

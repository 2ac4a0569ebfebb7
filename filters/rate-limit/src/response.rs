//! The HTTP filter on the answer's way: tells how the limits stand, reads what was used, and settles it at the end.

use core::mem;

use tollgate_core::headers::tells_limits;
use tollgate_core::limits::Hold;
use tollgate_core::route::ERRORED;
use tollgate_core::spent::Spent;
use tollgate_core::usage::record::{Asked, Outcome, PROPERTY, Record, Used};
use tollgate_core::usage::{Extra, Form, Kind, Passed, Produced, Reader};
use tollgate_host::{
    Action, Buffer, HeaderMap, Host, Map, now_nanos, read_buffer, remove_header, replace_in_buffer,
    set_header, set_property,
};

use crate::ending::Ended;
use crate::filter::{Answer, Open, RateLimit, Refused, State, Stream, answered_elsewhere};
use crate::holds;

impl RateLimit {
    /// Adds how the limits stand, and gets ready to read the answer.
    pub fn response_headers(stream: &mut Stream, headers: Option<&HeaderMap>, end: bool) -> Action {
        let State::Open(open) = &mut stream.0 else {
            return Action::Continue;
        };
        let now = now_nanos().unwrap_or(open.began);
        let get = |name: &[u8]| headers.and_then(|headers| headers.get(name));
        let status = headers.and_then(|headers| headers.text(b":status"));
        let (endpoint, plain) = (open.names.endpoint, open.plain);
        let (label, coding) = (get(b"content-type"), get(b"content-encoding"));
        let kind = Kind::at(endpoint, plain, label);
        // Without what is taken out it is shorter. Where that can't be said, nothing is.
        if open.extra == Extra::Drop
            && kind.is_some()
            && status.is_some_and(|status| status < "4")
            && get(b"content-length").is_some()
            && remove_header(Map::Response, b"content-length").is_err()
        {
            open.extra = Extra::Pass;
        }
        let status = status.and_then(|status| status.parse().ok()).unwrap_or(0);
        open.answer = Some(Answer {
            status,
            first_byte_ms: now.saturating_sub(open.began) / 1_000_000,
            reader: Reader::coded(kind, open.extra, coding),
            form: Form::of(endpoint, plain, status, label, coding),
            unread: Produced::default(),
            whole: end,
            errored: false,
        });
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
        answer.whole |= end;
        let chunk = if len > 0 {
            read_buffer(Buffer::ResponseBody)
        } else {
            Ok(Vec::new())
        };
        match chunk {
            Ok(chunk) => {
                answer.form.push(&chunk);
                if let Passed::Changed(bytes) = answer.reader.push(&chunk, end) {
                    // Should it fail, the client sees its event with the usage, and perhaps a piece of one twice.
                    let _ = replace_in_buffer(Buffer::ResponseBody, 0, len, &bytes);
                }
                if !answer.errored && answer.status < 400 && answer.reader.errored() {
                    answer.errored = true;
                    // Not counted against its target at worst.
                    let _ = set_property(ERRORED, b"1");
                }
            }
            // What was not read cannot be counted on: settled by what went by so far.
            Err(_) => {
                let Produced { events, bytes } = answer.reader.produced();
                let unread = &mut answer.unread;
                unread.events = unread.events.saturating_add(events);
                unread.bytes = unread.bytes.saturating_add(bytes).saturating_add(len as u64);
                answer.reader = Reader::new(None, open.extra);
            }
        }
        Action::Continue
    }

    /// The answer is whole.
    pub fn response_trailers(stream: &mut Stream) -> Action {
        if let State::Open(open) = &mut stream.0
            && let Some(answer) = &mut open.answer
        {
            answer.whole = true;
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
            asked: Some(Asked {
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
        let spent = if open.repeats { spent } else { Spent::default() };
        let Ended {
            outcome,
            used,
            unsent,
            most,
            under_way,
        } = self.ended(&open, spent);
        let used = open.charged(outcome, used);
        let now = now_nanos().unwrap_or(open.began);
        let settled = match most {
            _ if unsent => open.reservation.cancel(&mut Host, now),
            None => open.reservation.settle(&mut Host, now, &used.amounts()),
            Some(most) => {
                let amounts = used.amounts();
                let (settled, hold) = open
                    .reservation
                    .settle_in_part(&mut Host, now, &amounts, &most, under_way);
                let until = now.saturating_add(self.config.abandoned_hold.nanos());
                let beyond = hold.and_then(|hold| holds::keep(until, hold));
                if let Some(places) = beyond.and_then(Hold::places) {
                    self.later(places.release(&mut Host, now));
                }
                settled
            }
        };
        self.later(settled);
        if let Some(place) = &open.place {
            // Lost only with the store, and with it all places.
            let _ = place.free(&self.owners, now);
        }
        let first_byte = open.answer.as_ref().map(|answer| answer.first_byte_ms);
        let caller = open.names.who.caller();
        self.metrics
            .ended_open(caller.org, &open.names.model, outcome, &used, first_byte);
        let record = Record {
            caller,
            asked: Some(Asked {
                endpoint: open.names.endpoint,
                model: &open.names.model,
                stream: open.stream,
                reserved_tokens: open.reserved.input.saturating_add(open.reserved.output),
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

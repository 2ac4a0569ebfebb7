//! What an answer of a provider says of our credential there, as it passes.
//!
//! - The secret itself is covered wherever it stands in text.
//! - An error is looked at whole: pieces of the secret are covered, and whatever looks like a credential. One that is too
//!   long to be looked at does not pass.
//! - A document that began with success and is an error gets the status that it should have had, while its headers are
//!   still here: so another target is asked, or the customer is answered as for any error with that status.
//! - An event that tells of our credential or quota becomes an error of ours in its place.
//!
//! Nothing is held of a normal answer but what may be the beginning of an event or of the secret, and of a document its
//! first 64 KiB.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use memchr::memrchr;

use super::secret::Secret;
use crate::body::Coding;
use crate::fault::{Fault, Inside, LONGEST_BODY, redacted};
use crate::reply::Reader;
use crate::usage::Kind;

/// What is decoded of a document at most.
const LONGEST_DECODED: u64 = 1 << 20;

static ERROR: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"error"));

/// What becomes of a piece of an answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Screened {
    /// It passes as it is.
    Whole,
    /// This is in its place.
    Changed(Vec<u8>),
    /// As [`Self::Changed`], and the answer is JSON with this status.
    Failed(u16, Vec<u8>),
    /// It waits, with what comes next.
    Waits,
}

/// Screens one answer.
pub struct Screen {
    secret: Secret,
    reader: Reader,
    form: Form,
    /// What may be the beginning of the secret.
    begun: Vec<u8>,
    /// Whether what passes is of an error that is too long to be looked at whole.
    errs: bool,
    /// Whether what was in a coding is in none any more.
    decoded: bool,
    /// Faults that events told.
    faults: Vec<Fault>,
}

enum Form {
    /// Nothing but white space has come; whether only its first byte can tell that it is text.
    Unseen { silent: bool },
    /// An error, which waits until it is whole.
    Error,
    /// A document, which waits until it is whole, and its headers with it.
    Document,
    /// The same of what may be one once it is decoded.
    Coded(Coding),
    /// Events, or lines of JSON, of which a part is held.
    Events { lines: bool, held: Vec<u8> },
    /// Text of which only the secret is of interest.
    Text,
    /// Nothing of it is text.
    Opaque,
    /// Nothing more of it passes.
    Ended,
}

impl Screen {
    /// For an answer with this status and these headers, to a request for which the secret was used.
    pub fn new(
        secret: Secret,
        reader: Reader,
        status: u16,
        content_type: &[u8],
        content_encoding: &[u8],
    ) -> Self {
        let essence = content_type
            .split(|byte| *byte == b';')
            .next()
            .unwrap_or_default();
        let essence = essence.trim_ascii().to_ascii_lowercase();
        let form = match essence.as_slice() {
            _ if !(200..300).contains(&status) => Form::Error,
            // A stream would have to wait for its end.
            b"text/event-stream" if is_coded(content_encoding) => Form::Opaque,
            _ if is_coded(content_encoding) => {
                let coding = Coding::read(core::iter::once(content_encoding));
                coding.ok().flatten().map_or(Form::Opaque, Form::Coded)
            }
            b"text/event-stream" => Form::Events {
                lines: false,
                held: Vec::new(),
            },
            _ if Kind::of(Some(content_type)) == Some(Kind::Lines) => Form::Events {
                lines: true,
                held: Vec::new(),
            },
            kind => Form::Unseen {
                silent: [&b"audio/"[..], b"image/", b"video/"]
                    .iter()
                    .any(|begin| kind.starts_with(begin)),
            },
        };
        Self {
            secret,
            reader,
            form,
            begun: Vec::new(),
            errs: false,
            decoded: false,
            faults: Vec::new(),
        }
    }

    /// Whether a header has the secret in it.
    pub fn is_in_header(&mut self, value: &[u8]) -> bool {
        self.secret.is_in(value)
            || (matches!(self.form, Form::Error) && self.secret.cover_pieces(&mut value.to_vec()))
    }

    /// Whether the answer's headers wait for its body.
    pub fn holds_headers(&self) -> bool {
        matches!(self.form, Form::Unseen { .. } | Form::Document | Form::Coded(_))
    }

    /// Whether one of so many bytes may become longer or shorter once its headers went.
    pub fn may_resize(&self, len: usize) -> bool {
        match self.form {
            Form::Events { .. } => true,
            Form::Error => len > LONGEST_BODY,
            _ => false,
        }
    }

    /// Whether there is nothing to do with its body.
    pub fn is_done(&self) -> bool {
        matches!(self.form, Form::Opaque)
    }

    /// Whether its body waits: `len` bytes of it are here, `end` if these are all.
    pub fn waits(&self, len: usize, end: bool) -> bool {
        matches!(self.form, Form::Error | Form::Document | Form::Coded(_)) && !end && len <= LONGEST_BODY
    }

    /// Whether what was in a coding is in none any more.
    pub fn is_decoded(&self) -> bool {
        self.decoded
    }

    /// Faults that events told since the last time; each was replaced.
    pub fn faults(&mut self) -> Vec<Fault> {
        core::mem::take(&mut self.faults)
    }

    /// Screens what is here: all that waited, or the next piece. `end` if nothing follows.
    pub fn push(&mut self, body: &[u8], end: bool) -> Screened {
        if let Form::Unseen { silent } = self.form {
            let blank = |byte: &u8| b" \t\r\n\xef\xbb\xbf".contains(byte);
            self.form = match body.iter().find(|byte| !blank(byte)) {
                None if !end && body.len() <= LONGEST_BODY => return Screened::Waits,
                Some(b'{' | b'[') => Form::Document,
                _ if silent => Form::Opaque,
                // A field's name or a comment.
                Some(b'd' | b'e' | b'i' | b'r' | b':') => Form::Events {
                    lines: false,
                    held: Vec::new(),
                },
                _ => Form::Text,
            };
            if self.waits(body.len(), end) {
                return Screened::Waits;
            }
        }
        match &mut self.form {
            Form::Error => self.error(body, end),
            Form::Document => self.document(body, end),
            Form::Coded(coding) => {
                let coding = *coding;
                self.coded(coding, body, end)
            }
            Form::Events { lines, held } => {
                let (lines, held) = (*lines, core::mem::take(held));
                self.events(body, lines, held, end)
            }
            Form::Text | Form::Unseen { .. } => self.text(body, end),
            Form::Opaque => Screened::Whole,
            Form::Ended => Screened::Changed(Vec::new()),
        }
    }

    fn error(&mut self, body: &[u8], end: bool) -> Screened {
        self.form = Form::Ended;
        if !end || body.len() > LONGEST_BODY {
            // Who reads it finds nothing, and makes an error of ours of it.
            return Screened::Changed(Vec::new());
        }
        let mut clean = body.to_vec();
        match self.secret.cover_pieces(&mut clean) {
            true => Screened::Changed(clean),
            false => Screened::Whole,
        }
    }

    /// What is compressed passes as it is if there is nothing to change in it.
    fn coded(&mut self, coding: Coding, body: &[u8], end: bool) -> Screened {
        self.form = Form::Opaque;
        let Some(decoded) = end.then(|| coding.decode(body, LONGEST_DECODED).ok()).flatten() else {
            return Screened::Whole;
        };
        let screened = self.document(&decoded, true);
        self.form = Form::Opaque;
        self.decoded = screened != Screened::Whole;
        screened
    }

    fn document(&mut self, body: &[u8], end: bool) -> Screened {
        self.form = Form::Text;
        self.errs = !end && tells(body);
        let inside = (end && ERROR.find(body).is_some()).then(|| Inside::read(unmarked(body)));
        let Some(Some(inside)) = inside else {
            return self.text(body, end);
        };
        let mut clean = body.to_vec();
        self.secret.cover_pieces(&mut clean);
        match inside.status() {
            Some(status) => Screened::Failed(status, clean),
            None => Screened::Changed(cleaned(clean)),
        }
    }

    /// Text of which nothing is known.
    fn text(&mut self, body: &[u8], end: bool) -> Screened {
        if self.errs {
            let mut clean = [&core::mem::take(&mut self.begun)[..], body].concat();
            self.secret.cover_pieces(&mut clean);
            return Screened::Changed(clean);
        }
        if self.begun.is_empty() && !self.secret.is_in(body) && (end || self.secret.begun(body) == 0) {
            return Screened::Whole;
        }
        let mut all = core::mem::take(&mut self.begun);
        all.extend_from_slice(body);
        self.secret.cover(&mut all);
        if !end {
            let begun = self.secret.begun(&all);
            self.begun = all.split_off(all.len() - begun);
        }
        Screened::Changed(all)
    }

    fn events(&mut self, body: &[u8], lines: bool, mut held: Vec<u8>, end: bool) -> Screened {
        let whole = if end { body.len() } else { behind_last(body, lines) };
        if held.is_empty() && whole == body.len() && !self.errs && ERROR.find(body).is_none() {
            self.form = Form::Events { lines, held };
            return self.text(body, end);
        }
        // An event's end may stand across two pieces.
        let from = held.len().saturating_sub("\r\n\r".len());
        held.extend_from_slice(body);
        let mut whole = match behind_last(held.get(from..).unwrap_or_default(), lines) {
            _ if end => held.len(),
            0 => 0,
            behind => from + behind,
        };
        let too_long = held.len() - whole > LONGEST_BODY;
        if too_long {
            // It is not looked at whole.
            whole = held.len();
        }
        if whole == 0 {
            self.form = Form::Events { lines, held };
            return Screened::Changed(Vec::new());
        }
        let rest = held.split_off(whole);
        let out = match ERROR.find(&held) {
            Some(_) => self.each(&held, lines),
            None => held,
        };
        self.form = Form::Events { lines, held: rest };
        self.errs |= too_long && tells(&out);
        let screened = self.text(&out, end);
        self.errs &= too_long;
        match screened {
            Screened::Changed(out) => Screened::Changed(out),
            _ => Screened::Changed(out),
        }
    }

    /// Whole events, of which one may tell of an error.
    fn each(&mut self, mut events: &[u8], lines: bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(events.len());
        while !events.is_empty() {
            let (event, rest) = events.split_at(behind_first(events, lines));
            events = rest;
            match ERROR.find(event).and_then(|_| read_event(event, lines)) {
                None => out.extend_from_slice(event),
                Some(inside) => match inside.fault() {
                    Some(fault) => {
                        self.faults.push(fault);
                        out.extend_from_slice(&self.reader.event(&fault.answer(), lines));
                    }
                    None => {
                        let mut clean = event.to_vec();
                        self.secret.cover_pieces(&mut clean);
                        out.append(&mut cleaned(clean));
                    }
                },
            }
        }
        out
    }
}

/// Without what looks like a credential.
fn cleaned(error: Vec<u8>) -> Vec<u8> {
    let clean = core::str::from_utf8(&error).ok().and_then(redacted);
    clean.map_or(error, String::into_bytes)
}

/// Whether a member of a text may be an error.
fn tells(text: &[u8]) -> bool {
    let member = Finder::new(br#""error""#);
    let is_null = |at: usize| {
        let value = text
            .get(at + member.needle().len()..)
            .unwrap_or_default()
            .trim_ascii_start();
        let value = value.strip_prefix(b":").map(<[u8]>::trim_ascii_start);
        value.is_none_or(|value| value.starts_with(b"null"))
    };
    member.find_iter(text).any(|at| !is_null(at))
}

fn is_coded(content_encoding: &[u8]) -> bool {
    let coding = content_encoding.trim_ascii();
    !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity")
}

fn unmarked(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

/// The error that an event tells of.
fn read_event(event: &[u8], line: bool) -> Option<Inside> {
    let whole = unmarked(event.trim_ascii());
    // A document where events should be is one, too.
    if line || whole.starts_with(b"{") {
        return Inside::read(whole);
    }
    let mut data = Vec::new();
    let mut named = false;
    for line in event.split(|byte| matches!(byte, b'\n' | b'\r')) {
        let (name, value) = match memchr::memchr(b':', line) {
            Some(colon) => line.split_at(colon),
            None => (line, &b""[..]),
        };
        let value = value.strip_prefix(b":").unwrap_or(value).trim_ascii_start();
        match unmarked(name) {
            b"data" => data.extend_from_slice(value),
            b"event" => named |= value == b"error",
            // llama.cpp's.
            b"error" => {
                named = true;
                data.extend_from_slice(value);
            }
            _ => {}
        }
    }
    let text = || core::str::from_utf8(&data).ok().map(Inside::text);
    Inside::read(&data).or_else(|| {
        if named {
            Inside::named(&data).or_else(text)
        } else {
            None
        }
    })
}

/// Where the last whole event ends.
fn behind_last(bytes: &[u8], lines: bool) -> usize {
    let mut to = bytes.len();
    while let Some(at) = memrchr(b'\n', bytes.get(..to).unwrap_or_default()) {
        let before = bytes.get(..at).unwrap_or_default();
        if lines || before.ends_with(b"\n") || before.ends_with(b"\n\r") {
            return at + 1;
        }
        to = at;
    }
    // Lines that end in CR alone.
    let returns = bytes.windows(2).rposition(|two| two == b"\r\r");
    returns.map_or(0, |at| at + 2)
}

/// Where the first event ends.
fn behind_first(bytes: &[u8], lines: bool) -> usize {
    let mut line = 0;
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'\n' if lines || at == line || (at == line + 1 && bytes.get(line) == Some(&b'\r')) => {
                return at + 1;
            }
            b'\n' => line = at + 1,
            b'\r' if bytes.get(at + 1) == Some(&b'\r') => return at + 2,
            _ => {}
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::Endpoint;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    const SECRET: &str = "sk-or-v1-8fK2mQ9xWzPq77Lr-tTy3";

    fn screen(endpoint: Endpoint, status: u16, content_type: &str) -> Screen {
        let path: &[u8] = match endpoint {
            Endpoint::Messages => b"/v1/messages",
            Endpoint::Responses => b"/v1/responses",
            _ => b"/v1/chat/completions",
        };
        let reader = Reader::of(Some(path), Some("r-1"));
        Screen::new(Secret::new(SECRET), reader, status, content_type.as_bytes(), b"")
    }

    /// What passes of a body that comes in pieces, as a host hands them over, and the status that it gets.
    fn passed(mut screen: Screen, body: &[u8], size: usize) -> (Option<u16>, Vec<u8>) {
        let (mut out, mut held, mut status) = (Vec::new(), Vec::new(), None);
        let last = body.len().div_ceil(size.max(1)).max(1) - 1;
        for place in 0..=last {
            let piece = body.chunks(size.max(1)).nth(place).unwrap_or_default();
            held.extend_from_slice(piece);
            let end = place == last;
            if screen.waits(held.len(), end) {
                continue;
            }
            match screen.push(&held, end) {
                Screened::Waits => continue,
                Screened::Whole => out.append(&mut held),
                Screened::Changed(new) => out.extend_from_slice(&new),
                Screened::Failed(code, new) => {
                    status = Some(code);
                    out.extend_from_slice(&new);
                }
            }
            held.clear();
        }
        (status, out)
    }

    fn json_of(body: &Value) -> (Option<u16>, String) {
        let text = body.to_string();
        let new = || screen(Endpoint::Chat, 200, "application/json");
        let (status, whole) = passed(new(), text.as_bytes(), text.len());
        for size in [1, 7, 50] {
            assert_eq!(
                passed(new(), text.as_bytes(), size),
                (status, whole.clone()),
                "{size} {text}"
            );
        }
        (status, String::from_utf8(whole).unwrap())
    }

    #[test]
    fn an_error_gets_the_status_that_it_should_have_had() {
        for (body, status) in [
            (
                json!({"error": {"message": format!("Incorrect API key provided: {SECRET}"), "code": "invalid_api_key"}}),
                Some(403),
            ),
            (
                json!({"error": {"message": "No auth credentials found", "code": 401}}),
                Some(401),
            ),
            (json!({"error": {"message": "x", "code": "402"}}), Some(402)),
            (
                json!({"error": {"message": "You exceeded your current quota"}}),
                Some(429),
            ),
            (
                json!({"error": {"message": "x", "code": "model_not_found"}}),
                Some(404),
            ),
            (
                json!([{"error": {"message": "API key expired", "code": 400}}]),
                Some(403),
            ),
            (
                json!({"type": "error", "error": {"type": "authentication_error", "message": "x"}}),
                Some(403),
            ),
            (json!({"object": "error", "message": "x", "code": 404}), Some(404)),
            (json!({"error": "too many", "code": 429}), Some(429)),
            (
                json!({"error": {"message": "Provider returned error", "code": 502}}),
                Some(502),
            ),
            // A whole answer, and errors that say nothing of a status.
            (
                json!({"error": {"message": "x", "code": 502}, "choices": [{"text": "a"}]}),
                None,
            ),
            (
                json!({"status": "failed", "error": {"code": "server_error", "message": "x"}, "output": []}),
                None,
            ),
            (json!({"error": null, "output": [{"content": "API key"}]}), None),
            (
                json!({"choices": [{"message": {"content": "error: API key"}}]}),
                None,
            ),
            (json!({"error": {"message": "x", "code": 200}}), None),
        ] {
            assert_eq!(json_of(&body).0, status, "{body}");
        }
    }

    #[test]
    fn the_secret_passes_in_no_document() {
        let long = "x".repeat(2 * LONGEST_BODY);
        for body in [
            json!({"choices": [{"message": {"content": format!("it is {SECRET}!")}}]}),
            json!({"error": {"message": format!("bad {SECRET}")}}),
            json!({"a": long, "b": SECRET}),
            json!({"a": long, "error": {"message": SECRET}}),
            json!({"b": SECRET, "a": long}),
        ] {
            let (_, out) = json_of(&body);
            assert!(!out.contains(SECRET) && out.len() == body.to_string().len());
        }
        let (_, out) = json_of(&json!({"error": {"message": "key sk-or...tTy3 of org-Abc1234 is slow"}}));
        assert_eq!(
            out,
            r#"{"error":{"message":"key *****...**** of [redacted] is slow"}}"#
        );
    }

    #[test]
    fn an_error_is_looked_at_whole_or_does_not_pass() {
        let told = json!({"error": {"message": "key ****tTy3: the prompt is too long"}}).to_string();
        let long = json!({"error": {"message": "x".repeat(LONGEST_BODY)}}).to_string();
        for size in [1, 10, 10_000, 100_000] {
            let (_, out) = passed(
                screen(Endpoint::Chat, 400, "application/json"),
                told.as_bytes(),
                size,
            );
            assert_eq!(out, told.replace("****tTy3", "********").as_bytes());
            let (_, out) = passed(
                screen(Endpoint::Chat, 400, "application/json"),
                long.as_bytes(),
                size,
            );
            assert_eq!(out, b"", "{size}");
        }
    }

    fn events(endpoint: Endpoint, body: &str) -> String {
        let new = || screen(endpoint, 200, "text/event-stream");
        let (_, whole) = passed(new(), body.as_bytes(), body.len());
        for size in 1..30 {
            assert_eq!(passed(new(), body.as_bytes(), size).1, whole, "{size} {body}");
        }
        String::from_utf8(whole).unwrap()
    }

    #[test]
    fn an_event_that_tells_of_us_becomes_ours() {
        let ours = "\"code\":\"model_unavailable\"";
        let normal = "data: {\"choices\":[{\"delta\":{\"content\":\"an error with an API key\"}}]}\n\n";
        for error in [
            "data: {\"error\":{\"message\":\"Incorrect API key provided\"}}\n\n",
            "data: {\"error\":{\"message\":\"x\",\"code\":401}}\r\n\r\n",
            "event: error\ndata: {\"message\":\"insufficient credit\"}\n\n",
            "event: error\ndata: bad API key\n\n",
            "error: {\"code\":401,\"message\":\"x\"}\n\n",
            "{\"error\":{\"message\":\"bad API key\"}}\n\n",
            "data: {\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"insufficient_quota\"}}}\r\r",
            "data: {\"error\":\ndata: {\"message\":\"bad API key\"}}\n\n",
        ] {
            let out = events(Endpoint::Chat, &format!("{normal}{error}{normal}"));
            assert!(
                out.starts_with(normal) && out.ends_with(normal) && out.contains(ours),
                "{error}: {out}"
            );
            assert_eq!(out.matches("API key").count(), 2, "{out}");
            let alone = events(Endpoint::Messages, error);
            assert!(
                alone.starts_with("event: error\ndata: {\"type\":\"error\""),
                "{alone}"
            );
            let alone = events(Endpoint::Responses, error);
            assert!(
                alone.contains("\"type\":\"error\"") && alone.contains(ours),
                "{alone}"
            );
            // Without its end it is no event, but it is text that passes.
            let cut = events(Endpoint::Chat, error.trim_ascii_end());
            assert!(!cut.contains("API key"), "{cut}");
        }
    }

    #[test]
    fn other_events_pass_without_the_secret() {
        for same in [
            "data: {\"choices\":[],\"error\":null}\n\n: error\n\ndata: [DONE]\n\n",
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n",
            "data: error",
            "\n\n\r\n\r\n",
        ] {
            assert_eq!(events(Endpoint::Chat, same), same);
        }
        let told = format!(
            "data: {{\"error\":{{\"message\":\"slow: ****tTy3\"}}}}\n\ndata: {{\"text\":\"{SECRET}\"}}\n\n"
        );
        let out = events(Endpoint::Chat, &told);
        assert!(!out.contains("tTy3") && out.len() == told.len(), "{out}");
        // Lines of JSON.
        let lines = "{\"a\":1}\n{\"error\":\"bad API key\"}\n{\"a\":2}\n";
        let (_, out) = passed(
            screen(Endpoint::Chat, 200, "application/x-ndjson"),
            lines.as_bytes(),
            5,
        );
        let out = String::from_utf8(out).unwrap();
        assert!(
            out.starts_with("{\"a\":1}\n{\"error\":{") && out.ends_with("}}\n{\"a\":2}\n"),
            "{out}"
        );
    }

    /// Of an error that can't be looked at whole.
    #[test]
    fn no_piece_passes_in_an_error_of_any_length() {
        let long = "x".repeat(3 * LONGEST_BODY / 2);
        for told in [
            json!({"a": "", "error": {"message": format!("sk-or...tTy3 {long} ****tTy3")}}).to_string(),
            json!({"error": {"message": format!("{long} sk-or...tTy3")}}).to_string(),
        ] {
            let event = format!("data: {told}\n\ndata: {{\"a\":\"tTy3\"}}\n\n");
            for size in [500, 70_000, 200_000] {
                let (_, out) = passed(
                    screen(Endpoint::Chat, 200, "application/json"),
                    told.as_bytes(),
                    size,
                );
                assert!(!String::from_utf8(out).unwrap().contains("tTy3"), "{size}");
                let (_, out) = passed(
                    screen(Endpoint::Chat, 200, "text/event-stream"),
                    event.as_bytes(),
                    size,
                );
                let out = String::from_utf8(out).unwrap();
                // Of the next event at most what came with the end of this one.
                assert!(
                    out.len() == event.len() && out.matches("tTy3").count() <= 1,
                    "{size}"
                );
            }
        }
    }

    #[test]
    fn what_is_compressed_is_looked_at() {
        let new = || {
            let mut screen = screen(Endpoint::Chat, 200, "application/json");
            screen.form = Form::Coded(Coding::Gzip);
            screen
        };
        let gzip = |text: &str| {
            let mut coder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut coder, text.as_bytes()).unwrap();
            coder.finish().unwrap()
        };
        for size in [1, 50, 1000] {
            let good = gzip(r#"{"choices":[{"text":"a"}]}"#);
            assert_eq!(passed(new(), &good, size), (None, good.clone()));
            let bad = gzip(r#"{"error":{"message":"bad API key"}}"#);
            assert_eq!(passed(new(), &bad, size).0, Some(403));
            let ours = gzip(&format!(r#"{{"text":"{SECRET}"}}"#));
            let out = String::from_utf8(passed(new(), &ours, size).1).unwrap();
            assert_eq!(out, r#"{"text":"******************************"}"#);
            // Neither of these can be decoded.
            for other in [&b"not gzip"[..], good.get(..20).unwrap()] {
                assert_eq!(passed(new(), other, size), (None, other.to_vec()));
            }
        }
    }

    #[test]
    fn what_is_held_is_bounded() {
        let mut screen = screen(Endpoint::Chat, 200, "text/event-stream");
        let mut passed = 0;
        for _ in 0..1000 {
            match screen.push(&[b'e'; 1024], false) {
                Screened::Changed(out) => passed += out.len(),
                Screened::Whole => passed += 1024,
                _ => panic!(),
            }
        }
        assert!(passed > 900 * 1024);
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces(
            parts in proptest::collection::vec("\n|\n\n|\r\n|data: |error|\\{\"error\":|sk-or-v1-8fK2mQ9xWzPq77Lr-tTy3|sk-or|[a-z{}\":]{0,9}", 0..20),
            kind in "text/event-stream|application/json|text/plain|application/jsonl|audio/mpeg",
            size in 1..50_usize,
        ) {
            let body = parts.concat();
            let (status, whole) = passed(screen(Endpoint::Chat, 200, &kind), body.as_bytes(), body.len());
            prop_assert_eq!(&passed(screen(Endpoint::Chat, 200, &kind), body.as_bytes(), size), &(status, whole.clone()));
            let out = String::from_utf8(whole).unwrap();
            prop_assert!(kind == "audio/mpeg" || !out.contains(SECRET), "{}", out);
        }
    }
}

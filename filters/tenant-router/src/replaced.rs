//! Errors of targets that say something of us instead of the request: customers get another answer in their place.

use tollgate_core::fault::{Fault, LONGEST_BODY, Sight, judge, sight};
use tollgate_core::reply::{Reader, Reply};
use tollgate_host::{
    self as host, Action, Buffer, HeaderMap, Level, Map, Result, log, property, read_buffer, remove_header,
    replace_in_buffer, set_header,
};

use crate::filter::{NAME, status};

/// A fault, and the status of the answer that told it.
pub(crate) type Found = (u16, Fault);

/// Headers that belong to an answer which is replaced.
const ITS_OWN: [&[u8]; 7] = [
    b"content-encoding",
    b"location",
    b"proxy-authenticate",
    b"set-cookie",
    b"trailer",
    b"transfer-encoding",
    b"www-authenticate",
];

/// What becomes of an answer.
#[derive(Default)]
pub(crate) enum Answer {
    /// It passes.
    #[default]
    Passes,
    /// Its headers wait until its body tells; its status.
    Unclear(u16),
    /// This body is in the place of its own; empty once it went out.
    Replaced(Vec<u8>),
    /// It was answered apart from the target's.
    Answered,
}

impl Answer {
    /// Judges an answer by its headers, `end` if it has no body. The fault, where there is one.
    pub(crate) fn headers(&mut self, headers: &HeaderMap, end: bool, reader: &Reader) -> Option<Found> {
        let status = status(headers);
        // Our own answers and Envoy's come by here too.
        if (200..300).contains(&status) || property(&["response", "code_details"]).ok()? != b"via_upstream" {
            return None;
        }
        let coded = headers
            .get(b"content-encoding")
            .is_some_and(|coding| !coding.trim_ascii().eq_ignore_ascii_case(b"identity"));
        let fault = match sight(status, headers.get(b"content-type")) {
            Sight::Passes => return None,
            Sight::Fault(fault) => fault,
            // None that could be read. A server that codes its errors unasked is rare.
            Sight::Unclear if end || coded => Fault::Unreadable(status),
            Sight::Unclear => {
                *self = Self::Unclear(status);
                return None;
            }
        };
        // Behind a status that is none there is no telling what follows, or whether anything does.
        if end || !(200..600).contains(&status) {
            answer(fault, reader);
            *self = Self::Answered;
        } else {
            self.replace(fault, reader);
        }
        Some((status, fault))
    }

    /// What the answer's headers do now.
    pub(crate) fn action(&self) -> Action {
        match self {
            Self::Passes | Self::Replaced(_) => Action::Continue,
            Self::Unclear(_) | Self::Answered => Action::Pause,
        }
    }

    /// Whether there is nothing to do with its body.
    pub(crate) fn passes(&self) -> bool {
        matches!(self, Self::Passes)
    }

    /// Its body: `len` bytes that are here, those held back included; `None` if all of it is held. The fault, where the
    /// body tells one.
    pub(crate) fn body(&mut self, len: Option<usize>, end: bool, reader: &Reader) -> (Action, Option<Found>) {
        let fault = match *self {
            Self::Passes => return (Action::Continue, None),
            Self::Answered => return (Action::Pause, None),
            Self::Replaced(_) => None,
            Self::Unclear(status) => {
                if !end && len.is_some_and(|len| len <= LONGEST_BODY) {
                    return (Action::Pause, None);
                }
                self.read_body(status, end, reader)
            }
        };
        if let Self::Replaced(body) = self {
            let body = core::mem::take(body);
            replace_body(&body);
        }
        (Action::Continue, fault)
    }

    fn read_body(&mut self, status: u16, whole: bool, reader: &Reader) -> Option<Found> {
        *self = Self::Passes;
        // Nobody reads an error of that length, but it may be about the request.
        let body = read_buffer(Buffer::ResponseBody).ok();
        let body = body.filter(|body| whole && body.len() <= LONGEST_BODY)?;
        match judge(status, &body) {
            Ok(None) => None,
            Ok(Some(clean)) => {
                let _ = set_header(Map::Response, "content-length", &clean.len().to_string());
                *self = Self::Replaced(clean);
                None
            }
            Err(fault) => {
                self.replace(fault, reader);
                Some((status, fault))
            }
        }
    }

    fn replace(&mut self, fault: Fault, reader: &Reader) {
        let error = fault.answer();
        let body = error.body(reader.dialect, reader.request_id.as_deref());
        let set = || -> Result<()> {
            for name in ITS_OWN {
                remove_header(Map::Response, name)?;
            }
            for (name, value) in error.headers() {
                set_header(Map::Response, name, &value)?;
            }
            set_header(Map::Response, "content-length", &body.len().to_string())?;
            set_header(Map::Response, ":status", &error.status.to_string())
        };
        if let Err(status) = set() {
            log(
                Level::Error,
                &format!("tenant-router: cannot replace an answer: {status:?}"),
            );
        }
        *self = Self::Replaced(body);
    }
}

/// Answers in the place of a target that said nothing, or nothing more.
pub(crate) fn answer(fault: Fault, reader: &Reader) {
    let reason = format!("direct_{}", fault.name());
    host::answer(NAME, &Reply::error(&fault.answer(), &reason, reader));
}

/// Puts these bytes in the place of those that are here.
fn replace_body(bytes: &[u8]) {
    let len = read_buffer(Buffer::ResponseBody).map_or(0, |body| body.len());
    let _ = replace_in_buffer(Buffer::ResponseBody, 0, len, bytes);
}

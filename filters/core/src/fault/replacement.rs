//! Errors of targets that say something of us instead of the request: customers get another answer in their place.

use std::borrow::Cow;

use super::{Fault, LONGEST_BODY, Sight, judge, of_attempt, sight};
use crate::headers::Headers;
use crate::reply::{Reader, Reply};

/// Headers that belong to an answer which is replaced.
const ITS_OWN: [&str; 7] = [
    "content-encoding",
    "location",
    "proxy-authenticate",
    "set-cookie",
    "trailer",
    "transfer-encoding",
    "www-authenticate",
];

/// The head of an answer.
#[derive(Debug)]
pub struct Head<'h, H> {
    /// Its status; zero where it has none.
    pub status: u16,
    /// All of its headers.
    pub headers: &'h H,
    /// Whether it has no body.
    pub end: bool,
}

impl<H: Headers> Head<'_, H> {
    fn is_coded(&self) -> bool {
        let plain = |coding: &[u8]| coding.trim_ascii().eq_ignore_ascii_case(b"identity");
        let coding = self.headers.get(b"content-encoding");
        coding.is_some_and(|coding| !plain(coding))
    }
}

/// What becomes of an answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum Replacement {
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

/// What was found in an answer, and what to do with its head.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong; `None` where nothing is.
    pub fault: Option<Found>,
    /// What to do.
    pub effect: Effect,
}

/// A fault, and the status of the answer that told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The status.
    pub status: u16,
    /// What it tells.
    pub fault: Fault,
}

impl Found {
    /// Whether it is counted as the request's: what the status alone tells each attempt counts for itself.
    pub const fn is_counted(self) -> bool {
        of_attempt(self.status).is_none()
    }
}

/// What to do with an answer's head.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Headers to remove, and then those to set.
    Headers(&'static [&'static str], Vec<(&'static str, Cow<'static, str>)>),
    /// This is answered in the target's place.
    Answer(Reply),
}

/// What becomes of a piece of an answer's body.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// It goes out.
    Passes,
    /// It waits.
    Waits,
    /// It has to be [read](Replacement::read), with all that was held back.
    Unread,
    /// These bytes go out in its place.
    Replaced(Vec<u8>),
}

impl Replacement {
    /// Judges an answer by its head. Answers of the gateway and of Envoy come by the same way; `is_a_targets` is asked only
    /// of errors. `None` where there is nothing to do yet.
    pub fn head(
        &mut self,
        head: &Head<'_, impl Headers>,
        is_a_targets: impl FnOnce() -> bool,
        reader: &Reader,
    ) -> Option<Finding> {
        let Head { status, end, .. } = *head;
        if (200..300).contains(&status) || !is_a_targets() {
            return None;
        }
        let fault = match sight(status, head.headers.get(b"content-type")) {
            Sight::Passes => return None,
            Sight::Fault(fault) => fault,
            // None that could be read. A server that codes its errors unasked is rare.
            Sight::Unclear if end || head.is_coded() => Fault::Unreadable(status),
            Sight::Unclear => {
                *self = Self::Unclear(status);
                return None;
            }
        };
        // Behind a status that is none there is no telling what follows, or whether anything does.
        let effect = if end || !(200..600).contains(&status) {
            *self = Self::Answered;
            Effect::Answer(fault.in_place(reader))
        } else {
            self.replace(fault, reader)
        };
        let fault = Some(Found { status, fault });
        Some(Finding { fault, effect })
    }

    /// Whether its headers wait.
    pub const fn is_held(&self) -> bool {
        matches!(self, Self::Unclear(_) | Self::Answered)
    }

    /// Whether there is nothing to do with its body.
    pub const fn passes(&self) -> bool {
        matches!(self, Self::Passes)
    }

    /// A piece of its body: `len` bytes are here, those held back included; `None` if all of it is held.
    pub fn piece(&mut self, len: Option<usize>, end: bool) -> Piece {
        match self {
            Self::Passes => Piece::Passes,
            Self::Answered => Piece::Waits,
            Self::Unclear(_) if !end && len.is_some_and(|len| len <= LONGEST_BODY) => Piece::Waits,
            Self::Unclear(_) => Piece::Unread,
            Self::Replaced(body) => Piece::Replaced(core::mem::take(body)),
        }
    }

    /// Judges an error by its body, `whole` if all of it is there; `None` where it can't be read.
    pub fn read(&mut self, body: Option<&[u8]>, whole: bool, reader: &Reader) -> Option<Finding> {
        let Self::Unclear(status) = core::mem::take(self) else {
            return None;
        };
        // Nobody reads an error of that length, but it may be about the request.
        let body = body.filter(|body| whole && body.len() <= LONGEST_BODY)?;
        match judge(status, body) {
            Ok(None) => None,
            Ok(Some(clean)) => {
                let length = ("content-length", clean.len().to_string().into());
                *self = Self::Replaced(clean);
                Some(Finding {
                    fault: None,
                    effect: Effect::Headers(&[], vec![length]),
                })
            }
            Err(fault) => Some(Finding {
                fault: Some(Found { status, fault }),
                effect: self.replace(fault, reader),
            }),
        }
    }

    fn replace(&mut self, fault: Fault, reader: &Reader) -> Effect {
        let error = fault.answer();
        let body = error.body(reader.dialect, reader.request_id.as_deref());
        let mut headers = error.headers();
        headers.push(("content-length", body.len().to_string().into()));
        headers.push((":status", error.status.to_string().into()));
        *self = Self::Replaced(body);
        Effect::Headers(&ITS_OWN, headers)
    }
}

impl Fault {
    /// The answer in the place of a target that said nothing, or nothing more.
    pub fn in_place(self, reader: &Reader) -> Reply {
        let reason = format!("direct_{}", self.name());
        Reply::error(&self.answer(), &reason, reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of an answer of JSON with this status and coding.
    fn of(status: u16, coding: Option<&'static str>, end: bool) -> (Replacement, Option<Finding>) {
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(coding.map(|coding| ("content-encoding", coding)));
        let head = Head {
            status,
            headers: &headers,
            end,
        };
        let mut answer = Replacement::default();
        let finding = answer.head(&head, || true, &Reader::default());
        (answer, finding)
    }

    /// What the customer gets for an error with this body.
    fn read(status: u16, body: &[u8]) -> (Option<Fault>, Option<Vec<u8>>) {
        let (mut answer, finding) = of(status, None, false);
        assert!(finding.is_none() && answer.is_held());
        assert_eq!(answer.piece(Some(body.len()), false), Piece::Waits);
        assert_eq!(answer.piece(None, true), Piece::Unread);
        let finding = answer.read(Some(body), true, &Reader::default());
        assert!(!answer.is_held());
        let fault = finding.and_then(|finding| finding.fault);
        match answer.piece(None, true) {
            Piece::Replaced(bytes) => (fault.map(|found| found.fault), Some(bytes)),
            Piece::Passes => (None, None),
            piece => panic!("{piece:?}"),
        }
    }

    #[test]
    fn a_good_answer_and_the_gateways_own_pass() {
        let mut answer = Replacement::default();
        let unasked = || panic!("nobody needs to know whose it is");
        let head = |status| Head {
            status,
            headers: const { &Vec::new() },
            end: false,
        };
        assert_eq!(answer.head(&head(200), unasked, &Reader::default()), None);
        assert_eq!(answer.head(&head(401), || false, &Reader::default()), None);
        assert!(answer.passes());
        assert_eq!(answer.piece(Some(7), false), Piece::Passes);
    }

    #[test]
    fn an_error_about_our_side_is_replaced() {
        let (mut answer, finding) = of(401, None, false);
        let Some(Finding {
            fault: Some(found),
            effect: Effect::Headers(removed, set),
        }) = finding
        else {
            panic!("{finding:?}")
        };
        assert_eq!((found.fault, found.is_counted()), (Fault::Credential, false));
        assert!(removed.contains(&"www-authenticate"));
        let Piece::Replaced(body) = answer.piece(Some(7), false) else {
            panic!("{answer:?}")
        };
        assert!(set.contains(&(":status", "503".into())));
        assert!(set.contains(&("content-length", body.len().to_string().into())));
        // The rest of its own body.
        assert_eq!(answer.piece(Some(7), true), Piece::Replaced(vec![]));
    }

    #[test]
    fn what_has_no_body_or_no_status_is_answered_apart() {
        for (status, end) in [(401, true), (999, false), (101, false)] {
            let (mut answer, finding) = of(status, None, end);
            let effect = finding.map(|finding| finding.effect);
            let Some(Effect::Answer(reply)) = effect else {
                panic!("{effect:?}")
            };
            assert!(reply.details.starts_with("tollgate_direct_"), "{}", reply.details);
            assert!(answer.is_held());
            assert_eq!(answer.piece(None, true), Piece::Waits);
        }
    }

    #[test]
    fn a_body_tells_whose_fault_it_is() {
        let quota = br#"{"error": {"code": "insufficient_quota"}}"#;
        let (fault, told) = read(429, quota);
        assert_eq!(fault, Some(Fault::Quota));
        assert!(!told.unwrap().windows(5).any(|word| word == b"quota"));
        assert_eq!(read(400, br#"{"error": {"message": "too long"}}"#), (None, None));
        let (fault, told) = read(400, br#"{"error": {"message": "of org-abcdef123"}}"#);
        assert_eq!(fault, None);
        assert_eq!(told.unwrap(), br#"{"error": {"message": "of [redacted]"}}"#);
    }

    #[test]
    fn what_cannot_be_read_is_a_fault_and_what_is_too_long_passes() {
        let fault = of(400, Some("gzip"), false).1.and_then(|finding| finding.fault);
        assert_eq!(fault.map(|found| found.fault), Some(Fault::Unreadable(400)));
        assert_eq!(
            of(400, Some(" Identity "), false),
            (Replacement::Unclear(400), None)
        );
        let (mut answer, _) = of(400, None, false);
        assert_eq!(answer.piece(Some(LONGEST_BODY + 1), false), Piece::Unread);
        assert_eq!(answer.read(Some(b"{}"), false, &Reader::default()), None);
        assert!(answer.passes());
    }
}

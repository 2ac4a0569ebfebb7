//! The reader of answers: it says what somebody says who reads all of the answer at once, however the bytes come in, and the
//! client gets them.
//!
//! The first byte of an input says what kind of answer it is, and the second how it is cut; the rest is the answer.

use tollgate_core::usage::{Chunk, Kind, Reader, Usage, UsageEvent};

use crate::reported::{Told, documents, of_events, of_json};
use crate::tree::Tree;

/// Whether a usage was read.
pub fn check(data: &[u8]) -> bool {
    let Some(([kind, cut], answer)) = data.split_first_chunk() else {
        return false;
    };
    let kind = match kind % 4 {
        0 => Some(Kind::Events),
        1 => Some(Kind::Text),
        3 => Some(Kind::Lines),
        _ => None,
    };
    let whole = read(kind, UsageEvent::Pass, &[answer]);
    assert_eq!(whole.passed, answer, "an answer was changed that nobody asked to");
    if let Told::Usage(usage) = told(kind, answer) {
        assert_eq!(whole.usage, usage, "the document says something else");
    }
    let pieces = pieces(answer, *cut);
    assert_eq!(
        read(kind, UsageEvent::Pass, &pieces),
        whole,
        "the cuts made a difference"
    );

    let dropped = read(kind, UsageEvent::Strip, &[answer]);
    assert_eq!(
        read(kind, UsageEvent::Strip, &pieces),
        dropped,
        "the cuts made a difference"
    );
    assert_eq!(
        (dropped.usage, dropped.finished),
        (whole.usage, whole.finished),
        "what is taken out is read all the same"
    );
    assert!(
        is_part_of(&dropped.passed, answer),
        "something came in that was not there"
    );
    if !is_stream(kind, answer) {
        assert_eq!(dropped.passed, answer, "only events are taken out");
    }
    if let (Some(before), Some(after)) = (documents(answer), documents(&dropped.passed)) {
        assert_only_usage_is_gone(&before, &after);
    }
    whole.usage.is_some()
}

/// What the answer reports to somebody who knows what kind it is.
fn told(kind: Option<Kind>, answer: &[u8]) -> Told {
    match kind {
        None => Told::Usage(None),
        Some(Kind::Lines) => of_json(answer, true),
        Some(Kind::Events) => of_events(answer),
        // A line that begins with a blank is no field to a client, and the stream is one by its first field.
        Some(Kind::Text) if is_stream(kind, answer) => match answer.first() {
            Some(b'a'..=b'z' | b':') => of_events(answer),
            _ => Told::Nothing,
        },
        Some(Kind::Text) => of_json(answer, false),
    }
}

/// Whether it is read as events: by its type, or by its first byte that is not blank.
fn is_stream(kind: Option<Kind>, answer: &[u8]) -> bool {
    let is_blank = |byte: &&u8| byte.is_ascii_whitespace() || b"\xEF\xBB\xBF".contains(byte);
    let first = answer.iter().find(|byte| !is_blank(byte));
    match kind {
        Some(Kind::Events) => true,
        Some(Kind::Text) => first.is_some_and(|byte| b"deir:".contains(byte)),
        _ => false,
    }
}

/// Each event is there still, but for a `usage` and for those that had one beside choices.
fn assert_only_usage_is_gone(before: &[Tree], after: &[Tree]) {
    let without_usage = |tree: &Tree| {
        let rest = tree.members().iter().filter(|(name, _)| name != "usage");
        Tree::Object(rest.cloned().collect())
    };
    let mut left = after.iter().peekable();
    for event in before {
        if left
            .next_if(|next| *next == event || **next == without_usage(event))
            .is_some()
        {
            continue;
        }
        let [usage, choices] = ["usage", "choices"].map(|name| event.member(name));
        let is_surplus = matches!((usage, choices), (Tree::Object(_), Tree::List(_)));
        assert!(is_surplus, "an event is gone: {event:?}");
    }
    assert_eq!(left.next(), None, "an event came in that was not there");
}

#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    passed: Vec<u8>,
    usage: Option<Usage>,
    finished: bool,
}

fn read(kind: Option<Kind>, usage_event: UsageEvent, pieces: &[&[u8]]) -> Outcome {
    let mut reader = Reader::new(kind, usage_event);
    let mut passed = Vec::new();
    for piece in pieces {
        match reader.push(piece, false) {
            Chunk::Unchanged => passed.extend_from_slice(piece),
            Chunk::Replaced(bytes) => passed.extend(bytes),
        }
        assert!(reader.held() <= Reader::MAX_HELD, "{} bytes held", reader.held());
    }
    if let Chunk::Replaced(bytes) = reader.push(&[], true) {
        passed.extend(bytes);
    }
    Outcome {
        passed,
        usage: reader.usage(),
        finished: reader.finished(),
    }
}

/// The answer in pieces whose lengths follow from `cut`.
fn pieces(mut answer: &[u8], cut: u8) -> Vec<&[u8]> {
    let mut length = usize::from(cut % 16) + 1;
    let mut pieces = Vec::new();
    while let Some((piece, rest)) = answer.split_at_checked(length) {
        pieces.push(piece);
        answer = rest;
        length = (length * 7 + usize::from(cut)) % 61 + 1;
    }
    pieces.push(answer);
    pieces
}

/// Whether `part` is `whole` with pieces left out.
fn is_part_of(part: &[u8], whole: &[u8]) -> bool {
    let mut rest = whole.iter();
    part.iter().all(|byte| rest.any(|other| other == byte))
}

//! The reader of answers: however the bytes come in, it says the same of them, and the client gets them.
//!
//! The first byte of an input says what kind of answer it is, and the second how it is cut; the rest is the answer.

use tollgate_core::usage::{Extra, Kind, Passed, Reader, Usage};

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
    let whole = read(kind, Extra::Pass, &[answer]);
    assert_eq!(whole.passed, answer, "an answer was changed that nobody asked to");
    let pieces = pieces(answer, *cut);
    assert_eq!(
        read(kind, Extra::Pass, &pieces),
        whole,
        "the cuts made a difference"
    );

    let dropped = read(kind, Extra::Drop, &[answer]);
    assert_eq!(
        read(kind, Extra::Drop, &pieces),
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
    if kind.is_none() {
        assert_eq!(dropped.passed, answer, "only events are taken out");
    }
    whole.usage.is_some()
}

#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    passed: Vec<u8>,
    usage: Option<Usage>,
    finished: bool,
}

fn read(kind: Option<Kind>, extra: Extra, pieces: &[&[u8]]) -> Outcome {
    let mut reader = Reader::new(kind, extra);
    let mut passed = Vec::new();
    for piece in pieces {
        match reader.push(piece, false) {
            Passed::Whole => passed.extend_from_slice(piece),
            Passed::Changed(bytes) => passed.extend(bytes),
        }
        assert!(reader.held() <= Reader::MAX_HELD, "{} bytes held", reader.held());
    }
    if let Passed::Changed(bytes) = reader.push(&[], true) {
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

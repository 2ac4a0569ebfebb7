//! Whether a stream of events makes progress, or only says that it is still there: comments, `ping` events as Anthropic
//! sends them, and fields without data are none.

use memchr::{memchr2, memrchr2};

/// As much of a line is looked at; a `ping` is shorter.
const LOOKED_AT: usize = 64;

/// Reads a stream, in pieces cut anywhere.
#[derive(Debug, Default)]
pub struct Progress {
    /// The beginning of the line under way.
    line: Vec<u8>,
}

impl Progress {
    /// Reads the next piece. Whether there is something new in it; where that does not `matter`, only its last line is
    /// looked at.
    pub fn read(&mut self, piece: &[u8], matters: bool) -> bool {
        let mut made = false;
        let mut rest = piece;
        if !matters && let Some(last) = memrchr2(b'\n', b'\r', piece) {
            self.line.clear();
            rest = piece.get(last + 1..).unwrap_or_default();
        }
        loop {
            let end = memchr2(b'\n', b'\r', rest);
            let (part, behind) = rest.split_at(end.unwrap_or(rest.len()));
            let room = LOOKED_AT.saturating_sub(self.line.len());
            let longer = part.len() > room;
            self.line.extend_from_slice(part.get(..room).unwrap_or(part));
            // Of a line under way it counts that it goes on, once it is clear what it is.
            made |= !part.is_empty() && is_news(&self.line, longer);
            if end.is_none() {
                return made;
            }
            made |= is_news(&self.line, true);
            self.line.clear();
            rest = behind.get(1..).unwrap_or_default();
        }
    }
}

/// Whether a line says something new, as far as it is here; `clear` if no more of it decides.
fn is_news(line: &[u8], clear: bool) -> bool {
    const OTHERS: [&[u8]; 3] = [b"event", b"id", b"retry"];
    let colon = memchr::memchr(b':', line);
    let name = line.get(..colon.unwrap_or(line.len())).unwrap_or_default();
    if colon.is_none() {
        // A document, or a part of one. What may become a field is none yet.
        let may_be = OTHERS
            .iter()
            .chain([&&b"data"[..]])
            .any(|field| field.starts_with(name));
        return !name.is_empty() && !may_be;
    }
    match name {
        b"" => false,
        b"data" => {
            let value = line.get(b"data:".len()..).unwrap_or_default().trim_ascii();
            clear && !value.is_empty() && !is_ping(value)
        }
        _ => !OTHERS.contains(&name),
    }
}

/// Whether this is the data of a `ping`.
fn is_ping(value: &[u8]) -> bool {
    let plain: Vec<u8> = value
        .iter()
        .copied()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    plain == b"[PING]"
        || plain == b"ping"
        || (plain.starts_with(br#"{"type":"ping""#) && plain.ends_with(b"}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SILENT: &str = ": ping\n\n:\r\n\r\nevent: ping\ndata: {\"type\": \"ping\"}\n\n\revent: x\nid: 7\nretry: 1000\n\ndata:\n\ndata: \n\n";

    #[test]
    fn what_only_says_that_it_is_there_is_none() {
        for size in 1..SILENT.len() {
            let mut progress = Progress::default();
            for piece in SILENT.as_bytes().chunks(size) {
                assert!(!progress.read(piece, true), "{size} {piece:?}");
            }
        }
        // However long a comment is.
        let mut progress = Progress::default();
        assert!(!progress.read(b":", true));
        for _ in 0..1000 {
            assert!(!progress.read(b"data: x", true) && progress.line.len() <= LOOKED_AT);
        }
    }

    #[test]
    fn what_says_something_is_some() {
        for news in [
            "data: {\"choices\":[]}\n",
            "data: [DONE]\n",
            "data: x\r",
            "error: {}\n",
            "{\"choices\":",
            "a",
            "data: {\"type\":\"ping\",\"delta\":\"x\"} and more of it than could be a ping of any kind, however it is written",
        ] {
            for size in 1..=news.len() {
                let mut progress = Progress::default();
                let _ = progress.read(SILENT.as_bytes(), false);
                let pieces = news.as_bytes().chunks(size);
                let made: Vec<bool> = pieces.map(|piece| progress.read(piece, true)).collect();
                assert!(made.contains(&true), "{size} {news}");
            }
        }
        // A long line goes on.
        let mut progress = Progress::default();
        let _ = progress.read(&[&b"data: "[..], &[b'x'; 100]].concat(), true);
        assert!(progress.read(b"x", true) && progress.read(b"x", true));
    }

    proptest! {
        #[test]
        fn what_did_not_matter_changes_nothing(
            parts in proptest::collection::vec("\n|: ping|data: |event: ping|x{0,70}|\\{\"type\":\"ping\"\\}", 0..20),
            size in 1..50_usize,
        ) {
            let body = parts.concat();
            let (mut all, mut some) = (Progress::default(), Progress::default());
            for (at, piece) in body.as_bytes().chunks(size).enumerate() {
                let made = all.read(piece, true);
                prop_assert!(at % 2 == 0 || some.read(piece, true) == made);
                if at % 2 == 0 {
                    let _ = some.read(piece, false);
                }
                prop_assert_eq!(&all.line, &some.line);
            }
        }
    }
}

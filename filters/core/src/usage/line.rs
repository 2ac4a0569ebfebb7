//! The line of a usage record: what a proxy knows of a request, and behind it the [members](super::record::Record::members)
//! that the filters know.

use jiff::Timestamp;
use serde::de::IgnoredAny;

use crate::flags::Flags;

/// The members of a request that was under way when its gateway was killed, where nobody knew yet whose it was.
pub const CRASHED: &str = ",\"outcome\":\"crashed\"";

/// How each line begins.
const BEGIN: &str = "{\"event\":\"usage\",\"v\":1,\"id\":\"";

/// What the proxy knows of a request.
#[derive(Debug, Clone, Copy)]
pub struct Line<'a> {
    /// Its id: letters, digits and hyphens, as the gateway makes it.
    pub id: &'a str,
    /// When it began, in milliseconds since 1970.
    pub began_ms: u64,
    /// Status of the answer; 0 where there was none.
    pub status: u64,
    /// What the proxy noted.
    pub flags: Flags,
    /// Target of the last attempt; may be empty.
    pub cluster: &'a str,
    /// How often a model server was asked.
    pub attempts: u64,
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
    /// From its beginning to its end.
    pub duration_ms: u64,
}

impl Line<'_> {
    /// The line, with these members and its end of line.
    pub fn with(&self, members: &str) -> String {
        let mut line = String::with_capacity(300 + members.len());
        line.push_str(BEGIN);
        line.push_str(self.id);
        line.push_str("\",\"time\":\"");
        line.push_str(&time(self.began_ms));
        line.push_str("\",\"status\":");
        push(&mut line, self.status);
        line.push_str(",\"flags\":\"");
        self.flags.push_names(&mut line);
        line.push_str("\",\"cluster\":");
        // Strings always serialise.
        line.push_str(&serde_json::to_string(self.cluster).unwrap_or_default());
        for (name, number) in [
            (",\"attempts\":", self.attempts),
            (",\"bytes_in\":", self.bytes_in),
            (",\"bytes_out\":", self.bytes_out),
            (",\"duration_ms\":", self.duration_ms),
        ] {
            line.push_str(name);
            push(&mut line, number);
        }
        line.push_str(members);
        line.push_str("}\n");
        line
    }
}

/// The id of a line.
pub fn id(line: &str) -> Option<&str> {
    let (id, _) = line.strip_prefix(BEGIN)?.split_once('"')?;
    Some(id)
}

/// Whether a line that ends in the middle may be one.
pub fn may_begin(torn: &[u8]) -> bool {
    let len = torn.len().min(BEGIN.len());
    torn.get(..len) == BEGIN.as_bytes().get(..len)
}

/// Whether this can be an id: it stands in a line as it is.
pub fn is_id(text: &[u8]) -> bool {
    let is_fine = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
    (1..=64).contains(&text.len()) && text.iter().all(is_fine)
}

/// Whether a text is one line, and that a record.
pub fn is_record(text: &str) -> bool {
    let is_line = text.find('\n').map(|at| at + 1) == Some(text.len());
    is_line && id(text).is_some() && serde_json::from_str::<IgnoredAny>(text).is_ok()
}

fn time(millis: u64) -> String {
    let time = i64::try_from(millis).ok().map(Timestamp::from_millisecond);
    let time = time.and_then(Result::ok).unwrap_or_default();
    format!("{time:.3}")
}

fn push(line: &mut String, number: u64) {
    line.push_str(itoa::Buffer::new().format(number));
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_line_is_a_record() {
        let line = Line {
            id: "99668dd4-804b-43a4-a8ba-25a6ba889650",
            began_ms: 1_764_000_000_060,
            status: 200,
            flags: Flags(1 << 14 | 1 << 5),
            cluster: "l\"",
            attempts: 2,
            bytes_in: 3,
            bytes_out: 4,
            duration_ms: 5,
        };
        let text = line.with(CRASHED);
        assert_eq!(id(&text), Some(line.id));
        assert!(text.ends_with("}\n"));
        assert_eq!(
            serde_json::from_str::<Value>(&text).unwrap(),
            json!({
                "event": "usage", "v": 1, "id": line.id, "time": "2025-11-24T16:00:00.060Z", "status": 200,
                "flags": "UF,DC", "cluster": "l\"", "attempts": 2, "bytes_in": 3, "bytes_out": 4, "duration_ms": 5,
                "outcome": "crashed",
            })
        );
        assert!(
            Line {
                flags: Flags(0),
                ..line
            }
            .with("")
            .contains("\"flags\":\"-\"")
        );
    }

    #[test]
    fn whatever_else_is_no_record() {
        let line = format!("{BEGIN}one\"}}\n");
        assert!(is_record(&line));
        for text in [
            "",
            "{}\n",
            line.trim_end(),
            &line.repeat(2),
            &line.replace('}', ""),
        ] {
            assert!(!is_record(text), "{text}");
        }
        assert!(may_begin(b"{\"eve") && may_begin(line.as_bytes()) && !may_begin(b"{\"evil\"}"));
        assert!(is_id(b"99668dd4-804b") && !is_id(b"") && !is_id(b"a\"") && !is_id(&[b'a'; 65]));
    }

    #[test]
    fn other_lines_have_no_id() {
        for line in ["", "{}", "{\"event\":\"usage\",\"v\":1,\"id\":\"open"] {
            assert_eq!(id(line), None);
        }
    }
}

//! The model's name in an answer, in the catalogue's words instead of the provider's.
//!
//! An answer is read as it comes, in pieces cut anywhere, and nothing of it is held but the beginning of a member's name:
//! so it costs the same memory whatever its size. The name stands in `model`; in an event of Anthropic's and of OpenAI's
//! responses also in the `model` of `message` or `response`. Any other `model` is somebody's text, and stays.

use memchr::memchr2;

/// Rewrites one answer.
pub struct Renamer {
    /// What takes the place of the provider's name: a JSON string.
    name: Vec<u8>,
    form: Form,
    json: Json,
}

enum Form {
    /// Nothing but white space has come.
    Unknown,
    /// One document.
    Json,
    /// Server-sent events.
    Events(Line),
}

/// Where in an event the next byte is.
struct Line {
    part: Part,
    after_cr: bool,
}

enum Part {
    /// At the beginning of a line, or behind so many bytes of `data:`.
    Field(usize),
    /// In the data.
    Data,
    /// In a line that says something else.
    Other,
}

impl Renamer {
    /// For an answer with these headers, `name` being the catalogue's name; `None` for one that can hold no name, or none
    /// that can be read.
    pub fn new(name: &str, content_type: Option<&[u8]>, content_encoding: Option<&[u8]>) -> Option<Self> {
        let coded = content_encoding.is_some_and(|coding| !coding.eq_ignore_ascii_case(b"identity"));
        if coded || !content_type.is_none_or(may_hold_a_name) {
            return None;
        }
        Some(Self {
            // Strings always encode.
            name: serde_json::to_vec(name).unwrap_or_default(),
            form: Form::Unknown,
            json: Json::default(),
        })
    }

    /// What takes the place of the next bytes; `None` where they stay.
    pub fn push(&mut self, chunk: &[u8]) -> Option<Vec<u8>> {
        let mut out = Out {
            chunk,
            name: &self.name,
            new: None,
            saved: 0,
        };
        let mut at = 0;
        while at < chunk.len() {
            at = match &mut self.form {
                Form::Unknown => {
                    let Some(found) = first(chunk) else { break };
                    self.form = match chunk.get(found) {
                        Some(b'{') => Form::Json,
                        _ => Form::Events(Line::default()),
                    };
                    found
                }
                Form::Json => {
                    self.json.read(at, chunk.len(), false, &mut out);
                    chunk.len()
                }
                Form::Events(line) => line.read(at, &mut self.json, &mut out),
            };
        }
        out.finish()
    }
}

/// Whether a body of this type may be JSON or events. Servers label both wrongly, so the body itself says which it is.
fn may_hold_a_name(content_type: &[u8]) -> bool {
    let end = memchr2(b';', b',', content_type).unwrap_or(content_type.len());
    let essence = content_type
        .get(..end)
        .unwrap_or_default()
        .trim_ascii()
        .to_ascii_lowercase();
    const TYPES: [&[u8]; 6] = [
        b"",
        b"application/json",
        b"application/octet-stream",
        b"application/x-ndjson",
        b"text/event-stream",
        b"text/plain",
    ];
    TYPES.contains(&essence.as_slice()) || essence.ends_with(b"+json")
}

/// The place of the first byte that is neither white space nor of a byte order mark.
fn first(chunk: &[u8]) -> Option<usize> {
    chunk
        .iter()
        .position(|byte| !b" \t\r\n\xef\xbb\xbf".contains(byte))
}

impl Default for Line {
    fn default() -> Self {
        Self {
            part: Part::Field(0),
            after_cr: false,
        }
    }
}

impl Line {
    /// Reads from `at` on, and says how far it came.
    fn read(&mut self, at: usize, json: &mut Json, out: &mut Out<'_>) -> usize {
        const DATA: &[u8] = b"data:";
        let chunk = out.chunk;
        let byte = chunk.get(at).copied().unwrap_or_default();
        let after_cr = core::mem::take(&mut self.after_cr);
        if let Part::Field(so_far) = self.part {
            if byte == b'\n' && after_cr && so_far == 0 {
                return at + 1;
            }
            if byte != b'\n' && byte != b'\r' {
                self.part = match DATA.get(so_far) == Some(&byte) {
                    true if so_far + 1 == DATA.len() => Part::Data,
                    true => Part::Field(so_far + 1),
                    false => Part::Other,
                };
                return at + 1;
            }
            if so_far == 0 {
                // An empty line ends the event.
                *json = Json::default();
            }
        }
        let rest = chunk.get(at..).unwrap_or_default();
        let end = memchr2(b'\n', b'\r', rest).map(|len| at + len);
        if matches!(self.part, Part::Data) {
            json.read(at, end.unwrap_or(chunk.len()), true, out);
        }
        match end {
            Some(end) => {
                self.part = Part::Field(0);
                self.after_cr = chunk.get(end) == Some(&b'\r');
                end + 1
            }
            None => chunk.len(),
        }
    }
}

/// Where in a document the next byte is. Only the outermost object and one within it are looked at.
#[derive(Default)]
struct Json {
    within: Within,
    /// Objects and lists that are open.
    depth: u32,
    /// Whether the outermost one is an object.
    object: bool,
    /// Whether the second is one that says the model too.
    inner: bool,
    /// In an object that is looked at: whether a member's name comes next.
    names: bool,
    /// The last member's.
    name: Name,
    spelled: Spelled,
}

#[derive(Default, Clone, Copy)]
enum Within {
    #[default]
    Nothing,
    /// A string.
    Text,
    /// A string that is a member's name.
    Name,
    /// The string that is replaced.
    Model,
    /// Behind a backslash in one of the three.
    Escape(Escaped),
}

#[derive(Clone, Copy)]
enum Escaped {
    Text,
    Name,
    Model,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Name {
    Model,
    /// `message` or `response`.
    Inner,
    #[default]
    Other,
}

/// A member's name as it is spelled, as far as it may be one of those that count.
#[derive(Default)]
struct Spelled {
    bytes: Vec<u8>,
    long: bool,
}

impl Spelled {
    /// `response`, each letter escaped.
    const LONGEST: usize = 8 * 6;

    fn push(&mut self, bytes: &[u8]) {
        self.long |= self.bytes.len() + bytes.len() > Self::LONGEST;
        if !self.long {
            self.bytes.extend_from_slice(bytes);
        }
    }

    fn take(&mut self) -> Name {
        let long = core::mem::take(&mut self.long);
        let bytes = core::mem::take(&mut self.bytes);
        if long {
            return Name::Other;
        }
        let plain = !bytes.contains(&b'\\');
        let unescaped = (!plain).then(|| {
            let quoted = [b"\"".as_slice(), &bytes, b"\""].concat();
            serde_json::from_slice::<String>(&quoted)
                .unwrap_or_default()
                .into_bytes()
        });
        match unescaped.as_deref().unwrap_or(&bytes) {
            b"model" => Name::Model,
            b"message" | b"response" => Name::Inner,
            _ => Name::Other,
        }
    }
}

impl Json {
    /// Reads `from..to` of the chunk. `events` is whether an inner object may say the model too.
    fn read(&mut self, from: usize, to: usize, events: bool, out: &mut Out<'_>) {
        let mut at = from;
        while at < to {
            let rest = out.chunk.get(at..to).unwrap_or_default();
            at += match self.within {
                Within::Nothing => self.between(rest, events, at, out),
                Within::Text => self.string(rest, Escaped::Text, at, out),
                Within::Name => self.string(rest, Escaped::Name, at, out),
                Within::Model => self.string(rest, Escaped::Model, at, out),
                Within::Escape(string) => {
                    self.passes(string, rest.get(..1).unwrap_or_default(), at, out);
                    self.within = string.within();
                    1
                }
            };
        }
    }

    /// Reads a string's rest, and says how many bytes of it there are here.
    fn string(&mut self, rest: &[u8], string: Escaped, at: usize, out: &mut Out<'_>) -> usize {
        let Some(len) = memchr2(b'"', b'\\', rest) else {
            self.passes(string, rest, at, out);
            return rest.len();
        };
        let ends = rest.get(len) == Some(&b'"');
        // The closing quote of a name is no part of it; that of the old one goes with it.
        let taken = if ends && matches!(string, Escaped::Name) {
            len
        } else {
            len + 1
        };
        self.passes(string, rest.get(..taken).unwrap_or_default(), at, out);
        if !ends {
            self.within = Within::Escape(string);
        } else {
            self.within = Within::Nothing;
            if matches!(string, Escaped::Name) {
                self.name = self.spelled.take();
            }
        }
        len + 1
    }

    fn passes(&mut self, string: Escaped, bytes: &[u8], at: usize, out: &mut Out<'_>) {
        match string {
            Escaped::Text => {}
            Escaped::Name => self.spelled.push(bytes),
            Escaped::Model => out.replace(at, at + bytes.len(), false),
        }
    }

    /// Reads up to the next string or bracket, and says how many bytes that took.
    fn between(&mut self, rest: &[u8], events: bool, at: usize, out: &mut Out<'_>) -> usize {
        let looked_at = (self.depth == 1 && self.object) || (self.depth == 2 && self.inner);
        if !looked_at && self.depth > 0 {
            // Commas and colons mean nothing here.
            let next = rest
                .iter()
                .position(|byte| matches!(byte, b'"' | b'{' | b'[' | b'}' | b']'));
            match next {
                None => return rest.len(),
                Some(0) => {}
                Some(len) => return len,
            }
        }
        match rest.first() {
            Some(b'"') if looked_at && self.names => self.within = Within::Name,
            Some(b'"') if looked_at && self.name == Name::Model => {
                self.within = Within::Model;
                out.replace(at, at + 1, true);
            }
            Some(b'"') => self.within = Within::Text,
            Some(open @ (b'{' | b'[')) => {
                let object = *open == b'{';
                match self.depth {
                    0 => self.object = object,
                    1 => self.inner = events && object && self.object && self.name == Name::Inner,
                    _ => {}
                }
                self.depth = self.depth.saturating_add(1);
                (self.names, self.name) = (object, Name::Other);
            }
            Some(b'}' | b']') => {
                self.depth = self.depth.saturating_sub(1);
                (self.names, self.name) = (false, Name::Other);
            }
            Some(b',') => (self.names, self.name) = (true, Name::Other),
            Some(b':') => self.names = false,
            _ => {}
        }
        1
    }
}

impl Escaped {
    fn within(self) -> Within {
        match self {
            Self::Text => Within::Text,
            Self::Name => Within::Name,
            Self::Model => Within::Model,
        }
    }
}

/// A chunk in the making.
struct Out<'a> {
    chunk: &'a [u8],
    name: &'a [u8],
    /// What came before `kept`, where that is not as it was.
    new: Option<Vec<u8>>,
    saved: usize,
}

impl Out<'_> {
    /// Takes `from..to` out; `named` puts the name there.
    fn replace(&mut self, from: usize, to: usize, named: bool) {
        let new = self.new.get_or_insert_default();
        new.extend_from_slice(self.chunk.get(self.saved..from).unwrap_or_default());
        if named {
            new.extend_from_slice(self.name);
        }
        self.saved = to;
    }

    fn finish(self) -> Option<Vec<u8>> {
        let mut new = self.new?;
        new.extend_from_slice(self.chunk.get(self.saved..).unwrap_or_default());
        Some(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    /// What becomes of a body that comes in pieces of this size.
    fn renamed(body: &[u8], size: usize) -> Vec<u8> {
        let mut renamer = Renamer::new("cat\"alogue", None, None).unwrap();
        let pieces = body.chunks(size.max(1));
        pieces
            .flat_map(|piece| renamer.push(piece).unwrap_or_else(|| piece.to_vec()))
            .collect()
    }

    fn text(body: &str) -> String {
        let whole = renamed(body.as_bytes(), body.len());
        for size in 1..=body.len().min(40) {
            assert_eq!(renamed(body.as_bytes(), size), whole, "{size} {body}");
        }
        String::from_utf8(whole).unwrap()
    }

    #[test]
    fn a_document_names_the_model_in_one_place() {
        for (body, expected) in [
            (
                r#"{"id":"a","model":"meta/x","n":1}"#,
                r#"{"id":"a","model":"cat\"alogue","n":1}"#,
            ),
            (r#" { "model" : "a\"b\\" } "#, r#" { "model" : "cat\"alogue" } "#),
            (r#"{"\u006dodel":"a"}"#, r#"{"\u006dodel":"cat\"alogue"}"#),
            (
                r#"{"model":"a","model":"b"}"#,
                r#"{"model":"cat\"alogue","model":"cat\"alogue"}"#,
            ),
            (
                "\u{feff}{\"model\":\"a\"}",
                "\u{feff}{\"model\":\"cat\\\"alogue\"}",
            ),
        ] {
            assert_eq!(text(body), expected);
        }
        for same in [
            r#"{"choices":[{"model":"a"}],"x":{"model":"a"},"message":{"model":"a"},"response":{"model":"b"}}"#,
            r#"{"model":null,"x":"model","y":["model","a"]}"#,
            r#"{"model":{"model":"a"}}"#,
            r#"{"model":["a"]}"#,
            r#"{"text":"\"model\":\"a\"","Model":"a","model ":"b"}"#,
            r#"[{"model":"a"}]"#,
            r#""model""#,
            "{\"model\" ",
            "",
            "   ",
            "ID3 \u{0}\"model\":\"a\"",
        ] {
            assert_eq!(text(same), same);
        }
    }

    #[test]
    fn an_event_names_it_in_three() {
        let chat = "data: {\"model\":\"a\",\"choices\":[{\"delta\":{\"content\":\"\\\"model\\\"\"}}]}\n\ndata: [DONE]\n\n";
        assert_eq!(text(chat), chat.replace("\"a\"", "\"cat\\\"alogue\""));
        let others = "event: message_start\r\ndata:{\"type\":\"message_start\",\"message\":{\"model\":\"a\",\"content\":[]}}\r\n\
                      \r\n: a comment\r\ndata: {\"response\": {\"tools\": [{\"model\": \"b\"}], \"model\":\ndata: \"a\"}}\r\r\
                      data: {\"delta\":{\"model\":\"b\"},\"model\":\"a\"}\n";
        assert_eq!(text(others), others.replace("\"a\"", "\"cat\\\"alogue\""));
    }

    /// An event that is broken, or broken off, takes nothing of the next one with it.
    #[test]
    fn each_event_is_read_anew() {
        let events = "data: {\"model\":\"b\n\ndata: {\"model\":\"a\"}\n\ndata: {{{\n\ndata: {\"x\":\"\n\ndata: {\"model\":\"a\"}\n\n";
        let expected = events
            .replace("\"a\"", "\"cat\\\"alogue\"")
            .replace("\"b\n", "\"cat\\\"alogue\"\n");
        assert_eq!(text(events), expected);
        for same in [
            "event: \"model\":\"a\"\n\n",
            "data {\"model\":\"a\"}\n\n",
            "dat: {\"model\":\"a\"}\n\n",
        ] {
            assert_eq!(text(same), same);
        }
    }

    #[test]
    fn what_can_not_be_read_is_not() {
        let new = |content_type: &str, coding: Option<&str>| {
            Renamer::new("a", Some(content_type.as_bytes()), coding.map(str::as_bytes)).is_some()
        };
        for content_type in [
            "application/json; charset=utf-8",
            "Text/Event-Stream",
            "text/plain",
            "application/problem+json",
        ] {
            assert!(
                new(content_type, None) && new(content_type, Some("identity")),
                "{content_type}"
            );
            assert!(!new(content_type, Some("gzip")));
        }
        assert!(!new("audio/mpeg", None) && !new("text/html", None));
    }

    #[test]
    fn what_is_held_does_not_grow() {
        let mut renamer = Renamer::new("a", None, None).unwrap();
        let _ = renamer.push(b"{\"");
        for _ in 0..1000 {
            assert_eq!(renamer.push(&[b'n'; 1024]), None);
            assert!(renamer.json.spelled.bytes.len() <= Spelled::LONGEST);
        }
        assert_eq!(
            renamer.push(b"\":1,\"model\":\"b").unwrap(),
            b"\":1,\"model\":\"a\""
        );
        assert_eq!(renamer.push(&[b'b'; 1024]).unwrap(), b"");
    }

    fn tree() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[ -~é\u{1f600}]{0,8}|model".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::vec(("model|message|response|[a-z\"\\\\é]{0,6}", inner), 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// Against a reader of whole trees.
        #[test]
        fn nothing_else_changes(tree in tree(), pretty in any::<bool>(), event in any::<bool>(), size in 1..50_usize) {
            let mut expected = tree.clone();
            let name = |object: &mut Value| match object.get_mut("model") {
                Some(model) if model.is_string() => *model = json!("cat\"alogue"),
                _ => {}
            };
            if expected.is_object() {
                name(&mut expected);
                if event {
                    ["message", "response"].into_iter().filter_map(|inner| expected.get_mut(inner).map(name)).count();
                }
            }
            let written = |tree: &Value| match pretty {
                true => serde_json::to_string_pretty(tree).unwrap(),
                false => tree.to_string(),
            };
            let framed = |text: String| match event {
                true => format!("event: x\n{}\n", text.lines().map(|line| format!("data: {line}\n")).collect::<String>()),
                false => text,
            };
            let body = framed(written(&tree));
            // A list or a text alone is no answer.
            prop_assume!(event || tree.is_object());
            prop_assert_eq!(
                String::from_utf8(renamed(body.as_bytes(), size)).unwrap(),
                framed(written(&expected))
            );
        }

        #[test]
        fn any_bytes_in_any_pieces(body in proptest::collection::vec(any::<u8>(), 0..200), size in 1..50_usize) {
            prop_assert_eq!(renamed(&body, size), renamed(&body, body.len()));
        }
    }
}

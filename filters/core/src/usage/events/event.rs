//! One event: its lines, and what its data says.

use core::ops::Range;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use memchr::memchr2;
use memchr::memmem::Finder;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::usage::content::{Content, TrimQuotes as _, is_error, is_last};
use crate::usage::report::Reported;

static USAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br#""usage""#));
static ERROR: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br#""error""#));

/// The fields of an event that are of interest.
#[derive(Default)]
pub(super) struct Event<'e> {
    /// `event`.
    pub(super) name: Option<&'e [u8]>,
    /// Whether there is a field `error`, as llama.cpp has them.
    pub(super) errored: bool,
    /// `data`, its lines joined by LF.
    pub(super) data: Option<Cow<'e, [u8]>>,
}

impl<'e> Event<'e> {
    pub(super) fn of(bytes: &'e [u8]) -> Self {
        let mut event = Self::default();
        for line in lines(bytes) {
            event.take(line);
        }
        event
    }

    /// The same of one that is known to have one line and nothing but line ends behind it: they are not searched for.
    pub(super) fn of_one_line(bytes: &'e [u8]) -> Self {
        let mut event = Self::default();
        let last = bytes.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r'));
        event.take(last.and_then(|last| bytes.get(..=last)).unwrap_or_default());
        event
    }

    fn take(&mut self, line: &'e [u8]) {
        if let Some(value) = field(line, b"data") {
            match &mut self.data {
                None => self.data = Some(Cow::Borrowed(value)),
                Some(data) => {
                    let data = data.to_mut();
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
            }
        } else if let Some(value) = field(line, b"event") {
            self.name = Some(value);
        } else if field(line, b"error").is_some() {
            self.errored = true;
        }
    }
}

/// The lines, with an empty one inside each CR LF.
fn lines(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    core::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let end = memchr2(b'\n', b'\r', bytes).unwrap_or(bytes.len());
        let line = bytes.get(..end)?;
        bytes = bytes.get(end + 1..).unwrap_or_default();
        Some(line)
    })
}

fn field<'l>(line: &'l [u8], name: &[u8]) -> Option<&'l [u8]> {
    match line.strip_prefix(name)? {
        [] => Some(&[]),
        [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
        _ => None,
    }
}

/// What of an event is there only because the usage was asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Surplus {
    #[default]
    Nothing,
    /// All of it: usage, and choices that say nothing.
    Event,
    /// The member at this place in its data; what else there is is the server's own, as llama.cpp's `timings`.
    Member(Range<usize>),
}

/// Members of interest, each as it stands: one of another type than expected is nobody's business here.
#[derive(Deserialize)]
struct Data<'d> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'d RawValue>,
    /// Older vLLM's errors are `"object": "error"`.
    #[serde(borrow)]
    object: Option<&'d RawValue>,
    #[serde(borrow)]
    error: Option<&'d RawValue>,
    #[serde(borrow)]
    choices: Option<&'d RawValue>,
    #[serde(borrow)]
    usage: Option<&'d RawValue>,
    /// In OpenAI's `response.completed` and its kin.
    #[serde(borrow)]
    response: Option<&'d RawValue>,
    /// In Anthropic's `message_start`.
    #[serde(borrow)]
    message: Option<&'d RawValue>,
}

impl<'d> Data<'d> {
    fn of(json: &'d [u8]) -> Option<Self> {
        // serde would take a list for the members in their order.
        if json.trim_ascii_start().first() != Some(&b'{') {
            return None;
        }
        serde_json::from_slice(json).ok()
    }

    /// What is extra in it; `json` is its text.
    fn surplus(&self, json: &[u8]) -> Surplus {
        let (Some(usage), Some(choices)) = (self.usage, self.choices) else {
            return Surplus::Nothing;
        };
        if !usage.get().starts_with('{') || !say_nothing(choices.get()) {
            return Surplus::Nothing;
        }
        if is_bare(json) {
            return Surplus::Event;
        }
        let at = (usage.get().as_ptr() as usize).wrapping_sub(json.as_ptr() as usize);
        member(json, at..at.wrapping_add(usage.get().len())).map_or(Surplus::Nothing, Surplus::Member)
    }

    /// Whether it names itself so.
    fn is(&self, kind: impl Fn(&[u8]) -> bool) -> bool {
        let named = [self.kind, self.object];
        named
            .into_iter()
            .flatten()
            .any(|name| kind(name.get().as_bytes().trim_quotes()))
    }

    fn usage(&self) -> Option<&'d RawValue> {
        let inner = || Self::of(self.response.or(self.message)?.get().as_bytes())?.usage;
        self.usage.or_else(inner)
    }
}

/// What the data of an event says, and what is surplus in it; nothing of what is no JSON object.
pub(super) fn read(data: &[u8]) -> (Content, Surplus) {
    if !mentions(&USAGE, data) && !mentions(&ERROR, data) {
        return (Content::default(), Surplus::Nothing);
    }
    let json = data;
    let Some(data) = Data::of(json) else {
        return (Content::default(), Surplus::Nothing);
    };
    let content = Content {
        reported: data
            .usage()
            .map_or(Reported::Nothing, |usage| Reported::read(usage.get().as_bytes())),
        ends: data.is(is_last),
        errored: data.is(is_error)
            || data
                .error
                .is_some_and(|error| error.get().starts_with(['{', '"'])),
    };
    (content, data.surplus(json))
}

/// Where `"usage"`, and where `"error"` stands next, from an offset on; the end where it does not.
pub(super) const FIND: [fn(&[u8], usize) -> usize; 2] = [
    |bytes, from| find(&USAGE, bytes, from),
    |bytes, from| find(&ERROR, bytes, from),
];

fn find(name: &Finder<'_>, bytes: &[u8], from: usize) -> usize {
    let found = bytes.get(from..).and_then(|rest| name.find(rest));
    found.map_or(bytes.len(), |at| from + at)
}

/// Whether a member may be called so and not be null: most events hold no more than `"usage":null`.
fn mentions(name: &Finder<'_>, data: &[u8]) -> bool {
    let is_null = |at: usize| {
        let value = data
            .get(at + name.needle().len()..)
            .and_then(|rest| rest.trim_ascii_start().strip_prefix(b":"));
        value.is_some_and(|value| value.trim_ascii_start().starts_with(b"null"))
    };
    name.find_iter(data).any(|at| !is_null(at))
}

/// Whether choices tell of no answer: there are none, or, as LiteLLM writes it, one with an empty delta.
fn say_nothing(json: &str) -> bool {
    if json
        .strip_prefix('[')
        .is_some_and(|rest| rest.trim_ascii() == "]")
    {
        return true;
    }
    let choices: Vec<BTreeMap<String, Value>> = serde_json::from_str(json).unwrap_or_default();
    let empty = |value: &Value| match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    };
    let says_nothing = |(name, value): (&String, &Value)| match (name.as_str(), value) {
        ("index", _) => true,
        ("delta", Value::Object(delta)) => delta.iter().all(|(name, value)| name == "role" || empty(value)),
        _ => empty(value),
    };
    let is_one = |choice: &BTreeMap<_, _>| choice.contains_key("delta") || choice.contains_key("text");
    !choices.is_empty()
        && choices
            .iter()
            .all(|choice| is_one(choice) && choice.iter().all(says_nothing))
}

/// Whether there is nothing but usage, choices, and what stands in each event of a stream.
fn is_bare(json: &[u8]) -> bool {
    let members: BTreeMap<String, &RawValue> = serde_json::from_slice(json).unwrap_or_default();
    members.iter().all(|(name, value)| {
        matches!(
            name.as_str(),
            "id" | "object"
                | "created"
                | "model"
                | "choices"
                | "usage"
                | "system_fingerprint"
                | "service_tier"
                | "provider"
                | "obfuscation"
        ) || value.get() == "null"
    })
}

/// Where the member stands whose value is at `value`, with the comma that parts it from its neighbour.
fn member(json: &[u8], value: Range<usize>) -> Option<Range<usize>> {
    let before = json.get(..value.start)?.trim_ascii_end();
    let before = before.strip_suffix(b":")?.trim_ascii_end();
    let before = before.strip_suffix(USAGE.needle())?.trim_ascii_end();
    if let Some(before) = before.strip_suffix(b",") {
        return Some(before.len()..value.end);
    }
    let behind = json.get(value.end..)?;
    let rest = behind.trim_ascii_start().strip_prefix(b",")?;
    Some(before.len()..json.len() - rest.len())
}

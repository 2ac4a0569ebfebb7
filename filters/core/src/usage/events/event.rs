//! One event: its lines, and what its data says.

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::memchr2;
use memchr::memmem::Finder;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::usage::report::Reported;

static USAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br#""usage""#));

/// The fields of an event that are of interest.
#[derive(Default)]
pub(super) struct Event<'e> {
    /// `event`.
    pub(super) name: Option<&'e [u8]>,
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

/// What the data of an event says.
#[derive(Default)]
pub(super) struct Said {
    pub(super) reported: Reported,
    /// It is the extra event: usage, and an empty list of choices.
    pub(super) only_usage: bool,
    /// It is the stream's last.
    pub(super) ends: bool,
}

/// Members of interest, each as it stands: one of another type than expected is nobody's business here.
#[derive(Deserialize)]
struct Data<'d> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'d RawValue>,
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

    fn usage(&self) -> Option<&'d RawValue> {
        let inner = || Self::of(self.response.or(self.message)?.get().as_bytes())?.usage;
        self.usage.or_else(inner)
    }
}

/// Reads the data of an event; nothing of what is no JSON object.
pub(super) fn read(data: &[u8]) -> Said {
    if !mentions_usage(data) {
        return Said::default();
    }
    let Some(data) = Data::of(data) else {
        return Said::default();
    };
    Said {
        reported: data
            .usage()
            .map_or(Reported::Nothing, |usage| Reported::read(usage.get().as_bytes())),
        only_usage: data.usage.is_some_and(|usage| usage.get().starts_with('{'))
            && data.choices.is_some_and(|choices| is_empty_list(choices.get())),
        ends: data
            .kind
            .is_some_and(|kind| is_last(kind.get().trim_matches('"').as_bytes())),
    }
}

/// Where `"usage"` stands next, from `from` on; the end where it does not.
pub(super) fn find_usage(bytes: &[u8], from: usize) -> usize {
    let found = bytes.get(from..).and_then(|rest| USAGE.find(rest));
    found.map_or(bytes.len(), |at| from + at)
}

/// Whether a member may be called `usage` and not be null: most events hold no more than `"usage":null`.
fn mentions_usage(data: &[u8]) -> bool {
    let is_null = |at: usize| {
        let value = data
            .get(at + USAGE.needle().len()..)
            .and_then(|rest| rest.trim_ascii_start().strip_prefix(b":"));
        value.is_some_and(|value| value.trim_ascii_start().starts_with(b"null"))
    };
    USAGE.find_iter(data).any(|at| !is_null(at))
}

fn is_empty_list(json: &str) -> bool {
    json.strip_prefix('[')
        .is_some_and(|rest| rest.trim_ascii() == "]")
}

/// Whether an event of this name, or with data of this type, is a stream's last.
pub(super) fn is_last(name: &[u8]) -> bool {
    matches!(
        name,
        b"message_stop"
            | b"response.completed"
            | b"response.incomplete"
            | b"response.failed"
            | b"speech.audio.done"
            | b"transcript.text.done"
            | b"image_generation.completed"
            | b"image_edit.completed"
    )
}

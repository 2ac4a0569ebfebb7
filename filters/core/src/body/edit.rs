//! The changes that the gateway makes to a body: the model's own name takes the place of an alias, and a stream whose client
//! did not ask for its usage is metered all the same.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::{Body, span};
use crate::endpoint::Endpoint;

/// Text that goes into the place of `len` bytes at `at`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edit<'a> {
    /// Where, in bytes from the body's start.
    pub at: u32,
    /// How many bytes go.
    pub len: u32,
    /// What comes instead.
    #[serde(borrow)]
    pub text: Cow<'a, str>,
}

impl Edit<'_> {
    /// How much of a body it has to see: what is behind stays as it is.
    pub const fn end(&self) -> usize {
        (self.at as usize).saturating_add(self.len as usize)
    }

    /// The same, in a body where `other` was made already.
    #[must_use]
    pub fn behind(self, other: Option<&Edit<'_>>) -> Option<Self> {
        let Some(other) = other.filter(|other| other.at < self.at) else {
            return Some(self);
        };
        let moved = u64::from(self.at) + other.text.len() as u64;
        Some(Self {
            at: u32::try_from(moved.checked_sub(u64::from(other.len))?).ok()?,
            ..self
        })
    }

    /// How long the body will be, by the length that its client says; `None` where that is no length of it.
    pub fn length(&self, said: &[u8]) -> Option<usize> {
        let said: usize = core::str::from_utf8(said).ok()?.parse().ok()?;
        said.checked_sub(self.len as usize)?.checked_add(self.text.len())
    }

    /// What comes in the place of a body's beginning up to [`Self::end`]; `None` where it is too short.
    pub fn apply(&self, beginning: &[u8]) -> Option<Vec<u8>> {
        beginning.get(..self.end())?;
        let mut changed = beginning.get(..self.at as usize)?.to_vec();
        changed.extend_from_slice(self.text.as_bytes());
        Some(changed)
    }
}

const STREAM_OPTIONS: &str = r#""stream_options":{"include_usage":true},"#;
const OPTIONS: &str = r#"{"include_usage":true}"#;
const INCLUDE_USAGE: &str = r#""include_usage":true"#;
const INCLUDE_USAGE_AHEAD: &str = r#""include_usage":true,"#;

/// `stream_options`, of which nothing is read but where the member stands: all else of it is a stranger's, however much.
#[derive(Deserialize)]
struct Options<'a> {
    /// Null too is a value to replace.
    #[serde(borrow, default, deserialize_with = "as_it_stands")]
    include_usage: Option<&'a RawValue>,
}

pub(super) fn as_it_stands<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// What has a model server asked by the model's own name, where the body says another; `None` where it says this one. `form`:
/// it is no JSON.
pub fn rename(body: &Body<'_>, name: &str, form: bool) -> Option<Edit<'static>> {
    let (given, span) = (body.model.as_deref()?, body.model_span.as_ref()?);
    if given == name {
        return None;
    }
    let text = match form {
        true => name.to_owned(),
        // Strings always encode.
        false => serde_json::to_string(name).ok()?,
    };
    Some(Edit {
        at: u32::try_from(span.start).ok()?,
        len: u32::try_from(span.len()).ok()?,
        text: Cow::Owned(text),
    })
}

/// What makes a model server say the usage of this stream; `None` where it does so unasked, or was asked.
///
/// `whole` is the body that `body` was read from.
pub fn ask_usage(endpoint: Endpoint, whole: &[u8], body: &Body<'_>) -> Option<Edit<'static>> {
    if !body.stream || !matches!(endpoint, Endpoint::Chat | Endpoint::Completions) {
        return None;
    }
    let edit = |at: usize, len: usize, text: &'static str| {
        Some(Edit {
            at: u32::try_from(at).ok()?,
            len: u32::try_from(len).ok()?,
            text: Cow::Borrowed(text),
        })
    };
    let Some(options) = body.stream_options else {
        // Ahead of all members, of which `stream` is one.
        let start = memchr::memchr(b'{', whole)?;
        return edit(start + 1, 0, STREAM_OPTIONS);
    };
    if options.include_usage == Some(true) {
        return None;
    }
    let place = span(whole, options.json.as_bytes())?;
    let Some(members) = options.json.strip_prefix('{') else {
        // It is null.
        return edit(place.start, place.len(), OPTIONS);
    };
    let read: Options<'_> = serde_json::from_str(options.json).ok()?;
    if let Some(value) = read.include_usage {
        let value = span(whole, value.get().as_bytes())?;
        return edit(value.start, value.len(), "true");
    }
    let alone = members.trim_ascii_start().starts_with('}');
    let member = if alone { INCLUDE_USAGE } else { INCLUDE_USAGE_AHEAD };
    edit(place.start + 1, 0, member)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::read_json;
    use serde_json::Value;

    fn asked(text: &str) -> Option<Value> {
        let body = read_json(Endpoint::Chat, text.as_bytes()).unwrap();
        let edit = ask_usage(Endpoint::Chat, text.as_bytes(), &body)?;
        let beginning = edit.apply(&text.as_bytes()[..edit.end()]).unwrap();
        let edited = String::from_utf8(beginning).unwrap() + &text[edit.end()..];
        assert_eq!(edit.length(text.len().to_string().as_bytes()), Some(edited.len()));
        assert_eq!(edit.apply(&text.as_bytes()[..edit.end() - 1]), None);
        let mut value: Value = serde_json::from_str(&edited).unwrap();
        // No member twice, and nothing else changed.
        let read = read_json(Endpoint::Chat, edited.as_bytes()).unwrap();
        assert_eq!(read.stream_options.unwrap().include_usage, Some(true));
        let options = value.as_object_mut().unwrap().remove("stream_options");
        let mut before: Value = serde_json::from_str(text).unwrap();
        before.as_object_mut().unwrap().remove("stream_options");
        assert_eq!(value, before);
        options
    }

    #[test]
    fn a_stream_is_asked_for_its_usage() {
        let plain = serde_json::json!({"include_usage": true});
        assert_eq!(asked(r#" {"model":"m","stream":true}"#), Some(plain.clone()));
        assert_eq!(
            asked(r#"{"stream_options" : null,"stream":true}"#),
            Some(plain.clone())
        );
        assert_eq!(
            asked(r#"{"stream":true,"stream_options":{}}"#),
            Some(plain.clone())
        );
        assert_eq!(
            asked(r#"{"stream":true,"stream_options":{"include_usage":false}}"#),
            Some(plain.clone())
        );
        assert_eq!(
            asked(r#"{"stream":true,"stream_options":{"include_usage":null,"include_obfuscation":false}}"#),
            Some(serde_json::json!({"include_usage": true, "include_obfuscation": false}))
        );
        assert_eq!(
            asked(r#"{"stream":true,"stream_options": { "x" : [{"include_usage":false},1e9] } }"#),
            Some(serde_json::json!({"include_usage": true, "x": [{"include_usage": false}, 1e9]}))
        );
        assert_eq!(
            asked(r#"{"stream_options":{"x":{}, "include\u005fusage" : false },"stream":true}"#),
            Some(serde_json::json!({"include_usage": true, "x": {}}))
        );
        assert_eq!(asked(r#"{"stream_options":{ },"stream":true}"#), Some(plain));
    }

    #[test]
    fn an_alias_becomes_the_name_and_what_else_changes_moves_with_it() {
        for text in [
            r#"{"model" : "gpt","stream":true,"stream_options":{"include_usage":false}}"#,
            r#"{"stream":true,"stream_options":{},"model":"gpt"}"#,
            r#"{"stream":true,"model":"g\u0070t"}"#,
        ] {
            let body = read_json(Endpoint::Chat, text.as_bytes()).unwrap();
            let named = rename(&body, "llama \"70b\"", false).unwrap();
            let asked = ask_usage(Endpoint::Chat, text.as_bytes(), &body).unwrap();
            let asked = asked.behind(Some(&named)).unwrap();
            let edited = [&named, &asked].iter().fold(text.to_owned(), |text, edit| {
                let beginning = edit.apply(&text.as_bytes()[..edit.end()]).unwrap();
                String::from_utf8(beginning).unwrap() + &text[edit.end()..]
            });
            let read = read_json(Endpoint::Chat, edited.as_bytes()).unwrap();
            assert_eq!(read.model.as_deref(), Some("llama \"70b\""), "{edited}");
            assert_eq!(read.stream_options.unwrap().include_usage, Some(true), "{edited}");
            assert_eq!(rename(&body, "gpt", false), None);
        }
    }

    #[test]
    fn what_needs_no_asking_stays_as_it_is() {
        assert_eq!(
            asked(r#"{"stream":true,"stream_options":{"include_usage":true}}"#),
            None
        );
        assert_eq!(asked(r#"{"model":"m"}"#), None);
        assert_eq!(
            asked(r#"{"stream":false,"stream_options":{"include_usage":false}}"#),
            None
        );
        let text = br#"{"model":"m","stream":true}"#;
        let body = read_json(Endpoint::Chat, text).unwrap();
        assert_eq!(ask_usage(Endpoint::Responses, text, &body), None);
        assert_eq!(ask_usage(Endpoint::Messages, text, &body), None);
    }
}

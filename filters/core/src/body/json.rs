//! JSON bodies. No tree is built: members that the gateway has no use for are walked over, but walked over by the
//! same rules as all others, so that what passes is what `serde_json` calls a document.

use core::cell::{Cell, RefCell};
use core::fmt;
use std::borrow::Cow;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Unexpected, Visitor,
};
use serde_json::value::RawValue;

use super::{Body, Input, Malformed, StreamOptions};

/// More members than any endpoint has.
const MAX_MEMBERS: usize = 256;

/// Reads a JSON body.
pub fn read(body: &[u8]) -> Result<Body<'_>, Malformed> {
    // Checked once for all: a reader that skips over a string does not look inside.
    let text = core::str::from_utf8(body)
        .map_err(|error| Malformed::new(format!("The body is not UTF-8: byte {}.", error.valid_up_to())))?;
    let param = Cell::new(None);
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = Top { text, param: &param }
        .deserialize(&mut reader)
        .and_then(|body| reader.end().map(|()| body));
    read.map_err(|error| Malformed {
        param: param.get(),
        reason: said(&error),
    })
}

fn said(error: &serde_json::Error) -> String {
    if error.is_eof() {
        return format!(
            "The body is not valid JSON: it ends too early, at line {} column {}.",
            error.line(),
            error.column()
        );
    }
    format!("The body is not valid JSON for this endpoint: {error}.")
}

/// The document: an object.
struct Top<'p> {
    /// All of it.
    text: &'p str,
    /// The member that is being read, for the error.
    param: &'p Cell<Option<&'static str>>,
}

impl<'de> DeserializeSeed<'de> for Top<'_> {
    type Value = Body<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Body<'de>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Top<'_> {
    type Value = Body<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Body<'de>, A::Error> {
        let mut body = Body {
            answers: 1,
            ..Body::default()
        };
        let mut seen = Vec::new();
        let input = RefCell::new(Input::default());
        while let Some(name) = members.next_key_seed(Text)? {
            if seen.len() >= MAX_MEMBERS {
                return Err(A::Error::custom("too many members"));
            }
            if seen.contains(&name) {
                return Err(A::Error::custom(format_args!(
                    "member `{}` is given twice",
                    shown(&name)
                )));
            }
            self.param.set(known(&name));
            match name.as_ref() {
                "model" => {
                    // Taken as it stands, for its place; then read.
                    let json: &RawValue = members.next_value()?;
                    body.model = model(json).map_err(A::Error::custom)?;
                    body.model_span = super::span(self.text.as_bytes(), json.get().as_bytes())
                        .filter(|_| body.model.is_some());
                }
                "stream" => body.stream = members.next_value::<Option<bool>>()?.unwrap_or(false),
                "stream_options" => {
                    // Walked over first, by the rules for all; then taken as it stands.
                    let json: &RawValue = members.next_value()?;
                    body.stream_options = Some(stream_options(json).map_err(A::Error::custom)?);
                }
                "max_tokens" => body.caps.max_tokens = members.next_value_seed(Count)?,
                "max_completion_tokens" => {
                    body.caps.max_completion_tokens = members.next_value_seed(Count)?;
                }
                "max_output_tokens" => body.caps.max_output_tokens = members.next_value_seed(Count)?,
                "n" | "best_of" => {
                    let count = members.next_value_seed(Count)?.unwrap_or(1);
                    let count = u32::try_from(count).map_err(|_| {
                        A::Error::invalid_value(Unexpected::Unsigned(count), &"a smaller number")
                    })?;
                    body.answers = body.answers.max(count);
                }
                "messages" | "input" | "prompt" | "system" | "instructions" | "tools" | "functions"
                | "documents" => {
                    members.next_value_seed(Walk(Some(&input)))?;
                }
                _ => members.next_value_seed(Walk(None))?,
            }
            self.param.set(None);
            seen.push(name);
        }
        body.input = input.into_inner();
        Ok(body)
    }
}

/// The members that an error may point at.
fn known(name: &str) -> Option<&'static str> {
    [
        "model",
        "stream",
        "stream_options",
        "max_tokens",
        "max_completion_tokens",
        "max_output_tokens",
        "n",
        "best_of",
        "messages",
        "input",
        "prompt",
        "system",
        "instructions",
        "tools",
        "functions",
        "documents",
    ]
    .into_iter()
    .find(|known| *known == name)
}

/// The error comes without its place, which is that in the value alone.
fn model(json: &RawValue) -> Result<Option<Cow<'_, str>>, String> {
    let mut reader = serde_json::Deserializer::from_str(json.get());
    Nullable(Text)
        .deserialize(&mut reader)
        .map_err(|error| crate::config::problem(&error))
}

/// The error comes without its place, too.
fn stream_options(json: &RawValue) -> Result<StreamOptions<'_>, String> {
    // serde_json bounds the depth of a document, and this one stands in another: it has a level less.
    let enclosed = format!("[{}]", json.get());
    let (options,): (Option<Options>,) =
        serde_json::from_str(&enclosed).map_err(|error| crate::config::problem(&error))?;
    Ok(StreamOptions {
        json: json.get(),
        include_usage: options.unwrap_or_default().include_usage,
    })
}

#[derive(Default)]
struct Options {
    include_usage: Option<bool>,
}

impl<'de> Deserialize<'de> for Options {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(OptionsVisitor)
    }
}

struct OptionsVisitor;

impl<'de> Visitor<'de> for OptionsVisitor {
    type Value = Options;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Options, A::Error> {
        let mut options = Options::default();
        let mut seen = Vec::new();
        while let Some(name) = members.next_key_seed(Text)? {
            if seen.len() >= MAX_MEMBERS || seen.contains(&name) {
                return Err(A::Error::custom("a member is given twice"));
            }
            match name.as_ref() {
                "include_usage" => options.include_usage = members.next_value()?,
                _ => members.next_value_seed(Walk(None))?,
            }
            seen.push(name);
        }
        Ok(options)
    }
}

/// A string, borrowed from the body where it holds no escapes.
struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

/// A whole number of zero or more, also written as `100.0`; null is none.
struct Count;

impl<'de> DeserializeSeed<'de> for Count {
    type Value = Option<u64>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Count {
    type Value = Option<u64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number of zero or more")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Some(number))
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Self::Value, E> {
        // Above 2^53 a double no longer says which whole number was meant.
        if number.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&number) {
            return Ok(Some(number as u64));
        }
        Err(E::invalid_value(Unexpected::Float(number), &self))
    }
}

/// What `S` reads, or null.
struct Nullable<S>(S);

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Nullable<S> {
    type Value = Option<S::Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de, S: DeserializeSeed<'de>> Visitor<'de> for Nullable<S> {
    type Value = Option<S::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value or null")
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        self.0.deserialize(deserializer).map(Some)
    }
}

/// Walks over any value, by the rules that hold for all (depth, numbers, escapes), and counts what a model would
/// read in it.
#[derive(Clone, Copy)]
struct Walk<'i>(Option<&'i RefCell<Input>>);

impl Walk<'_> {
    fn count(self, add: impl FnOnce(&mut Input)) {
        if let Some(mut input) = self.0.and_then(|input| input.try_borrow_mut().ok()) {
            add(&mut input);
        }
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        // Not `deserialize_ignored_any`: serde_json's has no limit on depth and does not read numbers.
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        self.count(|input| input.numbers += 1);
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        self.count(|input| input.numbers += 1);
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.count(|input| input.numbers += 1);
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.count(|input| {
            if text.starts_with("data:") {
                input.media += 1;
            } else {
                input.text += text.len() as u64;
            }
        });
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(name) = members.next_key_seed(Text)? {
            if name == "data" && self.0.is_some() {
                // Anthropic's `source: {type: base64, data}` and OpenAI's `input_audio: {data}`.
                self.count(|input| input.media += 1);
                members.next_value_seed(Walk(None))?;
            } else {
                members.next_value_seed(self)?;
            }
        }
        Ok(())
    }
}

fn shown(name: &str) -> String {
    name.chars().take(64).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::Endpoint;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn reason(body: &[u8]) -> String {
        read(body).unwrap_err().reason
    }

    #[test]
    fn a_chat() {
        let text = r#"{"model":"llama-70b","messages":[{"role":"user","content":"h\u00e9llo"},
            {"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]}],
            "stream":true,"max_tokens":100,"max_completion_tokens":50.0,"n":2,"stream_options":{"include_usage":false},
            "temperature":0.5,"unknown":{"deep":[1,2,{"x":null}]}}"#;
        let body = read(text.as_bytes()).unwrap();
        assert_eq!(body.model.as_deref(), Some("llama-70b"));
        assert!(matches!(body.model, Some(Cow::Borrowed(_))));
        assert!(body.stream);
        assert_eq!(body.answers, 2);
        assert_eq!(
            (body.caps.max_tokens, body.caps.max_completion_tokens),
            (Some(100), Some(50))
        );
        // A server that keeps to the other would write more than was reserved.
        assert_eq!(body.caps.at(Endpoint::Chat), Some(100));
        assert_eq!(body.caps.at(Endpoint::Responses), None);
        let options = body.stream_options.unwrap();
        assert_eq!(
            (options.json, options.include_usage),
            (r#"{"include_usage":false}"#, Some(false))
        );
        let text = "user".len() * 2 + "héllo".len() + "image_url".len();
        assert_eq!(
            body.input,
            Input {
                text: text as u64,
                numbers: 0,
                media: 1
            }
        );
    }

    #[test]
    fn the_place_of_the_model_is_its_value_with_quotes() {
        for (body, value) in [
            (r#"{"model":"m"}"#, r#""m""#),
            (r#"{ "model" : "a\u0062c" , "x":1}"#, r#""a\u0062c""#),
            (
                r#"{"metadata":{"model":"inner"},"mod\u0065l":"é\/\"b"}"#,
                r#""é\/\"b""#,
            ),
        ] {
            let span = read(body.as_bytes()).unwrap().model_span.unwrap();
            assert_eq!(&body[span], value);
        }
        for body in [r#"{"model":null}"#, r#"{"metadata":{"model":"inner"}}"#] {
            assert_eq!(read(body.as_bytes()).unwrap().model_span, None);
        }
        assert!(reason(br#"{"model":"\ud800"}"#).contains("hex escape at line 1 column"));
    }

    #[test]
    fn nulls_are_absent() {
        let body = read(br#"{"model":null,"stream":null,"max_tokens":null,"n":null,"stream_options":null}"#)
            .unwrap();
        assert_eq!(
            body,
            Body {
                answers: 1,
                stream_options: Some(StreamOptions {
                    json: "null",
                    include_usage: None,
                }),
                ..Body::default()
            }
        );
    }

    #[test]
    fn tokens_and_sound_are_told_from_text() {
        let body = read(br#"{"input":[[1,2,3],[4]],"messages":[{"content":[{"input_audio":{"data":"QUJD","format":"wav"}}]}]}"#);
        assert_eq!(
            body.unwrap().input,
            Input {
                text: 3,
                numbers: 4,
                media: 1
            }
        );
    }

    #[test]
    fn what_is_doubtful_is_refused_with_its_place() {
        for (body, said) in [
            (
                r#"{"model":"a","model":"b"}"#,
                "member `model` is given twice at line 1 column 20",
            ),
            (r#"{"x":1,"x":1}"#, "member `x` is given twice"),
            (
                r#"{"mod\u0065l":"a","model":"b"}"#,
                "member `model` is given twice",
            ),
            (
                r#"{"model":"a"} {"model":"b"}"#,
                "trailing characters at line 1 column 15",
            ),
            (r#"{"model":"a""#, "ends too early, at line 1 column 12"),
            ("", "ends too early"),
            ("[]", "expected an object at line 1 column 0"),
            (
                r#"{"model":7}"#,
                "invalid type: integer `7`, expected a string at line 1 column 11",
            ),
            (r#"{"stream":"yes"}"#, "expected a boolean"),
            (r#"{"max_tokens":-1}"#, "expected a whole number of zero or more"),
            (r#"{"max_tokens":1.5}"#, "expected a whole number of zero or more"),
            (r#"{"n":4294967296}"#, "expected a smaller number"),
            (r#"{"x":1e999}"#, "number out of range"),
            (r#"{"x":01}"#, "invalid number"),
            (r#"{"x":"\ud800"}"#, "unexpected end of hex escape"),
            ("{\"x\":\"a\nb\"}", "control character"),
            (
                r#"{"stream_options":{"include_usage":true,"include_usage":false}}"#,
                "given twice",
            ),
            (r#"{"stream_options":[]}"#, "expected an object"),
        ] {
            let reason = reason(body.as_bytes());
            assert!(reason.contains(said), "{body}: {reason}");
        }
        assert_eq!(reason(b"{\"x\":\"\xff\"}"), "The body is not UTF-8: byte 6.");
        assert_eq!(read(br#"{"n":{}}"#).unwrap_err().param, Some("n"));
    }

    #[test]
    fn options_are_no_deeper_than_any_other_member() {
        let body = |name: &str, levels: usize| {
            format!(
                "{{\"{name}\":{{\"x\":{}{}}}}}",
                "[".repeat(levels),
                "]".repeat(levels)
            )
        };
        for name in ["stream_options", "metadata"] {
            assert!(read(body(name, 125).as_bytes()).is_ok(), "{name}");
            assert!(
                reason(body(name, 126).as_bytes()).contains("recursion limit"),
                "{name}"
            );
        }
    }

    #[test]
    fn depth_and_members_are_bounded() {
        let deep = |levels: usize| format!("{{\"x\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
        assert!(read(deep(100).as_bytes()).is_ok());
        assert!(reason(deep(10_000).as_bytes()).contains("recursion limit"));
        let wide: Vec<String> = (0..300).map(|n| format!("\"m{n}\":0")).collect();
        assert!(reason(format!("{{{}}}", wide.join(",")).as_bytes()).contains("too many members"));
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f32>()
                .prop_filter("JSON has none", |n| n.is_finite())
                .prop_map(|n| json!(n)),
            ".{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map(".{0,6}", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// On every valid document it says what a tree of it says.
        #[test]
        fn agrees_with_a_tree(
            model in proptest::option::of(".{0,20}"), stream in any::<Option<bool>>(), cap in any::<Option<u32>>(),
            messages in any_value(), others in proptest::collection::btree_map("x[a-z]{0,6}", any_value(), 0..6),
            pretty in any::<bool>(),
        ) {
            let mut tree = Value::Object(others.into_iter().collect());
            tree["model"] = json!(model);
            tree["stream"] = json!(stream);
            tree["max_tokens"] = json!(cap);
            tree["messages"] = messages;
            let text = if pretty { serde_json::to_string_pretty(&tree) } else { serde_json::to_string(&tree) }.unwrap();
            let body = read(text.as_bytes()).unwrap();
            prop_assert_eq!(body.model.as_deref(), tree["model"].as_str());
            let place = body.model_span.map(|span| serde_json::from_str::<String>(&text[span]).unwrap());
            prop_assert_eq!(place.as_deref(), tree["model"].as_str());
            prop_assert_eq!(body.stream, tree["stream"].as_bool().unwrap_or(false));
            prop_assert_eq!(body.caps.max_tokens, tree["max_tokens"].as_u64());
        }

        /// It never accepts what serde_json refuses.
        #[test]
        fn accepts_no_more_than_serde_json(
            tree in any_value(), at in any::<prop::sample::Index>(), with in any::<u8>(), cut in any::<bool>(),
        ) {
            let mut text = format!("{{\"model\":\"m\",\"messages\":{tree}}}").into_bytes();
            let at = at.index(text.len());
            if cut { text.truncate(at) } else { text[at] = with }
            if read(&text).is_ok() {
                prop_assert!(serde_json::from_slice::<Value>(&text).is_ok());
            }
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = read(&bytes);
        }
    }
}

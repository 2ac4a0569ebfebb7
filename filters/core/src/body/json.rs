//! JSON bodies. No tree is built: members that the gateway has no use for are walked over, but walked over by the
//! same rules as all others, so that what passes is what `serde_json` calls a document.

use core::cell::Cell;
use core::fmt;
use core::ops::Range;
use std::borrow::Cow;
use std::collections::BTreeSet;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, Unexpected, Visitor};
use serde_json::value::RawValue;

use super::input::{Counts, Found, MAX_VALUES, Member, Place, place};
use super::text::Text;
use super::{Body, Malformed, StreamOptions, Unmetered, caps, names};
use crate::endpoint::Endpoint;

/// More members than any endpoint has.
const MAX_MEMBERS: usize = 256;
/// Longer than the name of any of them, in bytes.
const MAX_NAME: usize = 128;
/// Most escapes. Each costs as much as dozens of bytes of text; twenty megabytes of nothing but `\\uXXXX` fit.
const MAX_ESCAPES: usize = 1 << 22;
/// Longer than the name of any model, in bytes.
const MAX_MODEL: usize = 1024;
/// Far longer than any `stream_options`, in bytes.
const MAX_OPTIONS: usize = 2 << 20;

/// Reads the JSON body of a request to this endpoint.
pub fn read(endpoint: Endpoint, body: &[u8]) -> Result<Body<'_>, Malformed> {
    // Checked once for all: a reader that skips over a string does not look inside.
    let text = core::str::from_utf8(body)
        .map_err(|error| Malformed::new(format!("The body is not UTF-8: byte {}.", error.valid_up_to())))?;
    if body.len() > MAX_ESCAPES && memchr::memchr_iter(b'\\', body).count() > MAX_ESCAPES {
        return Err(Malformed::new(format!(
            "The body has more than {MAX_ESCAPES} escapes (`\\`) in its strings."
        )));
    }
    if body.starts_with(b"\xef\xbb\xbf") {
        return Err(Malformed::new(
            "The body begins with a byte order mark, which JSON has not: leave it out.",
        ));
    }
    let param = Cell::new(None);
    let values = Cell::new(MAX_VALUES);
    let mut reader = serde_json::Deserializer::from_str(text);
    let top = Top {
        endpoint,
        text,
        param: &param,
        values: &values,
    };
    let read = top
        .deserialize(&mut reader)
        .and_then(|body| reader.end().map(|()| body))
        .and_then(|body| placed(text, body));
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
struct Top<'p, 'de> {
    endpoint: Endpoint,
    /// All of it.
    text: &'de str,
    /// The member that is being read, for the error.
    param: &'p Cell<Option<&'static str>>,
    /// How many more values there may be.
    values: &'p Cell<u32>,
}

impl<'de> DeserializeSeed<'de> for Top<'_, 'de> {
    type Value = Body<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Body<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Top<'_, 'de> {
    type Value = Body<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<Self::Value, E> {
        Err(no_string(&self))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Body<'de>, A::Error> {
        let mut body = Body {
            answers: 1,
            ..Body::default()
        };
        let mut names = MemberNames::default();
        let counts = Counts::new(self.endpoint, self.values);
        let mut longest = 0;
        while let Some(name) = members.next_key_seed(Text)? {
            let known = names::member(&name);
            let mistaken = if known.is_none() {
                names::mistaken_member(&name)
            } else {
                None
            };
            self.param.set(known.or(mistaken));
            only_as_it_is(&name, mistaken).map_err(A::Error::custom)?;
            names.add(&name).map_err(A::Error::custom)?;
            let whole = &name;
            match name.as_ref() {
                "model" => {
                    body.model = members.next_value_seed(Nullable(Text))?;
                    if body.model.as_ref().is_some_and(|model| model.len() > MAX_MODEL) {
                        return Err(A::Error::custom(format_args!(
                            "longer than {MAX_MODEL} bytes, expected the name of a model"
                        )));
                    }
                    if body
                        .model
                        .as_ref()
                        .is_some_and(|model| model.contains(char::is_control))
                    {
                        return Err(A::Error::custom(
                            "the name of a model holds no control characters",
                        ));
                    }
                    if let Some(model) = &body.model {
                        body.model_span = match (model, &name) {
                            // It holds no escapes and stands between its quotes.
                            (Cow::Borrowed(model), _) => self
                                .span(model)
                                .map(|inner| inner.start.saturating_sub(1)..inner.end + 1),
                            (Cow::Owned(_), Cow::Borrowed(name)) => {
                                value_of(self.text, name).and_then(|json| self.span(json))
                            }
                            (Cow::Owned(_), Cow::Owned(_)) => None,
                        };
                    }
                }
                "stream" => body.stream = members.next_value_seed(Flag)?.unwrap_or(false),
                "stream_options" => {
                    let include_usage = members.next_value_seed(Options { values: self.values })?;
                    body.stream_options = Some(StreamOptions {
                        json: match &name {
                            Cow::Borrowed(name) => value_of(self.text, name).unwrap_or_default(),
                            Cow::Owned(_) => "",
                        },
                        include_usage,
                    });
                }
                "max_tokens" => body.caps.max_tokens = self.count(&mut members, &name)?,
                "max_completion_tokens" => {
                    body.caps.max_completion_tokens = self.count(&mut members, &name)?;
                }
                "max_output_tokens" => body.caps.max_output_tokens = self.count(&mut members, &name)?,
                name if names::ANSWERS.contains(&name) => {
                    let count = self.count(&mut members, whole)?.unwrap_or(1);
                    let count = u32::try_from(count).map_err(|_| {
                        A::Error::invalid_value(Unexpected::Unsigned(count), &"a smaller number")
                    })?;
                    body.answers = body.answers.max(count);
                }
                _ => match place(self.endpoint, &name) {
                    Some(place) => {
                        let member = counts.member(place, &name, &mut members)?;
                        body.least_tokens = body.least_tokens.saturating_add(member.least_tokens);
                        if known.is_some() && member.bytes > longest {
                            (longest, body.longest) = (member.bytes, known);
                        }
                        if let Some(cap) = caps::member(&name) {
                            length(&mut body, cap, &member).map_err(A::Error::custom)?;
                        }
                        beside(&mut body, &counts, self.endpoint, &name, &member);
                    }
                    None => {
                        let apart = Counts::new(self.endpoint, self.values);
                        let member = apart.member(Place::Tier, &name, &mut members)?;
                        counts.setting(member.bytes);
                        if name == "service_tier" && member.given {
                            body.unmetered.push(Unmetered::ServiceTier);
                        }
                    }
                },
            }
            self.param.set(None);
        }
        body.answers = body.answers.saturating_mul(counts.prompts());
        body.input = counts.input();
        Ok(body)
    }
}

impl<'de> Top<'_, 'de> {
    /// A count, by its digits where it has a fraction or a power: readers differ on what is left of those.
    fn count<A: MapAccess<'de>>(
        &self,
        members: &mut A,
        name: &Cow<'de, str>,
    ) -> Result<Option<u64>, A::Error> {
        let whole = match members.next_value_seed(Count)? {
            None => return Ok(None),
            Some(Number::Whole(whole)) => Some(whole),
            Some(Number::Real) => match name {
                Cow::Borrowed(name) => value_of(self.text, name).and_then(whole),
                Cow::Owned(_) => None,
            },
        };
        let expected = || A::Error::custom("invalid value, expected a whole number of zero or more");
        Ok(Some(whole.ok_or_else(expected)?))
    }

    fn span(&self, part: &str) -> Option<Range<usize>> {
        super::span(self.text.as_bytes(), part.as_bytes())
    }
}

/// What a member says of how long an answer may get. A text is a number to some servers, and none to others.
fn length(body: &mut Body<'_>, name: &'static str, member: &Member) -> Result<(), &'static str> {
    let object = caps::OBJECTS.contains(&name);
    match &member.found {
        Found::Number(said) => body.caps.take(name, name, *said),
        Found::Lengths { said, .. } => said
            .iter()
            .for_each(|(inner, said)| body.caps.take(name, inner, *said)),
        Found::Text | Found::True | Found::List if !object => {
            return Err("invalid value, expected a number");
        }
        _ => {}
    }
    Ok(())
}

/// What a member says beside its text.
fn beside(body: &mut Body<'_>, counts: &Counts, endpoint: Endpoint, name: &str, member: &Member) {
    match name {
        // What was predicted and is not written is charged on top of the cap.
        "prediction" => body.caps.on_top = body.caps.on_top.saturating_add(member.bytes),
        "previous_response_id" | "conversation" | "prompt"
            if member.given && endpoint == Endpoint::Responses =>
        {
            counts.unseen();
        }
        "web_search_options" | "web_search" | "enable_search" | "mcp_servers" | "search_parameters"
        | "connectors"
            if member.given =>
        {
            counts.unseen();
        }
        "container" if member.given && endpoint == Endpoint::Messages => counts.unseen(),
        "chat_template_kwargs" => {
            let template = member.template.then_some(Unmetered::ChatTemplateKwargs);
            body.unmetered.extend(template);
        }
        // text-generation-webui fills its window.
        "auto_max_new_tokens" if member.given => body.caps.endless = Some("auto_max_new_tokens"),
        "background" if endpoint != Endpoint::Responses => {}
        // That of sound.
        "speed" if endpoint != Endpoint::Messages => {}
        _ => {
            // To these zero is one as any other.
            let given = match name {
                "id_slot" | "data_parallel_rank" | "routed_dp_rank" | "disagg_prefill_dp_rank" => {
                    member.there
                }
                _ => member.given,
            };
            body.unmetered.extend(Unmetered::of(name).filter(|_| given));
        }
    }
}

/// The names of an object's members, which are short and all different.
#[derive(Default)]
struct MemberNames<'a> {
    /// As many as nearly all bodies have.
    first: Vec<Cow<'a, str>>,
    more: BTreeSet<Cow<'a, str>>,
}

impl<'a> MemberNames<'a> {
    /// How many are compared one by one.
    const FIRST: usize = 12;

    #[expect(
        clippy::ptr_arg,
        reason = "it is kept as it is, borrowed from the body or not"
    )]
    fn add(&mut self, name: &Cow<'a, str>) -> Result<(), String> {
        if self.first.len() + self.more.len() >= MAX_MEMBERS {
            return Err(format!("too many members: there may be {MAX_MEMBERS}"));
        }
        if name.len() > MAX_NAME {
            return Err(format!(
                "the name of member `{}…` is longer than {MAX_NAME} bytes",
                shown(name)
            ));
        }
        // Readers that know no case would read one of two at random.
        let folded = names::folded(name).map_or_else(|| name.clone(), Cow::Owned);
        if self.first.contains(&folded) || self.more.contains(&folded) {
            let case = if *name == folded { "" } else { " but for its case" };
            return Err(format!("member `{}` is given twice{case}", shown(name)));
        }
        if self.first.len() < Self::FIRST {
            self.first.push(folded);
        } else {
            self.more.insert(folded);
        }
        Ok(())
    }
}

/// Refuses what `mistaken` is read for by somebody else, and what JavaScript makes more than a member of.
fn only_as_it_is(name: &str, mistaken: Option<&'static str>) -> Result<(), String> {
    if let Some(known) = mistaken {
        return Err(format!(
            "some servers read member `{}` as `{known}`, others do not: write `{known}`, or leave it out",
            shown(name)
        ));
    }
    if name == "__proto__" {
        return Err("no member may be called `__proto__`".to_owned());
    }
    Ok(())
}

/// The value of the member called `name`, as it stands in `text`: `name` is where it was borrowed from. `None` where it
/// is not from there, as it holds escapes.
fn value_of<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let name = super::span(text.as_bytes(), name.as_bytes())?;
    let rest = text.get(name.end..)?.strip_prefix('"')?;
    let rest = rest.trim_ascii_start().strip_prefix(':')?;
    let mut reader = serde_json::Deserializer::from_str(rest);
    <&RawValue>::deserialize(&mut reader).ok().map(RawValue::get)
}

/// Members as they stand in a body.
#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "super::edit::as_it_stands")]
    stream_options: Option<&'a RawValue>,
}

/// `body`, which was read from `text`, with the places that are missing as the names of their members hold escapes. Nobody
/// writes them so, and it takes a second look at the document, which is known to be good by now.
fn placed<'a>(text: &'a str, mut body: Body<'a>) -> Result<Body<'a>, serde_json::Error> {
    let model = body.model.is_some() && body.model_span.is_none();
    let options = matches!(&body.stream_options, Some(options) if options.json.is_empty());
    if model || options {
        let raw: Raw<'a> = serde_json::from_str(text)?;
        body.model_span = raw
            .model
            .and_then(|json| super::span(text.as_bytes(), json.get().as_bytes()));
        if let (Some(options), Some(json)) = (&mut body.stream_options, raw.stream_options) {
            options.json = json.get();
        }
    }
    match body.stream_options {
        Some(options) if options.json.len() > MAX_OPTIONS => Err(serde_json::Error::custom(format_args!(
            "member `stream_options` is longer than {MAX_OPTIONS} bytes"
        ))),
        _ => Ok(body),
    }
}

/// `stream_options`: reads `include_usage`, where given.
struct Options<'p> {
    /// How many more values there may be.
    values: &'p Cell<u32>,
}

impl<'de> DeserializeSeed<'de> for Options<'_> {
    type Value = Option<bool>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Options<'_> {
    type Value = Option<bool>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<Self::Value, E> {
        Err(no_string(&self))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut include_usage = None;
        let mut names = MemberNames::default();
        while let Some(name) = members.next_key_seed(Text)? {
            only_as_it_is(&name, names::mistaken(&name, names::OPTIONS.into_iter()))
                .map_err(A::Error::custom)?;
            names.add(&name).map_err(A::Error::custom)?;
            match name.as_ref() {
                "include_usage" => include_usage = members.next_value_seed(Flag)?,
                _ => {
                    Counts::new(Endpoint::Chat, self.values).member(Place::Text, &name, &mut members)?;
                }
            }
        }
        Ok(include_usage)
    }
}

/// True, false or null.
struct Flag;

impl<'de> DeserializeSeed<'de> for Flag {
    type Value = Option<bool>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Flag {
    type Value = Option<bool>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a boolean")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Self::Value, E> {
        Ok(Some(flag))
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<Self::Value, E> {
        Err(no_string(&self))
    }
}

/// Without the string itself, which may be most of the body.
fn no_string<'de, E: serde::de::Error>(expected: &impl Visitor<'de>) -> E {
    E::invalid_type(Unexpected::Other("string"), expected)
}

/// The whole number that a literal such as `100.0` or `1e2` is. `None` for one that is none, or has so many digits that
/// not every reader sees that it is one.
fn whole(literal: &str) -> Option<u64> {
    let (mantissa, power) = literal.split_once(['e', 'E']).unwrap_or((literal, "0"));
    let (digits, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if digits.len() + fraction.len() > 15 {
        return None;
    }
    let power = i64::from(power.parse::<i16>().ok()?) - i64::try_from(fraction.len()).ok()?;
    // A sign before the digits is no digit.
    let all: u64 = digits.parse::<u64>().ok()?;
    let all = fraction.bytes().try_fold(all, |all, digit| {
        all.checked_mul(10)?
            .checked_add(u64::from(digit.checked_sub(b'0')?))
    })?;
    let scale = 10_u64.checked_pow(u32::try_from(power.unsigned_abs()).ok()?)?;
    if power >= 0 {
        all.checked_mul(scale)
    } else {
        (all % scale == 0).then_some(all / scale)
    }
}

/// A number; null is none.
struct Count;

enum Number {
    /// Zero or more.
    Whole(u64),
    /// What may be whole.
    Real,
}

impl<'de> DeserializeSeed<'de> for Count {
    type Value = Option<Number>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Count {
    type Value = Option<Number>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number of zero or more")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Some(Number::Whole(number)))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Some(Number::Real))
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<Self::Value, E> {
        Err(no_string(&self))
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

fn shown(name: &str) -> String {
    let name = crate::key::shown(name, 64);
    name.chars().flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn read(body: &[u8]) -> Result<Body<'_>, Malformed> {
        super::read(Endpoint::Chat, body)
    }

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
        assert_eq!(body.caps.at(Endpoint::Chat, None, None), Some(100));
        assert_eq!(body.caps.at(Endpoint::Responses, None, None), None);
        let options = body.stream_options.unwrap();
        assert_eq!(
            (options.json, options.include_usage),
            (r#"{"include_usage":false}"#, Some(false))
        );
        let read = concat!(
            r#""messages":[{"role":"user","content":"héllo"},{"role":"user","content":[{"type":"image_url","#,
            r#""image_url":{"url":}}]}],"unknown":{"deep":[1,2,{"x":null}]},"#,
        );
        assert_eq!(body.input.pictures, 1);
        // A comma more for each last value.
        assert!(
            (read.len()..read.len() + 24).contains(&(body.input.text as usize)),
            "{:?}",
            body.input
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
            (
                r#"{"metadata":{"model":"inner"}, "mod\u0065l":"plain"}"#,
                r#""plain""#,
            ),
            ("{\"model\"\n:\t\"a\\/b\"}", r#""a\/b""#),
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
    fn what_is_ambiguous_is_refused_with_its_place() {
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
            ("[]", "expected an object at line 1 column"),
            (
                r#"{"model":7}"#,
                "invalid type: integer `7`, expected a string at line 1 column 10",
            ),
            (r#"{"stream":"yes"}"#, "expected a boolean"),
            (r#"{"max_tokens":-1}"#, "expected a whole number of zero or more"),
            (r#"{"max_tokens":1.5}"#, "expected a whole number of zero or more"),
            (r#"{"n":4294967296}"#, "expected a smaller number"),
            (r#"{"max_tokens":1e30}"#, "expected a whole number"),
            (r#"{"n":1e10}"#, "expected a smaller number"),
            (r#"{"max_tokens":-0}"#, "expected a whole number"),
            (
                r#"{"max_tokens":1.00000000000000000001}"#,
                "expected a whole number",
            ),
            (r#"{"max_tokens":1e-1}"#, "expected a whole number"),
            (r#"{"max_tokens":NaN}"#, "expected value"),
            (r#"{"max_tokens":Infinity}"#, "expected value"),
            (r#"{"max_tokens":0x10}"#, "expected `,` or `}`"),
            (r#"{"max_tokens":+1}"#, "expected value"),
            (
                r#"{"model":"a","Model":"b"}"#,
                "some servers read member `Model` as `model`, others do not: write `model`, or leave it out at line 1 column 20",
            ),
            (r#"{"ſtream":true}"#, "as `stream`"),
            ("{\"max_to\u{212a}ens\":1}", "as `max_tokens`"),
            (r#"{"\u0053tream":true}"#, "as `stream`"),
            (r#"{"model\u0000":"b"}"#, "as `model`"),
            (r#"{"maxTokens":1}"#, "as `max_tokens`"),
            (
                r#"{"stream_options":{"Include_Usage":true}}"#,
                "as `include_usage`",
            ),
            (r#"{"__proto__":{"model":"b"}}"#, "`__proto__`"),
            (r#"{"stream_options":{"__proto__":{}}}"#, "`__proto__`"),
            (r#"{"seed":1,"Seed":2}"#, "`Seed` is given twice but for its case"),
            (r#"{"model":"a\u0000b"}"#, "no control characters"),
            ("\u{feff}{}", "byte order mark"),
            ("{}\0", "trailing characters"),
            ("{\"x\":'a'}", "expected value"),
            ("{\"x\":1,}", "trailing comma"),
            ("{/**/}", "key must be a string"),
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

    #[test]
    fn counts_may_be_written_in_any_way_that_all_read_alike() {
        for (literal, value) in [
            ("100", Some(100)),
            ("100.0", Some(100)),
            ("1e2", Some(100)),
            ("1E+2", Some(100)),
            ("1.5e1", Some(15)),
            ("100e-2", Some(1)),
            ("0", Some(0)),
            ("0.0", Some(0)),
            ("0e9", Some(0)),
            ("18446744073709551615", Some(u64::MAX)),
            ("1e15", Some(1_000_000_000_000_000)),
            ("1.5", None),
            ("-1", None),
            ("-0.0", None),
            ("1e-1", None),
            ("1e30", None),
            ("1e99999", None),
            ("3.0000000000000001", None),
        ] {
            let body = format!(r#"{{"x":1e2,"max_tokens" : {literal}}}"#);
            let read = read(body.as_bytes()).ok().and_then(|body| body.caps.max_tokens);
            assert_eq!(read, value, "{literal}");
        }
    }

    #[test]
    fn names_of_others_may_be_anything() {
        for body in [
            r#"{"user":"Model","metadata":{"Model":"x","model":"y","MODEL":1,"__proto__":1}}"#,
            r#"{"tools":[{"parameters":{"properties":{"Model":{},"model":{}}}}]}"#,
            r#"{"größe":1,"X-Custom":2,"":3}"#,
        ] {
            assert_eq!(read(body.as_bytes()).map(|_| ()), Ok(()), "{body}");
        }
    }

    #[test]
    fn names_values_and_escapes_are_bounded() {
        let long = |len: usize| format!(r#"{{"{}":0}}"#, "a".repeat(len));
        assert!(read(long(MAX_NAME).as_bytes()).is_ok());
        let said = reason(long(MAX_NAME + 1).as_bytes());
        assert!(
            said.contains("longer than 128 bytes") && said.len() < 300,
            "{said}"
        );
        assert!(
            reason(format!(r#"{{"stream_options":{}}}"#, long(MAX_NAME + 1)).as_bytes()).contains("longer")
        );

        let list = |name: &str, items: u32| format!(r#"{{"{name}":[{}0]}}"#, "0,".repeat(items as usize - 1));
        assert!(read(list("input", MAX_VALUES - 1).as_bytes()).is_ok());
        for body in [
            list("input", MAX_VALUES),
            list("other", MAX_VALUES),
            format!(r#"{{"stream_options":{}}}"#, list("x", MAX_VALUES)),
        ] {
            assert!(reason(body.as_bytes()).contains("more than 1048576 values at line 1 column"));
        }

        let text = |escapes: usize| format!(r#"{{"x":"{}"}}"#, r"\n".repeat(escapes));
        assert!(read(text(MAX_ESCAPES).as_bytes()).is_ok());
        assert!(reason(text(MAX_ESCAPES + 1).as_bytes()).contains("more than 4194304 escapes"));

        let options = format!(r#"{{"stream_options":{{"x":"{}"}}}}"#, "x".repeat(MAX_OPTIONS));
        assert!(reason(options.as_bytes()).contains("`stream_options` is longer than"));
        let model = |len: usize| format!(r#"{{"model":"{}"}}"#, "m".repeat(len));
        assert!(read(model(MAX_MODEL).as_bytes()).is_ok());
        let malformed = read(model(MAX_MODEL + 1).as_bytes()).unwrap_err();
        assert_eq!(malformed.param, Some("model"));
        assert!(malformed.reason.contains("longer than 1024 bytes"));
    }

    /// What stands where something else should is most of a body, perhaps.
    #[test]
    fn errors_repeat_no_text() {
        let text = "x".repeat(1_000);
        for body in [
            format!(r#""{text}""#),
            format!(r#"{{"stream":"{text}"}}"#),
            format!(r#"{{"max_tokens":"{text}"}}"#),
            format!(r#"{{"n":"{text}"}}"#),
            format!(r#"{{"stream_options":"{text}"}}"#),
            format!(r#"{{"stream_options":{{"include_usage":"{text}"}}}}"#),
            format!(r#"{{"{text}":0}}"#),
            format!(r#"{{"model":"{text}{text}"}}"#),
            format!(r#"{{"model":[{text}]}}"#),
        ] {
            let reason = reason(body.as_bytes());
            assert!(reason.len() < 300, "{reason}");
        }
    }

    #[test]
    fn names_of_any_number_are_all_different() {
        for count in [2, 12, 13, 14, 100, 256] {
            let mut names: Vec<String> = (0..count).map(|n| format!("\"m{n}\":0")).collect();
            assert!(
                read(format!("{{{}}}", names.join(",")).as_bytes()).is_ok(),
                "{count}"
            );
            for twice in [0, (count - 1) / 2, count - 2] {
                let last = std::mem::replace(&mut names[count - 1], format!("\"m{twice}\":0"));
                assert!(reason(format!("{{{}}}", names.join(",")).as_bytes()).contains("given twice"));
                names[count - 1] = last;
            }
        }
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
            model in proptest::option::of("\\PC{0,20}"), stream in any::<Option<bool>>(), cap in any::<Option<u32>>(),
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

//! A `usage` object, whoever wrote it, and what several of them say together.

use core::fmt;
use std::borrow::Cow;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Number;
use serde_json::value::RawValue;

use super::Usage;

/// Above 2^53 a double no longer says which whole number was meant, and no request has so many tokens.
const MAX_COUNT: u64 = 1 << 53;

/// What a server reported so far.
#[derive(Debug, Default, Clone, Copy)]
pub(super) enum Reported {
    #[default]
    Nothing,
    Counts(Report),
    /// Something that can't be so.
    Unusable,
}

impl Reported {
    /// What the JSON value of a `usage` member says by itself.
    pub(super) fn read(json: &[u8]) -> Self {
        if json.trim_ascii() == b"null" {
            return Self::Nothing;
        }
        match Report::read(json) {
            Some(report) if report == Report::default() => Self::Nothing,
            report => report.map_or(Self::Unusable, Self::Counts),
        }
    }

    /// This report and then `next`, which replaces what it repeats.
    #[must_use]
    pub(super) fn then(self, next: Self) -> Self {
        match (self, next) {
            (before, Self::Nothing) => before,
            (Self::Counts(before), Self::Counts(next)) => Self::Counts(before.then(next)),
            (_, next) => next,
        }
    }

    pub(super) fn seconds(self) -> u64 {
        match self {
            Self::Counts(report) => report.seconds.unwrap_or(0),
            Self::Nothing | Self::Unusable => 0,
        }
    }

    pub(super) fn usage(self) -> Option<Usage> {
        match self {
            Self::Counts(report) => report.usage(),
            Self::Nothing | Self::Unusable => None,
        }
    }
}

/// One report's counts; `None` where it says nothing.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Report {
    input: Option<u64>,
    output: Option<u64>,
    total: Option<u64>,
    cached: Option<u64>,
    reasoning: Option<u64>,
    /// Anthropic's, which `input` leaves out: read from the cache, written to it.
    cache_read: Option<u64>,
    cache_written: Option<u64>,
    /// The second as a part of the input, wherever that stands, and of it what stays for an hour.
    written: Option<u64>,
    written_1h: Option<u64>,
    /// Of sound.
    seconds: Option<u64>,
}

impl Report {
    /// `None` if it is no object, or if a count is none.
    fn read(json: &[u8]) -> Option<Self> {
        let usage: Members<'_> = serde_json::from_str(core::str::from_utf8(json).ok()?).ok()?;
        let input_details = usage.details("prompt_tokens_details", "input_tokens_details")?;
        let output_details = usage.details("completion_tokens_details", "output_tokens_details")?;
        let count_in = |details: &Option<Members<'_>>, name| match details {
            Some(details) => details.count(name),
            None => Some(None),
        };
        let prompt = usage.count("prompt_tokens")?;
        let cache_read = usage.count("cache_read_input_tokens")?;
        let cache_written = usage.count("cache_creation_input_tokens")?;
        // Gateways that translate add Anthropic's members to a count that has them already.
        let apart = prompt.is_none() && input_details.is_none();
        Some(Self {
            input: prompt.or(usage.count("input_tokens")?),
            output: usage
                .count("completion_tokens")?
                .or(usage.count("output_tokens")?),
            total: usage.count("total_tokens")?,
            cached: count_in(&input_details, "cached_tokens")?.or(cache_read),
            reasoning: count_in(&output_details, "reasoning_tokens")?,
            cache_read: cache_read.filter(|_| apart),
            cache_written: cache_written.filter(|_| apart),
            written: cache_written,
            written_1h: usage.hour()?,
            seconds: usage.seconds()?,
        })
    }

    fn then(self, next: Self) -> Self {
        Self {
            input: next.input.or(self.input),
            output: next.output.or(self.output),
            total: next.total.or(self.total),
            cached: next.cached.or(self.cached),
            reasoning: next.reasoning.or(self.reasoning),
            cache_read: next.cache_read.or(self.cache_read),
            cache_written: next.cache_written.or(self.cache_written),
            written: next.written.or(self.written),
            written_1h: next.written_1h.or(self.written_1h),
            seconds: next.seconds.or(self.seconds),
        }
    }

    /// `None` unless both directions are known.
    fn usage(self) -> Option<Usage> {
        let input = self.input? + self.cache_read.unwrap_or(0) + self.cache_written.unwrap_or(0);
        let output = match self.output {
            // What the total has beyond both was written as well: reasoning, which xAI and Gemini count there alone.
            Some(output) => output.max(self.total.unwrap_or(0).saturating_sub(input)),
            None => self.total?.checked_sub(input)?,
        };
        let cached = self.cached.unwrap_or(0).min(input);
        let written = self.written.unwrap_or(0).min(input - cached);
        Some(Usage {
            input,
            output,
            cached,
            reasoning: self.reasoning.unwrap_or(0).min(output),
            cache_written: written,
            cache_written_1h: self.written_1h.unwrap_or(0).min(written),
            audio_seconds: self.seconds.unwrap_or(0),
            pictures: 0,
        })
    }
}

/// The members of a usage or of its details, as they stand: what a report does not need may be anything. A list, as they
/// are few: a map takes longer.
struct Members<'j>(Vec<(Cow<'j, str>, &'j RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<Members<'de>, A::Error> {
        let mut members = Vec::with_capacity(8);
        while let Some((Name(name), value)) = all.next_entry()? {
            members.push((name, value));
        }
        Ok(Members(members))
    }
}

/// Borrowed where it holds no escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Name<'j>(#[serde(borrow)] Cow<'j, str>);

impl<'j> Members<'j> {
    /// A member's text; of several with one name the last counts.
    fn get(&self, name: &str) -> Option<&'j str> {
        let named = self.0.iter().rfind(|(other, _)| other == name);
        named.map(|(_, value)| value.get())
    }

    /// A member's count, null being none; the outer `None` if it is no count.
    fn count(&self, name: &str) -> Option<Option<u64>> {
        match self.get(name) {
            None | Some("null") => Some(None),
            Some(json) => whole(json).map(Some),
        }
    }

    /// What Anthropic wrote to its cache for an hour; the outer `None` if it is no count.
    fn hour(&self) -> Option<Option<u64>> {
        match self.get("cache_creation") {
            Some(json) if json.starts_with('{') => {
                let parts: Self = serde_json::from_str(json).ok()?;
                parts.count("ephemeral_1h_input_tokens")
            }
            _ => Some(None),
        }
    }

    /// Seconds, begun ones whole; the outer `None` if there can't be so many.
    fn seconds(&self) -> Option<Option<u64>> {
        /// Longer than any sound that is heard as a whole.
        const MAX: f64 = 1e6;
        let Some(json) = self.get("seconds") else {
            return Some(None);
        };
        match serde_json::from_str::<Option<f64>>(json).ok()? {
            None => Some(None),
            Some(seconds) => (0.0..=MAX)
                .contains(&seconds)
                .then_some(Some(seconds.ceil() as u64)),
        }
    }

    /// The details by either name, null being none; the outer `None` if they are no object.
    fn details(&self, chat: &str, responses: &str) -> Option<Option<Self>> {
        match self.get(chat).or_else(|| self.get(responses)) {
            None | Some("null") => Some(None),
            Some(json) => serde_json::from_str(json).ok().map(Some),
        }
    }
}

/// Also of `100.0`, as some servers write it.
fn whole(json: &str) -> Option<u64> {
    /// So many digits are a count whatever they are.
    const PLAIN: usize = 15;
    if json.len() <= PLAIN
        && let Ok(count) = json.parse()
    {
        return Some(count);
    }
    let number: Number = serde_json::from_str(json).ok()?;
    let double = || {
        let double = number.as_f64()?;
        (double.fract() == 0.0 && (0.0..=MAX_COUNT as f64).contains(&double)).then_some(double as u64)
    };
    number
        .as_u64()
        .or_else(double)
        .filter(|&count| count <= MAX_COUNT)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::*;

    /// The same report out of a tree. `None` for what is no report.
    fn by_tree(json: &str) -> Option<Report> {
        let usage: Map<String, Value> = serde_json::from_str(json).ok()?;
        let count = |members: &Map<String, Value>, name: &str| match members.get(name) {
            None | Some(Value::Null) => Some(None),
            Some(number @ Value::Number(_)) => whole(&number.to_string()).map(Some),
            Some(_) => None,
        };
        let details = |chat: &str, responses: &str| match usage.get(chat).or(usage.get(responses)) {
            None | Some(Value::Null) => Some(Map::new()),
            Some(Value::Object(members)) => Some(members.clone()),
            Some(_) => None,
        };
        let either = |chat: &str, responses: &str| {
            let responses = count(&usage, responses)?;
            count(&usage, chat).map(|chat| chat.or(responses))
        };
        let inputs = details("prompt_tokens_details", "input_tokens_details")?;
        let outputs = details("completion_tokens_details", "output_tokens_details")?;
        let no_details = ["prompt_tokens_details", "input_tokens_details"];
        let no_details = no_details
            .iter()
            .find_map(|name| usage.get(*name))
            .is_none_or(Value::is_null);
        let apart = count(&usage, "prompt_tokens")?.is_none() && no_details;
        let cache_read = count(&usage, "cache_read_input_tokens")?;
        let cache_written = count(&usage, "cache_creation_input_tokens")?;
        Some(Report {
            input: either("prompt_tokens", "input_tokens")?,
            output: either("completion_tokens", "output_tokens")?,
            total: count(&usage, "total_tokens")?,
            cached: count(&inputs, "cached_tokens")?.or(cache_read),
            reasoning: count(&outputs, "reasoning_tokens")?,
            cache_read: cache_read.filter(|_| apart),
            cache_written: cache_written.filter(|_| apart),
            written: cache_written,
            written_1h: match usage.get("cache_creation") {
                Some(Value::Object(parts)) => count(parts, "ephemeral_1h_input_tokens")?,
                _ => None,
            },
            seconds: match usage.get("seconds") {
                None | Some(Value::Null) => None,
                Some(seconds) => {
                    let seconds = seconds.as_f64()?;
                    (0.0..=1e6)
                        .contains(&seconds)
                        .then_some(Some(seconds.ceil() as u64))?
                }
            },
        })
    }

    const NAMES: [&str; 18] = [
        "cache_creation",
        "ephemeral_1h_input_tokens",
        "seconds",
        "prompt_tokens",
        "input_tokens",
        "completion_tokens",
        "output_tokens",
        "total_tokens",
        "cache_read_input_tokens",
        "cache_creation_input_tokens",
        "prompt_tokens_details",
        "input_tokens_details",
        "completion_tokens_details",
        "output_tokens_details",
        "cached_tokens",
        "reasoning_tokens",
        "service_tier",
        r"prompt\u005ftokens",
    ];

    /// Values that a count or details may have, and others; objects of the same names within.
    fn value() -> impl Strategy<Value = String> {
        let plain = prop_oneof![
            6 => (0..2_000_u64).prop_map(|count| count.to_string()),
            3 => prop::sample::select(vec!["null", "7.0", "7.5", "-1", "true", "\"7\"", "[7]", "9007199254740992", "9007199254740993", "18446744073709551616", "1e3", "{}"])
                .prop_map(str::to_owned),
        ];
        plain.prop_recursive(2, 16, 6, object)
    }

    /// Names may come twice.
    fn object(value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
        let members = prop::collection::vec((prop::sample::select(NAMES.to_vec()), value), 0..8);
        members.prop_map(|members| {
            let members: Vec<_> = members
                .iter()
                .map(|(name, value)| format!("\"{name}\" : {value}"))
                .collect();
            format!("{{ {} }}", members.join(" , "))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn a_report_is_what_a_tree_says(json in object(value())) {
            prop_assert_eq!(Report::read(json.as_bytes()), by_tree(&json), "{}", json);
        }
    }

    #[test]
    fn what_nobody_needs_may_be_anything() {
        for unread in [
            r#""service_tier":{"prompt_tokens":"many"}"#,
            r#""input_tokens_details":[7]"#,
            r#""cached_tokens":-1"#,
            r#""prompt_tokens":"seven","prompt_tokens":7"#,
            r#""other":"\ud800""#,
            r#""other":1e999"#,
            &format!(r#""other":{}{}"#, "[".repeat(200), "]".repeat(200)),
        ] {
            let json = format!(
                r#"{{{unread},"prompt_tokens":7,"prompt_tokens_details":{{"cached_tokens":3,"reasoning_tokens":"x"}},"completion_tokens":2}}"#
            );
            let report = Report::read(json.as_bytes()).unwrap();
            assert_eq!(
                (report.input, report.output, report.cached),
                (Some(7), Some(2), Some(3))
            );
        }
    }
}

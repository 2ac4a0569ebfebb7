//! A `usage` object, whoever wrote it, and what several of them say together.

use core::fmt;

use serde::de::{Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::Usage;

/// Above 2^53 a double no longer says which whole number was meant, and no request has so many tokens.
const MAX_COUNT: u64 = 1 << 53;

/// What a server reported so far.
#[derive(Debug, Default, Clone, Copy)]
pub(super) enum Reported {
    #[default]
    Nothing,
    Said(Report),
    /// Something that can't be so.
    Unusable,
}

impl Reported {
    /// What the JSON value of a `usage` member says by itself.
    pub(super) fn read(json: &[u8]) -> Self {
        if json.trim_ascii() == b"null" {
            return Self::Nothing;
        }
        Report::read(json).map_or(Self::Unusable, Self::Said)
    }

    /// This report and then `next`, which replaces what it repeats.
    #[must_use]
    pub(super) fn then(self, next: Self) -> Self {
        match (self, next) {
            (before, Self::Nothing) => before,
            (Self::Said(before), Self::Said(next)) => Self::Said(before.then(next)),
            (_, next) => next,
        }
    }

    pub(super) fn usage(self) -> Option<Usage> {
        match self {
            Self::Said(report) => report.usage(),
            Self::Nothing | Self::Unusable => None,
        }
    }
}

/// One report's counts; `None` where it says nothing.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Report {
    input: Option<u64>,
    output: Option<u64>,
    total: Option<u64>,
    cached: Option<u64>,
    reasoning: Option<u64>,
    /// Anthropic's, which `input` leaves out: read from the cache, written to it.
    cache_read: Option<u64>,
    cache_written: Option<u64>,
}

impl Report {
    /// `None` if it is no object, or if a count is none.
    fn read(json: &[u8]) -> Option<Self> {
        let usage: Members = serde_json::from_slice(json).ok()?;
        let input_details = usage.prompt_details.or(usage.input_details);
        let output_details = usage.completion_details.or(usage.output_details);
        // Gateways that translate add Anthropic's members to a count that has them already.
        let apart = usage.prompt.is_none() && input_details.is_none();
        Some(Self {
            input: usage.prompt.or(usage.input),
            output: usage.completion.or(usage.output),
            total: usage.total,
            cached: input_details.flatten().or(usage.cache_read),
            reasoning: output_details.flatten(),
            cache_read: usage.cache_read.filter(|_| apart),
            cache_written: usage.cache_written.filter(|_| apart),
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
        }
    }

    /// `None` unless both directions are known.
    fn usage(self) -> Option<Usage> {
        let input = self.input? + self.cache_read.unwrap_or(0) + self.cache_written.unwrap_or(0);
        let output = match self.output {
            Some(output) => self.with_reasoning(input, output),
            None => self.total?.checked_sub(input)?,
        };
        Some(Usage {
            input,
            output,
            cached: self.cached.unwrap_or(0).min(input),
            reasoning: self.reasoning.unwrap_or(0).min(output),
        })
    }

    /// xAI counts reasoning besides `completion_tokens`, which shows in the total alone.
    fn with_reasoning(self, input: u64, output: u64) -> u64 {
        let both = output + self.reasoning.unwrap_or(0);
        if self.total == Some(input + both) {
            both
        } else {
            output
        }
    }
}

/// The members of interest, of the usage and of the details in it; null is none. Of two with one name the last counts.
#[derive(Default)]
struct Members {
    prompt: Option<u64>,
    input: Option<u64>,
    completion: Option<u64>,
    output: Option<u64>,
    total: Option<u64>,
    cache_read: Option<u64>,
    cache_written: Option<u64>,
    /// Of details: tokens from a cache, and of reasoning.
    cached: Option<u64>,
    reasoning: Option<u64>,
    /// Details: what is of interest in them; `None` where there are none.
    prompt_details: Option<Option<u64>>,
    input_details: Option<Option<u64>>,
    completion_details: Option<Option<u64>>,
    output_details: Option<Option<u64>>,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Name {
    PromptTokens,
    InputTokens,
    CompletionTokens,
    OutputTokens,
    TotalTokens,
    CacheReadInputTokens,
    CacheCreationInputTokens,
    CachedTokens,
    ReasoningTokens,
    PromptTokensDetails,
    InputTokensDetails,
    CompletionTokensDetails,
    OutputTokensDetails,
    #[serde(other)]
    Other,
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Members::default();
                while let Some(name) = map.next_key()? {
                    match name {
                        Name::PromptTokens => members.prompt = count(&mut map)?,
                        Name::InputTokens => members.input = count(&mut map)?,
                        Name::CompletionTokens => members.completion = count(&mut map)?,
                        Name::OutputTokens => members.output = count(&mut map)?,
                        Name::TotalTokens => members.total = count(&mut map)?,
                        Name::CacheReadInputTokens => members.cache_read = count(&mut map)?,
                        Name::CacheCreationInputTokens => members.cache_written = count(&mut map)?,
                        Name::CachedTokens => members.cached = count(&mut map)?,
                        Name::ReasoningTokens => members.reasoning = count(&mut map)?,
                        Name::PromptTokensDetails => members.prompt_details = cached(&mut map)?,
                        Name::InputTokensDetails => members.input_details = cached(&mut map)?,
                        Name::CompletionTokensDetails => members.completion_details = reasoning(&mut map)?,
                        Name::OutputTokensDetails => members.output_details = reasoning(&mut map)?,
                        Name::Other => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

fn cached<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Option<Option<u64>>, A::Error> {
    let details: Option<Members> = map.next_value()?;
    Ok(details.map(|details| details.cached))
}

fn reasoning<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Option<Option<u64>>, A::Error> {
    let details: Option<Members> = map.next_value()?;
    Ok(details.map(|details| details.reasoning))
}

fn count<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Option<u64>, A::Error> {
    let Count(count) = map.next_value()?;
    Ok(count)
}

/// A count; null is none.
struct Count(Option<u64>);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Count;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a count or null")
            }

            fn visit_unit<E>(self) -> Result<Count, E> {
                Ok(Count(None))
            }

            fn visit_u64<E: Error>(self, count: u64) -> Result<Count, E> {
                if count > MAX_COUNT {
                    return Err(E::custom("more than any request has"));
                }
                Ok(Count(Some(count)))
            }

            /// Also of `100.0`, as some servers write it.
            fn visit_f64<E: Error>(self, count: f64) -> Result<Count, E> {
                if count.fract() != 0.0 || !(0.0..=MAX_COUNT as f64).contains(&count) {
                    return Err(E::custom("no whole number, or more than any request has"));
                }
                Ok(Count(Some(count as u64)))
            }
        }
        deserializer.deserialize_any(Number)
    }
}

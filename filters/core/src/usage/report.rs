//! A `usage` object, whoever wrote it, and what several of them say together.

use serde_json::{Map, Number, Value};

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
        let usage = Members(serde_json::from_slice(json).ok()?);
        let input_details = usage.details("prompt_tokens_details", "input_tokens_details")?;
        let output_details = usage.details("completion_tokens_details", "output_tokens_details")?;
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
            cached: count_in(input_details, "cached_tokens")?.or(cache_read),
            reasoning: count_in(output_details, "reasoning_tokens")?,
            cache_read: cache_read.filter(|_| apart),
            cache_written: cache_written.filter(|_| apart),
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

struct Members(Map<String, Value>);

impl Members {
    fn count(&self, name: &str) -> Option<Option<u64>> {
        count_in(Some(&self.0), name)
    }

    /// The object by either name; the outer `None` if it is something else.
    fn details(&self, chat: &str, responses: &str) -> Option<Option<&Map<String, Value>>> {
        match self.0.get(chat).or(self.0.get(responses)) {
            None | Some(Value::Null) => Some(None),
            Some(Value::Object(members)) => Some(Some(members)),
            Some(_) => None,
        }
    }
}

/// A member's count, null being none; the outer `None` if it is no count.
fn count_in(members: Option<&Map<String, Value>>, name: &str) -> Option<Option<u64>> {
    match members.and_then(|members| members.get(name)) {
        None | Some(Value::Null) => Some(None),
        Some(Value::Number(number)) => whole(number).map(Some),
        Some(_) => None,
    }
}

/// Also of `100.0`, as some servers write it.
fn whole(number: &Number) -> Option<u64> {
    let double = || {
        let double = number.as_f64()?;
        (double.fract() == 0.0 && (0.0..=MAX_COUNT as f64).contains(&double)).then_some(double as u64)
    };
    number
        .as_u64()
        .or_else(double)
        .filter(|&count| count <= MAX_COUNT)
}

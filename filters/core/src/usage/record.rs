//! The usage record: what one request was, and what it used. `docs/usage-record.md` is its schema.

use serde::Serialize;

use crate::endpoint::Endpoint;
use crate::identity::Caller;

/// The filter state that holds the members of a record, for Envoy's access log.
pub const PROPERTY: &str = "tollgate.usage";

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The answer was whole.
    Complete,
    /// The answer began and broke off: by the client, the model server or a timeout.
    Aborted,
    /// A model server was asked, and the client left before an answer began.
    NoAnswer,
    /// The answer is an error, of the model server or because none could be reached.
    Failed,
    /// A limit refused it, or the model's capacity.
    Limited,
    /// A filter refused it before or after the limits; no model server was asked.
    Refused,
}

impl Outcome {
    /// Every outcome, and its name in records and metrics.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Complete, "complete"),
        (Self::Aborted, "aborted"),
        (Self::NoAnswer, "no_answer"),
        (Self::Failed, "failed"),
        (Self::Limited, "limited"),
        (Self::Refused, "refused"),
    ];
}

/// Where the numbers of tokens come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The model server said them.
    Reported,
    /// It did not say: the input as estimated before, the output by what went by.
    Estimated,
    /// Nothing was used.
    Nothing,
}

/// What was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// Tokens read, cached ones too.
    pub input_tokens: u64,
    /// Tokens written, reasoning too.
    pub output_tokens: u64,
    /// Those of the input that came from a cache.
    pub cached_tokens: u64,
    /// Those of the output that nobody sees.
    pub reasoning_tokens: u64,
    /// In millionths of the currency unit of the catalogue's prices; `None` where the model has none.
    pub cost_micros: Option<u64>,
    /// Where these come from.
    pub source: Source,
}

impl Used {
    /// Nothing at all.
    pub const NOTHING: Self = Self {
        input_tokens: 0,
        output_tokens: 0,
        cached_tokens: 0,
        reasoning_tokens: 0,
        cost_micros: None,
        source: Source::Nothing,
    };
}

/// One request.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Whose it is.
    pub caller: Caller<'a>,
    /// What was asked for; `None` if it never came so far.
    pub asked: Option<Asked<'a>>,
    /// How it ended.
    pub outcome: Outcome,
    /// What it used.
    pub used: Used,
    /// Milliseconds until the answer began; `None` if none did.
    pub first_byte_ms: Option<u64>,
    /// The limit that refused it.
    pub limit: Option<&'a str>,
    /// Limits in shadow mode that would have refused it.
    pub would_limit: &'a [String],
}

/// What was asked for.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Where.
    pub endpoint: Endpoint,
    /// The model that serves, by its own name.
    pub model: &'a str,
    /// Whether the answer was to be streamed.
    pub stream: bool,
    /// Tokens of input and output as they were reserved.
    pub reserved_tokens: u64,
}

/// The members in their order. One flat struct: serde's `flatten` takes several times as long.
#[derive(Serialize)]
struct Members<'a> {
    org: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    project: Option<&'a str>,
    key: &'a str,
    tier: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<Endpoint>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reserved_tokens: Option<u64>,
    outcome: Outcome,
    input_tokens: u64,
    output_tokens: u64,
    cached_tokens: u64,
    reasoning_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cost_micros: Option<u64>,
    source: Source,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_byte_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    would_limit: &'a [String],
}

impl Record<'_> {
    /// Its members as JSON, each with a comma ahead: the access log puts them behind what Envoy itself knows.
    pub fn members(&self) -> String {
        let Self {
            caller, asked, used, ..
        } = *self;
        let members = Members {
            org: caller.org,
            project: caller.project,
            key: caller.key_id,
            tier: caller.tier,
            endpoint: asked.map(|asked| asked.endpoint),
            model: asked.map(|asked| asked.model),
            stream: asked.map(|asked| asked.stream),
            reserved_tokens: asked.map(|asked| asked.reserved_tokens),
            outcome: self.outcome,
            input_tokens: used.input_tokens,
            output_tokens: used.output_tokens,
            cached_tokens: used.cached_tokens,
            reasoning_tokens: used.reasoning_tokens,
            cost_micros: used.cost_micros,
            source: used.source,
            first_byte_ms: self.first_byte_ms,
            limit: self.limit,
            would_limit: self.would_limit,
        };
        // Strings and numbers always serialise.
        let mut object = serde_json::to_string(&members).unwrap_or_default();
        object.pop();
        if !object.is_empty() {
            object.replace_range(..1, ",");
        }
        object
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn record() -> Record<'static> {
        Record {
            caller: Caller {
                key_id: "k1",
                org: "acme",
                project: Some("a \"b\"\n"),
                tier: "pro",
            },
            asked: Some(Asked {
                endpoint: Endpoint::Chat,
                model: "llama-70b",
                stream: true,
                reserved_tokens: 40,
            }),
            outcome: Outcome::NoAnswer,
            used: Used {
                input_tokens: 7,
                source: Source::Estimated,
                ..Used::NOTHING
            },
            first_byte_ms: None,
            limit: None,
            would_limit: &[],
        }
    }

    #[test]
    fn its_members_complete_an_object() {
        let line = format!("{{\"v\":1{}}}", record().members());
        assert!(!line.contains('\n'));
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            line,
            json!({
                "v": 1, "org": "acme", "project": "a \"b\"\n", "key": "k1", "tier": "pro", "endpoint": "chat",
                "model": "llama-70b", "stream": true, "reserved_tokens": 40, "outcome": "no_answer", "input_tokens": 7,
                "output_tokens": 0, "cached_tokens": 0, "reasoning_tokens": 0, "source": "estimated",
            })
        );
    }

    #[test]
    fn what_never_came_so_far_is_left_out() {
        let refused = Record {
            asked: None,
            outcome: Outcome::Refused,
            used: Used::NOTHING,
            limit: Some("key-rpm"),
            ..record()
        };
        let line: Value = serde_json::from_str(&format!("{{\"v\":1{}}}", refused.members())).unwrap();
        assert_eq!(line.get("model"), None);
        assert_eq!(
            (&line["limit"], &line["source"]),
            (&json!("key-rpm"), &json!("nothing"))
        );
    }

    #[test]
    fn an_outcome_is_called_the_same_everywhere() {
        for (outcome, name) in Outcome::ALL {
            assert_eq!(serde_json::to_value(outcome).unwrap(), name);
        }
    }
}

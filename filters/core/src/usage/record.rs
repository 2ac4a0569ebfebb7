//! The usage record: what one request was, and what it used. `docs/usage-record.md` is its schema.

use crate::endpoint::Endpoint;
use crate::identity::Caller;
use crate::limits::Amounts;

/// The filter state that holds the members of a record, for Envoy's access log.
pub const PROPERTY: &str = "tollgate.usage";

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The answer was whole.
    Complete,
    /// The answer began and broke off: by the client, the model server or a timeout.
    Aborted,
    /// The answer began with success, and said then that something went wrong.
    Errored,
    /// A model server was asked, and the client left before an answer began.
    NoAnswer,
    /// The answer is an error, of the model server or because none could be reached.
    Failed,
    /// A limit refused it, or the model's capacity.
    Limited,
    /// A filter refused it before or after the limits; no model server was asked.
    Refused,
    /// It was under way when its gateway was killed.
    Crashed,
}

impl Outcome {
    /// Every outcome that a gateway lives to count.
    pub const ALL: [Self; 7] = [
        Self::Complete,
        Self::Aborted,
        Self::Errored,
        Self::NoAnswer,
        Self::Failed,
        Self::Limited,
        Self::Refused,
    ];

    /// Its name in records and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Aborted => "aborted",
            Self::Errored => "errored",
            Self::NoAnswer => "no_answer",
            Self::Failed => "failed",
            Self::Limited => "limited",
            Self::Refused => "refused",
            Self::Crashed => "crashed",
        }
    }
}

/// Where the numbers of tokens come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The model server said them.
    Reported,
    /// It did not say: the input as estimated before, the output by what went by.
    Estimated,
    /// Nothing was used.
    Nothing,
}

impl Source {
    const fn name(self) -> &'static str {
        match self {
            Self::Reported => "reported",
            Self::Estimated => "estimated",
            Self::Nothing => "nothing",
        }
    }
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
    /// Those of the input that were written to a cache.
    pub cache_written_tokens: u64,
    /// Those of them that stay there for an hour.
    pub cache_written_1h_tokens: u64,
    /// Seconds of sound, where the model server counts by them.
    pub audio_seconds: u64,
    /// Pictures that were made.
    pub pictures: u64,
    /// In millionths of the currency unit of the catalogue's prices; `None` where the model has none.
    pub cost_micros: Option<u64>,
    /// Where these come from.
    pub source: Source,
    /// Whether the model server reported what can't be so; these are an estimate then.
    pub distrusted: bool,
}

impl Used {
    /// Nothing at all.
    pub const NOTHING: Self = Self {
        input_tokens: 0,
        output_tokens: 0,
        cached_tokens: 0,
        reasoning_tokens: 0,
        cache_written_tokens: 0,
        cache_written_1h_tokens: 0,
        audio_seconds: 0,
        pictures: 0,
        cost_micros: None,
        source: Source::Nothing,
        distrusted: false,
    };

    /// What limits count of it.
    pub fn amounts(&self) -> Amounts {
        Amounts {
            input: self.input_tokens,
            output: self.output_tokens,
            cost: self.cost_micros.unwrap_or(0),
        }
    }
}

/// One request.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Whose it is.
    pub caller: Caller<'a>,
    /// What was asked for; `None` if it never came so far.
    pub request: Option<Request<'a>>,
    /// How it ended.
    pub outcome: Outcome,
    /// What it used.
    pub used: Used,
    /// Milliseconds until the answer began; `None` if none did.
    pub first_byte_ms: Option<u64>,
    /// The limit that refused it.
    pub limit: Option<&'a str>,
    /// The budget that refused it.
    pub budget: Option<&'a str>,
    /// Limits in shadow mode that would have refused it.
    pub would_limit: &'a [String],
}

/// What was asked for.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Where.
    pub endpoint: Endpoint,
    /// The model that serves, by its own name.
    pub model: &'a str,
    /// Whether the answer was to be streamed.
    pub stream: bool,
    /// Tokens of input and output as they were reserved.
    pub reserved_tokens: u64,
}

impl<'a> Record<'a> {
    /// One of a request that came to no limit.
    pub const fn before_limits(caller: Caller<'a>, outcome: Outcome) -> Self {
        Self {
            caller,
            request: None,
            outcome,
            used: Used::NOTHING,
            first_byte_ms: None,
            limit: None,
            budget: None,
            would_limit: &[],
        }
    }

    /// Its members as JSON, each with a comma ahead: the access log puts them behind what Envoy itself knows.
    pub fn members(&self) -> String {
        let Self {
            caller,
            request,
            used,
            ..
        } = *self;
        // Nearly all are shorter.
        let mut members = Members(String::with_capacity(384));
        members.text("org", caller.org);
        if let Some(project) = caller.project {
            members.text("project", project);
        }
        members.text("key", caller.key_id);
        members.text("tier", caller.tier);
        if let Some(request) = request {
            members.text("endpoint", request.endpoint.name());
            members.text("model", request.model);
            members.json("stream", if request.stream { "true" } else { "false" });
            members.number("reserved_tokens", request.reserved_tokens);
        }
        members.text("outcome", self.outcome.name());
        members.number("input_tokens", used.input_tokens);
        members.number("output_tokens", used.output_tokens);
        members.number("cached_tokens", used.cached_tokens);
        members.number("reasoning_tokens", used.reasoning_tokens);
        let rare = [
            ("cache_write_tokens", used.cache_written_tokens),
            ("cache_write_1h_tokens", used.cache_written_1h_tokens),
            ("audio_seconds", used.audio_seconds),
            ("pictures", used.pictures),
        ];
        for (name, number) in rare {
            if number > 0 {
                members.number(name, number);
            }
        }
        if let Some(cost) = used.cost_micros {
            members.number("cost_micros", cost);
        }
        members.text("source", used.source.name());
        if used.distrusted {
            members.json("distrusted", "true");
        }
        if let Some(millis) = self.first_byte_ms {
            members.number("first_byte_ms", millis);
        }
        if let Some(limit) = self.limit {
            members.text("limit", limit);
        }
        if let Some(budget) = self.budget {
            members.text("budget", budget);
        }
        if !self.would_limit.is_empty() {
            // Strings always serialise.
            let list = serde_json::to_string(self.would_limit).unwrap_or_default();
            members.json("would_limit", &list);
        }
        members.0
    }
}

/// Members of a JSON object, each with a comma ahead. A serialiser takes four times as long, at the end of every
/// request.
struct Members(String);

impl Members {
    fn json(&mut self, name: &str, json: &str) {
        let Self(members) = self;
        members.push_str(",\"");
        members.push_str(name);
        members.push_str("\":");
        members.push_str(json);
    }

    fn number(&mut self, name: &str, number: u64) {
        self.json(name, itoa::Buffer::new().format(number));
    }

    fn text(&mut self, name: &str, text: &str) {
        if text
            .bytes()
            .any(|byte| byte < b' ' || byte == b'"' || byte == b'\\')
        {
            // Strings always serialise.
            return self.json(name, &serde_json::to_string(text).unwrap_or_default());
        }
        self.json(name, "\"");
        self.0.push_str(text);
        self.0.push('"');
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
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
            request: Some(Request {
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
            budget: None,
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
            request: None,
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

    /// Of any characters, quotes and control characters among them.
    fn name() -> impl Strategy<Value = String> {
        let character = prop_oneof![any::<char>(), (0..128_u8).prop_map(char::from)];
        prop::collection::vec(character, 0..20).prop_map(String::from_iter)
    }

    proptest! {
        /// Whatever the names hold, the line is an object, and says them.
        #[test]
        fn names_may_hold_anything(org in name(), model in name(), limits in prop::collection::vec(name(), 0..3)) {
            let record = Record {
                caller: Caller { org: &org, ..record().caller },
                request: record().request.map(|request| Request { model: &model, ..request }),
                would_limit: &limits,
                ..record()
            };
            let line = format!("{{\"v\":1{}}}", record.members());
            prop_assert!(!line.contains('\n'));
            let line: Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!((&line["org"], &line["model"]), (&json!(org), &json!(model)));
            prop_assert_eq!(line.get("would_limit").is_some(), !limits.is_empty());
            prop_assert_eq!(&line["would_limit"], &if limits.is_empty() { Value::Null } else { json!(limits) });
        }
    }
}

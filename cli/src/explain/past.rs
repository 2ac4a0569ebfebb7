//! A past request, from the records that Envoy wrote of it.

use core::fmt::{self, Display, Formatter};
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::request::{Request, RequestOptions};
use crate::out::errln;

/// What is known of it.
pub(super) struct PastRequest {
    /// Its usage record, and where it stands.
    record: (Value, String),
    /// Its line in an access log, where one was among the files.
    access: Option<(Value, String)>,
}

impl PastRequest {
    /// The request of this id.
    pub(super) fn find(id: &str, files: &[PathBuf]) -> Result<Self> {
        let (mut record, mut access) = (None, None);
        for file in files {
            let open = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
            for (at, line) in BufReader::new(open).split(b'\n').enumerate() {
                let line = line.with_context(|| format!("cannot read {}", file.display()))?;
                if memchr::memmem::find(&line, id.as_bytes()).is_none() {
                    continue;
                }
                let Ok(value) = serde_json::from_slice::<Value>(&line) else {
                    continue;
                };
                let is = |name: &str| value.get(name).and_then(Value::as_str) == Some(id);
                let place = format!("{}:{}", file.display(), at + 1);
                if value.get("event").and_then(Value::as_str) == Some("usage") && is("id") {
                    record = Some((value, place));
                } else if is("request_id") {
                    access = Some((value, place));
                }
            }
        }
        match record {
            Some(record) => Ok(Self { record, access }),
            None => bail!("no usage record in these files has the id `{id}`"),
        }
    }

    /// The record.
    pub(super) fn record(&self) -> &Value {
        &self.record.0
    }

    /// The line of the access log.
    pub(super) fn access(&self) -> Option<&Value> {
        self.access.as_ref().map(|(line, _)| line)
    }

    /// The same request to explain now, as far as it is known; `None` where that is too little, which is printed.
    pub(super) fn to_request(&self, options: &RequestOptions) -> Result<Option<Request>> {
        let logged = |name: &str| {
            self.access()
                .and_then(|line| line.get(name))
                .and_then(Value::as_str)
        };
        let known = |name: &str| self.text(name);
        let endpoint = known("endpoint").or_else(|| logged("path").and_then(endpoint_at));
        let model = known("model").or_else(|| logged("model"));
        let key = known("key").or_else(|| logged("key_id"));
        let owned = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
        let address = logged("client").and_then(|client| client.parse().ok());
        let past = RequestOptions::from_record(owned(key), owned(model), endpoint.unwrap_or("chat"))
            .with_tokens(
                self.tokens(),
                self.record().get("stream") == Some(&Value::Bool(true)),
                address,
            );
        let whole = options.or_from(&past);
        match whole.request() {
            Ok(request) if whole.names_model() || endpoint == Some("models") => Ok(Some(request)),
            _ => {
                errln!(
                    "The records do not say all of the request: give --key and --model for what the files say of it now."
                );
                Ok(None)
            }
        }
    }

    /// What it had to read, and might write: what was reserved, less the input as it was reported. The record has the sum
    /// alone; of a request that used nothing all but one token counts as input.
    fn tokens(&self) -> (Option<u64>, Option<u64>) {
        let number = |name: &str| self.record().get(name).and_then(Value::as_u64);
        let Some(reserved) = number("reserved_tokens") else {
            return (None, None);
        };
        let writes = matches!(
            self.text("endpoint"),
            Some("chat" | "completions" | "responses" | "messages")
        );
        let input = number("input_tokens").filter(|input| (1..reserved).contains(input));
        match input {
            Some(input) if writes => (Some(input), Some(reserved - input)),
            _ if writes => (Some(reserved.saturating_sub(1)), Some(1)),
            _ => (Some(reserved), None),
        }
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.record().get(name).and_then(Value::as_str)
    }

    fn source(&self) -> &'static str {
        match self.text("source") {
            Some("reported") => "as the model server reported",
            Some("estimated") => "as estimated",
            _ => "nothing was used",
        }
    }

    fn outcome(&self) -> &'static str {
        match self.text("outcome") {
            Some("complete") => "the answer was whole",
            Some("aborted") => "it began and broke off",
            Some("errored") => "it began with 200 and said then that something went wrong",
            Some("no_answer") => "its client left before an answer began",
            Some("failed") => "no answer could be had, or it is an error of the model server",
            Some("limited") => "a limit or the model's capacity refused it",
            Some("refused") => {
                "another filter refused it, or its client left before a model server received it"
            }
            Some("crashed") => "it was under way when Envoy was killed",
            _ => "nobody authenticated it",
        }
    }
}

impl Display for PastRequest {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (record, place) = &self.record;
        let said = |name: &str| match record.get(name) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(all)) => all
                .iter()
                .filter_map(Value::as_str)
                .collect::<Vec<_>>()
                .join(", "),
            Some(other) => other.to_string(),
        };
        let mut line = |name: &str, text: String| writeln!(f, "{name:10}  {text}");
        line("record", format!("{place}, {}", said("time")))?;
        line("status", format!("{} (flags {})", said("status"), said("flags")))?;
        if let Some((logged, place)) = &self.access
            && let Some(details) = logged.get("details").and_then(Value::as_str)
        {
            line("details", format!("{details}, {place}"))?;
        }
        line(
            "outcome",
            format!("{}: {}", said("outcome"), self.outcome())
                .trim_start_matches(": ")
                .to_owned(),
        )?;
        if record.get("key").is_some() {
            let project = self
                .text("project")
                .map_or(String::new(), |project| format!("/{project}"));
            line(
                "caller",
                format!(
                    "key `{}` of {}{project}, tier {}",
                    said("key"),
                    said("org"),
                    said("tier")
                ),
            )?;
        }
        if record.get("model").is_some() {
            let streamed = if record.get("stream") == Some(&Value::Bool(true)) {
                ", streamed"
            } else {
                ""
            };
            line(
                "asked",
                format!("`{}` at `{}`{streamed}", said("model"), said("endpoint")),
            )?;
            line("reserved", format!("{} tokens", said("reserved_tokens")))?;
        }
        if record.get("source").is_some() {
            let cost = record
                .get("cost_micros")
                .map_or(String::new(), |cost| format!(", cost {cost} millionths"));
            let used = format!(
                "{} tokens of input, {} of output{cost}",
                said("input_tokens"),
                said("output_tokens")
            );
            line("charged", format!("{used}; {}", self.source()))?;
        }
        if record.get("limit").is_some() {
            line("limit", format!("`{}` refused it", said("limit")))?;
        }
        if record.get("budget").is_some() {
            line("budget", format!("`{}` refused it", said("budget")))?;
        }
        if record.get("would_limit").is_some() {
            line(
                "shadow",
                format!("would have refused it: {}", said("would_limit")),
            )?;
        }
        match said("attempts").as_str() {
            "0" => line("attempts", "0: no model server was asked".to_owned()),
            attempts => line(
                "attempts",
                format!("{attempts}, the last at `{}`", said("cluster")),
            ),
        }
    }
}

/// The endpoint's name at a path.
fn endpoint_at(path: &str) -> Option<&'static str> {
    tollgate_core::endpoint::Endpoint::of(path.as_bytes()).map(tollgate_core::endpoint::Endpoint::name)
}

//! The usage records, one for each request.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::net;

/// One request, as `docs/usage-record.md` says.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsageRecord {
    /// `usage`.
    pub event: String,
    /// Version of the schema.
    pub v: u32,
    /// The answer's `x-request-id`.
    pub id: String,
    /// When it began, RFC 3339 with milliseconds.
    pub time: String,
    /// Status of the answer; 0 where there was none.
    pub status: u16,
    /// Envoy's response flags, empty for none.
    pub flags: String,
    /// Cluster of the last attempt.
    pub cluster: String,
    /// Tries upstream, retries included.
    pub attempts: u32,
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
    /// Milliseconds in all.
    pub duration_ms: u64,
    /// Organization; `None` for a request that was not authenticated.
    pub org: Option<String>,
    /// Project.
    pub project: Option<String>,
    /// Public id of the key.
    pub key: Option<String>,
    /// Class of service.
    pub tier: Option<String>,
    /// Where it was asked.
    pub endpoint: Option<String>,
    /// The model that serves.
    pub model: Option<String>,
    /// Whether the answer was to be streamed.
    pub stream: Option<bool>,
    /// Tokens that were reserved.
    pub reserved_tokens: Option<u64>,
    /// How it ended.
    pub outcome: Option<String>,
    /// Tokens read.
    pub input_tokens: Option<u64>,
    /// Tokens written.
    pub output_tokens: Option<u64>,
    /// Of those read, from a cache.
    pub cached_tokens: Option<u64>,
    /// Of those written, unseen.
    pub reasoning_tokens: Option<u64>,
    /// Of those read, written to a cache.
    pub cache_write_tokens: Option<u64>,
    /// Of those, for an hour.
    pub cache_write_1h_tokens: Option<u64>,
    /// Seconds of sound.
    pub audio_seconds: Option<u64>,
    /// Pictures made.
    pub pictures: Option<u64>,
    /// In millionths of the currency.
    pub cost_micros: Option<u64>,
    /// `reported`, `estimated` or `nothing`.
    pub source: Option<String>,
    /// Whether the model server reported what can't be so.
    pub distrusted: Option<bool>,
    /// Milliseconds until the answer began.
    pub first_byte_ms: Option<u64>,
    /// The limit that refused.
    pub limit: Option<String>,
    /// The budget that refused.
    pub budget: Option<String>,
    /// Limits in shadow mode that would have.
    #[serde(default)]
    pub would_limit: Vec<String>,
}

impl UsageRecord {
    /// Whether it ended so.
    pub fn is(&self, outcome: &str) -> bool {
        self.outcome.as_deref() == Some(outcome)
    }

    /// Tokens read and written.
    pub fn tokens(&self) -> u64 {
        self.input_tokens.unwrap_or(0) + self.output_tokens.unwrap_or(0)
    }
}

/// The file Envoy writes the usage records to, each once its request has ended.
#[derive(Debug, Clone)]
pub struct UsageLog {
    path: PathBuf,
}

impl UsageLog {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// All records written now, as the lines of JSON that they are.
    pub fn lines(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.path).unwrap_or_default();
        // Envoy flushes by size too, so that the last line may be half of one.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(str::to_owned).collect()
    }

    /// All records written now.
    ///
    /// # Panics
    /// A line is no record.
    pub fn records(&self) -> Vec<UsageRecord> {
        self.lines()
            .iter()
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|e| panic!("usage log: {e} in this line:\n{line}"))
            })
            .collect()
    }

    /// Waits for the record of the request with this `x-request-id`, and sees that there is but one.
    ///
    /// # Panics
    /// It did not come within ten seconds.
    pub async fn of(&self, request_id: &str) -> UsageRecord {
        let all = self
            .wait(|records| records.iter().any(|one| one.id == request_id))
            .await;
        let mut found = all.into_iter().filter(|one| one.id == request_id);
        let record = found.next().expect("it was just there");
        assert_eq!(found.next(), None, "a second record of {request_id}");
        record
    }

    /// Waits until the records are as wanted, and gives all of them.
    ///
    /// # Panics
    /// That took more than fifteen seconds.
    pub async fn wait(&self, wanted: impl Fn(&[UsageRecord]) -> bool) -> Vec<UsageRecord> {
        let found = net::within(Duration::from_secs(15), async || {
            Some(self.records()).filter(|records| wanted(records))
        })
        .await;
        found.unwrap_or_else(|| {
            let records = self.records();
            let last = records.len().saturating_sub(5);
            panic!(
                "the usage records are not as wanted; there are {}, the last: {:#?}",
                records.len(),
                &records[last..]
            )
        })
    }
}

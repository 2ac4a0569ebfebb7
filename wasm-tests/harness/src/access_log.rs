//! Envoy's JSON access log, as records.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::net;

/// One request, as `listener.yaml` logs it. What a request did not come to have is `None`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// When it began, RFC 3339 with milliseconds.
    pub time: String,
    /// Minted by the gateway; the answer's `x-request-id`.
    pub request_id: Option<String>,
    /// Method.
    pub method: Option<String>,
    /// Path without its query, if it is an endpoint's or of plain words; else what it begins with, and `***`.
    pub path: Option<String>,
    /// `HTTP/1.1` or `HTTP/2`.
    pub protocol: Option<String>,
    /// Status of the answer; 0 where there was none.
    pub status: u16,
    /// Envoy's response flags, `-` for none.
    pub flags: String,
    /// Why this status: `via_upstream`, `tollgate_expired`, ...
    pub details: Option<String>,
    /// Organization, once authenticated.
    pub org: Option<String>,
    /// Project, once authenticated with a project's key.
    pub project: Option<String>,
    /// Public id of the key, once authenticated.
    pub key_id: Option<String>,
    /// Class of service, once authenticated.
    pub tier: Option<String>,
    /// The model that served, by its name in the catalogue, once routed.
    pub model: Option<String>,
    /// Why this target: `primary`, `canary`, `breaker-open`, `fallback`; once routed.
    pub route: Option<String>,
    /// Cluster of the last attempt.
    pub cluster: Option<String>,
    /// Address of the model server.
    pub host: Option<String>,
    /// Tries upstream, retries included.
    pub attempts: u32,
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
    /// Milliseconds from the start to the model server's first byte.
    pub first_byte_ms: Option<u64>,
    /// Milliseconds in all.
    pub duration_ms: Option<u64>,
    /// The client's address, as Envoy determined it.
    pub client: Option<String>,
}

/// One attempt that failed, also where a later one of the same request was answered.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailedAttempt {
    /// When it began, RFC 3339 with milliseconds.
    pub time: String,
    /// `attempt failed`.
    pub event: String,
    /// The request's.
    pub request_id: Option<String>,
    /// Cluster that was asked.
    pub cluster: Option<String>,
    /// Address that was asked.
    pub host: Option<String>,
    /// Status of the answer; 0 where there was none.
    pub status: u16,
    /// Envoy's response flags, `-` for none.
    pub flags: String,
    /// What became of the connection, where that is the reason.
    pub reason: Option<String>,
    /// Milliseconds until it failed.
    pub duration_ms: Option<u64>,
}

/// What tells an attempt's line from a request's.
const FAILED: &str = r#""event":"attempt failed""#;

/// The file Envoy writes the records to, each once its request has ended.
#[derive(Debug, Clone)]
pub struct AccessLog {
    path: PathBuf,
}

impl AccessLog {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// All that is written now, as text.
    pub fn text(&self) -> String {
        // Envoy makes the file with the listener.
        std::fs::read_to_string(&self.path).unwrap_or_default()
    }

    /// All records written now.
    ///
    /// # Panics
    /// A line is no record: the log is not what this crate's [`Record`] says.
    pub fn records(&self) -> Vec<Record> {
        let text = self.text();
        // Envoy flushes by size too, so that the last line may be half of one.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole
            .lines()
            .filter(|line| line.starts_with('{') && !line.contains(FAILED))
            .map(parse)
            .collect()
    }

    /// All failed attempts written now.
    ///
    /// # Panics
    /// A line is none: the log is not what this crate's [`FailedAttempt`] says.
    pub fn failed_attempts(&self) -> Vec<FailedAttempt> {
        let text = self.text();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole
            .lines()
            .filter(|line| line.contains(FAILED))
            .map(parse)
            .collect()
    }

    /// Waits for a record that `wanted` says is it.
    ///
    /// # Panics
    /// None came within ten seconds.
    pub async fn find(&self, wanted: impl Fn(&Record) -> bool) -> Record {
        match net::within(Duration::from_secs(10), async || {
            self.records().into_iter().find(&wanted)
        })
        .await
        {
            Some(record) => record,
            None => panic!(
                "no such record came within ten seconds; there are:\n{}",
                self.text()
            ),
        }
    }

    /// Waits for the record of the request with this `x-request-id`.
    ///
    /// # Panics
    /// It did not come within ten seconds.
    pub async fn of(&self, request_id: &str) -> Record {
        self.find(|record| record.request_id.as_deref() == Some(request_id))
            .await
    }
}

fn parse<T: for<'a> Deserialize<'a>>(line: &str) -> T {
    serde_json::from_str(line).unwrap_or_else(|e| panic!("access log: {e} in this line:\n{line}"))
}

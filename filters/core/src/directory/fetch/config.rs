//! The configuration of the fetcher.

use serde::Deserialize;

use crate::config::{ConfigError, Span, from_json};

/// Where the document is, and how it is fetched.
pub struct Config {
    /// Envoy cluster of the document's server.
    pub cluster: String,
    /// `:authority` of the request.
    pub authority: String,
    /// Path of the document.
    pub path: String,
    /// From one fetch to the next; nanoseconds.
    pub refresh: u64,
    /// Longest wait for the whole document; milliseconds.
    pub timeout_millis: u32,
    /// Whether a directory without keys may follow one with keys.
    pub allow_empty: bool,
}

#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFetch {
    cluster: String,
    authority: Option<String>,
    path: String,
    #[serde(default = "refresh")]
    refresh: Span,
    #[serde(default = "timeout")]
    timeout: Span,
    #[serde(default)]
    allow_empty: bool,
}

fn refresh() -> Span {
    Span::from_secs(10)
}

fn timeout() -> Span {
    Span::from_secs(30)
}

#[cfg(feature = "schema")]
crate::config::schema::stands_for!(Config => RawFetch);

impl Config {
    /// Reads the fetcher's configuration; all that is wrong with it is reported.
    pub fn parse(json: &[u8]) -> Result<Self, Vec<ConfigError>> {
        let raw: RawFetch = from_json(json).map_err(|error| vec![error])?;
        let mut errors = Vec::new();
        if !raw.path.starts_with('/') {
            errors.push(ConfigError::expected(
                "path",
                &raw.path,
                "a path that begins with `/`",
            ));
        }
        if raw.cluster.is_empty() {
            errors.push(ConfigError::expected(
                "cluster",
                "",
                "the name of an Envoy cluster",
            ));
        }
        if raw.refresh.millis() < 1_000 {
            errors.push(ConfigError::expected(
                "refresh",
                format!("{}ms", raw.refresh.millis()),
                "at least `1s`",
            ));
        }
        // The host takes a signed number of 32 bits.
        let timeout_millis = u32::try_from(raw.timeout.millis())
            .ok()
            .filter(|millis| *millis <= 24 * 86_400_000);
        if timeout_millis.is_none() {
            errors.push(ConfigError::expected(
                "timeout",
                format!("{}ms", raw.timeout.millis()),
                "at most `24d`",
            ));
        }
        match timeout_millis {
            Some(timeout_millis) if errors.is_empty() => Ok(Self {
                authority: raw.authority.unwrap_or_else(|| raw.cluster.clone()),
                cluster: raw.cluster,
                path: raw.path,
                refresh: raw.refresh.nanos(),
                timeout_millis,
                allow_empty: raw.allow_empty,
            }),
            _ => Err(errors),
        }
    }
}

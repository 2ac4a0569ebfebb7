//! The configuration of the fetcher.

use serde::Deserialize;

use super::Plan;
use super::question::{CHANGES, Question, watching};
use crate::config::{ConfigError, RawToken, Span, Token, from_json};

/// The longest wait for changes, in seconds: proxies end what is silent for much longer.
const LONGEST_WATCH: u64 = 300;

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
    /// How long the server waits until something has changed; whole seconds. `None` where it is not asked what changed.
    pub watch_seconds: Option<u32>,
    /// What the server knows the fetcher by.
    token: Option<Token>,
    /// Whether a directory without keys may follow one with keys.
    pub allow_empty: bool,
}

/// A request for the document.
pub struct Request {
    /// Names and values.
    pub headers: Vec<(&'static str, String)>,
    /// How long its answer may take; milliseconds.
    pub timeout_millis: u32,
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
    watch: Option<Span>,
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    token: Option<RawToken>,
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
        let watch_seconds = raw.watch.map(|watch| watch.millis() / 1_000);
        if watch_seconds.is_some_and(|seconds| !(1..=LONGEST_WATCH).contains(&seconds)) {
            let found = raw.watch.map_or(0, Span::millis);
            errors.push(ConfigError::expected(
                "watch",
                format!("{found}ms"),
                "`1s` to `300s`",
            ));
        }
        let token = raw.token.map(RawToken::check).transpose();
        let token = token.map_err(|error| errors.push(error)).unwrap_or_default();
        match timeout_millis {
            Some(timeout_millis) if errors.is_empty() => Ok(Self {
                authority: raw.authority.unwrap_or_else(|| raw.cluster.clone()),
                cluster: raw.cluster,
                path: raw.path,
                refresh: raw.refresh.nanos(),
                timeout_millis,
                watch_seconds: watch_seconds.and_then(|seconds| u32::try_from(seconds).ok()),
                token,
                allow_empty: raw.allow_empty,
            }),
            _ => Err(errors),
        }
    }

    /// How often whom to ask.
    pub fn plan(&self) -> Plan {
        let seconds = |seconds: u32| u64::from(seconds).saturating_mul(1_000_000_000);
        Plan {
            refresh: self.refresh,
            timeout: u64::from(self.timeout_millis).saturating_mul(1_000_000),
            watch: self.watch_seconds.map(seconds),
            allow_empty: self.allow_empty,
        }
    }

    /// The request that asks this. A file server is asked as ever.
    pub fn request(&self, question: &Question<'_>) -> Request {
        let watched = self.watch_seconds.zip(question.after);
        let path = watched.map_or_else(
            || self.path.clone(),
            |(seconds, after)| watching(&self.path, after, seconds.into()),
        );
        let accept = match self.watch_seconds {
            Some(_) => format!("{CHANGES}, application/json"),
            None => "application/json".to_owned(),
        };
        let mut headers = vec![
            (":method", "GET".to_owned()),
            (":path", path),
            (":authority", self.authority.clone()),
            ("accept", accept),
        ];
        let coding = self.watch_seconds.map(|_| ("accept-encoding", "gzip".to_owned()));
        headers.extend(coding);
        headers.extend(question.etag.map(|etag| ("if-none-match", etag.to_owned())));
        let bearer = self.token.as_ref().map(Token::bearer);
        headers.extend(bearer.map(|bearer| ("authorization", bearer)));
        let wait = watched.map_or(0, |(seconds, _)| seconds.saturating_mul(1_000));
        Request {
            headers,
            timeout_millis: self.timeout_millis.saturating_add(wait),
        }
    }
}

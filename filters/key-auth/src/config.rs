//! The filter's configuration, and the fetcher's.

use serde::Deserialize;
use serde_json::value::RawValue;
use tollgate_core::config::{ConfigError, Number, Object, Rate, Span, from_json};
use tollgate_core::directory::{Loader, OnStale, Source};
use tollgate_core::gcra::Throttle;

/// What the filter needs on its way.
pub struct Config {
    /// Where keys are looked up.
    pub source: Source,
    /// Failed authentications allowed from one address.
    pub failed_auth: Throttle,
    /// Where a verified token's claims are; `None` takes keys only.
    pub token: Option<TokenClaims>,
    /// Whether routes may match on the identity's headers: then the route is chosen again after they are set.
    pub route_on_identity: bool,
}

/// Names of claims in the dynamic metadata that Envoy's `jwt_authn` wrote.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenClaims {
    /// `payload_in_metadata` of the provider.
    pub metadata_key: String,
    /// Claim that names the organization.
    #[serde(default = "org")]
    pub org_claim: String,
    /// Claim that names the project; a token without it speaks for the whole organization.
    #[serde(default = "project")]
    pub project_claim: String,
    /// Claim that names the caller.
    #[serde(default = "subject")]
    pub subject_claim: String,
}

fn org() -> String {
    "org".into()
}

fn project() -> String {
    "project".into()
}

fn subject() -> String {
    "sub".into()
}

/// What the fetcher does.
pub struct FetchConfig {
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    directory: RawSource,
    #[serde(default)]
    failed_auth: Object<RawFailedAuth>,
    jwt: Option<Object<TokenClaims>>,
    #[serde(default = "yes")]
    route_on_identity: bool,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a map with `inline` or `http`")]
struct RawSource {
    inline: Option<Box<RawValue>>,
    http: Option<Object<RawHttp>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHttp {
    max_stale: Span,
    on_stale: OnStale,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawFailedAuth {
    rate: Rate,
    burst: Number,
}

impl Default for RawFailedAuth {
    fn default() -> Self {
        Self {
            rate: Rate::PER_SECOND,
            burst: Number(30.0),
        }
    }
}

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

impl Config {
    /// Reads the filter's configuration; all that is wrong with it is reported.
    pub fn parse(json: &[u8]) -> Result<Self, Vec<ConfigError>> {
        let raw: RawConfig = from_json(json).map_err(|error| vec![error])?;
        let mut errors = Vec::new();
        let failed_auth = whole(raw.failed_auth.0.burst, "failed_auth.burst")
            .map(|burst| Throttle::new(raw.failed_auth.0.rate, burst))
            .map_err(|error| errors.push(error));
        let source = source(raw.directory).map_err(|found| errors.extend(found));
        match (source, failed_auth) {
            (Ok(source), Ok(failed_auth)) if errors.is_empty() => Ok(Self {
                source,
                failed_auth,
                token: raw.jwt.map(|Object(claims)| claims),
                route_on_identity: raw.route_on_identity,
            }),
            _ => Err(errors),
        }
    }
}

fn source(raw: RawSource) -> Result<Source, Vec<ConfigError>> {
    match (raw.inline, raw.http) {
        (Some(document), None) => {
            let document = Box::<str>::from(document).into_string().into_bytes();
            let under = |errors: Vec<ConfigError>| {
                errors
                    .into_iter()
                    .map(|error| error.under("directory.inline"))
                    .collect::<Vec<_>>()
            };
            Loader::load(document).map(Source::Inline).map_err(under)
        }
        (None, Some(Object(http))) => Ok(Source::Http {
            max_stale: http.max_stale.nanos(),
            on_stale: http.on_stale,
        }),
        _ => Err(vec![ConfigError::new(
            "directory",
            "expected exactly one of `inline` and `http`",
        )]),
    }
}

impl FetchConfig {
    /// Reads the fetcher's configuration.
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

/// A count, which a YAML front end may have turned into a double.
fn whole(Number(number): Number, path: &str) -> Result<core::num::NonZeroU32, ConfigError> {
    let fits = number.fract() == 0.0 && (1.0..=f64::from(u32::MAX)).contains(&number);
    core::num::NonZeroU32::new(if fits { number as u32 } else { 0 })
        .ok_or_else(|| ConfigError::expected(path, number, "a whole number above zero"))
}

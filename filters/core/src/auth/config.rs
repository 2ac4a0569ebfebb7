//! The configuration of who may call.

use core::num::NonZeroU32;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::config::{ConfigError, Number, Object, Rate, Span, from_json};
use crate::directory::{Loader, OnStale, Source};
use crate::gcra::Throttle;

/// What the filter needs on its way.
pub struct Config {
    /// Where keys are looked up.
    pub source: Arc<Source>,
    /// Failed authentications allowed from one address.
    pub failed_auth: Throttle,
    /// Where a verified token's claims are; `None` takes keys only.
    pub token: Option<TokenClaims>,
    /// Whether routes may match on the identity's headers: then the route is chosen again after they are set.
    pub route_on_identity: bool,
}

/// Names of claims in the dynamic metadata that Envoy's `jwt_authn` wrote.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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

#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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

#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a map with `inline` or `http`")]
struct RawSource {
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<crate::directory::Document<'static>>")
    )]
    inline: Option<Box<RawValue>>,
    http: Option<Object<RawHttp>>,
}

#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHttp {
    max_stale: Span,
    on_stale: OnStale,
}

#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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

#[cfg(feature = "schema")]
crate::config::schema::stands_for!(Config => RawConfig);

impl Config {
    /// Reads the filter's configuration; all that is wrong with it is reported.
    pub fn parse(json: &[u8]) -> Result<Self, Vec<ConfigError>> {
        let raw: RawConfig = from_json(json).map_err(|error| vec![error])?;
        let mut errors = Vec::new();
        let Object(RawFailedAuth { rate, burst }) = raw.failed_auth;
        let failed_auth = burst
            .whole("failed_auth.burst", 1..=u64::from(u32::MAX))
            .map_err(|error| errors.push(error))
            .map(|burst| {
                let burst = u32::try_from(burst).ok().and_then(NonZeroU32::new);
                Throttle::new(rate, burst.unwrap_or(NonZeroU32::MIN))
            });
        let source = source(raw.directory).map_err(|found| errors.extend(found));
        match (source, failed_auth) {
            (Ok(source), Ok(failed_auth)) if errors.is_empty() => Ok(Self {
                source: Arc::new(source),
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

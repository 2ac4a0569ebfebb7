//! The configuration: a section for each filter, as in its own file.

use serde::Deserialize;
use serde_json::value::RawValue;
use tollgate_core::config::{ConfigError, from_json};
use tollgate_key_auth::filter::KeyAuth;
use tollgate_rate_limit::filter::RateLimit;
use tollgate_tenant_router::filter::Router;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    key_auth: Box<RawValue>,
    tenant_router: Box<RawValue>,
    rate_limit: Box<RawValue>,
}

/// Makes the three filters; all that is wrong with any of them is reported.
pub fn filters(json: &[u8]) -> Result<(KeyAuth, Router, RateLimit), Vec<ConfigError>> {
    let raw: RawConfig = from_json(json).map_err(|error| vec![error])?;
    let mut errors = Vec::new();
    let mut wrong = |section: &str, found: Vec<ConfigError>| {
        errors.extend(found.into_iter().map(|error| error.under(section)));
    };
    let section = |raw: &RawValue| raw.get().as_bytes().to_vec();
    let key_auth = KeyAuth::configure(&section(&raw.key_auth)).map_err(|found| wrong("key_auth", found));
    let router =
        Router::configure(&section(&raw.tenant_router)).map_err(|found| wrong("tenant_router", found));
    let rate_limit =
        RateLimit::configure(&section(&raw.rate_limit)).map_err(|found| wrong("rate_limit", found));
    match (key_auth, router, rate_limit) {
        (Ok(key_auth), Ok(router), Ok(rate_limit)) => Ok((key_auth, router, rate_limit)),
        _ => Err(errors),
    }
}

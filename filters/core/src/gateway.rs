//! The configuration of key-auth, tenant-router and rate-limit as one filter: a section for each, as in its own file.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::config::{ConfigError, from_json};
use crate::{auth, limiter, route};

/// What was checked, of each filter.
pub struct Config {
    /// Who may call.
    pub key_auth: Arc<auth::Config>,
    /// What they may ask for, and where it goes.
    pub tenant_router: Arc<route::Config>,
    /// How much of it.
    pub rate_limit: Arc<limiter::Config>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    key_auth: Box<RawValue>,
    tenant_router: Box<RawValue>,
    rate_limit: Box<RawValue>,
}

impl Config {
    /// Checks all three; all that is wrong with any of them is reported.
    pub fn parse(json: &[u8]) -> Result<Self, Vec<ConfigError>> {
        let raw: RawConfig = from_json(json).map_err(|error| vec![error])?;
        let mut errors = Vec::new();
        let mut wrong = |section: &str, found: Vec<ConfigError>| {
            errors.extend(found.into_iter().map(|error| error.under(section)));
        };
        let json = |raw: &RawValue| raw.get().as_bytes().to_vec();
        let key_auth = auth::Config::parse(&json(&raw.key_auth)).map_err(|found| wrong("key_auth", found));
        let tenant_router =
            route::Config::parse(&json(&raw.tenant_router)).map_err(|found| wrong("tenant_router", found));
        let rate_limit =
            limiter::Config::parse(&json(&raw.rate_limit)).map_err(|found| wrong("rate_limit", found));
        match (key_auth, tenant_router, rate_limit) {
            (Ok(key_auth), Ok(tenant_router), Ok(rate_limit)) => Ok(Self {
                key_auth: Arc::new(key_auth),
                tenant_router: Arc::new(tenant_router),
                rate_limit: Arc::new(rate_limit),
            }),
            _ => Err(errors),
        }
    }
}

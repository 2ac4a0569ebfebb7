//! What a limiter decides by: the limits, and what each model serves at once.

use serde::Deserialize;

use crate::config::{ConfigError, Object, Span, from_json};
use crate::limits::fair::{Capacities, RawCapacity};
use crate::limits::{Dimension, OnError, RawLimit, Table};

/// A configuration that was checked.
#[derive(Debug)]
pub struct Config {
    /// Every limit.
    pub limits: Table,
    /// How much each model serves at once.
    pub capacities: Capacities,
    /// How long what was reserved of an output is held where a model server may go on writing it.
    pub abandoned_hold: Span,
    /// Whether the answer to a request that passed tells how its limits stand.
    pub limit_headers: bool,
    /// Whether a limit tells clients' addresses apart.
    pub by_address: bool,
    /// What becomes of a request where nobody knows how a budget stands.
    pub budgets_on_error: OnError,
}

#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    #[cfg_attr(feature = "schema", schemars(required))]
    limits: Option<Vec<Object<RawLimit>>>,
    #[serde(default)]
    capacity: Vec<Object<RawCapacity>>,
    #[serde(default = "abandoned_hold")]
    abandoned_hold: Span,
    #[serde(default = "limit_headers")]
    limit_headers: bool,
    #[serde(default = "budgets_on_error")]
    budgets_on_error: OnError,
}

const fn budgets_on_error() -> OnError {
    OnError::Deny
}

const fn limit_headers() -> bool {
    true
}

fn abandoned_hold() -> Span {
    Span::from_secs(60)
}

#[cfg(feature = "schema")]
crate::config::schema::stands_for!(Config => RawConfig);

impl Config {
    /// Reads a configuration; all that is wrong with it is reported.
    pub fn parse(json: &[u8]) -> Result<Self, Vec<ConfigError>> {
        let Object(RawConfig {
            limits,
            capacity,
            abandoned_hold,
            limit_headers,
            budgets_on_error,
        }) = from_json(json).map_err(|error| vec![error])?;
        let mut errors = Vec::new();
        let mut wrong = |section: &str, found: Vec<ConfigError>| {
            errors.extend(found.into_iter().map(|error| error.under(section)));
        };
        // A file that was cut short is no wish to limit nothing.
        let limits = limits.ok_or_else(|| {
            let missing = "is missing: write the limits here, or `limits: []` for none";
            vec![ConfigError::new("", missing)]
        });
        let limits = limits
            .and_then(Table::try_from)
            .map_err(|found| wrong("limits", found));
        let capacities = Capacities::try_from(capacity).map_err(|found| wrong("capacity", found));
        match (limits, capacities) {
            (Ok(limits), Ok(capacities)) => Ok(Self {
                by_address: limits.rows().iter().any(|row| row.per.has(Dimension::Ip)),
                limits,
                capacities,
                abandoned_hold,
                limit_headers,
                budgets_on_error,
            }),
            _ => Err(errors),
        }
    }
}

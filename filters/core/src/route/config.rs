//! The configuration of who may ask for which model, and where that goes.

use crate::catalogue::{Catalogue, RawCatalogue, RawWhen, When};
use crate::config::{ConfigError, Map, Number, Object, Span, from_json};
use crate::headers::ToModels;
use crate::targets::Policy;
use crate::{refusals, uploads};
use serde::Deserialize;

/// The most failures in a row that a breaker may wait for.
const MAX_FAILURES: u64 = 1_000;

/// What is configured, checked.
pub struct Config {
    /// Models and targets.
    pub catalogue: Catalogue,
    /// When a target is left alone, and for how long.
    pub breaker: Policy,
    /// Tiers whose requests go first in Envoy's queues.
    pub high_priority: Vec<String>,
    /// Who may be served by another model; `None` is nobody.
    pub allow_fallback: Option<When>,
    /// Which headers of a client's reach model servers.
    pub to_models: ToModels,
    /// How many requests of one caller may be refused.
    pub refusals: refusals::Policy,
    /// How much may be in upload.
    pub uploads: uploads::Policy,
}

#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    catalogue: Object<RawCatalogue>,
    #[serde(default)]
    breaker: Object<RawBreaker>,
    #[serde(default)]
    priorities: Map<Priority>,
    allow_fallback: Option<Object<RawWhen>>,
    #[serde(default)]
    allow_headers: Vec<String>,
    #[serde(default)]
    refusals: Object<refusals::Policy>,
    #[serde(default)]
    uploads: Object<uploads::RawPolicy>,
}

#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Priority {
    High,
    Default,
}

#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a breaker")]
struct RawBreaker {
    failures: Number,
    open: Span,
    longest: Span,
}

impl Default for RawBreaker {
    fn default() -> Self {
        Self {
            failures: Number(5.0),
            open: Span::from_secs(5),
            longest: Span::from_secs(60),
        }
    }
}

impl RawBreaker {
    fn check(self, errors: &mut Vec<ConfigError>) -> Policy {
        let failures = self.failures.whole("breaker.failures", 1..=MAX_FAILURES);
        let failures = failures.map_err(|error| errors.push(error)).unwrap_or(1);
        if self.longest < self.open {
            let problem = "is shorter than breaker.open";
            errors.push(ConfigError::new("breaker.longest", problem));
        }
        Policy {
            failures: u16::try_from(failures).unwrap_or(u16::MAX),
            open: self.open.duration(),
            longest: self.longest.duration(),
        }
    }
}

#[cfg(feature = "schema")]
crate::config::schema::stands_for!(Config => RawConfig);

impl Config {
    /// Reads the configuration; all that is wrong with it is reported.
    pub fn parse(json: &[u8]) -> Result<Self, Vec<ConfigError>> {
        let Object(raw): Object<RawConfig> = from_json(json).map_err(|error| vec![error])?;
        let mut errors = Vec::new();
        let breaker = raw.breaker.0.check(&mut errors);
        let catalogue = Catalogue::try_from(raw.catalogue.0)
            .map_err(|found| errors.extend(found.into_iter().map(|error| error.under("catalogue"))));
        let uploads = uploads::Policy::try_from(raw.uploads.0)
            .map_err(|found| errors.extend(found.into_iter().map(|error| error.under("uploads"))));
        let to_models = ToModels::and(raw.allow_headers).map_err(|found| errors.extend(found));
        let allow_fallback = raw.allow_fallback.map(|Object(when)| {
            let none = "names nobody: say for whom with tier, org, project, label or endpoint, or leave it out for nobody";
            when.check("allow_fallback", none, &mut errors)
        });
        let high = raw
            .priorities
            .0
            .into_iter()
            .filter(|(_, priority)| *priority == Priority::High);
        match (catalogue, uploads, to_models) {
            (Ok(catalogue), Ok(uploads), Ok(to_models)) if errors.is_empty() => Ok(Self {
                catalogue,
                breaker,
                high_priority: high.map(|(tier, _)| tier).collect(),
                allow_fallback,
                to_models,
                refusals: raw.refusals.0,
                uploads,
            }),
            _ => Err(errors),
        }
    }
}

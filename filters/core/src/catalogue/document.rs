//! The catalogue as an operator writes it, and the check of each part.

use core::ops::RangeInclusive;

use serde::Deserialize;

use super::model::{Canary, Catalogue, Model, Rule, Target, When};
use crate::body::Unmetered;
use crate::config::{ConfigError, EMPTY, Map, Number, Object, OneOrMore, Span};
use crate::endpoint::Endpoint;
use crate::glob::is_name;
use crate::price::Price;

/// No model has a window of so many tokens.
const MAX_TOKENS: u64 = 1_000_000_000;

/// The catalogue as it stands in the configuration.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a catalogue")]
pub struct RawCatalogue {
    models: Map<Object<RawModel>>,
}

#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a model")]
struct RawModel {
    #[serde(default)]
    aliases: Vec<String>,
    endpoints: Vec<Endpoint>,
    context_window: Option<Number>,
    max_output: Option<Number>,
    #[serde(default)]
    background: bool,
    #[serde(default)]
    unmetered: Vec<Unmetered>,
    #[serde(default)]
    owned_by: String,
    created: Option<String>,
    targets: Vec<Object<RawTarget>>,
    #[serde(default)]
    rules: Vec<Object<RawRule>>,
    canary: Option<Object<RawCanary>>,
    #[serde(default)]
    fallback: Vec<String>,
    #[serde(default)]
    timeouts: Object<RawTimeouts>,
    retries: Option<Number>,
    price: Option<Object<RawPrice>>,
    deprecated_at: Option<String>,
    sunset_at: Option<String>,
}

#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a target")]
struct RawTarget {
    cluster: String,
    #[serde(default = "one")]
    weight: Number,
    stream_options: Option<bool>,
}

fn one() -> Number {
    Number(1.0)
}

#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    when: Object<RawWhen>,
    targets: Vec<String>,
}

/// A condition as it stands in the configuration.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawWhen {
    tier: Option<OneOrMore<String>>,
    org: Option<OneOrMore<String>>,
    project: Option<OneOrMore<String>>,
    label: Option<Map<String>>,
    endpoint: Option<OneOrMore<Endpoint>>,
}

impl RawWhen {
    /// The condition at `path`. One that was emptied is no wish to have all: `none` says what is wrong with that.
    pub fn check(self, path: &str, none: &str, errors: &mut Vec<ConfigError>) -> When {
        let Self {
            tier,
            org,
            project,
            label,
            endpoint,
        } = self;
        let names = |list: &Option<OneOrMore<String>>| list.as_ref().map(|list| list.0.is_empty());
        let members = [
            ("tier", names(&tier)),
            ("org", names(&org)),
            ("project", names(&project)),
            ("label", label.as_ref().map(|label| label.0.is_empty())),
            ("endpoint", endpoint.as_ref().map(|list| list.0.is_empty())),
        ];
        if members.iter().all(|(_, empty)| empty.is_none()) {
            errors.push(ConfigError::new(path, none));
        }
        for (name, _) in members.iter().filter(|(_, empty)| *empty == Some(true)) {
            errors.push(ConfigError::new(format!("{path}.{name}"), EMPTY));
        }
        When {
            tier: tier.unwrap_or_default().0,
            org: org.unwrap_or_default().0,
            project: project.unwrap_or_default().0,
            label: label.map(|label| label.0).unwrap_or_default(),
            endpoint: endpoint.unwrap_or_default().0,
        }
    }
}

#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCanary {
    target: String,
    percent: Number,
}

/// In currency units for a million tokens.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "prices for a million tokens")]
struct RawPrice {
    input: Number,
    cached_input: Option<Number>,
    cache_write_input: Option<Number>,
    cache_write_1h_input: Option<Number>,
    #[serde(default = "zero")]
    output: Number,
    /// For one.
    #[serde(default = "zero")]
    audio_seconds: Number,
    /// For one.
    #[serde(default = "zero")]
    pictures: Number,
}

fn zero() -> Number {
    Number(0.0)
}

#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawTimeouts {
    first_byte: Option<Span>,
    first_event: Option<Span>,
    idle: Option<Span>,
    whole: Option<Span>,
}

impl TryFrom<RawCatalogue> for Catalogue {
    type Error = Vec<ConfigError>;

    /// Checks every model; all that is wrong is reported, with paths below the catalogue.
    fn try_from(raw: RawCatalogue) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let mut catalogue = Self::default();
        let names: Vec<String> = raw.models.0.keys().cloned().collect();
        for (at, (name, Object(raw))) in raw.models.0.into_iter().enumerate() {
            let path = format!("models.{name}");
            for (alias, path) in [(name.clone(), path.clone())].into_iter().chain(
                raw.aliases
                    .iter()
                    .enumerate()
                    .map(|(n, alias)| (alias.clone(), format!("{path}.aliases[{n}]"))),
            ) {
                check_name(&alias, &path, &mut errors);
                if catalogue.names.insert(alias.clone(), at).is_some()
                    || (alias != name && names.contains(&alias))
                {
                    errors.push(ConfigError::new(
                        path,
                        format!("`{alias}` names another model already"),
                    ));
                }
            }
            let mut check = Check {
                path: &path,
                errors: &mut errors,
            };
            catalogue.models.push(check.model(name.clone(), raw, &names));
        }
        if errors.is_empty() {
            Ok(catalogue)
        } else {
            Err(errors)
        }
    }
}

struct Check<'a> {
    path: &'a str,
    errors: &'a mut Vec<ConfigError>,
}

impl Check<'_> {
    fn model(&mut self, name: String, raw: RawModel, names: &[String]) -> Model {
        let targets = self.targets(raw.targets);
        let rules = raw
            .rules
            .into_iter()
            .enumerate()
            .map(|(at, Object(rule))| self.rule(at, rule, &targets))
            .collect();
        let canary = raw.canary.map(|Object(canary)| self.canary(&canary, &targets));
        for (at, other) in raw.fallback.iter().enumerate() {
            if *other == name || !names.contains(other) {
                self.wrong(
                    &format!("fallback[{at}]"),
                    other,
                    "another model of the catalogue, by its name",
                );
            }
        }
        let Object(timeouts) = &raw.timeouts;
        for (place, part) in [
            ("first_byte", timeouts.first_byte),
            ("first_event", timeouts.first_event),
            ("idle", timeouts.idle),
        ] {
            if let (Some(part), Some(whole)) = (part, timeouts.whole)
                && part > whole
            {
                let problem = "is longer than timeouts.whole, which ends the request before";
                let place = format!("{}.timeouts.{place}", self.path);
                self.errors.push(ConfigError::new(place, problem));
            }
        }
        if raw.endpoints.is_empty() {
            self.errors.push(ConfigError::new(
                format!("{}.endpoints", self.path),
                "is empty, so nobody could ask it",
            ));
        }
        Model {
            endpoints: raw.endpoints,
            context_window: raw
                .context_window
                .map(|number| self.whole("context_window", number, 1..=MAX_TOKENS)),
            max_output: raw
                .max_output
                .map(|number| self.whole("max_output", number, 1..=MAX_TOKENS)),
            unmetered: raw
                .unmetered
                .into_iter()
                .chain(raw.background.then_some(Unmetered::Background))
                .collect(),
            owned_by: raw.owned_by,
            created: self.time("created", raw.created.as_deref()).unwrap_or(0),
            targets,
            rules,
            canary,
            fallback: raw.fallback,
            first_byte: raw.timeouts.0.first_byte,
            first_event: raw.timeouts.0.first_event,
            idle: raw.timeouts.0.idle,
            whole: raw.timeouts.0.whole,
            retries: raw
                .retries
                .map(|number| self.whole("retries", number, 0..=u8::MAX.into()) as u8),
            price: raw.price.map(|Object(price)| self.price(&price)),
            deprecated_at: self.time("deprecated_at", raw.deprecated_at.as_deref()),
            sunset_at: self.time("sunset_at", raw.sunset_at.as_deref()),
            name,
        }
    }

    fn targets(&mut self, raw: Vec<Object<RawTarget>>) -> Vec<Target> {
        if raw.is_empty() {
            self.errors.push(ConfigError::new(
                format!("{}.targets", self.path),
                "is empty, so nobody serves it",
            ));
        }
        let mut targets: Vec<Target> = Vec::new();
        for (at, Object(target)) in raw.into_iter().enumerate() {
            let place = format!("targets[{at}]");
            check_name(
                &target.cluster,
                &format!("{}.{place}.cluster", self.path),
                self.errors,
            );
            if targets.iter().any(|other| other.cluster == target.cluster) {
                self.wrong(
                    &format!("{place}.cluster"),
                    &target.cluster,
                    "a cluster that is not among the targets yet",
                );
            }
            let weight = self.whole(&format!("{place}.weight"), target.weight, 0..=u32::MAX.into());
            targets.push(Target {
                cluster: target.cluster,
                weight: weight as u32,
                stream_options: target.stream_options.unwrap_or(true),
            });
        }
        targets
    }

    fn rule(&mut self, at: usize, raw: RawRule, targets: &[Target]) -> Rule {
        let place = format!("rules[{at}]");
        let path = format!("{}.{place}.when", self.path);
        let none = "has no condition, so the rules and targets behind it would never count";
        let when = raw.when.0.check(&path, none, self.errors);
        if raw.targets.is_empty() {
            self.wrong(
                &format!("{place}.targets"),
                "[]",
                "at least one of the model's targets",
            );
        }
        let found = raw.targets.iter().enumerate();
        let found = found
            .filter_map(|(n, name)| self.target(&format!("{place}.targets[{n}]"), name, targets))
            .collect();
        Rule { when, targets: found }
    }

    fn canary(&mut self, raw: &RawCanary, targets: &[Target]) -> Canary {
        let target = self.target("canary.target", &raw.target, targets).unwrap_or(0);
        if !(0.0..=100.0).contains(&raw.percent.0) {
            self.wrong("canary.percent", raw.percent.0, "a number from 0 to 100");
        }
        Canary {
            target,
            share: (raw.percent.0 * 100.0).round() as u32,
        }
    }

    fn target(&mut self, place: &str, name: &str, targets: &[Target]) -> Option<usize> {
        let found = targets.iter().position(|target| target.cluster == name);
        if found.is_none() {
            self.wrong(place, name, "the cluster of one of the model's targets");
        }
        found
    }

    fn price(&mut self, raw: &RawPrice) -> Price {
        let mut of = |place: &str, Number(price): Number, most: f64, each: &str, times: f64| {
            if !(0.0..=most).contains(&price) {
                self.wrong(place, price, &format!("a price for {each}, from 0 to {most:e}"));
            }
            (price * times).round() as u64
        };
        let mut millionths = |place: &str, price: Number| of(place, price, 1e9, "a million tokens", 1e6);
        let input = millionths("price.input", raw.input);
        let cached_input = raw
            .cached_input
            .map_or(input, |price| millionths("price.cached_input", price));
        let cache_write_input = raw
            .cache_write_input
            .map_or(input, |price| millionths("price.cache_write_input", price));
        let cache_write_1h_input = raw.cache_write_1h_input.map_or(cache_write_input, |price| {
            millionths("price.cache_write_1h_input", price)
        });
        let output = millionths("price.output", raw.output);
        Price {
            input,
            cached_input,
            cache_write_input,
            cache_write_1h_input,
            output,
            audio_second: of("price.audio_seconds", raw.audio_seconds, 1e6, "a second", 1e12),
            picture: of("price.pictures", raw.pictures, 1e6, "a picture", 1e12),
        }
    }

    fn whole(&mut self, place: &str, number: Number, range: RangeInclusive<u64>) -> u64 {
        let whole = number.whole(format!("{}.{place}", self.path), range);
        whole.unwrap_or_else(|error| {
            self.errors.push(error);
            0
        })
    }

    fn time(&mut self, place: &str, text: Option<&str>) -> Option<i64> {
        let time = text?.parse::<jiff::Timestamp>();
        if time.is_err() {
            self.wrong(
                place,
                text.unwrap_or_default(),
                "a time such as `2026-12-31T23:59:59Z` (RFC 3339)",
            );
        }
        time.ok().map(jiff::Timestamp::as_second)
    }

    fn wrong(&mut self, place: &str, found: impl core::fmt::Display, expected: &str) {
        self.errors.push(ConfigError::expected(
            format!("{}.{place}", self.path),
            found,
            expected,
        ));
    }
}

/// Names go into headers as they are, and into paths.
fn check_name(name: &str, path: &str, errors: &mut Vec<ConfigError>) {
    if !is_name(name) {
        errors.push(ConfigError::expected(
            path,
            name,
            "1 to 128 characters of `A-Z a-z 0-9 . _ - / : @ +`",
        ));
    }
}

//! Capacities as an operator writes them, and the check of each part.

use serde::Deserialize;

use super::{Capacities, Capacity, Org};
use crate::config::{ConfigError, Map, Number, Object};
use crate::glob::fits;

/// The most tiers in a list: each begins to be shed a tenth of the capacity before the one above it.
pub(super) const MAX_TIERS: usize = 5;
/// The highest capacity and the highest weight: a million times a million, times the entries of a record, fits 64 bits.
const MAX: f64 = 1e6;

/// The capacity of some models, as it stands in the configuration.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a capacity")]
pub struct RawCapacity {
    model: String,
    concurrent: Number,
    #[serde(default)]
    weights: Map<Number>,
    #[serde(default)]
    tiers: Vec<String>,
}

impl TryFrom<Vec<Object<RawCapacity>>> for Capacities {
    type Error = Vec<ConfigError>;

    /// Checks every row; all that is wrong is reported, with paths such as `[2].weights.acme` below the list.
    fn try_from(rows: Vec<Object<RawCapacity>>) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let mut checked: Vec<Capacity> = Vec::new();
        for (at, Object(raw)) in rows.into_iter().enumerate() {
            let path = format!("[{at}]");
            if let Some(before) = checked.iter().find(|before| fits(&before.model, &raw.model)) {
                let problem = format!("would never count: `{}` before it fits first", before.model);
                errors.push(ConfigError::new(format!("{path}.model"), problem));
            }
            checked.push(capacity(raw, &path, &mut errors));
        }
        if errors.is_empty() {
            Ok(Self(checked))
        } else {
            Err(errors)
        }
    }
}

fn capacity(raw: RawCapacity, path: &str, errors: &mut Vec<ConfigError>) -> Capacity {
    if raw.model.is_empty() {
        errors.push(ConfigError::expected(
            format!("{path}.model"),
            "",
            "a model or a pattern such as `llama-*`",
        ));
    }
    let concurrent = whole(raw.concurrent, &format!("{path}.concurrent"), errors);
    let weights = raw.weights.0.into_iter().map(|(org, weight)| {
        let place = format!("{path}.weights.{org}");
        if org.is_empty() {
            errors.push(ConfigError::expected(&place, "", "the name of an organization"));
        }
        (Org::named(&org), whole(weight, &place, errors))
    });
    let weights = weights.collect();
    tiers(&raw.tiers, path, errors);
    Capacity {
        model: raw.model,
        concurrent,
        weights,
        tiers: raw.tiers,
    }
}

fn tiers(tiers: &[String], path: &str, errors: &mut Vec<ConfigError>) {
    if tiers.len() > MAX_TIERS {
        errors.push(ConfigError::expected(
            format!("{path}.tiers"),
            format!("{} tiers", tiers.len()),
            &format!("at most {MAX_TIERS}"),
        ));
    }
    for (at, tier) in tiers.iter().enumerate() {
        if tier.is_empty() || tiers.iter().take(at).any(|before| before == tier) {
            let place = format!("{path}.tiers[{at}]");
            errors.push(ConfigError::expected(
                place,
                tier,
                "a tier that is not in the list yet",
            ));
        }
    }
}

fn whole(Number(number): Number, path: &str, errors: &mut Vec<ConfigError>) -> u64 {
    if number.fract() != 0.0 || !(1.0..=MAX).contains(&number) {
        errors.push(ConfigError::expected(
            path,
            number,
            "a whole number from 1 to 1000000",
        ));
    }
    number as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::from_json;

    fn parse(json: &str) -> Result<Capacities, Vec<String>> {
        let rows: Vec<Object<RawCapacity>> =
            from_json(json.as_bytes()).map_err(|error| vec![error.to_string()])?;
        Capacities::try_from(rows).map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_first_that_fits_counts() {
        let capacities = parse(
            r#"[{"model": "llama-70b", "concurrent": 64.0, "weights": {"acme": 4}, "tiers": ["enterprise", "pro"]},
                {"model": "llama-*", "concurrent": "8"}]"#,
        )
        .unwrap();
        let of = |model| capacities.of(model).map(|capacity| capacity.concurrent);
        assert_eq!(
            (of("llama-70b"), of("llama-8b"), of("gpt")),
            (Some(64), Some(8), None)
        );
        let first = capacities.of("llama-70b").unwrap();
        let weights = ["acme", "globex"].map(|org| first.weight(Org::named(org)));
        assert_eq!(weights, [4, 1]);
        let ranks = ["enterprise", "pro", "free", ""].map(|tier| first.rank(tier));
        assert_eq!(ranks, [0, 1, 2, 2]);
    }

    #[test]
    fn every_mistake_is_reported_with_its_place() {
        let errors = parse(
            r#"[{"model": "", "concurrent": 0, "weights": {"acme": 1.5, "": 1}, "tiers": ["a", "a", ""]},
                {"model": "llama-*", "concurrent": 1e7},
                {"model": "llama-7*", "concurrent": 1, "tiers": ["1", "2", "3", "4", "5", "6"]}]"#,
        )
        .unwrap_err();
        assert_eq!(
            errors,
            [
                "[0].model: found ``, expected a model or a pattern such as `llama-*`",
                "[0].concurrent: found `0`, expected a whole number from 1 to 1000000",
                "[0].weights.: found ``, expected the name of an organization",
                "[0].weights.acme: found `1.5`, expected a whole number from 1 to 1000000",
                "[0].tiers[1]: found `a`, expected a tier that is not in the list yet",
                "[0].tiers[2]: found ``, expected a tier that is not in the list yet",
                "[1].concurrent: found `10000000`, expected a whole number from 1 to 1000000",
                "[2].model: would never count: `llama-*` before it fits first",
                "[2].tiers: found `6 tiers`, expected at most 5",
            ]
        );
        assert!(parse(r#"[{"model": "m", "concurent": 1}]"#).unwrap_err()[0].contains("unknown field"));
    }
}

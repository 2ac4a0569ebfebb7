//! A bound as an operator writes it, and its check.

use serde::Deserialize;

use super::overrides::Bounds;
use super::{Bound, CAP, NAME, is_name};
use crate::config::{ConfigError, Map, Number, Object, Rate};
use crate::gcra::Quota;

/// Limits that one organization or key may have bounds of its own for.
const MAX_LIMITS: usize = 16;

/// A bound: a rate, with or without a burst, or how many in flight.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a bound")]
pub struct RawBound {
    #[cfg_attr(feature = "schema", schemars(with = "Option<Rate>"))]
    pub(crate) rate: Option<String>,
    pub(crate) burst: Option<Number>,
    pub(crate) max: Option<Number>,
}

/// A cap: a rate of requests.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a cap")]
pub struct RawCap {
    #[cfg_attr(feature = "schema", schemars(with = "Rate"))]
    rate: String,
    burst: Option<Number>,
}

impl RawBound {
    /// The rate, or what is wrong with it, with a path below the bound.
    pub(crate) fn rate(&self) -> Result<Bound, ConfigError> {
        let text = self.rate.as_deref().ok_or_else(|| missing("rate"))?;
        quota(text, self.burst).map(Bound::Rate)
    }

    /// How many in flight, or what is wrong with it.
    pub(crate) fn max(&self) -> Result<Bound, ConfigError> {
        let max = self.max.ok_or_else(|| missing("max"))?;
        let max = max.whole("max", 1..=u64::from(u32::MAX))?;
        Ok(Bound::Max(u32::try_from(max).unwrap_or(u32::MAX)))
    }

    /// The bound, by what is given of it.
    fn bound(&self) -> Result<Bound, ConfigError> {
        match (self.rate.is_some() || self.burst.is_some(), self.max.is_some()) {
            (true, false) => self.rate(),
            (false, true) => self.max(),
            (false, false) => Err(ConfigError::new(
                "",
                "changes nothing: expected `rate`, with or without `burst`, or `max`",
            )),
            (true, true) => Err(ConfigError::new(
                "max",
                "does not go with `rate` and `burst`: requests in flight have `max`, all else has those",
            )),
        }
    }
}

impl Bounds {
    /// Checks what `limits` and `cap` of an organization or a key say. `None` where they say nothing; all that is wrong has
    /// a path below the organization or key.
    pub(crate) fn check(
        Map(limits): &Map<Object<RawBound>>,
        cap: Option<&RawCap>,
    ) -> Result<Option<Self>, Vec<ConfigError>> {
        if limits.is_empty() && cap.is_none() {
            return Ok(None);
        }
        let mut errors = Vec::new();
        if limits.len() > MAX_LIMITS {
            let expected = format!("at most {MAX_LIMITS} limits");
            errors.push(ConfigError::expected("limits", limits.len(), &expected));
        }
        let mut bounds = Vec::with_capacity(limits.len() + 1);
        for (name, Object(raw)) in limits {
            let path = format!("limits.{name}");
            if name == CAP {
                let problem = "is no limit of a table: it is set by the member `cap` beside `limits`";
                errors.push(ConfigError::new(path, problem));
                continue;
            }
            if !is_name(name) {
                errors.push(ConfigError::expected(path.as_str(), name, NAME));
            }
            match raw.bound() {
                Ok(bound) => bounds.push((name.clone(), bound)),
                Err(error) => errors.push(error.under(&path)),
            }
        }
        match cap.map(|cap| quota(&cap.rate, cap.burst)) {
            Some(Ok(quota)) => bounds.push((CAP.to_owned(), Bound::Rate(quota))),
            Some(Err(error)) => errors.push(error.under(CAP)),
            None => {}
        }
        match errors.is_empty() {
            true => Ok(Some(Self::new(bounds))),
            false => Err(errors),
        }
    }
}

fn quota(text: &str, burst: Option<Number>) -> Result<Quota, ConfigError> {
    let rate: Rate = text
        .parse()
        .map_err(|expected| ConfigError::expected("rate", text, expected))?;
    let burst = match burst {
        Some(burst) => burst.whole("burst", 1..=Quota::MAX_BURST)?,
        None => rate.amount(),
    };
    Quota::new(rate, burst).ok_or_else(|| ConfigError::new("rate", "is beyond what can be counted"))
}

fn missing(member: &str) -> ConfigError {
    ConfigError::new(member, "is missing")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::from_json;

    fn check(limits: &str, cap: Option<&str>) -> Result<Option<Bounds>, Vec<String>> {
        let limits: Map<Object<RawBound>> =
            from_json(limits.as_bytes()).map_err(|error| vec![error.to_string()])?;
        let cap: Option<RawCap> = cap.map(|cap| from_json(cap.as_bytes()).unwrap());
        Bounds::check(&limits, cap.as_ref())
            .map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    fn quota(rate: &str, burst: u64) -> Bound {
        Bound::Rate(Quota::new(rate.parse().unwrap(), burst).unwrap())
    }

    #[test]
    fn a_rate_a_burst_a_number_and_a_cap() {
        let bounds = check(
            r#"{"a": {"rate": "5000/minute", "burst": 9000.0}, "b": {"rate": "60/minute"}, "c": {"max": 40}}"#,
            Some(r#"{"rate": "10/second"}"#),
        );
        let bounds = bounds.unwrap().unwrap();
        assert_eq!(bounds.of("a"), Some(quota("5000/minute", 9_000)));
        assert_eq!(bounds.of("b"), Some(quota("60/minute", 60)));
        assert_eq!(bounds.of("c"), Some(Bound::Max(40)));
        assert_eq!(bounds.of(CAP), Some(quota("10/second", 10)));
        assert_eq!(bounds.of("d"), None);
        assert_eq!(check("{}", None), Ok(None));
    }

    #[test]
    fn each_mistake_has_its_path() {
        let rate = "a rate such as `30/second`, `30/minute`, `30/hour` or `30/day`, from 1 to 1000000000000";
        let wrong = check(
            r#"{"A b": {"max": 1}, "a": {}, "b": {"rate": "1/day", "max": 1}, "c": {"burst": 7}, "cap": {"max": 1},
                "d": {"rate": "60/fortnight"}, "e": {"rate": "6/day", "burst": 0}, "f": {"max": 1.5}}"#,
            Some(r#"{"rate": "0/second"}"#),
        );
        assert_eq!(
            wrong.unwrap_err(),
            [
                "limits.A b: found `A b`, expected 1 to 40 characters of `a-z 0-9 -`".to_owned(),
                "limits.a: changes nothing: expected `rate`, with or without `burst`, or `max`".into(),
                "limits.b.max: does not go with `rate` and `burst`: requests in flight have `max`, all else has those".into(),
                "limits.c.rate: is missing".into(),
                "limits.cap: is no limit of a table: it is set by the member `cap` beside `limits`".into(),
                format!("limits.d.rate: found `60/fortnight`, expected {rate}"),
                "limits.e.burst: found `0`, expected a whole number from 1 to 1000000000000".into(),
                "limits.f.max: found `1.5`, expected a whole number from 1 to 4294967295".into(),
                format!("cap.rate: found `0/second`, expected {rate}"),
            ]
        );
        let many: Vec<_> = (0..17).map(|n| format!(r#""l{n}": {{"max": 1}}"#)).collect();
        assert_eq!(
            check(&format!("{{{}}}", many.join(",")), None),
            Err(vec!["limits: found `17`, expected at most 16 limits".into()])
        );
        assert_eq!(
            check(r#"{"a": {"rates": "1/day"}}"#, None),
            Err(vec![
                "a.rates: unknown field `rates`, expected one of `rate`, `burst`, `max`".into()
            ])
        );
    }
}

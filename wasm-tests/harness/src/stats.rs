//! Envoy's counters and gauges, as numbers.

use std::collections::HashMap;

/// How the filters' own metrics begin, in either form.
const WASM: &str = "wasmcustom.";
const NATIVE: &str = "dynamicmodulescustom.";

/// All of Envoy's counters and gauges at one moment, by their full names.
#[derive(Debug, Clone, Default)]
pub struct Stats(HashMap<String, u64>);

impl Stats {
    /// Reads what `/stats` says: `name: value` lines. Histograms and texts are left out.
    pub fn parse(text: &str) -> Self {
        let number = |line: &str| {
            let (name, value) = line.split_once(": ")?;
            // One name in all forms.
            let name = match name.strip_prefix(NATIVE) {
                Some(name) => format!("{WASM}{name}"),
                None => name.to_owned(),
            };
            Some((name, value.parse().ok()?))
        };
        Self(text.lines().filter_map(number).collect())
    }

    /// How often the native form has handed over what it counted.
    pub(crate) fn flushes(&self) -> Option<u64> {
        self.0.get("wasmcustom.tollgate_metric_flushes").copied()
    }

    /// The counter or gauge of this name; 0 where Envoy does not have it (it makes most at their first use).
    pub fn counter(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// The sum of all whose name begins with `prefix`.
    pub fn sum(&self, prefix: &str) -> u64 {
        self.0
            .iter()
            .filter(|(name, _)| name.starts_with(prefix))
            .map(|(_, value)| value)
            .sum()
    }

    /// Every name and value, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }
}

/// One line of `/stats/prometheus`.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Name of the metric.
    pub name: String,
    /// Its labels.
    pub labels: HashMap<String, String>,
    /// Its value.
    pub value: f64,
}

/// What Prometheus would scrape.
#[derive(Debug, Clone, Default)]
pub struct Prometheus(Vec<Sample>);

impl Prometheus {
    /// Reads the text format; lines that are no sample are left out.
    pub fn parse(text: &str) -> Self {
        Self(text.lines().filter_map(sample).collect())
    }

    /// The sum of the samples of metric `name` that have all of `labels`; `None` where there is none.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut found = self
            .0
            .iter()
            .filter(|sample| sample.name == name)
            .filter(|sample| {
                labels
                    .iter()
                    .all(|(key, value)| sample.labels.get(*key).is_some_and(|v| v == value))
            })
            .peekable();
        found.peek()?;
        Some(found.map(|sample| sample.value).sum())
    }

    /// Every sample.
    pub fn samples(&self) -> &[Sample] {
        &self.0
    }
}

fn sample(line: &str) -> Option<Sample> {
    if line.starts_with('#') {
        return None;
    }
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}')?),
        None => (series, ""),
    };
    // No value that Envoy writes here holds a quote or a comma inside of quotes.
    let label = |pair: &str| {
        let (key, value) = pair.split_once('=')?;
        Some((key.to_owned(), value.trim_matches('"').to_owned()))
    };
    Some(Sample {
        name: name.to_owned(),
        labels: labels.split(',').filter_map(label).collect(),
        value: value.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_and_histograms_are_not() {
        let stats = Stats::parse("a.b: 3\na.c: 4\nh: P0(nan,1)\nversion: \"x\"\n");
        assert_eq!(
            (stats.counter("a.b"), stats.sum("a."), stats.counter("h")),
            (3, 7, 0)
        );
    }

    #[test]
    fn samples_are_found_by_their_labels() {
        let text = "# TYPE m counter\nm{decision=\"deny\",reason=\"expired\"} 2\nm{decision=\"deny\",reason=\"x\"} 3\ng 1.5\n";
        let prometheus = Prometheus::parse(text);
        assert_eq!(prometheus.value("m", &[("reason", "expired")]), Some(2.0));
        assert_eq!(prometheus.value("m", &[("decision", "deny")]), Some(5.0));
        assert_eq!(prometheus.value("m", &[("decision", "allow")]), None);
        assert_eq!(prometheus.value("g", &[]), Some(1.5));
    }
}

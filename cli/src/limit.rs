//! `--limit` and `--no-limit`: what replaces bounds of limits for an organization or a key.

use clap::Args;
use serde_json::{Map, Value, json};

/// Bounds that are set, and those that are given up; what is not named stays.
#[derive(Args)]
pub(crate) struct Limits {
    /// A bound in place of a limit's own: `--limit key-rpm=5000/minute`, `--limit key-rpm=5000/minute,burst=9000`, or
    /// `--limit org-concurrent=max:40`.
    #[arg(long, value_name = "NAME=BOUND", value_parser = bound)]
    limit: Vec<NamedBound>,
    /// Back to a limit's own bound.
    #[arg(long, value_name = "NAME")]
    no_limit: Vec<String>,
}

/// A limit's name, and its bound as the API takes it.
#[derive(Debug, Clone, PartialEq)]
struct NamedBound {
    name: String,
    bound: Value,
}

const EXPECTED: &str = "expected `NAME=RATE`, `NAME=RATE,burst=N` or `NAME=max:N`";

/// All members, so that none is left of a bound that was there before.
fn bound(text: &str) -> Result<NamedBound, String> {
    let (name, bound) = text.split_once('=').ok_or(EXPECTED)?;
    let number = |text: &str| text.parse::<u64>().map_err(|_| EXPECTED.to_owned());
    let bound = match (bound.strip_prefix("max:"), bound.split_once(",burst=")) {
        (Some(max), _) => json!({"rate": null, "burst": null, "max": number(max)?}),
        (None, Some((rate, burst))) => json!({"rate": rate, "burst": number(burst)?, "max": null}),
        (None, None) => json!({"rate": bound, "burst": null, "max": null}),
    };
    Ok(NamedBound {
        name: name.to_owned(),
        bound,
    })
}

impl Limits {
    /// As a change; `None` where none is named.
    pub(crate) fn patch(&self) -> Option<Map<String, Value>> {
        let given = self
            .limit
            .iter()
            .map(|NamedBound { name, bound }| (name, bound.clone()));
        let none = self.no_limit.iter().map(|name| (name, Value::Null));
        let change: Map<_, _> = given
            .chain(none)
            .map(|(name, bound)| (name.clone(), bound))
            .collect();
        (!change.is_empty()).then_some(change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_as_they_are_written() {
        for (text, expected) in [
            (
                "a=5000/minute",
                json!({"rate": "5000/minute", "burst": null, "max": null}),
            ),
            (
                "a=5/day,burst=9",
                json!({"rate": "5/day", "burst": 9, "max": null}),
            ),
            ("a=max:40", json!({"rate": null, "burst": null, "max": 40})),
        ] {
            let given = bound(text);
            assert_eq!(
                given,
                Ok(NamedBound {
                    name: "a".to_owned(),
                    bound: expected
                })
            );
        }
        for wrong in ["a", "a=max:x", "a=5/day,burst=", "a=max:"] {
            assert_eq!(bound(wrong), Err(EXPECTED.to_owned()), "{wrong}");
        }
    }
}

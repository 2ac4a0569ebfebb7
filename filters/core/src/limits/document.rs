//! The table as an operator writes it, and the check of each row.

use core::fmt;

use serde::{Deserialize, Deserializer};

use super::amounts::Count;
use super::headers::policy;
use super::subject::{Dimension, Per};
use super::table::{Mode, OnError, Place, Row, Selector, Table, id};
use crate::bound::{Bound, CAP, NAME, RawBound, is_name};
use crate::config::{ConfigError, EMPTY, Number, Object, OneOrMore};
use crate::endpoint::Endpoint;

const MAX_ROWS: usize = 64;

/// A limit as it stands in the configuration.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a limit")]
pub struct RawLimit {
    name: String,
    #[serde(default)]
    per: Vec<Dimension>,
    #[serde(default)]
    when: Object<RawSelector>,
    #[serde(default)]
    count: Count,
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::config::Rate>"))]
    rate: Option<String>,
    burst: Option<Number>,
    max: Option<Number>,
    r#where: Option<String>,
    mode: Option<RawMode>,
    on_error: Option<OnError>,
    #[serde(default)]
    overrides: Vec<Object<RawOverride>>,
}

#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a condition")]
struct RawSelector {
    tier: NameList<String>,
    org: NameList<String>,
    project: NameList<String>,
    model: NameList<String>,
    endpoint: NameList<Endpoint>,
}

#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "an override")]
struct RawOverride {
    key: NameList<String>,
    tier: NameList<String>,
    org: NameList<String>,
    project: NameList<String>,
    model: NameList<String>,
    endpoint: NameList<Endpoint>,
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::config::Rate>"))]
    rate: Option<String>,
    burst: Option<Number>,
    max: Option<Number>,
}

#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RawMode {
    Enforce,
    Shadow,
}

/// One name, or a list of them.
#[derive(Debug)]
struct NameList<T>(Vec<T>, Given);

/// Whether a list is in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Given {
    Yes,
    No,
}

impl<T> NameList<T> {
    /// Whether it is there, and has nobody in it.
    fn is_empty(&self) -> bool {
        self.1 == Given::Yes && self.0.is_empty()
    }
}

impl<T> Default for NameList<T> {
    fn default() -> Self {
        Self(Vec::new(), Given::No)
    }
}

#[cfg(feature = "schema")]
impl<T: schemars::JsonSchema> schemars::JsonSchema for NameList<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        OneOrMore::<T>::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        OneOrMore::<T>::json_schema(generator)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for NameList<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        OneOrMore::deserialize(deserializer).map(|OneOrMore(names)| Self(names, Given::Yes))
    }
}

impl TryFrom<Vec<Object<RawLimit>>> for Table {
    type Error = Vec<ConfigError>;

    /// Checks every row; all that is wrong is reported, with paths that begin with the row, such as `[3].rate`.
    fn try_from(raw: Vec<Object<RawLimit>>) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Vec::new();
        if raw.len() > MAX_ROWS {
            errors.push(ConfigError::expected("", raw.len(), "at most 64 limits"));
        }
        let mut rows: Vec<Row> = Vec::new();
        for (at, Object(raw)) in raw.into_iter().enumerate() {
            let mut check = Check {
                path: format!("[{at}]"),
                errors: &mut errors,
            };
            if rows.iter().any(|row| row.name == raw.name) {
                check.wrong("name", &raw.name, "a name that no other limit has");
            }
            rows.extend(check.row(raw));
        }
        if errors.is_empty() {
            Ok(Self::new(rows))
        } else {
            Err(errors)
        }
    }
}

struct Check<'e> {
    path: String,
    errors: &'e mut Vec<ConfigError>,
}

impl Check<'_> {
    /// `None` where something is wrong, and reported.
    fn row(&mut self, raw: RawLimit) -> Option<Row> {
        self.name(&raw.name);
        let place = raw
            .r#where
            .as_deref()
            .map_or(Place::Local, |place| self.place(place));
        let per = self.per(&raw.per);
        let selector = raw.when.0;
        self.given_names(&[
            ("when.tier", selector.tier.is_empty()),
            ("when.org", selector.org.is_empty()),
            ("when.project", selector.project.is_empty()),
            ("when.model", selector.model.is_empty()),
            ("when.endpoint", selector.endpoint.is_empty()),
        ]);
        let when = Selector {
            key: Vec::new(),
            project: selector.project.0,
            org: selector.org.0,
            tier: selector.tier.0,
            model: selector.model.0,
            endpoint: selector.endpoint.0,
        };
        let numbers = RawBound {
            rate: raw.rate,
            burst: raw.burst,
            max: raw.max,
        };
        let bound = self.bound("", &numbers, raw.count);
        let overrides = raw.overrides.into_iter().enumerate();
        let overrides: Vec<_> = overrides
            .map(|(at, Object(one))| self.special(at, one, &numbers, raw.count, per))
            .collect();
        let overrides = overrides.into_iter().collect::<Option<_>>()?;
        let bound = bound?;
        Some(Row {
            id: id(&raw.name, raw.count),
            policy: policy(&raw.name, bound),
            name: raw.name,
            per,
            count: raw.count,
            bound: Some(bound),
            mode: match raw.mode {
                Some(RawMode::Shadow) => Mode::Shadow,
                Some(RawMode::Enforce) | None => Mode::Enforce,
            },
            on_error: raw.on_error.unwrap_or(OnError::Deny),
            place,
            when,
            overrides,
        })
    }

    fn name(&mut self, name: &str) {
        if name == CAP {
            let problem = "`cap` is what the directory caps organizations and keys by; choose another name";
            self.problem("name", problem);
        } else if !is_name(name) {
            self.wrong("name", name, NAME);
        }
    }

    fn place(&mut self, place: &str) -> Place {
        match place {
            "local" => {}
            "fleet" => return Place::Fleet,
            other => self.wrong("where", other, "`local` or `fleet`"),
        }
        Place::Local
    }

    fn per(&mut self, dimensions: &[Dimension]) -> Per {
        let mut per = Per::default();
        for (at, dimension) in dimensions.iter().enumerate() {
            match per.with(*dimension) {
                Some(more) => per = more,
                None => self.wrong(&format!("per[{at}]"), dimension.name(), "each name once"),
            }
        }
        per
    }

    fn special(
        &mut self,
        at: usize,
        raw: RawOverride,
        own: &RawBound,
        count: Count,
        per: Per,
    ) -> Option<(Selector, Bound)> {
        let place = format!("overrides[{at}]");
        for (name, empty) in [
            ("key", raw.key.is_empty()),
            ("tier", raw.tier.is_empty()),
            ("org", raw.org.is_empty()),
            ("project", raw.project.is_empty()),
            ("model", raw.model.is_empty()),
            ("endpoint", raw.endpoint.is_empty()),
        ] {
            self.given_names(&[(&format!("{place}.{name}"), empty)]);
        }
        let selector = Selector {
            key: raw.key.0,
            project: raw.project.0,
            org: raw.org.0,
            tier: raw.tier.0,
            model: raw.model.0,
            endpoint: raw.endpoint.0,
        };
        if selector.asks().next().is_none() {
            self.problem(
                &place,
                "needs at least one of key, project, org, tier, model, endpoint",
            );
        }
        // Requests that share a state must agree on its size.
        for dimension in selector.asks().filter(|dimension| !per.fixes(*dimension)) {
            let name = dimension.name();
            self.problem(
                &format!("{place}.{name}"),
                &format!(
                    "is about one {name} of several that are counted together: add `{name}` to `per`, or name it in `when`"
                ),
            );
        }
        if raw.rate.is_none() && raw.burst.is_none() && raw.max.is_none() {
            self.problem(&place, "changes nothing: expected rate, burst or max");
        }
        // The burst of another rate is its own amount again.
        let burst = if raw.rate.is_some() { None } else { own.burst };
        let numbers = RawBound {
            rate: raw.rate.or_else(|| own.rate.clone()),
            burst: raw.burst.or(burst),
            max: raw.max.or(own.max),
        };
        Some((selector, self.bound(&format!("{place}."), &numbers, count)?))
    }

    /// A list that was emptied is no wish to have all.
    fn given_names(&mut self, lists: &[(&str, bool)]) {
        for (place, _) in lists.iter().filter(|(_, empty)| *empty) {
            self.problem(place, EMPTY);
        }
    }

    fn bound(&mut self, place: &str, numbers: &RawBound, count: Count) -> Option<Bound> {
        let before = self.errors.len();
        let concurrent = count == Count::Concurrent;
        for (name, given) in [
            ("rate", numbers.rate.is_some() && concurrent),
            ("burst", numbers.burst.is_some() && concurrent),
            ("max", numbers.max.is_some() && !concurrent),
        ] {
            if given {
                let problem = format!(
                    "does not go with `count: {}`: requests in flight have `max`, all else has `rate` and `burst`",
                    count.name()
                );
                self.problem(&format!("{place}{name}"), &problem);
            }
        }
        let bound = match concurrent {
            true => numbers.max(),
            false => numbers.rate(),
        };
        match bound {
            Ok(bound) => (self.errors.len() == before).then_some(bound),
            Err(ConfigError { path, problem }) => {
                self.problem(&format!("{place}{path}"), &problem);
                None
            }
        }
    }

    fn wrong(&mut self, place: &str, found: impl fmt::Display, expected: &str) {
        self.errors.push(ConfigError::expected(
            format!("{}.{place}", self.path),
            found,
            expected,
        ));
    }

    fn problem(&mut self, place: &str, problem: &str) {
        self.errors
            .push(ConfigError::new(format!("{}.{place}", self.path), problem));
    }
}

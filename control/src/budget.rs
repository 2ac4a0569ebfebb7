//! A budget: so much of a unit, for whom, in which windows. What is spent of it is in [`spending`](crate::spending).

use serde::{Deserialize, Serialize};
use tollgate_core::config::Rate;
use utoipa::ToSchema;

use crate::calendar::{self, Period, Span};
use crate::check;
use crate::documents::{Document, Kind, Metadata, Timed};
use crate::problem::Problem;
use crate::time;

/// The largest amount: 2^53, which every reader of JSON keeps exactly.
pub(crate) const MOST: u64 = tollgate_budgets::MOST;
/// Organizations that share a pool.
const POOLED: usize = 1_000;
/// Thresholds of a budget.
const THRESHOLDS: usize = 8;

/// Whose spending counts: one of these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Scope {
    /// An organization's.
    Org(String),
    /// A project's, as `org/project`.
    Project(String),
    /// A key's, and that of all keys that it was rotated to: by the id of the first of them.
    Key(String),
    /// That of all organizations that carry a label. Labels of projects do not count: customers set them themselves.
    Label(Label),
    /// That of several organizations together.
    Pool(Vec<String>),
}

/// A label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Label {
    /// Its name.
    pub(crate) name: String,
    /// Its value.
    pub(crate) value: String,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    /// Requests.
    Requests,
    /// Tokens, read and written.
    Tokens,
    /// Cost, in millionths of the currency.
    CostMicros,
}

/// When a budget is full again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Window {
    /// At each full hour.
    Hour,
    /// At midnight.
    Day,
    /// On Monday, at midnight.
    Week,
    /// On the first, at midnight.
    Month,
    /// Never: the amount is all that there is.
    Once,
}

/// What becomes of requests near the end. At the end they are refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Policy {
    /// Nothing, until the end.
    #[default]
    Refuse,
    /// Fewer of them pass.
    Slow(Slow),
    /// Another model serves them.
    Downgrade(Downgrade),
}

/// Fewer requests pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Slow {
    /// Once so many percent are spent.
    pub(crate) from_percent: u8,
    /// So many requests, such as `10/minute`.
    pub(crate) rate: String,
}

/// Another model serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Downgrade {
    /// Once so many percent are spent.
    pub(crate) from_percent: u8,
    /// Which one, by its name in the catalogue.
    pub(crate) model: String,
}

/// The members of a budget that a client sets, and may change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct BudgetSpec {
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// How much of the unit may be spent in each window; at most 2^53.
    #[schema(minimum = 0, maximum = 9007199254740992_u64)]
    pub(crate) amount: u64,
    /// Percent of the amount at which somebody is told, each once a window.
    #[serde(default)]
    pub(crate) thresholds: Vec<u8>,
    /// What becomes of requests near the end.
    #[serde(default)]
    pub(crate) policy: Policy,
    /// After how long without a word the slice of an Envoy is given to others, such as `10m`. What it spent of it after all
    /// then comes on top of the amount. If absent, it is kept for that Envoy until the window ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lost_after: Option<String>,
    /// When a budget whose window is `once` ends (RFC 3339); never if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ends_at: Option<String>,
}

/// The members that a client sets when it makes a budget, and that can't be changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct BudgetTerms {
    /// Whose spending counts.
    pub(crate) scope: Scope,
    /// What is counted.
    pub(crate) unit: Unit,
    /// When it is full again.
    pub(crate) window: Window,
    /// By whose clocks, such as `Europe/Berlin`; `UTC` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) time_zone: Option<String>,
    /// When a budget whose window is `once` begins (RFC 3339); at once if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) begins_at: Option<String>,
}

/// More for a while. It ends by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Raise {
    /// How much more.
    pub(crate) by: u64,
    /// When it ends.
    pub(crate) until: String,
    /// Why; empty where the caller is confined, and the platform raised it.
    pub(crate) reason: String,
    /// Which token raised it.
    pub(crate) raised_by: String,
}

/// The highest threshold that was reached, and in which window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Reached {
    /// When the window began.
    pub(crate) window: String,
    /// Percent of the amount.
    pub(crate) percent: u8,
}

/// What an operator struck out of a budget last: what holders had said, and is counted no longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Struck {
    /// Whose: `holder:` or `token:`, and which.
    pub(crate) whose: String,
    /// When.
    pub(crate) at: String,
    /// How many slices that was, in all windows.
    pub(crate) slices: u64,
    /// What they had said to be spent.
    pub(crate) spent: u64,
    /// What they had and had not said to be spent.
    pub(crate) escrowed: u64,
}

/// A budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Budget {
    /// Its name; `ORG:NAME` where the name is its organization's.
    pub(crate) id: String,
    /// The organization that its scope is in; absent where it is in none, or in several.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) org: String,
    /// What can't be changed.
    #[serde(flatten)]
    pub(crate) terms: BudgetTerms,
    /// What a client sets.
    #[serde(flatten)]
    pub(crate) spec: BudgetSpec,
    /// More for a while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) raise: Option<Raise>,
    /// The highest threshold that was reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reached: Option<Reached>,
    /// What was struck out last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) struck: Option<Struck>,
    /// Whether a token that is confined to organizations made it, so that one may change it.
    #[serde(default)]
    pub(crate) by_confined: bool,
    /// What the server keeps beside it.
    #[serde(flatten)]
    pub(crate) metadata: Metadata,
}

impl Document for Budget {
    const KIND: Kind = Kind::Budget;

    fn id(&self) -> String {
        self.id.clone()
    }

    fn org(&self) -> &str {
        &self.org
    }

    /// The few with a raise are found without the many that have none.
    fn in_force(&self) -> bool {
        self.raise.is_some()
    }
}

impl Timed for Budget {
    /// When its raise ends.
    fn end(&self) -> Option<&str> {
        self.raise.as_ref().map(|raise| raise.until.as_str())
    }
}

impl Budget {
    /// How much may be spent in a window, a raise included.
    pub(crate) fn amount(&self) -> u64 {
        let more = self.raise.as_ref().map_or(0, |raise| raise.by);
        self.spec.amount.saturating_add(more).min(MOST)
    }

    /// The window that an instant is in; `None` where a budget that is for once has not begun, or has ended.
    pub(crate) fn window_at(&self, at: i64) -> Result<Option<Span>, Problem> {
        let terms = &self.terms;
        let period = match terms.window {
            Window::Hour => Period::Hour,
            Window::Day => Period::Day,
            Window::Week => Period::Week,
            Window::Month => Period::Month,
            Window::Once => {
                let span = self.once()?;
                return Ok(Some(span).filter(|span| span.from <= at && at < span.until));
            }
        };
        let name = terms.time_zone.as_deref().unwrap_or("UTC");
        let place = calendar::place(name).ok_or_else(|| no_place(name))?;
        let window = calendar::window(period, &place, at);
        let window =
            window.ok_or_else(|| Problem::unavailable("the clock is beyond the years that there are"))?;
        Ok(Some(window))
    }

    /// When it was made; milliseconds.
    pub(crate) fn made_at(&self) -> i64 {
        time::parse("created_at", &self.metadata.created_at).unwrap_or(0)
    }

    /// From when to when one that is for once is.
    fn once(&self) -> Result<Span, Problem> {
        let begins = self.terms.begins_at.as_deref();
        let from = time::parse("begins_at", begins.unwrap_or(&self.metadata.created_at))?;
        let ends = self.spec.ends_at.as_deref();
        let until = ends.map_or(Ok(i64::MAX), |ends| time::parse("ends_at", ends))?;
        Ok(Span { from, until })
    }

    /// Milliseconds after which the slice of an Envoy that says nothing is given to others.
    pub(crate) fn lost_after(&self) -> Option<i64> {
        let span = self.spec.lost_after.as_deref();
        span.and_then(|span| time::parse_span("lost_after", span).ok())
    }

    /// The highest threshold that so much spent has reached; of an amount of zero there are no parts.
    pub(crate) fn threshold(&self, spent: u64) -> Option<u8> {
        let amount = Some(u128::from(self.amount())).filter(|amount| *amount > 0)?;
        let reached = |percent: &&u8| u128::from(spent) * 100 >= amount * u128::from(**percent);
        self.spec.thresholds.iter().filter(reached).max().copied()
    }

    /// Whether all of it can be so; what it is on is looked up elsewhere.
    pub(crate) fn check(&self) -> Result<(), Problem> {
        self.check_id()?;
        let (terms, spec) = (&self.terms, &self.spec);
        check::name(spec.name.as_deref())?;
        if spec.amount > MOST {
            let found = spec.amount.to_string();
            return Err(Problem::invalid(
                "amount",
                &found,
                "a number up to 9007199254740992 (2^53)",
            ));
        }
        let is_rising = spec.thresholds.is_sorted_by(|one, next| one < next);
        let fits = |percent: &u8| (1..=100).contains(percent);
        if spec.thresholds.len() > THRESHOLDS || !is_rising || !spec.thresholds.iter().all(fits) {
            return Err(Problem::field(
                "thresholds",
                format!(
                    "expected at most {THRESHOLDS} numbers from 1 to 100, each larger than the one before"
                ),
            ));
        }
        self.check_policy()?;
        if let Some(span) = &spec.lost_after
            && time::parse_span("lost_after", span)? < 60_000
        {
            return Err(Problem::invalid(
                "lost_after",
                span,
                "a minute or more: Envoys may be cut off for a moment",
            ));
        }
        let name = terms.time_zone.as_deref();
        if let Some(name) = name.filter(|name| calendar::place(name).is_none()) {
            return Err(no_place(name));
        }
        time::ensure_rfc3339("begins_at", terms.begins_at.as_deref())?;
        time::ensure_rfc3339("ends_at", spec.ends_at.as_deref())?;
        let for_once = [("begins_at", &terms.begins_at), ("ends_at", &spec.ends_at)];
        if terms.window != Window::Once
            && let Some((field, _)) = for_once.iter().find(|(_, at)| at.is_some())
        {
            let problem = "only a budget whose `window` is `once` begins and ends";
            return Err(Problem::field(field, problem));
        }
        if terms.window == Window::Once && self.once().is_ok_and(|span| span.from >= span.until) {
            return Err(Problem::field("ends_at", "it would end before it begins"));
        }
        if terms.window == Window::Once && name.is_some() {
            return Err(Problem::field(
                "time_zone",
                "a budget for once has none: its times say their own",
            ));
        }
        Ok(())
    }

    /// A name is the platform's, or one of its organization's own, so that two customers have none in common.
    fn check_id(&self) -> Result<(), Problem> {
        let id = self.id.as_str();
        check::no_secret("id", id)?;
        let name = match id.split_once(':') {
            Some((org, name)) if !org.is_empty() && org == self.org => name,
            Some(_) => {
                let expected = "before `:` the organization that its scope is in, or no `:`";
                return Err(Problem::invalid("id", id, expected));
            }
            None => id,
        };
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        // `exchange` is an endpoint's.
        if name.is_empty()
            || name.len() > 64
            || !name.bytes().all(fits)
            || matches!(name, "." | ".." | "exchange")
        {
            let expected = "1 to 64 characters of `A-Z a-z 0-9 . _ -`, perhaps behind `ORG:`, and not `.`, `..` or `exchange`";
            return Err(Problem::invalid("id", id, expected));
        }
        Ok(())
    }

    fn check_policy(&self) -> Result<(), Problem> {
        let from = match &self.spec.policy {
            Policy::Refuse => return Ok(()),
            Policy::Slow(Slow { from_percent, rate }) => {
                rate.parse::<Rate>()
                    .map_err(|_| Problem::invalid("policy.slow.rate", rate, "a rate such as `10/minute`"))?;
                from_percent
            }
            Policy::Downgrade(Downgrade { from_percent, model }) => {
                check::no_secret("policy.downgrade.model", model)?;
                if model.is_empty() || model.len() > 128 || model.contains(crate::text::is_unprintable) {
                    let expected = "the name of a model in the catalogue, of at most 128 bytes";
                    return Err(Problem::invalid("policy.downgrade.model", model, expected));
                }
                from_percent
            }
        };
        if !(1..=99).contains(from) {
            let expected = "percent from 1 to 99";
            return Err(Problem::invalid(
                "policy.from_percent",
                &from.to_string(),
                expected,
            ));
        }
        Ok(())
    }
}

impl Scope {
    /// Whether what it names is written as such names are; whether it is there is looked up elsewhere.
    pub(crate) fn check(&self) -> Result<(), Problem> {
        match self {
            Self::Org(_) | Self::Project(_) | Self::Key(_) => Ok(()),
            Self::Label(label) => {
                for (field, text) in [
                    ("scope.label.name", &label.name),
                    ("scope.label.value", &label.value),
                ] {
                    check::no_secret(field, text)?;
                    if text.is_empty() || text.len() > 128 || text.contains(crate::text::is_unprintable) {
                        return Err(Problem::invalid(field, text, "text of 1 to 128 bytes"));
                    }
                }
                Ok(())
            }
            Self::Pool(orgs) => {
                let is_rising = orgs.is_sorted_by(|one, next| one < next);
                if !(2..=POOLED).contains(&orgs.len()) || !is_rising {
                    let problem = format!(
                        "expected 2 to {POOLED} organizations, in the order of their names, each once"
                    );
                    return Err(Problem::field("scope.pool", problem));
                }
                Ok(())
            }
        }
    }
}

fn no_place(name: &str) -> Problem {
    Problem::invalid(
        "time_zone",
        name,
        "a name of IANA's, such as `Europe/Berlin` or `UTC`",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn budget(change: Value) -> Budget {
        let mut whole = json!({
            "id": "b", "scope": {"org": "acme"}, "org": "acme", "unit": "tokens", "window": "month", "amount": 1000,
            "created_at": "2026-11-30T12:00:00Z", "created_by": "local",
        });
        crate::documents::merge(&mut whole, change);
        serde_json::from_value(whole).unwrap()
    }

    #[test]
    fn what_cannot_be_so_is_refused_by_its_name() {
        for (change, field) in [
            (json!({"id": ""}), "id"),
            (json!({"id": "a/b"}), "id"),
            (json!({"id": ":b"}), "id"),
            (json!({"id": "acme:"}), "id"),
            (json!({"id": "acme:a:b"}), "id"),
            (json!({"id": "globex:b"}), "id"),
            (json!({"id": ":b", "org": ""}), "id"),
            (json!({"amount": MOST + 1}), "amount"),
            (json!({"thresholds": [0]}), "thresholds"),
            (json!({"thresholds": [101]}), "thresholds"),
            (json!({"thresholds": [80, 50]}), "thresholds"),
            (json!({"thresholds": [1, 2, 3, 4, 5, 6, 7, 8, 9]}), "thresholds"),
            (json!({"time_zone": "Mars/Olympus"}), "time_zone"),
            (json!({"lost_after": "59s"}), "lost_after"),
            (json!({"lost_after": "soon"}), "lost_after"),
            (json!({"ends_at": "2026-12-31T00:00:00Z"}), "ends_at"),
            (
                json!({"window": "once", "ends_at": "2026-01-01T00:00:00Z"}),
                "ends_at",
            ),
            (json!({"window": "once", "begins_at": "tomorrow"}), "begins_at"),
            (json!({"window": "once", "time_zone": "UTC"}), "time_zone"),
            (
                json!({"policy": {"slow": {"from_percent": 90, "rate": "fast"}}}),
                "policy.slow.rate",
            ),
            (
                json!({"policy": {"slow": {"from_percent": 0, "rate": "1/minute"}}}),
                "policy.from_percent",
            ),
            (
                json!({"policy": {"downgrade": {"from_percent": 90, "model": ""}}}),
                "policy.downgrade.model",
            ),
        ] {
            let problem = budget(change.clone()).check().unwrap_err();
            assert_eq!(problem.errors[0].field, field, "{change}");
        }
        for right in [
            json!({}),
            json!({"id": "acme:b"}),
            json!({"amount": MOST, "thresholds": [50, 80, 100], "time_zone": "Europe/Berlin", "lost_after": "10m"}),
            json!({"window": "once", "begins_at": "2026-12-01T00:00:00Z", "ends_at": "2026-12-31T00:00:00Z"}),
            json!({"policy": {"slow": {"from_percent": 90, "rate": "10/minute"}}}),
        ] {
            assert!(budget(right.clone()).check().is_ok(), "{right}");
        }
    }

    #[test]
    fn one_for_once_has_one_window() {
        let at = |text| time::parse("at", text).unwrap();
        let once = budget(json!({"window": "once", "ends_at": "2026-12-31T00:00:00Z"}));
        let span = Span {
            from: at("2026-11-30T12:00:00Z"),
            until: at("2026-12-31T00:00:00Z"),
        };
        for (now, expected) in [
            (span.from - 1, None),
            (span.from, Some(span)),
            (span.until - 1, Some(span)),
            (span.until, None),
        ] {
            assert_eq!(once.window_at(now).unwrap(), expected);
        }
    }

    #[test]
    fn a_threshold_is_reached_at_its_unit() {
        let nothing = budget(json!({"amount": 0, "thresholds": [50, 100]}));
        assert_eq!((nothing.threshold(0), nothing.threshold(1)), (None, None));
        let budget = budget(json!({"amount": 1001, "thresholds": [50, 100]}));
        for (spent, expected) in [(500, None), (501, Some(50)), (1000, Some(50)), (1001, Some(100))] {
            assert_eq!(budget.threshold(spent), expected, "{spent}");
        }
    }
}

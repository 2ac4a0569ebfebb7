//! Whether it may, now.

use tollgate_core::budget::Unit;
use tollgate_core::limits::{Amounts, Bound, By, Cover, Mode, Place, Row};
use tollgate_core::trace::{LimitOutcome, Note};

use super::{Explainer, LIMITS};

impl Explainer<'_> {
    pub(super) fn reserved(&mut self, amounts: &Amounts, cap: Option<u64>) {
        let cost = match amounts.cost {
            0 => String::new(),
            cost => format!(", cost {cost} millionths"),
        };
        let (by, at) = self.cap(cap);
        let Amounts { input, output, .. } = amounts;
        let rule = format!("{input} tokens of input, {output} of output{cost}; {by}");
        self.add(LIMITS, "reserves", &rule, at);
    }

    /// How much is left of it the control plane knows, and no file.
    pub(super) fn budget(&mut self, name: &str, unit: Unit, amount: u64) {
        let unit = unit.name();
        let rule = format!(
            "budget `{name}`: takes {amount} {unit} of what is left; see tollgate budget show {name}"
        );
        self.add(LIMITS, "covers", &rule, None);
    }

    pub(super) fn capacity(&mut self, model: &str, row: usize, room: bool) {
        let at = self.limits(&format!("capacity[{row}]"));
        let decision = if room { "has room" } else { "is full" };
        self.add(LIMITS, decision, &format!("capacity of `{model}`"), Some(at));
    }

    /// What says how long an answer may be.
    fn cap(&self, cap: Option<u64>) -> (String, Option<String>) {
        let model = self.model.map(|model| model.name.as_str()).unwrap_or_default();
        let most = self.model.and_then(|model| model.max_output);
        let path = format!("catalogue.models.{model}.max_output");
        match cap {
            None => (
                "nobody caps the answer, so as many as are expected".to_owned(),
                None,
            ),
            Some(0) => ("an endpoint without output".to_owned(), None),
            Some(cap) if self.request.max_tokens.is_none() && most == Some(cap) => {
                (format!("`max_output` {cap}"), Some(self.router(&path)))
            }
            Some(cap) => (format!("the request's cap, {cap}"), None),
        }
    }

    pub(super) fn row(&mut self, at: usize, cover: &Cover) {
        let Some(row) = self.gateway.limiter.limits.row(at) else {
            return;
        };
        let name = &row.name;
        match *cover {
            Cover::Spares(dimension) => {
                let member = dimension.name();
                let at = self.limits(&format!("limits[{at}].when.{member}"));
                let rule = format!("`{name}`: its `when` has another {member}");
                self.add(LIMITS, "does not cover", &rule, Some(at));
            }
            Cover::Uncapped => {}
            Cover::Takes {
                by,
                bound,
                amount,
                never,
            } => {
                let path = match (by, bound) {
                    // It stands in no file of limits.
                    (By::Directory, _) => None,
                    (By::Override(special), _) => Some(format!("limits[{at}].overrides[{special}]")),
                    (By::Row, Bound::Max(_)) => Some(format!("limits[{at}].max")),
                    (By::Row, Bound::Rate(_)) => Some(format!("limits[{at}].rate")),
                };
                let place = path.map(|path| self.limits(&path));
                let mut rule = format!("`{name}`: takes {amount} of {}", allows(row, bound));
                if let Some((used, left)) = self.stands(name).filter(|_| !self.request.used.is_empty()) {
                    let with = if self.simulation.reply.is_none() {
                        ", with it"
                    } else {
                        ""
                    };
                    rule += &format!("; {used} used, {left} left{with}");
                }
                if row.place == Place::Fleet {
                    rule += ", of which this Envoy would have all";
                }
                let decision = self.outcome(row, never);
                if by == By::Directory {
                    rule += ", as the directory has it";
                }
                self.add(LIMITS, decision, &rule, place);
            }
        }
    }

    /// How a limit stands, once the request was judged.
    fn stands(&self, name: &str) -> Option<(u64, u64)> {
        self.simulation.notes.iter().find_map(|note| match note {
            Note::Limit {
                name: of,
                used,
                remaining,
                ..
            } if of == name => Some((*used, *remaining)),
            _ => None,
        })
    }

    fn outcome(&self, row: &Row, never: bool) -> &'static str {
        let outcome = self.simulation.notes.iter().find_map(|note| match note {
            Note::Limit { name, outcome, .. } if *name == row.name => Some(*outcome),
            _ => None,
        });
        match (outcome, row.mode) {
            (_, Mode::Enforce) if never => "can never pass",
            (_, Mode::Shadow) if never => "would never pass",
            (Some(LimitOutcome::Refuses), _) => "refuses",
            (Some(LimitOutcome::WouldRefuse), _) => "would refuse",
            (Some(LimitOutcome::Unchecked), _) => "not checked",
            (Some(LimitOutcome::Passes) | None, Mode::Shadow) => "passes (shadow)",
            (Some(LimitOutcome::Passes) | None, Mode::Enforce) => "passes",
        }
    }
}

/// How much a row allows, as operators write it.
fn allows(row: &Row, bound: Bound) -> String {
    let counted = row.count.name();
    match bound {
        Bound::Max(max) => format!("{max} {counted}"),
        Bound::Rate(quota) => {
            let unit = match quota.period() / 1_000_000_000 {
                1 => "second",
                60 => "minute",
                3_600 => "hour",
                _ => "day",
            };
            let (amount, burst) = (quota.amount(), quota.burst());
            match amount == burst {
                true => format!("{amount}/{unit} {counted}"),
                false => format!("{amount}/{unit} {counted}, {burst} at once"),
            }
        }
    }
}

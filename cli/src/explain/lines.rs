//! Decisions as lines, each with its step, rule and place: for people, or as JSON.

use core::fmt::{self, Display, Formatter};

use serde_json::{Value, json};

/// All that was decided.
pub(super) struct Explanation {
    pub(super) lines: Vec<Line>,
    /// The names of the answer, and what else programs read.
    pub(super) summary: Value,
    /// What only Envoy knows.
    pub(super) remarks: Vec<&'static str>,
}

/// One decision.
pub(super) struct Line {
    /// Whose it is.
    pub(super) step: &'static str,
    pub(super) decision: String,
    /// The rule that made it.
    pub(super) rule: String,
    /// Where that stands: `file:line:column`.
    pub(super) at: Option<String>,
}

impl Explanation {
    /// As programs read it.
    pub(super) fn json(&self) -> Value {
        let mut summary = self.summary.clone();
        let line = |line: &Line| {
            let Line {
                step,
                decision,
                rule,
                at,
            } = line;
            json!({"step": step, "decision": decision, "rule": rule, "at": at})
        };
        if let Some(members) = summary.as_object_mut() {
            members.insert("steps".to_owned(), self.lines.iter().map(line).collect());
        }
        summary
    }
}

impl Display for Explanation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let widest = |of: fn(&Line) -> &str| {
            let widths = self.lines.iter().map(|line| of(line).chars().count());
            widths.max().unwrap_or(0)
        };
        let (step, decision, rule) = (
            widest(|l| l.step),
            widest(|l| &l.decision),
            widest(|l| &l.rule).min(72),
        );
        for line in &self.lines {
            let at = line.at.as_deref().unwrap_or_default();
            let text = format!(
                "{:step$}  {:decision$}  {:rule$}  {at}",
                line.step, line.decision, line.rule
            );
            writeln!(f, "{}", text.trim_end())?;
        }
        self.remarks.iter().try_for_each(|remark| writeln!(f, "{remark}"))
    }
}

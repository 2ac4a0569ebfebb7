//! What comes of it.

use serde_json::{Value, json};
use tollgate_core::key::masked;
use tollgate_core::trace::{LimitOutcome, Note};

use super::{Explainer, text};
use crate::explain::lines::Explanation;

impl Explainer<'_> {
    pub(super) fn end(mut self) -> Explanation {
        let reply = self.simulation.reply.as_ref();
        let error = reply
            .filter(|reply| reply.status != 200)
            .map(|reply| error(&reply.body));
        // Who asks has another secret than the one that was presented here.
        let presented = masked(self.directory.secret(&self.request.key).as_bytes());
        let error = error.map(|error| ErrorBody {
            message: error.message.replace(&presented, "***"),
            ..error
        });
        let model = self.model.map(|model| model.name.clone());
        let chances = self.chances();
        let (decision, rule) = match (reply, &error) {
            (Some(reply), Some(error)) => (format!("{} {}", reply.status, error.code), error.message.clone()),
            (Some(reply), None) => (
                reply.status.to_string(),
                "answered by the gateway itself".to_owned(),
            ),
            (None, _) => {
                let clusters: Vec<&str> = chances.iter().map(|(cluster, ..)| cluster.as_str()).collect();
                let model = model.as_deref().unwrap_or_default();
                (
                    "passes".to_owned(),
                    format!("`{model}` at {}", clusters.join(" or ")),
                )
            }
        };
        let decided = self.decided.take();
        self.add("result", &decision, &rule, decided);
        let mut remarks = Vec::new();
        if self
            .simulation
            .notes
            .iter()
            .any(|note| matches!(note, Note::Rows(_)))
            && self.request.used.is_empty()
        {
            remarks.push("What is in use of limits and capacities, and which targets are broken, is known in Envoy alone; this is as if nothing were. `--used LIMIT=N` says how much of a limit is.");
        }
        let summary = self.summary(
            reply.map(|reply| (reply.status, reply.details.as_str())),
            error,
            &chances,
        );
        Explanation {
            lines: self.lines,
            summary,
            remarks,
        }
    }

    fn summary(
        &self,
        reply: Option<(u16, &str)>,
        error: Option<ErrorBody>,
        chances: &[(String, u64, u64)],
    ) -> Value {
        let decision = match (reply, &error) {
            (None, _) => "passes",
            (_, Some(_)) => "refused",
            _ => "answered",
        };
        let of_limits = |wanted: LimitOutcome| {
            let names = self.simulation.notes.iter().filter_map(|note| match note {
                Note::Limit { name, outcome, .. } if *outcome == wanted => Some(name.clone()),
                _ => None,
            });
            names.collect::<Vec<_>>()
        };
        let limit = self.simulation.notes.iter().find_map(|note| match note {
            Note::Refused { limit: Some(row), .. } => self.gateway.limiter.limits.row(*row),
            _ => None,
        });
        let reserved = self.simulation.notes.iter().find_map(|note| match note {
            Note::Reserved { amounts, .. } => {
                Some(json!({"input": amounts.input, "output": amounts.output, "cost_micros": amounts.cost}))
            }
            _ => None,
        });
        let targets = chances.iter();
        let targets: Vec<Value> = targets
            .map(|(cluster, part, of)| json!({"cluster": cluster, "share": *part as f64 / *of as f64}))
            .collect();
        json!({
            "decision": decision,
            "status": reply.map(|(status, _)| status),
            "reason": reply.map(|(_, details)| details.strip_prefix("tollgate_").unwrap_or(details)),
            "error": error.map(|error| json!({"type": error.kind, "code": error.code, "message": error.message})),
            "limit": limit.map(|row| row.name.as_str()),
            "would_limit": of_limits(LimitOutcome::WouldRefuse),
            "model": self.model.map(|model| model.name.as_str()),
            "targets": targets,
            "reserved": reserved,
        })
    }

    /// Each target that may be asked first, in so many of so many; none where it is refused.
    fn chances(&self) -> Vec<(String, u64, u64)> {
        let pool = self.simulation.notes.iter().rev().find_map(|note| match note {
            Note::Targets(pool) => Some(pool),
            _ => None,
        });
        let (Some(pool), Some(model), None) = (pool, self.model, &self.simulation.reply) else {
            return Vec::new();
        };
        let chances = model.chances(pool).into_iter();
        chances
            .filter_map(|(target, part, of)| Some((model.targets.get(target)?.cluster.clone(), part, of)))
            .collect()
    }
}

/// An error as its client reads it, of either dialect.
struct ErrorBody {
    kind: String,
    code: String,
    message: String,
}

fn error(body: &[u8]) -> ErrorBody {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let member = |name: &str| text(body.get("error").and_then(|error| error.get(name)));
    let kind = member("type");
    ErrorBody {
        // Anthropic's errors have a type alone.
        code: Some(member("code"))
            .filter(|code| !code.is_empty())
            .unwrap_or_else(|| kind.clone()),
        kind,
        message: member("message"),
    }
}

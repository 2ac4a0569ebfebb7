//! What is asked for, and where it goes.

use serde_json::Value;
use tollgate_core::catalogue::{Granted, Level, Pool};
use tollgate_core::glob::fits;
use tollgate_core::trace::{Found, Note};

use super::{Explainer, ROUTE, text};
use crate::files::locate::find;
use crate::files::tree::Node;

impl<'a> Explainer<'a> {
    pub(super) fn named(&mut self, asked: &str, found: Option<&Found>) {
        let Some(Found { name, granted }) = found else {
            return;
        };
        self.model = self.gateway.route.catalogue.get(name);
        let path = format!("catalogue.models.{name}");
        let (rule, path) = match asked == name {
            true => (format!("model `{name}`"), path),
            false => (
                format!("`{asked}` is an alias of `{name}`"),
                self.alias(&path, asked),
            ),
        };
        let at = self.router(&path);
        self.add(ROUTE, "found", &rule, Some(at));
        if let Ok(Granted { org, project, key }) = granted {
            self.granted("organization", Some(*org), self.org_path("models"));
            self.granted("project", *project, self.project_path("models"));
            self.granted("key", *key, self.key_path("models"));
        }
    }

    fn alias(&self, model: &str, alias: &str) -> String {
        let aliases = format!("{model}.aliases");
        let list: &Node = find(&self.gateway.router, &aliases).node;
        let at = list.items().iter().position(|item| item.text() == Some(alias));
        at.map_or(aliases.clone(), |at| format!("{aliases}[{at}]"))
    }

    fn granted(&mut self, level: &str, at: Option<usize>, list: String) {
        let Some(at) = at else { return };
        let path = format!("{list}[{at}]");
        let pattern = match level {
            "key" => self
                .directory
                .member(&self.request.key, "models")
                .and_then(|list| list.get(at)),
            "project" => {
                let project = self.project.as_deref().unwrap_or_default();
                let list = self
                    .directory
                    .value(&["orgs", &self.org, "projects", project, "models"]);
                list.and_then(|list| list.get(at))
            }
            _ => self
                .directory
                .value(&["orgs", &self.org, "models"])
                .and_then(|list| list.get(at)),
        };
        let rule = format!("the {level}'s `{}`", text(pattern));
        let at = self.directory_at(&path);
        self.add(ROUTE, "granted", &rule, Some(at));
    }

    pub(super) fn fallback(&mut self, allowed: bool, models: &[(String, Option<&'static str>)]) {
        let at = self.router("allow_fallback");
        let (decision, rule) = match (allowed, &self.gateway.route.allow_fallback) {
            (true, _) => ("fallback allowed", "by `allow_fallback`"),
            (false, Some(_)) => ("no fallback", "the caller is not among those of `allow_fallback`"),
            (false, None) => (
                "no fallback",
                "there is no `allow_fallback`: nobody is served by another model",
            ),
        };
        self.add(ROUTE, decision, rule, Some(at));
        let model = self.model.map(|model| model.name.clone()).unwrap_or_default();
        for (place, (name, why_not)) in models.iter().enumerate().filter(|_| allowed) {
            let at = self.router(&format!("catalogue.models.{model}.fallback[{place}]"));
            match why_not {
                Some(reason) => self.add(ROUTE, "can't stand in", &format!("`{name}`: {reason}"), Some(at)),
                None => {
                    let rule = format!("`{name}`, where no target of `{model}` works");
                    self.add(ROUTE, "may stand in", &rule, Some(at));
                }
            }
        }
    }

    pub(super) fn targets(&mut self, pool: &Pool) {
        let Some(model) = self.model else { return };
        let path = format!("catalogue.models.{}", model.name);
        let served = self.router(&format!("{path}.endpoints"));
        self.add(
            ROUTE,
            "served",
            &format!("at `{}`", self.request.endpoint.name()),
            Some(served),
        );
        let cluster = |target: usize| model.targets.get(target).map_or("", |target| &target.cluster);
        for target in &pool.drained {
            let drained = |row: &Value| row.as_str() == Some(cluster(*target));
            let at = self.out_of_use("drained", drained);
            self.add(ROUTE, "drained", &format!("`{}`", cluster(*target)), Some(at));
        }
        if let Some(rule) = pool.rule {
            let at = self.router(&format!("{path}.rules[{rule}].when"));
            self.add(
                ROUTE,
                "by a rule",
                &format!("rules[{rule}], the first that fits"),
                Some(at),
            );
        }
        if let Some((target, chosen)) = pool.canary {
            let at = self.router(&format!("{path}.canary"));
            let (decision, of) = if chosen {
                ("canary", "is")
            } else {
                ("no canary", "is not")
            };
            let rule = format!("`{}` {of} of the share of `{}`", self.org, cluster(target));
            self.add(ROUTE, decision, &rule, Some(at));
        }
        for (target, part, of) in model.chances(pool) {
            let at = self.router(&format!("{path}.targets[{target}]"));
            let rule = match part == of {
                true => format!("`{}`", cluster(target)),
                false => format!("`{}`, {part} in {of} by weight", cluster(target)),
            };
            self.add(ROUTE, "goes to", &rule, Some(at));
        }
    }

    pub(super) fn shed(&mut self, model: &str) {
        let at = self.out_of_use("shed", |row| self.sheds(row, model));
        let rule = format!("`{model}` for the tier `{}`", self.tier());
        self.add(ROUTE, "shed", &rule, Some(at));
    }

    fn tier(&self) -> &'a str {
        let caller = self.simulation.notes.iter().find_map(|note| match note {
            Note::Caller { tier, .. } => Some(tier.as_str()),
            _ => None,
        });
        caller.unwrap_or_default()
    }

    /// Whether a row keeps the caller off a model.
    fn sheds(&self, row: &Value, model: &str) -> bool {
        let pattern = row.get("model").and_then(Value::as_str).unwrap_or("*");
        text(row.get("tier")) == self.tier() && fits(pattern, model)
    }

    /// Where a row of the directory's `traffic` stands.
    fn out_of_use(&self, list: &str, is_it: impl Fn(&Value) -> bool) -> String {
        let rows = self.directory.value(&["traffic", list]);
        let mut rows = rows.and_then(Value::as_array).into_iter().flatten();
        let at = rows.position(is_it).unwrap_or_default();
        self.directory_at(&format!("traffic.{list}[{at}]"))
    }

    /// Which rule has this reason, in words, and where it stands.
    pub(super) fn of_route(&self, reason: &str) -> Option<(String, String)> {
        let name = self.model.map(|model| model.name.as_str()).unwrap_or_default();
        let of_model = |member: &str| {
            let at = self.router(&format!("catalogue.models.{name}.{member}"));
            Some((format!("`{member}` of `{name}`"), at))
        };
        let ungranted = |whose: &str, path: &str| {
            let why = format!("`{name}` fits none of the {whose}'s `models`");
            Some((why, self.directory_at(path)))
        };
        match reason {
            "model_not_found" if self.is_missing(Level::Organization) => {
                ungranted("organization", &self.org_path("models"))
            }
            "model_not_found" => {
                let why = format!("the catalogue has no `{}`", self.request.model);
                Some((why, self.router("catalogue.models")))
            }
            "project_model_not_granted" => ungranted("project", &self.project_path("models")),
            "key_model_not_granted" => ungranted("key", &self.key_path("models")),
            "model_not_at_endpoint" => of_model("endpoints"),
            "output_too_long" => of_model("max_output"),
            "context_length_exceeded" => of_model("context_window"),
            "unmetered" => of_model("unmetered"),
            "model_unavailable" | "targets_drained" => of_model("targets"),
            "model_shed" => {
                let at = self.out_of_use("shed", |row| self.sheds(row, name));
                Some((format!("`{name}` for the tier `{}`", self.tier()), at))
            }
            "request_too_large" => Some(("`uploads.body`".to_owned(), self.router("uploads.body"))),
            _ => None,
        }
    }

    fn is_missing(&self, level: Level) -> bool {
        self.simulation.notes.iter().any(|note| match note {
            Note::Model {
                found: Some(found), ..
            } => found.granted == Err(level),
            _ => false,
        })
    }
}

//! Names of organizations, tiers and models, where limits and rules speak of them.

use std::collections::BTreeSet;

use tollgate_core::glob::fits;
use tollgate_core::key::shown;

use crate::files::envoy_files::Scope;
use crate::files::finding::Report;
use crate::files::near::nearest;
use crate::files::tree::Node;

/// The tier of an organization that names none.
pub(super) const DEFAULT_TIER: &str = "default";

/// Checks every condition.
pub(super) fn check(scope: &Scope, report: &mut Report) {
    let known = Known::of(scope);
    for row in rows(scope, "limits") {
        for condition in row.get("when").into_iter().chain(list(row, "overrides")) {
            known.condition(condition, report);
        }
    }
    for row in rows(scope, "capacity") {
        known.models(row, report);
        let weights = row
            .get("weights")
            .into_iter()
            .flat_map(|weights| weights.entries());
        for entry in weights.filter(|_| known.directory) {
            known.one("organization", &entry.name, &known.orgs, entry.place, report);
        }
    }
    for model in scope.models() {
        for rule in list(&model.entry.value, "rules") {
            known.conditions(rule.get("when"), report);
        }
    }
}

fn rows<'s>(scope: &'s Scope, section: &'s str) -> impl Iterator<Item = &'s Node> {
    scope
        .limits
        .iter()
        .flat_map(move |config| list(config, section))
        .map(|row| &**row)
}

fn list<'n>(node: &'n Node, member: &str) -> impl Iterator<Item = &'n std::rc::Rc<Node>> {
    node.get(member).into_iter().flat_map(|list| list.items())
}

/// What names there are.
struct Known<'s> {
    /// Whether the directory is known at all.
    directory: bool,
    orgs: BTreeSet<&'s str>,
    tiers: BTreeSet<&'s str>,
    projects: BTreeSet<&'s str>,
    keys: BTreeSet<&'s str>,
    /// Each model with its aliases.
    models: Vec<(String, Vec<String>)>,
}

impl<'s> Known<'s> {
    fn of(scope: &'s Scope) -> Self {
        let projects = scope.orgs().filter_map(|org| org.value.get("projects"));
        let tier = |org: &'s crate::files::tree::Entry| org.value.text_at(&["tier"]).unwrap_or(DEFAULT_TIER);
        let models = scope.models();
        let models = models.iter().map(|model| {
            let aliases = model.aliases().map(ToOwned::to_owned).collect();
            (model.name().to_owned(), aliases)
        });
        Self {
            directory: !scope.directories.is_empty(),
            orgs: scope.orgs().map(|org| org.name.as_str()).collect(),
            tiers: scope.orgs().map(tier).collect(),
            projects: projects
                .flat_map(|projects| projects.entries())
                .map(|project| project.name.as_str())
                .collect(),
            keys: scope.keys().filter_map(|key| key.text_at(&["id"])).collect(),
            models: models.collect(),
        }
    }

    fn conditions(&self, when: Option<&std::rc::Rc<Node>>, report: &mut Report) {
        if let Some(when) = when {
            self.condition(when, report);
        }
    }

    fn condition(&self, when: &Node, report: &mut Report) {
        self.models(when, report);
        if !self.directory {
            return;
        }
        for (member, what, known) in [
            ("tier", "tier", &self.tiers),
            ("org", "organization", &self.orgs),
            ("project", "project", &self.projects),
            ("key", "key", &self.keys),
        ] {
            let names = when.get(member).map(|names| names.names()).unwrap_or_default();
            for (name, place) in names {
                // Callers with a token have ids of their own.
                if !(member == "key" && name.starts_with("jwt-")) {
                    self.one(what, name, known, place, report);
                }
            }
        }
    }

    fn one(
        &self,
        what: &str,
        name: &str,
        known: &BTreeSet<&str>,
        place: crate::files::finding::Place,
        report: &mut Report,
    ) {
        if known.contains(name) {
            return;
        }
        let name_shown = shown(name, 64);
        let text = match what {
            "tier" => format!("no organization of the directory has the tier `{name_shown}`"),
            _ => format!("the directory has no {what} `{name_shown}`"),
        };
        report.error(place, format!("{text}{}", meant(name, known.iter().copied())));
    }

    fn models(&self, row: &Node, report: &mut Report) {
        let patterns = row.get("model").map(|names| names.names()).unwrap_or_default();
        for (pattern, place) in patterns {
            let found = self.models.iter().any(|(name, _)| fits(pattern, name));
            if self.models.is_empty() || found {
                continue;
            }
            let alias = self
                .models
                .iter()
                .find(|(_, aliases)| aliases.iter().any(|alias| fits(pattern, alias)));
            let text = match alias {
                Some((name, _)) => format!(
                    "`{}` is an alias, and limits go by the model's own name: `{name}`",
                    shown(pattern, 64)
                ),
                None => format!(
                    "the catalogue has no model `{}`{}",
                    shown(pattern, 64),
                    meant(pattern, self.models.iter().map(|(name, _)| name.as_str()))
                ),
            };
            report.error(place, text);
        }
    }
}

/// The name that is most like this one, or all where they are few.
pub(super) fn meant<'c>(name: &str, known: impl Iterator<Item = &'c str> + Clone) -> String {
    const FEW: usize = 8;
    if let Some(near) = nearest(name, known.clone()) {
        return format!(": did you mean `{near}`?");
    }
    let all: Vec<&str> = known.take(FEW + 1).collect();
    if all.is_empty() || all.len() > FEW {
        return String::new();
    }
    format!(" (there are {})", all.join(", "))
}

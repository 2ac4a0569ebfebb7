//! What a directory has out of use, against the catalogue: a name that nothing has keeps nobody off anything.

use std::collections::BTreeSet;

use tollgate_core::glob::fits;
use tollgate_core::key::shown;

use super::names::{DEFAULT_TIER, meant};
use crate::files::envoy_files::Scope;
use crate::files::finding::Report;

/// Checks every row.
pub(super) fn check(scope: &Scope, report: &mut Report) {
    let models = scope.models();
    let targets: BTreeSet<&str> = models
        .iter()
        .filter_map(|model| model.entry.value.get("targets"))
        .flat_map(|targets| targets.items())
        .filter_map(|target| target.text_at(&["cluster"]))
        .collect();
    let tiers: BTreeSet<&str> = scope
        .orgs()
        .map(|org| org.value.text_at(&["tier"]).unwrap_or(DEFAULT_TIER))
        .collect();
    let rows = |list: &'static str| {
        let directories = scope.directories.iter();
        let lists = directories.filter_map(move |directory| directory.at(&["traffic", list]));
        lists.flat_map(|list| list.items())
    };
    for row in rows("drained") {
        let name = row.text().unwrap_or_default();
        if !targets.is_empty() && !targets.contains(name) {
            let meant = meant(name, targets.iter().copied());
            let text = format!(
                "drains nothing: no model has the target `{}`{meant}",
                shown(name, 64)
            );
            report.warning(row.place, text);
        }
    }
    for row in rows("shed") {
        if let Some(tier) = row.get("tier") {
            let name = tier.text().unwrap_or_default();
            if !tiers.contains(name) {
                let meant = meant(name, tiers.iter().copied());
                let text = format!(
                    "sheds nothing: no organization of the directory has the tier `{}`{meant}",
                    shown(name, 64)
                );
                report.warning(tier.place, text);
            }
        }
        if let Some(model) = row.get("model") {
            let pattern = model.text().unwrap_or_default();
            if !models.is_empty() && !models.iter().any(|model| fits(pattern, model.name())) {
                let meant = meant(pattern, models.iter().map(|model| model.name()));
                let text = format!(
                    "sheds nothing: the catalogue has no model `{}`{meant}",
                    shown(pattern, 64)
                );
                report.warning(model.place, text);
            }
        }
    }
}

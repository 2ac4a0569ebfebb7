//! Bounds that the directory has for organizations and keys, against the limits that they are of.

use tollgate_core::key::shown;

use super::names::meant;
use crate::files::envoy_files::Scope;
use crate::files::finding::Report;
use crate::files::tree::{Entry, Node};

/// Whose bounds they are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    Org,
    Key,
}

/// Checks every organization and key, where it is known what limits there are.
pub(super) fn check(scope: &Scope, report: &mut Report) {
    if scope.limits.is_empty() {
        return;
    }
    let tables = scope.limits.iter().filter_map(|config| config.get("limits"));
    let rows: Vec<&Node> = tables.flat_map(|rows| rows.items()).map(|row| &**row).collect();
    let orgs = scope.orgs().map(|org| (Whose::Org, &*org.value));
    let keys = scope.keys().map(|key| (Whose::Key, &**key));
    for (whose, holder) in orgs.chain(keys) {
        let limits = holder.get("limits");
        for bound in limits.into_iter().flat_map(|limits| limits.entries()) {
            one(whose, bound, &rows, report);
        }
    }
}

fn one(whose: Whose, bound: &Entry, rows: &[&Node], report: &mut Report) {
    let name = |row: &'_ &Node| row.text_at(&["name"]) == Some(&bound.name);
    let limit = shown(&bound.name, 64);
    let Some(row) = rows.iter().find(|row| name(row)) else {
        let names: Vec<&str> = rows.iter().filter_map(|row| row.text_at(&["name"])).collect();
        let text = format!(
            "changes nothing: there is no limit `{limit}`{}",
            meant(&bound.name, names.iter().copied())
        );
        report.warning(bound.place, text);
        return;
    };
    let concurrent = row.text_at(&["count"]) == Some("concurrent");
    let wrong = match concurrent {
        true => bound.value.entry("rate").or_else(|| bound.value.entry("burst")),
        false => bound.value.entry("max"),
    };
    if let Some(wrong) = wrong {
        let has = if concurrent { "`max`" } else { "`rate` and `burst`" };
        report.error(
            wrong.place,
            format!("does not go with the limit `{limit}`, which has {has}"),
        );
        return;
    }
    let per = row.get("per").map(|per| per.names()).unwrap_or_default();
    let tells = |names: &[&str]| per.iter().any(|(name, _)| names.contains(name));
    if whose == Whose::Key && !tells(&["key"]) {
        let text = format!("changes nothing: the limit `{limit}` does not tell keys apart");
        report.warning(bound.place, text);
    } else if !tells(&["org", "project", "key"]) {
        let text = format!("changes nothing: organizations share the limit `{limit}`");
        report.warning(bound.place, text);
    }
}

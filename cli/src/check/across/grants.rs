//! Grants against the catalogue, and callers that can reach nothing.

use std::rc::Rc;

use tollgate_core::config::moment;
use tollgate_core::endpoint::{Endpoint, Scope as Permission};
use tollgate_core::glob::{fits, fits_any};
use tollgate_core::key::shown;

use super::names::meant;
use crate::files::envoy_files::{Model, Scope};
use crate::files::finding::{Place, Report};
use crate::files::tree::{Entry, Node};

/// Checks every organization, project and key, where it is known what there is to grant.
pub(super) fn check(scope: &Scope, report: &mut Report) {
    let models = scope.models();
    for org in scope.orgs() {
        let projects = org
            .value
            .get("projects")
            .map(|list| list.entries())
            .unwrap_or_default();
        let levels = std::iter::once(&*org.value).chain(projects.iter().map(|project| &*project.value));
        for level in levels.filter(|_| !models.is_empty()) {
            patterns(level, &models, report);
        }
        let nothing = org.value.get("models").is_none_or(|list| list.items().is_empty());
        if nothing && !models.is_empty() {
            let text = format!("`{}` may use no model: it has no `models`", shown(&org.name, 64));
            report.warning(org.place, text);
        }
    }
    for key in scope.keys() {
        if !models.is_empty() {
            patterns(key, &models, report);
        }
        if let Some((place, why)) = out_of_reach(key, scope, &models) {
            let id = shown(key.text_at(&["id"]).unwrap_or_default(), 64);
            report.warning(place, format!("the key `{id}` can reach nothing: {why}"));
        }
    }
}

fn patterns(level: &Node, models: &[Model<'_>], report: &mut Report) {
    let list = level.get("models").map(|list| list.names()).unwrap_or_default();
    for (pattern, place) in list {
        if models.iter().any(|model| fits(pattern, model.name())) {
            continue;
        }
        let named = models
            .iter()
            .find(|model| model.aliases().any(|alias| fits(pattern, alias)));
        let text = match named {
            Some(model) => format!(
                "`{}` is an alias, and grants go by the model's own name: `{}`",
                shown(pattern, 64),
                model.name()
            ),
            None => {
                let names: Vec<&str> = models.iter().map(Model::name).collect();
                let meant = meant(pattern, names.iter().copied());
                format!(
                    "grants nothing: the catalogue has no model `{}`{meant}",
                    shown(pattern, 64)
                )
            }
        };
        report.error(place, text);
    }
}

/// Why a key is good for nothing, where that is not what its own `status` says.
fn out_of_reach(key: &Rc<Node>, scope: &Scope, models: &[Model<'_>]) -> Option<(Place, String)> {
    let name = key.text_at(&["org"])?;
    let org = scope.orgs().find(|org| org.name == name)?;
    let project = key.text_at(&["project"]);
    let project = project.and_then(|name| org.value.get("projects")?.entry(name));
    let frozen = |level: &Entry| level.value.text_at(&["status"]) == Some("suspended");
    if frozen(org) {
        let place = key.get("org")?.place;
        return Some((place, format!("its organization `{}` is suspended", org.name)));
    }
    if let Some(project) = project.filter(|project| frozen(project)) {
        let place = key.get("project")?.place;
        return Some((place, format!("its project `{}` is suspended", project.name)));
    }
    if let Some(end) = key.get("expires_at").filter(|end| is_past(end)) {
        let text = end.text().unwrap_or_default();
        return Some((end.place, format!("it expired at {text}")));
    }
    if models.is_empty() {
        return None;
    }
    let levels = [
        Some(&*org.value),
        project.map(|project| &*project.value),
        Some(&**key),
    ];
    let granted: Vec<&Model<'_>> = models.iter().filter(|model| grants(&levels, model)).collect();
    let ungranted = granted.is_empty()
        && org
            .value
            .get("models")
            .is_some_and(|list| !list.items().is_empty());
    if ungranted {
        let place = key.entry("models").map_or(key.place, |entry| entry.place);
        return Some((
            place,
            "no model is granted by key, project and organization together".into(),
        ));
    }
    unserved(key, &granted)
}

fn grants(levels: &[Option<&Node>], model: &Model<'_>) -> bool {
    levels.iter().flatten().enumerate().all(|(at, level)| {
        let list = level.get("models").map(|list| list.names());
        let list: Option<Vec<&str>> = list.map(|list| list.into_iter().map(|(name, _)| name).collect());
        // An organization without a list has nothing; below it a missing list takes nothing away.
        list.map_or(at > 0, |list| fits_any(&list, model.name()))
    })
}

/// Scopes that no model of the key's is served for.
fn unserved(key: &Node, granted: &[&Model<'_>]) -> Option<(Place, String)> {
    let scopes = key.get("scopes")?;
    let served = |scope: &str| {
        let mut endpoints = granted.iter().flat_map(|model| model.endpoints());
        scope == Permission::Models.name() || endpoints.any(|endpoint| permission(endpoint) == Some(scope))
    };
    let names = scopes.names();
    if granted.is_empty() || names.is_empty() || names.iter().any(|(name, _)| served(name)) {
        return None;
    }
    let names: Vec<&str> = names.into_iter().map(|(name, _)| name).collect();
    let text = format!(
        "none of its models is served for its scopes ({})",
        names.join(", ")
    );
    let place = key.entry("scopes").map_or(scopes.place, |entry| entry.place);
    Some((place, text))
}

/// The scope that an endpoint needs, both by name.
fn permission(endpoint: &str) -> Option<&'static str> {
    let endpoint: Endpoint = serde_json::from_value(endpoint.into()).ok()?;
    Some(endpoint.scope().name())
}

fn is_past(end: &Node) -> bool {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.ok().and_then(|now| i64::try_from(now.as_secs()).ok());
    let end = end.text().and_then(moment);
    end.zip(now).is_some_and(|(end, now)| end <= now)
}

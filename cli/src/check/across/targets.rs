//! Where models are served: targets of the catalogue against clusters, and providers of clusters against the adapter's.

use std::rc::Rc;

use tollgate_core::key::shown;

use super::names::meant;
use crate::files::envoy_files::{EnvoyFiles, Scope};
use crate::files::finding::Report;
use crate::files::kind::Kind;
use crate::files::settings::ValidPlugin;
use crate::files::survey::Cluster;
use crate::files::tree::Node;

/// Checks every target of every model.
pub(super) fn check(files: &EnvoyFiles<'_>, scope: &Scope, report: &mut Report) {
    let clusters = &files.survey.clusters;
    for model in scope.models() {
        let targets = model
            .entry
            .value
            .get("targets")
            .map(|list| list.items())
            .unwrap_or_default();
        for target in targets {
            let Some(cluster) = target.get("cluster") else {
                continue;
            };
            let name = cluster.text().unwrap_or_default();
            if clusters.is_empty() || clusters.iter().any(|cluster| cluster.name.name == name) {
                continue;
            }
            let known = clusters.iter().map(|cluster| cluster.name.name.as_str());
            let text = format!(
                "there is no cluster `{}` in these files, so the model `{}` can't be served there{}",
                shown(name, 64),
                model.name(),
                meant(name, known)
            );
            report.error(cluster.place, text);
        }
        stand_ins(scope, &model, report);
    }
}

/// A model stands in only where it is served.
fn stand_ins(scope: &Scope, model: &crate::files::envoy_files::Model<'_>, report: &mut Report) {
    let endpoints = model.endpoints();
    let fallback = model
        .entry
        .value
        .get("fallback")
        .map(|list| list.names())
        .unwrap_or_default();
    for (name, place) in fallback {
        let models = scope.models();
        let other = models.iter().find(|other| other.name() == name);
        let Some(other) = other else { continue };
        if !other
            .endpoints()
            .iter()
            .any(|endpoint| endpoints.contains(endpoint))
        {
            let text = format!(
                "`{name}` never stands in: it is served at none of this model's endpoints ({})",
                endpoints.join(", ")
            );
            report.warning(place, text);
        }
    }
}

/// Checks that clusters have hosts, and that the adapter in front of one knows its providers.
pub(super) fn clusters(files: &EnvoyFiles<'_>, report: &mut Report) {
    let adapters: Vec<&ValidPlugin> = files
        .good
        .iter()
        .filter(|good| good.kind == Kind::UpstreamAdapter)
        .collect();
    let wanted: Vec<String> = files
        .scopes()
        .iter()
        .flat_map(|scope| {
            let models = scope.models();
            models
                .iter()
                .flat_map(|model| targets(&model.entry.value))
                .collect::<Vec<_>>()
        })
        .collect();
    for cluster in &files.survey.clusters {
        if wanted.contains(&cluster.name.name) && is_empty(&cluster.node) {
            let text = format!(
                "the cluster `{}` has no endpoint, and models are to be served there: fill in `load_assignment`",
                cluster.name.name
            );
            report.error(cluster.name.place, text);
        }
        providers(cluster, &adapters, report);
    }
}

fn targets(model: &Node) -> Vec<String> {
    let list = model.get("targets").map(|list| list.items()).unwrap_or_default();
    let names = list.iter().filter_map(|target| target.text_at(&["cluster"]));
    names.map(ToOwned::to_owned).collect()
}

/// Whether nobody answers there; clusters of clusters, and those whose hosts come from elsewhere, aside.
fn is_empty(cluster: &Node) -> bool {
    let elsewhere = cluster.get("cluster_type").is_some() || cluster.text_at(&["type"]) == Some("EDS");
    !elsewhere && hosts(cluster).is_empty()
}

fn hosts(cluster: &Node) -> Vec<&Rc<Node>> {
    let groups = cluster.at(&["load_assignment", "endpoints"]);
    let groups = groups.map(|list| list.items()).unwrap_or_default();
    let hosts = groups.iter().filter_map(|group| group.get("lb_endpoints"));
    hosts.flat_map(|hosts| hosts.items()).collect()
}

fn providers(cluster: &Cluster, adapters: &[&ValidPlugin], report: &mut Report) {
    let known: Vec<&str> = adapters
        .iter()
        .filter_map(|good| good.root.get("providers"))
        .flat_map(|providers| providers.entries())
        .map(|entry| entry.name.as_str())
        .collect();
    let groups = cluster.node.at(&["load_assignment", "endpoints"]);
    let groups = groups.map(|list| list.items()).unwrap_or_default();
    let path = ["metadata", "filter_metadata", "tollgate", "provider"];
    for host in groups.iter().chain(hosts(&cluster.node)) {
        let Some(provider) = host.at(&path) else { continue };
        let name = provider.text().unwrap_or_default();
        if !known.is_empty() && !known.contains(&name) {
            let text = format!(
                "the adapter has no provider `{}`{}",
                shown(name, 64),
                meant(name, known.iter().copied())
            );
            report.error(provider.place, text);
        }
    }
}

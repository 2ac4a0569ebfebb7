//! A directory that is fetched: somebody has to fetch it, from a cluster that is there, for the filters that read it.

use std::rc::Rc;

use tollgate_core::key::shown;

use super::names::meant;
use crate::files::envoy_files::EnvoyFiles;
use crate::files::finding::Report;
use crate::files::kind::Kind;
use crate::files::settings::ValidPlugin;
use crate::files::survey::{Form, named};
use crate::files::tree::{Entry, Node};

/// Checks fetchers, and the filters that wait for one.
pub(super) fn check(files: &EnvoyFiles<'_>, report: &mut Report) {
    let fetchers: Vec<&ValidPlugin> = files
        .good
        .iter()
        .filter(|good| good.kind == Kind::Directory)
        .collect();
    for fetcher in &fetchers {
        cluster(files, fetcher, "no directory would be fetched", report);
        alone(files, fetcher, "all of them fetch the directory", report);
    }
    let any = files
        .survey
        .plugins
        .iter()
        .any(|plugin| plugin.kind == Some(Kind::Directory));
    for chain in files.chains() {
        for good in chain.filters.iter().filter_map(|link| files.good(link)) {
            let section = if good.kind == Kind::Gateway {
                good.root.get("key_auth")
            } else {
                Some(&good.root)
            };
            let Some(http) = section.and_then(|section| section.get("directory")?.entry("http")) else {
                continue;
            };
            if any {
                memory(good, &fetchers, "the fetcher of the directory", report);
            } else {
                let text = "nobody fetches the directory: add the fetcher of envoy/directory-http.yaml to the bootstrap, or every request is refused";
                report.warning(http.place, text);
            }
        }
    }
}

/// The cluster that a singleton calls has to be there.
pub(super) fn cluster(files: &EnvoyFiles<'_>, fetcher: &ValidPlugin, outcome: &str, report: &mut Report) {
    let clusters = &files.survey.clusters;
    let Some(cluster) = named(&fetcher.root, "cluster") else {
        return;
    };
    if !clusters.is_empty() && !clusters.iter().any(|known| known.name.name == cluster.name) {
        let known = clusters.iter().map(|cluster| cluster.name.name.as_str());
        let text = format!(
            "there is no cluster `{}` in these files, so {outcome}{}",
            shown(&cluster.name, 64),
            meant(&cluster.name, known)
        );
        report.error(cluster.place, text);
    }
}

/// Of what runs beside the workers there is one for all of them, and none for each thread.
pub(super) fn alone(files: &EnvoyFiles<'_>, plugin: &ValidPlugin, outcome: &str, report: &mut Report) {
    let runs = |service: &&Rc<Node>| {
        let config = service.get("config");
        config.is_some_and(|config| Rc::ptr_eq(config, &plugin.plugin.node))
    };
    let Some(service) = files.survey.services.iter().find(runs) else {
        return;
    };
    let said = service.entry("singleton");
    if said.is_none_or(|said| said.value.text() != Some("true")) {
        let place = said
            .or(service.entry("config"))
            .map_or(service.place, Entry::shown);
        let text = format!("`singleton: true` is missing, so each thread has one, and {outcome}");
        report.error(place, text);
    }
}

/// What writes and what reads share memory by the name of their VM.
pub(super) fn memory(reader: &ValidPlugin, writers: &[&ValidPlugin], what: &str, report: &mut Report) {
    let id = |good: &ValidPlugin| {
        good.plugin
            .node
            .at(&["vm_config"])
            .and_then(|vm| named(vm, "vm_id"))
    };
    let Some(wanted) = id(reader).filter(|_| reader.plugin.form == Form::Wasm) else {
        return;
    };
    let ids: Vec<String> = writers
        .iter()
        .filter_map(|writer| id(writer))
        .map(|id| id.name)
        .collect();
    if !ids.is_empty() && !ids.contains(&wanted.name) {
        let text = format!(
            "{what} runs as `{}`, and shares what it has only with filters of the same vm_id",
            ids.join("`, `")
        );
        report.error(wanted.place, text);
    }
}

//! Providers: their names of models against the catalogue, and secrets where only their names belong.

use tollgate_core::glob::fits;
use tollgate_core::key::{may_be_credential, shown};

use super::names::meant;
use crate::files::envoy_files::EnvoyFiles;
use crate::files::finding::Report;
use crate::files::kind::Kind;
use crate::files::tree::Node;

/// Checks every provider.
pub(super) fn check(files: &EnvoyFiles<'_>, report: &mut Report) {
    let scopes = files.scopes();
    let mut models: Vec<String> = scopes
        .iter()
        .flat_map(|scope| {
            scope
                .models()
                .into_iter()
                .map(|model| model.name().to_owned())
                .collect::<Vec<_>>()
        })
        .collect();
    models.sort();
    models.dedup();
    if !files.knows_all_models() {
        models.clear();
    }
    let adapters = files
        .good
        .iter()
        .filter(|good| good.kind == Kind::UpstreamAdapter);
    let providers = adapters.filter_map(|good| good.root.get("providers"));
    for provider in providers.flat_map(|providers| providers.entries()) {
        names(&provider.value, &models, report);
        secret(&provider.value, report);
    }
}

/// Names that no model has, where it is known which there are.
fn names(provider: &Node, models: &[String], report: &mut Report) {
    let named = provider
        .get("models")
        .map(|names| names.entries())
        .unwrap_or_default();
    for entry in named.iter().filter(|_| !models.is_empty()) {
        if !models.iter().any(|model| fits(&entry.name, model)) {
            let text = format!(
                "the catalogue has no model `{}`{}",
                shown(&entry.name, 64),
                meant(&entry.name, models.iter().map(String::as_str))
            );
            report.error(entry.place, text);
        }
    }
}

fn secret(provider: &Node, report: &mut Report) {
    let secret = provider.at(&["credential", "secret"]);
    if let Some(secret) = secret.filter(|secret| {
        secret
            .text()
            .is_some_and(|text| may_be_credential(text.as_bytes()))
    }) {
        let text = "looks like the secret itself: expected its name, by which Envoy puts it in front of the filter (envoy/filters/upstream-adapter.yaml)";
        report.error(secret.place, text);
    }
}

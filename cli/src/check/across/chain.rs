//! Chains of filters: which of ours are in one, and in which order.

use crate::files::envoy_files::EnvoyFiles;
use crate::files::finding::{Place, Report};
use crate::files::kind::Kind;
use crate::files::survey::{Chain, Link};

/// Checks a chain that has filters of ours.
pub(super) fn check(files: &EnvoyFiles<'_>, chain: &Chain, report: &mut Report) {
    for link in &chain.filters {
        discovered(files, link, report);
    }
    let ours: Vec<(Kind, Place)> = chain
        .filters
        .iter()
        .filter_map(|link| Some((files.kind(link)?, link.name.place)))
        .collect();
    if chain.is_upstream() {
        upstream(&ours, report);
    } else {
        once(&ours, report);
        order(&ours, report);
        neighbours(files, chain, report);
    }
}

/// A filter in a file of its own: Envoy goes by the resource's name.
fn discovered(files: &EnvoyFiles<'_>, link: &Link, report: &mut Report) {
    let Some(path) = &link.path else { return };
    let mut resources = files.survey.plugins.iter();
    let here = resources
        .find(|plugin| plugin.resource.is_some() && files.is_file(plugin.node.place.file, &path.name));
    let Some(name) = here.and_then(|plugin| plugin.resource.as_ref()) else {
        let known = files
            .files
            .iter()
            .any(|file| files.is_file(file.number, &path.name));
        if !known && link.name.name.starts_with("tollgate.") && !std::path::Path::new(&path.name).exists() {
            let text = format!(
                "there is no file {} among these, and until Envoy finds it every request is refused",
                path.name
            );
            report.warning(path.place, text);
        }
        return;
    };
    if name.name != link.name.name {
        let text = format!(
            "the filter in {} is called `{}`, and Envoy takes only one called `{}`",
            path.name, name.name, link.name.name
        );
        report.error(link.name.place, text);
    }
}

fn upstream(ours: &[(Kind, Place)], report: &mut Report) {
    for (kind, place) in ours.iter().filter(|(kind, _)| *kind != Kind::UpstreamAdapter) {
        let text = format!(
            "`{}` belongs into the listener's chain: a cluster's filters see attempts, and of ours only `upstream-adapter` is for them",
            kind.name()
        );
        report.error(*place, text);
    }
}

fn once(ours: &[(Kind, Place)], report: &mut Report) {
    for (at, (kind, place)) in ours.iter().enumerate() {
        let before = ours.get(..at).unwrap_or_default();
        if before.iter().any(|(other, _)| other == kind) {
            report.error(*place, format!("`{}` is in this chain twice", kind.name()));
        }
        let part = matches!(kind, Kind::KeyAuth | Kind::TenantRouter | Kind::RateLimit);
        if part && ours.iter().any(|(other, _)| *other == Kind::Gateway) {
            let text = format!(
                "`gateway` has `{}` in it: take one of them out of the chain",
                kind.name()
            );
            report.error(*place, text);
        }
        if *kind == Kind::UpstreamAdapter {
            let text = "`upstream-adapter` belongs into the chain of a cluster (typed_extension_protocol_options): here it would see no provider";
            report.error(*place, text);
        }
    }
}

/// What each needs in front of it.
fn order(ours: &[(Kind, Place)], report: &mut Report) {
    for (kind, needed, why) in [
        (Kind::TenantRouter, Kind::KeyAuth, "who is calling"),
        (Kind::RateLimit, Kind::TenantRouter, "what is asked for"),
    ] {
        let place_of = |wanted| ours.iter().position(|(kind, _)| *kind == wanted);
        let Some((_, place)) = ours.iter().find(|(found, _)| *found == kind) else {
            continue;
        };
        let good = place_of(needed).is_some_and(|needed| Some(needed) < place_of(kind));
        let whole = place_of(Kind::Gateway).is_some();
        if !good && !whole {
            let text = format!(
                "`{}` needs `{}` in front of it, which says {why}: without it every request is refused",
                kind.name(),
                needed.name()
            );
            report.error(*place, text);
        }
    }
}

/// Envoy's own filters that ours need, or that need ours.
fn neighbours(files: &EnvoyFiles<'_>, chain: &Chain, report: &mut Report) {
    const ROUTER: &str = ".http.router.v3.Router";
    let kind = |link: &Link| {
        link.typed
            .as_ref()
            .map(|typed| crate::files::survey::type_of(typed).to_owned())
    };
    let place_of = |ending: &str| {
        let mut filters = chain.filters.iter();
        filters.position(|link| kind(link).is_some_and(|kind| kind.ends_with(ending)))
    };
    let first = chain
        .filters
        .iter()
        .position(|link| matches!(files.kind(link), Some(Kind::KeyAuth | Kind::Gateway)));
    let behind = place_of(ROUTER)
        .and_then(|router| chain.filters.get(router + 1..))
        .unwrap_or_default();
    for link in behind.iter().filter(|link| files.kind(link).is_some()) {
        let text = "stands behind Envoy's router, which no request passes: put it in front";
        report.error(link.name.place, text);
    }
    let Some(link) = first.and_then(|at| chain.filters.get(at)) else {
        return;
    };
    let tokens = files.good(link).and_then(|good| {
        let section = if good.kind == Kind::Gateway {
            good.root.get("key_auth")
        } else {
            Some(&good.root)
        };
        section?.entry("jwt").map(|entry| entry.place)
    });
    let verifier = place_of(".http.jwt_authn.v3.JwtAuthentication");
    if let Some(place) = tokens
        && verifier.is_none_or(|verifier| Some(verifier) > first)
    {
        let text = "takes tokens that Envoy's jwt_authn verified, and no jwt_authn stands in front of it in the chain";
        report.error(place, text);
    }
}

//! Limits of the fleet: this Envoy has to be a member of it, in the memory of the filters that have them.

use super::fetch::{alone, cluster, memory};
use crate::files::envoy_files::EnvoyFiles;
use crate::files::finding::{Place, Report};
use crate::files::kind::Kind;
use crate::files::settings::ValidPlugin;
use crate::files::survey::Form;

/// Checks members, and the rows that need one.
pub(super) fn check(files: &EnvoyFiles<'_>, report: &mut Report) {
    let of_kind = |good: &&ValidPlugin| good.kind == Kind::Fleet;
    let members: Vec<&ValidPlugin> = files.good.iter().filter(of_kind).collect();
    for member in &members {
        cluster(files, member, "no limit of the fleet could be used", report);
        alone(files, member, "all but one stop", report);
    }
    let plugins = &files.survey.plugins;
    let any = plugins.iter().any(|plugin| plugin.kind == Some(Kind::Fleet));
    for chain in files.chains() {
        for good in chain.filters.iter().filter_map(|link| files.good(link)) {
            let Some(place) = row(good) else {
                continue;
            };
            if any {
                let what = "the member of the fleet";
                let of_form = |member: &&&ValidPlugin| member.plugin.form == Form::Wasm;
                let of_form: Vec<_> = members.iter().filter(of_form).copied().collect();
                memory(good, &of_form, what, report);
            } else {
                let text = "this Envoy is no member of the fleet: add the one of envoy/fleet.yaml to the bootstrap, or every request that this limit covers is refused";
                report.warning(place, text);
            }
        }
    }
}

/// The first row of the fleet.
fn row(good: &ValidPlugin) -> Option<Place> {
    let limits = match good.kind {
        Kind::Gateway => good.root.at(&["rate_limit", "limits"]),
        Kind::RateLimit => good.root.at(&["limits"]),
        _ => None,
    };
    let mut rows = limits?.items().iter();
    rows.find_map(|row| {
        let place = row.entry("where")?;
        (place.value.text() == Some("fleet")).then_some(place.place)
    })
}

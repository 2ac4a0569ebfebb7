//! What only shows where files are held against each other.

mod adapter;
mod bodies;
mod bounds;
mod chain;
mod fetch;
mod fleet;
mod grants;
mod logs;
mod names;
mod targets;
mod traffic;

use crate::files::envoy_files::EnvoyFiles;
use crate::files::finding::Report;

/// Checks the files of one Envoy.
pub(super) fn check(files: &EnvoyFiles<'_>, report: &mut Report) {
    for chain in files.chains() {
        chain::check(files, chain, report);
        logs::check(files, chain, report);
    }
    fetch::check(files, report);
    fleet::check(files, report);
    adapter::check(files, report);
    targets::clusters(files, report);
    for scope in files.scopes() {
        names::check(&scope, report);
        bounds::check(&scope, report);
        targets::check(files, &scope, report);
        grants::check(&scope, report);
        traffic::check(&scope, report);
        bodies::check(files, &scope, report);
    }
}

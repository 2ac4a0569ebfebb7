//! What only shows where files are held against each other.

mod adapter;
mod bodies;
mod bounds;
mod chain;
mod fetch;
mod grants;
mod logs;
mod names;
mod targets;
mod traffic;

use crate::files::finding::Report;
use crate::files::world::World;

/// Checks the files of one Envoy.
pub(super) fn check(world: &World<'_>, report: &mut Report) {
    for chain in world.chains() {
        chain::check(world, chain, report);
        logs::check(world, chain, report);
    }
    fetch::check(world, report);
    adapter::check(world, report);
    targets::clusters(world, report);
    for scope in world.scopes() {
        names::check(&scope, report);
        bounds::check(&scope, report);
        targets::check(world, &scope, report);
        grants::check(&scope, report);
        traffic::check(&scope, report);
        bodies::check(world, &scope, report);
    }
}

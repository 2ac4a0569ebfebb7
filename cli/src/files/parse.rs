//! The filters' own readers, over a tree: all that they say, each at its place.

use std::collections::HashSet;

use tollgate_core::config::ConfigError;
use tollgate_core::directory::{Loader, fetch};
use tollgate_core::{adapt, auth, fleet, limiter, route};

use super::finding::{Place, Report};
use super::kind::Kind;
use super::locate::{Found, find};
use super::scalar::{Reader, parse_bool};
use super::tree::Node;

/// The most unknown fields of one configuration that are told.
const MAX_ROUNDS: usize = 50;
/// The most errors of one configuration that are told.
const MAX_ERRORS: usize = 200;

/// Reads a configuration as its filter does; whether it is good.
pub(crate) fn check(kind: Kind, root: &Node, reader: Reader, report: &mut Report) -> bool {
    let mut without = HashSet::new();
    let mut incomplete = Vec::new();
    for _ in 0..MAX_ROUNDS {
        let errors = parse(kind, &reader.json(root, &without));
        let before = without.len();
        if errors.len() > MAX_ERRORS {
            let text = format!(
                "there are {} more mistakes than those told",
                errors.len() - MAX_ERRORS
            );
            report.error(root.place, text);
        }
        for error in errors.iter().take(MAX_ERRORS) {
            let found = find(root, &error.path);
            // What is missing where a field is misspelt is that field.
            let known = incomplete.contains(&error.path) && error.problem.starts_with("missing field");
            if !known {
                let (place, text) = told(&found, error);
                report.error(place, text);
            }
            // A reader stops at the first field that it does not know. Without that one it goes on.
            if let Some(entry) = found.entry.filter(|_| error.problem.starts_with("unknown field"))
                && without.insert(entry.place)
            {
                incomplete.push(parent(&error.path, &entry.name));
            }
        }
        if without.len() == before {
            return errors.is_empty() && without.is_empty();
        }
    }
    false
}

/// Reads one that is text already, such as JSON in a string; its tree is for places alone.
pub(crate) fn check_text(kind: Kind, json: &[u8], root: &Node, report: &mut Report) -> bool {
    let errors = parse(kind, json);
    for error in &errors {
        let (place, text) = told(&find(root, &error.path), error);
        report.error(place, text);
    }
    errors.is_empty()
}

fn parse(kind: Kind, json: &[u8]) -> Vec<ConfigError> {
    let all = |result: Result<(), Vec<ConfigError>>| result.err().unwrap_or_default();
    match kind {
        Kind::KeyAuth => all(auth::Config::parse(json).map(|_| ())),
        Kind::TenantRouter => all(route::Config::parse(json).map(|_| ())),
        Kind::RateLimit => all(limiter::Config::parse(json).map(|_| ())),
        Kind::Gateway => all(tollgate_core::gateway::Config::parse(json).map(|_| ())),
        Kind::UpstreamAdapter => all(adapt::Providers::parse(json).map(|_| ())),
        Kind::Directory => all(fetch::Config::parse(json).map(|_| ())),
        Kind::Fleet => all(fleet::Config::parse(json).map(|_| ())),
        Kind::Document => all(Loader::load(json.to_vec()).map(|_| ())),
        Kind::Usage => all(tollgate_core::usage::log::Config::parse(json).map(|_| ())),
        // It has nothing to configure.
        Kind::Attempts => Vec::new(),
    }
}

/// The path that the member `name` is missing at, once it is taken out.
fn parent(path: &str, name: &str) -> String {
    let parent = path.strip_suffix(name).unwrap_or(path);
    parent.strip_suffix('.').unwrap_or(parent).to_owned()
}

fn told(found: &Found<'_>, error: &ConfigError) -> (Place, String) {
    let about_name = error.problem.starts_with("unknown field") || error.problem.starts_with("missing field");
    let place = match found.entry {
        Some(entry) if about_name => entry.place,
        _ => twice(found, &error.problem).unwrap_or_else(|| found.place()),
    };
    (place, format!("{error}{}", hint(found, &error.problem)))
}

/// The loader speaks of the list where two rows do not go together: the second one's place.
fn twice(found: &Found<'_>, problem: &str) -> Option<Place> {
    let same = problem.contains("is given twice") || problem.contains("have the same sha256");
    let name = problem
        .split('`')
        .filter(|_| same)
        .nth(if problem.contains("and `") { 3 } else { 1 })?;
    let mut rows = found.node.items().iter();
    let row = rows.rfind(|row| row.text_at(&["id"]) == Some(name))?;
    Some(row.place)
}

/// What an operator can't see in the file.
fn hint(found: &Found<'_>, problem: &str) -> String {
    let scalar = found.node.scalar().filter(|scalar| scalar.plain);
    if let Some(scalar) = scalar
        && problem.starts_with("invalid type: boolean")
        && parse_bool(&scalar.text).is_some()
    {
        return format!("; an unquoted `{}` is a boolean: put it in quotes", scalar.text);
    }
    if scalar.is_some() && problem.ends_with("expected a string") && !problem.contains("null") {
        return "; a duration or a rate has a unit, and a name of digits stands in quotes".to_owned();
    }
    if problem.starts_with("unknown field")
        && let Some(near) = nearest(problem)
    {
        return format!(": did you mean `{near}`?");
    }
    String::new()
}

/// Of the fields that an error names as expected the one most like the one that it found.
fn nearest(problem: &str) -> Option<&str> {
    let mut names = problem.split('`').skip(1).step_by(2);
    let found = names.next()?;
    super::near::nearest(found, names)
}

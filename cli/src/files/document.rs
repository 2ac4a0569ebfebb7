//! A file, what it is, and which others it belongs to.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use super::build::{Merge, Origin, build};
use super::finding::{Place, Report};
use super::kind::Kind;
use super::secrets;
use super::source::Source;
use super::survey::Survey;
use super::tree::{Node, Shift};

/// A file, and what it is.
pub(crate) struct Document<'s> {
    pub(crate) source: &'s Source,
    pub(crate) root: Rc<Node>,
    pub(crate) contents: Contents,
}

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contents {
    /// A whole Envoy.
    Bootstrap,
    /// A part of one.
    Envoy,
    /// What stands in the configuration of a filter, or a directory document.
    Bare(Kind),
    /// Another program's.
    Foreign,
}

impl<'s> Document<'s> {
    pub(crate) fn read(source: &'s Source, report: &mut Report) -> Option<Self> {
        secrets::check(source, report);
        let origin = Origin {
            file: source.file,
            shift: Shift::default(),
        };
        let root = build(&source.text, origin, Merge::No, report)?;
        let contents = contents(&root);
        if contents == Contents::Bare(Kind::Document) {
            json(source, report);
        }
        let root = match contents {
            // Envoy's reader knows no merge keys, and this is not read by it.
            Contents::Bare(Kind::Document) => {
                build(&source.text, origin, Merge::Yes, &mut Report::default())?
            }
            _ => root,
        };
        match contents {
            Contents::Foreign if source.named => {
                let text = "is no file that Envoy or Tollgate reads: expected a bootstrap, `resources`, a directory document (`version`, `orgs`, `keys`) or the configuration of a filter";
                report.error(Place::start(source.file), text);
            }
            Contents::Bootstrap | Contents::Envoy => merge_keys(&root, report),
            _ => {}
        }
        Some(Self {
            source,
            root,
            contents,
        })
    }

    pub(crate) fn is_bootstrap(&self) -> bool {
        self.contents == Contents::Bootstrap
    }

    fn folder(&self) -> &Path {
        self.source.full.parent().unwrap_or(Path::new(""))
    }
}

fn contents(root: &Rc<Node>) -> Contents {
    let has = |names: &[&str]| names.iter().any(|name| root.get(name).is_some());
    if has(&["static_resources", "dynamic_resources"]) {
        return Contents::Bootstrap;
    }
    if has(&[
        "resources",
        "bootstrap_extensions",
        "admin",
        "layered_runtime",
        "filter_chains",
        "load_assignment",
    ]) {
        return Contents::Envoy;
    }
    if has(&["services"]) {
        return Contents::Foreign;
    }
    if let Some(kind) = Kind::of(root) {
        return Contents::Bare(kind);
    }
    let mut survey = Survey::default();
    survey.add(root);
    if survey.plugins.is_empty() && survey.chains.is_empty() && survey.clusters.is_empty() {
        Contents::Foreign
    } else {
        Contents::Envoy
    }
}

/// A document that is served as it is has to be JSON, and that is less than YAML.
fn json(source: &Source, report: &mut Report) {
    if source.path.extension().is_none_or(|ending| ending != "json") {
        return;
    }
    if source.marked {
        let text = "begins with a byte order mark, which is no JSON: save it without";
        report.error(Place::start(source.file), text);
    }
    if let Err(error) = serde_json::from_str::<&serde_json::value::RawValue>(&source.text) {
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).max(1);
        let place = Place {
            file: source.file,
            line: number(error.line()),
            column: number(error.column()),
        };
        let said = error.to_string();
        let said = said.split(" at line ").next().unwrap_or_default();
        report.error(place, format!("is not JSON: {said}"));
    }
}

/// Envoy takes `<<` for a member's name.
fn merge_keys(root: &Rc<Node>, report: &mut Report) {
    root.walk(&mut |node| {
        if let Some(entry) = node.entry("<<") {
            let text = "Envoy reads no merge keys: write the members out, or use an alias for the whole map";
            report.error(entry.place, text);
        }
    });
}

/// Files by the Envoy that they belong to: that of the nearest folder above with a bootstrap in it. Where there is one
/// such folder, all belong to it.
pub(crate) fn groups<'d, 's>(documents: &'d [Document<'s>]) -> Vec<Vec<&'d Document<'s>>> {
    let mut folders: Vec<&Path> = documents
        .iter()
        .filter(|document| document.is_bootstrap())
        .map(Document::folder)
        .collect();
    folders.sort();
    folders.dedup();
    let mut groups: BTreeMap<&Path, Vec<&Document<'s>>> = BTreeMap::new();
    for document in documents {
        let mut above = document.folder().ancestors();
        let nearest = above.find(|folder| folders.contains(folder));
        let only = folders.first().copied().filter(|_| folders.len() == 1);
        groups
            .entry(nearest.or(only).unwrap_or(Path::new("")))
            .or_default()
            .push(document);
    }
    groups.into_values().collect()
}

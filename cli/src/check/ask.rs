//! What the Envoy that is here says of files.

use std::rc::Rc;

use super::complaint::Complaint;
use super::envoy::Envoy;
use super::stand_in::StandIn;
use crate::files::document::{Contents, Document};
use crate::files::envoy_files::EnvoyFiles;
use crate::files::finding::{Place, Report};
use crate::files::locate::{Found, find};
use crate::files::tree::Node;

/// Holds the files of one Envoy against the Envoy that is here.
pub(super) fn ask(envoy: &Envoy, group: &[&Document<'_>], files: &EnvoyFiles<'_>, report: &mut Report) {
    let roots: Vec<Rc<Node>> = group.iter().map(|document| Rc::clone(&document.root)).collect();
    envoy.check_age(&files.survey, &roots, report);
    for document in group {
        if let Some((complaint, place)) = complaint(envoy, document) {
            let text = complaint.text.as_str();
            // A file for another machine, or a container, names modules and certificates that are there and not here.
            if complaint.is_of_elsewhere() {
                report.warning(place, format!("Envoy could not look at all of it: {text}"));
            } else {
                report.error(place, format!("Envoy refuses it: {text}"));
            }
        }
    }
}

/// What Envoy says of a file that it reads by itself, and the place in it.
fn complaint(envoy: &Envoy, document: &Document<'_>) -> Option<(Complaint, Place)> {
    let start = Place::start(document.source.file);
    if document.is_bootstrap() {
        let complaint = envoy.validate(&document.source.path)?;
        let place = complaint
            .path
            .as_ref()
            .map(|path| place_of(&find(&document.root, path), &complaint));
        return Some((complaint, place.unwrap_or(start)));
    }
    let stand_in = StandIn::of(&document.root).filter(|_| document.contents == Contents::Envoy)?;
    let file = tempfile::Builder::new()
        .prefix("tollgate-check-")
        .suffix(".json")
        .tempfile();
    let complaint = match file.and_then(|file| std::fs::write(file.path(), &stand_in.json).map(|()| file)) {
        Ok(file) => envoy.validate(file.path())?,
        Err(error) => Complaint::plain(format!("a file for it can't be written: {error}")),
    };
    let place = complaint
        .path
        .as_ref()
        .and_then(|path| Some(place_of(&stand_in.find(path)?, &complaint)));
    Some((complaint, place.unwrap_or(start)))
}

fn place_of(found: &Found<'_>, complaint: &Complaint) -> Place {
    match found.entry {
        Some(entry) if complaint.of_name => entry.place,
        _ => found.place(),
    }
}

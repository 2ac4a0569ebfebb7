//! Explains what core noted of a request: each decision with its rule, and where that stands.

mod caller;
mod end;
mod limits;
mod route;

use serde_json::Value;
use tollgate_core::catalogue::Model;
use tollgate_core::trace::{Note, Room};

use super::directory::Directory;
use super::gateway::{Gateway, place};
use super::lines::{Explanation, Line};
use super::request::Request;
use super::simulator::Simulation;
use crate::files::finding::Report;

const AUTH: &str = "key-auth";
const ROUTE: &str = "tenant-router";
const LIMITS: &str = "rate-limit";

/// Puts into words what was noted.
pub(super) fn explain(
    request: &Request,
    simulation: &Simulation,
    (gateway, directory, report): (&Gateway, &Directory, &Report),
) -> Explanation {
    let mut explainer = Explainer {
        request,
        simulation,
        gateway,
        directory,
        report,
        org: text(directory.member(&request.key, "org")),
        project: directory
            .member(&request.key, "project")
            .and_then(Value::as_str)
            .map(str::to_owned),
        model: None,
        lines: Vec::new(),
        decided: None,
    };
    simulation.notes.iter().for_each(|note| explainer.note(note));
    explainer.end()
}

struct Explainer<'a> {
    request: &'a Request,
    simulation: &'a Simulation,
    gateway: &'a Gateway,
    directory: &'a Directory,
    report: &'a Report,
    org: String,
    project: Option<String>,
    /// The model that the notes are about.
    model: Option<&'a Model>,
    lines: Vec<Line>,
    /// Where the rule stands that refused.
    decided: Option<String>,
}

fn text(value: Option<&Value>) -> String {
    value.and_then(Value::as_str).unwrap_or_default().to_owned()
}

impl<'a> Explainer<'a> {
    fn note(&mut self, note: &'a Note) {
        match note {
            Note::Passed(check) => self.passed(*check),
            Note::Model { asked, found } => self.named(asked, found.as_ref()),
            Note::Fallback { allowed, models } if !models.is_empty() => self.fallback(*allowed, models),
            Note::StandIn(name) => {
                self.model = self.gateway.route.catalogue.get(name);
                let at = self.router(&format!("catalogue.models.{name}"));
                self.add(ROUTE, "stands in", name, Some(at));
            }
            Note::Shed(name) => self.shed(name),
            Note::Targets(pool) => self.targets(pool),
            Note::Reserved { amounts, cap } => self.reserved(amounts, *cap),
            Note::Rows(covers) => covers
                .iter()
                .enumerate()
                .for_each(|(at, cover)| self.row(at, cover)),
            Note::Budget { name, unit, amount } => self.budget(name, *unit, *amount),
            Note::Capacity { model, row, room } => self.capacity(model, *row, *room),
            Note::Refused { room, reason, limit } => self.refused(*room, reason, *limit),
            // What they say is in the lines of others, or depends on a draw.
            Note::Caller { .. } | Note::Fallback { .. } | Note::Target { .. } | Note::Limit { .. } => {}
        }
    }

    fn refused(&mut self, room: Room, reason: &str, limit: Option<usize>) {
        let (step, rule) = match room {
            Room::Auth => (AUTH, self.of_auth(reason)),
            Room::Route => (ROUTE, self.of_route(reason)),
            // Its line is among those of all limits.
            Room::Limits => {
                self.decided = limit.map(|row| self.limits(&format!("limits[{row}]")));
                return;
            }
        };
        let (why, place) = rule.map_or((None, None), |(why, place)| (Some(why), Some(place)));
        self.decided.clone_from(&place);
        let rule = why.map_or(reason.to_owned(), |why| format!("{reason}: {why}"));
        self.add(step, "refused", &rule, place);
    }

    fn add(&mut self, step: &'static str, decision: &str, rule: &str, at: Option<String>) {
        self.lines.push(Line {
            step,
            decision: decision.to_owned(),
            rule: rule.to_owned(),
            at,
        });
    }

    fn key_path(&self, member: &str) -> String {
        self.directory.key_path(&self.request.key, member)
    }

    fn org_path(&self, member: &str) -> String {
        format!("orgs.{}.{member}", self.org)
    }

    fn project_path(&self, member: &str) -> String {
        let project = self.project.as_deref().unwrap_or_default();
        format!("orgs.{}.projects.{project}.{member}", self.org)
    }

    fn directory_at(&self, path: &str) -> String {
        self.directory
            .place(path, (&self.request.key, &self.org), self.report)
    }

    fn router(&self, path: &str) -> String {
        place(&self.gateway.router, path, self.report)
    }

    fn limits(&self, path: &str) -> String {
        place(&self.gateway.limits, path, self.report)
    }
}

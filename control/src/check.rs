//! Whether the filters would take what is to be written: the same core judges it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use tollgate_core::directory::Loader;

use crate::directory::{key_row, org_member};
use crate::documents::{CapRate, Key, KeySpec, Org, Project, Target, Traffic};
use crate::problem::Problem;
use crate::secret;
use crate::text::is_unprintable;
use crate::time;

/// Models of an organization, as names or patterns.
const ORG_MODELS: usize = 1_000;
/// The same of a project or key, of those that its organization has.
const MODELS: usize = 100;
/// Networks of a key.
const NETWORKS: usize = 32;
/// Scopes of a key.
const SCOPES: usize = 32;
/// Labels of an organization or project.
const LABELS: usize = 32;

/// Checks an organization, or one of its projects.
pub(crate) fn org(org: &Org, projects: &[Project]) -> Result<(), Problem> {
    let spec = &org.spec;
    if projects.is_empty() {
        id(&org.id)?;
        at_most("models", spec.models.len(), ORG_MODELS)?;
        at_most("labels", spec.labels.len(), LABELS)?;
        labels(&spec.labels)?;
        contacts(&spec.contacts)?;
    }
    for Project { id: name, spec, .. } in projects {
        id(name)?;
        at_most("models", spec.models.as_ref().map_or(0, Vec::len), MODELS)?;
        at_most("labels", spec.labels.len(), LABELS)?;
        labels(&spec.labels)?;
        contacts(&spec.contacts)?;
    }
    let at = match projects {
        [project] => format!("orgs.{}.projects.{}", org.id, project.id),
        _ => format!("orgs.{}", org.id),
    };
    judge(
        json!({"version": 1, "orgs": {&org.id: org_member(org, projects)}, "keys": []}),
        &at,
    )
}

/// Checks the rows of keys; the error says which row, unless there is but one.
pub(crate) fn keys(keys: &[Key]) -> Result<(), Problem> {
    for (at, key) in keys.iter().enumerate() {
        let checked = id(&key.id).and_then(|()| key_spec(&key.spec));
        checked.map_err(|problem| match keys {
            [_] => problem,
            _ => problem.nested_in(&format!("keys[{at}]")),
        })?;
    }
    let mut orgs = Map::new();
    for key in keys {
        let org = orgs.entry(&key.org).or_insert_with(|| json!({"projects": {}}));
        if let (Some(projects), Some(project)) = (org["projects"].as_object_mut(), &key.project) {
            projects.entry(project).or_insert_with(|| json!({}));
        }
    }
    let rows: Vec<Value> = keys.iter().map(key_row).collect();
    let at = if rows.len() == 1 { "keys[0]" } else { "" };
    judge(json!({"version": 1, "orgs": orgs, "keys": rows}), at)
}

/// Checks an id, beyond what the filters want of it. `.` and `..` can't stand in a path: URLs drop them.
fn id(id: &str) -> Result<(), Problem> {
    if matches!(id, "." | "..") {
        return Err(Problem::invalid("id", id, "another name than `.` and `..`"));
    }
    no_secret("id", id)
}

/// Checks labels, beyond what the filters want of them.
fn labels(labels: &BTreeMap<String, String>) -> Result<(), Problem> {
    let check = |field: &str, text: &str| match text.chars().any(is_unprintable) {
        false => Ok(()),
        true => Err(Problem::field(
            field,
            "expected text without control characters or others that nobody sees",
        )),
    };
    labels.iter().try_for_each(|(name, value)| {
        check("labels", name)?;
        check(&format!("labels.{name}"), value)
    })
}

fn key_spec(spec: &KeySpec) -> Result<(), Problem> {
    name(spec.name.as_deref())?;
    contacts(&spec.contacts)?;
    time::ensure_rfc3339("not_before", spec.not_before.as_deref())?;
    time::ensure_rfc3339("expires_at", spec.expires_at.as_deref())?;
    for (field, list, most) in [
        ("models", &spec.models, MODELS),
        ("networks", &spec.networks, NETWORKS),
        ("scopes", &spec.scopes, SCOPES),
    ] {
        at_most(field, list.as_ref().map_or(0, Vec::len), most)?;
    }
    Ok(())
}

/// Every gateway holds what a list has.
fn at_most(field: &str, found: usize, most: usize) -> Result<(), Problem> {
    if found <= most {
        return Ok(());
    }
    Err(Problem::field(
        field,
        format!("found {found}, expected at most {most}"),
    ))
}

/// Checks a name for people, which no filter reads.
pub(crate) fn name(name: Option<&str>) -> Result<(), Problem> {
    match name {
        Some(name) if !is_line(name, 64) => Err(Problem::field(
            "name",
            "expected at most 64 characters, without control characters or others that nobody sees",
        )),
        Some(name) => no_secret("name", name),
        None => Ok(()),
    }
}

/// Checks a reason, which the trail keeps for ever.
pub(crate) fn reason(reason: &str) -> Result<(), Problem> {
    if !is_line(reason, 500) {
        return Err(Problem::field(
            "reason",
            "expected at most 500 characters, without control characters or others that nobody sees",
        ));
    }
    no_secret("reason", reason)
}

/// A key or token in the wrong place would be kept in clear, and shown.
pub(crate) fn no_secret(field: &str, text: &str) -> Result<(), Problem> {
    if secret::is_in(text) {
        return Err(Problem::field(
            field,
            "this holds a key or a token, which is to be kept nowhere: name it by its id",
        ));
    }
    Ok(())
}

/// The same of all names and values below a path.
fn no_secret_below(path: &str, value: &Value) -> Result<(), Problem> {
    match value {
        Value::String(text) => no_secret(path, text),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .try_for_each(|(at, item)| no_secret_below(&format!("{path}[{at}]"), item)),
        Value::Object(members) => members.iter().try_for_each(|(name, value)| {
            no_secret(path, name)?;
            let path = if path.is_empty() {
                name.clone()
            } else {
                format!("{path}.{name}")
            };
            no_secret_below(&path, value)
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

fn contacts(contacts: &[String]) -> Result<(), Problem> {
    if contacts.len() <= 16 && contacts.iter().all(|contact| is_line(contact, 128)) {
        return contacts
            .iter()
            .try_for_each(|contact| no_secret("contacts", contact));
    }
    Err(Problem::field(
        "contacts",
        "expected at most 16, of at most 128 characters each, without control characters or others that nobody sees",
    ))
}

fn is_line(text: &str, most: usize) -> bool {
    text.chars().count() <= most && !text.chars().any(is_unprintable)
}

/// Checks what a cap allows.
pub(crate) fn cap(rate: &CapRate) -> Result<(), Problem> {
    judge(
        json!({"version": 1, "orgs": {"it": {"cap": rate}}, "keys": []}),
        "orgs.it.cap",
    )
}

/// Checks what a restriction is on.
pub(crate) fn traffic(target: &Target) -> Result<(), Problem> {
    let traffic = Traffic::of(core::iter::once(target));
    let document = json!({"version": 1, "orgs": {}, "keys": [], "traffic": traffic});
    let (at, member) = match target {
        Target::Models(_) => ("traffic.shed[0]", "target.models"),
        _ => ("traffic.drained[0]", "target.cluster"),
    };
    judge(document, at).map_err(|problem| problem.nested_in(member))
}

fn judge(document: Value, at: &str) -> Result<(), Problem> {
    let text = document.to_string();
    if secret::is_in(&text) {
        no_secret_below("", &document).map_err(|problem| problem.below(at))?;
    }
    let judged = Loader::load(text.into_bytes());
    judged
        .map(|_| ())
        .map_err(|errors| Problem::from_config_errors(&errors, at))
}

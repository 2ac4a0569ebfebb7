//! Whether the filters would take what is to be written: the same core judges it.

use serde_json::{Map, Value, json};
use tollgate_core::directory::Loader;
use tollgate_core::key::{Form, form};

use crate::access::PREFIX;
use crate::directory::{key_row, org_member};
use crate::documents::{CapRate, Key, KeySpec, Org, Project, Target, Traffic};
use crate::problem::Problem;

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
        at_most("models", spec.models.len(), ORG_MODELS)?;
        at_most("labels", spec.labels.len(), LABELS)?;
        contacts(&spec.contacts)?;
    }
    for Project { spec, .. } in projects {
        at_most("models", spec.models.as_ref().map_or(0, Vec::len), MODELS)?;
        at_most("labels", spec.labels.len(), LABELS)?;
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
        let checked = key_spec(&key.spec);
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

fn key_spec(spec: &KeySpec) -> Result<(), Problem> {
    name(spec.name.as_deref())?;
    contacts(&spec.contacts)?;
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
            "expected at most 64 characters, without control characters",
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
            "expected at most 500 characters, without control characters",
        ));
    }
    no_secret("reason", reason)
}

/// A key or token in the wrong place would be kept in clear, and shown.
fn no_secret(field: &str, text: &str) -> Result<(), Problem> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && !"-_".contains(c));
    let is_ours = |word: &str| form(word.as_bytes()) != Form::Foreign || word.starts_with(PREFIX);
    if words.into_iter().any(|word| word.len() > 20 && is_ours(word)) {
        return Err(Problem::field(
            field,
            "this holds a key or a token, which is to be kept nowhere: name it by its id",
        ));
    }
    Ok(())
}

fn contacts(contacts: &[String]) -> Result<(), Problem> {
    if contacts.len() <= 16 && contacts.iter().all(|contact| is_line(contact, 128)) {
        return contacts
            .iter()
            .try_for_each(|contact| no_secret("contacts", contact));
    }
    Err(Problem::field(
        "contacts",
        "expected at most 16, of at most 128 characters each, without control characters",
    ))
}

fn is_line(text: &str, most: usize) -> bool {
    text.chars().count() <= most && !text.chars().any(char::is_control)
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
    let judged = Loader::load(document.to_string().into_bytes());
    judged
        .map(|_| ())
        .map_err(|errors| Problem::from_config_errors(&errors, at))
}

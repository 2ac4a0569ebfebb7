//! Each filter of ours by itself: how Envoy loads it, and what it is told.

use std::rc::Rc;

use super::build::{Merge, Origin, build};
use super::finding::{Place, Report};
use super::kind::Kind;
use super::near::nearest;
use super::parse;
use super::scalar::{Reader, parse_bool};
use super::survey::{Form, NATIVE, Plugin, type_of};
use super::tree::{Node, Value};

/// A filter whose configuration is good.
#[derive(Debug, Clone)]
pub(crate) struct ValidPlugin {
    pub(crate) kind: Kind,
    pub(crate) plugin: Plugin,
    /// Its configuration.
    pub(crate) root: Rc<Node>,
}

impl ValidPlugin {
    /// One that is a file of its own, without what loads its filter.
    pub(crate) fn bare(kind: Kind, root: &Rc<Node>) -> Self {
        let plugin = Plugin {
            kind: Some(kind),
            form: Form::Native,
            node: Rc::clone(root),
            resource: None,
        };
        Self {
            kind,
            plugin,
            root: Rc::clone(root),
        }
    }
}

/// Checks one; `None` where others can't be held against it.
pub(crate) fn check(plugin: &Plugin, report: &mut Report) -> Option<ValidPlugin> {
    let Some(kind) = plugin.kind else {
        unnamed(plugin, report);
        return None;
    };
    if plugin.form == Form::Wasm {
        load(plugin, kind, report);
    }
    let member = match plugin.form {
        Form::Wasm => "configuration",
        Form::Native => configuration(&plugin.node),
    };
    let Some(any) = plugin.node.get(member) else {
        if kind != Kind::Attempts {
            let text = format!(
                "`{}` has no `{member}`: without one it refuses every request",
                kind.name()
            );
            report.error(plugin.node.place, text);
        }
        return None;
    };
    let root = settings(kind, any, report)?;
    Some(ValidPlugin {
        kind,
        plugin: plugin.clone(),
        root,
    })
}

/// The configuration that Envoy hands over as it is.
fn settings(kind: Kind, any: &Node, report: &mut Report) -> Option<Rc<Node>> {
    let (place, named) = (any.place, type_of(any));
    let value = any.get("value");
    match (named.rsplit('.').next().unwrap_or_default(), value) {
        ("Struct", Some(value)) if matches!(value.value, Value::Map(_)) => {
            parse::check(kind, value, Reader::Envoy, report).then(|| Rc::clone(value))
        }
        ("StringValue", Some(value)) if value.scalar().is_some() => text(kind, value, report),
        ("Struct", Some(value)) if value.scalar().is_some() => {
            report.error(value.place, "a google.protobuf.Struct is a map, and this is text: take off the `|` or the quotes, or say google.protobuf.StringValue and write JSON");
            None
        }
        ("StringValue", Some(value)) => {
            report.error(
                any_type(any).unwrap_or(value.place),
                "a google.protobuf.StringValue is text, and its `value` is none: say google.protobuf.Struct",
            );
            None
        }
        ("Struct" | "StringValue", _) => {
            report.error(place, "the configuration has no `value`");
            None
        }
        ("", _) => {
            report.error(place, "a configuration needs `\"@type\": type.googleapis.com/google.protobuf.Struct`, and stands in its `value`");
            None
        }
        _ => {
            let text = "expected google.protobuf.Struct, or google.protobuf.StringValue with JSON";
            report.error(any_type(any).unwrap_or(place), text);
            None
        }
    }
}

fn any_type(any: &Node) -> Option<Place> {
    any.get("@type").map(|node| node.place)
}

/// JSON in a string.
fn text(kind: Kind, value: &Node, report: &mut Report) -> Option<Rc<Node>> {
    let scalar = value.scalar()?;
    let file = value.place.file;
    if let Err(error) = serde_json::from_str::<&serde_json::value::RawValue>(scalar.lines()) {
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let place = scalar
            .inside
            .place(file, number(error.line()).max(1), number(error.column()).max(1));
        let said = error.to_string();
        let said = said.split(" at line ").next().unwrap_or_default();
        report.error(
            place,
            format!("a google.protobuf.StringValue reaches the filter as it is written, and this is not JSON ({said}): write JSON, or a google.protobuf.Struct"),
        );
        return None;
    }
    let origin = Origin {
        file,
        shift: scalar.inside,
    };
    let root = build(scalar.lines(), origin, Merge::No, report)?;
    parse::check_text(kind, scalar.text.as_bytes(), &root, report).then_some(root)
}

/// The member that a native one's configuration is.
fn configuration(node: &Node) -> &'static str {
    let mut names = NATIVE.iter();
    let found = names.find(|(name, _)| node.get(name).is_some());
    found.map_or("filter_config", |(_, configuration)| configuration)
}

fn unnamed(plugin: &Plugin, report: &mut Report) {
    let names = ["root_id"].into_iter().chain(NATIVE.map(|(name, _)| name));
    let entry = names.filter_map(|name| plugin.node.entry(name)).next();
    let Some(entry) = entry else {
        report.error(
            plugin.node.place,
            "has no `root_id`: it says which part of the module this is, such as `key-auth`",
        );
        return;
    };
    let name = entry.value.text().unwrap_or_default();
    let meant = nearest(name, Kind::all()).map_or(String::new(), |near| format!(": did you mean `{near}`?"));
    let all: Vec<&str> = Kind::all().collect();
    report.error(
        entry.value.place,
        format!(
            "`{}` is no part of Tollgate{meant} (there are {})",
            tollgate_core::key::shown(name, 64),
            all.join(", ")
        ),
    );
}

/// What Envoy is told about a module.
fn load(plugin: &Plugin, kind: Kind, report: &mut Report) {
    let node = &plugin.node;
    let held = node.entry("allow_on_headers_stop_iteration");
    let on = held.and_then(|entry| entry.value.text()).and_then(parse_bool);
    if kind.waits() && on != Some(true) {
        let place = held.map_or(node.place, |entry| entry.value.place);
        report.error(
            place,
            format!(
                "`{}` waits for the body with the headers in hand, and Envoy keeps the body from it: needs `allow_on_headers_stop_iteration: true`",
                kind.name()
            ),
        );
    }
    if let Some(policy) = node.get("failure_policy")
        && policy.text() == Some("FAIL_OPEN")
    {
        let text = "with FAIL_OPEN a filter that breaks lets everybody in: expected FAIL_RELOAD";
        report.error(policy.place, text);
    }
    if let Some(open) = node.get("fail_open")
        && open.text().and_then(parse_bool) == Some(true)
    {
        let text =
            "a filter that breaks would let everybody in: expected `failure_policy: FAIL_RELOAD` instead";
        report.error(open.place, text);
    }
    if kind.is_filter() && node.get("failure_policy").is_none() && node.get("fail_open").is_none() {
        let text =
            "without `failure_policy: FAIL_RELOAD` a filter that broke once refuses all requests for good";
        report.warning(node.place, text);
    }
    module(node, kind, report);
}

/// Whether the part is in the module.
fn module(node: &Node, kind: Kind, report: &mut Report) {
    let path = ["vm_config", "code", "local", "filename"];
    let Some(file) = node.at(&path) else { return };
    let parts: &[Kind] = match file.text().and_then(|file| file.rsplit('/').next()) {
        Some("tollgate-key-auth.wasm") => &[Kind::KeyAuth, Kind::Directory],
        Some("tollgate-tenant-router.wasm") => &[Kind::TenantRouter, Kind::Attempts],
        Some("tollgate-rate-limit.wasm") => &[Kind::RateLimit, Kind::Fleet],
        Some("tollgate-upstream-adapter.wasm") => &[Kind::UpstreamAdapter],
        Some("tollgate-gateway.wasm") => &[Kind::Gateway, Kind::Directory, Kind::Attempts, Kind::Fleet],
        _ => return,
    };
    if !parts.contains(&kind) {
        let names: Vec<&str> = parts.iter().map(|part| part.name()).collect();
        let text = format!(
            "this module has no `{}`: it has {}",
            kind.name(),
            names.join(" and ")
        );
        report.error(file.place, text);
    }
}

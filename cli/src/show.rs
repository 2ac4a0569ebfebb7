//! Prints what a control plane answered: for people, or as JSON.

use serde_json::Value;

use crate::client::{Answer, Client};

/// An object: a line for each member.
pub(crate) fn object(client: &Client, object: &Value) {
    if client.json() {
        println!("{object:#}");
        return;
    }
    let width = object
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, _)| name.len())
        .max()
        .unwrap_or(0);
    for (name, value) in object.as_object().into_iter().flatten() {
        println!("{name:width$}  {}", text(value));
    }
}

/// A list: a line for each item, of these members.
pub(crate) fn list(client: &Client, items: &[Value], members: &[&str]) {
    if client.json() {
        println!("{:#}", Value::from(items));
        return;
    }
    let cell = |item: &Value, member: &str| text(item.pointer(&format!("/{member}")).unwrap_or(&Value::Null));
    let rows: Vec<Vec<String>> = items
        .iter()
        .map(|item| members.iter().map(|member| cell(item, member)).collect())
        .collect();
    let title: Vec<String> = members
        .iter()
        .map(|member| member.rsplit('/').next().unwrap_or(member).to_uppercase())
        .collect();
    let all: Vec<&Vec<String>> = core::iter::once(&title).chain(&rows).collect();
    let width = |column: usize| {
        all.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
    };
    let widths: Vec<usize> = (0..members.len())
        .map(|column| width(column).unwrap_or(0))
        .collect();
    for row in all {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}", width = *width))
            .collect();
        println!("{}", cells.join("  ").trim_end());
    }
}

/// What came of a change; `done` says it in one line.
pub(crate) fn changed(client: &Client, answer: &Answer, done: impl FnOnce(&Value) -> String) {
    if client.json() {
        println!("{:#}", answer.body);
    } else if answer.body.get("dry_run").is_some() {
        preview(&answer.body);
    } else {
        println!("{}", done(&answer.body));
    }
}

fn preview(body: &Value) {
    let changes = body
        .get("changes")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    println!("Dry run, nothing changed. Would change:");
    for change in changes {
        let word = |name: &str| text(change.get(name).unwrap_or(&Value::Null));
        println!("{} {}", word("kind"), word("id"));
        differences(change.get("before"), change.get("after"));
    }
}

/// The members in which two objects differ.
pub(crate) fn differences(before: Option<&Value>, after: Option<&Value>) {
    let names = |value: Option<&Value>| -> Vec<String> {
        value
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .map(|(name, _)| name.clone())
            .collect()
    };
    let mut all = names(before);
    all.extend(names(after));
    all.sort_unstable();
    all.dedup();
    for name in all {
        let of = |value: Option<&Value>| value.and_then(|value| value.get(&name)).cloned();
        let (before, after) = (of(before), of(after));
        if before != after {
            if let Some(before) = before {
                println!("  - {name}: {}", text(&before));
            }
            if let Some(after) = after {
                println!("  + {name}: {}", text(&after));
            }
        }
    }
}

/// A value in one line. What came from others can't move the cursor.
pub(crate) fn text(value: &Value) -> String {
    let text = match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.iter().all(Value::is_string) => items
            .iter()
            .filter_map(Value::as_str)
            .collect::<Vec<_>>()
            .join(", "),
        other => other.to_string(),
    };
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// A member's text.
pub(crate) fn member(object: &Value, name: &str) -> String {
    object.get(name).map_or_else(String::new, text)
}

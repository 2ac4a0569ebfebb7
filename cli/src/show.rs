//! Prints what a control plane answered: for people, or as JSON.

use anyhow::{Result, anyhow};
use serde_json::Value;
use tollgate_control::text::is_unprintable;

use crate::client::{Answer, Client};
use crate::out::{errln, outln, sanitized};

/// An object: a line for each member.
pub(crate) fn object(client: &Client, object: &Value) -> Result<()> {
    if client.wants_json() {
        outln!("{}", json(object))?;
        return Ok(());
    }
    let width = object
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, _)| name.chars().count())
        .max()
        .unwrap_or(0);
    for (name, value) in object.as_object().into_iter().flatten() {
        outln!("{:width$}  {}", sanitized(name), text(value))?;
    }
    Ok(())
}

/// A list: a line for each item, of these members.
pub(crate) fn list(client: &Client, items: &[Value], members: &[&str]) -> Result<()> {
    if client.wants_json() {
        outln!("{}", json(&Value::from(items)))?;
        return Ok(());
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
        outln!("{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

/// What came of a change; `done` says it in one line.
pub(crate) fn changed(client: &Client, answer: &Answer, done: impl FnOnce(&Value) -> String) -> Result<()> {
    if client.wants_json() {
        outln!("{}", json(&answer.body))?;
    } else if answer.body.get("dry_run").is_some() {
        preview(&answer.body)?;
    } else {
        outln!("{}", done(&answer.body))?;
    }
    Ok(())
}

/// What was made with a secret of its own, which stands alone on standard output, for a pipe. It is kept nowhere: where
/// it can't be printed, `lost` says of its id what to do.
pub(crate) fn created(
    client: &Client,
    answer: &Answer,
    noun: &str,
    lost: impl FnOnce(&str) -> String,
) -> Result<()> {
    let Some(secret) = answer.body.get("secret") else {
        return changed(client, answer, |made| {
            format!("Created {noun} {}.", member(made, "id"))
        });
    };
    let id = member(&answer.body, "id");
    let printed = if client.wants_json() {
        outln!("{}", json(&answer.body))
    } else {
        errln!("# The {noun} {id}. It is shown this once and kept nowhere.");
        outln!("{}", text(secret))
    };
    // Its reader may be gone, yet this is told: the secret was made.
    printed.map_err(|error| anyhow!("the {noun} {id} was made, and is lost: {error}. {}", lost(&id)))
}

fn preview(body: &Value) -> Result<()> {
    let changes = body
        .get("changes")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    outln!("Dry run, nothing changed. Would change:")?;
    for change in changes {
        let word = |name: &str| text(change.get(name).unwrap_or(&Value::Null));
        outln!("{} {}", word("kind"), word("id"))?;
        differences(change.get("before"), change.get("after"))?;
    }
    Ok(())
}

/// The members in which two objects differ.
pub(crate) fn differences(before: Option<&Value>, after: Option<&Value>) -> Result<()> {
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
        let shown = sanitized(&name);
        if before != after {
            if let Some(before) = before {
                outln!("  - {shown}: {}", text(&before))?;
            }
            if let Some(after) = after {
                outln!("  + {shown}: {}", text(&after))?;
            }
        }
    }
    Ok(())
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
    sanitized(&text)
}

/// As JSON. `serde_json` leaves U+007F to U+009F as they are, which terminals obey.
pub(crate) fn json(value: &Value) -> String {
    escaped(&format!("{value:#}"))
}

/// The same in one line.
pub(crate) fn json_line(value: &Value) -> String {
    escaped(&value.to_string())
}

fn escaped(json: &str) -> String {
    json.chars()
        .fold(String::with_capacity(json.len()), |mut all, c| {
            if is_unprintable(c) && c != '\n' {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    all.push_str(&format!("\\u{unit:04x}"));
                }
            } else {
                all.push(c);
            }
            all
        })
}

/// A member's text.
pub(crate) fn member(object: &Value, name: &str) -> String {
    object.get(name).map_or_else(String::new, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::out::sanitized_lines;
    use serde_json::json;

    #[test]
    fn nothing_that_a_terminal_obeys_is_shown() {
        let hostile =
            json!({"a\u{1b}[2J\u{202e}": "b\u{9b}2J\r\n\u{7f}\u{2066}\u{200b}\u{2028}\u{feff}\u{e0041}"});
        for shown in [
            text(&hostile),
            json(&hostile),
            json_line(&hostile),
            sanitized("a\u{1b}\n"),
        ] {
            assert!(
                !shown.chars().any(|c| is_unprintable(c) && c != '\n'),
                "{shown:?}"
            );
        }
        assert_eq!(serde_json::from_str::<Value>(&json(&hostile)).unwrap(), hostile);
        assert_eq!(sanitized_lines("a\u{1b}\nb"), "a\u{fffd}\nb");
    }
}

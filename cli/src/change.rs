//! Bodies of creates and changes, of what the command line says.

use anyhow::{Result, bail, ensure};
use clap::Args;
use serde_json::{Map, Value, json};

/// Members to do without.
#[derive(Args)]
pub(crate) struct Clear {
    /// Members to clear, such as `--clear expires_at,networks`.
    #[arg(long, value_name = "MEMBER", value_delimiter = ',')]
    clear: Vec<String>,
}

impl Clear {
    /// A change (RFC 7396) of these members.
    pub(crate) fn patch(&self, mut members: Map<String, Value>) -> Result<Value> {
        for name in &self.clear {
            ensure!(
                !members.contains_key(name),
                "`{name}` is given and cleared at once: leave one of them out"
            );
            members.insert(name.clone(), Value::Null);
        }
        ensure!(
            !members.is_empty(),
            "nothing to change: give at least one option, see --help"
        );
        Ok(Value::Object(members))
    }
}

/// Inserts a member that was given.
pub(crate) fn insert_some(
    members: &mut Map<String, Value>,
    name: &str,
    value: Option<impl serde::Serialize>,
) {
    if let Some(value) = value {
        members.insert(name.to_owned(), json!(value));
    }
}

/// Labels as a merge patch, in which one without a value is removed; `None` where none is given.
pub(crate) fn labels_patch(given: &[String]) -> Option<Map<String, Value>> {
    let label = |label: &String| match label.split_once('=') {
        Some((name, value)) if !value.is_empty() => (name.to_owned(), json!(value)),
        _ => (label.trim_end_matches('=').to_owned(), Value::Null),
    };
    (!given.is_empty()).then(|| given.iter().map(label).collect())
}

/// Fails where a label has no value: of something new there is no label to remove.
pub(crate) fn ensure_labels_have_values(given: &[String]) -> Result<()> {
    let label = given.iter().find(|label| {
        label
            .split_once('=')
            .is_none_or(|(name, value)| name.is_empty() || value.is_empty())
    });
    label.map_or(Ok(()), |label| bail!("`--label {label}`: expected NAME=VALUE"))
}

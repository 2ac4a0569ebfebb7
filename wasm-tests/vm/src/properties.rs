//! Properties that a test set, as bytes or as trees that paths go on into.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::pairs;
use crate::status::Status;

/// Properties that a test set, by path.
#[derive(Clone, Default)]
pub(crate) struct Properties(BTreeMap<Vec<String>, Property>);

#[derive(Clone)]
enum Property {
    Bytes(Vec<u8>),
    /// A `google.protobuf.Struct`: a path goes on into it.
    Tree(Value),
}

pub(crate) type Found = Option<Result<Vec<u8>, Status>>;

impl Properties {
    pub(crate) fn set_bytes(&mut self, path: &[&str], value: &[u8]) {
        self.0.insert(owned(path), Property::Bytes(value.to_vec()));
    }

    pub(crate) fn set_tree(&mut self, path: &[&str], value: Value) {
        self.0.insert(owned(path), Property::Tree(value));
    }

    /// The bytes at `path`: the property itself, or what is inside of a tree that begins above it.
    pub(crate) fn find(&self, path: &[String]) -> Found {
        (0..=path.len())
            .rev()
            .find_map(|at| match self.0.get(&path[..at])? {
                Property::Bytes(bytes) if at == path.len() => Some(Ok(bytes.clone())),
                Property::Bytes(_) => None,
                Property::Tree(tree) => Some(inside(tree, &path[at..])),
            })
    }
}

/// The property inside of a tree, as Envoy gives it: text as its bytes, numbers as little-endian doubles,
/// maps and lists as pairs; `null` cannot be serialised.
fn inside(tree: &Value, path: &[String]) -> Result<Vec<u8>, Status> {
    let step = |at: &Value, part: &String| match at {
        Value::Object(map) => map.get(part).cloned(),
        Value::Array(list) => part
            .parse()
            .ok()
            .and_then(|index: usize| list.get(index).cloned()),
        _ => None,
    };
    let found = path
        .iter()
        .try_fold(tree.clone(), |at, part| step(&at, part))
        .ok_or(Status::NotFound)?;
    serialise(&found)
}

fn serialise(value: &Value) -> Result<Vec<u8>, Status> {
    let entries: Vec<pairs::Pair> = match value {
        Value::Null => return Err(Status::SerializationFailure),
        Value::Bool(value) => return Ok(vec![u8::from(*value)]),
        Value::Number(value) => return Ok(value.as_f64().unwrap_or_default().to_le_bytes().to_vec()),
        Value::String(text) => return Ok(text.clone().into_bytes()),
        Value::Array(list) => list
            .iter()
            .map(|item| Ok((serialise(item)?, Vec::new())))
            .collect::<Result<_, Status>>()?,
        Value::Object(map) => {
            let entry = |(name, item): (&String, &Value)| Ok((name.clone().into_bytes(), serialise(item)?));
            map.iter().map(entry).collect::<Result<_, Status>>()?
        }
    };
    Ok(pairs::encode(
        entries
            .iter()
            .map(|(name, value)| (name.as_slice(), value.as_slice())),
    ))
}

fn owned(path: &[&str]) -> Vec<String> {
    path.iter().map(|part| (*part).to_owned()).collect()
}

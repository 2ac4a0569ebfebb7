//! Properties: what a test set, what follows from the request and response, and filter state.

use std::collections::BTreeMap;
use std::time::UNIX_EPOCH;

use serde_json::Value;

use crate::exchange::{Exchange, View};
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

type Found = Option<Result<Vec<u8>, Status>>;

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

/// What Envoy derives from the exchange: `request.*` while this filter has the request headers, `response.*`
/// while it has the response's, and filter state always.
pub(crate) fn derived(exchange: &Exchange, request: &View, response: &View, path: &[String]) -> Found {
    let parts: Vec<&str> = path.iter().map(String::as_str).collect();
    match parts.as_slice() {
        ["request", "time"] => Some(Ok(int(nanos(exchange.started)))),
        ["request", "duration"] => exchange.ended.map(|end| {
            let lasted = end.duration_since(exchange.started).unwrap_or_default();
            Ok(int(lasted.as_nanos().try_into().unwrap_or(i64::MAX)))
        }),
        ["request", "protocol"] => Some(Ok(b"HTTP/1.1".to_vec())),
        ["request", rest @ ..] if request.headers => of_request(exchange, rest),
        ["response", "code_details"] => exchange.details.clone().map(|details| Ok(details.into_bytes())),
        ["response", "flags"] => Some(Ok(int(exchange.flags))),
        ["upstream", "request_attempt_count"] => Some(Ok(int(exchange.attempts))),
        // Where nothing could be reached a test says so, by an empty one.
        ["upstream", "local_address"] if exchange.attempts > 0 => Some(Ok(b"127.0.0.1:40000".to_vec())),
        ["response", "headers", name] if response.headers => exchange
            .response
            .headers
            .get(name)
            .map(|value| Ok(value.to_vec())),
        ["response", "code"] => {
            let code = exchange.response.headers.text(":status")?.parse().ok()?;
            Some(Ok(int(code)))
        }
        ["filter_state", key] => {
            let key = key.strip_prefix("wasm.")?;
            exchange.filter_state.get(key.as_bytes()).cloned().map(Ok)
        }
        [key] => exchange.filter_state.get(key.as_bytes()).cloned().map(Ok),
        _ => None,
    }
}

fn of_request(exchange: &Exchange, rest: &[&str]) -> Found {
    let headers = &exchange.request.headers;
    let header = |name: &str| headers.get(name).map(|value| Ok(value.to_vec()));
    let split_path = || {
        let path = headers.text(":path")?;
        let (before, after) = path.split_once('?').unwrap_or((&path, ""));
        Some((before.to_owned(), after.to_owned()))
    };
    match rest {
        ["path"] => header(":path"),
        ["url_path"] => split_path().map(|(path, _)| Ok(path.into_bytes())),
        ["query"] => split_path().map(|(_, query)| Ok(query.into_bytes())),
        ["host"] => header(":authority"),
        ["scheme"] => header(":scheme"),
        ["method"] => header(":method"),
        ["id"] => header("x-request-id"),
        ["referer"] => header("referer"),
        ["useragent"] => header("user-agent"),
        ["headers"] => Some(Ok(headers.encode())),
        ["headers", name] => header(name),
        _ => None,
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

fn int(value: i64) -> Vec<u8> {
    value.to_le_bytes().to_vec()
}

fn nanos(time: std::time::SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_nanos()
        .try_into()
        .unwrap_or(i64::MAX)
}

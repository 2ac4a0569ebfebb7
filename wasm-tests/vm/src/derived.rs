//! Properties that follow from the request and response, and filter state.

use std::time::UNIX_EPOCH;

use crate::exchange::{Exchange, View};
use crate::properties::Found;

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

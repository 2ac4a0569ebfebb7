//! What Envoy brings for parts of the job.

use serde_json::{Value, json};

use super::bootstrap::NAMESPACE;
use crate::keys::Keys;

const JSON_TO_METADATA: &str =
    "type.googleapis.com/envoy.extensions.filters.http.json_to_metadata.v3.JsonToMetadata";

/// Keys in clear.
pub(super) fn api_key_auth(keys: &Keys) -> Value {
    let credentials: Vec<Value> = keys
        .used
        .iter()
        .enumerate()
        .map(|(at, key)| json!({"key": key, "client": format!("client-{at}")}))
        .collect();
    json!({
        "name": "envoy.filters.http.api_key_auth",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuth",
            "credentials": credentials,
            // It takes the key behind `Bearer ` there.
            "key_sources": [{"header": "authorization"}],
        },
    })
}

/// One bucket for all requests, larger than any load here.
pub(super) fn local_ratelimit() -> Value {
    json!({
        "name": "envoy.filters.http.local_ratelimit",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
            "stat_prefix": "bench",
            "token_bucket": {"max_tokens": 1_000_000, "tokens_per_fill": 1_000_000, "fill_interval": "1s"},
            "filter_enabled": {"default_value": {"numerator": 100}},
            "filter_enforced": {"default_value": {"numerator": 100}},
        },
    })
}

/// The request's `model`, for the routes.
pub(super) fn model_to_metadata() -> Value {
    json_to_metadata(&json!({
        "@type": JSON_TO_METADATA,
        "request_rules": {"rules": [rule(&["model"])]},
    }))
}

/// The request's `model`, and what the answer says was used.
pub(super) fn model_and_usage_to_metadata() -> Value {
    json_to_metadata(&json!({
        "@type": JSON_TO_METADATA,
        "request_rules": {"rules": [rule(&["model"])]},
        "response_rules": {"rules": usage()},
    }))
}

fn json_to_metadata(rules: &Value) -> Value {
    json!({"name": "envoy.filters.http.json_to_metadata", "typed_config": rules})
}

/// The usage that the last event of a stream reports.
pub(super) fn sse_to_metadata() -> Value {
    let rules: Vec<Value> = usage().into_iter().map(|rule| json!({"rule": rule})).collect();
    json!({
        "name": "envoy.filters.http.sse_to_metadata",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.sse_to_metadata.v3.SseToMetadata",
            "response_rules": {"content_parser": {
                "name": "envoy.content_parsers.json",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.content_parsers.json.v3.JsonContentParser",
                    "rules": rules,
                },
            }},
        },
    })
}

fn usage() -> Vec<Value> {
    ["prompt_tokens", "completion_tokens"]
        .iter()
        .map(|tokens| rule(&["usage", tokens]))
        .collect()
}

fn rule(path: &[&str]) -> Value {
    let selectors: Vec<Value> = path.iter().map(|key| json!({"key": key})).collect();
    json!({
        "selectors": selectors,
        "on_present": {"metadata_namespace": NAMESPACE, "key": path.last()},
    })
}

//! Envoy's configuration around the filters.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use super::{Parts, Routing};
use crate::model::{LARGE, SMALL};

/// What may be held of one request: the largest bodies measured have 10 MB.
const BODY_LIMIT: u64 = 32 << 20;
const HTTP1: &str = "http_protocol_options";
/// For gRPC.
const HTTP2: &str = "http2_protocol_options";
/// Where native filters leave what they read.
pub(super) const NAMESPACE: &str = "bench";

/// All of it.
pub(super) fn of(
    parts: &Parts<'_>,
    filters: &[Value],
    upstream: &[Value],
    routing: Routing,
    extension: Option<&Value>,
    access_log: &[Value],
) -> Value {
    let router = json!({
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
    });
    let filters: Vec<&Value> = filters.iter().chain([&router]).collect();
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "http_filters": filters,
        "access_log": access_log,
        // The cluster of `nowhere` does not exist.
        "route_config": {"validate_clusters": false, "virtual_hosts": [{
            "name": "models", "domains": ["*"],
            "request_body_buffer_limit": BODY_LIMIT,
            "routes": routes(routing),
        }]},
    });
    json!({
        "node": {"id": "bench", "cluster": "bench"},
        // A filter's fetch is cut at 32 MB unless said otherwise; a million keys are 200 MB.
        "layered_runtime": {"layers": [
            {"name": "static", "static_layer": {"http.async_response_buffer_limit": 1_u64 << 30}},
        ]},
        "admin": {"address": address(SocketAddr::from(([127, 0, 0, 1], 0)))},
        "bootstrap_extensions": extension.into_iter().collect::<Vec<_>>(),
        "static_resources": {
            "listeners": [{
                "name": "bench",
                "address": address(SocketAddr::from(([127, 0, 0, 1], 0))),
                "filter_chains": [{"filters": [
                    {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager},
                ]}],
            }],
            "clusters": [
                cluster(LARGE, parts.large, HTTP1, upstream),
                cluster(SMALL, parts.small, HTTP1, upstream),
                cluster("directory", parts.documents, HTTP1, &[]),
                cluster("processor", parts.processor, HTTP2, &[]),
            ],
        },
    })
}

/// The routes: where a model's server is chosen, one that was not is nowhere.
fn routes(routing: Routing) -> Value {
    let one_each = |by: fn(&str) -> Value| json!([to(by(LARGE), LARGE), to(by(SMALL), SMALL), nowhere()]);
    match routing {
        Routing::One => json!([to(json!({"prefix": "/"}), LARGE)]),
        Routing::Target => json!([
            {
                "match": {"prefix": "/", "headers": [{"name": "x-tollgate-target", "present_match": true}]},
                "route": {"cluster_header": "x-tollgate-target", "timeout": "0s"},
            },
            nowhere(),
        ]),
        Routing::Header => one_each(
            |model| json!({"prefix": "/", "headers": [{"name": "x-model", "string_match": {"exact": model}}]}),
        ),
        Routing::Metadata => one_each(|model| {
            json!({"prefix": "/", "dynamic_metadata": [{
                "filter": NAMESPACE, "path": [{"key": "model"}],
                "value": {"string_match": {"exact": model}},
            }]})
        }),
    }
}

fn to(matched: Value, cluster: &str) -> Value {
    json!({"match": matched, "route": {"cluster": cluster, "timeout": "0s"}})
}

/// Where a request stays whose model was not found: 503.
fn nowhere() -> Value {
    json!({"match": {"prefix": "/"}, "route": {"cluster": "none"}})
}

/// A filter in wasm.
pub(super) fn filter(plugin: &Value) -> Value {
    json!({
        "name": plugin.get("name"),
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": plugin,
        },
    })
}

/// A module and its configuration, which carries its `@type`. Its VM, and shared data, are those of all of the same
/// `vm_id`.
pub(super) fn plugin(module: &Path, vm_id: &str, root_id: &str, configuration: &Value) -> Value {
    json!({
        "name": vm_id,
        "root_id": root_id,
        "failure_policy": "FAIL_RELOAD",
        // The tenant-router waits for the body with the headers in hand; the others wait for nothing.
        "allow_on_headers_stop_iteration": true,
        "vm_config": {
            "vm_id": vm_id,
            "runtime": "envoy.wasm.runtime.v8",
            "code": {"local": {"filename": module}},
        },
        "configuration": configuration,
    })
}

/// A configuration that is a map.
pub(super) fn map(value: &Value) -> Value {
    json!({"@type": "type.googleapis.com/google.protobuf.Struct", "value": value})
}

fn cluster(name: &str, addr: SocketAddr, http: &str, filters: &[Value]) -> Value {
    let codec = json!({
        "name": "envoy.filters.http.upstream_codec",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec",
        },
    });
    let chain: Vec<&Value> = filters.iter().chain([&codec]).collect();
    json!({
        "name": name, "type": "STATIC", "connect_timeout": "5s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {http: {}},
                "http_filters": chain,
            },
        },
        "load_assignment": {"cluster_name": name, "endpoints": [
            {"lb_endpoints": [{
                "endpoint": {"address": address(addr)},
                "metadata": {"filter_metadata": {"tollgate": {"provider": "bench"}}},
            }]},
        ]},
    })
}

fn address(addr: SocketAddr) -> Value {
    json!({"socket_address": {"address": addr.ip().to_string(), "port_value": addr.port()}})
}

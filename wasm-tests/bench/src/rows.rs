//! The rows of the table: what each Envoy is started with. All are alike but for the filters before the router.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::keys::Keys;

/// The row that all others are compared with.
pub(crate) const BARE: &str = "bare";
/// The row that a filter in wasm is compared with.
pub(crate) const FLOOR: &str = "floor";

/// What the rows are made from.
pub(crate) struct Parts<'a> {
    /// `dist/`, with the modules that are shipped.
    pub(crate) dist: PathBuf,
    /// Where the floor's module is.
    pub(crate) modules: PathBuf,
    /// The model server.
    pub(crate) model: SocketAddr,
    /// The document server with a million keys.
    pub(crate) documents: SocketAddr,
    /// A thousand keys.
    pub(crate) thousand: &'a Keys,
}

/// One row.
pub(crate) struct Row {
    /// Its name in `summary.json`.
    pub(crate) name: &'static str,
    /// What it does, for a reader.
    pub(crate) title: &'static str,
    /// Envoy's configuration.
    pub(crate) bootstrap: Value,
    /// Whether requests carry keys of the million.
    pub(crate) million: bool,
}

/// Every row, bare Envoy first.
pub(crate) fn all(parts: &Parts<'_>) -> Result<Vec<Row>> {
    let row = |name, title, filters: Vec<Value>| Row {
        name,
        title,
        bootstrap: bootstrap(parts, &filters),
        million: false,
    };
    Ok(vec![
        row(BARE, "Envoy, proxy only", vec![]),
        row(
            "native-key-auth",
            "Envoy's own `api_key_auth`, 1,000 keys in clear",
            vec![native(parts.thousand)],
        ),
        row(
            FLOOR,
            "the least a filter in wasm does: one header read, one set",
            vec![floor(parts, "floor")?],
        ),
        row(
            "floor-thin",
            "the same on Tollgate's own host crate",
            vec![floor(parts, "floor-thin")?],
        ),
        row(
            "key-auth-1k",
            "key-auth, 1,000 keys inline",
            vec![key_auth_inline(parts)?],
        ),
        key_auth_million(parts)?,
    ])
}

fn native(keys: &Keys) -> Value {
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

fn floor(parts: &Parts<'_>, name: &str) -> Result<Value> {
    let module = present(parts.modules.join(format!("tollgate-bench-{name}.wasm")))?;
    Ok(filter(&plugin(&module, name, "", &json!({}))))
}

fn key_auth_inline(parts: &Parts<'_>) -> Result<Value> {
    let document: Value = serde_json::from_str(&parts.thousand.document)?;
    let module = key_auth_module(parts)?;
    Ok(filter(&plugin(
        &module,
        "tollgate.key-auth",
        "key-auth",
        &key_auth(&json!({"inline": document})),
    )))
}

fn key_auth_million(parts: &Parts<'_>) -> Result<Row> {
    let module = key_auth_module(parts)?;
    let source = json!({"http": {"max_stale": "10m", "on_stale": "deny"}});
    let filter = filter(&plugin(
        &module,
        "tollgate.key-auth",
        "key-auth",
        &key_auth(&source),
    ));
    let fetch = json!({
        "cluster": "directory", "authority": "directory", "path": "/directory.json",
        "refresh": "5s", "timeout": "60s",
    });
    let mut bootstrap = bootstrap(parts, &[filter]);
    let fields = bootstrap.as_object_mut().context("a bootstrap is a map")?;
    fields.insert(
        "bootstrap_extensions".to_owned(),
        json!([{
            "name": "envoy.bootstrap.wasm",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.wasm.v3.WasmService",
                "singleton": true,
                "config": plugin(&module, "tollgate.directory", "directory", &fetch),
            },
        }]),
    );
    let title = "key-auth, 1,000,000 keys from a document server; requests use 10,000 of them";
    Ok(Row {
        name: "key-auth-1m",
        title,
        bootstrap,
        million: true,
    })
}

/// As in `envoy/filters/key-auth.yaml`, failure limit included.
fn key_auth(directory: &Value) -> Value {
    json!({
        "directory": directory,
        "failed_auth": {"rate": "30/minute", "burst": 30},
        // As in envoy/filters: the router behind it has the route chosen anyway.
        "route_on_identity": false,
    })
}

fn key_auth_module(parts: &Parts<'_>) -> Result<PathBuf> {
    present(parts.dist.join("tollgate-key-auth.wasm"))
}

fn present(module: PathBuf) -> Result<PathBuf> {
    ensure!(
        module.exists(),
        "{} is missing: type `make bench`, which builds it",
        module.display()
    );
    Ok(module)
}

fn filter(plugin: &Value) -> Value {
    json!({
        "name": plugin.get("name"),
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": plugin,
        },
    })
}

fn plugin(module: &Path, name: &str, root_id: &str, configuration: &Value) -> Value {
    json!({
        "name": name,
        "root_id": root_id,
        "failure_policy": "FAIL_RELOAD",
        "vm_config": {
            // One for each module: the fetcher and the filter of key-auth share their memory by it.
            "vm_id": module.file_stem().and_then(|stem| stem.to_str()),
            "runtime": "envoy.wasm.runtime.v8",
            "code": {"local": {"filename": module}},
        },
        "configuration": {"@type": "type.googleapis.com/google.protobuf.Struct", "value": configuration},
    })
}

fn bootstrap(parts: &Parts<'_>, filters: &[Value]) -> Value {
    let router = json!({
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
    });
    let filters: Vec<&Value> = filters.iter().chain([&router]).collect();
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "http_filters": filters,
        "route_config": {"virtual_hosts": [{
            "name": "models", "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "model"}}],
        }]},
    });
    json!({
        "node": {"id": "bench", "cluster": "bench"},
        // A filter's fetch is cut at 32 MB unless said otherwise; a million keys are 200 MB.
        "layered_runtime": {"layers": [
            {"name": "static", "static_layer": {"http.async_response_buffer_limit": 1_u64 << 30}},
        ]},
        "admin": {"address": address(SocketAddr::from(([127, 0, 0, 1], 0)))},
        "static_resources": {
            "listeners": [{
                "name": "bench",
                "address": address(SocketAddr::from(([127, 0, 0, 1], 0))),
                "filter_chains": [{"filters": [
                    {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager},
                ]}],
            }],
            "clusters": [cluster("model", parts.model), cluster("directory", parts.documents)],
        },
    })
}

fn cluster(name: &str, addr: SocketAddr) -> Value {
    json!({
        "name": name, "type": "STATIC", "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": [
            {"lb_endpoints": [{"endpoint": {"address": address(addr)}}]},
        ]},
    })
}

fn address(addr: SocketAddr) -> Value {
    json!({"socket_address": {"address": addr.ip().to_string(), "port_value": addr.port()}})
}

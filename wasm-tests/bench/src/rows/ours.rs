//! Tollgate's filters, as `envoy/filters` configures them, and the bench's own modules.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context as _, Result, anyhow, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tollgate_core::directory::{Credential, Loader, Tenant};
use tollgate_harness::config::repository;

use super::Parts;
use super::bootstrap::{filter, map, plugin};
use crate::model::{LARGE, PACE_HEADER, SMALL};

/// The fetcher and the filter share their memory by it.
const KEY_AUTH: &str = "tollgate.key-auth";

/// The least a filter in wasm does.
pub(super) fn floor(parts: &Parts<'_>, name: &str) -> Result<Value> {
    let module = bench_module(parts, name)?;
    Ok(filter(&plugin(&module, name, "", &map(&json!({})))))
}

/// That so many times, each in a VM of its own, as different modules are.
pub(super) fn floors(parts: &Parts<'_>, count: usize) -> Result<Vec<Value>> {
    let module = bench_module(parts, "floor")?;
    let nth = |at: usize| filter(&plugin(&module, &format!("floor-{at}"), "", &map(&json!({}))));
    Ok((0..count).map(nth).collect())
}

/// Leaves the identity that a key of the first project has.
pub(super) fn identity(parts: &Parts<'_>) -> Result<Value> {
    let state = STANDARD.encode(first_identity(parts)?);
    let bytes = json!({"@type": "type.googleapis.com/google.protobuf.BytesValue", "value": state});
    let module = bench_module(parts, "identity")?;
    Ok(filter(&plugin(&module, "identity", "", &bytes)))
}

fn first_identity(parts: &Parts<'_>) -> Result<Vec<u8>> {
    let directory = Loader::load(parts.thousand.document.clone().into_bytes())
        .map_err(|errors| anyhow!("the minted directory is refused: {errors:?}"))?;
    let tenant = directory
        .profiles()
        .iter()
        .filter_map(|(_, record)| Tenant::from_record(record, directory.traffic(), directory.budgets()))
        .find(|tenant| tenant.project.is_some());
    tenant
        .and_then(|tenant| Credential::of_token("bench", Rc::new(tenant)))
        .map(|credential| credential.state)
        .context("the minted directory has no project")
}

/// key-auth with a thousand keys in its configuration.
pub(super) fn key_auth(parts: &Parts<'_>) -> Result<Value> {
    key_auth_from(parts, &inline(parts)?)
}

/// key-auth with the keys that [`directory`] fetches.
pub(super) fn key_auth_by_http(parts: &Parts<'_>) -> Result<Value> {
    key_auth_from(parts, &from_http())
}

/// As in `envoy/filters/key-auth.yaml`, failure limit included.
fn key_auth_from(parts: &Parts<'_>, directory: &Value) -> Result<Value> {
    let configuration = authentication(directory);
    let module = shipped(parts, "key-auth")?;
    Ok(filter(&plugin(
        &module,
        KEY_AUTH,
        "key-auth",
        &map(&configuration),
    )))
}

fn authentication(directory: &Value) -> Value {
    json!({
        "directory": directory,
        "failed_auth": {"rate": "30/minute", "burst": 30},
        // As in envoy/filters: the router behind it has the route chosen anyway.
        "route_on_identity": false,
    })
}

/// What fetches a million keys, on the main thread.
pub(super) fn directory(parts: &Parts<'_>) -> Result<Value> {
    let module = shipped(parts, "key-auth")?;
    let plugin = plugin(&module, KEY_AUTH, "directory", &map(&fetch()));
    Ok(json!({
        "name": "envoy.bootstrap.wasm",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.wasm.v3.WasmService",
            "singleton": true,
            "config": plugin,
        },
    }))
}

fn fetch() -> Value {
    json!({
        "cluster": "directory", "authority": "directory", "path": "/directory.json",
        "refresh": "5s", "timeout": "60s",
    })
}

/// The tenant-router, with a catalogue that gives each model its cluster.
pub(super) fn router(parts: &Parts<'_>) -> Result<Value> {
    let module = shipped(parts, "tenant-router")?;
    Ok(filter(&plugin(
        &module,
        "tollgate.tenant-router",
        "tenant-router",
        &map(&catalogue()),
    )))
}

/// The rate-limit, with so many limits that cover every request.
pub(super) fn rate_limit(parts: &Parts<'_>, limits: usize) -> Result<Value> {
    let module = shipped(parts, "rate-limit")?;
    Ok(filter(&plugin(
        &module,
        "tollgate.rate-limit",
        "rate-limit",
        &map(&limited(limits)),
    )))
}

/// The three as one module.
pub(super) fn gateway(parts: &Parts<'_>, limits: usize) -> Result<Value> {
    let module = shipped(parts, "gateway")?;
    Ok(filter(&plugin(
        &module,
        "tollgate.gateway",
        "gateway",
        &map(&everything(&inline(parts)?, limits)),
    )))
}

/// The same filter from the native library.
pub(super) fn library(parts: &Parts<'_>, limits: usize) -> Result<Value> {
    dynamic(parts, "gateway", &everything(&inline(parts)?, limits))
}

/// The same with the keys that [`library_directory`] fetches.
pub(super) fn library_by_http(parts: &Parts<'_>, limits: usize) -> Result<Value> {
    dynamic(parts, "gateway", &everything(&from_http(), limits))
}

fn everything(directory: &Value, limits: usize) -> Value {
    json!({
        "key_auth": authentication(directory),
        "tenant_router": catalogue(),
        "rate_limit": limited(limits),
    })
}

fn inline(parts: &Parts<'_>) -> Result<Value> {
    let document: Value = serde_json::from_str(&parts.thousand.document)?;
    Ok(json!({"inline": document}))
}

fn from_http() -> Value {
    json!({"http": {"max_stale": "10m", "on_stale": "deny"}})
}

/// The same without the headers that tell how limits stand.
pub(super) fn library_without_headers(parts: &Parts<'_>, limits: usize) -> Result<Value> {
    let mut configuration = everything(&inline(parts)?, limits);
    if let Some(rate_limit) = configuration.pointer_mut("/rate_limit") {
        rate_limit["limit_headers"] = json!(false);
    }
    dynamic(parts, "gateway", &configuration)
}

/// A filter of the bench's own native library, by its name.
pub(super) fn floor_native(parts: &Parts<'_>, name: &str) -> Result<Value> {
    let library = present(parts.modules.join("libtollgate_bench_floor_native.so"))?;
    Ok(dynamic_filter(&module(&library), name, &json!({})))
}

/// A filter of the native library.
fn dynamic(parts: &Parts<'_>, name: &str, configuration: &Value) -> Result<Value> {
    Ok(dynamic_filter(&library_module(parts)?, name, configuration))
}

fn dynamic_filter(module: &Value, name: &str, configuration: &Value) -> Value {
    json!({
        "name": name,
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter",
            "dynamic_module_config": module,
            "filter_name": name,
            "filter_config": map(configuration),
        },
    })
}

fn library_module(parts: &Parts<'_>) -> Result<Value> {
    Ok(module(&present(parts.dist.join("libtollgate.so"))?))
}

fn module(library: &Path) -> Value {
    json!({"module": {"local": {"filename": library}}, "do_not_close": true})
}

/// Usage records as `envoy/listener.yaml` has them written.
pub(super) fn records_by_envoy(parts: &Parts<'_>) -> Result<Value> {
    let path = repository().join("envoy/listener.yaml");
    let listener: Value = serde_saphyr::from_str(&std::fs::read_to_string(&path)?)?;
    let loggers = "/resources/0/filter_chains/0/filters/0/typed_config/access_log";
    let loggers = listener.pointer(loggers).and_then(Value::as_array);
    // The access log is JSON by its members.
    let line = "/typed_config/log_format/text_format_source/inline_string";
    let records = |logger: &&Value| logger.pointer(line).is_some();
    let logger = loggers.into_iter().flatten().find(records);
    let mut logger = logger
        .context("listener.yaml has no logger of usage records")?
        .clone();
    if let Some(place) = logger.pointer_mut("/typed_config/path") {
        *place = json!(parts.scratch.join("records.jsonl"));
    }
    Ok(logger)
}

/// Usage records by the native library's own logger, each row's for itself.
pub(super) fn records_by_journal(parts: &Parts<'_>, row: &str, restore_limits: bool) -> Result<Value> {
    let configuration = json!({
        "file": parts.scratch.join(format!("{row}.jsonl")),
        "journal": parts.memory.join(row),
        "restore_limits": restore_limits,
    });
    Ok(json!({
        "name": "usage",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.dynamic_modules.v3.DynamicModuleAccessLog",
            "dynamic_module_config": library_module(parts)?,
            "logger_name": "usage",
            "logger_config": map(&configuration),
        },
    }))
}

/// What fetches a million keys for the native library.
pub(super) fn library_directory(parts: &Parts<'_>) -> Result<Value> {
    Ok(json!({
        "name": "envoy.bootstrap.dynamic_modules",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.bootstrap.dynamic_modules.v3.DynamicModuleBootstrapExtension",
            "dynamic_module_config": library_module(parts)?,
            "extension_name": "directory",
            "extension_config": map(&fetch()),
        },
    }))
}

/// The upstream-adapter, for a provider with other names of the models and a credential, and what puts the secret
/// there.
pub(super) fn adapter(parts: &Parts<'_>) -> Result<Vec<Value>> {
    let module = shipped(parts, "upstream-adapter")?;
    let plugin = plugin(
        &module,
        "tollgate.upstream-adapter",
        "upstream-adapter",
        &map(&providers()),
    );
    Ok(vec![secret(), filter(&plugin)])
}

/// The same from the native library.
pub(super) fn library_adapter(parts: &Parts<'_>) -> Result<Vec<Value>> {
    Ok(vec![secret(), dynamic(parts, "upstream-adapter", &providers())?])
}

fn providers() -> Value {
    let provider = json!({
        "models": {LARGE: format!("meta/{LARGE}"), SMALL: format!("meta/{SMALL}")},
        "authority": "models.example",
        "credential": {"secret": "BENCH_KEY"},
        "allow_headers": [PACE_HEADER],
    });
    json!({"providers": {"bench": provider}})
}

fn secret() -> Value {
    json!({
        "name": "envoy.filters.http.header_mutation",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
            "mutations": {"request_mutations": [{"append": {
                "header": {"key": "x-tollgate-secret-bench_key", "value": "a-secret-of-the-bench"},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }}]},
        },
    })
}

/// Limits as an operator would stack them, so wide that they refuse nothing: what each key may, then its organization,
/// then that for each model, then everybody.
fn limited(limits: usize) -> Value {
    const PER: [&[&str]; 4] = [&["key"], &["org"], &["org", "model"], &[]];
    const COUNT: [&str; 4] = ["requests", "tokens", "concurrent", "output_tokens"];
    let each = PER.iter().flat_map(|per| COUNT.map(|count| (per, count)));
    let rows = each.take(limits).enumerate().map(|(at, (per, count))| {
        let mut row = json!({"name": format!("limit-{at}"), "per": per, "count": count});
        let (bound, amount) = match count {
            "concurrent" => ("max", json!(1_000_000)),
            _ => ("rate", json!("4000000000/minute")),
        };
        if let Some(row) = row.as_object_mut() {
            row.insert(bound.to_owned(), amount);
        }
        row
    });
    json!({"limits": rows.collect::<Vec<_>>()})
}

fn catalogue() -> Value {
    let model = |name: &str| {
        json!({
            "endpoints": ["chat", "completions", "responses", "messages"],
            "owned_by": "meta",
            // Far longer than the largest body: no size is refused for its tokens.
            "context_window": 100_000_000,
            "targets": [{"cluster": name}],
        })
    };
    json!({
        "catalogue": {"models": {LARGE: model(LARGE), SMALL: model(SMALL)}},
        "breaker": {"failures": 5, "open": "5s", "longest": "60s"},
        "priorities": {"enterprise": "high"},
        "allow_headers": [PACE_HEADER],
    })
}

fn shipped(parts: &Parts<'_>, name: &str) -> Result<PathBuf> {
    present(parts.dist.join(format!("tollgate-{name}.wasm")))
}

fn bench_module(parts: &Parts<'_>, name: &str) -> Result<PathBuf> {
    present(parts.modules.join(format!("tollgate-bench-{name}.wasm")))
}

fn present(module: PathBuf) -> Result<PathBuf> {
    ensure!(
        module.exists(),
        "{} is missing: type `make bench`, which builds it",
        module.display()
    );
    Ok(module)
}

//! The rows of the tables: what each Envoy is started with. All are alike but for the filters before the router,
//! and for the routes of those that choose one by the model asked for.

mod bootstrap;
mod native;
mod ours;
mod peers;

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Result;
use serde_json::Value;

use crate::keys::Keys;

/// The row that all others are compared with.
pub(crate) const BARE: &str = "bare";
/// The row that a filter in wasm is compared with.
pub(crate) const FLOOR: &str = "floor";

/// The rows of the table by body size, beside bare Envoy.
pub(crate) const BY_SIZE: [&str; 6] = [
    "key-auth+router",
    "chain-composed",
    "library",
    "json-to-metadata",
    "lua",
    "ext-proc",
];
/// The rows of the table by the number of workers, beside bare Envoy.
pub(crate) const BY_WORKERS: [&str; 5] = [
    "floor",
    "chain-separate",
    "chain-composed",
    "library",
    "native-chain",
];
/// The rows of the table by event, beside bare Envoy.
pub(crate) const BY_EVENT: [&str; 5] = [
    "floor",
    "chain-separate",
    "chain-composed",
    "library",
    FOR_STREAMS,
];
/// The row that differs from another by what it does to streams alone.
pub(crate) const FOR_STREAMS: &str = "sse-to-metadata";

/// What the rows are made from.
pub(crate) struct Parts<'a> {
    /// `dist/`, with the modules that are shipped.
    pub(crate) dist: PathBuf,
    /// Where the bench's own modules are.
    pub(crate) modules: PathBuf,
    /// The model server of `llama-70b`, and of what no row routes by its model.
    pub(crate) large: SocketAddr,
    /// The model server of `llama-8b`.
    pub(crate) small: SocketAddr,
    /// The document server with a million keys.
    pub(crate) documents: SocketAddr,
    /// The external processor.
    pub(crate) processor: SocketAddr,
    /// A folder for what rows write, and one in memory.
    pub(crate) scratch: PathBuf,
    pub(crate) memory: PathBuf,
    /// A thousand keys.
    pub(crate) thousand: &'a Keys,
}

/// One row.
pub(crate) struct Row {
    /// Its name in `summary.json`.
    pub(crate) name: &'static str,
    /// What it does, for a reader.
    pub(crate) title: &'static str,
    /// Before Envoy's router, in this order.
    filters: Vec<Value>,
    /// In front of each model server, once per attempt.
    upstream: Vec<Value>,
    /// On Envoy's main thread.
    extension: Option<Value>,
    /// What writes a line for each request.
    access_log: Vec<Value>,
    /// How a request finds its model server.
    pub(crate) routing: Routing,
    /// Whether a request without a key is refused.
    pub(crate) authenticates: bool,
    /// Whether requests carry keys of the million.
    pub(crate) million: bool,
    /// Whether another process does part of the work.
    pub(crate) asks_processor: bool,
    /// Counters of Envoy that have counted once it answered: what can't be seen in an answer is being done.
    pub(crate) counters: &'static [&'static str],
}

/// How a request finds its model server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Routing {
    /// There is but one.
    One,
    /// By the cluster that `x-tollgate-target` names, as in `envoy/routes.yaml`.
    Target,
    /// By the model that the header `x-model` names.
    Header,
    /// By the model that dynamic metadata names.
    Metadata,
}

impl Row {
    fn new(name: &'static str, title: &'static str, filters: Vec<Value>) -> Self {
        Self {
            name,
            title,
            filters,
            upstream: vec![],
            extension: None,
            access_log: vec![],
            routing: Routing::One,
            authenticates: false,
            million: false,
            asks_processor: false,
            counters: &[],
        }
    }

    fn routes_by(self, routing: Routing) -> Self {
        Self { routing, ..self }
    }

    fn authenticates(self) -> Self {
        Self {
            authenticates: true,
            ..self
        }
    }

    fn logs(self, logger: Value) -> Self {
        Self {
            access_log: vec![logger],
            ..self
        }
    }

    fn counts(self, counters: &'static [&'static str]) -> Self {
        Self { counters, ..self }
    }

    /// Envoy's configuration.
    pub(crate) fn bootstrap(&self, parts: &Parts<'_>) -> Value {
        bootstrap::of(
            parts,
            &self.filters,
            &self.upstream,
            self.routing,
            self.extension.as_ref(),
            &self.access_log,
        )
    }
}

/// Every row, bare Envoy first.
pub(crate) fn all(parts: &Parts<'_>) -> Result<Vec<Row>> {
    let keys = parts.thousand;
    Ok(vec![
        Row::new(BARE, "Envoy, proxy only", vec![]),
        Row::new(
            "native-key-auth",
            "Envoy's own `api_key_auth`, 1,000 keys in clear",
            vec![native::api_key_auth(keys)],
        )
        .authenticates(),
        Row::new(
            FLOOR,
            "the least a filter in wasm does: one header read, one set",
            vec![ours::floor(parts, "floor")?],
        ),
        Row::new(
            "floor-thin",
            "the same on Tollgate's own host crate",
            vec![ours::floor(parts, "floor-thin")?],
        ),
        Row::new(
            "floor-x3",
            "three of the floor, one after the other",
            ours::floors(parts, 3)?,
        ),
        Row::new(
            "floor-chain",
            "the callbacks and host calls of `chain-composed`, with nothing done in between. No auth",
            vec![ours::floor(parts, "floor-chain")?],
        )
        .routes_by(Routing::Target)
        .counts(&["wasmcustom.bench_floor_chain"]),
        Row::new(
            "key-auth-1k",
            "key-auth, 1,000 keys inline",
            vec![ours::key_auth(parts)?],
        )
        .authenticates(),
        Row {
            extension: Some(ours::directory(parts)?),
            million: true,
            ..Row::new(
                "key-auth-1m",
                "key-auth, 1,000,000 keys from a document server; requests use 10,000 of them",
                vec![ours::key_auth_by_http(parts)?],
            )
            .authenticates()
        },
        Row::new(
            "identity",
            "a module that leaves one fixed identity, which `router` needs before it",
            vec![ours::identity(parts)?],
        ),
        Row::new(
            "router",
            "`identity`, then the tenant-router: take off the row `identity` to have the router alone",
            vec![ours::identity(parts)?, ours::router(parts)?],
        )
        .routes_by(Routing::Target),
        Row::new(
            "key-auth+router",
            "key-auth with 1,000 keys, then the tenant-router",
            vec![ours::key_auth(parts)?, ours::router(parts)?],
        )
        .routes_by(Routing::Target)
        .authenticates(),
        Row::new(
            "chain-separate",
            "everything on, three modules: key-auth, tenant-router, rate-limit with eight matching limits",
            vec![
                ours::key_auth(parts)?,
                ours::router(parts)?,
                ours::rate_limit(parts, 8)?,
            ],
        )
        .routes_by(Routing::Target)
        .authenticates(),
        Row::new(
            "chain-composed",
            "everything on, one module: 1,000 keys, the catalogue, eight matching limits, usage",
            vec![ours::gateway(parts, 8)?],
        )
        .routes_by(Routing::Target)
        .authenticates(),
        Row::new(
            "chain-composed-1-limit",
            "the same with one matching limit",
            vec![ours::gateway(parts, 1)?],
        )
        .routes_by(Routing::Target)
        .authenticates(),
        Row::new(
            "chain-composed-16-limits",
            "the same with sixteen, in four groups",
            vec![ours::gateway(parts, 16)?],
        )
        .routes_by(Routing::Target)
        .authenticates(),
        Row {
            upstream: ours::adapter(parts)?,
            ..Row::new(
                "chain-composed+adapter",
                "`chain-composed`, and the upstream-adapter in front of the model server: names of models, a credential",
                vec![ours::gateway(parts, 8)?],
            )
            .routes_by(Routing::Target)
            .authenticates()
            .counts(&["wasmcustom.tollgate_adapter_attempts.provider.bench.outcome.adapted"])
        },
        Row::new(
            "native-floor",
            "a filter in a native library that does nothing. No auth",
            vec![ours::floor_native(parts, "nothing")?],
        ),
        Row::new(
            "native-floor-chain",
            "the callbacks and host calls of `floor-chain` in a native library. No auth",
            vec![ours::floor_native(parts, "floor")?],
        )
        .routes_by(Routing::Target),
        Row::new(
            "library-no-headers",
            "`library` without the headers that tell how limits stand (`limit_headers: false`)",
            vec![ours::library_without_headers(parts, 8)?],
        )
        .routes_by(Routing::Target)
        .authenticates(),
        Row::new(
            "library",
            "`chain-composed` from the native library",
            vec![ours::library(parts, 8)?],
        )
        .routes_by(Routing::Target)
        .authenticates(),
        Row::new(
            "library+records",
            "the same, and usage records by Envoy's own file logger, as in `envoy/listener.yaml`",
            vec![ours::library(parts, 8)?],
        )
        .routes_by(Routing::Target)
        .authenticates()
        .logs(ours::records_by_envoy(parts)?),
        Row::new(
            "library+journal",
            "`library`, and usage records that survive a kill, by its own logger",
            vec![ours::library(parts, 8)?],
        )
        .routes_by(Routing::Target)
        .authenticates()
        .logs(ours::records_by_journal(parts, "library+journal", false)?),
        Row::new(
            "library+journal+limits",
            "the same, and levels of limits that survive it too",
            vec![ours::library(parts, 8)?],
        )
        .routes_by(Routing::Target)
        .authenticates()
        .logs(ours::records_by_journal(parts, "library+journal+limits", true)?),
        Row::new(
            "library-1-limit",
            "the same with one matching limit",
            vec![ours::library(parts, 1)?],
        )
        .routes_by(Routing::Target)
        .authenticates(),
        Row::new(
            "library-16-limits",
            "the same with sixteen, in four groups",
            vec![ours::library(parts, 16)?],
        )
        .routes_by(Routing::Target)
        .authenticates(),
        Row {
            extension: Some(ours::library_directory(parts)?),
            million: true,
            ..Row::new(
                "library-1m",
                "`library` with 1,000,000 keys from a document server; requests use 10,000 of them",
                vec![ours::library_by_http(parts, 8)?],
            )
            .routes_by(Routing::Target)
            .authenticates()
        },
        Row {
            upstream: ours::library_adapter(parts)?,
            ..Row::new(
                "library+adapter",
                "`library`, and its upstream-adapter in front of the model server",
                vec![ours::library(parts, 8)?],
            )
            .routes_by(Routing::Target)
            .authenticates()
        },
        Row::new(
            "json-to-metadata",
            "Envoy's own `json_to_metadata` on the request; a route for each model. No auth",
            vec![native::model_to_metadata()],
        )
        .routes_by(Routing::Metadata),
        Row::new(
            "native-chain",
            "Envoy's own `api_key_auth`, `json_to_metadata` both ways and `local_ratelimit`: auth, model, usage of \
             what ends well, and a limit on requests",
            vec![
                native::api_key_auth(keys),
                native::local_ratelimit(),
                native::model_and_usage_to_metadata(),
            ],
        )
        .routes_by(Routing::Metadata)
        .authenticates()
        .counts(&[
            "json_to_metadata.resp.success",
            "bench.http_local_rate_limit.ok",
        ]),
        Row::new(
            "lua",
            "Envoy's Lua filter: the model found in the body by a pattern, not parsed. No auth",
            vec![peers::lua()],
        )
        .routes_by(Routing::Header),
        Row {
            asks_processor: true,
            ..Row::new(
                "ext-proc",
                "Envoy's `ext_proc` to a server in Rust that parses the body. No auth",
                vec![peers::ext_proc()],
            )
            .routes_by(Routing::Header)
            .counts(&["http.bench.ext_proc.streams_closed"])
        },
        Row::new(
            FOR_STREAMS,
            "Envoy's own `json_to_metadata` on the request and `sse_to_metadata` on the answer: model, and usage of \
             streams that end well. No auth",
            vec![native::model_to_metadata(), native::sse_to_metadata()],
        )
        .routes_by(Routing::Metadata)
        .counts(&["sse_to_metadata.resp.json.metadata_added"]),
    ])
}

//! A loaded plugin: a root context, its ticks and callouts, and the requests that go through it.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use crate::callouts::{GrpcCall, HttpCall};
use crate::exchange::{Exchange, StreamContext};
use crate::host::{Context, RootContext};
use crate::vm::{Trap, Vm};
use crate::world::LogLine;

/// One filter or service with its configuration, on one worker. Cheap to clone.
#[derive(Clone)]
pub struct Plugin {
    vm: Vm,
    root: u32,
    stops_headers_only: bool,
}

/// A configuration the module did not take. In Envoy the old one then keeps serving.
pub struct Refused {
    /// What the module logged about it.
    pub log: Vec<LogLine>,
    /// Set where the module did not say no but trapped, and that was allowed.
    pub trap: Option<Trap>,
}

impl Refused {
    /// The log's texts, a line each.
    #[must_use]
    pub fn text(&self) -> String {
        self.log
            .iter()
            .map(|line| line.text.as_str())
            .collect::<Vec<_>>()
            .join("\n")
    }
}

impl fmt::Debug for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration was refused:\n{}", self.text())
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl std::error::Error for Refused {}

impl Vm {
    /// Loads a plugin: one filter's configuration, as Envoy hands it over when it is YAML (JSON, every number
    /// a double). Loading another one, or the same again, is what a configuration reload does: streams of
    /// the old plugin keep it.
    ///
    /// # Errors
    /// [`Refused`] with what was logged, when `on_vm_start` or `on_configure` returned false.
    #[track_caller]
    pub fn configure(&self, root_id: &str, configuration: serde_json::Value) -> Result<Plugin, Refused> {
        self.configure_bytes(root_id, doubles(configuration).to_string())
    }

    /// The same with any bytes.
    ///
    /// # Errors
    /// [`Refused`] with what was logged, when `on_vm_start` or `on_configure` returned false.
    #[track_caller]
    pub fn configure_bytes(&self, root_id: &str, configuration: impl AsRef<[u8]>) -> Result<Plugin, Refused> {
        let configuration = configuration.as_ref();
        let before = self.world().process().log.len();
        let name = self.module_name().replace("tollgate-", "tollgate.");
        let root = RootContext {
            root_id: root_id.to_owned(),
            name,
            ..RootContext::default()
        };
        let id = self.host(|host| host.add(Context::Root(root)));
        let accepted = self.load(id, configuration);
        self.raise();
        if accepted && self.trap().is_none() {
            return Ok(Plugin {
                vm: self.clone(),
                root: id,
                stops_headers_only: false,
            });
        }
        let log: Vec<LogLine> = self.world().process().log[before..].to_vec();
        self.drop_root(id);
        Err(Refused {
            log,
            trap: self.trap(),
        })
    }
}

impl Plugin {
    /// The plugin option `allow_on_headers_stop_iteration`: a pause in the headers then holds only them, and
    /// the body is still shown to the filter.
    #[must_use]
    pub fn allow_on_headers_stop_iteration(mut self) -> Self {
        self.stops_headers_only = true;
        self
    }

    /// The worker it runs on.
    #[must_use]
    pub fn vm(&self) -> &Vm {
        &self.vm
    }

    pub(crate) fn root(&self) -> u32 {
        self.root
    }

    pub(crate) fn stops_headers_only(&self) -> bool {
        self.stops_headers_only
    }

    /// Calls `on_tick` once. The clock stays where it is.
    ///
    /// # Panics
    /// When the plugin has not asked for ticks: Envoy would send none.
    #[track_caller]
    pub fn tick(&self) {
        self.vm.tick(self.root);
    }

    /// Calls `on_log` of the root, with an exchange in reach as it is for a filter that logs.
    #[track_caller]
    pub(crate) fn log(&self, exchange: Exchange) {
        let logged = Context::Stream(StreamContext {
            root: self.root,
            exchange: Rc::new(RefCell::new(exchange)),
            views: Default::default(),
            logging: true,
        });
        let root = self.vm.host(|host| host.contexts.insert(self.root, logged));
        self.vm.run(self.root, "proxy_on_log", &[self.root]);
        self.vm
            .host(|host| host.contexts.extend(root.map(|root| (self.root, root))));
        self.vm.raise();
    }

    /// The time between its ticks; `None` where it asked for none.
    #[must_use]
    pub fn tick_period(&self) -> Option<Duration> {
        self.vm
            .host(|host| host.ticks.get(&self.root).map(|tick| tick.period))
    }

    /// Its HTTP callouts that wait for an answer, oldest first.
    #[must_use]
    pub fn calls(&self) -> Vec<HttpCall> {
        let pending = self.vm.host(|host| host.calls.http_of(self.root));
        pending
            .into_iter()
            .map(|(token, request)| HttpCall::new(self.vm.clone(), token, request))
            .collect()
    }

    /// Its one HTTP callout that waits for an answer.
    ///
    /// # Panics
    /// When there is none, or more than one.
    #[must_use]
    #[track_caller]
    pub fn call(&self) -> HttpCall {
        only(self.calls(), "HTTP")
    }

    /// Its gRPC callouts that wait for an answer, oldest first.
    #[must_use]
    pub fn grpc_calls(&self) -> Vec<GrpcCall> {
        let pending = self.vm.host(|host| host.calls.grpc_of(self.root));
        pending
            .into_iter()
            .map(|(token, request)| GrpcCall::new(self.vm.clone(), token, request))
            .collect()
    }

    /// Its one gRPC callout that waits for an answer.
    ///
    /// # Panics
    /// When there is none, or more than one.
    #[must_use]
    #[track_caller]
    pub fn grpc_call(&self) -> GrpcCall {
        only(self.grpc_calls(), "gRPC")
    }

    /// Ends the plugin, as Envoy does once a reload has replaced it and its last stream is gone.
    #[track_caller]
    pub fn retire(self) {
        self.vm.retire(self.root);
        self.vm.raise();
    }
}

#[track_caller]
fn only<T>(mut calls: Vec<T>, kind: &str) -> T {
    assert!(
        calls.len() == 1,
        "{} {kind} callouts wait for an answer, where one was expected",
        calls.len()
    );
    calls.remove(0)
}

/// A `google.protobuf.Struct` has only doubles: modules find `7.0` where an operator wrote `7`.
fn doubles(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Number(number) => Value::from(number.as_f64().unwrap_or_default()),
        Value::Array(list) => list.into_iter().map(doubles).collect(),
        Value::Object(map) => map
            .into_iter()
            .map(|(name, item)| (name, doubles(item)))
            .collect(),
        other => other,
    }
}

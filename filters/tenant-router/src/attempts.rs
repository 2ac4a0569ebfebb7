//! An access logger of Envoy's attempts. Envoy's router shows a filter only the last answer of a request; here each
//! attempt is seen, and with it what a target asked for before another one was tried.

use std::sync::Arc;

use tollgate_core::config::{ConfigError, from_json};
use tollgate_core::fault;
use tollgate_core::plugin_config::to_json;
use tollgate_core::state::Clock as _;
use tollgate_core::targets::{self, Destination, Ending};
use tollgate_host::{AccessLogger, Attribute, Family, Level, LogContext, RootContext, log};

use crate::filter::status;
use crate::metrics::{FAMILIES, Faults};
use crate::spent;

/// Notes how long a target wants to be left alone, and counts what is wrong with our side of it.
#[derive(Default)]
pub struct Attempts {
    faults: Faults,
    /// Whether it was said that there is nobody to note it for.
    warned: bool,
}

/// There is nothing to configure.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

impl AccessLogger for Attempts {
    const NAME: &'static str = "attempts";
    const METRICS: &'static [&'static [Family]] = &[FAMILIES];
    type Config = Nothing;

    fn check(configuration: Vec<u8>) -> Result<Nothing, Vec<ConfigError>> {
        from_json(&to_json(configuration)?).map_err(|error| vec![error])
    }

    fn start(_config: Arc<Nothing>, _host: &mut RootContext) -> Result<Self, ConfigError> {
        Ok(Self::default())
    }

    /// An attempt is over.
    fn log(&mut self, host: &mut LogContext) {
        let headers = host.response.read().ok();
        spent::note(host, headers.as_ref());
        let Some(headers) = headers else {
            return;
        };
        let Ok(cluster) = host.stream.attribute(Attribute::Cluster) else {
            return;
        };
        let Ok(cluster) = core::str::from_utf8(&cluster) else {
            return;
        };
        let status = status(&headers);
        if let Some(fault) = fault::of_attempt(status) {
            self.faults.count(fault.name(), cluster);
        }
        // Only the gateway writes these.
        let named = |name: &str| host.request.text(name).unwrap_or_default();
        let (org, model) = (named("x-tollgate-org"), named("x-tollgate-model"));
        let ending = Ending::of_answer(status, headers.get(b"retry-after"), &org, || {
            host.stream.seconds()
        });
        if !ending.asks_for_a_pause(&org) {
            return;
        }
        let destination = Destination {
            cluster,
            model: &model,
            org: &org,
        };
        if !targets::back_off(&mut host.stream, &destination, ending)
            && !core::mem::replace(&mut self.warned, true)
        {
            log(
                Level::Warn,
                "attempts: no filter with this vm_id; a Retry-After behind a retry is not heeded",
            );
        }
    }
}

//! An access logger of Envoy's attempts. Envoy's router shows a filter only the last answer of a request; here each
//! attempt is seen, and with it what a target asked for before another one was tried.

use tollgate_core::config::{ConfigError, from_json};
use tollgate_core::fault;
use tollgate_core::targets::{self, Destination};
use tollgate_host::{HeaderMap, Host, Level, Map, header, log, property};

use crate::filter::{ending, status};
use crate::metrics::Faults;
use crate::spent;

/// Notes how long a target wants to be left alone, and counts what is wrong with our side of it.
#[derive(Default)]
pub struct Attempts {
    faults: Faults,
    /// Whether it was said that there is nobody to note it for.
    warned: bool,
}

impl Attempts {
    /// There is nothing to configure.
    pub fn configure(json: &[u8]) -> Result<Self, Vec<ConfigError>> {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Nothing {}
        from_json(json)
            .map(|Nothing {}| Self::default())
            .map_err(|error| vec![error])
    }

    /// An attempt is over.
    pub fn logged(&mut self) {
        let headers = HeaderMap::read(Map::Response).ok();
        spent::note(headers.as_ref());
        let Some(headers) = headers else {
            return;
        };
        let Ok(cluster) = property(&["xds", "cluster_name"]) else {
            return;
        };
        let Ok(cluster) = core::str::from_utf8(&cluster) else {
            return;
        };
        let status = status(&headers);
        if let Some(fault) = fault::of_attempt(status) {
            self.faults.count(fault.name(), cluster);
        }
        let org = named("x-tollgate-org");
        let ending = ending(status, &headers, &org);
        if !ending.asks_for_a_pause(&org) {
            return;
        }
        let destination = Destination {
            cluster,
            model: &named("x-tollgate-model"),
            org: &org,
        };
        if !targets::back_off(&mut Host, &destination, ending) && !core::mem::replace(&mut self.warned, true)
        {
            log(
                Level::Warn,
                "attempts: no filter with this vm_id; a Retry-After behind a retry is not heeded",
            );
        }
    }
}

/// What a header of the request says, which only the gateway writes.
fn named(name: &str) -> String {
    let value = header(Map::Request, name).ok().flatten();
    value
        .and_then(|value| String::from_utf8(value).ok())
        .unwrap_or_default()
}

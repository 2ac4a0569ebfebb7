//! An access logger of Envoy's attempts. Envoy's router shows a filter only the last answer of a request; here each
//! attempt is seen, and with it what a target asked for before another one was tried.

use tollgate_core::breaker::Ending;
use tollgate_core::config::{ConfigError, from_json};
use tollgate_core::fault;
use tollgate_host::{HeaderMap, Level, Map, header, log, property};

use crate::metrics::Faults;
use crate::{health, spent};

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
        if let Some(fault) = fault::of_attempt(health::status(&headers)) {
            self.faults.count(fault.name(), cluster);
        }
        let Ending::Leave(pause) = health::answered(&headers, "") else {
            return;
        };
        let model = header(Map::Request, "x-tollgate-model").ok().flatten();
        let model = model
            .and_then(|model| String::from_utf8(model).ok())
            .unwrap_or_default();
        if health::leave(cluster, &model, pause).is_err() && !core::mem::replace(&mut self.warned, true) {
            log(
                Level::Warn,
                "attempts: no filter with this vm_id; a Retry-After behind a retry is not heeded",
            );
        }
    }
}

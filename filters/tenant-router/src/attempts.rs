//! An access logger of Envoy's attempts. Envoy's router shows a filter only the last answer of a request; here each
//! attempt is seen, and with it what a target asked for before another one was tried.

use tollgate_core::breaker::Ending;
use tollgate_core::config::{ConfigError, from_json};
use tollgate_host::{HeaderMap, Level, Map, log, property};

use crate::{health, spent};

/// Notes how long a target wants to be left alone.
#[derive(Default)]
pub struct Attempts {
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
        let Some(ending) = headers.as_ref().map(health::answered) else {
            return;
        };
        if let Ending::Leave(pause) = ending
            && let Ok(cluster) = property(&["xds", "cluster_name"])
            && let Ok(cluster) = core::str::from_utf8(&cluster)
            && health::leave(cluster, pause).is_err()
            && !core::mem::replace(&mut self.warned, true)
        {
            log(
                Level::Warn,
                "attempts: no filter with this vm_id; a Retry-After behind a retry is not heeded",
            );
        }
    }
}

//! The fetcher: one for an Envoy, on its main thread. Core decides ([`tollgate_core::directory::fetch`]); here it gets the
//! proxy's calls, metrics and log.

use tollgate_core::config::ConfigError;
use tollgate_core::directory::fetch::{self, Config, Fetched, Outside, Plan, Response};
use tollgate_core::state::{Clock, Store, StoreError};
use tollgate_host::{
    Buffer, Counter, Gauge, HeaderMap, Host, HttpCall, Level, Map, Status, call_http, log, read_buffer,
    set_tick_period,
};

/// Between looks at the clock.
const IDLE_TICK_MILLIS: u32 = 250;
/// While there is work: the main thread does it in slices and serves everything else in between.
const BUSY_TICK_MILLIS: u32 = 5;

/// One configuration of the fetcher.
pub struct Fetcher {
    fetcher: fetch::Fetcher<HttpCall>,
    proxy: Proxy,
}

/// What the proxy does for the fetcher.
struct Proxy {
    config: Config,
    metrics: Metrics,
}

struct Metrics {
    age: Gauge,
    keys: Gauge,
    orgs: Gauge,
    ok: Counter,
    unchanged: Counter,
    failed: Counter,
    rejected: Counter,
}

impl Metrics {
    fn define() -> Result<Self, Status> {
        let fetch = |result: &str| Counter::define(&format!("tollgate_directory_fetches.result.{result}"));
        Ok(Self {
            age: Gauge::define("tollgate_directory_age_seconds")?,
            keys: Gauge::define("tollgate_directory_keys")?,
            orgs: Gauge::define("tollgate_directory_orgs")?,
            ok: fetch("ok")?,
            unchanged: fetch("unchanged")?,
            failed: fetch("failed")?,
            rejected: fetch("rejected")?,
        })
    }
}

impl Fetcher {
    /// Makes one of its configuration; all that is wrong with it is reported.
    pub fn configure(json: &[u8]) -> Result<Self, Vec<ConfigError>> {
        let config = Config::parse(json)?;
        Self::new(config).map_err(|status| vec![ConfigError::unusable(status)])
    }

    /// Sets the fetcher up; it asks at its first tick.
    pub fn new(config: Config) -> Result<Self, Status> {
        set_tick_period(IDLE_TICK_MILLIS)?;
        let plan = Plan {
            refresh: config.refresh,
            timeout: u64::from(config.timeout_millis).saturating_mul(1_000_000),
            allow_empty: config.allow_empty,
        };
        Ok(Self {
            fetcher: fetch::Fetcher::new(plan),
            proxy: Proxy {
                config,
                metrics: Metrics::define()?,
            },
        })
    }

    /// Asks when it is time, and works on what came.
    pub fn tick(&mut self) {
        self.fetcher.tick(&mut self.proxy);
    }

    /// The document's server answered, or could not be reached.
    pub fn http_call_response(&mut self, answered: HttpCall) {
        let headers = HeaderMap::read(Map::HttpCallResponse).ok();
        let header = |name: &[u8]| headers.as_ref()?.text(name);
        let response = Response {
            status: header(b":status"),
            etag: header(b"etag"),
        };
        let body = || read_buffer(Buffer::HttpCallBody).map_err(|status| format!("{status:?}"));
        self.fetcher.answered(answered, &response, body, &mut self.proxy);
    }
}

impl Outside for Proxy {
    type Call = HttpCall;

    fn ask(&mut self, etag: Option<&str>) -> Result<HttpCall, String> {
        let Config {
            cluster,
            authority,
            path,
            timeout_millis,
            ..
        } = &self.config;
        let mut headers = vec![
            (":method", "GET"),
            (":path", path),
            (":authority", authority),
            ("accept", "application/json"),
        ];
        headers.extend(etag.map(|etag| ("if-none-match", etag)));
        call_http(cluster, &headers, *timeout_millis)
            .map_err(|status| format!("cluster `{cluster}` cannot be called ({status:?})"))
    }

    fn busy(&mut self, busy: bool) {
        // Were it refused, work would go on at the old pace.
        let _ = set_tick_period(if busy { BUSY_TICK_MILLIS } else { IDLE_TICK_MILLIS });
    }

    fn count(&mut self, fetched: Fetched) {
        match fetched {
            Fetched::Changed => self.metrics.ok,
            Fetched::Unchanged => self.metrics.unchanged,
            Fetched::Failed => self.metrics.failed,
            Fetched::Rejected => self.metrics.rejected,
        }
        .increment();
    }

    fn age(&mut self, seconds: u64) {
        self.metrics.age.set(seconds);
    }

    fn in_force(&mut self, keys: u64, orgs: u64) {
        self.metrics.keys.set(keys);
        self.metrics.orgs.set(orgs);
        log(
            Level::Info,
            &format!("directory: {keys} keys of {orgs} organizations are in force"),
        );
    }

    fn complain(&mut self, complaint: &str) {
        log(Level::Error, complaint);
    }
}

impl Store for Proxy {
    fn get(&mut self, key: &[u8]) -> Result<Option<(Vec<u8>, u32)>, StoreError> {
        Host.get(key)
    }

    fn swap(&mut self, key: &[u8], value: &[u8], version: Option<u32>) -> Result<bool, StoreError> {
        Host.swap(key, value, version)
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        Host.put(key, value)
    }
}

impl Clock for Proxy {
    fn now(&self) -> Option<u64> {
        Host.now()
    }
}

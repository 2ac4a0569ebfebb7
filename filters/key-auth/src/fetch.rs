//! The fetcher: one for an Envoy, on its main thread. Core decides ([`tollgate_core::directory::fetch`]); here it gets the
//! proxy's calls, metrics and log.

use std::sync::Arc;

use tollgate_core::config::ConfigError;
use tollgate_core::directory::fetch::{self, Config, Fetched, Outside, Question, Response};
use tollgate_core::plugin_config::to_json;
use tollgate_host::{
    CallContext, Counter, Family, Gauge, HttpCall, Level, RootContext, Singleton, Status, log,
};

/// Between looks at the clock.
const IDLE_TICK_MILLIS: u32 = 250;
/// While there is work: the main thread does it in slices and serves everything else in between.
const BUSY_TICK_MILLIS: u32 = 5;

static FAMILIES: &[Family] = &[AGE, KEYS, ORGS, FETCHES];
const AGE: Family = Family::gauge("tollgate_directory_age_seconds");
const KEYS: Family = Family::gauge("tollgate_directory_keys");
const ORGS: Family = Family::gauge("tollgate_directory_orgs");
const FETCHES: Family = Family::counters("tollgate_directory_fetches", &["result"]);

/// One configuration of the fetcher.
pub struct Fetcher {
    fetcher: fetch::Fetcher<HttpCall>,
    proxy: Proxy,
}

/// What the proxy does for the fetcher.
struct Proxy {
    config: Arc<Config>,
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
        let fetch = |result: &str| Counter::define(&FETCHES, &[result]);
        Ok(Self {
            age: Gauge::define(&AGE)?,
            keys: Gauge::define(&KEYS)?,
            orgs: Gauge::define(&ORGS)?,
            ok: fetch("ok")?,
            unchanged: fetch("unchanged")?,
            failed: fetch("failed")?,
            rejected: fetch("rejected")?,
        })
    }
}

impl Singleton for Fetcher {
    const NAME: &'static str = "directory";
    const WHAT: &'static str = "the fetcher";
    const METRICS: &'static [&'static [Family]] = &[FAMILIES];
    type Config = Config;

    fn check(configuration: Vec<u8>) -> Result<Config, Vec<ConfigError>> {
        Config::parse(&to_json(configuration)?)
    }

    /// It asks at its first tick.
    fn start(config: Arc<Config>, host: &mut RootContext) -> Result<Self, ConfigError> {
        host.tick_every(IDLE_TICK_MILLIS).map_err(ConfigError::unusable)?;
        Ok(Self {
            fetcher: fetch::Fetcher::new(config.plan()),
            proxy: Proxy {
                metrics: Metrics::define().map_err(ConfigError::unusable)?,
                config,
            },
        })
    }

    fn tick(&mut self, host: &mut RootContext) {
        self.fetcher.tick(host, &mut self.proxy);
    }

    fn answered(&mut self, host: &mut CallContext, call: HttpCall) {
        let headers = host.headers.read().ok();
        let header = |name: &[u8]| headers.as_ref()?.text(name);
        let response = Response {
            status: header(b":status"),
            etag: header(b"etag"),
            content_type: header(b"content-type"),
            content_encoding: header(b"content-encoding"),
        };
        let CallContext { root, body, .. } = host;
        let body = || body.read().map_err(|status| format!("{status:?}"));
        self.fetcher
            .answered(call, &response, body, root, &mut self.proxy);
    }
}

impl Outside<RootContext> for Proxy {
    type Call = HttpCall;

    fn ask(&mut self, host: &mut RootContext, question: &Question<'_>) -> Result<HttpCall, String> {
        let request = self.config.request(question);
        let headers: Vec<(&str, &str)> = request
            .headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let cluster = &self.config.cluster;
        host.call(cluster, &headers, request.timeout_millis)
            .map_err(|status| format!("cluster `{cluster}` cannot be called ({status:?})"))
    }

    fn busy(&mut self, host: &mut RootContext, busy: bool) {
        // Were it refused, work would go on at the old pace.
        let _ = host.tick_every(if busy { BUSY_TICK_MILLIS } else { IDLE_TICK_MILLIS });
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

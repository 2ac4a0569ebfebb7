//! This Envoy's member of the fleet: one, on its main thread. Core decides ([`tollgate_core::fleet`]); here it gets the
//! proxy's calls, metrics and log. Beside it this Envoy's slices of budgets, by the same cluster and token.

use std::sync::Arc;

use tollgate_core::config::ConfigError;
use tollgate_core::fleet::{Config, Exchanged, Membership, Outside, TICK_MILLIS, draw};
use tollgate_core::plugin_config::to_json;
use tollgate_core::spending::Exchanger;
use tollgate_host::{
    CallContext, Counter, Family, Gauge, HttpCall, Level, RootContext, Singleton, Status, log,
};

use crate::budgets;
use crate::send::send;

static FAMILIES: &[Family] = &[MESSAGES, STOPS, LEASE, SHARES];
const MESSAGES: Family = Family::counters("tollgate_fleet_messages", &["result"]);
const STOPS: Family = Family::counters("tollgate_fleet_stops", &[]);
const LEASE: Family = Family::gauge("tollgate_fleet_lease_milliseconds");
const SHARES: Family = Family::gauge("tollgate_fleet_shares");

/// One configuration of the member.
pub struct Fleet {
    membership: Membership<HttpCall>,
    proxy: Proxy,
    exchanger: Exchanger<HttpCall>,
    budgets: budgets::Proxy,
}

/// What the proxy does for the member.
struct Proxy {
    config: Arc<Config>,
    metrics: Metrics,
}

struct Metrics {
    renewed: Counter,
    refused: Counter,
    failed: Counter,
    stops: Counter,
    lease: Gauge,
    shares: Gauge,
}

impl Metrics {
    fn define() -> Result<Self, Status> {
        let messages = |result: &str| Counter::define(&MESSAGES, &[result]);
        Ok(Self {
            renewed: messages("renewed")?,
            refused: messages("refused")?,
            failed: messages("failed")?,
            stops: Counter::define(&STOPS, &[])?,
            lease: Gauge::define(&LEASE)?,
            shares: Gauge::define(&SHARES)?,
        })
    }
}

impl Singleton for Fleet {
    const NAME: &'static str = "fleet";
    const WHAT: &'static str = "the member of the fleet";
    const METRICS: &'static [&'static [Family]] = &[FAMILIES, budgets::FAMILIES];
    type Config = Config;

    fn check(configuration: Vec<u8>) -> Result<Config, Vec<ConfigError>> {
        Config::parse(&to_json(configuration)?)
    }

    fn start(config: Arc<Config>, host: &mut RootContext) -> Result<Self, ConfigError> {
        host.tick_every(TICK_MILLIS).map_err(ConfigError::unusable)?;
        let drawn = || draw(host, &host.origin());
        Ok(Self {
            membership: Membership::new(drawn()),
            exchanger: Exchanger::new([drawn(), drawn()]),
            budgets: budgets::Proxy::start(Arc::clone(&config)).map_err(ConfigError::unusable)?,
            proxy: Proxy {
                metrics: Metrics::define().map_err(ConfigError::unusable)?,
                config,
            },
        })
    }

    fn tick(&mut self, host: &mut RootContext) {
        self.membership.tick(host, &mut self.proxy);
        self.exchanger.tick(host, &mut self.budgets);
    }

    fn answered(&mut self, host: &mut CallContext, call: HttpCall) {
        let headers = host.headers.read().ok();
        let status = headers.as_ref().and_then(|headers| headers.text(b":status"));
        let CallContext { root, body, .. } = host;
        let read = || {
            body.read()
                .map_err(|status| format!("sent what can't be read ({status:?})"))
        };
        // Each knows its own.
        self.membership
            .answered(call, status, read, root, &mut self.proxy);
        self.exchanger
            .answered(call, status, read, root, &mut self.budgets);
    }
}

impl Outside<RootContext> for Proxy {
    type Call = HttpCall;

    fn send(
        &mut self,
        host: &mut RootContext,
        message: &[u8],
        timeout_millis: u32,
    ) -> Result<HttpCall, String> {
        let to = (self.config.cluster.as_str(), self.config.headers());
        send(host, to, message, timeout_millis)
    }

    fn count(&mut self, exchanged: Exchanged) {
        match exchanged {
            Exchanged::Renewed => self.metrics.renewed,
            Exchanged::Refused => self.metrics.refused,
            Exchanged::Failed => self.metrics.failed,
        }
        .increment();
    }

    fn stop(&mut self) {
        self.metrics.stops.increment();
    }

    fn stand(&mut self, lease_millis: u64, limits: u64) {
        self.metrics.lease.set(lease_millis);
        self.metrics.shares.set(limits);
    }

    fn complain(&mut self, complaint: &str) {
        log(Level::Error, complaint);
    }
}

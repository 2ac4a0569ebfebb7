//! What the proxy does for this Envoy's slices of budgets: calls, metrics and log ([`tollgate_core::spending`]).

use std::sync::Arc;

use tollgate_core::fleet::Config;
use tollgate_core::spending::Outside;
use tollgate_host::{Counter, Family, Gauge, HttpCall, Level, Result, RootContext, log};

use crate::send::send;

pub(crate) static FAMILIES: &[Family] = &[MESSAGES, BUDGETS];
const MESSAGES: Family = Family::counters("tollgate_budget_messages", &["result"]);
const BUDGETS: Family = Family::gauge("tollgate_budgets");

pub(crate) struct Proxy {
    config: Arc<Config>,
    answered: Counter,
    failed: Counter,
    budgets: Gauge,
}

impl Proxy {
    pub(crate) fn start(config: Arc<Config>) -> Result<Self> {
        Ok(Self {
            config,
            answered: Counter::define(&MESSAGES, &["answered"])?,
            failed: Counter::define(&MESSAGES, &["failed"])?,
            budgets: Gauge::define(&BUDGETS)?,
        })
    }
}

impl Outside<RootContext> for Proxy {
    type Call = HttpCall;

    fn send(
        &mut self,
        host: &mut RootContext,
        message: &[u8],
        timeout_millis: u32,
    ) -> core::result::Result<HttpCall, String> {
        let to = (self.config.cluster.as_str(), self.config.budget_headers());
        send(host, to, message, timeout_millis)
    }

    fn count(&mut self, answered: bool) {
        match answered {
            true => self.answered,
            false => self.failed,
        }
        .increment();
    }

    fn stand(&mut self, budgets: u64) {
        self.budgets.set(budgets);
    }

    fn complain(&mut self, complaint: &str) {
        log(Level::Error, complaint);
    }
}

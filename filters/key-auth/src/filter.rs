//! The HTTP filter: reads the headers once, has core judge, and writes the outcome.

use std::rc::Rc;
use std::sync::Arc;

use tollgate_core::auth::{Authenticator, Config, Refusal};
use tollgate_core::config::ConfigError;
use tollgate_core::directory::Credential;
use tollgate_core::identity::PROPERTY;
use tollgate_core::journal::{Journal as _, Known};
use tollgate_core::plugin_config::to_json;
use tollgate_core::query::without_credentials;
use tollgate_core::reply::{Reader, Reply};
use tollgate_core::request::Request;
use tollgate_host::{
    Family, HeaderMap, HttpFilter, Level, RequestContext, RequestHeaders, RootContext, Status, Step, Sweep,
    log,
};

use crate::metrics::{FAMILIES, Metrics};

/// How often a worker looks for a changed directory.
pub const TICK_MILLIS: u32 = 250;

/// What one worker knows under one configuration.
pub struct KeyAuth {
    callers: Authenticator,
    metrics: Metrics,
}

impl HttpFilter for KeyAuth {
    const NAME: &'static str = "key-auth";
    type Config = Config;
    type Stream = ();
    const METRICS: &'static [&'static [Family]] = &[FAMILIES];

    fn check(configuration: Vec<u8>) -> Result<Config, Vec<ConfigError>> {
        Config::parse(&to_json(configuration)?)
    }

    fn start(config: Arc<Config>, host: &mut RootContext) -> Result<Self, ConfigError> {
        let callers = Authenticator::new(config, host);
        if callers.is_shared() {
            host.tick_every(TICK_MILLIS).map_err(ConfigError::unusable)?;
        }
        Ok(Self {
            callers,
            metrics: Metrics::define().map_err(ConfigError::unusable)?,
        })
    }

    fn request_headers(&mut self, _stream: &mut (), host: &mut RequestContext, _end: bool) -> Step {
        let judged = match host.headers.read() {
            Ok(headers) => self.authenticate(host, &headers).map(drop),
            Err(_) => Err(self.refuse(&Request::default(), &Refusal::Misconfigured)),
        };
        judged.map_or_else(Step::from, |()| Step::Continue)
    }

    fn orphaned() -> Reply {
        reply(&Request::default(), &Refusal::Misconfigured)
    }

    fn tick(&mut self, host: &mut RootContext) -> Sweep {
        self.callers.refresh(host);
        Sweep::Nothing
    }
}

impl KeyAuth {
    /// Judges a request by its headers, and tells those behind who it is. `Err` answers what may not pass.
    pub fn authenticate(
        &mut self,
        host: &mut RequestContext,
        headers: &HeaderMap,
    ) -> Result<Rc<Credential>, Reply> {
        let request = Request::read(headers.iter());
        // First of all, so that no log or answer of a refused request shows them either.
        let removed = request
            .removals()
            .iter()
            .try_for_each(|name| host.headers.remove(name))
            .and_then(|()| clean_query(&mut host.headers, request.path));
        let admitted = removed
            .map_err(misconfigured)
            .and_then(|()| self.callers.judge(&mut host.stream, &request))
            .and_then(|caller| {
                self.forward(host, &request, &caller.credential)
                    .map_err(misconfigured)?;
                Ok(caller)
            });
        match admitted {
            Ok(caller) => {
                host.stream.keep(|| Known::begun(caller.credential.caller()));
                self.metrics.allowed(caller.by_token);
                Ok(caller.credential)
            }
            Err(refusal) => Err(self.refuse(&request, &refusal)),
        }
    }

    fn refuse(&self, request: &Request<'_>, refusal: &Refusal) -> Reply {
        self.metrics.refused(refusal);
        reply(request, refusal)
    }

    fn forward(
        &self,
        host: &mut RequestContext,
        request: &Request<'_>,
        credential: &Credential,
    ) -> Result<(), Status> {
        let tenant = &credential.tenant;
        // None of these is there: what a client sent by these names was removed.
        host.headers.add("x-tollgate-org", &tenant.org)?;
        if let Some(project) = &tenant.project {
            host.headers.add("x-tollgate-project", project)?;
        }
        host.headers.add("x-tollgate-key-id", &credential.id)?;
        host.headers.add("x-tollgate-tier", &tenant.tier)?;
        host.stream.set_state(PROPERTY, &credential.state)?;
        // Envoy chose a route before this filter ran: by headers that a client may have made up, and without
        // those that say who it is.
        if request.spoofed || self.callers.route_on_identity() {
            host.clear_route_cache()?;
        }
        Ok(())
    }
}

/// Takes credentials out of the query.
fn clean_query(headers: &mut RequestHeaders, path: &[u8]) -> Result<(), Status> {
    let Some(path) = without_credentials(path) else {
        return Ok(());
    };
    headers.set(":path", &String::from_utf8_lossy(&path))
}

fn misconfigured(status: Status) -> Refusal {
    log(
        Level::Error,
        &format!("key-auth: the headers of a request cannot be changed: {status:?}"),
    );
    Refusal::Misconfigured
}

/// What answers in place of the upstream.
fn reply(request: &Request<'_>, refusal: &Refusal) -> Reply {
    refusal.reply(&Reader::of(Some(request.path), request.request_id))
}

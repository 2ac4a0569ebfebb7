//! The HTTP filter: reads the headers once, has core judge, and writes the outcome.

use std::rc::Rc;

use tollgate_core::auth::{Config, Refusal, TokenClaims, authorize, presented};
use tollgate_core::config::ConfigError;
use tollgate_core::directory::Credential;
use tollgate_core::directory::lookup::Lookup;
use tollgate_core::failed_auth::within;
use tollgate_core::identity::PROPERTY;
use tollgate_core::query::without_credentials;
use tollgate_core::reply::{Reader, Reply};
use tollgate_core::request::{Presented, Request};
use tollgate_host::{
    Action, HeaderMap, Host, Level, Map, Status, add_header, answer, clear_route_cache, client_address, log,
    now_nanos, remove_header, set_header, set_property,
};

use crate::metrics::Metrics;
use crate::token::{self, Token};

/// One configuration of the filter.
pub struct KeyAuth {
    config: Settings,
    lookup: Lookup,
    metrics: Metrics,
}

/// [`Config`] without its directory, which the look-up owns.
struct Settings {
    failed_auth: tollgate_core::gcra::Throttle,
    token: Option<TokenClaims>,
    route_on_identity: bool,
}

/// A caller who may go on.
pub struct Admitted {
    /// The caller, with all that the directory says.
    pub credential: Rc<Credential>,
    by_token: bool,
}

impl KeyAuth {
    /// Makes one of its configuration; all that is wrong with it is reported.
    pub fn configure(json: &[u8]) -> Result<Self, Vec<ConfigError>> {
        let config = Config::parse(json)?;
        Self::new(config).map_err(|status| vec![ConfigError::unusable(status)])
    }

    /// Whether [`Self::tick`] has anything to do.
    pub fn ticks(&self) -> bool {
        self.lookup.is_shared()
    }

    /// Sets the filter up. `Err` where its metrics can't be defined.
    pub fn new(config: Config) -> Result<Self, Status> {
        let Config {
            source,
            failed_auth,
            token,
            route_on_identity,
        } = config;
        Ok(Self {
            config: Settings {
                failed_auth,
                token,
                route_on_identity,
            },
            lookup: Lookup::new(source, &mut Host),
            metrics: Metrics::define()?,
        })
    }

    /// Looks for a changed directory; called every [`crate::module::TICK_MILLIS`].
    pub fn tick(&mut self) {
        self.lookup.refresh(&mut Host);
    }

    /// Judges a request by its headers.
    pub fn request_headers(&mut self, headers: &HeaderMap) -> Action {
        match self.authenticate(headers) {
            Ok(_) => Action::Continue,
            Err(answered) => answered,
        }
    }

    /// Judges a request by its headers, and tells those behind who it is. What may not pass is answered.
    pub fn authenticate(&mut self, headers: &HeaderMap) -> Result<Rc<Credential>, Action> {
        let request = Request::read(headers.iter());
        // First of all, so that no log or answer of a refused request shows them either.
        let removed = request
            .removals()
            .iter()
            .try_for_each(|name| remove_header(Map::Request, name))
            .and_then(|()| clean_query(request.path));
        let admitted = removed
            .map_err(misconfigured)
            .and_then(|()| self.judge(&request))
            .and_then(|admitted| {
                self.forward(&request, &admitted.credential)
                    .map_err(misconfigured)?;
                Ok(admitted)
            });
        match admitted {
            Ok(admitted) => {
                self.metrics.allowed(admitted.by_token);
                Ok(admitted.credential)
            }
            Err(refusal) => Err(self.refuse(&request, &refusal)),
        }
    }

    /// Answers a request whose headers can't be read.
    pub fn unreadable(&self) -> Action {
        self.refuse(&Request::default(), &Refusal::Misconfigured)
    }

    fn refuse(&self, request: &Request<'_>, refusal: &Refusal) -> Action {
        self.metrics.refused(refusal);
        refuse(request, refusal)
    }

    /// Who this is, or why not.
    pub fn judge(&mut self, request: &Request<'_>) -> Result<Admitted, Refusal> {
        self.identify(request).map_err(|refusal| {
            if refusal.is_failed_authentication()
                && !within(&mut Host, &self.config.failed_auth, client_address())
            {
                return Refusal::TooManyFailures;
            }
            refusal
        })
    }

    fn identify(&mut self, request: &Request<'_>) -> Result<Admitted, Refusal> {
        // Whoever asks: what stands behind may choose by it.
        if request.doubtful_host {
            return Err(Refusal::DoubtfulHost);
        }
        if let Some(token) = self.token(request)? {
            let found = self
                .lookup
                .token(&token.id, &token.org, token.project.as_deref(), &mut Host)?;
            let credential = Rc::new(found.ok_or(Refusal::UnknownTenant)?);
            authorize(&credential, request, String::new, now_seconds, client_address)?;
            return Ok(Admitted {
                credential,
                by_token: true,
            });
        }
        let key = presented(request)?;
        let credential = self.lookup.key(key, &mut Host)?;
        let credential = credential.ok_or_else(|| Refusal::Unknown(key.masked()))?;
        authorize(&credential, request, || key.masked(), now_seconds, client_address)?;
        Ok(Admitted {
            credential,
            by_token: false,
        })
    }

    /// The verified token, where tokens are taken and the request has one. A key beside it is one credential
    /// too many.
    fn token(&self, request: &Request<'_>) -> Result<Option<Token>, Refusal> {
        let Some(claims) = &self.config.token else {
            return Ok(None);
        };
        let Some(token) = token::read(claims).map_err(|()| Refusal::UnknownTenant)? else {
            return Ok(None);
        };
        match request.credential() {
            Presented::Nothing => Ok(Some(token)),
            // `jwt_authn` with `forward: true` leaves the token where it was.
            Presented::Key(key) if key.is_token() => Ok(Some(token)),
            _ => Err(Refusal::Ambiguous),
        }
    }

    fn forward(&self, request: &Request<'_>, credential: &Credential) -> Result<(), Status> {
        let tenant = &credential.tenant;
        // None of these is there: what a client sent by these names was removed.
        add_header(Map::Request, "x-tollgate-org", &tenant.org)?;
        if let Some(project) = &tenant.project {
            add_header(Map::Request, "x-tollgate-project", project)?;
        }
        add_header(Map::Request, "x-tollgate-key-id", &credential.id)?;
        add_header(Map::Request, "x-tollgate-tier", &tenant.tier)?;
        set_property(PROPERTY, &credential.state)?;
        // Envoy chose a route before this filter ran: by headers that a client may have made up, and without
        // those that say who it is.
        if request.spoofed || self.config.route_on_identity {
            clear_route_cache()?;
        }
        Ok(())
    }
}

/// Takes credentials out of the query.
fn clean_query(path: &[u8]) -> Result<(), Status> {
    let Some(path) = without_credentials(path) else {
        return Ok(());
    };
    set_header(Map::Request, ":path", &String::from_utf8_lossy(&path))
}

fn misconfigured(status: Status) -> Refusal {
    log(
        Level::Error,
        &format!("key-auth: the headers of a request cannot be changed: {status:?}"),
    );
    Refusal::Misconfigured
}

/// Seconds since 1970.
fn now_seconds() -> Option<i64> {
    now_nanos().ok().map(|nanos| (nanos / 1_000_000_000) as i64)
}

/// Answers in place of the upstream.
pub(crate) fn refuse(request: &Request<'_>, refusal: &Refusal) -> Action {
    let reader = Reader::of(Some(request.path), request.request_id);
    answer(
        "key-auth",
        &Reply::error(&refusal.answer(), refusal.reason(), &reader),
    )
}

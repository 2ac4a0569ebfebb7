//! Who is calling: a key that the directory knows, or a token that the proxy verified.

use std::rc::Rc;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::{Config, Refusal, TokenClaims, authorize, presented};
use crate::bound::Overrides;
use crate::directory::Credential;
use crate::directory::lookup::Lookup;
use crate::exchange::{Exchange, Host};
use crate::failed_auth::within;
use crate::request::{Presented, Request};
use crate::state::{Clock, Store};
use crate::trace::Note;

/// What a worker knows of callers under one configuration.
pub struct Authenticator {
    config: Arc<Config>,
    lookup: Lookup,
}

/// A caller who may go on.
#[derive(Debug)]
pub struct Caller {
    /// With all that the directory says.
    pub credential: Rc<Credential>,
    /// Whether a token was presented, and not a key.
    pub by_token: bool,
}

/// What a verified token says of its bearer.
struct Token {
    id: String,
    org: String,
    project: Option<String>,
}

impl Authenticator {
    /// One that goes by this configuration.
    pub fn new(config: Arc<Config>, host: &mut (impl Store + Clock)) -> Self {
        Self {
            lookup: Lookup::new(Arc::clone(&config.source), host),
            config,
        }
    }

    /// Whether [`Self::refresh`] has anything to do.
    pub fn is_shared(&self) -> bool {
        self.lookup.is_shared()
    }

    /// Looks for a changed directory; what it withdrew is refused from here on.
    pub fn refresh(&mut self, host: &mut (impl Store + Clock)) {
        self.lookup.refresh(host);
    }

    /// Whether routes may match on the headers that say who is calling.
    pub fn route_on_identity(&self) -> bool {
        self.config.route_on_identity
    }

    /// Who this is, or why not. A failed authentication is counted by address.
    pub fn judge(&mut self, host: &mut impl Host, request: &Request<'_>) -> Result<Caller, Refusal> {
        let judged = self.identify(host, request);
        if let Ok(Caller { credential, .. }) = &judged {
            host.note(|| {
                let tenant = &credential.tenant;
                Note::Caller {
                    key: credential.id.clone(),
                    org: tenant.org.clone(),
                    project: tenant.project.clone(),
                    tier: tenant.tier.clone(),
                    overrides: credential
                        .identity()
                        .map_or(Overrides::NONE, |identity| identity.overrides.clone()),
                }
            });
        }
        judged.map_err(|refusal| {
            if refusal.is_failed_authentication() {
                let client = host.client();
                if !within(host, &self.config.failed_auth, client) {
                    return Refusal::TooManyFailures;
                }
            }
            refusal
        })
    }

    fn identify(&mut self, host: &mut impl Host, request: &Request<'_>) -> Result<Caller, Refusal> {
        // Whoever asks: what stands behind may choose by it.
        if request.ambiguous_host {
            return Err(Refusal::AmbiguousHost);
        }
        let (credential, key) = match self.token(host, request)? {
            Some(Token { id, org, project }) => {
                let found = self.lookup.token(&id, &org, project.as_deref(), host)?;
                (Rc::new(found.ok_or(Refusal::UnknownTenant)?), None)
            }
            None => {
                let key = presented(request)?;
                let found = self.lookup.key(key, host)?;
                (found.ok_or_else(|| Refusal::Unknown(key.masked()))?, Some(key))
            }
        };
        let masked = || key.map(|key| key.masked()).unwrap_or_default();
        authorize(&credential, request, masked, host)?;
        Ok(Caller {
            credential,
            by_token: key.is_none(),
        })
    }

    /// The verified token, where tokens are taken and the request has one. A key beside it is one credential
    /// too many.
    fn token(&self, host: &impl Exchange, request: &Request<'_>) -> Result<Option<Token>, Refusal> {
        let Some(claims) = &self.config.token else {
            return Ok(None);
        };
        let Some(token) = Token::read(host, claims)? else {
            return Ok(None);
        };
        match request.credential() {
            Presented::Nothing => Ok(Some(token)),
            // `jwt_authn` with `forward: true` leaves the token where it was.
            Presented::Key(key) if key.is_token() => Ok(Some(token)),
            _ => Err(Refusal::Ambiguous),
        }
    }
}

impl Token {
    /// The verified token of the request; `Ok(None)` where there is none. `Err` where there is one that does not say for
    /// whom.
    fn read(host: &impl Exchange, claims: &TokenClaims) -> Result<Option<Self>, Refusal> {
        let claim = |name: &str| match host.claim(&claims.metadata_key, name) {
            Ok(text) => text
                // Empty is not absent: a token without a project speaks for the whole organization.
                .map(|text| {
                    Some(text)
                        .filter(|text| !text.is_empty())
                        .ok_or(Refusal::UnknownTenant)
                })
                .transpose(),
            Err(_) => Err(Refusal::UnknownTenant),
        };
        let (org, subject) = (claim(&claims.org_claim)?, claim(&claims.subject_claim)?);
        match (org, subject) {
            (Some(org), Some(subject)) => Ok(Some(Self {
                id: id(&org, &subject),
                org,
                project: claim(&claims.project_claim)?,
            })),
            (None, None) => Ok(None),
            _ => Err(Refusal::UnknownTenant),
        }
    }
}

/// A public id that stays the same for a subject of an organization and does not show it: subjects are often mail
/// addresses.
fn id(org: &str, subject: &str) -> String {
    let digest: [u8; 32] = Sha256::new()
        .chain_update(org)
        .chain_update([0])
        .chain_update(subject)
        .finalize()
        .into();
    digest
        .iter()
        .take(8)
        .fold("jwt-".to_owned(), |id, byte| format!("{id}{byte:02x}"))
}

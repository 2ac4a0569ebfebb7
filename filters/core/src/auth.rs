//! The judgement: may this caller make this request?
//!
//! The order of checks is part of the contract: who presents a key that is not valid learns nothing more, and
//! who presents one from an address where it must not be used learns nothing of its tenant.

mod caller;
mod config;
mod reason;

pub use caller::{Authenticator, Caller};
pub use config::{Config, TokenClaims};
pub use reason::Reason;

use crate::directory::lookup::Failure;
use crate::directory::{Credential, KeyStatus};
use crate::error::{ApiError, Retry};
use crate::exchange::Exchange;
use crate::reply::{Reader, Reply};
use crate::request::{Presented, Request, Secret};
use crate::state::Clock;
use crate::trace::{Check, Note, Trace};

/// Why a request is refused. Each has one answer ([`Refusal::answer`]) and one [`Reason`] for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The customer presented nothing.
    MissingKey,
    /// No host of which every server makes the same.
    AmbiguousHost,
    /// Two different keys.
    Ambiguous,
    /// It can't be a key: a typo, or a guess. Holds the masked key.
    Malformed(String),
    /// Not in the directory.
    Unknown(String),
    /// Revoked by an operator.
    Revoked(String),
    /// Not valid yet.
    NotYetValid(String),
    /// Its time is over.
    Expired(String),
    /// Used from outside the key's networks.
    AddressNotAllowed,
    /// The organization is frozen.
    OrganizationSuspended,
    /// The project is frozen.
    ProjectSuspended,
    /// The key is frozen.
    KeySuspended,
    /// `OpenAI-Organization` names another.
    MismatchedOrganization,
    /// `OpenAI-Project` names another.
    MismatchedProject,
    /// The key's scopes don't cover the endpoint; holds the scope's name, empty for an unknown path.
    InsufficientScope(&'static str),
    /// A verified token whose claims name no tenant of the directory.
    UnknownTenant,
    /// Too many failed authentications from one address.
    TooManyFailures,
    /// No directory, or one too old to be trusted.
    DirectoryUnavailable,
    /// The filter has no configuration, or something that always is there was not.
    Misconfigured,
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unavailable => Self::DirectoryUnavailable,
            Failure::Malformed(masked) => Self::Malformed(masked),
        }
    }
}

impl Refusal {
    /// Whether it counts towards the limit on failed authentications of an address.
    pub const fn is_failed_authentication(&self) -> bool {
        matches!(
            self,
            Self::MissingKey
                | Self::Malformed(_)
                | Self::Unknown(_)
                | Self::Revoked(_)
                | Self::NotYetValid(_)
                | Self::Expired(_)
                | Self::UnknownTenant
        )
    }

    /// Its place in the list of reasons.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::MissingKey => Reason::MissingKey,
            Self::AmbiguousHost => Reason::AmbiguousHost,
            Self::Ambiguous => Reason::Ambiguous,
            Self::Malformed(_) => Reason::Malformed,
            Self::Unknown(_) => Reason::Unknown,
            Self::Revoked(_) => Reason::Revoked,
            Self::NotYetValid(_) => Reason::NotYetValid,
            Self::Expired(_) => Reason::Expired,
            Self::AddressNotAllowed => Reason::AddressNotAllowed,
            Self::OrganizationSuspended => Reason::OrganizationSuspended,
            Self::ProjectSuspended => Reason::ProjectSuspended,
            Self::KeySuspended => Reason::KeySuspended,
            Self::MismatchedOrganization => Reason::MismatchedOrganization,
            Self::MismatchedProject => Reason::MismatchedProject,
            Self::InsufficientScope(_) => Reason::InsufficientScope,
            Self::UnknownTenant => Reason::UnknownTenant,
            Self::TooManyFailures => Reason::TooManyFailures,
            Self::DirectoryUnavailable => Reason::DirectoryUnavailable,
            Self::Misconfigured => Reason::Misconfigured,
        }
    }

    /// What the customer is told.
    pub fn reply(&self, reader: &Reader) -> Reply {
        Reply::error(&self.answer(), self.reason().name(), reader)
    }

    /// What the customer is told.
    pub fn answer(&self) -> ApiError {
        let (status, code, message): (u16, &'static str, String) = match self {
            Self::MissingKey => (
                401,
                "missing_api_key",
                "No API key was given. Send it as `Authorization: Bearer YOUR_KEY` (or as `x-api-key` or `api-key`)."
                    .into(),
            ),
            Self::AmbiguousHost => (
                400,
                "bad_request",
                "The request has to name one host, as a name or an address, with or without a port.".into(),
            ),
            Self::Ambiguous => (
                400,
                "ambiguous_credentials",
                "The request carries two different API keys. Send one, or the same in each header.".into(),
            ),
            // One answer for all of these: which it was is nobody's business but the operator's.
            Self::Malformed(key)
            | Self::Unknown(key)
            | Self::Revoked(key)
            | Self::NotYetValid(key)
            | Self::Expired(key) => (
                401,
                "invalid_api_key",
                format!("Incorrect API key provided: {key}. Check that it is complete, and that it is still in use."),
            ),
            Self::UnknownTenant => {
                (401, "invalid_api_key", "The access token is not valid for any organization here.".into())
            }
            Self::AddressNotAllowed => {
                (403, "ip_not_allowed", "This API key may not be used from your network address.".into())
            }
            Self::OrganizationSuspended => (
                403,
                "organization_suspended",
                "Your organization has been suspended. Please contact the operator of this service.".into(),
            ),
            Self::ProjectSuspended => (
                403,
                "project_suspended",
                "This project has been suspended. Please contact your organization's administrator.".into(),
            ),
            Self::KeySuspended => (
                403,
                "key_suspended",
                "This API key has been suspended. Please contact your organization's administrator.".into(),
            ),
            Self::MismatchedOrganization => (
                401,
                "mismatched_organization",
                "The OpenAI-Organization header does not match the organization of this API key.".into(),
            ),
            Self::MismatchedProject => (
                401,
                "mismatched_project",
                "The OpenAI-Project header does not match the project of this API key.".into(),
            ),
            Self::InsufficientScope("") => {
                (403, "insufficient_scope", "This API key is limited to certain endpoints, and this is not one of them.".into())
            }
            Self::InsufficientScope(scope) => (
                403,
                "insufficient_scope",
                format!("This API key has insufficient permissions for this operation. Missing scope: {scope}."),
            ),
            Self::TooManyFailures => (
                429,
                "rate_limit_exceeded",
                "Too many requests without a valid API key came from your network address. \
                 Requests with a valid key are not affected."
                    .into(),
            ),
            Self::DirectoryUnavailable => (
                503,
                "directory_unavailable",
                "API keys cannot be checked at the moment. Please try again shortly.".into(),
            ),
            Self::Misconfigured => (
                500,
                "gateway_misconfigured",
                "The gateway is not configured to serve this request. Please contact its operator.".into(),
            ),
        };
        let (kind, retry) = match self {
            // Waiting makes no bad key good.
            Self::TooManyFailures => ("requests", Retry::Never),
            Self::DirectoryUnavailable => ("service_unavailable_error", Retry::AfterMillis(1_000)),
            Self::Misconfigured => ("server_error", Retry::Unsaid),
            _ => ("invalid_request_error", Retry::Unsaid),
        };
        ApiError {
            status,
            kind,
            code,
            param: None,
            message: message.into(),
            retry,
        }
    }
}

/// The one key that a request presents.
pub fn presented<'a>(request: &Request<'a>) -> Result<Secret<'a>, Refusal> {
    match request.credential() {
        Presented::Nothing => Err(Refusal::MissingKey),
        Presented::Ambiguous => Err(Refusal::Ambiguous),
        Presented::Key(key) => Ok(key),
    }
}

/// Judges a request that presents `credential`, and notes each check that it passes. The host is asked for the time and the
/// client's address only where the credential depends on them.
pub fn authorize(
    credential: &Credential,
    request: &Request<'_>,
    masked: impl FnOnce() -> String,
    host: &mut (impl Clock + Exchange + Trace),
) -> Result<(), Refusal> {
    if credential.status == KeyStatus::Revoked {
        return Err(Refusal::Revoked(masked()));
    }
    host.note(|| Note::Passed(Check::Known));
    if credential.depends_on_time() {
        // Without a clock no limit in time can be kept.
        let now = host.seconds().ok_or(Refusal::Misconfigured)? as i64;
        if credential.expires_at.is_some_and(|end| now >= end) {
            return Err(Refusal::Expired(masked()));
        }
        if credential.not_before.is_some_and(|start| now < start) {
            return Err(Refusal::NotYetValid(masked()));
        }
        host.note(|| Note::Passed(Check::Time));
    }
    if !credential.networks.is_empty() {
        let network = credential
            .network_of(host.client())
            .ok_or(Refusal::AddressNotAllowed)?;
        host.note(|| Note::Passed(Check::Network(network)));
    }
    if credential.tenant.org_suspended {
        return Err(Refusal::OrganizationSuspended);
    }
    host.note(|| Note::Passed(Check::Organization));
    if credential.tenant.project_suspended {
        return Err(Refusal::ProjectSuspended);
    }
    if credential.tenant.project.is_some() {
        host.note(|| Note::Passed(Check::Project));
    }
    if credential.status == KeyStatus::Suspended {
        return Err(Refusal::KeySuspended);
    }
    host.note(|| Note::Passed(Check::Status));
    if !request.organization.agrees(Some(&credential.tenant.org)) {
        return Err(Refusal::MismatchedOrganization);
    }
    if !request.project.agrees(credential.tenant.project.as_deref()) {
        return Err(Refusal::MismatchedProject);
    }
    let scope = request.scope();
    if !credential.scopes.allow(scope) {
        return Err(Refusal::InsufficientScope(
            scope.map_or("", crate::endpoint::Scope::name),
        ));
    }
    host.note(|| Note::Passed(Check::Scope));
    Ok(())
}

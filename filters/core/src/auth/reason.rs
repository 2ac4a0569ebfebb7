//! Why callers are refused: the one list from which details of answers and metrics come.

use crate::reasons::reasons;

reasons! {
    /// The customer presented nothing.
    MissingKey "missing_api_key",
    /// No host of which every server makes the same.
    AmbiguousHost "ambiguous_host",
    /// Two different keys.
    Ambiguous "ambiguous_credentials",
    /// It can't be a key: a typo, or a guess.
    Malformed "malformed_key",
    /// Not in the directory.
    Unknown "unknown_key",
    /// Revoked by an operator.
    Revoked "revoked",
    /// Not valid yet.
    NotYetValid "not_yet_valid",
    /// Its time is over.
    Expired "expired",
    /// Used from outside the key's networks.
    AddressNotAllowed "ip_not_allowed",
    /// The organization is frozen.
    OrganizationSuspended "organization_suspended",
    /// The project is frozen.
    ProjectSuspended "project_suspended",
    /// The key is frozen.
    KeySuspended "key_suspended",
    /// `OpenAI-Organization` names another.
    MismatchedOrganization "mismatched_organization",
    /// `OpenAI-Project` names another.
    MismatchedProject "mismatched_project",
    /// The key's scopes don't cover the endpoint.
    InsufficientScope "insufficient_scope",
    /// A verified token whose claims name no tenant of the directory.
    UnknownTenant "unknown_tenant",
    /// Too many failed authentications from one address.
    TooManyFailures "auth_rate_limited",
    /// No directory, or one too old to be trusted.
    DirectoryUnavailable "directory_unavailable",
    /// The filter has no configuration, or something that always is there was not.
    Misconfigured "misconfigured",
}

//! What a configuration is for, by its names in Envoy's files and by its members.

use super::tree::Node;

/// What reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    KeyAuth,
    TenantRouter,
    RateLimit,
    /// The three above as one.
    Gateway,
    UpstreamAdapter,
    /// The fetcher of the directory document.
    Directory,
    /// The member of the fleet.
    Fleet,
    /// The logger of attempts.
    Attempts,
    /// The native logger of usage records.
    Usage,
    /// The directory document itself.
    Document,
}

/// Every kind that a file of Envoy's names, with its name.
const NAMES: [(Kind, &str); 9] = [
    (Kind::KeyAuth, "key-auth"),
    (Kind::TenantRouter, "tenant-router"),
    (Kind::RateLimit, "rate-limit"),
    (Kind::Gateway, "gateway"),
    (Kind::UpstreamAdapter, "upstream-adapter"),
    (Kind::Directory, "directory"),
    (Kind::Fleet, "fleet"),
    (Kind::Attempts, "attempts"),
    (Kind::Usage, "usage"),
];

/// By which members of its own a configuration is known that stands alone.
const MEMBERS: [(Kind, &[&str]); 7] = [
    (Kind::Gateway, &["key_auth", "tenant_router", "rate_limit"]),
    (Kind::KeyAuth, &["directory", "failed_auth", "route_on_identity"]),
    (
        Kind::TenantRouter,
        &[
            "catalogue",
            "breaker",
            "allow_fallback",
            "priorities",
            "uploads",
            "refusals",
        ],
    ),
    (
        Kind::RateLimit,
        &["limits", "capacity", "abandoned_hold", "limit_headers"],
    ),
    (Kind::UpstreamAdapter, &["providers"]),
    (Kind::Directory, &["refresh", "authority", "allow_empty"]),
    (Kind::Document, &["orgs", "keys"]),
];

impl Kind {
    /// Its name: `root_id`, or `filter_name` and its kin.
    pub(crate) fn name(self) -> &'static str {
        let mut names = NAMES.iter();
        names
            .find(|(kind, _)| *kind == self)
            .map_or("directory document", |(_, name)| name)
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        let mut names = NAMES.iter();
        names.find(|(_, known)| *known == name).map(|(kind, _)| *kind)
    }

    /// All names, for those who may have meant one.
    pub(crate) fn all() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|(_, name)| *name)
    }

    /// What a document is that is no file of Envoy's.
    pub(crate) fn of(root: &Node) -> Option<Self> {
        let known = |names: &[&str]| names.iter().any(|name| root.get(name).is_some());
        let mut members = MEMBERS.iter();
        members.find(|(_, names)| known(names)).map(|(kind, _)| *kind)
    }

    /// Whether it holds headers while it waits for a body.
    pub(crate) const fn waits(self) -> bool {
        matches!(self, Self::TenantRouter | Self::Gateway | Self::UpstreamAdapter)
    }

    /// Whether requests pass through it.
    pub(crate) const fn is_filter(self) -> bool {
        matches!(
            self,
            Self::KeyAuth | Self::TenantRouter | Self::RateLimit | Self::Gateway | Self::UpstreamAdapter
        )
    }
}

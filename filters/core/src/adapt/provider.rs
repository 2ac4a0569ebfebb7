//! A provider, as the checked configuration has it.

use super::names::Names;

/// What a client may have used as its credential. It is for the gateway and goes to no provider.
pub(super) const CLIENT_CREDENTIALS: [&str; 4] =
    ["api-key", "authorization", "proxy-authorization", "x-api-key"];

/// Every provider.
pub struct Providers {
    /// Sorted by name.
    pub(super) all: Vec<Provider>,
    /// Names of all headers that hold a credential of some provider or of a client.
    pub(super) credentials: Vec<String>,
}

/// One provider: how it is asked.
pub struct Provider {
    /// Its name in the metadata of endpoints.
    pub name: String,
    /// Its names of models.
    pub names: Names,
    /// Put before the path; may be empty.
    pub path_prefix: String,
    /// `Host`; `None` leaves it.
    pub authority: Option<String>,
    /// What it knows us by.
    pub credential: Option<Credential>,
    /// Headers that are set.
    pub headers: Vec<(String, String)>,
    /// Patterns of headers that are removed.
    pub remove: Vec<String>,
    /// Whether it may learn who asks.
    pub share_identity: bool,
}

/// Where a provider's secret comes from, and where it goes.
pub struct Credential {
    /// Its name, as the operator calls it.
    pub secret: String,
    /// The header that Envoy puts it into, in front of this filter.
    pub from: String,
    /// The header that the provider reads.
    pub header: String,
    /// Put before it.
    pub prefix: String,
}

impl Providers {
    /// In order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Provider> {
        self.all.iter()
    }

    /// The place of a provider, by its name.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.all
            .binary_search_by(|provider| provider.name.as_str().cmp(name))
            .ok()
    }

    /// Whether nothing behind this filter may see a header: a secret of some provider, or what a client used as its
    /// credential.
    pub(super) fn is_credential(&self, header: &[u8]) -> bool {
        begins(header, b"x-tollgate-secret-") || self.credentials.iter().any(|name| name.as_bytes() == header)
    }
}

/// Headers that say who asks and from where.
pub(super) fn tells_identity(header: &[u8]) -> bool {
    const NAMES: [&[u8]; 7] = [
        b"cookie",
        b"forwarded",
        b"openai-organization",
        b"openai-project",
        b"x-forwarded-for",
        b"x-real-ip",
        b"x-client-cert",
    ];
    begins(header, b"x-tollgate-") || begins(header, b"x-envoy-") || NAMES.contains(&header)
}

/// Whether a name begins so, to a server that takes `_` for `-` too.
fn begins(name: &[u8], prefix: &[u8]) -> bool {
    let spelled = |byte: &u8| if *byte == b'_' { b'-' } else { *byte };
    name.get(..prefix.len())
        .is_some_and(|start| start.iter().map(spelled).eq(prefix.iter().copied()))
}

impl Credential {
    /// The secret among the values of [`Self::from`]: one, of visible characters. Envoy writes `-` where an
    /// environment variable is not set.
    pub(super) fn find<'a>(&self, headers: &[(&'a [u8], &'a [u8])]) -> Option<&'a str> {
        let mut values = headers
            .iter()
            .filter(|(name, _)| *name == self.from.as_bytes())
            .map(|(_, value)| value.trim_ascii());
        let value = values.next()?;
        let plain = !value.is_empty() && value != b"-" && value.iter().all(u8::is_ascii_graphic);
        let alone = values.all(|other| other == value);
        core::str::from_utf8(value).ok().filter(|_| plain && alone)
    }
}

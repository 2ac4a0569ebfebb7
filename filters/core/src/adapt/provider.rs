//! A provider, as the checked configuration has it.

use super::allowed;
use super::names::ModelNames;
use crate::glob::fits;
use crate::headers::{begins, ends_here};

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
    pub names: ModelNames,
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
    /// Headers that it sees besides those that every provider sees; of one with a credential.
    pub allow: Vec<String>,
    /// Headers of its answers that customers see besides; of one with a credential.
    pub allow_answer: Vec<String>,
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
        begins(header, "x-tollgate-secret-") || self.credentials.iter().any(|name| name.as_bytes() == header)
    }
}

impl Provider {
    /// Whether it sees a header of a request.
    pub(super) fn sees(&self, name: &str) -> bool {
        let header = name.as_bytes();
        if ends_here(header) || self.remove.iter().any(|pattern| fits(pattern, name)) {
            return false;
        }
        match tells_identity(header) {
            true => self.share_identity || self.allows(name),
            false => self.credential.is_none() || allowed::to_provider(header) || self.allows(name),
        }
    }

    fn allows(&self, name: &str) -> bool {
        self.allow.iter().any(|allowed| allowed == name)
    }

    /// Whether a customer sees a header of its answer. What is another's than ours has [`crate::headers`] besides.
    pub fn says(&self, name: &[u8]) -> bool {
        self.credential.is_none()
            || allowed::from_provider(name)
            || self.allow_answer.iter().any(|allowed| allowed.as_bytes() == name)
    }
}

/// Headers that say who asks and from where.
fn tells_identity(header: &[u8]) -> bool {
    const NAMES: [&[u8]; 5] = [
        b"openai-organization",
        b"openai-project",
        b"x-client-cert",
        b"x-forwarded-client-cert",
        b"x-forwarded-for",
    ];
    begins(header, "x-tollgate-") || begins(header, "x-envoy-") || NAMES.contains(&header)
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

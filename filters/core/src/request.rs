//! One pass over a request's headers: where it goes, what it presents, and what must not go on.

use crate::endpoint::Scope;
use crate::headers::{begins, ends_here};
use crate::key::{Form, KeyHash, KeyTag, form};

/// Longest credential that is looked at; a longer one is malformed. Ours have 68 characters.
pub const MAX_KEY_LEN: usize = 512;

/// What authentication needs of a request's headers. Borrows from them.
#[derive(Debug, Default)]
pub struct Request<'a> {
    /// `:path`, with its query.
    pub path: &'a [u8],
    /// `x-request-id`, as Envoy made it.
    pub request_id: Option<&'a str>,
    /// `OpenAI-Organization`, where given and not empty.
    pub organization: Named<'a>,
    /// `OpenAI-Project`, likewise.
    pub project: Named<'a>,
    /// Whether `:authority` is there and is no host of which every server makes the same: two of them, joined by Envoy, say.
    pub ambiguous_host: bool,
    credential: Presented<'a>,
    remove: Vec<&'a [u8]>,
    /// Whether a client tried to set one of the gateway's own or Envoy's control headers.
    pub spoofed: bool,
}

/// A header that names a tenant; two different values can't both be true.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Named<'a> {
    /// Not given, or empty.
    #[default]
    Absent,
    /// Given.
    Is(&'a [u8]),
    /// Given with different values.
    Contradicts,
}

impl<'a> Named<'a> {
    fn and(self, value: &'a [u8]) -> Self {
        match self {
            _ if value.is_empty() => self,
            Self::Absent => Self::Is(value),
            Self::Is(first) if first == value => self,
            _ => Self::Contradicts,
        }
    }

    /// Whether a caller of tenant `own` may have said this.
    pub fn agrees(self, own: Option<&str>) -> bool {
        match self {
            Self::Absent => true,
            Self::Is(name) => own.is_some_and(|own| own.as_bytes() == name),
            Self::Contradicts => false,
        }
    }
}

/// The credential of a request.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Presented<'a> {
    /// None at all.
    #[default]
    Nothing,
    /// One, perhaps in several headers.
    Key(Secret<'a>),
    /// Two that differ.
    Ambiguous,
}

/// Bytes of a credential in clear. Its `Debug` shows nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret<'a>(&'a [u8]);

impl core::fmt::Debug for Secret<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Secret([redacted])")
    }
}

impl<'a> Secret<'a> {
    /// Its hash, to look it up by; `None` where its form alone says that it is no key.
    pub fn hash(self) -> Option<KeyHash> {
        let plausible = self.0.len() <= MAX_KEY_LEN && form(self.0) != Form::Broken;
        plausible.then(|| KeyHash::of(self.0))
    }

    /// A name for it that costs a tenth of its hash, to find it again in a cache by.
    pub fn tag(self, seed: u64) -> KeyTag {
        KeyTag::of(self.0, seed)
    }

    /// As an error message may show it.
    pub fn masked(self) -> String {
        crate::key::masked(self.0)
    }

    /// Whether it has the form of a JSON web token: three parts, the first an encoded JSON object.
    pub fn is_token(self) -> bool {
        self.0.starts_with(b"eyJ") && self.0.iter().filter(|byte| **byte == b'.').count() == 2
    }
}

impl<'a> Request<'a> {
    /// Reads all headers, names in lower case as Envoy gives them.
    pub fn read(headers: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Self {
        let mut request = Self::default();
        for (name, value) in headers {
            request.header(name, value);
        }
        request
    }

    fn header(&mut self, name: &'a [u8], value: &'a [u8]) {
        // The first letter rules out nearly all headers.
        match name.first() {
            Some(b':') if name == b":path" => self.path = value,
            Some(b':') if name == b":authority" => self.ambiguous_host |= !is_host(value),
            Some(b'a') if name == b"authorization" => {
                self.remove(name);
                self.authorization(value);
            }
            Some(b'a') if name == b"api-key" => {
                self.remove(name);
                self.present(value.trim_ascii());
            }
            Some(b'o') if name == b"openai-organization" => {
                self.organization = self.organization.and(value.trim_ascii());
            }
            Some(b'o') if name == b"openai-project" => self.project = self.project.and(value.trim_ascii()),
            Some(b'x') => self.extension(name, value),
            // With `x` the letters that names begin with which end here.
            Some(b'b' | b'c' | b'f' | b'i' | b'o' | b'p' | b'r' | b's' | b't' | b'v' | b'w')
                if ends_here(name) =>
            {
                self.remove(name)
            }
            _ => {}
        }
    }

    /// Envoy joins several headers of this name into one. A bearer token never holds a comma: what stands behind one
    /// without a scheme of its own (`Bearer a,b`) is a second one, or a part of the first to another reader.
    fn authorization(&mut self, value: &'a [u8]) {
        let (mut bears, mut other) = (false, false);
        for credential in value.split(|byte| *byte == b',') {
            let key = bearer(credential);
            bears |= !key.is_empty();
            let credential = credential.trim_ascii();
            let scheme = credential.contains(&b' ') || credential.eq_ignore_ascii_case(b"bearer");
            other |= !credential.is_empty() && !scheme;
            self.present(key);
        }
        if bears && other {
            self.credential = Presented::Ambiguous;
        }
    }

    fn extension(&mut self, name: &'a [u8], value: &'a [u8]) {
        if name.starts_with(b"x-stainless-") {
            // The SDKs' own, and most of what they send.
        } else if name == b"x-api-key" {
            self.remove(name);
            self.present(value.trim_ascii());
        } else if name == b"x-request-id" {
            self.request_id = core::str::from_utf8(value).ok();
        } else if names_identity(name) || controls_envoy(name) {
            self.remove(name);
            self.spoofed = true;
        } else if ends_here(name) {
            self.remove(name);
        }
    }

    fn present(&mut self, key: &'a [u8]) {
        self.credential = match self.credential {
            _ if key.is_empty() => return,
            Presented::Nothing => Presented::Key(Secret(key)),
            Presented::Key(first) if first.0 == key => return,
            _ => Presented::Ambiguous,
        };
    }

    fn remove(&mut self, name: &'a [u8]) {
        if !self.remove.contains(&name) {
            self.remove.push(name);
        }
    }

    /// What the request presents.
    pub fn credential(&self) -> Presented<'a> {
        self.credential
    }

    /// Names of the headers that nothing behind this filter may see, each once.
    pub fn removals(&self) -> &[&'a [u8]] {
        &self.remove
    }

    /// The scope that the path asks for.
    pub fn scope(&self) -> Option<Scope> {
        Scope::of(self.path)
    }
}

/// Whether it is one host, by its name or address, perhaps with a port.
fn is_host(authority: &[u8]) -> bool {
    const LONGEST: usize = 255;
    let (host, port) = match memchr::memrchr(b':', authority) {
        Some(at) if !authority.ends_with(b"]") => authority.split_at_checked(at).unwrap_or_default(),
        _ => (authority, &b""[..]),
    };
    let digits = port.get(1..).unwrap_or_default();
    let port = port.is_empty() || ((1..=5).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit));
    let literal = host.strip_prefix(b"[").and_then(|host| host.strip_suffix(b"]"));
    let plain = match literal {
        Some(address) => {
            let part = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
            !address.is_empty() && address.iter().all(part)
        }
        None => {
            let part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            let name = host.strip_suffix(b".").unwrap_or(host);
            name.split(|byte| *byte == b'.')
                .all(|label| (1..=63).contains(&label.len()) && label.iter().all(part))
        }
    };
    port && plain && authority.len() <= LONGEST
}

/// `x-tollgate-*`, in any spelling that a WSGI server would read as such: to it, `_` is `-`.
fn names_identity(name: &[u8]) -> bool {
    begins(name, "x-tollgate-")
}

/// `x-envoy-*`, by which a client could order retries, timeouts or another path from Envoy. The one that Envoy
/// itself sets at an edge listener, to the address it determined, stays: it orders nothing.
fn controls_envoy(name: &[u8]) -> bool {
    name.starts_with(b"x-envoy-") && name != b"x-envoy-external-address"
}

/// The key in `Bearer KEY`; empty for another scheme.
fn bearer(value: &[u8]) -> &[u8] {
    let value = value.trim_ascii();
    match value.split_first_chunk::<7>() {
        Some((scheme, key)) if scheme.eq_ignore_ascii_case(b"bearer ") => key.trim_ascii(),
        _ => b"",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read<'a>(headers: &[(&'a str, &'a str)]) -> Request<'a> {
        Request::read(
            headers
                .iter()
                .map(|(name, value)| (name.as_bytes(), value.as_bytes())),
        )
    }

    fn key(text: &str) -> Presented<'_> {
        Presented::Key(Secret(text.as_bytes()))
    }

    #[test]
    fn a_key_comes_in_any_of_three_headers() {
        assert_eq!(read(&[("authorization", "Bearer k1")]).credential(), key("k1"));
        assert_eq!(read(&[("authorization", "bearer   k1 ")]).credential(), key("k1"));
        assert_eq!(read(&[("x-api-key", "k1")]).credential(), key("k1"));
        assert_eq!(read(&[("api-key", " k1")]).credential(), key("k1"));
        assert_eq!(
            read(&[("api-key", "k1"), ("authorization", "Bearer k1")]).credential(),
            key("k1")
        );
    }

    #[test]
    fn two_different_keys_are_ambiguous() {
        for headers in [
            [("api-key", "k1"), ("authorization", "Bearer k2")],
            [("authorization", "Bearer k1"), ("authorization", "Bearer k2")],
            [("authorization", "Bearer k1,Bearer k2"), ("x", "")],
            [("authorization", "Basic x, Bearer k1"), ("api-key", "k2")],
            [("authorization", "Bearer k1,k2"), ("x", "")],
            [("authorization", "Bearer k1, k2=3"), ("x", "")],
            [("authorization", "k1,Bearer k2"), ("x", "")],
        ] {
            assert_eq!(read(&headers).credential(), Presented::Ambiguous);
        }
        let three = read(&[
            ("api-key", "k1"),
            ("x-api-key", "k2"),
            ("authorization", "Bearer k1"),
        ]);
        assert_eq!(three.credential(), Presented::Ambiguous);
    }

    #[test]
    fn credentials_of_other_schemes_are_nobodys() {
        for value in ["Basic x", "Basic x, Bearer k1", "Bearer k1,Basic x"] {
            let request = read(&[("authorization", value), ("api-key", "k1")]);
            assert_eq!(request.credential(), key("k1"));
        }
        assert_eq!(read(&[("authorization", "Bearer k1,")]).credential(), key("k1"));
    }

    #[test]
    fn nothing_is_nothing() {
        for value in ["", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "k1"] {
            let request = read(&[("authorization", value)]);
            assert_eq!(request.credential(), Presented::Nothing, "{value}");
            assert_eq!(request.removals(), [b"authorization"]);
        }
    }

    #[test]
    fn what_could_deceive_is_removed() {
        let request = read(&[
            (":path", "/v1/models"),
            ("x-tollgate-org", "acme"),
            ("x-tollgate-org", "globex"),
            ("x_tollgate-org", "globex"),
            ("x-envoy-retry-on", "5xx"),
            ("x-envoy-external-address", "10.0.0.1"),
            ("x-forwarded-for", "10.0.0.1"),
        ]);
        assert_eq!(
            request.removals(),
            [
                b"x-tollgate-org".as_slice(),
                b"x_tollgate-org",
                b"x-envoy-retry-on"
            ]
        );
        assert!(request.spoofed);
    }

    #[test]
    fn what_only_a_proxy_may_say_is_removed() {
        let prefixes = crate::headers::REQUEST_PREFIXES.iter();
        let prefixed = prefixes.map(|prefix| format!("{prefix}x"));
        for name in crate::headers::REQUEST.iter().map(str::to_owned).chain(prefixed) {
            let request = read(&[("accept", "a"), (&name, "1"), ("user-agent", "b")]);
            assert_eq!(request.removals(), [name.as_bytes()]);
            assert!(!request.spoofed);
        }
        let kept = read(&[
            ("x-forwarded-proto", "https"),
            ("content-type", "a"),
            ("x-a", "b"),
        ]);
        assert!(kept.removals().is_empty());
    }

    #[test]
    fn one_host_that_all_read_alike() {
        for host in [
            "x",
            "api.example.com",
            "api.example.com.",
            "my_host:10000",
            "127.0.0.1:80",
            "[::1]",
            "[2001:db8::1]:443",
            "xn--bcher-kva.example",
        ] {
            assert!(!read(&[(":authority", host)]).ambiguous_host, "{host}");
        }
        assert!(!read(&[(":path", "/")]).ambiguous_host);
        let key = "sk-tg-".to_owned() + &"a".repeat(62);
        for host in [
            "",
            "a,b",
            "a, a",
            "a b",
            "user@a",
            "a/b",
            "a?b",
            "a#b",
            "a\\b",
            "a:",
            "a:b",
            "a:1:2",
            "a:123456",
            ":80",
            "..",
            "[]",
            "[::1",
            "::1",
            "a%2eb",
            "ä",
            key.as_str(),
        ] {
            assert!(read(&[(":authority", host)]).ambiguous_host, "{host}");
        }
        assert!(read(&[(":authority", "a"), (":authority", "a,b")]).ambiguous_host);
    }

    #[test]
    fn tenant_headers_must_agree() {
        let request = read(&[("openai-organization", " acme "), ("openai-project", "")]);
        assert!(request.organization.agrees(Some("acme")));
        assert!(!request.organization.agrees(Some("globex")));
        assert!(request.project.agrees(None));
        let twice = read(&[("openai-organization", "acme"), ("openai-organization", "globex")]);
        assert!(!twice.organization.agrees(Some("acme")));
        assert!(!read(&[("openai-project", "search")]).project.agrees(None));
    }

    proptest! {
        #[test]
        fn no_headers_panic(headers in proptest::collection::vec((any::<Vec<u8>>(), any::<Vec<u8>>()), 0..20)) {
            let request = Request::read(headers.iter().map(|(n, v)| (n.as_slice(), v.as_slice())));
            let _ = request.scope();
            if let Presented::Key(secret) = request.credential() {
                let _ = (secret.hash(), secret.masked(), secret.is_token());
            }
        }
    }
}

//! The entity tag of a document (RFC 9110, 8.8.3), and the version that it names.

/// The longest version, in bytes: it goes into a query.
const LONGEST: usize = 256;

/// An entity tag, as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Etag(String);

impl Etag {
    pub(super) fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    pub(super) fn text(&self) -> &str {
        &self.0
    }

    /// What stands between its quotes; `None` where that is no text that can be asked with.
    pub(super) fn version(&self) -> Option<&str> {
        // A server that compresses calls its tags weak, and compares them as if they were not.
        let tag = self.0.strip_prefix("W/").unwrap_or(&self.0);
        let quoted = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
        let version = quoted.unwrap_or(tag);
        let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'"';
        let fits = (1..=LONGEST).contains(&version.len()) && version.bytes().all(plain);
        fits.then_some(version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_what_stands_between_the_quotes() {
        let long = format!("\"{}\"", "x".repeat(257));
        for (etag, version) in [
            ("\"v1\"", Some("v1")),
            ("W/\"v1\"", Some("v1")),
            ("v1", Some("v1")),
            ("\"a/b?c&d%\"", Some("a/b?c&d%")),
            ("\"\"", None),
            ("", None),
            ("\"", None),
            ("\"a\"b\"", None),
            ("\"a b\"", None),
            ("\"é\"", None),
            (&long, None),
        ] {
            assert_eq!(Etag::new(etag).version(), version, "{etag}");
        }
    }
}

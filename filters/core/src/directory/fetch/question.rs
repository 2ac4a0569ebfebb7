//! What the document's server is asked, and how an answer is told from another.

/// The media type of changes.
pub(super) const CHANGES: &str = "application/vnd.tollgate.changes+json";

/// What the document's server is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question<'a> {
    /// It is only of interest if it no longer is the one of this `ETag`.
    pub etag: Option<&'a str>,
    /// What changed since this version, once something has; `None` for the document as it is now.
    pub after: Option<&'a str>,
}

/// What the document's server answered.
#[derive(Debug, Default)]
pub struct Response<'a> {
    /// HTTP status; `None` where nobody answered.
    pub status: Option<&'a str>,
    /// `ETag` of the document.
    pub etag: Option<&'a str>,
    /// Media type of the body.
    pub content_type: Option<&'a str>,
    /// How the body is coded.
    pub content_encoding: Option<&'a str>,
}

impl Response<'_> {
    /// Whether the body says what changed. A file server may give a document any type that it likes.
    pub(super) fn is_changes(&self) -> bool {
        let essence = self.content_type.and_then(|media| media.split(';').next());
        essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case(CHANGES))
    }

    /// Whether the body is compressed by gzip; `Err` where it is coded in any other way.
    pub(super) fn is_gzip(&self) -> Result<bool, String> {
        let coding = self.content_encoding.unwrap_or_default().trim();
        match coding.to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(false),
            "gzip" | "x-gzip" => Ok(true),
            _ => Err("the document is coded in a way that was not asked for".to_owned()),
        }
    }
}

/// `path` that asks for what changed since `version`, for as long as so many seconds.
pub(super) fn watching(path: &str, version: &str, seconds: u64) -> String {
    let join = if path.contains('?') { '&' } else { '?' };
    let mut asked = format!("{path}{join}after=");
    for byte in version.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            asked.push(char::from(byte));
        } else {
            asked += &format!("%{byte:02X}");
        }
    }
    asked + &format!("&wait={seconds}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_encoded_where_it_must_be() {
        assert_eq!(watching("/d", "v-1.2_~", 25), "/d?after=v-1.2_~&wait=25");
        assert_eq!(
            watching("/d?env=a", "a&b=c/é", 1),
            "/d?env=a&after=a%26b%3Dc%2F%C3%A9&wait=1"
        );
    }

    #[test]
    fn an_answer_says_what_it_is() {
        let of = |content_type, content_encoding| Response {
            content_type: Some(content_type),
            content_encoding,
            ..Response::default()
        };
        assert!(of("Application/Vnd.Tollgate.Changes+JSON ; charset=utf-8", None).is_changes());
        assert!(!of("application/json", None).is_changes());
        assert!(!Response::default().is_changes());
        assert_eq!(of("", Some(" GZIP")).is_gzip(), Ok(true));
        assert_eq!(of("", Some("identity")).is_gzip(), Ok(false));
        assert_eq!(of("", None).is_gzip(), Ok(false));
        assert!(of("", Some("gzip, gzip")).is_gzip().is_err());
        assert!(of("", Some("br")).is_gzip().is_err());
    }
}

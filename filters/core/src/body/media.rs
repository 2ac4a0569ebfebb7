//! Strings that carry media: `data:` URLs and base64.

/// What a part carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Media {
    Picture,
    /// Of tokens or pictures.
    Embeds,
    Audio,
    File,
}

/// What a `data:` URL says that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mime {
    /// It is none, or says nothing.
    Unsaid,
    Image,
    Audio,
    /// A document or video.
    Binary,
    /// Anything else: a server may read it as text.
    Text,
}

/// A string where media may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Carried {
    /// How much text it is, otherwise.
    pub(super) len: u64,
    /// Bytes that its base64 stands for; `None` where it is no base64.
    pub(super) data: Option<u64>,
    /// Whether it is a `data:` URL.
    pub(super) url: bool,
    pub(super) mime: Mime,
}

/// Longest beginning of a `data:` URL, up to its comma.
const MAX_HEAD: usize = 256;

impl Carried {
    pub(super) fn of(text: &str, len: usize) -> Self {
        let (payload, url, mime) = match head(text) {
            Some((mime, payload)) => (payload, true, mime),
            None => (text, false, Mime::Unsaid),
        };
        Self {
            len: len as u64,
            data: is_base64(payload.as_bytes()).then_some(payload.len() as u64 / 4 * 3),
            url,
            mime: match mime {
                Mime::Unsaid if payload.starts_with("JVBERi") => Mime::Binary,
                mime => mime,
            },
        }
    }

    /// The same as the name of a place.
    pub(super) const fn as_address(&self) -> Self {
        Self { data: None, ..*self }
    }
}

/// What `data:TYPE;base64,` says, and what follows it.
fn head(text: &str) -> Option<(Mime, &str)> {
    let near = text.as_bytes().get(..MAX_HEAD).unwrap_or(text.as_bytes());
    let scheme = near.get(..5)?;
    if !scheme.eq_ignore_ascii_case(b"data:") {
        return None;
    }
    let comma = memchr::memchr(b',', near)?;
    let kind = text.get(5..comma)?;
    let (kind, coding) = kind.rsplit_once(';')?;
    if !coding.trim_ascii().eq_ignore_ascii_case("base64") {
        return None;
    }
    let kind = kind.split(';').next().unwrap_or_default().trim_ascii();
    Some((mime(kind), text.get(comma + 1..)?))
}

fn mime(kind: &str) -> Mime {
    let kind = kind.to_ascii_lowercase();
    let (family, form) = kind.split_once('/').unwrap_or((&kind, ""));
    match (family, form) {
        // A picture that is a text.
        ("image", "svg+xml") => Mime::Text,
        ("image", _) => Mime::Image,
        ("audio", _) => Mime::Audio,
        ("video", _) | ("application", "pdf" | "zip" | "msword") => Mime::Binary,
        ("application", form) if form.starts_with("vnd.") => Mime::Binary,
        _ => Mime::Text,
    }
}

/// Whether all of it is base64, of either alphabet, with line breaks and padding or without; empty is none.
fn is_base64(bytes: &[u8]) -> bool {
    let padded = bytes.iter().rev().take_while(|byte| **byte == b'=').count();
    let (text, _) = bytes.split_at_checked(bytes.len() - padded).unwrap_or_default();
    padded <= 2 && !text.is_empty() && text.iter().copied().all(in_alphabet)
}

/// A character of either alphabet of RFC 4648, or what MIME breaks lines with.
const fn in_alphabet(byte: u8) -> bool {
    matches!(byte, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' | b'-' | b'_' | b'\r' | b'\n')
}

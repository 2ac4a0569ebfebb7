//! Credentials in a query. No API takes one there, but clients of other providers send theirs so, and a query is logged
//! by every server on its way.

use std::borrow::Cow;

/// Names of parameters that hold a credential, in lower case and with `_` for `-`.
const NAMES: [&str; 15] = [
    "access_key",
    "access_token",
    "api_key",
    "api_token",
    "apikey",
    "auth",
    "auth_token",
    "authorization",
    "bearer",
    "key",
    "secret",
    "subscription_key",
    "token",
    "x_api_key",
    "x_goog_api_key",
];

/// The path without parameters that hold a credential, by their name or because they hold a key; `None` where there is
/// none, as nearly always.
pub fn without_credentials(path: &[u8]) -> Option<Vec<u8>> {
    let at = memchr::memchr(b'?', path)?;
    let (target, query) = (path.get(..at)?, path.get(at + 1..)?);
    let mut kept = Vec::with_capacity(path.len());
    kept.extend_from_slice(target);
    let mut gone = false;
    let mut separator = b'?';
    // Some servers part by `;` too.
    for parameter in query.split_inclusive(|byte| matches!(byte, b'&' | b';')) {
        let (parameter, next) = match parameter {
            [parameter @ .., next @ (b'&' | b';')] => (parameter, *next),
            parameter => (parameter, b'&'),
        };
        if is_credential(parameter) {
            gone = true;
        } else {
            kept.push(separator);
            kept.extend_from_slice(parameter);
            separator = next;
        }
    }
    gone.then_some(kept)
}

fn is_credential(parameter: &[u8]) -> bool {
    let mut parts = parameter.splitn(2, |byte| *byte == b'=');
    let mut part = || decoded(parts.next().unwrap_or_default());
    let (name, value) = (part(), part());
    let name: Vec<u8> = name
        .iter()
        .map(|byte| {
            if *byte == b'-' {
                b'_'
            } else {
                byte.to_ascii_lowercase()
            }
        })
        .collect();
    NAMES.iter().any(|known| known.as_bytes() == name.trim_ascii())
        || value.trim_ascii().starts_with(b"sk-")
        || memchr::memmem::find(&value, b"sk-tg-").is_some()
        || memchr::memmem::find(&name, b"sk_tg_").is_some()
}

/// With `+` and `%XX` resolved.
fn decoded(part: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr2(b'%', b'+', part).is_none() {
        return Cow::Borrowed(part);
    }
    let mut plain = Vec::with_capacity(part.len());
    let mut rest = part;
    while let [first, tail @ ..] = rest {
        let escaped = match tail {
            [high, low, tail @ ..] if *first == b'%' => hex(*high).zip(hex(*low)).map(|pair| (pair, tail)),
            _ => None,
        };
        let (byte, after) = match escaped {
            Some(((high, low), after)) => (high << 4 | low, after),
            None if *first == b'+' => (b' ', tail),
            None => (*first, tail),
        };
        plain.push(byte);
        rest = after;
    }
    Cow::Owned(plain)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cleaned(path: &str) -> Option<String> {
        without_credentials(path.as_bytes()).map(|path| String::from_utf8(path).unwrap())
    }

    #[test]
    fn credentials_go_and_the_rest_stays_as_it_is() {
        for (path, clean) in [
            ("/v1/models?key=sk-x", "/v1/models"),
            ("/v1/models?a=b&api_key=x&c=%2f", "/v1/models?a=b&c=%2f"),
            ("/v1/models?Api-Key=x;beta=true", "/v1/models?beta=true"),
            ("/v1/models?a=1;b=2&token", "/v1/models?a=1;b=2"),
            ("/v1/models?%6beY=x&beta", "/v1/models?beta"),
            ("/v1/models?x=%73k-tg-abc", "/v1/models"),
            ("/v1/models?sk-tg-abc", "/v1/models"),
            ("/v1/models?h=Bearer%20sk-tg-abc", "/v1/models"),
            ("/v1/models?a=b=sk-tg-abc&?sk-tg-abc", "/v1/models"),
            ("/v1/models?+key+=x&%zz=1", "/v1/models?%zz=1"),
        ] {
            assert_eq!(cleaned(path).as_deref(), Some(clean), "{path}");
        }
        for path in [
            "/v1/models",
            "/v1/models?",
            "/v1/messages?beta=true",
            "/v1/x?api-version=2024&keys=1&monkey=2",
        ] {
            assert_eq!(cleaned(path), None, "{path}");
        }
    }

    proptest! {
        #[test]
        fn what_is_clean_stays_clean(path: Vec<u8>) {
            if let Some(clean) = without_credentials(&path) {
                prop_assert_eq!(without_credentials(&clean), None);
                prop_assert!(clean.len() < path.len());
            }
        }
    }
}

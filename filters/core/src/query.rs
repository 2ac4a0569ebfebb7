//! Queries: no API takes a credential in one, but clients of other providers send theirs so, and a query is logged by every
//! server on its way. And what an API takes in the body some servers read in a query too, in its place.

use std::borrow::Cow;

/// Names of parameters that hold a credential: their letters and digits, in lower case.
const NAMES: [&str; 14] = [
    "auth",
    "authkey",
    "authorization",
    "bearer",
    "credentials",
    "idtoken",
    "jwt",
    "key",
    "pass",
    "passwd",
    "pwd",
    "sig",
    "subscriptionkey",
    "token",
];

/// What stands in the names of others.
const WITHIN: [&str; 11] = [
    "accesskey",
    "accesstoken",
    "apikey",
    "apitoken",
    "authtoken",
    "credential",
    "password",
    "refreshtoken",
    "secret",
    "securitytoken",
    "signature",
];

/// What the APIs served have in a query: Azure's version, and Anthropic's betas.
const SERVED: [&[u8]; 2] = [b"api-version", b"beta"];

/// The path without parameters that hold a credential, by their name or because they hold a key; `None` where there is
/// none, as nearly always.
pub fn without_credentials(path: &[u8]) -> Option<Vec<u8>> {
    without(path, is_credential)
}

/// The path of an endpoint without parameters that none has, such as a `model` or a cap that is not the body's; `None`
/// where there is none, as nearly always.
pub fn as_served(path: &[u8]) -> Option<Vec<u8>> {
    without(path, |parameter| {
        !is_served(parameter) || is_credential(parameter)
    })
}

fn without(path: &[u8], unwanted: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
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
        if unwanted(parameter) {
            gone = true;
        } else {
            kept.push(separator);
            kept.extend_from_slice(parameter);
            separator = next;
        }
    }
    gone.then_some(kept)
}

/// Whether it is one of [`SERVED`], written so that every server reads it alike.
fn is_served(parameter: &[u8]) -> bool {
    let (name, value) = split(parameter);
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._".contains(byte);
    SERVED.contains(&name) && value.len() <= 64 && value.iter().all(plain)
}

fn is_credential(parameter: &[u8]) -> bool {
    let (name, value) = split(parameter);
    let (name, value) = (decoded(name), decoded(value));
    // `key[]` and `user[key]` are of `key`.
    let names = name.split(|byte| matches!(byte, b'[' | b']'));
    names.map(letters).any(|name| {
        NAMES.iter().any(|known| known.as_bytes() == name)
            || WITHIN
                .iter()
                .any(|known| memchr::memmem::find(&name, known.as_bytes()).is_some())
            || memchr::memmem::find(&name, b"sktg").is_some()
    }) || is_key(value.trim_ascii())
}

fn split(parameter: &[u8]) -> (&[u8], &[u8]) {
    let at = memchr::memchr(b'=', parameter).unwrap_or(parameter.len());
    let (name, value) = parameter.split_at_checked(at).unwrap_or((parameter, &[]));
    (name, value.get(1..).unwrap_or_default())
}

/// The letters and digits of a name, in lower case.
fn letters(name: &[u8]) -> Vec<u8> {
    let letters = name.iter().filter(|byte| byte.is_ascii_alphanumeric());
    letters.map(u8::to_ascii_lowercase).collect()
}

fn is_key(value: &[u8]) -> bool {
    let value = value.to_ascii_lowercase();
    let begins = |start: &[u8]| value.starts_with(start);
    let token = begins(b"eyj") && value.iter().filter(|byte| **byte == b'.').count() == 2;
    token
        || begins(b"sk-")
        || begins(b"bearer ")
        || begins(b"basic ")
        || memchr::memmem::find(&value, b"sk-tg-").is_some()
}

/// With `+` and `%XX` resolved, also where a proxy has coded what was coded.
fn decoded(part: &[u8]) -> Cow<'_, [u8]> {
    const TIMES: usize = 3;
    let mut part = Cow::Borrowed(part);
    for _ in 0..TIMES {
        if memchr::memchr2(b'%', b'+', &part).is_none() {
            break;
        }
        part = Cow::Owned(decoded_once(&part));
    }
    part
}

fn decoded_once(part: &[u8]) -> Vec<u8> {
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
    plain
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
            ("/v1/models?client_secret=x&ClientSecret=x&a=b", "/v1/models?a=b"),
            ("/v1/models?PASSWORD=x&sig=x&X-Amz-Signature=x", "/v1/models"),
            ("/v1/models?id_token=x;refresh_token=x;beta", "/v1/models?beta"),
            ("/v1/models?key[]=x&key%5B0%5D=x&user[password]=x", "/v1/models"),
            ("/v1/models?accessToken=x&AWSAccessKeyId=x&b=1", "/v1/models?b=1"),
            ("/v1/models?%2561pi_key=x&x=%2573k-tg-abc", "/v1/models"),
            ("/v1/models?x=SK-TG-ABC&y=Bearer+z&z=eyJh.eyJi.c", "/v1/models"),
            ("/v1/models?key%00=x", "/v1/models"),
        ] {
            assert_eq!(cleaned(path).as_deref(), Some(clean), "{path}");
        }
        for path in [
            "/v1/models",
            "/v1/models?",
            "/v1/messages?beta=true",
            "/v1/x?api-version=2024&keys=1&monkey=2",
            "/v1/x?page_token=1&max_tokens=2&signal=3&design=4&author=5",
        ] {
            assert_eq!(cleaned(path), None, "{path}");
        }
    }

    #[test]
    fn an_endpoint_has_its_own_parameters_alone() {
        for (path, served) in [
            ("/v1/chat/completions?model=x", "/v1/chat/completions"),
            (
                "/v1/x?stream=true&api-version=2024-10-21&n=9",
                "/v1/x?api-version=2024-10-21",
            ),
            ("/v1/x?beta=true;max_tokens=9", "/v1/x?beta=true"),
            ("/v1/x?max_tokens=9;beta=true", "/v1/x?beta=true"),
            ("/v1/x?beta=true?model=x", "/v1/x"),
            ("/v1/x?beta=a%26model=x", "/v1/x"),
            ("/v1/x?b%65ta=true&Beta=true&beta[]=1", "/v1/x"),
            ("/v1/x?beta=sk-tg-abc", "/v1/x"),
            ("/v1/x?&beta", "/v1/x?beta"),
        ] {
            let clean = as_served(path.as_bytes()).map(|path| String::from_utf8(path).unwrap());
            assert_eq!(clean.as_deref(), Some(served), "{path}");
        }
        for path in [
            "/v1/x",
            "/v1/x?",
            "/v1/x?beta=true&api-version=2024-10-21-preview",
        ] {
            assert_eq!(as_served(path.as_bytes()), None, "{path}");
        }
    }

    proptest! {
        #[test]
        fn what_is_clean_stays_clean(path: Vec<u8>) {
            if let Some(clean) = without_credentials(&path) {
                prop_assert_eq!(without_credentials(&clean), None);
                prop_assert!(clean.len() < path.len());
            }
            if let Some(clean) = as_served(&path) {
                prop_assert_eq!(as_served(&clean), None);
                prop_assert_eq!(without_credentials(&clean), None);
            }
        }
    }
}

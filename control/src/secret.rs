//! Keys and tokens in the wrong place: found wherever they stand in a text, and masked there.

use tollgate_core::key;

/// What tokens begin with.
pub(crate) const TOKEN_PREFIX: &str = "tg-token-";

/// Whether a key or a token stands anywhere in a text, percent-encoded or not.
pub(crate) fn is_in(text: &str) -> bool {
    split(text).is_some() || decoded(text).is_some()
}

/// A text with the keys and tokens in it masked, as an error or a log may have it. Where one is percent-encoded, the text is
/// decoded for that.
pub fn masked(text: &str) -> String {
    let mut text = masked_plain(text);
    // Each time it is shorter.
    while let Some(plain) = decoded(&text) {
        text = masked_plain(&plain);
    }
    text
}

fn masked_plain(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, secret, after)) = split(rest) {
        clean.push_str(before);
        clean.push_str(&key::masked(secret.as_bytes()));
        rest = after;
    }
    clean + rest
}

/// A text as it is decoded once or several times, where a key or token stands in that.
fn decoded(text: &str) -> Option<String> {
    /// Deeper down nobody looks.
    const ROUNDS: usize = 8;
    let mut text = text.to_owned();
    for _ in 0..ROUNDS {
        if !text.contains('%') {
            return None;
        }
        let plain = percent_decoded(&text);
        if split(&plain).is_some() {
            return Some(plain);
        }
        text = plain;
    }
    None
}

fn percent_decoded(text: &str) -> String {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let digits = after.split_first_chunk::<2>().filter(|_| *byte == b'%');
        let decoded = digits.and_then(|(digits, after)| {
            let digits = core::str::from_utf8(digits).ok()?;
            let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            Some((u8::from_str_radix(digits, 16).ok().filter(|_| is_hex)?, after))
        });
        let (byte, after) = decoded.unwrap_or((*byte, after));
        plain.push(byte);
        rest = after;
    }
    String::from_utf8_lossy(&plain).into_owned()
}

/// The first key or token in a text, with what is before it and behind. A part of one is one too, unless so much of its
/// secret is missing that nobody finds it.
fn split(text: &str) -> Option<(&str, &str, &str)> {
    // Both prefixes have this, so that one search finds either.
    text.match_indices("tg-").find_map(|(at, _)| {
        let (before, from) = text.split_at(at);
        let key = before
            .strip_suffix("sk-")
            .and_then(|before| Some((before.len(), text.get(before.len() + key::PREFIX.len()..)?)));
        let token = from.strip_prefix(TOKEN_PREFIX).map(|rest| (at, rest));
        let found = [key, token].into_iter().flatten();
        let (start, _) = found
            .into_iter()
            .find(|(_, behind_prefix)| has_shape(behind_prefix))?;
        let (before, from) = text.split_at(start);
        let in_one = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
        let (secret, after) = from.split_at(from.bytes().take_while(in_one).count());
        Some((before, secret, after))
    })
}

/// Whether an id, a hyphen and a secret, or the beginning of one, are at the beginning of a text. Names are made of words,
/// and no word has this length and a digit or capital in it.
fn has_shape(text: &str) -> bool {
    const LEAST: usize = 16;
    let bytes = text.as_bytes();
    let Some((id, rest)) = bytes.split_at_checked(key::ID_LEN) else {
        return false;
    };
    let Some((b'-', rest)) = rest.split_first() else {
        return false;
    };
    let secret = rest.iter().take(key::SECRET_LEN);
    let secret = secret.take_while(|byte| byte.is_ascii_alphanumeric());
    id.iter().all(u8::is_ascii_alphanumeric)
        && secret.clone().count() >= LEAST
        && secret.clone().any(|byte| !byte.is_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "sk-tg-ln18t5vyaqki-0WAzjfUVHpFnzMZP5rrZGHkpYKa7jrj3HYAPiq7nxcFm6G";
    const TOKEN: &str = "tg-token-x14ao9wq7k44-OtgblLZ2ucUW6iIKnVLl2v9DPLDXiF15SBzYwEOHzm7";

    #[test]
    fn secrets_are_found_and_masked_wherever_they_stand() {
        for secret in [KEY, TOKEN] {
            for (before, after) in [("", ""), ("x", ""), ("é ", "é"), ("a.b=", ";"), (KEY, ", ")] {
                let text = format!("{before}{secret}{after}");
                assert!(is_in(&text), "{text}");
                let shown = masked(&text);
                assert!(!shown.contains(&secret[20..40]), "{shown}");
            }
        }
        assert_eq!(
            masked(&format!("`x{KEY}` or {TOKEN}")),
            "`xsk-tg-ln***6G` or tg-token***m7"
        );
    }

    #[test]
    fn ids_and_names_are_none() {
        for text in [
            "",
            "sk-tg-",
            "send tg-token-…",
            "the key sk-tg-ln18t5vyaqki was revoked",
            "tg-token-x14ao9wq7k44",
            "mtg-2024-department-of-something",
            "a-tg-long-name-of-something-else-altogether",
            "tg-token-service-platform",
            "tg-token-organization-internationalization",
            "sk-tg-organization-and-something-else-2024",
            "50%73k-tg- of it, 100%",
        ] {
            assert!(!is_in(text) && masked(text) == text, "{text}");
        }
    }

    #[test]
    fn a_part_of_one_is_one() {
        for secret in [KEY, TOKEN] {
            let part = &secret[..secret.len() - 25];
            assert!(is_in(part) && !masked(part).contains(&part[20..]), "{part}");
        }
    }

    #[test]
    fn encoded_ones_are_found_however_often() {
        for secret in [KEY, TOKEN] {
            let encode = |text: &str| {
                text.bytes()
                    .map(|byte| format!("%{byte:02x}"))
                    .collect::<String>()
            };
            let mut text = format!("in a path: {secret}, é");
            for _ in 0..4 {
                text = encode(&text);
                assert!(is_in(&text), "{text}");
                let shown = masked(&text);
                assert!(shown.contains("***") && shown.ends_with(", é"), "{shown}");
                assert!(!shown.contains(&secret[20..30]), "{shown}");
            }
            // One plain, and one not.
            let shown = masked(&format!("{secret} {}", encode(secret)));
            assert_eq!(shown.matches("***").count(), 2, "{shown}");
        }
    }

    /// A look at each place would take minutes.
    #[test]
    fn a_long_text_is_read_once() {
        let text = "tg-token- sk-tg-".repeat(100_000);
        assert_eq!(masked(&text), text);
        for piece in ["tg-token-", "sk-tg-", "sk-tg-abcdefghijkl-"] {
            let text = piece.repeat(100_000);
            assert_eq!(masked(&text), text);
        }
        assert!(masked(&format!("{KEY} ").repeat(10_000)).len() < 200_000);
    }
}

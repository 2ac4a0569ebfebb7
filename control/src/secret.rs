//! Keys and tokens in the wrong place: found wherever they stand in a text, and masked there.

use tollgate_core::key;

/// What tokens begin with.
pub(crate) const TOKEN_PREFIX: &str = "tg-token-";

/// Whether a key or a token stands anywhere in a text.
pub(crate) fn is_in(text: &str) -> bool {
    split(text).is_some()
}

/// A text with the keys and tokens in it masked, as an error or a log may have it.
pub fn masked(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, secret, after)) = split(rest) {
        clean.push_str(before);
        clean.push_str(&key::masked(secret.as_bytes()));
        rest = after;
    }
    clean + rest
}

/// The first key or token in a text, with what is before it and behind.
fn split(text: &str) -> Option<(&str, &str, &str)> {
    // Prefix and id are public; this is the hyphen behind them, and something of the secret.
    const PUBLIC: usize = key::ID_LEN + 1;
    // Both prefixes have this, so that one search finds either.
    text.match_indices("tg-").find_map(|(at, _)| {
        let (before, from) = text.split_at(at);
        let (start, prefix) = match before.strip_suffix("sk-") {
            Some(before) => (before.len(), key::PREFIX),
            None => (at, TOKEN_PREFIX),
        };
        if prefix == TOKEN_PREFIX && !from.starts_with(TOKEN_PREFIX) {
            return None;
        }
        let (before, from) = text.split_at(start);
        let in_one = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
        let (secret, after) = from.split_at(from.bytes().take_while(in_one).count());
        (secret.len() > prefix.len() + PUBLIC).then_some((before, secret, after))
    })
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
        ] {
            assert!(!is_in(text) && masked(text) == text, "{text}");
        }
    }

    /// A look at each place would take minutes.
    #[test]
    fn a_long_text_is_read_once() {
        let text = "tg-token- sk-tg-".repeat(100_000);
        assert_eq!(masked(&text), text);
        assert!(masked(&format!("{KEY} ").repeat(10_000)).len() < 200_000);
    }
}

//! Model patterns: a name, in which `*` stands for any run of characters.

/// Whether a model or a cluster may have this name: 1 to 128 characters of `A-Z a-z 0-9 . _ - / : @ +`.
pub fn is_name(name: &str) -> bool {
    is_pattern(name) && !name.contains('*')
}

/// Whether it is a pattern of such names.
pub fn is_pattern(pattern: &str) -> bool {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"._-/:@+*".contains(&c);
    (1..=128).contains(&pattern.len()) && pattern.bytes().all(plain)
}

/// Whether `name` fits `pattern`.
///
/// Linear in both for one `*`, and never worse than their product: the pattern is the operator's, the name a
/// stranger's.
pub fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    // Where the last `*` was, and how much of the name it has taken so far.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(byte) if Some(byte) == name.get(n) => {
                p += 1;
                n += 1;
            }
            _ => match &mut star {
                Some((at, taken)) => {
                    *taken += 1;
                    (p, n) = (*at + 1, *taken);
                }
                None => return false,
            },
        }
    }
    pattern
        .get(p..)
        .is_some_and(|rest| rest.iter().all(|byte| *byte == b'*'))
}

/// Whether `name` fits one of `patterns`.
pub fn fits_any<P: AsRef<str>>(patterns: &[P], name: &str) -> bool {
    fitting(patterns, name).is_some()
}

/// The place of the first pattern that `name` fits.
pub fn fitting<P: AsRef<str>>(patterns: &[P], name: &str) -> Option<usize> {
    patterns.iter().position(|pattern| fits(pattern.as_ref(), name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("llama-*", "llama-70b", true),
            ("llama-*", "llama-", true),
            ("llama-*", "llama", false),
            ("*", "", true),
            ("*-70b", "llama-70b", true),
            ("*-70b", "llama-70b-x", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxcyyb", false),
            ("llama-70b", "llama-70b", true),
            ("llama-70b", "llama-70B", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }

    /// The definition, without the bookkeeping.
    fn model(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern, name) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => (0..=name.len()).any(|taken| model(rest, &name[taken..])),
            ([p, pattern @ ..], [n, name @ ..]) => p == n && model(pattern, name),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(pattern in "[ab*]{0,8}", name in "[ab]{0,10}") {
            prop_assert_eq!(fits(&pattern, &name), model(pattern.as_bytes(), name.as_bytes()));
        }
    }
}

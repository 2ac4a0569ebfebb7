//! Our secret at a provider, found again in what the provider says.
//!
//! It is covered with as many asterisks as it has bytes, so that no length changes. Of it as it is nothing but its value is
//! looked for, which costs little; in errors also what providers show of it: `sk-ab...wxyz`, `****wxyz`, "ending in wxyz".

use memchr::memmem::Finder;

/// The shortest secret that is looked for outside of errors: a shorter one may be any word.
const SHORTEST: usize = 8;
/// A stretch of so many bytes is a piece of it wherever it stands.
const STRETCH: usize = 8;
/// So many last bytes are one where they are a whole word.
const LAST: usize = 4;

/// A secret that was used. It has no `Debug`.
pub struct Secret {
    /// In a box, as it takes more room than all else that is known of a stream.
    value: Box<Finder<'static>>,
    /// Its stretches, sorted; made when an error is first looked at.
    stretches: Vec<[u8; STRETCH]>,
}

impl Secret {
    /// For this value.
    pub fn new(value: &str) -> Self {
        Self {
            value: Box::new(Finder::new(value.as_bytes()).into_owned()),
            stretches: Vec::new(),
        }
    }

    fn bytes(&self) -> &[u8] {
        self.value.needle()
    }

    fn is_long(&self) -> bool {
        self.bytes().len() >= SHORTEST
    }

    /// Whether it stands in a text.
    pub fn is_in(&self, text: &[u8]) -> bool {
        self.is_long() && self.value.find(text).is_some()
    }

    /// Covers it.
    pub fn cover(&self, text: &mut [u8]) {
        if self.is_long() {
            self.cover_whole(text);
        }
    }

    fn cover_whole(&self, text: &mut [u8]) {
        let mut at = 0;
        while let Some(next) = text.get(at..).and_then(|rest| self.value.find(rest)) {
            let end = at + next + self.bytes().len();
            cover(text, at + next, end);
            at = end;
        }
    }

    /// How many of the last bytes of a text may be its beginning.
    pub fn begun(&self, text: &[u8]) -> usize {
        if !self.is_long() {
            return 0;
        }
        let longest = self.bytes().len() - 1;
        let from = text.len().saturating_sub(longest);
        let tail = text.get(from..).unwrap_or_default();
        let Some(first) = self.bytes().first() else {
            return 0;
        };
        let mut begins = memchr::memchr_iter(*first, tail);
        let begin = begins.find(|at| tail.get(*at..).is_some_and(|rest| self.bytes().starts_with(rest)));
        begin.map_or(0, |at| tail.len() - at)
    }

    /// Covers it and its pieces in an error; whether there were any.
    pub fn cover_pieces(&mut self, text: &mut [u8]) -> bool {
        let before = text.to_vec();
        if self.bytes().len() >= LAST {
            self.cover_whole(text);
        }
        self.cover_stretches(&before, text);
        let mut at = 0;
        while at < before.len() {
            let rest = before.get(at..).unwrap_or_default();
            let masked = mask(rest);
            if masked > 0 {
                self.cover_shown(&before, text, at, at + masked);
                at += masked;
            } else if joins(rest.first()) {
                let len = rest.iter().take_while(|byte| joins(Some(byte))).count();
                let word = rest.get(..len).unwrap_or_default();
                if len >= LAST && self.bytes().ends_with(word) {
                    cover(text, at, at + len);
                }
                at += len;
            } else {
                at += 1;
            }
        }
        text != before
    }

    /// Covers what stands around a mask, which is at `from..to`, where that is its beginning or its end.
    fn cover_shown(&self, before: &[u8], text: &mut [u8], from: usize, to: usize) {
        // Dots stand in sentences as well.
        let dots = before.get(from) == Some(&b'.');
        let least = if dots { 3 } else { 2 };
        let head = before.get(..from).unwrap_or_default();
        let tail = before.get(to..).unwrap_or_default();
        // Longer ones are stretches.
        let lengths = || (least..STRETCH).rev();
        let first = lengths().find(|len| {
            self.bytes()
                .get(..*len)
                .is_some_and(|begin| head.ends_with(begin))
        });
        let last = lengths().find(|len| {
            let from = self.bytes().len().checked_sub(*len);
            let end = from.and_then(|from| self.bytes().get(from..));
            end.is_some_and(|end| tail.starts_with(end))
        });
        cover(text, from - first.unwrap_or(0), from);
        cover(text, to, to + last.unwrap_or(0));
    }

    fn cover_stretches(&mut self, before: &[u8], text: &mut [u8]) {
        if self.stretches.is_empty() {
            let windows = self.value.needle().windows(STRETCH);
            self.stretches = windows.filter_map(|window| window.try_into().ok()).collect();
            self.stretches.sort_unstable();
        }
        for (at, window) in before.windows(STRETCH).enumerate() {
            let known = |stretch: &[u8; STRETCH]| stretch.as_slice().cmp(window);
            if self.stretches.binary_search_by(known).is_ok() {
                cover(text, at, at + STRETCH);
            }
        }
    }
}

fn cover(text: &mut [u8], from: usize, to: usize) {
    text.get_mut(from..to).unwrap_or_default().fill(b'*');
}

fn joins(byte: Option<&u8>) -> bool {
    byte.is_some_and(u8::is_ascii_alphanumeric)
}

/// How many bytes of a mask a text begins with: asterisks, two dots or more, an ellipsis or bullets, escaped too.
fn mask(text: &[u8]) -> usize {
    const SIGNS: [&[u8]; 6] = [
        b"*",
        "…".as_bytes(),
        "•".as_bytes(),
        b"\\u2026",
        b"\\u2022",
        "●".as_bytes(),
    ];
    let dots = text.iter().take_while(|byte| **byte == b'.').count();
    if dots >= 2 {
        return dots;
    }
    let mut len = 0;
    while let Some(rest) = text.get(len..)
        && let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(sign))
    {
        len += sign.len();
    }
    len
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECRET: &str = "sk-or-v1-8fK2mQ9xWzPq77Lr-tTy3";

    fn secret() -> Secret {
        Secret::new(SECRET)
    }

    #[test]
    fn what_providers_show_of_it_is_covered() {
        for (text, covered) in [
            (
                "key sk-or-v1-8fK2mQ9xWzPq77Lr-tTy3.",
                "key ******************************.",
            ),
            ("key sk-o...tTy3!", "key ****...****!"),
            ("key sk-or-v1-***tTy3", "key ****************"),
            ("key ****************tTy3", "key ********************"),
            ("key sk…y3", "key **…**"),
            ("key sk-\\u2026tTy3", "key ***\\u2026****"),
            ("ending in tTy3", "ending in ****"),
            ("'Basic mQ9xWzPq7'", "'Basic *********'"),
        ] {
            let mut bytes = text.as_bytes().to_vec();
            assert!(secret().cover_pieces(&mut bytes), "{text}");
            assert_eq!(String::from_utf8(bytes).unwrap(), covered);
        }
        for text in [
            "the prompt is too long... try less",
            "a * b, and sk-",
            "use sk-or keys",
            "",
        ] {
            let mut bytes = text.as_bytes().to_vec();
            assert!(!secret().cover_pieces(&mut bytes), "{text}");
        }
    }

    #[test]
    fn a_short_one_is_any_word_but_in_an_error() {
        let mut short = Secret::new("token");
        let mut text = b"a token".to_vec();
        assert!(!short.is_in(&text) && short.begun(b"to") == 0);
        short.cover(&mut text);
        assert_eq!(text, b"a token");
        assert!(short.cover_pieces(&mut text));
        assert_eq!(text, b"a *****");
        for value in ["", "a", "abc"] {
            assert!(!Secret::new(value).cover_pieces(&mut b"abc ***abc...a".to_vec()) || value == "abc");
        }
    }

    #[test]
    fn its_beginning_is_seen_at_the_end() {
        for (text, begun) in [
            ("x sk-or", 5),
            ("sks", 1),
            ("", 0),
            (SECRET, 0),
            ("sk-or-v1-x", 0),
            ("-sk-", 3),
        ] {
            assert_eq!(secret().begun(text.as_bytes()), begun, "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_stands_around_it(before in "\\PC{0,20}", behind in "\\PC{0,20}", from in 0..20_usize, len in 8..30_usize) {
            let to = (from + len).min(SECRET.len());
            let text = format!("{before}{}{behind}", &SECRET[from..to]);
            let mut bytes = text.clone().into_bytes();
            secret().cover_pieces(&mut bytes);
            prop_assert_eq!(bytes.len(), text.len());
            let clean = String::from_utf8(bytes).unwrap();
            prop_assert!(to - from < STRETCH || !clean.contains(&SECRET[from..to]), "{}", clean);
        }
    }
}

//! Lists of header names, which are asked for every header of every request and answer.
//!
//! A name is found by its first eight bytes, as one number; only what shares those is compared whole. `_` counts as `-`.

/// A sorted list of names, in lower case.
pub(crate) struct Names<const N: usize> {
    names: [&'static str; N],
    heads: [u64; N],
}

/// A name that is looked for.
#[derive(Clone, Copy)]
pub(crate) struct Name<'a> {
    bytes: &'a [u8],
    head: u64,
}

impl<'a> Name<'a> {
    pub(crate) fn of(bytes: &'a [u8]) -> Self {
        let head = match bytes.first_chunk() {
            Some(eight) if !eight.contains(&b'_') => u64::from_be_bytes(*eight),
            _ => head(bytes),
        };
        Self { bytes, head }
    }
}

impl<const N: usize> Names<N> {
    /// Of a sorted list.
    #[expect(clippy::indexing_slicing, reason = "it is checked when the list is compiled")]
    pub(crate) const fn new(names: [&'static str; N]) -> Self {
        let mut heads = [0; N];
        let mut at = 0;
        while at < N {
            heads[at] = head(names[at].as_bytes());
            at += 1;
        }
        Self { names, heads }
    }

    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &'static str> {
        self.names.iter().copied()
    }

    /// Whether it has a name.
    pub(crate) fn has(&self, name: Name<'_>) -> bool {
        let first = self.heads.partition_point(|head| *head < name.head);
        let alike = self.heads.iter().zip(&self.names).skip(first);
        alike
            .take_while(|(head, _)| **head == name.head)
            .any(|(_, known)| known.len() == name.bytes.len() && begins(name.bytes, known))
    }

    /// Whether a name begins as one of them does, of which none begins with another.
    pub(crate) fn has_beginning_of(&self, name: Name<'_>) -> bool {
        let behind = self.heads.partition_point(|head| *head <= name.head);
        let before = self.heads.iter().zip(&self.names).take(behind).rev();
        for (head, known) in before {
            if begins(name.bytes, known) {
                return true;
            }
            // Between a beginning and what begins so stands nothing else, but for those with the same eight bytes.
            if *head != name.head {
                return false;
            }
        }
        false
    }
}

/// Whether a name begins so.
pub(crate) fn begins(name: &[u8], prefix: &str) -> bool {
    let (begin, prefix) = (name.get(..prefix.len()).unwrap_or_default(), prefix.as_bytes());
    // Nearly all are spelled so, and are compared at once.
    begin == prefix
        || (begin.contains(&b'_') && begin.iter().copied().map(spelled).eq(prefix.iter().copied()))
}

const fn spelled(byte: u8) -> u8 {
    if byte == b'_' { b'-' } else { byte }
}

/// The first eight bytes, most significant first, with zeros behind a shorter name.
const fn head(name: &[u8]) -> u64 {
    let (mut head, mut rest, mut left) = (0, name, 8);
    while left > 0 {
        let byte = match rest {
            [] => 0,
            [first, tail @ ..] => {
                rest = tail;
                spelled(*first)
            }
        };
        head = head << 8 | byte as u64;
        left -= 1;
    }
    head
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    static NAMES: Names<8> = Names::new([
        "a",
        "x-appengine-",
        "x-appengine-user-ip",
        "x-auth-",
        "x-auth-a",
        "x-real-",
        "x-real-ip",
        "x-u",
    ]);
    static BEGINNINGS: Names<6> =
        Names::new(["a-", "x-appengine-", "x-appengio", "x-auth-", "x-real-", "x-u"]);

    proptest! {
        #[test]
        fn a_name_is_in_a_list_or_not(known in 0..8_usize, more in "[-_a-z]{0,3}", cut in 0..4_usize) {
            let name = format!("{}{more}", NAMES.names[known]).replace('-', if cut == 0 { "_" } else { "-" });
            let name = &name.as_bytes()[..name.len().saturating_sub(cut)];
            let spelled = String::from_utf8(name.to_vec()).unwrap().replace('_', "-");
            prop_assert_eq!(NAMES.has(Name::of(name)), NAMES.iter().any(|known| known == spelled));
            let begins = BEGINNINGS.iter().any(|known| spelled.starts_with(known));
            prop_assert_eq!(BEGINNINGS.has_beginning_of(Name::of(name)), begins);
        }
    }
}

//! A header map as Envoy keeps it: lower-case names, values of any bytes, order of arrival.

use crate::pairs::{self, Pair};

/// Names that Envoy 1.40 keeps at most once: a further value is joined to the first with a comma, be it from the
/// client or from a filter. Two `authorization` headers thus reach a filter as one.
const JOINED: [&str; 11] = [
    "accept",
    "accept-encoding",
    "authorization",
    "cache-control",
    "content-encoding",
    "content-type",
    "origin",
    "referer",
    "user-agent",
    "x-forwarded-for",
    "x-request-id",
];

/// Headers or trailers. Names are lower-case; a name may occur several times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, Vec<u8>)>);

impl Headers {
    /// The first value of `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.all(name).next()
    }

    /// The first value of `name` as text; bytes that are no UTF-8 show as `U+FFFD`.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<String> {
        self.get(name)
            .map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// Every value of `name`, in order.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let name = name.to_ascii_lowercase();
        self.0
            .iter()
            .filter(move |(have, _)| *have == name)
            .map(|(_, value)| value.as_slice())
    }

    /// All entries, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> + Clone {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_slice()))
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn add(&mut self, name: &str, value: &[u8]) {
        let name = name.to_ascii_lowercase();
        match self
            .0
            .iter_mut()
            .find(|(have, _)| *have == name && JOINED.contains(&have.as_str()))
        {
            Some((_, first)) => first.extend([b",", value].concat()),
            None => self.0.push((name, value.to_vec())),
        }
    }

    /// One entry for `name`, where the first one was.
    pub(crate) fn set(&mut self, name: &str, value: &[u8]) {
        let name = name.to_ascii_lowercase();
        let Some(first) = self.0.iter().position(|(have, _)| *have == name) else {
            return self.add(&name, value);
        };
        let mut index = 0;
        self.0.retain(|(have, _)| {
            index += 1;
            *have != name || index - 1 == first
        });
        self.0[first].1 = value.to_vec();
    }

    pub(crate) fn remove(&mut self, name: &str) {
        let name = name.to_ascii_lowercase();
        self.0.retain(|(have, _)| *have != name);
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        pairs::encode(
            self.0
                .iter()
                .map(|(name, value)| (name.as_bytes(), value.as_slice())),
        )
    }

    pub(crate) fn from_pairs(pairs: &[Pair]) -> Self {
        let mut headers = Self::default();
        for (name, value) in pairs {
            headers.add(&String::from_utf8_lossy(name), value);
        }
        headers
    }

    pub(crate) fn byte_size(&self) -> usize {
        self.0.iter().map(|(name, value)| name.len() + value.len()).sum()
    }
}

impl<N: AsRef<str>, V: AsRef<[u8]>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(entries: I) -> Self {
        let mut headers = Self::default();
        for (name, value) in entries {
            headers.add(name.as_ref(), value.as_ref());
        }
        headers
    }
}

impl std::fmt::Display for Headers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (name, value) in self.iter() {
            writeln!(f, "    {name}: {}", String::from_utf8_lossy(value))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Headers;

    #[test]
    fn set_leaves_one_entry_in_the_first_place() {
        let mut headers: Headers = [("A", "1"), ("b", "2"), ("a", "3")].into_iter().collect();
        headers.set("a", b"9");
        assert_eq!(
            headers.iter().collect::<Vec<_>>(),
            [("a", &b"9"[..]), ("b", b"2")]
        );
    }

    #[test]
    fn some_names_are_joined_as_envoy_joins_them() {
        let names = ["Authorization", "authorization", "x-api-key", "x-api-key"];
        let headers: Headers = names.into_iter().zip(["a", "b", "1", "2"]).collect();
        let expected = [
            ("authorization", &b"a,b"[..]),
            ("x-api-key", b"1"),
            ("x-api-key", b"2"),
        ];
        assert_eq!(headers.iter().collect::<Vec<_>>(), expected);
    }
}

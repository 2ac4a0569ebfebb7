//! Headers, copied.

/// A copy of all headers, in two allocations: their text, and where each name and value ends.
#[derive(Debug, Default)]
pub struct HeaderMap {
    text: Vec<u8>,
    ends: Vec<(usize, usize)>,
}

impl HeaderMap {
    /// Each name, in lower case, and its value, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut begin = 0;
        self.ends.iter().filter_map(move |(name, value)| {
            let pair = (self.text.get(begin..*name)?, self.text.get(*name..*value)?);
            begin = *value;
            Some(pair)
        })
    }

    fn push(&mut self, name: &[u8], value: &[u8]) {
        self.text.extend_from_slice(name);
        let end = self.text.len();
        self.text.extend_from_slice(value);
        self.ends.push((end, self.text.len()));
    }
}

impl<'a> FromIterator<(&'a [u8], &'a [u8])> for HeaderMap {
    fn from_iter<I: IntoIterator<Item = (&'a [u8], &'a [u8])>>(headers: I) -> Self {
        let mut map = Self::default();
        headers
            .into_iter()
            .for_each(|(name, value)| map.push(name, value));
        map
    }
}

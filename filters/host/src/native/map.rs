//! Headers, copied.

/// A copy of all headers, in two allocations: their text, and how long each name and value is.
#[derive(Debug, Default)]
pub struct HeaderMap {
    text: Vec<u8>,
    lengths: Vec<(usize, usize)>,
}

impl HeaderMap {
    /// Each name, in lower case, and its value, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = &self.text[..];
        self.lengths.iter().filter_map(move |(name, value)| {
            let (name, behind) = rest.split_at_checked(*name)?;
            let (value, behind) = behind.split_at_checked(*value)?;
            rest = behind;
            Some((name, value))
        })
    }

    /// One with room for so many headers, and so many bytes of text.
    pub(crate) fn with_room(headers: usize, text: usize) -> Self {
        Self {
            text: Vec::with_capacity(text),
            lengths: Vec::with_capacity(headers),
        }
    }

    pub(crate) fn push(&mut self, name: &[u8], value: &[u8]) {
        self.text.extend_from_slice(name);
        self.text.extend_from_slice(value);
        self.lengths.push((name.len(), value.len()));
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

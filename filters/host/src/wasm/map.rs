//! Headers, as the proxy writes them.

/// A copy of all headers, in one allocation.
///
/// Layout: the number of headers, then for each the lengths of name and value, then for each its name, a NUL,
/// its value, a NUL. Numbers are little-endian 32 bits.
#[derive(Debug)]
pub struct HeaderMap(Vec<u8>);

impl HeaderMap {
    /// What the proxy has written.
    pub(super) const fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Whether the lengths add up to what is there.
    pub(super) fn is_whole(&self) -> bool {
        let Some(count) = self.number(0) else {
            return self.0.is_empty();
        };
        let mut lengths =
            (0..count.saturating_mul(2)).map(|at| self.number(4 + at * 4).map(|len| len.saturating_add(1)));
        let sum = lengths.try_fold(4 + count.saturating_mul(8), |sum, len| sum.checked_add(len?));
        sum == Some(self.0.len())
    }

    /// Each name, in lower case, and its value, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let number = |at: usize| {
            self.0
                .get(at..)?
                .first_chunk()
                .map(|four| u32::from_le_bytes(*four) as usize)
        };
        let count = number(0).unwrap_or(0);
        let mut at = count.saturating_mul(8).saturating_add(4);
        (0..count).map_while(move |header| {
            let name_end = at.checked_add(self.number(4 + header * 8)?)?;
            let value_end = name_end
                .checked_add(1)?
                .checked_add(self.number(8 + header * 8)?)?;
            let pair = (self.0.get(at..name_end)?, self.0.get(name_end + 1..value_end)?);
            at = value_end + 1;
            Some(pair)
        })
    }

    fn number(&self, at: usize) -> Option<usize> {
        self.0
            .get(at..)?
            .first_chunk()
            .map(|four| u32::from_le_bytes(*four) as usize)
    }
}
